//! What the writer says of itself, and what it is told beside the ring.
//!
//! Every counter has one writer, and nothing follows from one of them about another; the three
//! that say more are published with release and read with acquire: `durable`, `snapshots_ended`
//! and `stop`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::bell::Bell;
use crate::fault::{Fault, FaultKind};
use crate::store::StoreStatus;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Changes that the writer took.
    pub records_log: u64,
    /// Records of snapshots that it took.
    pub records_snapshot: u64,
    /// Bytes written to logs and snapshots, with all that is around a payload.
    pub bytes_written: u64,
    /// Batches that were written, synced or not.
    pub writes: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Nanoseconds that they took, each with the write that went with it.
    pub sync_ns_total: u64,
    /// Those of the longest.
    pub sync_ns_max: u64,
    /// Nanoseconds for which the ring was not looked at, at most: one batch from its first record
    /// to the end of its write and sync, with what it held of a snapshot.
    pub stall_ns_max: u64,
    /// Snapshots that were completed.
    pub snapshots: u64,
    /// Snapshots that failed, or were begun anew before their end.
    pub snapshots_failed: u64,
    /// Epoch of the log.
    pub epoch: u64,
    /// Bytes of the logs that are not in a snapshot.
    pub log_bytes: u64,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
    /// Failures, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
    /// Soft records for which there was no room.
    pub dropped_soft: u64,
    /// Critical records for which there was no room; whoever wanted them was told.
    pub dropped_critical: u64,
    /// Bytes in the ring.
    pub queued_bytes: u64,
}

/// Status: all is well.
const WELL: u8 = 0;
/// Status: the writer is no more.
const DEAD: u8 = u8::MAX;

/// What both threads see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bell: Bell,
    durable: AtomicU64,
    /// [`WELL`], [`DEAD`], or 1 + the index in [`FaultKind::ALL`] of what fails.
    status: AtomicU8,
    stop: AtomicBool,
    snapshot_wanted: AtomicBool,
    /// Snapshots whose end the writer has come to, whatever became of them.
    snapshots_ended: AtomicU64,
    fault: Mutex<Option<Fault>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    records_log: AtomicU64,
    records_snapshot: AtomicU64,
    bytes_written: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    sync_ns_total: AtomicU64,
    sync_ns_max: AtomicU64,
    stall_ns_max: AtomicU64,
    snapshots: AtomicU64,
    snapshots_failed: AtomicU64,
    epoch: AtomicU64,
    log_bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
}

/// The loop's side.
impl Shared {
    pub(super) fn new() -> Self {
        Self {
            bell: Bell::new(),
            durable: AtomicU64::new(0),
            status: AtomicU8::new(WELL),
            stop: AtomicBool::new(false),
            snapshot_wanted: AtomicBool::new(false),
            snapshots_ended: AtomicU64::new(0),
            fault: Mutex::new(None),
            counters: Counters::default(),
        }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> Option<FaultKind> {
        match self.status.load(Ordering::Relaxed) {
            WELL => None,
            index => Some(*FaultKind::ALL.get(usize::from(index) - 1).unwrap_or(&FaultKind::Io)),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.status.load(Ordering::Relaxed) == DEAD
    }

    /// Whether a snapshot is wanted, as of behind the last of those that were begun.
    pub(super) fn wants_snapshot(&self, begun: u64) -> bool {
        self.snapshots_ended.load(Ordering::Acquire) == begun
            && self.snapshot_wanted.load(Ordering::Relaxed)
    }

    /// Does not wait for the writer: what it is just putting there is taken the next time.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.try_lock().ok()?.take()
    }

    /// Everything that was queued before is drained.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stats(&self) -> Stats {
        let Counters { faults, .. } = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let from = &self.counters;
        Stats {
            records_log: get(&from.records_log),
            records_snapshot: get(&from.records_snapshot),
            bytes_written: get(&from.bytes_written),
            writes: get(&from.writes),
            syncs: get(&from.syncs),
            sync_ns_total: get(&from.sync_ns_total),
            sync_ns_max: get(&from.sync_ns_max),
            stall_ns_max: get(&from.stall_ns_max),
            snapshots: get(&from.snapshots),
            snapshots_failed: get(&from.snapshots_failed),
            epoch: get(&from.epoch),
            log_bytes: get(&from.log_bytes),
            snapshot_bytes: get(&from.snapshot_bytes),
            faults: faults.each_ref().map(get),
            ..Stats::default()
        }
    }
}

/// The writer's side.
impl Shared {
    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether that is more than before.
    pub(super) fn set_durable(&self, records: u64) -> bool {
        let more = records > self.durable.load(Ordering::Relaxed);
        if more {
            self.durable.store(records, Ordering::Release);
        }
        more
    }

    pub(super) fn set_status(&self, failing: Option<FaultKind>) {
        let index = failing.map_or(WELL, |kind| index_of(kind) + 1);
        self.status.store(index, Ordering::Relaxed);
    }

    /// For good: nothing that is queued from now on is written.
    pub(super) fn set_dead(&self) {
        self.status.store(DEAD, Ordering::Relaxed);
    }

    pub(super) fn set_fault(&self, fault: Fault) {
        add(&self.counters.faults[usize::from(index_of(fault.kind))], 1);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(super) fn set_snapshot_wanted(&self, wanted: bool) {
        self.snapshot_wanted.store(wanted, Ordering::Relaxed);
    }

    /// The end of snapshot number `begun` was come to. Said after whether another is wanted.
    pub(super) fn end_snapshot(&self, begun: u64, completed: bool) {
        let Counters { snapshots, snapshots_failed, .. } = &self.counters;
        add(if completed { snapshots } else { snapshots_failed }, 1);
        self.snapshots_ended.store(begun, Ordering::Release);
    }

    pub(super) fn count_records(&self, log: u64, snapshot: u64) {
        add(&self.counters.records_log, log);
        add(&self.counters.records_snapshot, snapshot);
    }

    pub(super) fn count_write(&self) {
        add(&self.counters.writes, 1);
    }

    pub(super) fn count_sync(&self, took: Duration) {
        add(&self.counters.sync_ns_total, nanoseconds(took));
        raise(&self.counters.sync_ns_max, nanoseconds(took));
    }

    pub(super) fn count_stall(&self, took: Duration) {
        raise(&self.counters.stall_ns_max, nanoseconds(took));
    }

    /// What the store counts itself.
    pub(super) fn set_store(&self, status: &StoreStatus) {
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        let to = &self.counters;
        set(&to.bytes_written, status.written_bytes);
        set(&to.syncs, status.syncs);
        set(&to.epoch, u64::from(status.epoch.number()));
        set(&to.log_bytes, status.log_bytes);
        set(&to.snapshot_bytes, status.snapshot_bytes);
    }
}

/// Only the writer counts: no locked instruction is needed.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

fn raise(counter: &AtomicU64, to: u64) {
    if to > counter.load(Ordering::Relaxed) {
        counter.store(to, Ordering::Relaxed);
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

fn index_of(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::NoSpace => 0,
        FaultKind::ReadOnly => 1,
        FaultKind::Quota => 2,
        FaultKind::Io => 3,
    }
}
