//! Tunnels of unmodified WireGuard behind NATs, each with the router as its endpoint.
//!
//! | variable | |
//! |---|---|
//! | `MOLIA_BORINGTUN=path` | `boringtun-cli`, whose test is skipped without it |
//! | `MOLIA_STOCK_SOAK_S=900` | so many seconds of pings in place of everything that moves |

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use molia_router::clock::Clock;

use crate::lab::{
    self, Behaviour, Client, Ended, Lab, Missing, Nat, Process, Rebind, Router, tool,
};
use crate::product::{Deployment, Identity};

/// For what nothing waits for unless it fails; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// Ports of the router.
const PORTS: [&str; 8] = [
    "relay/stock_port_first=51000",
    "relay/stock_ports=32",
    "relay/peer_bps=max",
    "relay/prefix_bps=max",
    "relay/peer_burst_bytes=4M",
    "relay/egress_capacity_bps=10G",
    "relay/egress_percent=100",
    "peerstore/durability=group",
];
/// What the tunnels are made and measured with, and the Debian packages that bring it.
const TOOLS: [(&str, &str); 4] = [
    ("wireguard-go", "wireguard-go"),
    ("wg", "wireguard-tools"),
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
];

/// What brings a tunnel's interface up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    WireguardGo,
    BoringTun,
}

impl Engine {
    /// Its program, which stays in the foreground.
    fn command(self, interface: &str) -> Command {
        match self {
            Self::WireguardGo => {
                let mut command = tool("wireguard-go");
                command.args(["-f", interface]);
                command
            }
            Self::BoringTun => {
                let program = std::env::var_os("MOLIA_BORINGTUN").unwrap_or_default();
                let mut command = tool(program);
                command.args(["--foreground", "--disable-drop-privileges", interface]);
                command
            }
        }
    }
}

/// One end of a tunnel.
struct End {
    client: Client,
    interface: String,
    /// Its address in the tunnel.
    inner: &'static str,
    _process: Process,
}

fn missing() -> Option<Missing> {
    let there =
        |name: &str| lab::TOOL_PATH.split(':').any(|folder| Path::new(folder).join(name).exists());
    let absent: Vec<_> = TOOLS.into_iter().filter(|(name, _)| !there(name)).collect();
    if !absent.is_empty() {
        return Some(Missing::Tools(absent));
    }
    let tun = std::fs::File::open("/dev/net/tun");
    tun.err().map(|error| Missing::Kernel(format!("/dev/net/tun: {error}")))
}

/// Whether something is missing that no laboratory brings: it is named, and asked of nobody.
fn lacks(missing: Option<Missing>) -> bool {
    if let Some(missing) = &missing {
        // Past the harness, which keeps for itself what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIP a tunnel through the router: {missing}");
    }
    missing.is_some()
}

/// Runs a tool on a client's host.
fn run(lab: &Lab, client: Client, program: &str, args: &[&str]) -> Ended {
    let mut process = tool(program);
    lab.spawn(client.host, process.args(args)).unwrap().finish(PATIENCE)
}

fn done(lab: &Lab, client: Client, program: &str, args: &[&str]) {
    let ended = run(lab, client, program, args);
    assert!(ended.well, "{program} {args:?}: {ended:?}");
}

impl End {
    fn up(
        lab: &Lab,
        client: Client,
        engine: Engine,
        inner: &'static str,
        (own, other, endpoint): (&Identity, &Identity, &str),
    ) -> Self {
        // Sockets of both ends' programs lie in one folder of the machine.
        let name = if engine == Engine::BoringTun { "bt" } else { "go" };
        let process = std::process::id() % 100_000;
        let interface = format!("{name}{process}n{}", own.number);
        let process = lab.spawn(client.host, &mut engine.command(&interface)).unwrap();
        let clock = Clock::start();
        let until = clock.moment() + PATIENCE;
        // `wg` removes a socket at which nobody listens yet: it may only ask when somebody does.
        while UnixStream::connect(format!("/var/run/wireguard/{interface}.sock")).is_err() {
            if clock.moment() > until {
                let said = process.finish(Duration::ZERO);
                panic!("{engine:?} makes no interface: {said:?}");
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        let (key, peer) = (own.secret_file.to_str().unwrap(), &other.wireguard_key);
        let config = ["set", &interface, "private-key", key, "peer", peer, "endpoint", endpoint];
        let peer = ["allowed-ips", "10.99.0.0/24", "persistent-keepalive", "5"];
        done(lab, client, "wg", &[&config[..], &peer[..]].concat());
        let address = format!("{inner}/24");
        done(lab, client, "ip", &["address", "add", &address, "dev", &interface]);
        done(lab, client, "ip", &["link", "set", "mtu", "1200", "up", "dev", &interface]);
        Self { client, interface, inner, _process: process }
    }

    /// Pings until an answer comes; how long that took.
    fn reach(&self, lab: &Lab, other: &Self) -> Duration {
        let clock = Clock::start();
        let (began, until) = (clock.moment(), clock.moment() + PATIENCE);
        while !run(lab, self.client, "ping", &["-c1", "-W1", other.inner]).well {
            assert!(clock.moment() < until, "{}", self.state(lab));
        }
        clock.moment().since(began)
    }

    fn state(&self, lab: &Lab) -> String {
        format!("{:?}", run(lab, self.client, "wg", &["show", &self.interface]))
    }

    /// Five pings, all of which are answered.
    fn ping(&self, lab: &Lab, other: &Self) {
        let ended = run(lab, self.client, "ping", &["-c5", "-i0.2", "-W2", other.inner]);
        assert!(ended.well && ended.stdout.contains("5 received"), "{ended:?}");
    }

    /// Pings for so many seconds, in which keys and the router's proofs are renewed: next to
    /// nothing is lost.
    fn keep_pinging(&self, lab: &Lab, other: &Self, seconds: u64) {
        let count = format!("-c{}", seconds * 5);
        let mut ping = tool("ping");
        let ping = ping.args(["-q", "-i0.2", "-W2", &count, other.inner]);
        let within = Duration::from_secs(seconds + seconds / 4) + PATIENCE;
        let ended = lab.spawn(self.client.host, ping).unwrap().finish(within);
        let sum = ended.stdout.lines().find(|line| line.contains("packets transmitted"));
        println!("{}: {}", self.interface, sum.unwrap_or_default());
        let received = ended.stdout.split_whitespace().zip(ended.stdout.split_whitespace().skip(1));
        let received = received.into_iter().find(|(_, after)| after.starts_with("received"));
        let received: u64 = received.and_then(|(number, _)| number.parse().ok()).unwrap();
        assert!(received * 1000 >= seconds * 5 * 999, "{ended:?}\n{}", self.state(lab));
    }

    /// Megabits a second of TCP through the tunnel.
    fn iperf(&self, lab: &Lab, other: &Self) -> f64 {
        let mut server = tool("iperf3");
        let serve = ["--server", "--one-off", "--forceflush", "--bind", other.inner];
        let mut server = lab.spawn(other.client.host, server.args(serve)).unwrap();
        server.expect(PATIENCE, |line| line.contains("listening").then_some(())).unwrap();
        let args = ["--client", other.inner, "--time", "3", "--json"];
        let ended = run(lab, self.client, "iperf3", &args);
        assert!(ended.well, "{ended:?}");
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let bps = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
        bps / 1e6
    }

    /// When this end last shook hands, in seconds since 1970.
    fn last_handshake(&self, lab: &Lab) -> String {
        run(lab, self.client, "wg", &["show", &self.interface, "latest-handshakes"]).stdout
    }
}

/// A router, two clients behind NATs of their own, a tunnel between them.
fn through_the_router(lab: &mut Lab, engine: Engine, name: &str) -> Result<(), Missing> {
    let server = lab.server()?;
    let nat = || Nat::new(Behaviour::PortRestricted);
    let routers: [Router; 2] = [lab.router(nat())?, lab.router(nat())?];
    let clients = [lab.client(routers[0])?, lab.client(routers[1])?];
    let deployment = Deployment::with(lab, server, name, &PORTS)?;
    let ids = [deployment.known(), deployment.known()];
    let endpoints = deployment.ports(lab, clients, [&ids[0], &ids[1]]);
    let a = (&ids[0], &ids[1], endpoints[0].as_str());
    let a = End::up(lab, clients[0], engine, "10.99.0.1", a);
    let b = (&ids[1], &ids[0], endpoints[1].as_str());
    let b = End::up(lab, clients[1], engine, "10.99.0.2", b);
    let together = a.reach(lab, &b);
    if let Ok(seconds) = std::env::var("MOLIA_STOCK_SOAK_S") {
        a.keep_pinging(lab, &b, seconds.parse().unwrap());
        return Ok(());
    }
    a.ping(lab, &b);
    b.ping(lab, &a);
    let rate = a.iperf(lab, &b);
    // The one that has something to say notices that nobody hears it; the other one does not.
    lab.rebind(routers[0], Rebind::Port)?;
    let roamed = a.reach(lab, &b);
    b.ping(lab, &a);
    lab.rebind(routers[1], Rebind::Port)?;
    let found = a.reach(lab, &b);
    b.ping(lab, &a);
    // Whoever is somewhere else altogether proves that with a cookie of the router.
    lab.rebind(routers[0], Rebind::Address)?;
    let moved = a.reach(lab, &b);
    b.ping(lab, &a);
    // The keys stay as they are: nobody shakes hands because the router restarts.
    let before = [a.last_handshake(lab), b.last_handshake(lab)];
    deployment.restart(lab, server);
    let back = a.reach(lab, &b);
    b.ping(lab, &a);
    let after = [a.last_handshake(lab), b.last_handshake(lab)];
    let again = a.iperf(lab, &b);
    println!(
        "{engine:?}: together after {together:?}, {rate:.0} Mbit/s, after a rebinding within \
         {roamed:?}, of the other one within {found:?}, in another network after {moved:?}, \
         after a restart within {back:?} ({}), {again:.0} Mbit/s",
        if before == after { "same keys" } else { "keys not compared" }
    );
    // The other program tells how long ago it was.
    if engine == Engine::WireguardGo {
        assert_eq!(before, after);
    }
    Ok(())
}

#[test]
fn wireguard_go_passes_through_the_router_roams_and_outlives_it() {
    if lacks(missing()) {
        return;
    }
    lab::run(|| through_the_router(&mut Lab::new()?, Engine::WireguardGo, "stock-go"));
}

#[test]
fn boringtun_passes_through_the_router_roams_and_outlives_it() {
    let what = "boringtun-cli (its path in MOLIA_BORINGTUN)";
    let absent = || Missing::Tools(vec![(what, "cargo install boringtun-cli")]);
    let named = std::env::var_os("MOLIA_BORINGTUN").is_some();
    if lacks(missing().or_else(|| (!named).then(absent))) {
        return;
    }
    lab::run(|| through_the_router(&mut Lab::new()?, Engine::BoringTun, "stock-boringtun"));
}
