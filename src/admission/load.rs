//! How many strangers knock.

use std::time::Duration;

use crate::time::Moment;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts initiations of unproven sources by the second. Under load from the moment
/// the second's count passes the threshold until a whole second stayed within it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    threshold: u32,
    window: Moment,
    count: u32,
    last: u32,
}

impl Load {
    /// No load so far.
    pub(super) const fn new(threshold_pps: u32) -> Self {
        Self { threshold: threshold_pps, window: Moment::START, count: 0, last: 0 }
    }

    /// Counts one more; returns whether that is under load.
    pub(super) fn knock(&mut self, now: Moment) -> bool {
        self.turn_to(now);
        self.count = self.count.saturating_add(1);
        self.high()
    }

    /// Whether strangers have to prove their address at `now`.
    pub(super) fn under(&self, now: Moment) -> bool {
        let mut then = *self;
        then.turn_to(now);
        then.high()
    }

    /// Another threshold from now on.
    pub(super) fn set_threshold(&mut self, threshold_pps: u32) {
        self.threshold = threshold_pps;
    }

    fn high(&self) -> bool {
        self.count.max(self.last) > self.threshold
    }

    fn turn_to(&mut self, now: Moment) {
        let passed = now.since(self.window);
        if passed >= WINDOW {
            self.last = if passed < WINDOW * 2 { self.count } else { 0 };
            self.count = 0;
            self.window = now;
        }
    }
}
