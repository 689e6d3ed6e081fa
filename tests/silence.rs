//! Garbage gets nothing: no byte back, no memory, no matter how much of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use molia_router::net::{Datagram, Local, Path, Transmit};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use support::{Bench, now};

/// Promise A1. `MOLIA_SILENCE_DATAGRAMS` changes the number.
const DATAGRAMS: u64 = 10_000_000;
/// Bytes of an initiation that its mac1 covers, mac1 included.
const INITIATION_COVERED: usize = 132;

fn datagrams() -> u64 {
    let wanted = std::env::var("MOLIA_SILENCE_DATAGRAMS");
    wanted.ok().and_then(|text| text.parse().ok()).unwrap_or(DATAGRAMS)
}

/// Writes the `n`-th piece of garbage into `out` and returns its length: every first byte at every
/// length by turns, and mutations of what a real peer would send.
fn garbage(n: u64, rng: &mut ChaCha8Rng, initiation: &[u8], data: &[u8], out: &mut [u8]) -> usize {
    let draw = usize::try_from(rng.next_u32()).unwrap();
    match n % 4 {
        0 | 1 => {
            let len = usize::try_from(n / 1024 % 1501).unwrap();
            rng.fill_bytes(&mut out[..len.min(64)]);
            if let Some(first) = out[..len].first_mut() {
                *first = u8::try_from(n / 4 % 256).unwrap();
            }
            len
        }
        2 => {
            out[..initiation.len()].copy_from_slice(initiation);
            let bit = draw % (INITIATION_COVERED * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            initiation.len()
        }
        _ => {
            out[..data.len()].copy_from_slice(data);
            let bit = draw % (data.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            data.len()
        }
    }
}

#[test]
fn ten_million_datagrams_of_garbage_bring_nothing_back() {
    let mut bench = Bench::new();
    let mut peer = bench.peer("192.0.2.1:1000");
    let initiation = peer.initiation();
    bench.connect(&mut peer);
    let data = peer.seal_ping();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let stranger: SocketAddr = "203.0.113.9:999".parse().unwrap();
    let path = Path { peer: stranger, local: Local::default() };
    let mut sent_back = 0usize;
    let count = datagrams();
    let memory = allocation_counter::measure(|| {
        for n in 0..count {
            let mut buf = bench.receive_slot();
            let len = garbage(n, &mut rng, &initiation, &data, buf.spare_mut());
            buf.grow(len);
            let datagram = Datagram { path, segment: buf.len(), buf };
            let clock = now(10_000_000_000 + n * 1000);
            bench
                .router
                .receive(clock, datagram, &mut |sent: Transmit| sent_back += sent.buf.len());
            bench.router.transmit(clock, &mut |sent: Transmit| sent_back += sent.buf.len());
        }
    });
    assert_eq!(sent_back, 0, "bytes sent to a stranger");
    assert_eq!(memory.count_total, 0, "allocations");
    assert!(bench.all_slots_home());
    bench.assert_still_serves(&mut peer);
}

#[test]
fn a_bad_mac1_costs_no_work_on_the_curve() {
    let mut bench = Bench::new();
    let mut peer = bench.peer("192.0.2.1:1000");
    let before = bench.router.curve_operations();
    for bit in 0..INITIATION_COVERED * 8 {
        let mut initiation = peer.initiation();
        initiation[bit / 8] ^= 1 << (bit % 8);
        assert!(bench.deliver(peer.path(), &initiation).is_empty());
    }
    assert_eq!(bench.router.curve_operations(), before);
}
