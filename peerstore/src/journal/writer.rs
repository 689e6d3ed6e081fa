//! The writer's thread: takes entries out of the ring, and lets the store write and sync them.
//!
//! Its loop, [`Writer::run`], has three parts: take a batch out of the ring and put it into the store,
//! write or sync what is due, sleep until something else is or somebody rings. While the store is
//! broken nothing is taken out; the loop then is to wait and try again.
//!
//! Invariants:
//! * What the store holds that does not last is bounded: a batch is written before the next one is
//!   taken out, and the store syncs what it wrote when that becomes too much.
//! * `write_at` and `sync_at` are set while something waits for them, and only then: without
//!   them, and without a snapshot to be asked for again, it sleeps without a timer.
//! * However it ends, whoever asks for its status learns of it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bell::Sleep;
use super::ring::{Entry, Output};
use super::stats::Shared;
use super::{Config, Durability};
use crate::fault::{Fault, FaultKind};
use crate::storage::Storage;
use crate::store::Store;

/// How long after a failure the store is tried again.
const RETRY: Backoff =
    Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5), failures: 0 };
/// How long after one that failed another snapshot is asked for: each costs all that the owner
/// has, and one that fails for want of room fails again until somebody makes some.
const SNAPSHOT_RETRY: Backoff =
    Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60), failures: 0 };
/// How much less than the packet loops the writer gets of a CPU that both want.
const NICE: i32 = 5;

/// Doubles from `min` to `max`.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure.
    fn next(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        doubled.min(self.max)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Starts the thread.
pub(super) fn start<S>(
    store: Store<S>,
    ring: Output,
    shared: Arc<Shared>,
    config: Config,
    on_durable: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle<Result<(), Fault>>>
where
    S: Storage + Send + 'static,
    S::File: Send,
{
    let name = format!("store-{}", store.shard().id());
    let ending = Ending(Arc::clone(&shared));
    let mut writer = Writer {
        batch_bytes: store.config().batch_bytes,
        store,
        ring,
        shared,
        config,
        on_durable,
        taken: 0,
        write_at: None,
        sync_at: None,
        retry: RETRY,
        retry_at: None,
        snapshots_begun: 0,
        snapshotting: false,
        snapshot_retry: SNAPSHOT_RETRY,
        snapshot_at: None,
    };
    // Before the thread runs, so that nobody is told that all is well, and then that it is not.
    if writer.store.is_broken() {
        writer.break_off(now());
    }
    writer.publish(now());
    thread::Builder::new().name(name).spawn(move || {
        // Moved in, so that it is dropped when the thread ends.
        let _ending = ending;
        yield_to_others();
        writer.run()
    })
}

/// Says that the writer is no more, also when it panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.set_dead();
    }
}

struct Writer<S: Storage, F> {
    store: Store<S>,
    ring: Output,
    shared: Arc<Shared>,
    config: Config,
    on_durable: F,
    /// Bytes after which a batch is full.
    batch_bytes: usize,
    /// Changes that were taken out of the ring so far.
    taken: u64,
    /// When what is staged is due to be written.
    write_at: Option<Instant>,
    /// When what is not synced is due to be.
    sync_at: Option<Instant>,
    retry: Backoff,
    /// When a broken store is tried again.
    retry_at: Option<Instant>,
    snapshots_begun: u64,
    /// The store has a snapshot under way.
    snapshotting: bool,
    snapshot_retry: Backoff,
    /// Before this no snapshot is asked for.
    snapshot_at: Option<Instant>,
}

impl<S: Storage, F: Fn()> Writer<S, F> {
    fn run(mut self) -> Result<(), Fault> {
        loop {
            // Before the ring is looked at: what was queued before the end is seen behind it.
            let stops = self.shared.stops();
            if self.store.is_broken() {
                self.mend(stops)?;
            } else {
                let began = now();
                let full = self.take_batch(began);
                self.write_what_is_due(began, full);
                let ended = now();
                self.shared.count_stall(ended.saturating_duration_since(began));
                self.publish(ended);
                if stops && self.ring.is_empty() && !self.store.is_broken() {
                    return self.close();
                }
                if !full && !stops && !self.store.is_broken() {
                    self.sleep();
                }
            }
        }
    }

    /// Puts entries into the store until the ring is empty, the batch is full or the store is
    /// broken; whether it is full, and more may be in the ring.
    fn take_batch(&mut self, began: Instant) -> bool {
        let (mut log, mut snapshot, mut snapshot_bytes) = (0, 0, 0);
        let mut full = false;
        while !full && !self.store.is_broken() {
            match self.ring.pop() {
                None => break,
                Some(Entry::Log(kind, payload)) => {
                    self.store.append(kind, payload);
                    log += 1;
                    self.taken += 1;
                }
                Some(Entry::Snapshot(kind, payload)) => {
                    snapshot += 1;
                    snapshot_bytes += payload.len();
                    if self.snapshotting
                        && let Err(fault) = self.store.snapshot(kind, payload)
                    {
                        self.failed(fault);
                    }
                }
                Some(Entry::Begin) => self.begin_snapshot(),
                Some(Entry::Finish) => self.finish_snapshot(),
            }
            // A snapshot's part counts, too: changes must not wait for as long as one comes in.
            full = self.store.staged_bytes() + snapshot_bytes >= self.batch_bytes;
        }
        if log + snapshot > 0 {
            self.shared.count_records(log, snapshot);
            self.set_deadlines(began);
        }
        full
    }

    /// What was put into the store is due so long after now, unless something before it is.
    fn set_deadlines(&mut self, began: Instant) {
        let Config { durability, batch_interval, sync_interval, .. } = self.config;
        match durability {
            Durability::Strict => {}
            Durability::Group | Durability::Async => {
                self.write_at = self.write_at.or_else(|| began.checked_add(batch_interval));
            }
        }
        if durability == Durability::Group && self.store.unsynced_bytes() > 0 {
            self.sync_at = self.sync_at.or_else(|| began.checked_add(sync_interval));
        }
    }

    fn write_what_is_due(&mut self, began: Instant, full: bool) {
        if self.store.is_broken() {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= began);
        let syncs = due(self.sync_at) || self.config.durability == Durability::Strict;
        let worked = if syncs && self.store.unsynced_bytes() > 0 {
            self.attempt(Store::sync)
        } else {
            (full || due(self.write_at)) && self.attempt(Store::write)
        };
        // Not where it was mended: a disk that takes a new log each time and nothing after it
        // would get one ten times a second.
        if worked {
            self.retry.reset();
        }
    }

    /// Has the store write, and says what came of it.
    fn attempt(&mut self, act: impl FnOnce(&mut Store<S>) -> Result<(), Fault>) -> bool {
        let began = now();
        let (staged, syncs) = (self.store.staged_bytes(), self.store.status().syncs);
        let result = act(&mut self.store);
        if self.store.status().syncs > syncs {
            self.shared.count_sync(now().saturating_duration_since(began));
        }
        match result {
            Ok(()) => {
                if staged > 0 {
                    self.shared.count_write();
                }
                self.acknowledge();
                true
            }
            Err(fault) => {
                self.failed(fault);
                // A snapshot that failed may have synced the log before.
                if !self.store.is_broken() {
                    self.acknowledge();
                }
                false
            }
        }
    }

    /// The store did what it was asked for: what is done with is nobody's to wait for.
    fn acknowledge(&mut self) {
        let synced = self.store.unsynced_bytes() == 0;
        let written = self.store.staged_bytes() == 0;
        if synced {
            self.sync_at = None;
        }
        if written {
            self.write_at = None;
        }
        let durable = match self.config.durability {
            Durability::Async => written,
            Durability::Group | Durability::Strict => synced,
        };
        let more = durable && self.shared.set_durable(self.taken);
        if more && self.config.durability == Durability::Strict {
            (self.on_durable)();
        }
    }

    /// Counts a failure. One that did not break the store was of a snapshot.
    fn failed(&mut self, fault: Fault) {
        self.shared.set_fault(fault);
        let snapshotted = std::mem::replace(&mut self.snapshotting, false);
        if self.store.is_broken() {
            self.break_off(now());
        } else {
            self.snapshotting = snapshotted && self.store.status().snapshotting;
        }
    }

    /// Nothing is written any more, until the store is mended.
    fn break_off(&mut self, now: Instant) {
        (self.write_at, self.sync_at) = (None, None);
        let kind = self.store.status().last_fault.unwrap_or(FaultKind::Io);
        self.shared.set_status(Some(kind));
        self.retry_at = now.checked_add(self.retry.next());
    }

    /// Waits until it is time and tries a broken store again; when it is to stop, at once, and an
    /// error is the end. No bell is armed: nothing in the ring makes the disk work sooner.
    fn mend(&mut self, stops: bool) -> Result<(), Fault> {
        let left = self.retry_at.map(|at| at.saturating_duration_since(now()));
        if let Some(left) = left.filter(|left| !left.is_zero() && !stops) {
            thread::park_timeout(left);
            return Ok(());
        }
        if stops {
            self.store.retry(unix_s())?;
            self.acknowledge();
        } else if !self.attempt(|store| store.retry(unix_s())) {
            self.publish(now());
            return Ok(());
        }
        self.shared.set_status(None);
        self.publish(now());
        Ok(())
    }

    /// One that is under way is given up for it.
    fn begin_snapshot(&mut self) {
        if std::mem::replace(&mut self.snapshotting, false) {
            self.store.abandon_snapshot();
            self.shared.end_snapshot(self.snapshots_begun, false);
        }
        self.snapshots_begun += 1;
        self.snapshotting = self.attempt(|store| store.begin_snapshot(unix_s()));
    }

    /// One that failed before is over now.
    fn finish_snapshot(&mut self) {
        let under_way = std::mem::replace(&mut self.snapshotting, false);
        let completed = under_way && self.attempt(Store::finish_snapshot);
        let now = now();
        if completed {
            self.snapshot_retry.reset();
            self.snapshot_at = None;
        } else {
            self.snapshot_at = now.checked_add(self.snapshot_retry.next());
        }
        self.publish(now);
        self.shared.end_snapshot(self.snapshots_begun, completed);
    }

    fn publish(&mut self, now: Instant) {
        if self.snapshot_at.is_some_and(|at| at <= now) {
            self.snapshot_at = None;
        }
        let wanted = self.snapshot_at.is_none() && self.store.wants_snapshot();
        self.shared.set_snapshot_wanted(wanted);
        self.shared.set_store(&self.store.status());
    }

    /// Until something is due, the ring has something that cannot wait, or it is to stop.
    fn sleep(&mut self) {
        let due = [self.write_at, self.sync_at].into_iter().flatten().min();
        let until = due.into_iter().chain(self.snapshot_at).min();
        let (ring, shared) = (&self.ring, &self.shared);
        let calm = match due {
            Some(_) => shared.bell.sleep(Sleep::Nap, || ring.is_crowded()),
            None => shared.bell.sleep(Sleep::Idle, || !ring.is_empty()),
        };
        if calm {
            match until {
                Some(until) => thread::park_timeout(until.saturating_duration_since(now())),
                None => thread::park(),
            }
            shared.bell.awake();
        }
    }

    fn close(mut self) -> Result<(), Fault> {
        if self.store.sync().is_err() {
            self.store.retry(unix_s())?;
        }
        self.acknowledge();
        self.store.close()
    }
}

/// Best effort: where it is not allowed, the scheduler decides.
fn yield_to_others() {
    let lower = |nice: i32| rustix::process::setpriority_process(None, nice + NICE);
    let _ = rustix::process::getpriority_process(None).and_then(lower);
}

#[expect(clippy::disallowed_methods, reason = "a thread that does nothing but I/O, and no packets")]
fn now() -> Instant {
    Instant::now()
}

/// For headers, which nothing depends on.
#[expect(clippy::disallowed_methods, reason = "as above")]
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
