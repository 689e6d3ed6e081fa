//! The routing table names addresses that their peers proved to be at, and no others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::overlay::table::RETURN_WITHIN;
use molia_router::router::RestoredPeer;
use molia_router::wire::body::{Addrs, Entry, FindNodeReq, NegotiateReq, Peer as Named, Ping};
use molia_router::wire::{Header, Kind, multiaddr};
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

/// The `Peer` message of an earlier life.
fn message(peer_id: PeerId, wg_public: WgKey, at: &str) -> Vec<u8> {
    let addrs = [multiaddr::encode(at.parse().unwrap())];
    let peer = Named { peer_id, addrs: Addrs::of(&addrs), rtt_ms: 0, wg_public, flags: 0 };
    Entry::encode(&peer).unwrap().as_ref().to_vec()
}

/// Restores `identity` at `HOME`, as known for an hour and heard of a minute ago.
fn restore(bench: &mut Bench, identity: &Identity, encoded: &[u8]) -> bool {
    let unix_s = bench.now.unix_s();
    let (met_unix_s, heard_unix_s) = (unix_s - 3660, unix_s - 60);
    let (id, key) = (identity.peer_id(), identity.wg_key());
    let now = bench.now;
    bench.router.restore_peer(now, &RestoredPeer { id, key, encoded, met_unix_s, heard_unix_s })
}

#[test]
fn a_restored_peer_is_found_until_its_session_takes_over_and_ends() {
    let (mut bench, mut peer, mut asking, identity) = world();
    let encoded = message(identity.peer_id(), identity.wg_key(), HOME);
    assert!(restore(&mut bench, &identity, &encoded));
    assert!(!restore(&mut bench, &identity, &encoded), "it is listed already");
    assert_eq!(found(&mut bench, &mut asking, &identity), [HOME]);
    negotiate(&mut bench, &mut peer, &identity);
    let met = |bench: &Bench| {
        let table = bench.router.table();
        table.iter_down(bench.now, table.len()).next().map(|known| known.entry.met_unix_s)
    };
    assert_eq!(met(&bench), Some(bench.now.unix_s() - 3660), "it was met in an earlier life");
    bench.advance(nanos(RETURN_WITHIN));
    bench.due();
    assert_eq!(met(&bench), None, "nobody kept the session alive");
}

#[test]
fn a_restored_peer_that_does_not_come_back_is_forgotten() {
    let (mut bench, _, mut asking, identity) = world();
    let encoded = message(identity.peer_id(), identity.wg_key(), HOME);
    assert!(restore(&mut bench, &identity, &encoded));
    let by = bench.now.at + RETURN_WITHIN;
    bench.advance(nanos(RETURN_WITHIN) - 30_000_000);
    bench.due();
    bench.connect(&mut asking);
    assert_eq!((bench.router.table().len(), bench.router.next_deadline().min(by)), (1, by));
    bench.due();
    assert!(bench.router.table().is_empty());
    assert!(found(&mut bench, &mut asking, &identity).is_empty());
}

#[test]
fn what_cannot_have_been_listed_is_not_restored() {
    let (mut bench, _, _, identity) = world();
    let other = Identity::generate(&mut ChaCha20Rng::seed_from_u64(10));
    let (id, key) = (identity.peer_id(), identity.wg_key());
    let nowhere = Named { peer_id: id, wg_public: key, addrs: Addrs::NONE, rtt_ms: 0, flags: 0 };
    let cut = message(id, key, HOME);
    for wrong in [
        &message(other.peer_id(), key, HOME)[..],
        &message(id, other.wg_key(), HOME),
        Entry::encode(&nowhere).unwrap().as_ref(),
        &cut[..cut.len() - 1],
        b"",
    ] {
        assert!(!restore(&mut bench, &identity, wrong), "{wrong:02x?}");
    }
    assert!(restore(&mut bench, &identity, &cut));
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// Addresses in the answer to a FIND_NODE for `limit` peers that comes in one frame.
fn found_near(bench: &mut Bench, asking: &mut Peer, target_id: PeerId, limit: u32) -> Vec<String> {
    let request = FindNodeReq { target_id, limit };
    let sealed = asking.seal(Header::request(Kind::FindNodeReq, 2), |body| request.write(body));
    let sent = bench.deliver(asking.path(), &sealed);
    asking.found(&sent.last().unwrap().1)
}

#[test]
fn half_of_an_answer_changes_from_one_to_the_next_and_is_of_use() {
    let mut bench = Bench::new();
    for n in 0..40_u8 {
        let home =
            if n % 2 == 0 { format!("9.9.{n}.1:7743") } else { format!("[2600:{n:x}::1]:7743") };
        bench.list_peer(n.into(), &home);
        // Known networks only: a turn answers a limited number of strangers.
        bench.advance(100_000_000);
    }
    let mut asking = bench.peer("8.8.8.8:5000");
    bench.connect(&mut asking);
    bench.advance(1_000_000_000);
    let target = PeerId([7; 32]);
    let first = found_near(&mut bench, &mut asking, target, 8);
    let second = found_near(&mut bench, &mut asking, target, 8);
    assert_eq!((first.len(), &first[..4]), (8, &second[..4]));
    assert!(first[4..].iter().all(|at| !second[4..].contains(at)), "{first:?} {second:?}");
    let drawn = first[4..].iter().chain(&second[4..]);
    assert!(drawn.clone().all(|at| at.starts_with("9.9.")), "IPv4 for IPv4: {first:?} {second:?}");
}
