//! A deterministic world around the production router and its shards: simulated time, network and
//! mail, honest and hostile clients, and checks of everything the router promises.
//!
//! `MOLIA_SIM_SEEDS=N` runs N worlds, of the seeds from 0 or from `MOLIA_SIM_FIRST` on;
//! `MOLIA_SIM_SEED=X` runs the one of X with a trace of what happens. Whatever a seed shows, it shows again.

mod conspiracy;
mod dice;
mod edits;
mod frames;
mod group;
mod honest;
mod hostile;
mod insider;
mod keep;
mod keeper;
mod keys;
mod listing;
mod network;
mod pairing;
mod plain;
mod post;
mod promises;
mod saboteur;
mod scenario;
mod shard;
mod split;
mod tally;
mod tap;
mod vault;
mod verdict;
mod views;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use molia_router::drops::Drop;
use molia_router::time::Moment;

use saboteur::{Fault, Saboteur};
use scenario::Scenario;
use verdict::{Oracle, Violation, ensure};
use world::{Report, World};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 20;

/// Reasons that no seed can show here.
const UNREACHABLE: [(Drop, &str); 6] = [
    (Drop::StunMalformed, "no world serves STUN"),
    (Drop::StunRate, "no world serves STUN"),
    (Drop::RelayCookie, "no world has ports for unmodified WireGuard peers"),
    (Drop::RelayUnbound, "no world has ports for unmodified WireGuard peers"),
    (Drop::SendFailed, "counted by the port, and there is none"),
    (Drop::TooLarge, "every answer is made to fit"),
];

/// What few seeds show: a session ends 30 s after its last key, and nothing waits that long, but one
/// in a hundred worlds takes a session's place away while answers wait for it.
const RARE: [Drop; 2] = [Drop::SessionGone, Drop::ExpiredKeys];

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn run(seed: u64, saboteur: Option<Saboteur>, trace: bool) -> Result<Report, Violation> {
    World::new(Scenario::of(seed), saboteur, trace).run()
}

/// The report of a seed's world; ends the test if it went wrong.
fn good(seed: u64, trace: bool) -> Report {
    let report = run(seed, None, trace);
    report.unwrap_or_else(|violation| {
        panic!(
            "seed {seed}: {violation}\nreplay: MOLIA_SIM_SEED={seed} cargo test --test sim worlds -- --nocapture"
        )
    })
}

/// The reports of all `seeds`, made by as many threads as there are cores.
fn all(seeds: Range<u64>) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return reports;
            }
            reports.push((seed, good(seed, false)));
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let mut reports: Vec<(u64, Report)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no world went wrong")).collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Whether some world shows `drop`.
fn shown(reports: &[Report], drop: Drop) -> bool {
    let at = Drop::ALL.iter().position(|known| *known == drop).expect("all are known");
    reports.iter().any(|report| report.drops[at] > 0)
}

#[test]
fn worlds_hold_their_promises_and_show_every_drop() {
    if let Some(seed) = env("MOLIA_SIM_SEED") {
        return eprintln!("{:?}", good(seed, true));
    }
    let seeds = env("MOLIA_SIM_SEEDS").unwrap_or(SEEDS);
    let first = env("MOLIA_SIM_FIRST").unwrap_or(0);
    let reports = all(first..first + seeds);
    if seeds < SEEDS {
        return;
    }
    for drop in Drop::ALL {
        let unreachable = UNREACHABLE.iter().find(|(it, _)| it == drop);
        match (shown(&reports, *drop), unreachable) {
            (false, None) if RARE.contains(drop) => {}
            (false, None) => panic!("no seed shows {drop:?}"),
            (true, Some((_, why))) => panic!("a seed shows {drop:?}, but {why}"),
            (true, None) | (false, Some(_)) => {}
        }
    }
}

/// What was mended after these seeds showed it: each breaks again without its cure.
#[test]
fn seeds_that_went_wrong_once_go_well() {
    // A peer that lost its place in the table says again who it is, and is listed.
    for seed in [285, 377] {
        let world = World::new(Scenario::without_values(seed), None, false);
        world.run().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

/// The same for worlds in which peers reach each other.
#[test]
fn seeds_that_relayed_badly_once_go_well() {
    // What waits is counted when it is dropped; and does not keep a shard busy whose link is full.
    for seed in [2, 67] {
        good(seed, false);
    }
}

/// The same for worlds in which values are kept.
#[test]
fn seeds_that_lost_values_once_keep_them() {
    // A value that was replaced does not come back when what replaced it has expired.
    for seed in [11, 35] {
        let world = World::new(Scenario::without_pairs(seed), None, false);
        world.run().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

/// Runs a world twice, with `saboteurs`, and compares.
fn twice(seed: u64, saboteurs: [Option<Saboteur>; 2]) -> Result<(), Violation> {
    let [first, second] = saboteurs.map(|saboteur| run(seed, saboteur, false));
    let (first, second) = (first?, second?);
    ensure(first == second, Oracle::Determinism, Moment::NEVER, || format!("{first:?}, {second:?}"))
}

#[test]
fn a_seed_goes_the_same_way_twice() {
    for seed in [1, 2] {
        twice(seed, [None, None]).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn every_oracle_catches_its_fault() {
    let catch = |fault, seed| {
        if fault == Fault::Whim {
            return twice(seed, [false, true].map(|whim| Some(Saboteur::new(fault, whim))));
        }
        run(seed, Some(Saboteur::new(fault, true)), false).map(|_| ())
    };
    let mut missed = Vec::new();
    for (fault, oracle) in Fault::ALL {
        let caught = (0..12).find_map(|seed| catch(fault, seed).err());
        if caught.as_ref().map(|violation| violation.oracle) != Some(oracle) {
            missed.push(format!("{fault:?} is for {oracle:?}, not {caught:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
