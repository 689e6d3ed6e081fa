//! Peers whose source port changes, as behind NATs that forget: the kernel's hash may send what
//! names no shard to another socket then, and the session stays where it is.

use std::time::Duration;

use molia_router::client::session::REKEY_AFTER;
use molia_router::counters::layout::Id;
use molia_router::drops::Drop;

use super::fleet::{Ask, Fleet, Member};
use super::server::{Server, Shape, engines, eventually};

const CLIENTS: u64 = 40;

/// Runs `test` with as many clients that have shown who they are, steered and not.
fn with_clients(seed: u64, test: impl Fn(&Server, &mut Fleet)) {
    for &engine in engines() {
        for (shards, steer) in [(2, true), (3, true), (3, false)] {
            let shape = Shape { engine, listen: "127.0.0.1:0", shards, steer };
            let server = Server::with(shape).unwrap();
            let mut fleet = Fleet::connected(&server, &["127.0.0.1"], CLIENTS, seed);
            server.await_each(Id::Sessions, &[], &fleet.homes(&server));
            test(&server, &mut fleet);
            server.stop();
        }
    }
}

#[test]
fn a_session_stays_at_home_whatever_the_port() {
    const MOVES: u64 = 5;
    with_clients(2000, |server, fleet| {
        let homes = fleet.homes(server);
        let handshakes = server.each(Id::Handshakes, &["ok"]);
        for moves in 1..=MOVES {
            fleet.members.iter_mut().for_each(Member::move_away);
            fleet.ask_all(|_| Ask::Reflect);
            let roams: Vec<_> = homes.iter().map(|clients| clients * moves).collect();
            server.await_each(Id::Roams, &[], &roams);
        }
        assert_eq!(fleet.sum(|tally| tally.handshakes), CLIENTS);
        server.await_each(Id::Handshakes, &["ok"], &handshakes);
        server.await_each(Id::Sessions, &[], &homes);
        let data = fleet.by_home(server, |member| member.tally.data);
        server.await_each(Id::Decrypts, &["ok"], &data);
        assert_eq!(server.sum(Id::Forwarded, &[]) > 0, !server.shape.steer);
        // Where they are now is where they are listed, once they have proven it.
        fleet.go_on(Duration::from_millis(300), |_| {});
        assert!(server.sum(Id::Proofs, &[]) >= CLIENTS, "every new address is challenged");
        fleet.find_each_other(server);
    });
}

#[test]
fn new_keys_from_another_port_are_for_the_same_session() {
    const REKEYS: u64 = 3;
    with_clients(2100, |server, fleet| {
        let homes = fleet.homes(server);
        for rekeys in 1..=REKEYS {
            for member in &mut fleet.members {
                member.move_away();
                // The client believes its keys to be old; the router's clock does not matter.
                member.age(REKEY_AFTER + Duration::from_secs(1));
            }
            fleet.ask_all(|_| Ask::Ping);
            fleet.go_on_until("new keys", |member| member.tally.handshakes == 1 + rekeys);
            fleet.ask_all(|_| Ask::Reflect);
        }
        server.await_each(Id::Sessions, &[], &homes);
        assert_eq!(server.sum(Id::SessionsEnded, &[]), 0);
        assert_eq!(server.sum(Id::Dropped, &[Drop::NoSession.label()]), 0);
        // Who had shown an identity still has it, and is found under it.
        fleet.find_each_other(server);
    });
}

#[test]
fn two_initiations_of_one_key_at_the_same_time_are_one_session() {
    with_clients(2200, |server, fleet| {
        let homes = fleet.homes(server);
        let judged = || {
            server.sum(Id::Handshakes, &["ok"]) + server.sum(Id::Handshakes, &["bad_initiation"])
        };
        let (before, moved) = (judged(), server.sum(Id::Moved, &[]));
        // Twins with the same keys, at ports of their own that the kernel's hash tells apart.
        let mut twins = Fleet::new(server, &["127.0.0.1"], CLIENTS, 2200);
        fleet.members.iter_mut().for_each(Member::start_over);
        for (member, twin) in fleet.members.iter_mut().zip(&mut twins.members) {
            for either in [member, twin] {
                either.ask(Ask::Ping);
                either.step(&fleet.clock);
            }
        }
        // The older one of two that arrive the wrong way round is refused.
        eventually("all initiations are looked at", || {
            let judged = judged() - before;
            if judged >= 2 * CLIENTS { Ok(()) } else { Err(format!("{judged} are")) }
        });
        server.await_each(Id::Sessions, &[], &homes);
        assert!(server.sum(Id::Moved, &[]) > moved, "80 initiations do not all arrive at home");
        // Whoever comes last has the session.
        fleet.members.iter_mut().for_each(Member::start_over);
        fleet.ask_all(|_| Ask::Ping);
        server.await_each(Id::Sessions, &[], &homes);
        assert_eq!(server.sum(Id::SessionsEnded, &[]), 0);
    });
}
