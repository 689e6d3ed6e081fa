//! A shard's store without its thread: the ring, the writer and what the shard's loop has to do
//! with them, at times that the seed decides.
//!
//! As in production the loop never waits: it puts records into a ring of so many bytes, and reads
//! how far the writer is. The writer is an event; it does what `peerstore::journal`'s thread does.

use std::collections::VecDeque;
use std::time::Duration;

use molia_router::router::{Cursor, Router};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::plain::Plain;
use peerstore::frame::{self, OVERHEAD_BYTES};
use peerstore::journal::Durability;
use peerstore::storage::sim::SimDir;
use peerstore::{Epoch, Kind, Record, Store};

use super::dice::Dice;
use super::keep::Keep;
use super::saboteur::Saboteur;
use super::verdict::{Oracle, Violation, ensure};

/// Records that a turn adds to a snapshot.
const RECORDS_A_TURN: usize = 8;
/// What an entry of the ring takes beside its payload.
const HEAD_BYTES: usize = 4;
/// How long after a failure the store is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

#[derive(Debug)]
enum Entry {
    Log(Kind, Vec<u8>),
    Snapshot(Kind, Vec<u8>),
    Begin,
    Finish,
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Log(_, payload) | Self::Snapshot(_, payload) => HEAD_BYTES + payload.len(),
            Self::Begin | Self::Finish => HEAD_BYTES,
        }
    }
}

/// One life of a shard's store.
pub(crate) struct Keeper {
    keep: Keep,
    store: Store<SimDir>,
    ring: VecDeque<Entry>,
    used: usize,
    /// Records that were queued, taken out and made to last so far.
    position: u64,
    taken: u64,
    durable: u64,
    write_at: Option<Moment>,
    sync_at: Option<Moment>,
    retry_at: Option<Moment>,
    failures: u32,
    walk: Option<Cursor>,
    /// When the writer does something next.
    wakes: Option<Moment>,
    /// Since when the router is told that there is no room, because the disk fails.
    pub(crate) refuses_since: Option<Moment>,
    /// Everything that was noted before lasts.
    pub(crate) safe_until: Moment,
    dice: Dice,
}

impl Keeper {
    pub(crate) fn new(keep: Keep, store: Store<SimDir>, born: Moment, dice: Dice) -> Self {
        let broken = store.is_broken();
        Self {
            keep,
            store,
            ring: VecDeque::new(),
            used: 0,
            position: 0,
            taken: 0,
            durable: 0,
            write_at: None,
            sync_at: None,
            retry_at: broken.then(|| born + RETRY[0]),
            failures: u32::from(broken),
            walk: None,
            wakes: None,
            refuses_since: None,
            safe_until: born,
            dice,
        }
    }

    fn room(&self) -> usize {
        (self.keep.ring_bytes - self.used).saturating_sub(HEAD_BYTES)
    }

    fn is_crowded(&self) -> bool {
        self.used >= self.keep.ring_bytes / 2
    }

    /// Tells the router how the store is.
    pub(crate) fn begin_turn(
        &mut self,
        now: Now,
        router: &mut Router<Plain>,
        saboteur: &Option<Saboteur>,
    ) {
        let broken = self.store.is_broken();
        self.refuses_since = broken.then(|| self.refuses_since.unwrap_or(now.at));
        let trusting = saboteur.as_ref().is_some_and(Saboteur::trusts);
        router.store_room(if broken && !trusting { 0 } else { self.room() });
        router.stored(now, self.durable);
    }

    /// Takes what changed.
    pub(crate) fn take(&mut self, now: Now, router: &mut Router<Plain>) -> Result<(), Violation> {
        if !router.has_changes() {
            return Ok(());
        }
        let refuses = self.refuses_since;
        let (mut dropped, mut kept) = (None, None);
        router.take_changes(now, |record| {
            let promised = matches!(record.kind(), Kind::Value | Kind::Provider);
            kept = kept.or(promised.then(|| record.kind()));
            if !self.push(Entry::Log(record.kind(), payload(record))) {
                dropped = dropped.or(promised.then(|| record.kind()));
            } else {
                self.position += 1;
            }
        });
        ensure(dropped.is_none(), Oracle::Refusal, now.at, || {
            format!("a {dropped:?} is kept that the store had no room for")
        })?;
        ensure(kept.is_none() || refuses.is_none(), Oracle::Refusal, now.at, || {
            format!("a {kept:?} is kept while the disk fails, since {refuses:?}")
        })?;
        router.changes_taken(Some(self.position));
        router.store_room(if refuses.is_some() { 0 } else { self.room() });
        Ok(())
    }

    /// Goes on with a snapshot. Returns whether there is more of it to do.
    pub(crate) fn end_turn(&mut self, now: Now, router: &Router<Plain>) -> bool {
        let wanted = self.walk.is_none() && self.store.wants_snapshot() && !self.store.is_broken();
        if wanted && !self.is_snapshotting() && !self.is_crowded() && self.push(Entry::Begin) {
            self.walk = Some(Cursor::default());
        }
        if let Some(from) = self.walk {
            let mut left = RECORDS_A_TURN;
            let at = router.walk(now, from, |record| {
                let entry = || Entry::Snapshot(record.kind(), payload(record));
                let added = left > 0 && !self.is_crowded() && self.push(entry());
                left = left.saturating_sub(1);
                added
            });
            let done = at == Cursor::End && !self.is_crowded() && self.push(Entry::Finish);
            self.walk = (!done).then_some(at);
        }
        self.walk.is_some() && !self.store.is_broken()
    }

    /// Whether changes wait for the writer.
    pub(crate) fn has_news(&self) -> bool {
        self.ring.iter().any(|entry| matches!(entry, Entry::Log(..)))
    }

    fn is_snapshotting(&self) -> bool {
        self.store.status().snapshotting || self.ring.iter().any(|it| matches!(it, Entry::Finish))
    }

    fn push(&mut self, entry: Entry) -> bool {
        let bytes = entry.bytes();
        let fits = self.used + bytes <= self.keep.ring_bytes;
        if fits {
            self.used += bytes;
            self.ring.push_back(entry);
        }
        fits
    }

    /// When the writer is to be called, if that is news.
    pub(crate) fn due(&mut self, now: Moment, calm: bool) -> Option<Moment> {
        let timer = if self.store.is_broken() {
            self.retry_at
        } else {
            let strict = self.keep.durability() == Durability::Strict;
            let rings = !self.ring.is_empty()
                && (strict || self.is_crowded() || self.write_at.or(self.sync_at).is_none());
            let slow = !calm && rings && self.wakes.is_none() && self.dice.permille(self.keep.slow);
            let most = if slow { self.keep.slow_max } else { self.keep.latency };
            let most_us = u64::try_from(most.as_micros()).expect("a short time");
            let latency = self.dice.micros(1..most_us + 1);
            let timers = [self.write_at, self.sync_at, rings.then(|| now + latency)];
            timers.into_iter().flatten().min()
        }?;
        let news = self.wakes.is_none_or(|wakes| timer < wakes || wakes < now);
        news.then(|| *self.wakes.insert(timer.max(now)))
    }

    /// The writer's turn. Returns whether somebody waits for what it did.
    pub(crate) fn work(&mut self, now: Now, saboteur: &Option<Saboteur>) -> bool {
        if self.wakes != Some(now.at) {
            return false;
        }
        self.wakes = None;
        let before = self.durable;
        if self.store.is_broken() {
            if self.retry_at.is_none_or(|at| at <= now.at) {
                self.retry(now);
            }
        } else {
            let full = self.take_batch(now);
            self.write_what_is_due(now, full, saboteur);
        }
        self.keep.durability() == Durability::Strict && self.durable > before
    }

    /// Whether the batch is full.
    fn take_batch(&mut self, now: Now) -> bool {
        let mut snapshot_bytes = 0;
        let unix_s = now.unix_s();
        while !self.store.is_broken() {
            let Some(entry) = self.ring.pop_front() else { break };
            self.used -= entry.bytes();
            let done = match entry {
                Entry::Log(kind, payload) => {
                    self.store.append(kind, &payload);
                    self.taken += 1;
                    Ok(())
                }
                Entry::Snapshot(kind, payload) => {
                    snapshot_bytes += payload.len();
                    let under_way = self.store.status().snapshotting;
                    if under_way { self.store.snapshot(kind, &payload) } else { Ok(()) }
                }
                Entry::Begin => self.store.begin_snapshot(unix_s),
                Entry::Finish if self.store.status().snapshotting => self.store.finish_snapshot(),
                Entry::Finish => Ok(()),
            };
            match done {
                Ok(()) => self.acknowledge(now),
                Err(_) => self.failed(now),
            }
            if self.store.staged_bytes() + snapshot_bytes >= self.keep.files.batch_bytes {
                return true;
            }
        }
        let Keep { batch_interval, sync_interval, .. } = self.keep;
        if self.keep.durability() == Durability::Group && self.store.unsynced_bytes() > 0 {
            self.write_at = self.write_at.or(Some(now.at + batch_interval));
            self.sync_at = self.sync_at.or(Some(now.at + sync_interval));
        }
        false
    }

    fn write_what_is_due(&mut self, now: Now, full: bool, saboteur: &Option<Saboteur>) {
        if self.store.is_broken() {
            return;
        }
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now.at);
        let syncs = due(self.sync_at) || self.keep.durability() == Durability::Strict;
        let lies = saboteur.as_ref().is_some_and(Saboteur::lies);
        let done = if lies {
            // Somebody pulls the plug before anything reaches the platter.
            (self.durable, self.write_at, self.sync_at) = (self.taken, None, None);
            return;
        } else if syncs && self.store.unsynced_bytes() > 0 {
            self.store.sync()
        } else if full || due(self.write_at) {
            self.store.write()
        } else {
            return self.acknowledge(now);
        };
        match done {
            Ok(()) => {
                self.failures = 0;
                self.acknowledge(now);
            }
            Err(_) => self.failed(now),
        }
    }

    fn acknowledge(&mut self, now: Now) {
        if self.store.unsynced_bytes() == 0 {
            self.sync_at = None;
            self.durable = self.taken;
            if !self.ring.iter().any(|entry| matches!(entry, Entry::Log(..))) {
                self.safe_until = now.at;
            }
        }
        if self.store.staged_bytes() == 0 {
            self.write_at = None;
        }
    }

    fn failed(&mut self, now: Now) {
        if self.store.is_broken() {
            (self.write_at, self.sync_at) = (None, None);
            let pause = RETRY[0] * (1 << self.failures.min(6));
            self.retry_at = Some(now.at + pause.min(RETRY[1]));
            self.failures += 1;
        }
    }

    fn retry(&mut self, now: Now) {
        match self.store.retry(now.unix_s()) {
            Ok(()) => {
                self.retry_at = None;
                self.acknowledge(now);
            }
            Err(_) => self.failed(now),
        }
    }

    /// Is killed, now and then between a write and its sync. Returns until when everything lasts.
    pub(crate) fn kill(mut self, now: Now) -> Moment {
        let safe = self.safe_until;
        if self.dice.permille(800) {
            self.take_batch(now);
            // What it says nobody hears.
            let _ = self.store.write();
        }
        safe
    }

    /// Writes all that there is, and closes. Returns until when everything lasts.
    pub(crate) fn stop(mut self, now: Now) -> Moment {
        loop {
            if self.store.is_broken() && self.store.retry(now.unix_s()).is_err() {
                return self.safe_until;
            }
            self.take_batch(now);
            if self.store.sync().is_err() {
                continue;
            }
            self.acknowledge(now);
            if self.ring.is_empty() && !self.store.is_broken() {
                break;
            }
        }
        let done = self.store.close().is_ok();
        if done { Moment::NEVER } else { self.safe_until }
    }
}

/// A record's payload, out of a frame.
fn payload(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame::frame_len(record)];
    let len = frame::encode(&mut bytes, Epoch::new(1), record).expect("it is as long as that");
    // Length and type are before it, the sum behind it.
    bytes.truncate(len - (OVERHEAD_BYTES - 5));
    bytes.drain(..5);
    bytes
}
