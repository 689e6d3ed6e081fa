//! What one process does for one contender, and what that cost the process.
//!
//! Each measurement is a process of its own, so that its CPU time, its memory and what it wrote are
//! its contender's alone, whatever threads that has.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::contenders::Contender;
use crate::work::{self, ID_BYTES, Tally, UPDATE_BYTES, Update};
use crate::{GROUP_BYTES, GROUP_INTERVAL};

/// Updates that are put in at once, and for which a stall is measured.
const CHUNK: usize = 64;

/// Appends `updates` updates of `peers` peers to a new store in `dir`.
pub fn append(contender: Contender, dir: &Path, updates: u64, peers: u64) -> Result<Value> {
    let mut sink = contender.create(dir)?;
    let mut chunk: Vec<Update> = Vec::with_capacity(CHUNK);
    let (mut unsynced, mut synced_at) = (0, now());
    let mut stall = Duration::ZERO;
    let meter = Meter::start()?;
    for number in 0..updates {
        chunk.push(work::update(number, updates, peers));
        if chunk.len() < CHUNK && number + 1 < updates {
            continue;
        }
        let began = now();
        sink.put(&chunk)?;
        unsynced += chunk.len() * UPDATE_BYTES;
        chunk.clear();
        if unsynced >= GROUP_BYTES || began.duration_since(synced_at) >= GROUP_INTERVAL {
            sink.commit()?;
            (unsynced, synced_at) = (0, now());
        }
        stall = stall.max(now().duration_since(began));
    }
    let stall_ns = u128::from(sink.close()?).max(stall.as_nanos());
    let mut measured = meter.stop()?;
    measured["stall_ms"] = json!(stall_ns as f64 / 1e6);
    measured["file_bytes"] = json!(file_bytes(dir)?);
    Ok(measured)
}

/// Opens what is in `dir` and reads every peer, or, for a `table`, also puts each where a router
/// would find it.
pub fn read(contender: Contender, dir: &Path, table: bool) -> Result<Value> {
    let mut tally = Tally::default();
    let mut peers = Peers::default();
    let meter = Meter::start()?;
    contender.read(dir, |id, value| {
        tally.add(id, value);
        if table {
            peers.insert(id, value);
        }
    })?;
    let mut measured = meter.stop()?;
    measured["records"] = json!(tally.records);
    measured["sum"] = json!(tally.sum);
    Ok(measured)
}

/// A table of peers as a router has one: entries in a row, and where each is by its id.
#[derive(Default)]
struct Peers {
    entries: Vec<Update>,
    places: HashMap<[u8; ID_BYTES], u32>,
}

impl Peers {
    fn insert(&mut self, id: &[u8], value: &[u8]) {
        let mut entry = [0; UPDATE_BYTES];
        entry[..ID_BYTES].copy_from_slice(id);
        entry[ID_BYTES..].copy_from_slice(value);
        let key = *entry.first_chunk().expect("an id comes first");
        let next = u32::try_from(self.entries.len()).expect("as many as fit into memory");
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.entries.push(entry);
        } else {
            self.entries[place as usize] = entry;
        }
    }
}

/// The same of the work alone: what making the updates costs.
pub fn expected(updates: u64, peers: u64) -> Tally {
    let mut tally = Tally::default();
    for number in 0..updates {
        let update = work::update(number, updates, peers);
        let (id, value) = update.split_at(ID_BYTES);
        tally.add(id, value);
    }
    tally
}

struct Meter {
    wall: Instant,
    cpu: Duration,
    written: u64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self { written: proc("io", "write_bytes:")?, wall: now(), cpu: cpu()? })
    }

    fn stop(self) -> Result<Value> {
        Ok(json!({
            "wall_s": now().duration_since(self.wall).as_secs_f64(),
            "cpu_s": (cpu()? - self.cpu).as_secs_f64(),
            "written_bytes": proc("io", "write_bytes:")? - self.written,
            "memory_bytes": proc("status", "VmHWM:")? * 1024,
        }))
    }
}

/// CPU time of all threads of this process, also those that ended.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?)
}

/// A number that the kernel counts for this process.
fn proc(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/{file}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(number.with_context(|| format!("no {name} in {file}"))?.parse()?)
}

fn file_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { file_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "a measurement, of nothing that takes `now`")]
fn now() -> Instant {
    Instant::now()
}
