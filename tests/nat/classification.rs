//! What the program finds out about a NAT, against what the laboratory made it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::lab::{self, Behaviour, Client, Depends, Ipv6, Lab, Missing, Nat, Process, Server};
use crate::product::Place;

/// For what nothing waits for unless it fails; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that ask at the same time: so many debug builds a small machine can run.
const AT_ONCE: usize = 3;

/// Two routers that help each other.
struct Deployment {
    place: Place,
    links: [String; 2],
    _routers: Mutex<[Process; 2]>,
}

impl Deployment {
    fn start(lab: &Lab, servers: [Server; 2], name: &str) -> Result<Self, Missing> {
        Self::at(lab, servers.map(|server| (server, server.v4[0].into())), name)
    }

    fn at(lab: &Lab, servers: [(Server, IpAddr); 2], name: &str) -> Result<Self, Missing> {
        let at = servers.map(|(_, ip)| SocketAddr::new(ip, 7743));
        let place = Place::new(name)?;
        let links = [0, 1].map(|n| {
            let key = format!("router-{n}.key");
            let made = place.program().args(["keygen", "--json", "--out", &key]).output().unwrap();
            let made: Value = serde_json::from_slice(&made.stdout).unwrap();
            let word = |name: &str| made[name].as_str().unwrap().to_owned();
            let key = STANDARD.decode(word("wireguard_key")).unwrap();
            let (peer, key) = (word("peer_id"), URL_SAFE_NO_PAD.encode(key));
            format!("molia://{peer}@{}?k={key}", at[n])
        });
        let start = |n: usize| {
            let mut command = place.program();
            let key = format!("router-{n}.key");
            command.args(["run", "--config", "config", "--identity", &key]);
            for setting in [
                format!("udp/listen={}", at[n]),
                format!("reflect/other_router={}", links[1 - n]),
                "admin/listen=127.0.0.1:0".into(),
                "relay/allow_private=1".into(),
                "shards/count=1".into(),
                "peerstore/dir=off".into(),
            ] {
                command.args(["--set", &setting]);
            }
            lab.spawn(servers[n].0.host, &mut command).unwrap()
        };
        let mut routers = [0, 1].map(start);
        for router in &mut routers {
            let (mut ready, mut met) = (false, false);
            let both = router.expect(PATIENCE, |line| {
                ready |= line.starts_with("ready ");
                met |= line.contains("the other router is there");
                (ready && met).then_some(())
            });
            both.unwrap_or_else(|said| panic!("they do not meet: {said}"));
        }
        Ok(Self { place, links, _routers: Mutex::new(routers) })
    }

    /// What `reflect --classify` says on a client's host.
    fn classify(&self, lab: &Lab, client: Client, more: &[&str]) -> Value {
        let [router, other] = &self.links;
        let mut command: Command = self.place.program();
        command.args(["reflect", router, "--classify", "--json", "--other", other]);
        let ended = lab.spawn(client.host, command.args(more)).unwrap().finish(PATIENCE);
        assert!(ended.well, "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

fn word(depends: Depends) -> &'static str {
    match depends {
        Depends::Nothing => "endpoint_independent",
        Depends::Address => "address_dependent",
        Depends::AddressAndPort => "address_and_port_dependent",
    }
}

/// Asks about all clients, a few at a time; answers in their order.
fn each<T: Copy + Sync, R: Send>(all: &[T], ask: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut found = Vec::new();
    for some in all.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let ask = &ask;
            let asked: Vec<_> = some.iter().map(|it| scope.spawn(move || ask(*it))).collect();
            found.extend(asked.into_iter().map(|asked| asked.join().unwrap()));
        });
    }
    found
}

#[test]
fn the_program_finds_out_what_the_laboratory_made() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let servers = [lab.server()?, lab.server()?];
        let clients = Behaviour::ALL.map(|behaviour| lab.client_behind(Nat::new(behaviour)));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let deployment = Deployment::start(&lab, servers, "classes")?;
        let found = each(&clients, |client| deployment.classify(&lab, client, &[]));
        for (behaviour, found) in Behaviour::ALL.into_iter().zip(found) {
            let name = behaviour.name();
            assert_eq!(found["translated"], behaviour.translates(), "{name}: {found}");
            assert_eq!(found["mapping"], word(behaviour.mapping()), "{name}: {found}");
            assert_eq!(found["filtering"], word(behaviour.filtering()), "{name}: {found}");
            assert_eq!(found["port_kept"], behaviour.keeps_port(), "{name}: {found}");
            let sure = found["mapping_by_ports"] == false && found["filtering_by_ports"] == false;
            assert!(sure, "{name}: {found}");
        }
        Ok(())
    });
}

/// There, nothing is translated, and what may come in is a firewall's word.
#[test]
fn what_lies_before_a_client_of_ipv6_is_found_too() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let servers = [lab.server()?, lab.server()?];
        let cases = [(Ipv6::Open, Depends::Nothing), (Ipv6::Firewall, Depends::AddressAndPort)];
        let clients = cases
            .map(|(ipv6, _)| lab.client_behind(Nat { ipv6, ..Nat::new(Behaviour::Symmetric) }));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let servers = servers.map(|server| (server, server.v6[0].into()));
        let deployment = Deployment::at(&lab, servers, "ipv6")?;
        let found = each(&clients, |client| deployment.classify(&lab, client, &[]));
        for ((ipv6, filtering), found) in cases.into_iter().zip(found) {
            assert_eq!(found["translated"], false, "{ipv6:?}: {found}");
            assert_eq!(found["mapping"], word(Depends::Nothing), "{ipv6:?}: {found}");
            assert_eq!(found["filtering"], word(filtering), "{ipv6:?}: {found}");
            assert_eq!(found["port_kept"], true, "{ipv6:?}: {found}");
        }
        Ok(())
    });
}

#[test]
fn hairpins_are_found_where_they_are() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let servers = [lab.server()?, lab.server()?];
        let cases = [
            (Behaviour::FullCone, true, "yes"),
            (Behaviour::AddressRestricted, true, "invited"),
            (Behaviour::PortRestricted, true, "invited"),
            (Behaviour::FullCone, false, "no"),
            (Behaviour::Linux, false, "no"),
            (Behaviour::Symmetric, false, "no"),
        ];
        let clients = cases.map(|(behaviour, hairpin, _)| {
            lab.client_behind(Nat { hairpin, ..Nat::new(behaviour) })
        });
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let deployment = Deployment::start(&lab, servers, "hairpins")?;
        let found = each(&clients, |client| deployment.classify(&lab, client, &[]));
        for ((behaviour, asked, wanted), found) in cases.into_iter().zip(found) {
            assert_eq!(found["hairpin"], wanted, "{} hairpin {asked}: {found}", behaviour.name());
        }
        Ok(())
    });
}

#[test]
fn lifetimes_are_found_to_the_second() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let servers = [lab.server()?, lab.server()?];
        let cases = [
            (Behaviour::PortRestricted, 3),
            (Behaviour::Linux, 5),
            (Behaviour::Symmetric, 3),
            (Behaviour::Firewall, 5),
        ];
        let clients = cases.map(|(behaviour, timeout_s)| {
            lab.client_behind(Nat { timeout_s, ..Nat::new(behaviour) })
        });
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let deployment = Deployment::start(&lab, servers, "lifetimes")?;
        let found = each(&clients, |client| {
            deployment.classify(&lab, client, &["--lifetime", "8"])["lifetime"].clone()
        });
        for ((behaviour, timeout_s), found) in cases.into_iter().zip(found) {
            let name = behaviour.name();
            let bound = |name: &str| found[name].as_u64().map(i64::try_from);
            let (Some(Ok(alive)), Some(Ok(dead))) = (bound("alive_s"), bound("dead_s")) else {
                panic!("{name}: {found}")
            };
            // A probe that leaves at the very end may come in time or not.
            let timeout_s = i64::from(timeout_s);
            assert_eq!(dead, alive + 1, "{name}: {found}");
            assert!((timeout_s - 1..=timeout_s).contains(&alive), "{name}: {found}");
        }
        Ok(())
    });
}

/// Nobody asks two routers that were not told of each other for help; what is left is told as such.
#[test]
fn without_help_the_answer_says_what_it_does_not_know() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let servers = [lab.server()?, lab.server()?];
        let client = lab.client_behind(Nat::new(Behaviour::FullCone))?;
        let deployment = Deployment::start(&lab, servers, "alone")?;
        let mut command = deployment.place.program();
        command.args(["reflect", &deployment.links[0], "--classify"]);
        let ended = lab.spawn(client.host, &mut command)?.finish(PATIENCE);
        assert!(ended.well, "{ended:?}");
        for said in [
            "mapping     endpoint-independent  (at least to ports",
            "filtering   address-dependent  (or endpoint-independent",
            "known as    full or restricted cone",
        ] {
            assert!(ended.stdout.contains(said), "{said}: {}", ended.stdout);
        }
        Ok(())
    });
}
