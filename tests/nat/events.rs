//! What changes while traffic flows, and what gets lost.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::lab::{self, Behaviour, Lab, Missing, Nat, Rebind};
use crate::prober::{Answer, Responder, ask, receive};

#[test]
fn an_idle_mapping_lives_as_long_as_it_was_told_to() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let behaviours = [
            Behaviour::Firewall,
            Behaviour::FullCone,
            Behaviour::PortRestricted,
            Behaviour::Linux,
            Behaviour::Symmetric,
        ];
        let clients = behaviours
            .map(|behaviour| lab.client_behind(Nat { timeout_s: 2, ..Nat::new(behaviour) }));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_, Missing>>()?;
        let responder = Responder::new(&lab, server, false);
        let address = responder.addresses()[0];
        thread::scope(|scope| {
            for (behaviour, client) in behaviours.into_iter().zip(clients) {
                for (delay_ms, wanted) in [(1_000, true), (3_500, false)] {
                    let socket = responder.socket(&lab, client.host);
                    scope.spawn(move || {
                        let delay = Duration::from_millis(delay_ms);
                        let heard = ask(&socket, address, Answer::Same, delay).is_some();
                        assert_eq!(heard, wanted, "{} after {delay_ms} ms", behaviour.name());
                    });
                }
            }
        });
        Ok(())
    });
}

#[test]
fn a_rebinding_moves_what_it_says() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let responder = Responder::new(&lab, server, false);
        for behaviour in
            [Behaviour::PortRestricted, Behaviour::Linux, Behaviour::SymmetricSequential]
        {
            let router = lab.router(Nat::new(behaviour))?;
            let inner = lab.router_behind(router, Nat::new(Behaviour::PortRestricted))?;
            let (direct, behind_two) = (lab.client(router)?, lab.client(inner)?);
            let sockets = [direct, behind_two].map(|client| responder.socket(&lab, client.host));
            let seen = |socket: &UdpSocket| responder.seen(socket).unwrap();
            let [mut direct, mut through_two] = sockets.each_ref().map(seen);
            for how in [Rebind::Flush, Rebind::Port, Rebind::Address, Rebind::Port] {
                lab.rebind(router, how)?;
                let now = sockets.each_ref().map(seen);
                let context = format!("{} {how:?}: {direct} {now:?}", behaviour.name());
                for (before, now) in [direct, through_two].into_iter().zip(now) {
                    assert_eq!(before.ip() != now.ip(), how == Rebind::Address, "{context}");
                    assert_eq!(lab.outside(router), now.ip(), "{context}");
                    if how == Rebind::Port {
                        assert_ne!(before.port(), now.port(), "{context}");
                    }
                    if how == Rebind::Flush && behaviour == Behaviour::PortRestricted {
                        assert_eq!(before, now, "{context}");
                    }
                }
                [direct, through_two] = now;
            }
            lab.rebind(inner, Rebind::Port)?;
            assert_ne!(seen(&sockets[1]), through_two, "{}", behaviour.name());
            lab.rebind(inner, Rebind::Address)?;
            assert_eq!(seen(&sockets[1]).ip(), through_two.ip(), "{}", behaviour.name());
            assert_eq!(seen(&sockets[0]), direct, "{}: not concerned", behaviour.name());
        }
        Ok(())
    });
}

#[test]
fn a_router_without_nat_may_be_renumbered() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let responder = Responder::new(&lab, server, false);
        let router = lab.router(Nat::new(Behaviour::Firewall))?;
        let client = lab.client(router)?;
        let socket = responder.socket(&lab, client.host);
        let before = responder.seen(&socket);
        assert!(before.is_some());
        lab.rebind(router, Rebind::Address)?;
        assert_eq!(responder.seen(&socket), before);
        Ok(())
    });
}

/// Questions that each way of the loss test is measured by.
const QUESTIONS: u64 = 3_000;

#[test]
fn about_the_wanted_share_is_lost() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let mut ways = Vec::new();
        for (outward, inward) in [(0, 0), (20, 0), (0, 5), (2, 2)] {
            let server = lab.server()?;
            let router = lab.router(Nat::new(Behaviour::PortRestricted))?;
            let client = lab.client(router)?;
            // Replaced, not added to.
            lab.lose(router, 50, 50)?;
            lab.lose(router, outward, inward)?;
            let responder = Responder::new(&lab, server, false);
            ways.push((responder.socket(&lab, client.host), responder, outward, inward));
        }
        thread::scope(|scope| {
            for (socket, responder, outward, inward) in ways {
                scope.spawn(move || {
                    let back = converse(&socket, &responder);
                    let arrived = responder.arrived();
                    assert_share("out", QUESTIONS - arrived, QUESTIONS, outward);
                    assert_share("in", arrived - back, arrived, inward);
                });
            }
        });
        Ok(())
    });
}

fn assert_share(what: &str, lost: u64, of: u64, percent: u32) {
    let (lost, of) = (lost as f64, of as f64);
    let share = f64::from(percent) / 100.0;
    // Five times the deviation of a binomial distribution, and what a busy machine drops.
    let tolerance = 5.0 * (of * share * (1.0 - share)).sqrt() + of / 100.0;
    let off = (lost - of * share).abs();
    assert!(off <= tolerance, "{what}: {lost} of {of} lost, {percent} % wanted");
}

/// Asks all questions; how many answers come back.
fn converse(socket: &UdpSocket, responder: &Responder) -> u64 {
    let mut back = 0;
    let answered = |answer: &[u8], _| (answer.len() > 8).then_some(());
    // As many as fit into the buffers on the way, then all answers, or until it is quiet.
    for _ in 0..QUESTIONS / 50 {
        for _ in 0..50 {
            socket.send_to(&[0; 13], responder.addresses()[0]).unwrap();
        }
        let wanted = back + 50;
        while back < wanted && receive(socket, Duration::from_millis(30), answered).is_some() {
            back += 1;
        }
    }
    while receive(socket, Duration::from_millis(500), answered).is_some() {
        back += 1;
    }
    back
}

#[test]
fn neighbours_reach_each_other_inside_and_not_by_the_outside() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let responder = Responder::new(&lab, server, false);
        let router = lab.router(Nat::new(Behaviour::FullCone))?;
        let (a, b) = (lab.client(router)?, lab.client(router)?);
        let (from, to) = (responder.socket(&lab, a.host), responder.socket(&lab, b.host));
        let outside = responder.seen(&to).unwrap();
        let inside = (b.v4, to.local_addr().unwrap().port());
        from.send_to(b"outside", outside).unwrap();
        from.send_to(b"inside", inside).unwrap();
        let heard = receive(&to, Duration::from_secs(1), |text, from| Some((text.to_vec(), from)));
        let wanted = (a.v4, from.local_addr().unwrap().port()).into();
        assert_eq!(heard, Some((b"inside".to_vec(), wanted)));
        Ok(())
    });
}
