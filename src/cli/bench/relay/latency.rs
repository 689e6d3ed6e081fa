//! How long a datagram takes on its way through a relay that is half busy.
//!
//! Trains leave on time whether or not those before them arrived, and each counts from when it was due
//! to leave, so that a stall is not hidden by what it held up. The load moves to another CPU, for
//! the relay's own has no room beside it; what this costs, the floor has to pay as well, at the
//! same rate and by turns with the relay. Their difference is what relaying adds.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::time::Moment;

use super::super::{median, rig};
use super::Contestant;
use super::pairs::{Load, Pairs};

/// Longest way that is told apart, in nanoseconds.
const SLOWEST_NS: u64 = 10_000_000_000;
/// What has not arrived by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// What has not arrived by then is looked for after everything else.
const LATE: Duration = Duration::from_millis(2);
/// Slower attempts, until load and relay keep the pace.
const ATTEMPTS: u32 = 12;
/// From one attempt to the next.
const SLOWER: f64 = 0.8;
/// Share of the highest pace at which queues of the load itself are short.
const EASILY: f64 = 0.6;
/// Lost datagrams that are forgiven: one in so many.
const LOSS_MAX: u64 = 1000;

/// What one relay adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) relay: &'static str,
    /// Datagrams a second.
    pub(super) per_s: f64,
    /// Share of its CPU that the relay used.
    pub(super) load: f64,
    pub(super) floor: Quantiles,
    pub(super) through: Quantiles,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quantiles {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// How often, and how long each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) rounds: usize,
    pub(super) span: Duration,
    /// Whether it is enough to see that it works.
    pub(super) lenient: bool,
}

impl Scale {
    pub(super) const fn of(quick: bool) -> Self {
        if quick {
            Self { rounds: 1, span: Duration::from_millis(10), lenient: true }
        } else {
            Self { rounds: 5, span: Duration::from_millis(200), lenient: false }
        }
    }
}

/// What came of one contestant at one pace.
struct Paced {
    ways: Histogram<u64>,
    lost: u64,
    /// When the last train left, from the first one on.
    took: Duration,
    load: f64,
}

/// What a relay adds; else why nobody knows, which is no reason to measure nothing else.
pub(super) type Measured = Result<Latency, String>;

/// Measures `relay` and the floor by turns at half of what a core with costs of `cpu_ns` could
/// do, or as near to it as the load comes. The calling thread stays on `cpu`.
pub(super) fn measure(
    pairs: &mut Pairs,
    [floor, relay]: [&Contestant; 2],
    load: Load,
    cpu_ns: f64,
    scale: Scale,
    [cpu, beside]: [usize; 2],
) -> Measured {
    rig::pin(beside)?;
    let latency =
        search(0.5e9 / cpu_ns, |per_s| attempt(pairs, [floor, relay], load, per_s, scale));
    rig::pin(cpu)?;
    latency
}

/// The first attempt that keeps the pace. If that is not the first one of all, the load was what is too
/// slow: then another one, at a pace that it keeps easily.
fn search(per_s: f64, mut attempt: impl FnMut(f64) -> Measured) -> Measured {
    let mut latency = attempt(per_s);
    let mut slower = per_s;
    for _ in 1..ATTEMPTS {
        if latency.is_ok() {
            break;
        }
        slower *= SLOWER;
        latency = attempt(slower);
    }
    if slower < per_s && latency.is_ok() { attempt(slower * EASILY).or(latency) } else { latency }
}

fn attempt(
    pairs: &mut Pairs,
    contestants: [&Contestant; 2],
    load: Load,
    per_s: f64,
    scale: Scale,
) -> Measured {
    let (mut middles, mut tails) = ([vec![], vec![]], [vec![], vec![]]);
    let mut busy = Vec::new();
    for _ in 0..scale.rounds {
        for (at, contestant) in contestants.into_iter().enumerate() {
            let paced = pace(pairs, contestant, load, per_s, scale.span)?;
            let checked = if scale.lenient { Ok(()) } else { paced.check(scale.span) };
            checked.map_err(|fault| format!("{}: {fault}", contestant.name()))?;
            middles[at].push(paced.us(0.5));
            tails[at].push(paced.us(0.99));
            if at == 1 {
                busy.push(paced.load);
            }
        }
    }
    let mut quantiles =
        |at: usize| Quantiles { p50_us: median(&mut middles[at]), p99_us: median(&mut tails[at]) };
    Ok(Latency {
        relay: contestants[1].name(),
        per_s,
        load: median(&mut busy),
        floor: quantiles(0),
        through: quantiles(1),
    })
}

/// Sends for `span` at a rate of `per_s` datagrams and takes the time of all that arrives.
fn pace(
    pairs: &mut Pairs,
    contestant: &Contestant,
    load: Load,
    per_s: f64,
    span: Duration,
) -> Result<Paced, String> {
    let interval = Duration::from_secs_f64(load.train as f64 / per_s);
    let trains = u32::try_from(span.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
    let before_ns = contestant.cpu_ns()?;
    let start = pairs.clock.moment();
    let bases: Vec<u64> = pairs.pairs.iter().map(|pair| pair.next).collect();
    let mut run = Run {
        ways: Histogram::new_with_bounds(1, SLOWEST_NS, 3).map_err(|error| error.to_string())?,
        lost: 0,
        clock: pairs.clock,
        due_at: |train: u32| start + interval * train,
        bases,
        load,
        flying: VecDeque::new(),
    };
    let mut sent = 0;
    let mut last = start;
    while sent < trains || !run.flying.is_empty() {
        let now = pairs.clock.moment();
        if sent < trains && now >= (run.due_at)(sent) {
            let at = sent as usize % load.pairs;
            pairs.send(contestant.road(), at, load)?;
            run.flying.push_back((at, pairs.pairs[at].next, now));
            (last, sent) = (now, sent + 1);
        }
        run.take_first(pairs, contestant, now)?;
    }
    let elapsed = pairs.clock.moment().since(start);
    let spent_ns = contestant.cpu_ns()? - before_ns;
    let Run { ways, lost, .. } = run;
    let load = spent_ns as f64 / elapsed.as_nanos() as f64;
    Ok(Paced { ways, lost, took: last.since(start), load })
}

/// What is on its way.
struct Run<D> {
    ways: Histogram<u64>,
    lost: u64,
    clock: Clock,
    /// When a train is to leave.
    due_at: D,
    /// First number of every pair.
    bases: Vec<u64>,
    load: Load,
    /// Trains that have not arrived: their pair, the number after their last, and when they left.
    flying: VecDeque<(usize, u64, Moment)>,
}

impl<D: Fn(u32) -> Moment> Run<D> {
    /// Looks for the train that left first: the others can hardly arrive before it.
    fn take_first(
        &mut self,
        pairs: &mut Pairs,
        contestant: &Contestant,
        now: Moment,
    ) -> Result<(), String> {
        let Some(&(at, end, left)) = self.flying.front() else { return Ok(()) };
        let before = pairs.pairs[at].due;
        let Self { ways, clock, due_at, bases, load, .. } = self;
        let mut arrived = 0;
        pairs.receive(contestant.road(), at, Duration::ZERO, &mut |number| {
            let way = clock.moment().since(due_at(train_of(at, number - bases[at], *load)));
            let way_ns = u64::try_from(way.as_nanos()).unwrap_or(u64::MAX);
            ways.saturating_record(way_ns.max(1));
            arrived += 1;
        })?;
        let pair = &mut pairs.pairs[at];
        self.lost += pair.due - before - arrived;
        if pair.due < end && now.since(left) > PATIENCE {
            self.lost += end - pair.due;
            pair.due = end;
        }
        if pair.due >= end {
            self.flying.pop_front();
        } else if now.since(left) > LATE {
            // Others need not wait for what may be lost.
            self.flying.rotate_left(1);
        }
        Ok(())
    }
}

/// Which train of all brought a pair's datagram of that number, counted from the first one.
fn train_of(pair: usize, number: u64, load: Load) -> u32 {
    let train = number / load.train as u64 * load.pairs as u64 + pair as u64;
    u32::try_from(train).unwrap_or(u32::MAX)
}

impl Paced {
    /// Whether trains left when they were due, and arrived.
    fn check(&self, span: Duration) -> Result<(), String> {
        let Self { lost, took, .. } = *self;
        if lost * LOSS_MAX > self.ways.len() {
            return Err(format!("{lost} datagrams were lost at every pace"));
        }
        if took > span.mul_f64(1.05) + Duration::from_millis(1) {
            return Err("the load keeps no pace".into());
        }
        Ok(())
    }

    fn us(&self, quantile: f64) -> f64 {
        self.ways.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_know_their_train() {
        let load = Load { payload: 100, pairs: 3, train: 2, datagrams: 0 };
        let trains = [(0, 0), (0, 1), (1, 0), (2, 1), (0, 2), (2, 5)];
        let found = trains.map(|(pair, number)| train_of(pair, number, load));
        assert_eq!(found, [0, 0, 1, 2, 3, 8]);
    }

    #[test]
    fn a_load_that_is_too_slow_is_not_driven_to_its_edge() {
        let latency = |per_s| {
            let none = Quantiles::default();
            Latency { relay: "router", per_s, load: 0.5, floor: none, through: none }
        };
        let keeps = |most: f64| {
            search(
                1000.0,
                |per_s| if per_s <= most { Ok(latency(per_s)) } else { Err("no".into()) },
            )
        };
        assert_eq!(keeps(1000.0).unwrap().per_s, 1000.0);
        assert_eq!(keeps(800.0).unwrap().per_s, 800.0 * EASILY);
        assert!(keeps(0.0).is_err());
    }

    #[test]
    fn late_and_lost_trains_are_told() {
        let span = Duration::from_millis(100);
        let paced = |lost, took| {
            let mut ways = Histogram::new_with_bounds(1, SLOWEST_NS, 3).unwrap();
            ways.record_n(50_000, 1000).unwrap();
            Paced { ways, lost, took, load: 0.5 }
        };
        assert_eq!(paced(1, span).check(span), Ok(()));
        assert!(paced(2, span).check(span).is_err());
        assert!(paced(0, span * 2).check(span).is_err());
        assert!((paced(0, span).us(0.99) - 50.0).abs() < 0.1);
    }
}
