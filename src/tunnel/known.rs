//! Addresses that proved themselves lately, for admission: a fixed table that forgets the oldest of a set.

use std::time::Duration;

use crate::bucket::Keyed;
use crate::net::Address;
use crate::time::Moment;

const WAYS: usize = 4;
/// Longer than a key's life, so that a peer whose session ran out is still known when it comes back.
const REMEMBERED: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub(super) struct Known {
    keyed: Keyed,
    sets: Box<[[(u64, Moment); WAYS]]>,
}

impl Known {
    /// Memory of a table for so many addresses.
    pub(super) const fn bytes(entries: usize) -> usize {
        entries.div_ceil(WAYS).next_power_of_two() * size_of::<[(u64, Moment); WAYS]>()
    }

    pub(super) fn new(entries: usize, keyed: Keyed) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { keyed, sets: vec![[(0, Moment::START); WAYS]; sets].into_boxed_slice() }
    }

    /// `address` proved itself.
    pub(super) fn add(&mut self, now: Moment, address: &Address) {
        let (set, hash) = self.place(address);
        let set = &mut self.sets[set];
        let oldest = (0..WAYS).min_by_key(|way| set[*way].1).unwrap_or(0);
        let way = set.iter().position(|(other, _)| *other == hash).unwrap_or(oldest);
        set[way] = (hash, now);
    }

    /// Whether `address` proved itself lately.
    pub(super) fn has(&self, now: Moment, address: &Address) -> bool {
        let (set, hash) = self.place(address);
        self.sets[set].iter().any(|(other, at)| *other == hash && now.since(*at) < REMEMBERED)
    }

    fn place(&self, address: &Address) -> (usize, u64) {
        let hash = self.keyed.hash(address) | 1;
        (self.keyed.index(address, self.sets.len()), hash)
    }
}
