//! How a seed went, and whether that is good enough.

use std::fmt;
use std::time::Duration;

/// Lookups that have to find their value, in a thousand.
const FOUND_PERMILLE: usize = 990;
/// Within this, 95 of a hundred.
const P95_MAX: Duration = Duration::from_secs(1);

/// Counts of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of every datagram, and when it arrived.
    pub(crate) digest: String,
    /// Time of every lookup that found its value.
    pub(crate) found: Vec<Duration>,
    /// Lookups that did not.
    pub(crate) missed: usize,
    /// Lookups that found an older value than was published before they began.
    pub(crate) stale: usize,
    /// Nodes asked and nodes that failed, over all these lookups, and their hops.
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    pub(crate) hops: u64,
    /// Values that nodes were asked to keep, and those that said so.
    pub(crate) stores: u64,
    pub(crate) kept: u64,
    pub(crate) joined: u64,
    pub(crate) left: u64,
    pub(crate) datagrams: u64,
}

impl Report {
    /// Time that so many of a hundred lookups took at most.
    fn percentile(&self, share: usize) -> Duration {
        let mut sorted = self.found.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * share).div_ceil(100).max(1) - 1;
        sorted.get(at).copied().unwrap_or(Duration::MAX)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let all = self.found.len() + self.missed;
        if self.found.len() * 1000 < all * FOUND_PERMILLE {
            return Err(format!("{} of {all} lookups missed their value", self.missed));
        }
        if self.percentile(95) > P95_MAX {
            return Err(format!("95 % of lookups take {:?}", self.percentile(95)));
        }
        if self.stale * 100 > all {
            return Err(format!("{} of {all} lookups found an old value", self.stale));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.found.len() + self.missed;
        let [p50, p95, p99] = [50, 95, 99].map(|share| self.percentile(share));
        let mean = |sum: u64| u128::from(sum) as f64 / all.max(1) as f64;
        write!(
            f,
            "{all} lookups, {} missed, {} stale, p50 {p50:.0?} p95 {p95:.0?} p99 {p99:.0?}, each \
             asked {:.1}, failed {:.1}, hops {:.1}; {} of {} stores kept; {} joined, {} left; {} \
             datagrams; {}",
            self.missed,
            self.stale,
            mean(self.asked),
            mean(self.failed),
            mean(self.hops),
            self.kept,
            self.stores,
            self.joined,
            self.left,
            self.datagrams,
            self.digest.get(..16).unwrap_or("-"),
        )
    }
}
