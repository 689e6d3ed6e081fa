//! The routing table of a bootstrap node: every live peer, found by XOR distance.
//!
//! A binary trie over the bits of the peer ids, with buckets of K = 20 entries as leaves. A
//! common Kademlia node splits only the bucket that its own id falls into and knows few of the
//! far peers; a bootstrap node is asked for everybody's neighbourhood, so here **every full
//! bucket splits** as long as there is room, and [`Table::closest`] is exact over all of them.
//! Once a bucket cannot split any more (table full, or deeper than [`DEPTH_MAX`] bits), Kademlia's
//! rule holds: the peer that was silent longest is pinged, and only if it does not answer does the
//! newcomer get its place, for long-lived peers are the ones that stay.
//!
//! Invariants:
//! * An id is in the leaf that its bits lead to, at most once; entries lie without holes.
//! * At most [`Config::per_prefix`] entries of one global network in a bucket: who owns one
//!   network cannot own a neighbourhood.
//! * No entry leaves but by [`Table::remove`], by failing its ping, by moving into a network that
//!   has its share of the bucket, or, if it was [restored](Table::restore), by not coming back.
//! * [`Table::closest`] allocates nothing; [`Table::insert`] allocates nothing either once
//!   the table is built, since the space for `entries_max` is reserved (not touched) at construction.
//! * Order depends on ids and on the sequence of calls alone.
//!
//! It sends no pings, knows no wire format and never asks who a peer is: entries carry the encoded
//! `Peer` message that answers copy.

mod bucket;
mod outcome;
mod restored;
#[cfg(test)]
mod tests;
mod trie;

use std::collections::VecDeque;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::snapshot::BucketSet;
use crate::ids::{HomeRef, PeerId, WgKey};
use crate::limits::FIND_NODE_PEERS_MAX;
use crate::net::{Prefix, Scope};
use crate::time::Moment;
use bucket::Bucket;
use trie::Trie;

pub use outcome::{Inserted, Refused, TableEvent};
pub use restored::{Known, RECORD_INTERVAL, RESTORED_AGE_MAX, RETURN_WITHIN, VERIFIED_AFTER};

/// Entries in a bucket.
pub const K: usize = 20;
/// Levels of the trie. Two random ids share this many bits once in 2^48 pairs, so who makes a
/// bucket of that depth full grinds ids, and is not given more buckets for it.
pub const DEPTH_MAX: usize = 48;
/// Bytes of an encoded `Peer`: id and WireGuard key (34 each), four IPv6 addresses with port
/// (25 each), round-trip time (6) and flags (2).
pub const PEER_BYTES_MAX: usize = 34 + 34 + 4 * 25 + 6 + 2;
/// Newcomers that wait for a ping's outcome at a time, in all buckets together.
pub const CANDIDATES_MAX: usize = 256;

/// The closest peers, nearest first.
pub type Closest = ArrayVec<EntryIdx, FIND_NODE_PEERS_MAX>;

/// Shape of the table.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Peers in the table.
    pub entries_max: usize,
    /// Peers of one /24 or /48 in a bucket.
    pub per_prefix: usize,
    /// How long a pinged peer has to be [seen](Table::seen).
    pub ping_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { entries_max: 131_072, per_prefix: 2, ping_timeout: Duration::from_secs(2) }
    }
}

/// A peer, as it is inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the XOR space.
    pub id: PeerId,
    /// The session that it is reached by.
    pub home: HomeRef,
    /// The network of its address.
    pub prefix: Prefix,
    /// How far its address means the same thing.
    pub scope: Scope,
    /// When it was first heard of, in seconds since 1970. Who is renewed keeps the earlier time.
    pub met_unix_s: u64,
    /// Its `Peer` message in wire form.
    pub encoded: ArrayVec<u8, PEER_BYTES_MAX>,
}

/// An entry's place, valid until the next call that takes the table mutably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryIdx(u32);

#[derive(Debug)]
struct Stored {
    entry: Entry,
    last_seen: Moment,
    /// A newcomer waits for the outcome of its ping.
    pinged: bool,
    /// Of one that was restored and did not come back yet: when it was heard of before that, in
    /// seconds since 1970.
    heard_before: Option<u64>,
    /// When it was last recorded for the next time, in seconds since 1970; 0 is never.
    recorded_unix_s: u64,
}

impl Stored {
    const fn alive(entry: Entry, last_seen: Moment) -> Self {
        Self { entry, last_seen, pinged: false, heard_before: None, recorded_unix_s: 0 }
    }
}

/// A newcomer waiting for the outcome of a ping.
#[derive(Debug)]
struct Candidate {
    newcomer: Entry,
    /// When it was last known to be alive: when it was inserted.
    seen: Moment,
    /// Who was pinged; `None` once that one left by itself.
    incumbent: Option<PeerId>,
    deadline: Moment,
}

/// What the bucket of a peer that is not in the table has for it.
enum Room {
    Free(usize),
    PrefixFull,
    Full(usize),
}

/// The table.
#[derive(Debug)]
pub struct Table {
    config: Config,
    trie: Trie,
    /// Without holes: the last entry moves into the place of one that leaves.
    entries: Vec<Stored>,
    /// By deadline, the earliest first.
    candidates: VecDeque<Candidate>,
    /// Who was restored and until when it has to come back, the earliest first; also those that
    /// came back or left.
    restored: VecDeque<(Moment, PeerId)>,
    /// Who was recorded for the next time, and left.
    gone: Vec<(PeerId, WgKey)>,
    /// Where something changed.
    changed: BucketSet,
}

impl Table {
    /// Memory that a table of this configuration reserves.
    pub fn bytes(config: &Config) -> usize {
        let candidates = CANDIDATES_MAX * size_of::<Candidate>();
        let entry = size_of::<Stored>() + size_of::<(Moment, PeerId)>();
        config.entries_max * entry + Trie::bytes(config.entries_max) + candidates
    }

    /// An empty table.
    ///
    /// # Panics
    /// If `entries_max` is zero or not below 2^31, or `per_prefix` is zero.
    pub fn new(config: Config) -> Self {
        assert!((1..1 << 31).contains(&config.entries_max), "entry places are 31 bits");
        assert!(config.per_prefix > 0, "a network without a share could never join");
        Self {
            trie: Trie::new(config.entries_max),
            entries: Vec::with_capacity(config.entries_max),
            candidates: VecDeque::with_capacity(CANDIDATES_MAX),
            restored: VecDeque::with_capacity(config.entries_max),
            gone: Vec::new(),
            changed: BucketSet::EMPTY,
            config,
        }
    }

    /// Adds or renews a peer that has just proved to be alive.
    pub fn insert(&mut self, now: Moment, entry: Entry) -> Inserted {
        if let Some(at) = self.find(&entry.id) {
            return self.update(now, at, entry);
        }
        if let Some(waiting) = self.candidates.iter_mut().find(|c| c.newcomer.id == entry.id) {
            (waiting.newcomer, waiting.seen) = (entry, now);
            return Inserted::Waiting;
        }
        match self.room(&entry) {
            Room::Free(leaf) => {
                self.add(leaf, now, entry);
                Inserted::Added
            }
            Room::PrefixFull => Inserted::Refused(Refused::Prefix),
            Room::Full(leaf) => self.challenge(now, leaf, entry),
        }
    }

    /// Notes that a peer is alive. Returns whether it is in the table; one that was restored does
    /// not count as there until it is inserted with its session. A walk of the trie:
    /// for every session once a second is plenty.
    pub fn seen(&mut self, id: &PeerId, now: Moment) -> bool {
        let Some(at) = self.find(id) else { return false };
        let stored = &mut self.entries[at.0 as usize];
        if stored.heard_before.is_some() {
            return false;
        }
        stored.last_seen = now;
        self.answered(at);
        true
    }

    /// The PING of [`Inserted::Pinging`] could not be sent: its peer keeps the place, and the newcomer is
    /// refused. What we failed to ask says nothing of who should have answered.
    pub fn unasked(&mut self, id: &PeerId) {
        if let Some(at) = self.find(id) {
            self.answered(at);
        }
    }

    /// Takes a peer out, e.g. because its session ended. Returns whether it was there.
    pub fn remove(&mut self, id: &PeerId) -> bool {
        let Some(at) = self.find(id) else {
            self.withdraw(id);
            return false;
        };
        let waiting = self.candidates.iter().position(|c| c.incumbent == Some(*id));
        if let Some(mut candidate) = waiting.and_then(|index| self.candidates.remove(index)) {
            candidate.incumbent = None;
            candidate.deadline = Moment::START;
            self.candidates.push_front(candidate);
        }
        self.take_out(at);
        true
    }

    /// Takes a peer out whose session ended, listed or waiting; one that is there under a newer
    /// session stays. Returns whether it was listed.
    pub fn session_ended(&mut self, id: &PeerId, home: HomeRef) -> bool {
        let listed = self.find(id).map(|EntryIdx(at)| self.entries[at as usize].entry.home);
        let waits = self.candidates.iter().find(|candidate| candidate.newcomer.id == *id);
        let under = listed.or(waits.map(|candidate| candidate.newcomer.home));
        under == Some(home) && self.remove(id)
    }

    /// Takes out everybody whose session was in `shard`, listed or waiting: it lost them all.
    pub fn shard_ended(&mut self, shard: u16) {
        let waits = |c: &&Candidate| c.newcomer.home.shard == shard;
        while let Some(id) = self.candidates.iter().find(waits).map(|c| c.newcomer.id) {
            self.withdraw(&id);
        }
        // From the end: who moves into a gap was looked at already.
        for at in (0..self.entries.len()).rev() {
            let Entry { id, home, .. } = self.entries[at].entry;
            if home.shard == shard {
                self.remove(&id);
            }
        }
    }

    /// The `limit` closest peers to `target`, nearest first, replacing what is in `out`.
    #[inline]
    pub fn closest(&self, target: &PeerId, limit: usize, out: &mut Closest) {
        out.clear();
        let limit = limit.min(FIND_NODE_PEERS_MAX);
        self.trie.near(target, |bucket| {
            bucket.nearest(target, limit, |at| self.entries[at as usize].entry.id, out);
            out.len() < limit
        });
    }

    /// The encoded `Peer` of an entry.
    ///
    /// # Panics
    /// If `at` is from before a change and beyond the table now.
    #[inline]
    pub fn encoded(&self, at: EntryIdx) -> &[u8] {
        &self.entries[at.0 as usize].entry.encoded
    }

    /// An entry and when its peer was last seen.
    ///
    /// # Panics
    /// As [`encoded`](Self::encoded).
    pub fn entry(&self, at: EntryIdx) -> (&Entry, Moment) {
        let stored = &self.entries[at.0 as usize];
        (&stored.entry, stored.last_seen)
    }

    /// The place of a peer.
    pub fn find(&self, id: &PeerId) -> Option<EntryIdx> {
        let bucket = self.trie.bucket(self.trie.leaf(id));
        bucket.find(id, |at| self.entries[at as usize].entry.id).map(EntryIdx)
    }

    /// The `n`-th entry in an order that says nothing of the ids: for uniform draws.
    pub fn nth(&self, n: usize) -> Option<EntryIdx> {
        let at = u32::try_from(n).ok()?;
        (n < self.entries.len()).then_some(EntryIdx(at))
    }

    /// Every entry, in the order of [`nth`](Self::nth).
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|stored| &stored.entry)
    }

    /// Visits every entry of a prefix bucket, those whose ids begin with `top`, in no order.
    pub fn each_in(&self, top: u8, mut visit: impl FnMut(&Entry)) {
        self.trie.under(top, |bucket| {
            let entries = bucket.places().iter().map(|&at| &self.entries[at as usize].entry);
            // A shallow bucket has more than one prefix.
            entries.filter(|entry| entry.id.0[0] == top).for_each(&mut visit);
        });
    }

    /// The prefix buckets in which peers came, left or were renewed since the last call.
    pub fn take_changed(&mut self) -> BucketSet {
        std::mem::replace(&mut self.changed, BucketSet::EMPTY)
    }

    /// Peers in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Buckets the table has split into.
    pub fn buckets(&self) -> usize {
        self.trie.buckets()
    }

    /// Number of the bucket that `id` belongs to, for whoever holds the table against its rules.
    pub fn bucket_of(&self, id: &PeerId) -> usize {
        self.trie.leaf(id)
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn next_deadline(&self) -> Moment {
        self.candidate_deadline().min(self.return_deadline())
    }

    fn candidate_deadline(&self) -> Moment {
        self.candidates.front().map_or(Moment::NEVER, |candidate| candidate.deadline)
    }

    /// What is due: call until `None`.
    pub fn poll(&mut self, now: Moment) -> Option<TableEvent> {
        while self.candidate_deadline() <= now {
            let Candidate { newcomer, seen, incumbent, .. } = self.candidates.pop_front()?;
            if let Some(at) = incumbent.and_then(|id| self.find(&id)) {
                self.take_out(at);
            }
            let added = match self.room(&newcomer) {
                Room::Free(leaf) => {
                    let id = newcomer.id;
                    self.add(leaf, seen, newcomer);
                    Some(id)
                }
                Room::PrefixFull | Room::Full(_) => None,
            };
            match (incumbent, added) {
                (Some(peer), added) => return Some(TableEvent::Evicted { peer, added }),
                (None, Some(peer)) => return Some(TableEvent::Added { peer }),
                (None, None) => {}
            }
        }
        self.lapsed(now)
    }

    fn update(&mut self, now: Moment, at: EntryIdx, mut entry: Entry) -> Inserted {
        self.answered(at);
        let bucket = self.trie.bucket(self.trie.leaf(&entry.id));
        if self.neighbours(bucket, &entry, Some(at)) >= self.config.per_prefix {
            self.take_out(at);
            return Inserted::Refused(Refused::Prefix);
        }
        let stored = &mut self.entries[at.0 as usize];
        if stored.entry.encoded != entry.encoded {
            self.changed.add(entry.id.0[0]);
        }
        entry.met_unix_s = entry.met_unix_s.min(stored.entry.met_unix_s);
        // Recorded elsewhere is recorded long ago.
        let same = stored.entry.encoded == entry.encoded;
        let recorded_unix_s =
            if same { stored.recorded_unix_s } else { stored.recorded_unix_s.min(1) };
        *stored = Stored { recorded_unix_s, ..Stored::alive(entry, now) };
        Inserted::Updated
    }

    /// The leaf of `id`, split until it has room or cannot be split.
    fn leaf_with_room(&mut self, id: &PeerId) -> usize {
        let mut leaf = self.trie.leaf(id);
        while self.entries.len() < self.config.entries_max
            && self.trie.bucket(leaf).len() == K
            && self.trie.split(leaf)
        {
            leaf = self.trie.leaf(id);
        }
        leaf
    }

    /// Entries of `newcomer`'s network in a bucket, `but` one. Networks that are not global have
    /// no share to use up: a laboratory's peers all live in one.
    fn neighbours(&self, bucket: &Bucket, newcomer: &Entry, but: Option<EntryIdx>) -> usize {
        if newcomer.scope != Scope::Global {
            return 0;
        }
        let counts = |at: &&u32| {
            let entry = &self.entries[**at as usize].entry;
            entry.scope == Scope::Global
                && entry.prefix == newcomer.prefix
                && Some(EntryIdx(**at)) != but
        };
        bucket.places().iter().filter(counts).count()
    }

    /// What the table has for a peer that is not in it. Splits buckets to make room.
    fn room(&mut self, entry: &Entry) -> Room {
        let leaf = self.leaf_with_room(&entry.id);
        let bucket = self.trie.bucket(leaf);
        if self.neighbours(bucket, entry, None) >= self.config.per_prefix {
            return Room::PrefixFull;
        }
        if bucket.len() == K || self.entries.len() == self.config.entries_max {
            return Room::Full(leaf);
        }
        Room::Free(leaf)
    }

    fn add(&mut self, leaf: usize, now: Moment, entry: Entry) {
        let at = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.changed.add(entry.id.0[0]);
        self.trie.bucket_mut(leaf).push(&entry.id, at);
        self.entries.push(Stored::alive(entry, now));
    }

    /// Lets the newcomer wait while the entry of its bucket that was silent longest is pinged.
    fn challenge(&mut self, now: Moment, leaf: usize, newcomer: Entry) -> Inserted {
        let bucket = self.trie.bucket(leaf);
        let silent = |at: &&u32| {
            let stored = &self.entries[**at as usize];
            // Those that did not come back yet were silent for longest.
            (stored.heard_before.is_none(), stored.last_seen, stored.entry.id)
        };
        let Some(&at) = bucket.places().iter().min_by_key(silent) else {
            return Inserted::Refused(Refused::Full);
        };
        let pinged = bucket.places().iter().any(|&at| self.entries[at as usize].pinged);
        if pinged || self.candidates.len() == CANDIDATES_MAX {
            return Inserted::Refused(Refused::Busy);
        }
        let stored = &mut self.entries[at as usize];
        stored.pinged = true;
        let Entry { id: peer, home, .. } = stored.entry;
        let deadline = now + self.config.ping_timeout;
        let incumbent = Some(peer);
        self.candidates.push_back(Candidate { newcomer, seen: now, incumbent, deadline });
        Inserted::Pinging { home, peer }
    }

    /// A peer is alive: if somebody waited for its place, that one is refused.
    fn answered(&mut self, at: EntryIdx) {
        let stored = &mut self.entries[at.0 as usize];
        if std::mem::take(&mut stored.pinged) {
            let id = Some(stored.entry.id);
            self.candidates.retain(|candidate| candidate.incumbent != id);
        }
    }

    /// Who waited with this id waits no more.
    fn withdraw(&mut self, id: &PeerId) {
        let waiting = self.candidates.iter().position(|c| c.newcomer.id == *id);
        let withdrawn = waiting.and_then(|index| self.candidates.remove(index));
        let incumbent = withdrawn.and_then(|candidate| candidate.incumbent);
        if let Some(at) = incumbent.and_then(|id| self.find(&id)) {
            self.entries[at.0 as usize].pinged = false;
        }
    }

    /// Removes an entry and moves the last one into its place.
    fn take_out(&mut self, at: EntryIdx) {
        let stored = self.entries.swap_remove(at.0 as usize);
        self.note_gone(&stored);
        let gone = stored.entry.id;
        self.changed.add(gone.0[0]);
        let leaf = self.trie.leaf(&gone);
        self.trie.bucket_mut(leaf).remove(at.0);
        if let Some(moved) = self.entries.get(at.0 as usize) {
            let from = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            let leaf = self.trie.leaf(&moved.entry.id);
            self.trie.bucket_mut(leaf).rename(from, at.0);
        }
    }
}
