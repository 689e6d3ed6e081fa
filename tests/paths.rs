//! What the router learns of its peers' NATs outlives it, and sets the pace of keepalives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::num::NonZeroU16;

use molia_router::identity::Identity;
use molia_router::ids::PeerId;
use molia_router::router::{Config, Cursor, Keeping};
use molia_router::wire::body::{Addrs, RendezvousReq};
use molia_router::wire::{Header, Kind};
use peerstore::record::{NatBehaviour, PathFacts};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use support::{Bench, Peer};

const HOME: &str = "1.1.1.1:4000";

fn bench() -> Bench {
    let mut config = Config::default();
    (config.tunnel.sessions_max, config.egress.sessions_max) = (64, 64);
    config.records.keeping = Keeping::Store;
    let mut bench = Bench::with(config);
    bench.router.store_room(usize::MAX);
    bench
}

fn join(bench: &mut Bench) -> Peer {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(5));
    bench.identified(&identity, HOME)
}

/// What was written to the store since the last time.
fn written(bench: &mut Bench) -> Vec<PathFacts> {
    let (mut facts, now) = (Vec::new(), bench.now);
    bench.router.take_changes(now, |record| {
        if let peerstore::Record::PathFacts(it) = record {
            facts.push(*it);
        }
    });
    facts
}

fn say(bench: &mut Bench, peer: &mut Peer, correlation: u32, mapping: u32, filtering: u32) {
    let request = RendezvousReq {
        target: PeerId([9; 32]),
        candidates: Addrs::NONE,
        nat_mapping: mapping,
        nat_filtering: filtering,
        consent: &[],
    };
    let header = Header::request(Kind::RendezvousReq, correlation);
    let sealed = peer.seal(header, |body| request.write(body));
    bench.deliver(peer.path(), &sealed);
}

#[test]
fn what_a_peer_says_of_its_nat_is_kept() {
    let mut bench = bench();
    let mut peer = join(&mut bench);
    written(&mut bench);
    say(&mut bench, &mut peer, 2, 1, 3);
    let facts = written(&mut bench);
    let [first] = facts[..] else { panic!("one record, not {}", facts.len()) };
    assert_eq!(first.mapping, Some(NatBehaviour::EndpointIndependent));
    assert_eq!(first.filtering, Some(NatBehaviour::AddressAndPortDependent));
    say(&mut bench, &mut peer, 3, 1, 0);
    assert_eq!(written(&mut bench), [], "nothing new");
    say(&mut bench, &mut peer, 4, 3, 0);
    let facts = written(&mut bench);
    assert_eq!(facts[0].mapping, Some(NatBehaviour::AddressAndPortDependent));
    assert_eq!(facts[0].filtering, first.filtering, "what it does not say stays");

    // Another life has it back, and hands it on to the next snapshot.
    let mut next = self::bench();
    let now = next.now;
    assert!(next.router.restore(now, &peerstore::Record::PathFacts(facts[0])));
    let (mut walked, mut cursor) = (Vec::new(), Cursor::Start);
    while cursor != Cursor::End {
        cursor = next.router.walk(now, cursor, |record| {
            if let peerstore::Record::PathFacts(it) = record {
                walked.push(*it);
            }
            true
        });
    }
    assert_eq!(walked, facts);
}

#[test]
fn a_mapping_that_lapsed_is_noticed() {
    let mut bench = bench();
    let mut peer = join(&mut bench);
    written(&mut bench);
    // The same host at once from another port: a restart, or a rebinding, but no lapse.
    peer.move_to("1.1.1.1:4001");
    let ping = peer.seal_ping();
    bench.deliver(peer.path(), &ping);
    assert_eq!(written(&mut bench), []);
    // After half a minute of silence.
    bench.advance(36_000_000_000);
    peer.move_to("1.1.1.1:4002");
    let ping = peer.seal_ping();
    bench.deliver(peer.path(), &ping);
    let facts = written(&mut bench);
    assert_eq!(facts[0].mapping_lifetime_s, NonZeroU16::new(36));
    // It changed networks: that says nothing of the mapping.
    bench.advance(9_000_000_000);
    peer.move_to("5.5.5.5:4002");
    let ping = peer.seal_ping();
    bench.deliver(peer.path(), &ping);
    assert_eq!(written(&mut bench), []);
}
