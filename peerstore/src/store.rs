//! A shard's store: a log that is written, snapshots that make it short again.
//!
//! Each log is the next epoch's, and each file is written once, from its beginning to its end. The
//! state is the newest whole snapshot and every log from its epoch on, in order; records are
//! statements of what is, so that it does no harm if a log repeats what a snapshot or the log
//! before it holds.
//!
//! Invariants:
//! * What [`Store::sync`] returned `Ok` behind is there after a crash, and so is all before it.
//! * A log that failed is not written again, and its pages are not synced again: what it was not
//!   known to hold is kept in memory and goes to a log of its own ([`Store::retry`]).
//! * Nothing is removed before what takes its place lasts; the snapshot before the newest is kept
//!   with all its logs, so that damage to the newest loses nothing.
//! * Between a snapshot's beginning and its end nothing of the log waits for it but the disk.
//!
//! A store reads no clock and starts no thread; its owner says when to write, sync and try again.

use std::io;

use crate::fault::{Fault, FaultKind};
use crate::frame::FRAME_BYTES_MAX;
use crate::header::{Epoch, FileKind, Shard};
use crate::kind::Kind;
use crate::log::{Log, Owner, Pending};
use crate::names::{self, Name};
use crate::record::Record;
use crate::recovery::{self, OpenError, Recovery};
use crate::snapshot::Snapshot;
use crate::storage::Storage;

/// A log shorter than this is not worth a snapshot, however much of it is dead.
const DEAD_LOG_BYTES_MIN: u64 = 1024 * 1024;
/// More logs than this are a snapshot's worth, however short they are: each is a file to open.
const LOGS_MAX: u32 = 8;

/// How a store treats its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes that are staged, at most, before whoever stages them writes them; also how much of
    /// a snapshot is written at once. Staging more works, and costs the memory.
    pub batch_bytes: usize,
    /// Bytes by which room for the log is reserved.
    pub reserve_bytes: u64,
    /// Logs of more bytes than this, together, want a snapshot.
    pub compact_log_bytes: u64,
    /// Logs that are more than this many percent of themselves and the snapshot together want a
    /// snapshot: so much at most is dead, if all that the log says was said before.
    pub compact_dead_percent: u32,
    /// Bytes that are not synced, at most: a write that leaves more syncs. They are kept in memory.
    pub sync_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            // More than a cache holds is read from memory again, and stalls for as much longer.
            batch_bytes: MIB,
            reserve_bytes: 8 * MIB as u64,
            compact_log_bytes: 64 * MIB as u64,
            compact_dead_percent: 50,
            sync_bytes: 4 * MIB,
        }
    }
}

/// How keys are divided among shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// How many shards there are.
    pub shards: u16,
    /// Names the division, whatever it is made of.
    pub partition_hash: u64,
}

/// How a store is doing. Bytes and records count since it was opened, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The log that is written, or the last one that was begun.
    pub epoch: Epoch,
    /// How many logs the state is made of.
    pub logs: u32,
    /// Bytes of the frames in them.
    pub log_bytes: u64,
    /// The snapshot that the state is made of.
    pub snapshot: Option<Epoch>,
    /// Bytes of its frames.
    pub snapshot_bytes: u64,
    /// Records in it.
    pub snapshot_records: u64,
    /// Whether another one is being written.
    pub snapshotting: bool,
    /// Bytes of the payloads that were staged for the log.
    pub logical_bytes: u64,
    /// Bytes that were written to logs and snapshots, with all that is around a payload.
    pub written_bytes: u64,
    /// Syncs of the log that succeeded.
    pub syncs: u64,
    /// The last failure, mended or not.
    pub last_fault: Option<FaultKind>,
    /// Whether the store is broken now.
    pub broken: bool,
}

/// A shard's store. See the module.
#[derive(Debug)]
pub struct Store<S: Storage> {
    storage: S,
    owner: Owner,
    config: Config,
    /// `None` is broken.
    log: Option<Log<S::File>>,
    pending: Pending,
    /// The newest epoch that a name was made of.
    epoch: Epoch,
    snapshot: Option<Snapshot<S::File>>,
    /// Where frames of a snapshot wait; kept from one to the next.
    snapshot_buffer: Vec<u8>,
    damaged: bool,
    status: StoreStatus,
}

impl<S: Storage> Store<S> {
    /// Reads all there is, calls `apply` for every record in order, begins a new log created at
    /// `unix_s`. Contents never make it fail: what is damaged is left out and reported.
    ///
    /// If no log can be begun, the store is there and broken ([`Store::is_broken`]): a full disk
    /// is no reason not to serve what is on it.
    ///
    /// # Errors
    /// [`OpenError`]: the directory cannot be read, or holds what this store must not touch.
    pub fn open(
        storage: S,
        shard: Shard,
        partition_hash: u64,
        config: Config,
        unix_s: u64,
        apply: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovery), OpenError> {
        let owner = Owner { shard, partition_hash };
        let recovery = recovery::recover(&storage, owner, apply)?;
        let status = StoreStatus {
            epoch: recovery.newest.unwrap_or(Epoch::new(0)),
            logs: recovery.logs,
            log_bytes: recovery.log_bytes,
            snapshot: recovery.snapshot,
            snapshot_bytes: recovery.snapshot_bytes,
            snapshot_records: recovery.snapshot_records,
            snapshotting: false,
            logical_bytes: 0,
            written_bytes: 0,
            syncs: 0,
            last_fault: None,
            broken: true,
        };
        let pending_bytes = config.batch_bytes + config.sync_bytes + FRAME_BYTES_MAX;
        let mut store = Self {
            storage,
            owner,
            config,
            log: None,
            pending: Pending::with_capacity(pending_bytes),
            epoch: status.epoch,
            snapshot: None,
            snapshot_buffer: Vec::new(),
            damaged: recovery.is_damaged(),
            status,
        };
        // A failure leaves it broken, as it is now.
        let _ = store.retry(unix_s);
        Ok((store, recovery))
    }

    /// Stages a record for the log: `payload` as [`Record`] of this kind encodes it.
    ///
    /// # Panics
    /// A seal, or a payload longer than any kind's, was passed: both would end the log early.
    pub fn append(&mut self, kind: Kind, payload: &[u8]) {
        assert_ne!(kind, Kind::Seal, "a log has no end");
        debug_assert!(Record::decode(kind, payload).is_ok(), "what cannot be read ends the log");
        // A retry seals again what waits for it.
        let epoch = self.log.as_ref().map_or(self.epoch, Log::epoch);
        self.pending.push(epoch, kind, payload);
        self.status.logical_bytes += payload.len() as u64;
    }

    /// Bytes of the frames that wait to be written.
    pub fn staged_bytes(&self) -> usize {
        self.pending.staged().len()
    }

    /// Bytes of the frames that are not known to last, written or staged: what a retry would
    /// write.
    pub fn unsynced_bytes(&self) -> usize {
        self.pending.len()
    }

    /// One write of all that is staged; a sync if more than [`Config::sync_bytes`] wait for one.
    ///
    /// # Errors
    /// What failed, or that the store is broken, as it is then; nothing is lost.
    pub fn write(&mut self) -> Result<(), Fault> {
        self.write_staged()?;
        if self.pending.len() > self.config.sync_bytes { self.sync() } else { Ok(()) }
    }

    /// Writes all that is staged and makes it last.
    ///
    /// # Errors
    /// What failed, or that the store is broken, as it is then; nothing is lost.
    pub fn sync(&mut self) -> Result<(), Fault> {
        self.write_staged()?;
        let log = self.log.as_mut().ok_or_else(|| still_broken(self.status.last_fault))?;
        if self.pending.len() == 0 {
            return Ok(());
        }
        if let Err(error) = log.sync() {
            return Err(self.break_log(Fault::of("sync the log")(error)));
        }
        self.pending.synced_all();
        self.status.syncs += 1;
        Ok(())
    }

    /// Behind a failure: begins a new log, created at `unix_s`, with everything in it that is not
    /// known to last. On a store that is not broken it is [`Store::sync`].
    ///
    /// # Errors
    /// What failed. The store is as broken as before; nothing is lost.
    pub fn retry(&mut self, unix_s: u64) -> Result<(), Fault> {
        if self.log.is_some() {
            return self.sync();
        }
        let log = self.begin_log(unix_s)?;
        self.log = Some(log);
        self.status.broken = false;
        self.pending.wrote_all();
        self.pending.synced_all();
        Ok(())
    }

    /// Whether the log failed. What is staged then waits for [`Store::retry`].
    pub fn is_broken(&self) -> bool {
        self.log.is_none()
    }

    /// Whether it is time for a snapshot: the logs are longer than [`Config::compact_log_bytes`]; or
    /// longer than 1 MiB, and more than [`Config::compact_dead_percent`] of logs and snapshot
    /// together; or more than eight; or something was found damaged. Not while one is written.
    pub fn wants_snapshot(&self) -> bool {
        let StoreStatus { log_bytes, snapshot_bytes, logs, .. } = self.status;
        let percent = u64::from(self.config.compact_dead_percent);
        let all = log_bytes.saturating_add(snapshot_bytes);
        let dead = log_bytes.saturating_mul(100) > all.saturating_mul(percent);
        let long = log_bytes > self.config.compact_log_bytes
            || (log_bytes > DEAD_LOG_BYTES_MIN && dead)
            || logs > LOGS_MAX;
        self.snapshot.is_none() && (long || self.damaged)
    }

    /// Whose it is.
    pub fn shard(&self) -> Shard {
        self.owner.shard
    }

    /// How it treats its disk.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it is doing.
    pub fn status(&self) -> StoreStatus {
        self.status
    }

    /// Writes and syncs what there is, and gives back the room that was reserved.
    ///
    /// # Errors
    /// What failed; what was not synced is lost then.
    pub fn close(mut self) -> Result<(), Fault> {
        self.abandon_snapshot();
        if self.log.is_some() || self.pending.len() > 0 {
            self.sync()?;
        }
        if let Some(log) = &mut self.log {
            log.trim();
        }
        Ok(())
    }

    fn write_staged(&mut self) -> Result<(), Fault> {
        let log = self.log.as_mut().ok_or_else(|| still_broken(self.status.last_fault))?;
        let staged = self.pending.staged();
        if staged.is_empty() {
            return Ok(());
        }
        if let Err(error) = log.append(staged) {
            return Err(self.break_log(Fault::of("append to the log")(error)));
        }
        self.status.written_bytes += staged.len() as u64;
        self.status.log_bytes += staged.len() as u64;
        self.pending.wrote_all();
        Ok(())
    }

    /// A new log of an epoch that no file ever had, with all that is pending in it, and lasting.
    fn begin_log(&mut self, unix_s: u64) -> Result<Log<S::File>, Fault> {
        let exhausted = || io::Error::other("no epoch is left");
        let epoch = self.epoch.next().ok_or_else(exhausted).map_err(Fault::of("begin a log"))?;
        self.epoch = epoch;
        self.pending.begin_again(epoch);
        let header = self.owner.header(FileKind::Log, epoch, unix_s);
        let frames = self.pending.staged();
        let begun = Log::begin(&self.storage, &header, frames, self.config.reserve_bytes);
        match begun {
            Ok(log) => {
                self.status.epoch = epoch;
                self.status.logs += 1;
                self.status.log_bytes += log.frame_bytes();
                self.status.written_bytes += log.len();
                self.status.syncs += 1;
                Ok(log)
            }
            Err(fault) => Err(self.failed(fault)),
        }
    }

    fn break_log(&mut self, fault: Fault) -> Fault {
        if let Some(mut log) = self.log.take() {
            log.trim();
        }
        self.abandon_snapshot();
        self.status.broken = true;
        self.failed(fault)
    }

    fn failed(&mut self, fault: Fault) -> Fault {
        self.status.last_fault = Some(fault.kind);
        fault
    }
}

/// Snapshots. One is written beside the log, in slices, from what the owner has in memory: changes
/// meanwhile are in the log that began with it, whether or not a slice already had them.
impl<S: Storage> Store<S> {
    /// Ends the log, with a sync, begins the next one and a snapshot of the same epoch. One that is
    /// under way is given up.
    ///
    /// # Errors
    /// What failed: if it was the sync, the store is broken; else it goes on without a snapshot.
    pub fn begin_snapshot(&mut self, unix_s: u64) -> Result<(), Fault> {
        self.abandon_snapshot();
        self.sync()?;
        let log = self.begin_log(unix_s)?;
        if let Some(mut ended) = self.log.replace(log) {
            ended.trim();
        }
        let header = self.owner.header(FileKind::Snapshot, self.epoch, unix_s);
        let buffer = std::mem::take(&mut self.snapshot_buffer);
        let begun = Snapshot::begin(&self.storage, &header, buffer, self.config.batch_bytes);
        self.snapshot = Some(begun.map_err(|fault| self.failed(fault))?);
        self.status.snapshotting = true;
        Ok(())
    }

    /// Puts a record into the snapshot.
    ///
    /// # Errors
    /// What failed, the snapshot is given up then; or that it was before, as it is whenever the log
    /// breaks.
    ///
    /// # Panics
    /// As [`Store::append`] does.
    pub fn snapshot(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fault> {
        assert_ne!(kind, Kind::Seal, "a snapshot has one end");
        debug_assert!(Record::decode(kind, payload).is_ok(), "it would not be read");
        let snapshot = self.snapshot.as_mut().ok_or_else(|| given_up(self.status.last_fault))?;
        match snapshot.push(kind, payload) {
            Ok(written) => {
                self.status.written_bytes += written;
                Ok(())
            }
            Err(fault) => {
                self.abandon_snapshot();
                Err(self.failed(fault))
            }
        }
    }

    /// Ends the snapshot: from here on it is what the state is made of. What only the snapshots
    /// before the last one needed is removed.
    ///
    /// # Errors
    /// As of [`Store::snapshot`]. A file that could not be removed is no failure: the next snapshot
    /// removes it.
    pub fn finish_snapshot(&mut self) -> Result<(), Fault> {
        // It may say what the log says as of now: what nobody can know to last must not last
        // without what was said before it.
        self.sync()?;
        let snapshot = self.snapshot.as_mut().ok_or_else(|| given_up(self.status.last_fault))?;
        let done = match snapshot.finish(&self.storage) {
            Ok(done) => done,
            Err(fault) => {
                self.abandon_snapshot();
                return Err(self.failed(fault));
            }
        };
        self.keep_buffer();
        let previous = self.status.snapshot.replace(done.epoch);
        self.status.snapshot_bytes = done.bytes;
        self.status.snapshot_records = done.records;
        self.status.written_bytes += done.written;
        // The log began with the snapshot: a failure since would have ended both.
        self.status.logs = 1;
        self.status.log_bytes = self.log.as_ref().map_or(0, Log::frame_bytes);
        self.damaged = false;
        let removed = previous.map_or(Ok(()), |previous| self.remove_before(previous));
        if let Err(error) = removed {
            self.failed(Fault::of("remove old files")(error));
        }
        Ok(())
    }

    /// Gives up the snapshot that is under way, if one is.
    pub fn abandon_snapshot(&mut self) {
        if self.snapshot.is_some() {
            self.keep_buffer();
            // What stays is removed when the next one begins.
            let _ = self.storage.remove(names::COMPACTION);
        }
    }

    fn keep_buffer(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.snapshot_buffer = snapshot.into_buffer();
        }
        self.status.snapshotting = false;
    }

    /// Removes the logs and snapshots of epochs before this one.
    fn remove_before(&self, epoch: Epoch) -> io::Result<()> {
        let mut removed = Ok(());
        for name in self.storage.list()? {
            let old = match Name::parse(&name) {
                Some(Name::Log(of) | Name::Snapshot(of)) => of < epoch,
                Some(Name::Corrupt(_) | Name::Unfinished) | None => false,
            };
            if old {
                removed = removed.and(self.storage.remove(&name));
            }
        }
        removed.and(self.storage.sync())
    }
}

fn still_broken(last: Option<FaultKind>) -> Fault {
    let error = io::Error::other("it failed before and was not begun again");
    Fault { doing: "write to the log", kind: last.unwrap_or(FaultKind::Io), error }
}

fn given_up(last: Option<FaultKind>) -> Fault {
    let error = io::Error::other("it was given up");
    Fault { doing: "write a snapshot", kind: last.unwrap_or(FaultKind::Io), error }
}
