//! From a packet loop to its store: a ring of records, and the thread that writes them.
//!
//! The loop puts records into a ring and never waits; the writer takes them out in batches and
//! waits for the disk. Nothing else is shared but counters. How much is lost when the power goes is
//! [`Durability`]; a process that dies loses what is in the ring.
//!
//! Invariants:
//! * What is queued reaches the store in the order in which it was queued, once.
//! * [`Journal::durable`] never says more than a crash would leave.
//! * A full ring refuses a critical record, and says so. Soft ones are refused from half of the
//!   ring on, and so is a snapshot, so that neither crowds out a change.
//! * Nothing of the loop's end blocks, locks or allocates, but [`start`] and [`Journal::stop`].
//! * A disk that fails fills the ring and loses nothing that is in it: the writer tries again, at
//!   longer and longer intervals, until it works.
//! * An idle writer wakes up for nothing.

mod bell;
mod ring;
mod stats;
mod writer;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fault::{Fault, FaultKind};
use crate::kind::Class;
use crate::record::Record;
use crate::storage::Storage;
use crate::store::Store;

use self::ring::{Input, Tag};
use self::stats::Shared;
pub use self::stats::Stats;

/// The atomics of the bell, which loom has others of.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU8, Ordering, fence};
}

/// When what is written is synced, which is what a power cut may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When a snapshot begins, at the end, and when the store would have to remember too much.
    Async,
    /// Every [`Config::sync_interval`], while there is something to sync.
    #[default]
    Group,
    /// At once.
    Strict,
}

impl Durability {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Async, Self::Group, Self::Strict];

    /// Its name in a configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Group => "group",
            Self::Strict => "strict",
        }
    }
}

/// How a journal treats its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When it syncs.
    pub durability: Durability,
    /// How long a record waits for its sync, at most, under [`Durability::Group`].
    pub sync_interval: Duration,
    /// How long a record waits to be written, at most, unless it is [`Durability::Strict`].
    pub batch_interval: Duration,
    /// Bytes of the ring; at least four of the longest records, whatever it says.
    pub ring_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            sync_interval: Duration::from_millis(100),
            batch_interval: Duration::from_millis(50),
            ring_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// It will be written, if it takes until the disk is mended.
    Queued,
    /// There was no room for it, or nobody to write it; it was counted.
    Dropped,
}

/// The packet loop's end.
#[derive(Debug)]
pub struct Journal {
    ring: Input,
    shared: Arc<Shared>,
    /// Entries were queued since the last flush.
    unannounced: bool,
    position: u64,
    dropped_soft: u64,
    dropped_critical: u64,
    snapshots_begun: u64,
    snapshot_open: bool,
    /// `None` once it was told to stop.
    writer: Option<JoinHandle<Result<(), Fault>>>,
}

/// Starts the thread that writes to `store`, named `store-<id>` after its shard. It calls
/// `on_durable` under [`Durability::Strict`], each time that more became durable: that may wake
/// who waits for it.
///
/// # Errors
/// What the system says of a new thread.
pub fn start<S>(
    store: Store<S>,
    config: Config,
    on_durable: impl Fn() + Send + 'static,
) -> io::Result<Journal>
where
    S: Storage + Send + 'static,
    S::File: Send,
{
    let (input, output) = ring::new(config.ring_bytes);
    let shared = Arc::new(Shared::new());
    let writer = writer::start(store, output, Arc::clone(&shared), config, on_durable)?;
    Ok(Journal {
        ring: input,
        shared,
        unannounced: false,
        position: 0,
        dropped_soft: 0,
        dropped_critical: 0,
        snapshots_begun: 0,
        snapshot_open: false,
        writer: Some(writer),
    })
}

impl Journal {
    /// Bytes of the longest payload that a critical record may have to be queued now. Each record
    /// that is queued takes four bytes more than its payload.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// Queues a change for the log.
    ///
    /// # Panics
    /// It is a seal, which is nobody's to write but the store's.
    pub fn append(&mut self, record: &Record<'_>) -> Appended {
        let class = record.class();
        let welcome = match class {
            Class::Critical => true,
            Class::Soft => !self.ring.is_crowded(),
        };
        if welcome && !self.shared.is_dead() && self.ring.push(Tag::Log, record) {
            self.position += 1;
            self.unannounced = true;
            return Appended::Queued;
        }
        match class {
            Class::Critical => self.dropped_critical += 1,
            Class::Soft => self.dropped_soft += 1,
        }
        Appended::Dropped
    }

    /// How many changes were queued so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many of them, from the first on, are synced; under [`Durability::Async`], written.
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Why nothing is written at present; `None` is all is well. A writer that panicked is
    /// [`FaultKind::Io`] for good.
    pub fn status(&self) -> Option<FaultKind> {
        self.shared.status()
    }

    /// Whether what is queued now will be written soon: the disk does not fail.
    pub fn accepts(&self) -> bool {
        self.status().is_none()
    }

    /// The newest failure since the last call, for a log. A failure of a snapshot is here, too,
    /// though it is none of [`Self::status`].
    pub fn take_fault(&self) -> Option<Fault> {
        self.shared.take_fault()
    }

    /// Whether the owner should hand over all it has: [`Self::begin_snapshot`]. Not while a
    /// snapshot is under way, in the ring or in the store, and not soon after one that failed.
    pub fn snapshot_wanted(&self) -> bool {
        !self.snapshot_open && self.shared.wants_snapshot(self.snapshots_begun)
    }

    /// Begins a snapshot, in the place of one that is under way; false if it has to be asked again
    /// later. Between here and [`Self::finish_snapshot`] the owner hands over all that it has, in
    /// any order, and queues changes as ever. If the snapshot fails meanwhile, what is handed over is
    /// thrown away, and another one will be wanted.
    pub fn begin_snapshot(&mut self) -> bool {
        let begun = self.accepts() && self.mark(Tag::Begin);
        if begun {
            self.snapshots_begun += 1;
            self.snapshot_open = true;
        }
        begun
    }

    /// Hands over a record that the owner has; false if it has to be asked again later, because
    /// changes need the room.
    ///
    /// # Panics
    /// No snapshot was begun, or as [`Self::append`] does.
    pub fn snapshot(&mut self, record: &Record<'_>) -> bool {
        assert!(self.snapshot_open, "a snapshot begins with its beginning");
        let handed_over = !self.ring.is_crowded() && self.ring.push(Tag::Snapshot, record);
        self.unannounced |= handed_over;
        handed_over
    }

    /// Says that the owner has no more; false if it has to be asked again later.
    ///
    /// # Panics
    /// No snapshot was begun.
    pub fn finish_snapshot(&mut self) -> bool {
        assert!(self.snapshot_open, "a snapshot begins with its beginning");
        let finished = self.mark(Tag::Finish);
        self.snapshot_open = !finished;
        finished
    }

    /// Once a turn: wakes the writer, if it has to know of what was queued since the last one.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.unannounced)
            && self.shared.bell.came(|| self.ring.is_crowded())
            && let Some(writer) = &self.writer
        {
            writer.thread().unpark();
        }
    }

    /// What was counted so far. What the writer counts is as of its last batch.
    pub fn stats(&self) -> Stats {
        Stats {
            dropped_soft: self.dropped_soft,
            dropped_critical: self.dropped_critical,
            queued_bytes: self.ring.used() as u64,
            ..self.shared.stats()
        }
    }

    /// Has everything that is queued written and synced, closes the store and waits for the
    /// thread to end. A snapshot under way is given up. Dropping a journal does the same, and does
    /// not say whether it worked.
    ///
    /// # Errors
    /// What failed: some of what was queued is lost, and only [`Self::durable`] records are not.
    pub fn stop(mut self) -> Result<(), Fault> {
        self.end()
    }

    /// Queues an entry that is no record.
    fn mark(&mut self, tag: Tag) -> bool {
        let queued = !self.ring.is_crowded() && self.ring.push_mark(tag);
        self.unannounced |= queued;
        queued
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.shared.stop();
        // Parked or not, it sees the flag: a thread that is unparked does not park the next time.
        writer.thread().unpark();
        writer.join().unwrap_or_else(|_panic| {
            let error = io::Error::other("the writer panicked");
            Err(Fault { doing: "write to the store", kind: FaultKind::Io, error })
        })
    }
}

impl Drop for Journal {
    /// Waits for the thread: whoever opens the directory next must not find it still writing.
    fn drop(&mut self) {
        // Who wants to know asks `stop`.
        let _ = self.end();
    }
}
