//! The binary trie: inner nodes are pairs of links, leaves are buckets.

use arrayvec::ArrayVec;

use super::bucket::{Bucket, head};
use super::{DEPTH_MAX, K};
use crate::ids::PeerId;

/// Set in a link that leads to a bucket, clear in one that leads to a node.
const LEAF: u32 = 1 << 31;
/// The link of the bucket that is the whole trie.
const ROOT: u32 = u32::MAX;

/// Buckets only ever split; what a crowd left behind stays, empty and cheap to pass. Their number is bounded.
#[derive(Debug)]
pub(super) struct Trie {
    root: u32,
    /// Children by the next bit.
    nodes: Vec<[u32; 2]>,
    buckets: Vec<Bucket>,
    buckets_max: usize,
}

impl Trie {
    /// Memory of a trie for so many entries.
    pub(super) const fn bytes(entries_max: usize) -> usize {
        buckets_max(entries_max) * (size_of::<Bucket>() + size_of::<[u32; 2]>())
    }

    /// A single empty bucket, with space reserved for all there may be.
    pub(super) fn new(entries_max: usize) -> Self {
        let buckets_max = buckets_max(entries_max);
        assert!(buckets_max < LEAF as usize, "links are 31 bits");
        let mut buckets = Vec::with_capacity(buckets_max);
        buckets.push(Bucket::new(0, ROOT));
        Self { root: LEAF, nodes: Vec::with_capacity(buckets_max), buckets, buckets_max }
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn bucket(&self, leaf: usize) -> &Bucket {
        &self.buckets[leaf]
    }

    pub(super) fn bucket_mut(&mut self, leaf: usize) -> &mut Bucket {
        &mut self.buckets[leaf]
    }

    /// The bucket that `id` belongs to.
    pub(super) fn leaf(&self, id: &PeerId) -> usize {
        let mut bits = head(id);
        let mut link = self.root;
        while link & LEAF == 0 {
            link = self.nodes[link as usize][usize::from(bits >> 63 == 1)];
            bits <<= 1;
        }
        (link & !LEAF) as usize
    }

    /// Splits a bucket by its next bit, unless it is too deep or there are enough buckets.
    pub(super) fn split(&mut self, leaf: usize) -> bool {
        let full = self.buckets.len() == self.buckets_max;
        let bucket = &mut self.buckets[leaf];
        if full || bucket.depth as usize == DEPTH_MAX {
            return false;
        }
        let above = bucket.link;
        let mut other = bucket.split();
        let node = number(self.nodes.len());
        (self.buckets[leaf].link, other.link) = (node << 1, node << 1 | 1);
        self.nodes.push([LEAF | number(leaf), LEAF | number(self.buckets.len())]);
        self.buckets.push(other);
        match above {
            ROOT => self.root = node,
            link => self.nodes[(link >> 1) as usize][(link & 1) as usize] = node,
        }
        true
    }

    /// Visits the buckets that can hold ids beginning with `top`.
    pub(super) fn under(&self, top: u8, mut visit: impl FnMut(&Bucket)) {
        let (mut link, mut bits) = (self.root, u32::from(top));
        for _ in 0..u8::BITS {
            if link & LEAF == 0 {
                link = self.nodes[link as usize][usize::from(bits & 0x80 != 0)];
                bits <<= 1;
            }
        }
        let mut rest: ArrayVec<u32, DEPTH_MAX> = ArrayVec::new();
        loop {
            while link & LEAF == 0 {
                let [left, right] = self.nodes[link as usize];
                rest.push(right);
                link = left;
            }
            visit(&self.buckets[(link & !LEAF) as usize]);
            match rest.pop() {
                Some(next) => link = next,
                None => return,
            }
        }
    }

    /// Visits buckets in ascending distance from `target` while `visit` says so.
    #[inline]
    pub(super) fn near(&self, target: &PeerId, mut visit: impl FnMut(&Bucket) -> bool) {
        let bits = head(target);
        // The far sides passed on the way down, with their depths: the last is the closest.
        let mut far: ArrayVec<(u32, u32), DEPTH_MAX> = ArrayVec::new();
        let (mut link, mut depth) = (self.root, 0);
        loop {
            while link & LEAF == 0 {
                let side = usize::from((bits << depth) >> 63 == 1);
                let pair = &self.nodes[link as usize];
                depth += 1;
                far.push((pair[side ^ 1], depth));
                link = pair[side];
            }
            if !visit(&self.buckets[(link & !LEAF) as usize]) {
                return;
            }
            match far.pop() {
                Some(next) => (link, depth) = next,
                None => return,
            }
        }
    }
}

/// What `entries_max` random ids need (they fill their buckets to 70 % on average) and half as
/// much again.
pub(super) const fn buckets_max(entries_max: usize) -> usize {
    entries_max.div_ceil(K * 7 / 10) * 3 / 2 + 1
}

#[expect(clippy::cast_possible_truncation, reason = "below `buckets_max`, which is below 2^31")]
const fn number(place: usize) -> u32 {
    place as u32
}
