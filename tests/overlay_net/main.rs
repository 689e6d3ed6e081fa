//! An overlay of 200 nodes under churn, in simulated time: each is the production router and, with the
//! client library, a client of the others. Sessions, listing, lookups and publishing are all real; only
//! the cryptography of the tunnel and the network are simulated.
//!
//! Each minute 30 % of the nodes leave without a word and as many join. Keys are kept by the eight
//! nodes closest to them and published again by their owners, see [`node`]. Lookups from random nodes have
//! to find the verified value, 99 % of them, and 95 % within a second.
//!
//! `MOLIA_OVERLAY_SEEDS=N` runs N seeds; `MOLIA_OVERLAY_SEED=X` runs the one of X and tells of every
//! lookup that failed. Whatever a seed shows, it shows again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "of the other simulation, which uses all of it")]
#[path = "../sim/dice.rs"]
mod dice;
#[allow(dead_code, reason = "of the other simulation, which uses all of it")]
#[path = "../sim/keys.rs"]
mod keys;
mod network;
mod node;
#[allow(dead_code, reason = "of the other simulation, which uses all of it")]
#[path = "../sim/plain.rs"]
mod plain;
mod report;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use report::Report;
use world::World;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 2;
/// The seed whose nodes take stamps for writes, of so many bits.
const STAMPED: (u64, u32) = (1, 4);

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn run(seed: u64, trace: bool) -> Report {
    let stamp_bits = if seed == STAMPED.0 { STAMPED.1 } else { 0 };
    World::new(seed, stamp_bits, trace).run()
}

fn good(seed: u64, trace: bool) -> Report {
    let report = run(seed, trace);
    eprintln!("seed {seed}: {report}");
    if let Err(what) = report.check() {
        panic!(
            "seed {seed}: {what}\nreplay: MOLIA_OVERLAY_SEED={seed} cargo test --test overlay_net values -- --nocapture"
        );
    }
    report
}

#[test]
fn values_are_found_while_nodes_come_and_go() {
    if let Some(seed) = env("MOLIA_OVERLAY_SEED") {
        good(seed, true);
        return;
    }
    let seeds = env("MOLIA_OVERLAY_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            good(seed, false);
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

#[test]
fn a_seed_goes_the_same_way_twice() {
    let short = |seed| World::new(seed, 0, false).until_s(45).run();
    let (first, second) = (short(7), short(7));
    assert_eq!(first, second);
}
