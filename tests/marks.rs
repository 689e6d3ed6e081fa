//! What the router marks for the network: control, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use molia_router::identity::Identity;
use molia_router::net::{Datagram, Transmit};
use molia_router::router::Config;
use molia_router::wire::body::{FindNodeReq, Ping};
use molia_router::wire::{Class, Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::{Bench, Peer};

/// Lets `bytes` of `peer` arrive. The marks of what leaves for it.
fn marks(bench: &mut Bench, peer: &Peer, bytes: &[u8]) -> Vec<u8> {
    let mut buf = bench.receive_slot();
    assert!(buf.extend(bytes));
    let datagram = Datagram { path: peer.path(), segment: buf.len(), buf };
    bench.advance(1_000_000);
    let (now, mut marks) = (bench.now, Vec::new());
    let mut send = |transmit: Transmit| marks.push(transmit.dscp);
    bench.router.receive(now, datagram, &mut send);
    bench.router.transmit(now, &mut send);
    marks
}

fn ping(peer: &mut Peer, class: Class) -> Vec<u8> {
    peer.seal(Header::request(Kind::Ping, 1).in_class(class), |body| Ping::default().write(body))
}

fn find_node(peer: &mut Peer) -> Vec<u8> {
    let target_id = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1)).peer_id();
    let request = FindNodeReq { target_id, limit: 1 };
    peer.seal(Header::request(Kind::FindNodeReq, 2), |body| request.write(body))
}

#[test]
fn control_is_marked_and_nothing_else() {
    for dscp in [46, 10, 0] {
        let mut bench = Bench::with(Config { dscp_control: dscp, ..Config::default() });
        let mut peer = bench.peer("192.0.2.7:4000");
        let initiation = peer.initiation();
        assert_eq!(marks(&mut bench, &peer, &initiation), [dscp], "a handshake's response");

        let mut peer = bench.peer("192.0.2.8:4000");
        bench.connect(&mut peer);
        let control = ping(&mut peer, Class::Control);
        assert_eq!(marks(&mut bench, &peer, &control), [dscp]);
        let coordination = find_node(&mut peer);
        assert_eq!(marks(&mut bench, &peer, &coordination), [0]);
        // Who lowers its own priority gets no more for it on the way back.
        let lowered = ping(&mut peer, Class::Hints);
        assert_eq!(marks(&mut bench, &peer, &lowered), [0]);

        bench.advance(30_000_000_000);
        let (now, mut due) = (bench.now, Vec::new());
        bench
            .router
            .poll(now, &mut |transmit: Transmit| due.push((transmit.buf.len(), transmit.dscp)));
        assert_eq!(due, [(32, dscp)], "a keepalive");
    }
}
