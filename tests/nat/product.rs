//! The real program in a laboratory: a router, and peers that look for each other by it.

use std::env;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Client, Lab, Missing, Process, Server};

/// For what nothing waits for unless it fails; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A router on a server, with the files of everybody.
pub(crate) struct Deployment {
    place: Place,
    link: String,
    address: Ipv4Addr,
    settings: Vec<String>,
    peers: AtomicU32,
    router: Mutex<Process>,
}

/// A folder that goes with its handle.
pub(crate) struct Place(PathBuf);

/// Somebody with a key file.
pub(crate) struct Identity {
    pub(crate) number: u32,
    file: String,
    id: String,
    pub(crate) wireguard_key: String,
    /// The tunnel's secret alone, as `wg` takes it.
    pub(crate) secret_file: PathBuf,
}

/// How two peers met.
#[derive(Clone, Debug)]
pub(crate) struct Meeting {
    pub(crate) direct: bool,
    /// From the request to the first way of any kind, and to the direct one.
    pub(crate) first_path_ms: u64,
    pub(crate) direct_ms: Option<u64>,
    /// Pings through the path, and their answers.
    pub(crate) sent: u64,
    pub(crate) echoed: u64,
    /// Who the first peer found that it is, and all that it did, for whoever has to find out why.
    pub(crate) story: String,
}

impl Deployment {
    /// Starts the router at the first address of the server.
    pub(crate) fn start(lab: &Lab, server: Server, name: &str) -> Result<Self, Missing> {
        Self::with(lab, server, name, &[])
    }

    /// The same with further settings.
    pub(crate) fn with(
        lab: &Lab,
        server: Server,
        name: &str,
        settings: &[&str],
    ) -> Result<Self, Missing> {
        let place = Place::new(name)?;
        let address = server.v4[0];
        let settings: Vec<_> = settings.iter().map(|it| (*it).to_owned()).collect();
        let (router, link) = serve(lab, server, &place, address, &settings)?;
        let (peers, router) = (AtomicU32::new(0), Mutex::new(router));
        Ok(Self { place, link, address, settings, peers, router })
    }

    /// Ends the router as a service manager would, and starts it again.
    pub(crate) fn restart(&self, lab: &Lab, server: Server) {
        let mut router = self.router.lock().unwrap();
        let id = rustix::process::Pid::from_raw(router.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let said = router.expect(PATIENCE, |_| None::<()>).unwrap_err();
        let again = serve(lab, server, &self.place, self.address, &self.settings);
        let (again, link) = again.unwrap();
        assert_eq!(link, self.link, "it is the same router: {said}");
        *router = again;
    }

    /// Gets two clients a port each for a tunnel between them; both endpoints.
    pub(crate) fn ports(
        &self,
        lab: &Lab,
        clients: [Client; 2],
        ids: [&Identity; 2],
    ) -> [String; 2] {
        let [a, b] = ids;
        let ask = |client, own: &Identity, other: &Identity| {
            let signed = ["consent", "--identity", &other.file, "--for", &own.id];
            let signed = [&signed[..], &["--scope", "relay"]].concat();
            let consent = self.place.program().args(signed).output().unwrap();
            assert!(consent.status.success(), "{consent:?}");
            let consent = String::from_utf8(consent.stdout).unwrap();
            let asked = ["relay", &self.link, &other.id, "--identity", &own.file, "--json"];
            let args = [&asked[..], &["--consent", consent.trim()]].concat();
            self.spawn(lab, client, &args)
        };
        // Whoever is first waits for the other.
        let both = [ask(clients[0], a, b), ask(clients[1], b, a)];
        both.map(|asking| {
            let ended = asking.finish(PATIENCE);
            assert!(ended.well, "{ended:?}\nthe router: {}", self.said());
            let told: Value = serde_json::from_str(&ended.stdout).unwrap();
            told["endpoint"].as_str().unwrap().to_owned()
        })
    }

    /// A new key file, and all that a tunnel needs of it.
    pub(crate) fn known(&self) -> Identity {
        let number = self.peers.load(Ordering::Relaxed);
        let (file, id, wireguard_key) = self.made();
        let text = fs::read_to_string(self.place.0.join(&file)).unwrap();
        let secret = text.lines().find_map(|line| line.strip_prefix("x25519 ")).unwrap();
        let secret_file = self.place.0.join(format!("{file}.wireguard"));
        fs::write(&secret_file, secret).unwrap();
        Identity { number, file, id, wireguard_key, secret_file }
    }

    /// Starts the second client listening, and then the first one punching, with these arguments
    /// more; the first is the one that punches.
    pub(crate) fn begin(&self, lab: &Lab, [a, b]: [Client; 2], args: &[&str]) -> [Process; 2] {
        let ((a_key, _), (b_key, b_id)) = (self.identity(), self.identity());
        let router = ["--router", &self.link];
        let listen = [&["punch", "--listen", "--identity", &b_key], &router[..]].concat();
        let mut listener = self.spawn(lab, b, &listen);
        listener.expect(PATIENCE, |_| Some(())).unwrap();
        let punch = [&["punch", &b_id, "--json", "--identity", &a_key], &router[..], args].concat();
        [self.spawn(lab, a, &punch), listener]
    }

    /// Lets the first client look for the second one.
    ///
    /// # Errors
    /// What was said, if they do not meet.
    pub(crate) fn meet(&self, lab: &Lab, [a, b]: [Client; 2]) -> Result<Meeting, String> {
        let (a_key, _) = self.identity();
        let (b_key, b_id) = self.identity();
        let router = ["--router", &self.link];
        let listen = [&["punch", "--listen", "--lan", "--identity", &b_key], &router[..]].concat();
        let mut listener = self.spawn(lab, b, &listen);
        // It speaks when the router knows it.
        listener.expect(PATIENCE, |_| Some(()))?;
        let punch =
            [&["punch", &b_id, "--json", "--lan", "--identity", &a_key], &router[..]].concat();
        let ended = self.spawn(lab, a, &punch).finish(PATIENCE);
        let found = serde_json::from_str(&ended.stdout).ok();
        let meeting = found.as_ref().and_then(Meeting::read).filter(|_| ended.well);
        meeting.ok_or_else(|| {
            let heard = listener.finish(Duration::ZERO);
            let served = self.said();
            format!("{punch:?}: {ended:?}\nthe listener: {heard:?}\nthe router: {served}")
        })
    }

    /// What the router said so far.
    fn said(&self) -> String {
        let mut router = self.router.lock().unwrap();
        router.expect(Duration::from_millis(1), |_| None::<()>).unwrap_err()
    }

    fn spawn(&self, lab: &Lab, client: Client, args: &[&str]) -> Process {
        lab.spawn(client.host, self.place.program().args(args)).unwrap()
    }

    /// A new key file, and who it makes one.
    fn identity(&self) -> (String, String) {
        let (file, id, _) = self.made();
        (file, id)
    }

    fn made(&self) -> (String, String, String) {
        let file = format!("peer-{}.key", self.peers.fetch_add(1, Ordering::Relaxed));
        let made =
            self.place.program().args(["keygen", "--json", "--out", &file]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (file, text("peer_id"), text("wireguard_key"))
    }
}

/// A router that serves, and its link.
fn serve(
    lab: &Lab,
    server: Server,
    place: &Place,
    address: Ipv4Addr,
    settings: &[String],
) -> Result<(Process, String), Missing> {
    let listen = format!("udp/listen={address}:7743");
    let mut command = place.program();
    command.args(["run", "--config", "config", "--set", &listen]);
    for setting in ["admin/listen=127.0.0.1:0", "relay/allow_private=1", "shards/count=1"] {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut router = lab.spawn(server.host, &mut command)?;
    let mut link = None;
    let ready = router.expect(PATIENCE, |line| {
        link = link.take().or_else(|| Some(line.strip_prefix("link ")?.trim().to_owned()));
        line.starts_with("ready ").then_some(())
    });
    ready.unwrap_or_else(|said| panic!("the router did not become ready: {said}"));
    Ok((router, link.unwrap()))
}

impl Place {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("molia-nat-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("config"))?;
        let place = Self(path);
        fs::create_dir(place.0.join("run"))?;
        Ok(place)
    }

    /// The program with a clean environment whose every default lies here.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(executable());
        command.env_clear().current_dir(&self.0).env("HOME", &self.0);
        command.env("RUNTIME_DIRECTORY", self.0.join("run"));
        command.env("STATE_DIRECTORY", self.0.join("state"));
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Meeting {
    /// Reads what `punch --json` prints.
    fn read(found: &Value) -> Option<Self> {
        let direct = match found["path"]["kind"].as_str()? {
            "direct" => true,
            "relay" => false,
            _ => return None,
        };
        Some(Self {
            direct,
            first_path_ms: whole_ms(&found["first_path_ms"])?,
            direct_ms: whole_ms(&found["direct_ms"]),
            sent: found["sent"].as_u64()?,
            echoed: found["echoed"].as_u64()?,
            story: format!("{}\n{}", found["us"], found["steps"]),
        })
    }
}

/// Milliseconds are printed with a fraction.
fn whole_ms(found: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a short time")]
    found.as_f64().map(|ms| ms.ceil() as u64)
}

/// The program: `MOLIA_NAT_PROGRAM`, for instance an optimised one, else the tests' own.
fn executable() -> PathBuf {
    let own = || env!("CARGO_BIN_EXE_molia-router").into();
    env::var_os("MOLIA_NAT_PROGRAM").map_or_else(own, PathBuf::from)
}

#[test]
fn the_report_of_a_meeting_is_understood() {
    let report = |path: &str| {
        serde_json::json!({
            "path": { "kind": path, "address": null },
            "first_path_ms": 119.5, "direct_ms": null, "sent": 5, "echoed": 4,
        })
    };
    let relayed = Meeting::read(&report("relay")).unwrap();
    assert!(!relayed.direct && relayed.direct_ms.is_none());
    assert_eq!((relayed.first_path_ms, relayed.sent, relayed.echoed), (120, 5, 4));
    assert!(Meeting::read(&report("direct")).unwrap().direct);
    assert!(Meeting::read(&report("none")).is_none());
    assert!(Meeting::read(&serde_json::json!({ "path": { "kind": "direct" } })).is_none());
}
