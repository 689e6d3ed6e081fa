//! A relay cannot be aimed at anybody: the deny matrix, at every point where an address comes in.

use molia_router::wire::body::{Addrs, RendezvousNotify, RendezvousReq};
use molia_router::wire::{Kind, multiaddr};

use crate::data::{data, path};
use crate::known::{channel, config, join};
use crate::support::Bench;

/// Addresses that nothing is sent to on anybody's word, by what they are.
const FORBIDDEN: [&str; 34] = [
    // This host and no host.
    "9.9.9.9:4000",
    "0.0.0.0:4000",
    "0.1.2.3:4000",
    "127.0.0.1:4000",
    "127.9.9.9:4000",
    // Everybody, and nobody yet.
    "224.0.0.1:4000",
    "239.255.255.255:4000",
    "240.0.0.1:4000",
    "255.255.255.255:4000",
    // Some network's own.
    "10.0.0.1:4000",
    "100.64.0.1:4000",
    "169.254.1.1:4000",
    "172.16.0.1:4000",
    "172.31.255.255:4000",
    "192.0.2.1:4000",
    "192.168.0.1:4000",
    "198.18.0.1:4000",
    "198.51.100.1:4000",
    "203.0.113.1:4000",
    "[::]:4000",
    "[::1]:4000",
    "[100::1]:4000",
    "[2001:db8::1]:4000",
    "[fc00::1]:4000",
    "[fe80::1]:4000",
    "[fec0::1]:4000",
    "[ff02::1]:4000",
    // The same in disguise: mapped, compatible, NAT64, 6to4, Teredo.
    "[::ffff:10.0.0.1]:4000",
    "[::ffff:9.9.9.9]:4000",
    "[::127.0.0.1]:4000",
    "[64:ff9b::127.0.0.1]:4000",
    "[64:ff9b:1::192.168.0.1]:4000",
    "[2002:a00:1::]:4000",
    "[2001:0:1:2:3:4:80ff:fffe]:4000",
];

#[test]
fn no_channel_leads_to_a_forbidden_address() {
    for address in FORBIDDEN {
        let mut bench = Bench::sharded(config(), 3);
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, address);
        let consent = b.consent(None);
        let told = a.allocate(&mut bench, b.id(), &consent);
        a.refusal(&told);
        let consent = a.consent(None);
        let told = b.allocate(&mut bench, a.id(), &consent);
        b.refusal(&told);
    }
}

#[test]
fn no_leg_can_be_moved_to_one() {
    for address in FORBIDDEN {
        let mut bench = Bench::sharded(config(), 3);
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        b.peer.move_to(address);
        let ping = b.peer.seal_ping();
        bench.deliver(b.peer.path(), &ping);
        // Even what it would be owed there.
        bench.deliver(path(address), &data(&of_b, 1200, 1));
        for bytes in [40, 100, 1232] {
            let left = bench.deliver(path("1.1.1.1:4000"), &data(&of_a, bytes, 1));
            assert!(left.is_empty(), "{address}: {left:?}");
        }
    }
}

#[test]
fn nobody_is_introduced_at_one() {
    let mut bench = Bench::sharded(config(), 3);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    for (correlation, hints) in (1..).zip(FORBIDDEN.chunks(8)) {
        bench.advance(1_000_000_000);
        let addrs: Vec<_> =
            hints.iter().map(|addr| multiaddr::encode(addr.parse().unwrap())).collect();
        let request = RendezvousReq {
            target: b.id(),
            candidates: Addrs::of(&addrs),
            nat_mapping: 0,
            nat_filtering: 0,
            consent: &[],
        };
        let told =
            a.request(&mut bench, Kind::RendezvousReq, correlation, |body| request.write(body));
        let [(_, notice)] = &told[..] else { panic!("one notice, not {}", told.len()) };
        let (_, body) = b.peer.frame(notice);
        let candidates: Vec<_> =
            RendezvousNotify::read(&body).unwrap().candidates.sockets().collect();
        assert_eq!(candidates, ["1.1.1.1:4000".parse().unwrap()]);
    }
}

/// Whoever does not sit at a leg's address gets nothing through, whatever they know.
#[test]
fn forged_sources_get_nothing_through() {
    let mut bench = Bench::sharded(config(), 3);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
    let forged = FORBIDDEN.iter().copied().chain([
        "1.1.1.1:4001",
        "1.1.1.2:4000",
        "3.3.3.3:4000",
        "[::ffff:1.1.1.2]:4000",
        "[2606:4700::1]:4000",
    ]);
    for address in forged {
        for leg in [&of_a, &of_b] {
            let left = bench.deliver(path(address), &data(leg, 100, 1));
            assert!(left.is_empty(), "{address}");
        }
    }
    assert_eq!(bench.deliver(path("1.1.1.1:4000"), &data(&of_a, 100, 1)).len(), 1);
}
