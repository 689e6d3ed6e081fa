//! How many nodes a lookup asks at once, and how long it waits for one before it asks another.
//!
//! **Alpha** starts at [`ALPHA_MIN`]. It grows by one, up to [`ALPHA_MAX`], when a request is not answered
//! by when it was [expected](Pace::expected), at that moment, and again when it times out or fails: then
//! answers are what is scarce. It shrinks by one, down to [`ALPHA_MIN`], when an answer in time names a
//! peer closer than all known before: then the walk makes its way, and what is asked beside it is asked
//! for nothing.
//!
//! **The timeout** is RFC 6298's: smoothed time of an answer plus two variations, within
//! [`TIMEOUT_MIN`] and [`TIMEOUT_MAX`], and [`TIMEOUT_FIRST`] before anything is known. What is measured
//! is the whole request, the handshake in front of it included, over all nodes: most of them are
//! asked once in their life, so there is no path to learn about. RFC 6298 has four variations, for it
//! repeats itself when they are over; here an answer that comes after its timeout counts still,
//! and too early costs a request, but too late costs time.

use std::time::Duration;

/// Requests under way, at least and at first.
pub const ALPHA_MIN: usize = 3;
/// Requests under way, at most.
pub const ALPHA_MAX: usize = 8;
/// A request's timeout before any was answered.
pub(super) const TIMEOUT_FIRST: Duration = Duration::from_millis(500);
/// Bounds of the timeout afterwards.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(150);
/// See [`TIMEOUT_MIN`].
pub(super) const TIMEOUT_MAX: Duration = Duration::from_millis(800);

/// See the module. Hand it on from one lookup to the next, and the next knows the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    alpha: usize,
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { alpha: ALPHA_MIN, smoothed: None, variation: Duration::ZERO }
    }
}

impl Pace {
    /// The same times, and as few requests at once as at first: what the last lookup met on its
    /// way says nothing of the way of the next.
    #[must_use]
    pub fn rested(self) -> Self {
        Self { alpha: ALPHA_MIN, ..self }
    }

    /// Requests that may be under way.
    pub const fn alpha(&self) -> usize {
        self.alpha
    }

    /// How long to wait for an answer before somebody else is asked.
    pub fn timeout(&self) -> Duration {
        self.beyond(2, TIMEOUT_FIRST)
    }

    /// An answer that takes longer is a slow one.
    pub fn expected(&self) -> Duration {
        self.beyond(0, TIMEOUT_FIRST / 2)
    }

    fn beyond(&self, variations: u32, first: Duration) -> Duration {
        self.smoothed.map_or(first, |smoothed| {
            (smoothed + self.variation * variations).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
        })
    }

    /// An answer came after `elapsed`; `closer` if it names a peer closer than all known before.
    pub fn answered(&mut self, elapsed: Duration, closer: bool) {
        if closer && elapsed <= self.expected() {
            self.alpha = (self.alpha - 1).max(ALPHA_MIN);
        }
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(elapsed), elapsed / 2),
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(elapsed) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + elapsed / 8);
            }
        }
    }

    /// A request was not answered when it was expected, timed out, or failed.
    pub fn missed(&mut self) {
        self.alpha = (self.alpha + 1).min(ALPHA_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_missed_or_slow_widens_and_what_leads_on_narrows() {
        let mut pace = Pace::default();
        assert_eq!((pace.alpha(), pace.timeout(), pace.expected()), (3, ms(500), ms(250)));
        pace.missed();
        assert_eq!(pace.alpha(), 4);
        pace.answered(ms(300), true);
        assert_eq!(pace.alpha(), 4, "an answer that is late does not narrow");
        pace.answered(ms(300), false);
        assert_eq!(pace.alpha(), 4);
        pace.answered(ms(300), true);
        assert_eq!(pace.alpha(), 3);
        for _ in 0..20 {
            pace.missed();
        }
        assert_eq!(pace.alpha(), ALPHA_MAX);
        for _ in 0..20 {
            pace.answered(ms(10), true);
        }
        assert_eq!(pace.alpha(), ALPHA_MIN);
    }

    #[test]
    fn the_timeout_follows_the_answers_within_its_bounds() {
        let mut pace = Pace::default();
        pace.answered(ms(100), false);
        assert_eq!((pace.timeout(), pace.expected()), (ms(200), ms(150)));
        for _ in 0..100 {
            pace.answered(ms(2), false);
        }
        assert_eq!(pace.timeout(), TIMEOUT_MIN);
        for _ in 0..100 {
            pace.answered(ms(5000), false);
        }
        assert_eq!((pace.timeout(), pace.rested().alpha()), (TIMEOUT_MAX, ALPHA_MIN));
    }
}
