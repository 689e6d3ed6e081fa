//! Every router behaves as its name says.

use std::thread;

use crate::lab::{self, Behaviour, Client, Depends, Ipv6, Lab, Missing, Nat};
use crate::prober::{Found, Hairpin, Responder};

/// What is found at each of several clients, all asked at once.
fn survey<T: Send>(clients: &[Client], find: impl Fn(Client) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let find = &find;
        let asked: Vec<_> =
            clients.iter().map(|client| scope.spawn(move || find(*client))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn mapping_filtering_and_ports_are_those_of_rfc_4787() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let nats = Behaviour::ALL.map(Nat::new);
        let clients = nats.map(|nat| lab.client_behind(nat));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let responder = Responder::new(&lab, server, false);
        let found = survey(&clients, |client| responder.classify(&lab, client));
        for (behaviour, found) in Behaviour::ALL.into_iter().zip(found) {
            let wanted = Found {
                translated: behaviour.translates(),
                mapping: behaviour.mapping(),
                filtering: behaviour.filtering(),
                port_kept: behaviour.keeps_port(),
            };
            assert_eq!(found, Some(wanted), "{}", behaviour.name());
        }
        Ok(())
    });
}

/// A service's port is refused as a candidate, and those that a moved mapping takes are lower.
#[test]
fn ports_are_those_that_hosts_choose() {
    // Few, for two of them may get one port by chance, and the second no answer then.
    const SOCKETS: usize = 8;
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let behaviours = [
            Behaviour::FullCone,
            Behaviour::AddressRestricted,
            Behaviour::PortRestricted,
            Behaviour::SymmetricSequential,
        ];
        let clients = behaviours.map(|behaviour| lab.client_behind(Nat::new(behaviour)));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let responder = Responder::new(&lab, server, false);
        let ports = survey(&clients, |client| -> Option<Vec<u16>> {
            let socket = || responder.socket(&lab, client.host);
            (0..SOCKETS).map(|_| Some(responder.seen(&socket())?.port())).collect()
        });
        for (behaviour, ports) in behaviours.into_iter().zip(ports) {
            let (ports, name) = (ports.unwrap(), behaviour.name());
            if behaviour.mapping() == Depends::Nothing {
                assert!(ports.iter().all(|port| *port >= 32_768), "{name}: {ports:?}");
            } else {
                // A question that was asked again took a port too.
                let ascends = |two: &[u16]| (1..4).contains(&(two[1].wrapping_sub(two[0]) % 256));
                assert!(ports.windows(2).all(ascends), "{name}: {ports:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn hairpins_are_where_they_were_asked_for() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let cases = [
            (Behaviour::FullCone, true, Hairpin::Always),
            (Behaviour::AddressRestricted, true, Hairpin::Invited),
            (Behaviour::PortRestricted, true, Hairpin::Invited),
            (Behaviour::FullCone, false, Hairpin::No),
            (Behaviour::AddressRestricted, false, Hairpin::No),
            (Behaviour::PortRestricted, false, Hairpin::No),
            (Behaviour::Linux, false, Hairpin::No),
            (Behaviour::LinuxBare, false, Hairpin::No),
            (Behaviour::Symmetric, false, Hairpin::No),
        ];
        let clients = cases.map(|(behaviour, hairpin, _)| {
            lab.client_behind(Nat { hairpin, ..Nat::new(behaviour) })
        });
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let responder = Responder::new(&lab, server, false);
        let found = survey(&clients, |client| {
            (responder.classify(&lab, client), responder.hairpin(&lab, client.host))
        });
        for ((behaviour, asked, wanted), (found, hairpin)) in cases.into_iter().zip(found) {
            assert_eq!(hairpin, Some(wanted), "{} hairpin {asked}", behaviour.name());
            let found = found.map(|found| (found.mapping, found.filtering));
            assert_eq!(found, Some((behaviour.mapping(), behaviour.filtering())));
        }
        Ok(())
    });
}

#[test]
fn of_two_routers_the_stricter_one_shows() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let cases = [
            (Behaviour::FullCone, Behaviour::FullCone, Depends::Nothing, Depends::Nothing),
            (
                Behaviour::PortRestricted,
                Behaviour::PortRestricted,
                Depends::Nothing,
                Depends::AddressAndPort,
            ),
            (
                Behaviour::Symmetric,
                Behaviour::FullCone,
                Depends::AddressAndPort,
                Depends::AddressAndPort,
            ),
        ];
        let mut clients = Vec::new();
        for (outer, inner, ..) in cases {
            let outer = lab.router(Nat::new(outer))?;
            let inner = lab.router_behind(outer, Nat::new(inner))?;
            clients.push(lab.client(inner)?);
        }
        let responder = Responder::new(&lab, server, false);
        let found = survey(&clients, |client| responder.classify(&lab, client));
        for ((outer, inner, mapping, filtering), found) in cases.into_iter().zip(found) {
            let wanted = Found { translated: true, mapping, filtering, port_kept: false };
            assert_eq!(found, Some(wanted), "{} behind {}", inner.name(), outer.name());
        }
        Ok(())
    });
}

#[test]
fn ipv6_is_open_guarded_or_not_there() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let cases = [
            (Ipv6::Open, Some(Depends::Nothing)),
            (Ipv6::Firewall, Some(Depends::AddressAndPort)),
            (Ipv6::No, None),
        ];
        let clients = cases
            .map(|(ipv6, _)| lab.client_behind(Nat { ipv6, ..Nat::new(Behaviour::Symmetric) }));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let responder = Responder::new(&lab, server, true);
        let found = survey(&clients, |client| responder.classify(&lab, client));
        for ((ipv6, filtering), found) in cases.into_iter().zip(found) {
            let mapping = Depends::Nothing;
            let wanted = filtering.map(|filtering| Found {
                translated: false,
                mapping,
                filtering,
                port_kept: true,
            });
            assert_eq!(found, wanted, "{ipv6:?}");
        }
        Ok(())
    });
}
