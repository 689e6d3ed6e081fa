//! The routing table names addresses that their peers proved to be at, and no others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use molia_router::identity::Identity;
use molia_router::wire::body::{FindNodeReq, NegotiateReq, Ping};
use molia_router::wire::{Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::{Bench, Peer};

const HOME: &str = "192.0.2.7:4000";
const VICTIM: &str = "203.0.113.80:53";

/// Sends a NEGOTIATE that shows `identity`; its answer is of no interest.
fn negotiate(bench: &mut Bench, peer: &mut Peer, identity: &Identity) {
    let binding = Some(identity.binding(0, u64::from(u32::MAX)));
    let request = NegotiateReq { binding, ..NegotiateReq::default() };
    let sealed = peer.seal(Header::request(Kind::NegotiateReq, 1), |body| request.write(body));
    bench.deliver(peer.path(), &sealed);
}

/// Where the router says that `identity` is.
fn found(bench: &mut Bench, asking: &mut Peer, identity: &Identity) -> Vec<String> {
    let request = FindNodeReq { target_id: identity.peer_id(), limit: 1 };
    let sealed = asking.seal(Header::request(Kind::FindNodeReq, 2), |body| request.write(body));
    let sent = bench.deliver(asking.path(), &sealed);
    asking.found(&sent.last().unwrap().1)
}

fn world() -> (Bench, Peer, Peer, Identity) {
    let mut bench = Bench::new();
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(9));
    let mut peer = bench.peer_with(identity.wg_secret().clone(), HOME);
    let mut asking = bench.peer("127.0.0.1:5000");
    bench.connect(&mut peer);
    bench.connect(&mut asking);
    (bench, peer, asking, identity)
}

#[test]
fn one_authentic_datagram_with_a_forged_source_lists_nobody() {
    let (mut bench, mut peer, mut asking, identity) = world();
    peer.move_to(VICTIM);
    negotiate(&mut bench, &mut peer, &identity);
    assert!(found(&mut bench, &mut asking, &identity).is_empty());
    // Again, as a repeat of a binding that is known.
    negotiate(&mut bench, &mut peer, &identity);
    assert!(found(&mut bench, &mut asking, &identity).is_empty());
    // A listed peer stays where it proved to be.
    peer.move_to(HOME);
    negotiate(&mut bench, &mut peer, &identity);
    assert_eq!(found(&mut bench, &mut asking, &identity), [HOME]);
    peer.move_to(VICTIM);
    negotiate(&mut bench, &mut peer, &identity);
    assert_eq!(found(&mut bench, &mut asking, &identity), [HOME]);
}

#[test]
fn a_peer_that_answers_from_its_new_address_is_listed_there() {
    let (mut bench, mut peer, mut asking, identity) = world();
    negotiate(&mut bench, &mut peer, &identity);
    peer.move_to("192.0.2.8:4001");
    let ping = Ping { now_unix_ms: 1, padding: &[0; 200], token: 1 };
    let sealed = peer.seal(Header::request(Kind::Ping, 3), |body| ping.write(body));
    bench.deliver(peer.path(), &sealed);
    assert_eq!(found(&mut bench, &mut asking, &identity), [HOME]);
    for challenge in bench.due() {
        if let Some(pong) = peer.pong(&challenge) {
            bench.deliver(peer.path(), &pong);
        }
    }
    assert_eq!(found(&mut bench, &mut asking, &identity), ["192.0.2.8:4001"]);
}
