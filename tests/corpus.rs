//! The fuzz targets' functions on the stable toolchain: over the seeds that are kept in
//! `fuzz/seeds/` and over many deterministic mutations of each.
//!
//! What a fuzzer finds becomes a seed, so that it stays found.

#[expect(unreachable_pub, reason = "a library where it is fuzzed")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore as _, SeedableRng as _};

/// Mutations of each seed, and of those whose steps cost curve work.
const MUTATIONS: u32 = 2_000;
const COSTLY: u32 = 100;
/// Longest input: a little more than a datagram of a 1500-byte link.
const BYTES_MAX: usize = 1600;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable seed")).collect()
}

/// Flips, cuts, repeats and splices.
fn mutate(seed: &[u8], other: &[u8], rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.next_u32() % 4 {
        let at = below(rng, bytes.len() + 1);
        match rng.next_u32() % 6 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.next_u32().to_le_bytes()[0]),
            2 => bytes.extend_from_slice(&other[below(rng, other.len() + 1)..]),
            3 => bytes.extend_from_within(at..),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (rng.next_u32() % 8);
                }
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn below(rng: &mut ChaCha12Rng, end: usize) -> usize {
    usize::try_from(rng.next_u64() % end as u64).expect("below a usize")
}

fn replay(target: &str, mutations: u32, run: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no seeds of {target}");
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    for seed in &seeds {
        run(seed);
        for _ in 0..mutations {
            let other = &seeds[below(&mut rng, seeds.len())];
            run(&mutate(seed, other, &mut rng));
        }
    }
}

#[test]
fn frame() {
    replay("frame", MUTATIONS, targets::wire::frame);
}

#[test]
fn body() {
    replay("body", MUTATIONS, targets::wire::body);
}

#[test]
fn address() {
    replay("address", MUTATIONS, targets::wire::address);
}

#[test]
fn stun() {
    replay("stun", MUTATIONS, targets::wire::stun);
}

#[test]
fn link() {
    replay("link", MUTATIONS, targets::link::link);
}

#[test]
fn sessions() {
    replay("sessions", COSTLY, targets::sessions::sessions);
}

#[test]
fn router() {
    replay("router", MUTATIONS, targets::router::router);
}

#[test]
fn relay() {
    replay("relay", COSTLY, targets::relay::relay);
}

#[test]
fn store() {
    replay("store", MUTATIONS, targets::store::store);
}
