//! `bench store`: what keeping records costs, against a bare log in the same run.
//!
//! Records go the way that a shard's go: through a journal's ring, to a thread that writes and
//! syncs them. They are put in as fast as the disk takes them, which no router does. The bare log
//! writes and syncs as often for as many records, without ring, thread, epochs or kinds.

mod bare;
mod timed;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use peerstore::journal::{self, Appended, Durability, Journal};
use peerstore::storage::Disk;
use peerstore::{Kind, Record, Shard, Store};
use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::clock::{Clock, process_cpu_ns, thread_cpu_ns};

use self::bare::{Bare, Pace};
use self::timed::{Syncs, Timed};
use super::median;
use super::progress::Progress;

/// Bytes of a record: a peer with two addresses.
const RECORD_BYTES: usize = 172;
/// Records of one turn of a packet loop.
const TURN: usize = 64;
/// Records that are made at once, outside of what is measured.
const CHUNK: usize = 64 * TURN;
/// Bytes of the ring that a turn takes, with some to spare.
const TURN_BYTES: usize = TURN * (RECORD_BYTES + 16);
/// How long to wait for room in the ring.
const WAIT: Duration = Duration::from_micros(200);
/// Longest sync that is told apart, in nanoseconds.
const SLOWEST_NS: u64 = 60_000_000_000;
/// Records of a quick run, at most.
const QUICK_RECORDS: u64 = 20_000;

/// Measure what the store costs per record, and how long it takes to read back
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Write in a new directory below this one, on a real disk [default: the current one]
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Records to keep and to read back, each of another peer
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = records())]
    records: u64,
    /// Few records, once: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// End with code 3 if the writer, syncing in groups, keeps a smaller part of the records that a
    /// bare log keeps per CPU second
    #[arg(long, value_name = "RATIO")]
    slo: Option<f64>,
}

fn records() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1_000..=100_000_000)
}

/// A record's payload.
type Payload = [u8; RECORD_BYTES];

/// What one round of a durability measured.
struct Sample {
    per_s: f64,
    per_cpu_s: f64,
    /// Bytes written per byte of payload.
    written: f64,
    syncs: u64,
    sync_p50_ms: f64,
    sync_p99_ms: f64,
    stall_ms: f64,
    /// What the packet loop pays.
    append_ns: f64,
    bare_per_cpu_s: f64,
    bare_stall_ms: f64,
}

/// Medians of reading everything back, in seconds.
struct Recovery {
    log_s: f64,
    snapshot_s: f64,
    bare_s: f64,
}

/// Runs every level and prints the table.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let work = args.dir.join(format!("molia-bench-store-{}", std::process::id()));
    fs::create_dir(&work).map_err(|error| Failure::io(work.display(), &error))?;
    let measured = Bench { work: &work, records: args.records, rounds: 5 }.of(args.quick).run();
    // What was measured is worth more than a directory that stays.
    let _ = fs::remove_dir_all(&work);
    let (rows, recovery) = measured.map_err(|message| Failure::new(Exit::Io, message))?;
    let records = if args.quick { args.records.min(QUICK_RECORDS) } else { args.records };
    if args.json {
        output::json(&document(records, &rows, &recovery))?;
    } else {
        output::line(table(records, &rows, &recovery))?;
    }
    judge(args.slo, &rows)
}

struct Bench<'a> {
    work: &'a Path,
    records: u64,
    rounds: usize,
}

type Row = (Durability, Sample);

impl Bench<'_> {
    fn of(self, quick: bool) -> Self {
        let records = self.records.min(QUICK_RECORDS);
        if quick { Self { records, rounds: 1, ..self } } else { self }
    }

    fn run(&self) -> Result<(Vec<Row>, Recovery), String> {
        let levels = Durability::ALL;
        let progress = Progress::new((levels.len() * self.rounds + 3) as u64);
        let mut samples: [Vec<Sample>; 3] = Default::default();
        for _ in 0..self.rounds {
            for (durability, samples) in levels.into_iter().zip(&mut samples) {
                samples.push(self.round(durability)?);
                progress.step();
            }
        }
        let rows = levels.into_iter().zip(&samples);
        let rows = rows.map(|(durability, samples)| (durability, middle(samples))).collect();
        Ok((rows, self.recovery(&progress)?))
    }

    /// A directory of that name, for one store.
    fn dir(&self, name: &str) -> Result<PathBuf, String> {
        let dir = self.work.join(name);
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(dir)
    }

    /// Keeps all records in a new store, and then in a bare log.
    fn round(&self, durability: Durability) -> Result<Sample, String> {
        let dir = self.dir("round")?;
        let syncs = Syncs::default();
        let config = journal::Config { durability, ..journal::Config::default() };
        let store = open(&dir, &syncs, |_| ())?;
        let mut journal = journal::start(store, config, || ()).map_err(text)?;
        let clock = Clock::start();
        let (process, own) = (process_cpu_ns(), thread_cpu_ns());
        let mut turns = histogram()?;
        self.chunks(|chunk| {
            for turn in chunk.chunks(TURN) {
                wait_for_room(&journal);
                let began = clock.moment();
                put(&mut journal, turn)?;
                let took = clock.moment().as_nanos() - began.as_nanos();
                turns.saturating_record(took / turn.len() as u64);
            }
            Ok(())
        })?;
        while journal.durable() < journal.position() && journal.accepts() {
            thread::park_timeout(WAIT);
        }
        let stats = journal.stats();
        journal.stop().map_err(text)?;
        let wall_ns = clock.moment().as_nanos();
        let writer_ns = (process_cpu_ns() - process) - (thread_cpu_ns() - own);
        let (bytes, sync_ns) = syncs.take(histogram()?);
        fs::remove_dir_all(&dir).map_err(text)?;
        let pace = Pace::of(self.records, stats.writes, stats.syncs);
        let (bare_ns, bare_stall_ns) = self.bare(&self.dir("round")?, pace)?;
        fs::remove_dir_all(self.work.join("round")).map_err(text)?;
        let per = |ns: u64| self.records as f64 / ns.max(1) as f64 * 1e9;
        Ok(Sample {
            per_s: per(wall_ns),
            per_cpu_s: per(writer_ns),
            written: bytes as f64 / (self.records as f64 * RECORD_BYTES as f64),
            syncs: stats.syncs,
            sync_p50_ms: sync_ns.value_at_quantile(0.5) as f64 / 1e6,
            sync_p99_ms: sync_ns.value_at_quantile(0.99) as f64 / 1e6,
            stall_ms: stats.stall_ns_max as f64 / 1e6,
            append_ns: turns.value_at_quantile(0.5) as f64,
            bare_per_cpu_s: per(bare_ns),
            bare_stall_ms: bare_stall_ns as f64 / 1e6,
        })
    }

    /// CPU time and longest stall of a bare log of all records, in nanoseconds.
    fn bare(&self, dir: &Path, pace: Pace) -> Result<(u64, u64), String> {
        let mut bare = Bare::create(dir, pace).map_err(text)?;
        let clock = Clock::start();
        let (mut spent, mut stall) = (0, 0);
        self.chunks(|chunk| {
            let before = thread_cpu_ns();
            for turn in chunk.chunks(TURN) {
                let began = clock.moment();
                bare.put(turn).map_err(text)?;
                stall = stall.max(clock.moment().as_nanos() - began.as_nanos());
            }
            spent += thread_cpu_ns() - before;
            Ok(())
        })?;
        let before = thread_cpu_ns();
        bare.close().map_err(text)?;
        Ok((spent + thread_cpu_ns() - before, stall))
    }

    /// Reads all records back: from logs, from a snapshot, and from a bare log.
    fn recovery(&self, progress: &Progress) -> Result<Recovery, String> {
        let (dir, bare) = (self.dir("store")?, self.dir("bare")?);
        let syncs = Syncs::default();
        let mut store = open(&dir, &syncs, |_| ())?;
        self.chunks(|chunk| {
            chunk.iter().for_each(|payload| store.append(Kind::Peer, payload));
            store.write().map_err(text)
        })?;
        store.close().map_err(text)?;
        self.bare(&bare, Pace::of(self.records, 1 + self.records / 16_384, 1))?;
        progress.step();
        let reopen = || self.reopened(&dir).map(|(seconds, _)| seconds);
        let log_s = self.times(reopen)?;
        let bare_s = self.times(|| {
            let clock = Clock::start();
            let read = bare::read(&bare).map_err(text)?;
            assert_eq!(read, self.records, "a bare log lost records");
            Ok(clock.moment().as_nanos() as f64 / 1e9)
        })?;
        progress.step();
        let (_, mut store) = self.reopened(&dir)?;
        store.begin_snapshot(0).map_err(text)?;
        self.chunks(|chunk| {
            chunk.iter().try_for_each(|payload| store.snapshot(Kind::Peer, payload)).map_err(text)
        })?;
        store.finish_snapshot().map_err(text)?;
        store.close().map_err(text)?;
        let snapshot_s = self.times(reopen)?;
        progress.step();
        Ok(Recovery { log_s, snapshot_s, bare_s })
    }

    fn times(&self, once: impl Fn() -> Result<f64, String>) -> Result<f64, String> {
        let mut samples = (0..self.rounds).map(|_| once()).collect::<Result<Vec<f64>, String>>()?;
        Ok(median(&mut samples))
    }

    /// The store in `dir` and how long it took to open and read it, in seconds.
    fn reopened(&self, dir: &Path) -> Result<(f64, Store<Timed>), String> {
        let clock = Clock::start();
        let mut records = 0;
        let store = open(dir, &Syncs::default(), |record| {
            black_box(record);
            records += 1;
        })?;
        let took = clock.moment().as_nanos() as f64 / 1e9;
        assert_eq!(records, self.records, "a store lost records");
        Ok((took, store))
    }

    /// Makes all records, a number at a time.
    fn chunks(&self, mut each: impl FnMut(&[Payload]) -> Result<(), String>) -> Result<(), String> {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut number = 0;
        while number < self.records {
            let end = self.records.min(number + CHUNK as u64);
            chunk.clear();
            chunk.extend((number..end).map(payload));
            each(&chunk)?;
            number = end;
        }
        Ok(())
    }
}

/// Puts one turn's records in; the journal has room for them.
fn put(journal: &mut Journal, turn: &[Payload]) -> Result<(), String> {
    for payload in turn {
        let record = Record::decode(Kind::Peer, payload).map_err(|fault| format!("{fault:?}"))?;
        if journal.append(&record) == Appended::Dropped {
            return Err(format!("the store failed: {:?}", journal.take_fault()));
        }
    }
    journal.flush();
    Ok(())
}

/// A router drops what comes faster than the disk; here all of it is to be kept.
fn wait_for_room(journal: &Journal) {
    while journal.room() < TURN_BYTES && journal.accepts() {
        thread::park_timeout(WAIT);
    }
}

/// The store in `dir`, the only shard's.
fn open(dir: &Path, syncs: &Syncs, apply: impl FnMut(Record<'_>)) -> Result<Store<Timed>, String> {
    let shard = Shard::new(0, 1).ok_or("one shard is a shard")?;
    let storage = Timed { disk: Disk::open(dir).map_err(text)?, syncs: syncs.clone() };
    let opened = Store::open(storage, shard, 0, peerstore::Config::default(), 0, apply);
    opened.map(|(store, _)| store).map_err(text)
}

/// Record number `number`: keys, times and addresses that do not compress.
fn payload(number: u64) -> Payload {
    let mut bytes = [0; RECORD_BYTES];
    let mut state = number << 8;
    for word in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..word.len()]);
    }
    bytes
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, SLOWEST_NS, 3).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Each figure's median, by itself.
fn middle(samples: &[Sample]) -> Sample {
    let of =
        |field: fn(&Sample) -> f64| median(&mut samples.iter().map(field).collect::<Vec<f64>>());
    let mut syncs: Vec<u64> = samples.iter().map(|sample| sample.syncs).collect();
    syncs.sort_unstable();
    Sample {
        per_s: of(|sample| sample.per_s),
        per_cpu_s: of(|sample| sample.per_cpu_s),
        written: of(|sample| sample.written),
        syncs: syncs[syncs.len() / 2],
        sync_p50_ms: of(|sample| sample.sync_p50_ms),
        sync_p99_ms: of(|sample| sample.sync_p99_ms),
        stall_ms: of(|sample| sample.stall_ms),
        append_ns: of(|sample| sample.append_ns),
        bare_per_cpu_s: of(|sample| sample.bare_per_cpu_s),
        bare_stall_ms: of(|sample| sample.bare_stall_ms),
    }
}

impl Sample {
    fn ratio(&self) -> f64 {
        self.per_cpu_s / self.bare_per_cpu_s
    }
}

fn document(records: u64, rows: &[Row], recovery: &Recovery) -> Value {
    let row = |(durability, sample): &Row| {
        json!({
            "durability": durability.label(),
            "records_per_s": sample.per_s.round(),
            "records_per_cpu_s": sample.per_cpu_s.round(),
            "bare_records_per_cpu_s": sample.bare_per_cpu_s.round(),
            "ratio": round(sample.ratio()),
            "append_ns": sample.append_ns,
            "written_per_byte": round(sample.written),
            "syncs": sample.syncs,
            "sync_p50_ms": round(sample.sync_p50_ms),
            "sync_p99_ms": round(sample.sync_p99_ms),
            "stall_ms": round(sample.stall_ms),
            "bare_stall_ms": round(sample.bare_stall_ms),
        })
    };
    json!({
        "records": records,
        "record_bytes": RECORD_BYTES,
        "rows": rows.iter().map(row).collect::<Vec<Value>>(),
        "recovery": {
            "log_s": round(recovery.log_s),
            "snapshot_s": round(recovery.snapshot_s),
            "bare_s": round(recovery.bare_s),
        },
    })
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn table(records: u64, rows: &[Row], recovery: &Recovery) -> String {
    let mut lines = vec![format!(
        "{:<10} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8}",
        "durability",
        "k/s wall",
        "k/cpu s",
        "bare",
        "ratio",
        "append ns",
        "written",
        "syncs",
        "p50 ms",
        "p99 ms",
        "stall ms",
        "bare ms"
    )];
    lines.extend(rows.iter().map(|(durability, sample)| {
        format!(
            "{:<10} {:>9.0} {:>9.0} {:>9.0} {:>6.2} {:>9.0} {:>8.3} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            durability.label(),
            sample.per_s / 1e3,
            sample.per_cpu_s / 1e3,
            sample.bare_per_cpu_s / 1e3,
            sample.ratio(),
            sample.append_ns,
            sample.written,
            sample.syncs,
            sample.sync_p50_ms,
            sample.sync_p99_ms,
            sample.stall_ms,
            sample.bare_stall_ms
        )
    }));
    let Recovery { log_s, snapshot_s, bare_s } = recovery;
    lines.push(format!(
        "{records} records of {RECORD_BYTES} bytes, as fast as the disk takes them; CPU seconds of the writer, a bare\n\
         log that writes and syncs as often; append: what a packet loop pays; written per byte of\n\
         records; p50 and p99 of a sync; stall: the longest that the writer took for a batch.\n\
         Reading them back: {log_s:.3} s from the log, {snapshot_s:.3} s from a snapshot, {bare_s:.3} s of a bare log."
    ));
    lines.join("\n")
}

fn judge(slo: Option<f64>, rows: &[Row]) -> Result<(), Failure> {
    let Some(least) = slo else { return Ok(()) };
    let group = rows.iter().find(|(durability, _)| *durability == Durability::Group);
    match group.map(|(_, sample)| sample.ratio()) {
        Some(ratio) if ratio < least => {
            Err(Failure::new(Exit::Missed, format_args!("below the threshold: {ratio:.2}")))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ratio: f64) -> Sample {
        Sample {
            per_s: 1e6,
            per_cpu_s: ratio * 4e6,
            written: 1.05,
            syncs: 43,
            sync_p50_ms: 3.0,
            sync_p99_ms: 5.0,
            stall_ms: 6.0,
            append_ns: 60.0,
            bare_per_cpu_s: 4e6,
            bare_stall_ms: 6.0,
        }
    }

    #[test]
    fn the_threshold_is_that_of_groups() {
        let rows = [(Durability::Strict, sample(0.1)), (Durability::Group, sample(0.75))];
        assert_eq!(judge(None, &rows), Ok(()));
        assert_eq!(judge(Some(0.5), &rows), Ok(()));
        let missed = judge(Some(0.8), &rows).unwrap_err();
        assert_eq!(missed.exit(), Exit::Missed);
        assert!(missed.to_string().contains("0.75"), "{missed}");
    }

    #[test]
    fn every_figure_is_the_middle_one() {
        let mut samples = [sample(0.5), sample(0.7), sample(0.9)];
        samples[0].syncs = 99;
        let middle = middle(&samples);
        assert_eq!((middle.ratio(), middle.syncs), (0.7, 43));
    }
}
