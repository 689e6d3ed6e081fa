//! `bench compaction`: what peers notice of a snapshot that is being made.
//!
//! Two routers with the same peers, values and writes; one makes snapshots all the time, the other
//! none. Round trips of both in turn, a ping a millisecond, with hdrhistogram's correction for
//! coordinated omission. The router is pinned to one CPU, who asks to another.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use peerstore::{Record, StoreDir, journal, record};
use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::client::link::{Host, Link};
use crate::client::{Client, Error, Options, OwnedRecord};
use crate::clock::Clock;
use crate::identity::Identity;
use crate::ids::Key;
use crate::port::EngineChoice;
use crate::router::{self, Keeping, Router};
use crate::shard::StoreConfig;
use crate::time::Now;
use crate::tunnel::wireguard::WireGuard;
use crate::wire::body::{self, Writer};

use super::progress::Progress;
use super::rig::{self, Server};
use super::{lookup, median};

/// Between two pings.
const INTERVAL: Duration = Duration::from_millis(1);
/// Pings to one write: a session's rate of writes is 20 a second.
const PINGS_A_WRITE: u64 = 100;
/// Values that a snapshot has.
const VALUES: u32 = 20_000;
/// Bytes of each.
const VALUE_BYTES: usize = 1000;
/// Longest round trip that is told apart, in nanoseconds.
const SLOWEST_NS: u64 = 10_000_000_000;

/// Measure what peers notice of a snapshot of the store that is being made
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Write in a new directory below this one, on a real disk [default: the current one]
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Few pings: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The round trips of one router, in microseconds, and how many snapshots it made.
#[derive(Debug, Default)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p99_9: Vec<f64>,
    snapshots: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |text: String| Failure::new(Exit::Software, text);
    let work = args.dir.join(format!("molia-bench-compaction-{}", std::process::id()));
    fs::create_dir(&work).map_err(|error| Failure::io(work.display(), &error))?;
    let sides = measure(args, &work);
    // What is left of it is the smaller problem.
    let _ = fs::remove_dir_all(&work);
    let [without, with] = sides.map_err(failed)?;
    if args.json {
        output::json(&document(&without, &with))
    } else {
        output::line(text(without, with))
    }
}

fn measure(args: &Args, work: &Path) -> Result<[Side; 2], String> {
    let (rounds, pings) = if args.quick { (1, 300) } else { (11, 2000) };
    let progress = Progress::new(2 * rounds as u64);
    let cpu = rig::last_cpu()?;
    let mut routers = [Measured::start(work, cpu, false)?, Measured::start(work, cpu, true)?];
    let other = rig::cpus().into_iter().find(|other| *other != cpu);
    rig::pin(other.unwrap_or(cpu))?;
    for round in 0..=rounds {
        for router in &mut routers {
            // The first round warms caches, and brings the first snapshot about.
            let kept = router.round(if round == 0 { pings / 4 } else { pings })?;
            if round > 0 {
                router.keep(&kept);
                progress.step();
            }
        }
    }
    let mut sides = routers.map(|router| router.side);
    if !args.quick && sides[1].snapshots == 0 {
        return Err("no snapshot was made while it was measured".into());
    }
    sides[0].snapshots = 0;
    Ok(sides)
}

/// A router and who asks it.
struct Measured {
    client: Client,
    store: PathBuf,
    writes: u64,
    side: Side,
    /// Dropped last.
    _server: Server,
}

impl Measured {
    fn start(work: &Path, cpu: usize, compacts: bool) -> Result<Self, String> {
        let path = work.join(if compacts { "with" } else { "without" });
        let directory = StoreDir::open(&path).map_err(|error| error.to_string())?;
        let files = peerstore::Config {
            // Each write is reason enough, or none is.
            compact_log_bytes: if compacts { 0 } else { u64::MAX },
            compact_dead_percent: 100,
            ..peerstore::Config::default()
        };
        let journal = journal::Config::default();
        let store = StoreConfig { directory: Arc::new(directory), files, journal };
        let mut config: router::Config = rig::unlimited();
        (config.records.keeping, config.records.stamp_bits) = (Keeping::Store, 0);
        let server = Server::start_with_store(cpu, EngineChoice::Auto, config, store, populate)?;
        let identity = Identity::generate(&mut rig::random()?);
        let link = Link {
            peer: server.identity.peer_id(),
            host: Host::Ip(server.address().ip()),
            port: server.address().port(),
            key: server.key,
        };
        let client = Client::connect(&link, Some(&identity), Options::default());
        let mut client = client.map_err(|error| error.to_string())?;
        client.negotiate(Some(&identity)).map_err(|error| error.to_string())?;
        let store = path.join("shard-0");
        Ok(Self { client, store, writes: 0, side: Side::default(), _server: server })
    }

    fn round(&mut self, pings: u64) -> Result<Histogram<u64>, String> {
        let text = |error: Error| error.to_string();
        let trips = Histogram::new_with_bounds(1, SLOWEST_NS, 3);
        let mut trips: Histogram<u64> = trips.map_err(|error| error.to_string())?;
        let clock = Clock::start();
        let epoch = newest(&self.store);
        let mut next = clock.moment();
        for ping in 0..pings {
            self.client.idle(next.since(clock.moment())).map_err(text)?;
            if ping % PINGS_A_WRITE == 0 {
                self.writes += 1;
                let value = format!("{} of {}", self.writes, self.store.display()).into_bytes();
                let record = OwnedRecord::immutable(value, Duration::from_secs(3600));
                self.client.store(&record.borrowed()).map_err(text)?;
                next = clock.moment();
            }
            let asked = clock.moment();
            let rtt = match self.client.ping(0) {
                Ok(pinged) => pinged.rtt,
                // As long as it was waited for, at least.
                Err(Error::Timeout { .. }) => clock.moment().since(asked),
                Err(error) => return Err(error.to_string()),
            };
            let ns = u64::try_from(rtt.as_nanos()).unwrap_or(SLOWEST_NS).clamp(1, SLOWEST_NS);
            let interval = u64::try_from(INTERVAL.as_nanos()).unwrap_or(u64::MAX);
            trips.record_correct(ns, interval).map_err(|error| error.to_string())?;
            next = next + INTERVAL;
        }
        self.side.snapshots += newest(&self.store) - epoch;
        Ok(trips)
    }

    fn keep(&mut self, trips: &Histogram<u64>) {
        let us = |quantile| trips.value_at_quantile(quantile) as f64 / 1000.0;
        self.side.p50.push(us(0.5));
        self.side.p99.push(us(0.99));
        self.side.p99_9.push(us(0.999));
    }
}

/// Number of the newest snapshot in a shard's directory: each makes it larger by one.
fn newest(store: &Path) -> u64 {
    let names = fs::read_dir(store).into_iter().flatten().flatten();
    let epochs = names.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("snapshot-")?.strip_suffix(".bin")?.parse().ok()
    });
    epochs.max().unwrap_or(0)
}

/// A hundred thousand peers and some values: what a snapshot of a busy router has.
fn populate(now: Now, router: &mut Router<WireGuard>) {
    lookup::populate(now, router);
    for number in 0..VALUES {
        let mut value = vec![0; VALUE_BYTES];
        value[..4].copy_from_slice(&number.to_le_bytes());
        let kept = body::Record {
            key: Key::of_value(&value),
            value: &value,
            sequence: 0,
            ttl_secs: 3600,
            not_before_unix: 0,
            owner_pubkey: None,
            signature: None,
            salt: &[],
        };
        let mut encoded = [0; 2 * VALUE_BYTES];
        let mut out = Writer::new(&mut encoded);
        kept.write(&mut out).expect("there is room for twice the value");
        let len = out.len();
        let message = peerstore::Message::new(&encoded[..len]).expect("far below the maximum");
        let expires_unix_s = now.unix_s() + 3600;
        let key = peerstore::Key(kept.key.0);
        let value = record::Value { key, sequence: 0, expires_unix_s, message };
        assert!(router.restore(now, &Record::Value(value)), "there is room for all");
    }
}

/// Medians of a side's rounds.
fn medians(side: &Side) -> [f64; 3] {
    [&side.p50, &side.p99, &side.p99_9].map(|samples| median(&mut samples.clone()))
}

fn document(without: &Side, with: &Side) -> Value {
    let row = |side: &Side| {
        let [p50_us, p99_us, p99_9_us] = medians(side);
        json!({ "p50_us": p50_us, "p99_us": p99_us, "p99_9_us": p99_9_us, "snapshots": side.snapshots })
    };
    let ratio = medians(with)[1] / medians(without)[1];
    json!({ "without": row(without), "with": row(with), "p99_ratio": ratio })
}

fn text(without: Side, with: Side) -> String {
    let row = |what: &str, side: &Side| {
        let [p50, p99, p99_9] = medians(side);
        format!("{what:<8} {p50:>8.0} {p99:>8.0} {p99_9:>9.0} {:>10}\n", side.snapshots)
    };
    let ratio = medians(&with)[1] / medians(&without)[1];
    let head = format!(
        "{:<8} {:>8} {:>8} {:>9} {:>10}\n",
        "snapshot", "p50 us", "p99 us", "p99.9 us", "made"
    );
    let rows = row("none", &without) + &row("always", &with);
    format!("{head}{rows}p99 with snapshots to p99 without: {ratio:.2} (target 1.2)")
}
