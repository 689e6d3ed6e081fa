//! A router of one, two and three shards serves everybody alike: whatever the engine, the family,
//! and the socket that the kernel chose for a datagram.

use std::time::Duration;

use molia_router::counters::layout::Id;
use molia_router::drops::Drop;
use molia_router::port::EngineChoice;

use super::fleet::{Ask, Fleet, Member};
use super::server::{Server, Shape, engines, eventually};

const CLIENTS: u64 = 60;
/// Until everybody who has shown an identity is listed.
const LISTED_WITHIN: Duration = Duration::from_millis(200);

#[test]
fn peers_of_ipv4_are_served_by_every_number_of_shards() {
    in_every_shape("127.0.0.1:0", &["127.0.0.1"]);
}

#[test]
fn peers_of_ipv6_are_served_by_every_number_of_shards() {
    in_every_shape("[::1]:0", &["::1"]);
}

#[test]
fn peers_of_both_families_are_served_by_every_number_of_shards() {
    in_every_shape("[::]:0", &["127.0.0.1", "::1"]);
}

fn in_every_shape(listen: &'static str, hosts: &[&str]) {
    for &engine in engines() {
        for (shards, steer) in [(1, true), (2, true), (2, false), (3, true), (3, false)] {
            serves_everybody(Shape { engine, listen, shards, steer }, hosts);
        }
    }
}

fn serves_everybody(shape: Shape, hosts: &[&str]) {
    let server = Server::with(shape).unwrap();
    let mut fleet = Fleet::connected(&server, hosts, CLIENTS, 1000);
    let homes = fleet.homes(&server);
    assert!(homes.iter().all(|clients| *clients > 0), "{homes:?}");
    fleet.go_on(LISTED_WITHIN, |_| {});
    fleet.find_each_other(&server);
    fleet.ask_all(|_| Ask::Ping);
    fleet.ask_all(|_| Ask::Reflect);

    // A session in its peer's home and none anywhere else.
    server.await_each(Id::Sessions, &[], &homes);
    // All data came to its session, and to no other shard's.
    server.await_each(Id::Decrypts, &["ok"], &fleet.by_home(&server, |member| member.tally.data));
    assert_eq!(server.sum(Id::Dropped, &[Drop::NoSession.label()]), 0);
    let forwarded = server.sum(Id::Forwarded, &[]);
    let stray = !shape.steer && shape.shards > 1;
    assert_eq!(forwarded > 0, stray, "{forwarded} datagrams forwarded in {shape:?}");
    // What another shard was sent it took; nobody passed it on.
    let moved = server.sum(Id::Moved, &[]);
    assert_eq!(moved > 0, shape.shards > 1, "60 initiations do not all arrive at home");
    eventually("mail arrives once", || {
        let [sent, received] =
            [Id::MailSent, Id::MailReceived].map(|id| server.sum(id, &["coordination"]));
        let all = forwarded + moved;
        if [sent, received] == [all; 2] { Ok(()) } else { Err(format!("{sent} {received} {all}")) }
    });
    server.stop();
}

#[test]
fn a_router_without_work_uses_no_cpu() {
    const SPAN: Duration = Duration::from_secs(3);
    for &engine in engines() {
        let shape = Shape { engine, listen: "127.0.0.1:0", shards: 2, steer: true };
        let server = Server::with(shape).unwrap();
        let mut fleet = Fleet::connected(&server, &["127.0.0.1"], 10, 1200);
        // What is published and due after that.
        fleet.go_on(Duration::from_millis(300), |_| {});
        let before = server.shards().cpu_ns();
        fleet.go_on(SPAN, |_| {});
        let used = Duration::from_nanos(server.shards().cpu_ns() - before);
        println!("{engine:?}: {used:?} of CPU time in {SPAN:?}");
        assert!(used < SPAN / 100, "{engine:?}: {used:?} of CPU time in {SPAN:?}");
        assert!(fleet.members.iter().all(Member::is_quiet));
        server.stop();
    }
}

#[test]
fn an_engine_that_is_asked_for_runs_in_every_shard() {
    let listen = "127.0.0.1:0";
    for (choice, label) in [(EngineChoice::IoUring, "io_uring"), (EngineChoice::Mmsg, "recvmmsg")] {
        let shape = Shape { engine: choice, listen, shards: 3, steer: true };
        // Where io_uring is forbidden there is nothing to see.
        let Ok(server) = Server::with(shape) else { continue };
        server.await_each(Id::Io, &[label], &[1; 3]);
        server.stop();
    }
}
