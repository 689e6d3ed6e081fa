//! Memory of initiations that were let through, so that a repeat costs no curve work.
//!
//! A fixed table of 64-bit keyed hashes, forgotten in the order they came when
//! their set is full. Only what passed the buckets is remembered, so a flood
//! cannot push anything out faster than the buckets allow. A real client never
//! sends the same initiation twice: each has a fresh ephemeral key.

use crate::bucket::Keyed;

const WAYS: usize = 4;

/// Initiations seen lately.
#[derive(Debug)]
pub(super) struct Replays {
    keyed: Keyed,
    /// The newest first; 0 is an empty place.
    sets: Box<[[u64; WAYS]]>,
}

impl Replays {
    /// Memory of a table for so many.
    pub(super) const fn bytes(entries: usize) -> usize {
        entries.div_ceil(WAYS).next_power_of_two() * size_of::<[u64; WAYS]>()
    }

    /// Remembers about `entries` initiations.
    ///
    /// # Panics
    /// If `entries` is zero.
    pub(super) fn new(entries: usize, keyed: Keyed) -> Self {
        assert!(entries > 0, "a memory without places would let repeats through");
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { keyed, sets: vec![[0; WAYS]; sets].into_boxed_slice() }
    }

    /// Whether this index and ephemeral key (bytes 4..40 of the initiation) are remembered.
    pub(super) fn seen(&self, identity: &[u8]) -> bool {
        let (set, hash) = self.place(identity);
        self.sets[set].contains(&hash)
    }

    /// Remembers them.
    pub(super) fn remember(&mut self, identity: &[u8]) {
        let (set, hash) = self.place(identity);
        let set = &mut self.sets[set];
        set.rotate_right(1);
        set[0] = hash;
    }

    fn place(&self, identity: &[u8]) -> (usize, u64) {
        let hash = self.keyed.hash(identity) | 1;
        (self.keyed.index(identity, self.sets.len()), hash)
    }
}
