//! Whom a write is charged to: never the source of a datagram, which anybody can forge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use molia_router::counters::layout::Id;
use molia_router::identity::Identity;
use molia_router::ids::Key;
use molia_router::overlay::records::Share;
use molia_router::router::Config;
use molia_router::wire::body::{Record, StoreReq, Writer};
use molia_router::wire::{Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::{Bench, Peer};

/// A peer that connected from `address` and showed who it is.
fn identified(bench: &mut Bench, seed: u64, address: &str) -> Peer {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(seed));
    bench.identified(&identity, address)
}

fn store(bench: &mut Bench, peer: &mut Peer, correlation: u32) {
    let value = correlation.to_be_bytes();
    let record = Record {
        key: Key::of_value(&value),
        value: &value,
        sequence: 0,
        ttl_secs: 3600,
        not_before_unix: 0,
        owner_pubkey: None,
        signature: None,
        salt: &[],
    };
    let mut encoded = [0; 128];
    let mut out = Writer::new(&mut encoded);
    record.write(&mut out).unwrap();
    let len = out.len();
    let request = StoreReq { record: &encoded[..len], ..StoreReq::default() };
    let header = Header::request(Kind::StoreReq, correlation);
    let sealed = peer.seal(header, |body| request.write(body));
    bench.deliver(peer.path(), &sealed);
}

#[test]
fn a_forged_source_uses_up_nobodys_share() {
    let mut config = Config::default();
    config.tunnel.sessions_max = 64;
    config.egress.sessions_max = 64;
    config.records.stamp_bits = 0;
    config.records.table.values.network = Share { entries: 1, bytes: 1 << 20 };
    let mut bench = Bench::with(config);
    let mut forger = identified(&mut bench, 1, "8.1.1.1:4000");
    let mut victim = identified(&mut bench, 2, "9.9.9.7:4000");
    // In the name of the victim's network: each counts against the forger's own.
    forger.move_to("9.9.9.80:53");
    store(&mut bench, &mut forger, 2);
    store(&mut bench, &mut forger, 3);
    store(&mut bench, &mut victim, 4);
    let counted =
        |result| bench.router.counters().snapshot().value(Id::Written, &[result]).unwrap();
    // The forger's first and the victim's; the forger's second is above its own network's share.
    assert_eq!((counted("stored"), counted("network_share")), (2, 1));
}
