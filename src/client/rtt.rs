//! Smoothed round-trip time of one peer (RFC 6298) and the request timeout made of it.

use std::time::Duration;

/// Timeout of a request to a peer that never answered.
pub const FIRST_CONTACT: Duration = Duration::from_secs(1);
/// Bounds of the timeout afterwards.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// See [`TIMEOUT_MIN`].
pub const TIMEOUT_MAX: Duration = Duration::from_millis(600);
/// Doublings that reach the upper bound from the lower one.
const BACKOFF_MAX: u32 = 4;

/// The estimator. Feed it only answers to requests that were sent once (Karn's rule).
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    /// Doublings since the last sample: a path that became slower than the
    /// timeout would otherwise never yield a sample again.
    backoff: u32,
}

impl Rtt {
    /// One measured round trip.
    pub fn sample(&mut self, rtt: Duration) {
        self.backoff = 0;
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(rtt) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + rtt / 8);
            }
        }
    }

    /// A request was not answered in time.
    pub fn missed(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// SRTT, once there was an answer.
    pub const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// RTTVAR.
    pub const fn variation(&self) -> Duration {
        self.variation
    }

    /// How long to wait for an answer, without jitter: 2 x SRTT within the bounds.
    pub fn timeout(&self) -> Duration {
        match self.smoothed {
            None => FIRST_CONTACT,
            Some(smoothed) => {
                let base = (smoothed * 2).clamp(TIMEOUT_MIN, TIMEOUT_MAX);
                (base * (1 << self.backoff)).min(TIMEOUT_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn first_sample_and_next_follow_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), FIRST_CONTACT);
        rtt.sample(ms(80));
        assert_eq!((rtt.smoothed(), rtt.variation()), (Some(ms(80)), ms(40)));
        rtt.sample(ms(160));
        assert_eq!((rtt.smoothed(), rtt.variation()), (Some(ms(90)), ms(50)));
        assert_eq!(rtt.timeout(), ms(180));
    }

    #[test]
    fn timeout_stays_within_its_bounds() {
        let mut fast = Rtt::default();
        fast.sample(Duration::from_micros(90));
        assert_eq!(fast.timeout(), TIMEOUT_MIN);
        let mut slow = Rtt::default();
        slow.sample(Duration::from_secs(3));
        assert_eq!(slow.timeout(), TIMEOUT_MAX);
    }

    #[test]
    fn misses_double_the_timeout_until_a_sample() {
        let mut rtt = Rtt::default();
        rtt.sample(ms(50));
        let mut seen = vec![];
        for _ in 0..5 {
            rtt.missed();
            seen.push(rtt.timeout());
        }
        assert_eq!(seen, [ms(200), ms(400), ms(600), ms(600), ms(600)]);
        rtt.sample(ms(50));
        assert_eq!(rtt.timeout(), ms(100));
    }
}
