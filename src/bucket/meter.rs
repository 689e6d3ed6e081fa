//! A rate as one number per bucket: the generic cell rate algorithm.
//!
//! A bucket is the virtual time at which everything granted so far would have been paid for at
//! the rate. A grant is in order while that time stays within the allowance of now. It needs no
//! refill and no sweep, and a bucket whose time has passed is as good as a new one.

use std::time::Duration;

use crate::time::Moment;

/// What all buckets of one rate share: cost per unit and allowance, in nanoseconds of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// 32.32 fixed point; zero is unlimited.
    ns_per_unit: u64,
    allowance_ns: u64,
}

impl Meter {
    /// `per_s` units a second, `None` without limit; as much at once as `burst` earns, and never
    /// less than `largest` units.
    pub fn lasting(per_s: Option<u64>, burst: Duration, largest: u64) -> Self {
        let ns_per_unit = ns_per_unit(per_s);
        let burst_ns = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX >> 8);
        Self { ns_per_unit, allowance_ns: burst_ns.max(cost(ns_per_unit, largest)) }
    }

    /// `per_s` units a second, `None` without limit; at most `burst` units at once.
    pub fn holding(per_s: Option<u64>, burst: u64) -> Self {
        let ns_per_unit = ns_per_unit(per_s);
        Self { ns_per_unit, allowance_ns: cost(ns_per_unit, burst) }
    }

    /// A meter whose unit costs [`unit_cost`](Self::unit_cost), with at most `burst` units at once.
    #[inline]
    pub fn costing(unit_cost: u64, burst: u64) -> Self {
        Self { ns_per_unit: unit_cost, allowance_ns: cost(unit_cost, burst) }
    }

    /// What a unit costs, in 2^-32 ns: a rate in one number, zero without limit.
    pub const fn unit_cost(&self) -> u64 {
        self.ns_per_unit
    }

    /// Units a second, rounded; `None` without limit.
    pub fn per_s(&self) -> Option<u64> {
        let cost = u128::from(self.ns_per_unit.max(1));
        let per_s = ((1_000_000_000_u128 << 32) + cost / 2) / cost;
        (self.ns_per_unit > 0).then(|| u64::try_from(per_s).unwrap_or(u64::MAX))
    }

    /// How far a bucket's time may be ahead of the clock.
    #[inline]
    pub const fn allowance_ns(&self) -> u64 {
        self.allowance_ns
    }

    /// The time of a bucket that stood at `bucket`, after `units` more.
    #[inline]
    pub fn after(&self, now: Moment, bucket: u64, units: u64) -> u64 {
        bucket.max(now.as_nanos()).saturating_add(cost(self.ns_per_unit, units))
    }

    /// When a bucket may come to stand at `after`.
    #[inline]
    pub const fn ready(&self, after: u64) -> Moment {
        Moment::from_nanos(after.saturating_sub(self.allowance_ns))
    }
}

fn ns_per_unit(per_s: Option<u64>) -> u64 {
    per_s.map_or(0, |per_s| {
        let ns = (1_000_000_000_u128 << 32) / u128::from(per_s.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    })
}

#[inline]
fn cost(ns_per_unit: u64, units: u64) -> u64 {
    let ns = (u128::from(ns_per_unit) * u128::from(units)) >> 32;
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_there_at_once_and_then_the_rate() {
        let meter = Meter::holding(Some(1000), 5);
        let now = Moment::from_nanos(7_000_000_000);
        let full = meter.after(now, 0, 5);
        assert_eq!(meter.ready(full), now);
        let more = meter.after(now, full, 1);
        assert_eq!(meter.ready(more), now + Duration::from_millis(1));
    }

    #[test]
    fn without_a_limit_nothing_costs() {
        let meter = Meter::holding(None, 0);
        assert_eq!(meter.after(Moment::START, 0, u64::MAX), 0);
        assert_eq!(Meter::holding(None, 7).per_s(), None);
        let meter = Meter::holding(Some(123_456), 10);
        assert_eq!((meter.per_s(), Meter::costing(meter.unit_cost(), 10)), (Some(123_456), meter));
        assert_eq!(Meter::lasting(Some(1), Duration::ZERO, 2).allowance_ns(), 2_000_000_000);
    }
}
