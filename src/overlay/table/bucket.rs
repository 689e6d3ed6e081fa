//! A leaf of the trie: up to K entries that share their first bits.

use arrayvec::ArrayVec;

use super::{Closest, EntryIdx, K};
use crate::ids::PeerId;

/// The first 64 bits of an id as a number.
#[inline]
pub(super) fn head(id: &PeerId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(first)
}

/// Bits of a sort key that hold the position in the bucket.
const POSITION_BITS: u32 = 5;
const POSITION: u64 = (1 << POSITION_BITS) - 1;
const _: () = assert!(K <= 1 << POSITION_BITS);

/// Where entries are and the heads of their ids, so that distances are compared without a visit
/// to the entries themselves.
#[derive(Debug)]
pub(super) struct Bucket {
    heads: ArrayVec<u64, K>,
    places: ArrayVec<u32, K>,
    /// Bits that all its ids share.
    pub(super) depth: u32,
    /// Which link of the trie leads here.
    pub(super) link: u32,
}

impl Bucket {
    pub(super) const fn new(depth: u32, link: u32) -> Self {
        Self { heads: ArrayVec::new_const(), places: ArrayVec::new_const(), depth, link }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    /// Adds the entry at `place`.
    ///
    /// # Panics
    /// If the bucket is full.
    pub(super) fn push(&mut self, id: &PeerId, place: u32) {
        self.heads.push(head(id));
        self.places.push(place);
    }

    /// Moves what has bit `depth` set to a new bucket for the other side of the split.
    pub(super) fn split(&mut self) -> Self {
        let bit = 1 << (63 - self.depth);
        self.depth += 1;
        let mut other = Self::new(self.depth, self.link);
        let (heads, places) = (self.heads.take(), self.places.take());
        for (head, place) in heads.into_iter().zip(places) {
            let side = if head & bit == 0 { &mut *self } else { &mut other };
            side.heads.push(head);
            side.places.push(place);
        }
        other
    }

    /// Takes the entry at `place` out; the others keep their order.
    pub(super) fn remove(&mut self, place: u32) {
        if let Some(at) = self.places.iter().position(|&here| here == place) {
            self.heads.remove(at);
            self.places.remove(at);
        }
    }

    /// The entry at `from` is at `to` now.
    pub(super) fn rename(&mut self, from: u32, to: u32) {
        if let Some(place) = self.places.iter_mut().find(|here| **here == from) {
            *place = to;
        }
    }

    /// The place of `id`; `id_at` reads the id of an entry.
    pub(super) fn find(&self, id: &PeerId, id_at: impl Fn(u32) -> PeerId) -> Option<u32> {
        let wanted = head(id);
        let alike = self.heads.iter().zip(&self.places).filter(|(head, _)| **head == wanted);
        alike.map(|(_, &place)| place).find(|&place| id_at(place) == *id)
    }

    /// Appends entries in ascending distance from `target` until `out` has `limit`.
    #[inline]
    pub(super) fn nearest(
        &self,
        target: &PeerId,
        limit: usize,
        id_at: impl Fn(u32) -> PeerId,
        out: &mut Closest,
    ) {
        let wanted = head(target);
        // The bits all entries share say nothing; shifted out, they make room for the position.
        let key = |(at, head): (u64, &u64)| (((head ^ wanted) << self.depth) & !POSITION) | at;
        let mut order: ArrayVec<u64, K> = (0..).zip(&self.heads).map(key).collect();
        order.sort_unstable();
        let place = |key: &u64| self.places[usize::from(key.to_le_bytes()[0] & POSITION_BYTE)];
        if order.windows(2).any(|pair| pair[0] >> POSITION_BITS == pair[1] >> POSITION_BITS) {
            order.sort_unstable_by_key(|key| id_at(place(key)).distance(target));
        }
        let wanted = limit.saturating_sub(out.len());
        out.extend(order.iter().take(wanted).map(|key| EntryIdx(place(key))));
    }
}

const POSITION_BYTE: u8 = POSITION.to_le_bytes()[0];
