//! Power cuts: whatever was acknowledged is there, whatever was not written is not.

use std::env;

use peerstore::storage::Storage;
use peerstore::storage::sim::{Cut, SimDir};

use crate::workload::{Plan, Tally, World};

/// How many seeds are tried unless the environment says otherwise.
const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Some lives, each of which ends in a power cut, the last of them early.
pub(crate) fn lives<S: Storage>(seed: u64, wrap: impl Fn(SimDir) -> S) -> Result<Tally, String> {
    let mut world = World::new(seed, wrap);
    let refusals = seed % 3 == 2;
    for _ in 0..5 {
        let steps = 10 + world.draw.below(150);
        // Either early, in what opening does, or anywhere; or when all is done.
        let within = world.draw.of(&[8, 100, 100, 300]);
        world.cut_within(within);
        world.live(Plan { steps, refusals })?;
        world.crash()?;
    }
    Ok(world.tally)
}

#[test]
fn what_was_acknowledged_outlives_power_cuts() {
    let seeds = match number("MOLIA_STORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MOLIA_STORE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(error) = lives(seed, |dir| dir) {
            panic!("MOLIA_STORE_SEED={seed}: {error}");
        }
    }
}

#[test]
fn a_life_has_everything_in_it() {
    let mut sum = Tally::default();
    for seed in 0..300 {
        let tally = lives(seed, |dir| dir).expect("it holds");
        sum.changes += tally.changes;
        sum.snapshots += tally.snapshots;
        sum.retries += tally.retries;
        sum.kills += tally.kills;
        sum.cuts += tally.cuts;
        sum.torn += tally.torn;
        sum.corrupt += tally.corrupt;
    }
    let Tally { changes, snapshots, retries, kills, cuts, torn, corrupt } = sum;
    let enough = changes > 10_000 && snapshots > 500 && retries > 100 && kills > 500;
    assert!(enough && cuts > 500 && torn > 100 && corrupt > 0, "{sum:?}");
}

/// A hundred thousand operations on a disk that is never cut, and often refuses.
#[test]
fn a_long_life_ends_well() {
    let mut world = World::new(77, |dir| dir);
    world.live(Plan { steps: 100_000, refusals: true }).expect("it goes on");
    world.crash().expect("and all of it is there");
    assert!(world.tally.snapshots > 1000, "{:?}", world.tally);
}

/// Short lives, cut at every operation in every way, and what recovery of them does likewise.
#[test]
fn no_moment_is_a_bad_one() {
    for seed in 0..12 {
        let plan = Plan { steps: 40, refusals: seed % 3 == 2 };
        let mut whole = World::new(seed, |dir| dir);
        whole.live(plan).expect("nothing is cut");
        let operations = whole.disk.operations();
        for (at, cut) in (0..operations).flat_map(|at| Cut::ALL.map(|cut| (at, cut))) {
            let mut world = World::new(seed, |dir| dir);
            world.disk.cut_at(at, cut);
            let lived = world.live(plan).and_then(|()| world.crash());
            lived.unwrap_or_else(|error| panic!("seed {seed}, {cut:?} {at}: {error}"));
            world.disk.cut_at(u64::from(at % 6 == 0) * (at / 6 % 8), cut);
            let again = world.live(plan).and_then(|()| world.crash());
            again.unwrap_or_else(|error| panic!("seed {seed}, {cut:?} {at}, again: {error}"));
        }
    }
}
