//! The routing table as other shards see it: read-only snapshots, one for each prefix bucket.
//!
//! A shard's [`Table`] holds the peers whose ids it owns. What changed in it is
//! published at once, a prefix bucket at a time and at most every [`INTERVAL`] for each, to
//! all other shards, which answer lookups from their own table and these snapshots
//! without asking anybody. A snapshot is never written to: it is replaced.
//!
//! Invariants: the peers of a snapshot are sorted by id and all belong to its
//! bucket; a bucket is published once by its due time however often it changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::table::{Entry, PEER_BYTES_MAX, Table};
use crate::ids::PeerId;
use crate::limits::FIND_NODE_PEERS_MAX;
use crate::net::{Prefix, Scope};
use crate::partition::BUCKETS;
use crate::time::Moment;

/// Least time between two snapshots of a bucket, and so the most until a change is published.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// A set of prefix buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSet([u64; BUCKETS / 64]);

impl BucketSet {
    /// None of them.
    pub const EMPTY: Self = Self([0; BUCKETS / 64]);

    /// Puts a bucket in.
    #[inline]
    pub fn add(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 64)] |= 1 << (bucket % 64);
    }

    /// Takes a bucket out.
    pub fn remove(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 64)] &= !(1 << (bucket % 64));
    }

    /// Whether a bucket is in.
    #[inline]
    pub fn has(&self, bucket: u8) -> bool {
        self.0[usize::from(bucket / 64)] >> (bucket % 64) & 1 == 1
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.0 == Self::EMPTY.0
    }

    /// Those that are in, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|bucket| self.has(*bucket))
    }
}

/// A peer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the XOR space.
    pub id: PeerId,
    /// The network of its address.
    pub prefix: Prefix,
    /// How far its address means the same thing.
    pub scope: Scope,
    /// Its `Peer` message in wire form.
    pub encoded: ArrayVec<u8, PEER_BYTES_MAX>,
}

impl From<&Entry> for Published {
    fn from(entry: &Entry) -> Self {
        let Entry { id, prefix, scope, ref encoded, .. } = *entry;
        Self { id, prefix, scope, encoded: encoded.clone() }
    }
}

/// The peers of one prefix bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    epoch: u64,
    bucket: u8,
    peers: Box<[Published]>,
}

impl Snapshot {
    /// What `table` has in `bucket`.
    fn of(table: &Table, bucket: u8, epoch: u64) -> Self {
        let mut peers = Vec::new();
        table.each_in(bucket, |entry| peers.push(Published::from(entry)));
        peers.sort_unstable_by_key(|peer| peer.id);
        Self { epoch, bucket, peers: peers.into_boxed_slice() }
    }

    /// Counts its publisher's snapshots.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Which bucket: the first byte of all its ids.
    pub fn bucket(&self) -> u8 {
        self.bucket
    }

    /// The peers, by id.
    pub fn peers(&self) -> &[Published] {
        &self.peers
    }

    /// Appends the closest peers to `target` in ascending distance until `out` is full to `limit`.
    fn nearest<'s>(&'s self, target: &PeerId, limit: usize, out: &mut Nearest<'s>) {
        // Ranges of peers that share their first bits, the closest last; far sides wait below.
        let mut waiting: ArrayVec<(&[Published], u32), ID_BITS> = ArrayVec::new();
        let mut next = Some((&self.peers[..], u8::BITS));
        while let Some((peers, depth)) = next
            && out.len() < limit
        {
            next = if peers.len() <= 1 || depth == PeerId::BITS {
                out.extend(peers.iter().take(limit - out.len()));
                waiting.pop()
            } else {
                let (zeros, ones) = peers.split_at(peers.partition_point(|p| !p.id.bit(depth)));
                let (near, far) = if target.bit(depth) { (ones, zeros) } else { (zeros, ones) };
                if !far.is_empty() {
                    waiting.push((far, depth + 1));
                }
                Some((near, depth + 1))
            };
        }
    }
}

const ID_BITS: usize = PeerId::BITS as usize;

/// Peers of snapshots, the closest first.
pub type Nearest<'s> = ArrayVec<&'s Published, FIND_NODE_PEERS_MAX>;

/// What the other shards published.
#[derive(Debug)]
pub struct Others {
    buckets: Box<[Option<Arc<Snapshot>>]>,
    occupied: BucketSet,
    /// Peers of each bucket, to be counted without a visit to the snapshots.
    sizes: Box<[usize]>,
}

impl Default for Others {
    fn default() -> Self {
        let buckets = vec![None; BUCKETS].into_boxed_slice();
        let sizes = vec![0; BUCKETS].into_boxed_slice();
        Self { buckets, occupied: BucketSet::EMPTY, sizes }
    }
}

impl Others {
    /// Takes a newer snapshot of its bucket.
    pub fn replace(&mut self, snapshot: Arc<Snapshot>) {
        let bucket = snapshot.bucket;
        if snapshot.peers.is_empty() {
            self.occupied.remove(bucket);
        } else {
            self.occupied.add(bucket);
        }
        self.sizes[usize::from(bucket)] = snapshot.peers.len();
        self.buckets[usize::from(bucket)] = Some(snapshot);
    }

    /// The closest peers to `target` of all snapshots, at most `limit`.
    pub fn nearest(&self, target: &PeerId, limit: usize) -> Nearest<'_> {
        let mut out = Nearest::new();
        let limit = limit.min(out.capacity());
        if self.occupied.is_empty() {
            return out;
        }
        // Buckets by distance: a set bit of their difference outweighs all bits behind the first byte.
        let by_distance = (0..=u8::MAX).map(|distance| target.0[0] ^ distance);
        for bucket in by_distance.filter(|bucket| self.occupied.has(*bucket)) {
            if let Some(snapshot) = &self.buckets[usize::from(bucket)] {
                snapshot.nearest(target, limit, &mut out);
            }
            if out.len() >= limit {
                break;
            }
        }
        out
    }

    /// Peers in all snapshots.
    pub fn len(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// The `n`-th peer of all snapshots, in the order of ids: for uniform draws.
    pub fn nth(&self, mut n: usize) -> Option<&Published> {
        let mut sizes = self.sizes.iter();
        let bucket = sizes.position(|size| match n.checked_sub(*size) {
            Some(rest) => {
                n = rest;
                false
            }
            None => true,
        })?;
        self.buckets[bucket].as_ref()?.peers.get(n)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.occupied.is_empty()
    }
}

/// Says when to publish which bucket of a table, and makes the snapshots.
#[derive(Debug)]
pub struct Publisher {
    /// By due time, the earliest first; each bucket at most once.
    due: BinaryHeap<Reverse<(Moment, u8)>>,
    waiting: BucketSet,
    /// Before when a bucket is not to be published again.
    rests: Box<[Moment]>,
    epoch: u64,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            due: BinaryHeap::with_capacity(BUCKETS),
            waiting: BucketSet::EMPTY,
            rests: vec![Moment::START; BUCKETS].into_boxed_slice(),
            epoch: 0,
        }
    }
}

impl Publisher {
    /// Notes that these buckets changed.
    pub fn changed(&mut self, now: Moment, buckets: &BucketSet) {
        if buckets.is_empty() {
            return;
        }
        for bucket in buckets.iter().filter(|bucket| !self.waiting.has(*bucket)) {
            self.due.push(Reverse((now.max(self.rests[usize::from(bucket)]), bucket)));
        }
        buckets.iter().for_each(|bucket| self.waiting.add(bucket));
    }

    /// Publishes all `buckets`, changed or not, but not before one interval has passed: in it, a
    /// table that begins anew learns of most that it had.
    pub fn begin_again(&mut self, now: Moment, buckets: &BucketSet) {
        for bucket in buckets.iter() {
            self.rests[usize::from(bucket)] = now + INTERVAL;
        }
        self.changed(now, buckets);
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Moment {
        self.due.peek().map_or(Moment::NEVER, |Reverse((at, _))| *at)
    }

    /// The next snapshot that is due by `now`.
    pub fn publish(&mut self, now: Moment, table: &Table) -> Option<Arc<Snapshot>> {
        let Reverse((_, bucket)) = (self.next_deadline() <= now).then(|| self.due.pop())??;
        self.waiting.remove(bucket);
        self.rests[usize::from(bucket)] = now + INTERVAL;
        self.epoch += 1;
        Some(Arc::new(Snapshot::of(table, bucket, self.epoch)))
    }
}

#[cfg(test)]
mod tests;
