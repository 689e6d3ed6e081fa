//! A bench against a running router: round trips as a client meets them.
//!
//! One request at a time, started at a steady rate. A request that had to wait
//! for a slow one before it counts from when it should have started (hdrhistogram's
//! correction for coordinated omission), else a stall would hide its own victims.
//! The rate stays below what a router grants one peer or one address by default.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::cli::{Exit, Failure, output};
use crate::client::{Client, Error, Link, Options};
use crate::clock::Clock;
use crate::ids::PeerId;

use super::progress::Progress;
use super::{Common, rig};

/// Longest round trip that is told apart, in nanoseconds.
const SLOWEST_NS: u64 = 60_000_000_000;
/// A handshake is given up after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Ping,
    Lookup,
    Handshake,
}

impl Probe {
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Lookup => "find_node",
            Self::Handshake => "handshake",
        }
    }

    /// Requests a second that a router takes from one address or session.
    const fn default_rate(self) -> f64 {
        match self {
            Self::Ping | Self::Lookup => 200.0,
            Self::Handshake => 10.0,
        }
    }
}

/// What came of it.
struct Outcome {
    probe: Probe,
    sent: u64,
    round_trips: Histogram<u64>,
    answered: u64,
    took: Duration,
}

/// Asks the router of `link` and prints rate and percentiles.
pub(super) fn run(common: &Common, link: &Link, probe: Probe) -> Result<(), Failure> {
    let outcome = measure(common, link, probe)?;
    if common.json {
        output::json(&outcome.json())?;
    } else {
        output::line(outcome.text())?;
    }
    if outcome.answered == 0 {
        return Err(Failure::new(Exit::Timeout, "the router answered nothing"));
    }
    Ok(())
}

fn measure(common: &Common, link: &Link, probe: Probe) -> Result<Outcome, Failure> {
    let failed = |message: String| Failure::new(Exit::Software, message);
    let rate = common.rate.unwrap_or_else(|| probe.default_rate());
    let interval = Duration::from_secs_f64(1.0 / rate);
    let span = if common.quick { Duration::from_secs(1) } else { common.duration };
    let count = (span.as_secs_f64() * rate).ceil().max(1.0);
    let progress = Progress::new(span.as_secs());
    let mut asker = Asker::new(link, probe).map_err(Failure::from)?;
    let mut outcome = Outcome::new(probe).map_err(failed)?;
    let clock = Clock::start();
    let mut next = clock.moment();
    while (outcome.sent as f64) < count {
        let wait = next.since(clock.moment());
        if !wait.is_zero() {
            asker.pause(wait)?;
        }
        outcome.sent += 1;
        if let Some(took) = asker.ask()? {
            outcome.add(took, interval);
        }
        next = next + interval;
        progress.at(clock.moment().as_nanos() / 1_000_000_000);
    }
    outcome.took = Duration::from_nanos(clock.moment().as_nanos());
    Ok(outcome)
}

/// Who asks.
struct Asker {
    link: Link,
    probe: Probe,
    client: Client,
    rng: rand_chacha::ChaCha12Rng,
}

impl Asker {
    fn new(link: &Link, probe: Probe) -> Result<Self, Error> {
        let mut client = Client::connect(link, None, Options::default())?;
        client.negotiate(None)?;
        let rng = rig::random().map_err(|text| Error::Socket {
            doing: "random numbers",
            error: std::io::Error::other(text),
        })?;
        Ok(Self { link: link.clone(), probe, client, rng })
    }

    /// How long it took; `None` if nobody answered.
    fn ask(&mut self) -> Result<Option<Duration>, Failure> {
        let asked = match self.probe {
            Probe::Ping => self.client.ping(0).map(|pong| pong.rtt),
            Probe::Lookup => self.lookup(),
            Probe::Handshake => {
                let options = Options { patience: PATIENCE, keepalive: None };
                Client::connect(&self.link, None, options).map(|client| client.handshake_time())
            }
        };
        match asked {
            Ok(took) => Ok(Some(took)),
            Err(Error::Timeout { .. } | Error::NoAnswer(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    fn lookup(&mut self) -> Result<Duration, Error> {
        let mut target = [0; 32];
        rand_core::RngCore::fill_bytes(&mut self.rng, &mut target);
        let clock = Clock::start();
        self.client.find_node(&PeerId(target), 0)?;
        Ok(Duration::from_nanos(clock.moment().as_nanos()))
    }

    fn pause(&mut self, span: Duration) -> Result<(), Failure> {
        self.client.idle(span).map_err(Failure::from)
    }
}

impl Outcome {
    fn new(probe: Probe) -> Result<Self, String> {
        let round_trips =
            Histogram::new_with_bounds(1, SLOWEST_NS, 3).map_err(|error| error.to_string())?;
        Ok(Self { probe, sent: 0, round_trips, answered: 0, took: Duration::ZERO })
    }

    fn add(&mut self, took: Duration, interval: Duration) {
        self.answered += 1;
        let took = nanos(took).clamp(1, SLOWEST_NS);
        let recorded = self.round_trips.record_correct(took, nanos(interval));
        assert!(recorded.is_ok(), "the value was brought within the bounds");
    }

    fn us(&self, quantile: f64) -> f64 {
        self.round_trips.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn json(&self) -> serde_json::Value {
        json!({ "rows": [{
            "what": self.probe.name(),
            "sent": self.sent,
            "answered": self.answered,
            "per_s": self.rate(),
            "p50_us": self.us(0.5),
            "p99_us": self.us(0.99),
            "p99_9_us": self.us(0.999),
            "max_us": self.us(1.0),
        }] })
    }

    fn text(&self) -> String {
        let lost = self.sent - self.answered;
        format!(
            "{}: {} sent, {} answered, {lost} lost, {:.1} a second\n\
             p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us\n\
             A round trip, scheduler and network included; without LINK the bench measures what \
             the router itself costs.",
            self.probe.name(),
            self.sent,
            self.answered,
            self.rate(),
            self.us(0.5),
            self.us(0.99),
            self.us(0.999),
            self.us(1.0),
        )
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_for_everything_that_waited() {
        let mut outcome = Outcome::new(Probe::Ping).unwrap();
        let interval = Duration::from_millis(10);
        for _ in 0..90 {
            outcome.add(Duration::from_millis(1), interval);
        }
        outcome.add(Duration::from_millis(100), interval);
        assert_eq!(outcome.answered, 91);
        assert_eq!(outcome.round_trips.len(), 100, "nine more would have been sent meanwhile");
        assert!(outcome.us(0.5) < 1100.0 && outcome.us(0.95) > 40_000.0);
    }
}
