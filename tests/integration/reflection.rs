//! Reflection over real sockets: probes, two routers that help each other, plain STUN.

use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use molia_router::client::link::Host;
use molia_router::client::nat::{Hairpin, Lifetime, Plan, classify};
use molia_router::client::{Client, Link, Options};
use molia_router::counters::layout::Id;
use molia_router::rendezvous::{Behaviour, Nat};
use molia_router::wire::body::ReflectReq;

use super::server::{Server, engines, eventually};

/// Two routers that have found each other.
fn on_every_engine(test: impl Fn(&[Server; 2])) {
    for &engine in engines() {
        let servers = Server::pair(engine, true);
        for (server, other) in [(0, 1), (1, 0)].map(|(a, b)| (&servers[a], &servers[b])) {
            let mut client = server.connect();
            eventually("the other router", || match client.reflect().unwrap().other_router {
                Some(peer) if peer == other.link.peer => Ok(()),
                told => Err(format!("{told:?}")),
            });
        }
        test(&servers);
        servers.into_iter().for_each(Server::stop);
    }
}

fn plan(server: &Server, other: Option<&Server>) -> Plan {
    Plan {
        router: server.link.clone(),
        other: other.map(|it| it.link.clone()),
        lifetime_s: 0,
        patience: Duration::from_secs(30),
    }
}

#[test]
fn without_a_nat_everything_is_open() {
    on_every_engine(|[server, other]| {
        let with_help = Plan { lifetime_s: 2, ..plan(server, Some(other)) };
        let report = classify(&with_help).unwrap();
        let open = Behaviour::EndpointIndependent;
        assert!(!report.translated() && report.port_kept(), "{report:?}");
        assert_eq!(report.nat, Nat { mapping: open, filtering: open }, "{report:?}");
        assert!(!report.mapping_by_ports && !report.filtering_by_ports);
        assert_eq!((report.hairpin, report.label()), (Hairpin::Unknown, "open"));
        assert_eq!(report.lifetime, Some(Lifetime { alive_s: 2, dead_s: None }));
        assert_eq!(other.sum(Id::FilterProbes, &["alternate"]), 0);

        let alone = classify(&plan(server, None)).unwrap();
        assert_eq!(alone.nat.filtering, Behaviour::AddressDependent, "nobody tried more");
        assert!(alone.mapping_by_ports && alone.filtering_by_ports);
        assert_eq!(alone.label(), "open or firewall");
    });
}

#[test]
fn probes_are_counted_where_they_leave() {
    on_every_engine(|[server, other]| {
        classify(&plan(server, Some(other))).unwrap();
        classify(&plan(server, None)).unwrap();
        let mut client = server.connect();
        client.reflect_with(ReflectReq { nonce: 1, after_s: 1, ..ReflectReq::default() }).unwrap();
        let counted = |server: &Server| {
            ["main", "alternate", "other"].map(|from| server.sum(Id::FilterProbes, &[from]))
        };
        eventually("probes", || {
            let counted = [counted(server), counted(other)];
            let good = matches!(counted, [[1, 1, 1], [0, 0, (2..)]]);
            if good { Ok(()) } else { Err(format!("{counted:?}")) }
        });
    });
}

/// One of them would ask for help that the other one never granted: a peer is not told of it, or it
/// would take the probes that never come for its NAT's doing.
#[test]
fn help_that_is_not_mutual_is_none() {
    for &engine in engines() {
        let servers = Server::pair(engine, false);
        let refused = || servers[1].sum(Id::Errors, &["unauthorized"]);
        eventually("a refusal", || if refused() > 0 { Ok(()) } else { Err(String::new()) });
        let mut client = servers[0].connect();
        for _ in 0..10 {
            assert_eq!(client.reflect().unwrap().other_router, None);
            client.idle(Duration::from_millis(20)).unwrap();
        }
        servers.into_iter().for_each(Server::stop);
    }
}

/// Who asks the alternate port is told of the same port, and probed from there.
#[test]
fn the_alternate_port_reflects_too() {
    on_every_engine(|[server, _]| {
        let mut client = Client::connect(&server.alternate, None, Options::default()).unwrap();
        let told = client.reflect().unwrap();
        let Host::Ip(ip) = server.alternate.host else { panic!("an address") };
        assert_eq!(told.alternate, Some((ip, server.alternate.port).into()));
    });
}

#[test]
fn a_stock_stun_client_gets_its_address() {
    on_every_engine(|[server, _]| {
        for link in [&server.link, &server.alternate] {
            let Link { host, port, .. } = link;
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let Host::Ip(ip) = host else { panic!("an address") };
            let request = b"\x00\x01\x00\x00\x21\x12\xA4\x42twelve bytes";
            socket.send_to(request, (*ip, *port)).unwrap();
            let mut answer = [0; 64];
            let (len, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!((len, from), (32, (*ip, *port).into()));
            let seen = u16::from_be_bytes([answer[26] ^ 0x21, answer[27] ^ 0x12]);
            assert_eq!(seen, socket.local_addr().unwrap().port());

            let program = "turnutils_stunclient";
            let arguments = ["-p", &port.to_string(), &host.to_string()];
            match Command::new(program).args(arguments).output() {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stdout).into_owned();
                    assert!(said.contains("UDP reflexive addr: 127.0.0.1:"), "{said}");
                }
                // Past the harness, which keeps for itself what a passing test prints.
                Err(error) => {
                    let text = "SKIP a_stock_stun_client_gets_its_address";
                    let why = format!("{program}: {error} (package: coturn)");
                    let _ = writeln!(std::io::stderr(), "{text}: {why}");
                }
            }
        }
    });
}
