//! A shard's store, as its loop sees it: never waited for.
//!
//! What the router notes goes into a ring that a thread of the store's empties to the disk; what
//! that thread has to say is read where the loop comes by anyway. When the log should be replaced,
//! the router's state is walked in slices of some records a turn, beside the datagrams.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use peerstore::journal::{self, Appended, Journal};
use peerstore::record::Home;
use peerstore::{
    Fault, FaultKind, Layout, Recovery, Repartition, Shard, Store, StoreDir, repartition,
};
use rustix::process::getpid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::counters::Counters;
use crate::ids::{PeerId, WgKey};
use crate::partition::Partition;
use crate::port::Waker;
use crate::router::{Cursor, Router};
use crate::time::Now;
use crate::tunnel::{self, Tunnel};

use super::StartError;

/// Records that a turn adds to a snapshot: some 10 us of it.
const RECORDS_A_TURN: usize = 32;

/// What the stores of all shards are made of.
#[derive(Clone)]
pub struct StoreConfig {
    /// Where they lie, locked.
    pub directory: Arc<StoreDir>,
    /// How files are written.
    pub files: peerstore::Config,
    /// How changes get there.
    pub journal: journal::Config,
}

/// Divides what another number of shards, or another identity, left as `partition` says; to be done
/// before shards open their stores. New files are created at `unix_s`.
///
/// # Errors
/// What a directory refused. Nothing is lost; it can be done again.
pub fn divide(
    directory: &StoreDir,
    partition: &Partition,
    unix_s: u64,
) -> Result<Repartition, StartError> {
    let layout = Layout { shards: partition.shards(), partition_hash: partition.hash() };
    let home = |home: Home| match home {
        Home::Peer(key) => Some(partition.home(&WgKey(key.0))),
        Home::Key(key) => Some(partition.owner(&key.0)),
        Home::Pair(a, b) => Some(partition.between(&PeerId(a.0), &PeerId(b.0))),
        Home::EveryShard => None,
    };
    let there = directory.shards().map_err(StartError::StoreDirectory)?;
    let ids: BTreeSet<u16> = there.into_iter().chain(0..layout.shards).collect();
    let dirs = ids.into_iter().map(|id| Ok((id, directory.shard(id)?)));
    let dirs: Vec<_> = dirs.collect::<io::Result<_>>().map_err(StartError::StoreDirectory)?;
    let divided = repartition(&dirs, layout, unix_s, home).map_err(StartError::Store)?;
    let Repartition { moved, written, ref surplus, ref recovery } = divided;
    if moved {
        tell_damage(recovery);
    }
    if moved {
        tracing::info!(shards = layout.shards, records = written, "the store was divided anew");
    }
    for &shard in surplus {
        if let Err(error) = directory.remove_shard(shard) {
            tracing::warn!(shard, %error, "an empty directory of the store stays");
        }
    }
    Ok(divided)
}

/// An open store and who writes to it.
pub(super) struct Keeper {
    journal: Journal,
    /// Where the walk for a snapshot is; none while there is no walk.
    walk: Option<Cursor>,
    /// What was last said of it.
    status: Option<FaultKind>,
    /// What it had at the beginning.
    recovery: Recovery,
    restored: u64,
    shard: u16,
}

impl Keeper {
    /// Opens a shard's store, hands the router what is in it, and starts its writer, which rings
    /// `waker` when somebody waits for it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn open<T: Tunnel>(
        config: &StoreConfig,
        tunnel: &tunnel::Config,
        now: Now,
        router: &mut Router<T>,
        waker: Waker,
    ) -> Result<Self, StartError> {
        let tunnel::Config { shard, partition, .. } = *tunnel;
        let Some(shard) = Shard::new(shard, partition.shards()) else {
            unreachable!("a shard is one of its partition's");
        };
        let disk = config.directory.shard(shard.id()).map_err(StartError::StoreDirectory)?;
        let (files, hash) = (config.files, partition.hash());
        let mut restored = 0;
        let (store, recovery) = Store::open(disk, shard, hash, files, now.unix_s(), |record| {
            restored += u64::from(router.restore(now, &record));
        })
        .map_err(StartError::Store)?;
        tell_damage(&recovery);
        let journal = elsewhere(|| journal::start(store, config.journal, move || waker.wake()));
        let journal = journal.map_err(StartError::Thread)?;
        Ok(Self { journal, walk: None, status: None, recovery, restored, shard: shard.id() })
    }

    /// Tells the router how the store is.
    pub(super) fn begin_turn<T: Tunnel>(&mut self, now: Now, router: &mut Router<T>) {
        self.tell_room(router);
        router.stored(now, self.journal.durable());
        self.report();
    }

    /// Logs what the writer met since the last turn.
    fn report(&mut self) {
        // Few: after each failure the writer waits before it tries again.
        if let Some(Fault { doing, error, .. }) = self.journal.take_fault() {
            tracing::warn!(shard = self.shard, doing, %error, "the store met a fault");
        }
        let status = self.journal.status();
        if status != self.status {
            self.status = status;
            match status {
                Some(fault) => tracing::error!(
                    shard = self.shard,
                    fault = fault.label(),
                    "the store cannot be written: what it cannot keep is refused"
                ),
                None => tracing::info!(shard = self.shard, "the store is written again"),
            }
        }
    }

    fn tell_room<T: Tunnel>(&self, router: &mut Router<T>) {
        router.store_room(if self.journal.accepts() { self.journal.room() } else { 0 });
    }

    /// Takes what changed.
    #[inline]
    pub(super) fn take<T: Tunnel>(&mut self, now: Now, router: &mut Router<T>) {
        if !router.has_changes() {
            return;
        }
        // What is dropped is counted there.
        let mut all = true;
        router.take_changes(now, |record| all &= self.journal.append(record) == Appended::Queued);
        router.changes_taken(all.then(|| self.journal.position()));
        self.tell_room(router);
    }

    /// Goes on with a snapshot if there is one to make, and lets the writer have what was added.
    pub(super) fn end_turn<T: Tunnel>(&mut self, now: Now, router: &Router<T>) {
        if self.walk.is_none() && self.journal.snapshot_wanted() && self.journal.begin_snapshot() {
            self.walk = Some(Cursor::default());
        }
        if let Some(from) = self.walk {
            let mut left = RECORDS_A_TURN;
            let at = router.walk(now, from, |record| {
                let added = left > 0 && self.journal.snapshot(record);
                left = left.saturating_sub(1);
                added
            });
            let done = at == Cursor::End && self.journal.finish_snapshot();
            self.walk = (!done).then_some(at);
        }
        self.journal.flush();
    }

    /// Whether a snapshot is being made: there is something to do without datagrams. Not while the
    /// disk fails, for nothing is taken then.
    pub(super) fn is_walking(&self) -> bool {
        self.walk.is_some() && self.journal.accepts()
    }

    /// Copies what the writer counted.
    pub(super) fn publish(&self, counters: &Counters) {
        counters.store(&self.journal.stats(), self.status);
        counters.store_recovery(&self.recovery, self.restored);
    }

    /// Writes what is left, and closes the files.
    ///
    /// # Errors
    /// What could not be written.
    pub(super) fn stop(self) -> io::Result<()> {
        let named =
            |fault: Fault| io::Error::new(fault.error.kind(), format!("the store: {fault}"));
        self.journal.stop().map_err(named)
    }
}

/// What a crash does not leave behind is told aloud.
fn tell_damage(found: &Recovery) {
    let &Recovery { corrupt, unreadable, snapshots_damaged, not_copied, .. } = found;
    if found.is_damaged() {
        tracing::error!(
            corrupt,
            unreadable,
            snapshots_damaged,
            not_copied,
            "files of the store were damaged: what was good of them is served"
        );
    }
}

/// Starts a thread that may run where the process may, and not where this one is pinned: there it
/// would take time from the datagrams. A thread begins where who starts it is.
fn elsewhere<R>(start: impl FnOnce() -> R) -> R {
    let (here, anywhere) = (sched_getaffinity(None), sched_getaffinity(Some(getpid())));
    let moved = anywhere.is_ok_and(|cpus| sched_setaffinity(None, &cpus).is_ok());
    let started = start();
    if moved && let Ok(cpus) = here {
        // It was there a moment ago.
        let _ = sched_setaffinity(None, &cpus);
    }
    started
}
