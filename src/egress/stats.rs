//! What a class queue counts about itself.

use crate::drops::Drop;

/// Durations by powers of two: bucket `i` holds those up to `2^i` microseconds, the last one
/// everything longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log2 {
    /// Not cumulative.
    pub buckets: [u64; Self::BUCKETS],
    /// Sum of all durations recorded.
    pub sum_ns: u64,
}

impl Log2 {
    /// Finite edges, 1 us .. 2^21 us (2.1 s), and one bucket above them.
    pub const BUCKETS: usize = 23;

    /// Nothing recorded.
    pub const EMPTY: Self = Self { buckets: [0; Self::BUCKETS], sum_ns: 0 };

    /// The bucket of a duration.
    #[inline]
    pub const fn bucket(ns: u64) -> usize {
        // The smallest i with ns <= 1000 * 2^i, for whole microseconds rounded up.
        let us = ns.div_ceil(1000);
        let bucket = if us <= 1 { 0 } else { (us - 1).ilog2() as usize + 1 };
        if bucket < Self::BUCKETS { bucket } else { Self::BUCKETS - 1 }
    }

    /// Counts one duration.
    #[inline]
    pub const fn record(&mut self, ns: u64) {
        self.buckets[Self::bucket(ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }
}

/// Counters of one class since the start; `depth`, `high_water` and `capacity` are frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Frames offered.
    pub offered: u64,
    /// Frames that got a place.
    pub enqueued: u64,
    /// Frames that took the place of an older one.
    pub coalesced: u64,
    /// Frames handed out to be sent.
    pub sent: u64,
    /// Refused at the offer: no place.
    pub full: u64,
    /// Refused at the offer: above the peer's rate.
    pub peer_rate: u64,
    /// Refused at the offer: above the prefix's rate.
    pub prefix_rate: u64,
    /// Had a place and waited too long.
    pub expired: u64,
    /// Frames waiting now.
    pub depth: usize,
    /// Most frames that ever waited.
    pub high_water: usize,
    /// Frames that may wait.
    pub capacity: usize,
    /// How long sent frames waited.
    pub wait: Log2,
}

impl QueueStats {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            offered: 0,
            enqueued: 0,
            coalesced: 0,
            sent: 0,
            full: 0,
            peer_rate: 0,
            prefix_rate: 0,
            expired: 0,
            depth: 0,
            high_water: 0,
            capacity,
            wait: Log2::EMPTY,
        }
    }

    #[inline]
    pub(super) const fn waiting(&mut self, depth: usize) {
        self.depth = depth;
        if depth > self.high_water {
            self.high_water = depth;
        }
    }

    pub(super) fn policed(&mut self, reason: Drop) {
        match reason == Drop::PeerRate {
            true => self.peer_rate += 1,
            false => self.prefix_rate += 1,
        }
    }
}
