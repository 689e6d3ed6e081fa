//! A map of fixed capacity whose entries lie in numbered slots.
//!
//! Hash chains over a slab. Unlike `HashMap` it never moves an entry, never rehashes (a pause as
//! long as the map) and can be walked in an order that no hash decides.
//!
//! Invariants: an entry keeps its slot until it is removed, and the slot that was given back last
//! is taken first; each entry is in the one chain that its key names; what is reserved at
//! construction is all there will ever be.

use std::hash::Hash;
use std::ops::{Index, IndexMut};

use crate::bucket::Keyed;

/// End of a chain.
const NONE: u32 = u32::MAX;

/// Where an entry is, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// As a number below the capacity.
    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The map.
#[derive(Debug)]
pub(super) struct Slots<K, V> {
    keyed: Keyed,
    /// First slot of each chain; a power of two of them, at least one for each slot.
    heads: Box<[u32]>,
    nodes: Vec<Node<K, V>>,
    /// The slot that was given back last, at the head of a chain of its own.
    free: u32,
    len: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Node<K, V> {
    entry: Option<(K, V)>,
    next: u32,
}

impl<K: Eq + Hash, V> Slots<K, V> {
    /// Memory of a map for so many entries.
    pub(super) const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Node<K, V>>() + capacity.next_power_of_two() * size_of::<u32>()
    }

    /// An empty map, with space reserved for `capacity` entries and not touched yet.
    ///
    /// # Panics
    /// If `capacity` is zero or does not fit a slot's number.
    pub(super) fn new(capacity: usize, keyed: Keyed) -> Self {
        assert!((1..NONE as usize).contains(&capacity), "slots are u32");
        let heads = vec![NONE; capacity.next_power_of_two()].into();
        let nodes = Vec::with_capacity(capacity);
        Self { keyed, heads, nodes, free: NONE, len: 0, capacity }
    }

    /// Entries in the map.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing more can be inserted.
    pub(super) const fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// The slot of `key`.
    pub(super) fn find(&self, key: &K) -> Option<Slot> {
        let mut at = self.heads[self.chain(key)];
        while let Some(node) = self.nodes.get(at as usize) {
            if node.entry.as_ref().is_some_and(|(here, _)| here == key) {
                return Some(Slot(at));
            }
            at = node.next;
        }
        None
    }

    /// Adds an entry; its key must not be there yet.
    ///
    /// # Panics
    /// If the map is full.
    pub(super) fn insert(&mut self, key: K, value: V) -> Slot {
        assert!(!self.is_full(), "who inserts has looked for room");
        debug_assert!(self.find(&key).is_none(), "a key has one entry");
        let chain = self.chain(&key);
        let node = Node { next: self.heads[chain], entry: Some((key, value)) };
        let at = match self.nodes.get_mut(self.free as usize) {
            Some(free) => {
                let at = std::mem::replace(&mut self.free, free.next);
                *free = node;
                at
            }
            None => {
                self.nodes.push(node);
                number(self.nodes.len() - 1)
            }
        };
        self.heads[chain] = at;
        self.len += 1;
        Slot(at)
    }

    /// Takes an entry out.
    ///
    /// # Panics
    /// If there is none in `slot`.
    pub(super) fn remove(&mut self, slot: Slot) -> (K, V) {
        self.unchain(slot);
        let node = &mut self.nodes[slot.index()];
        node.next = std::mem::replace(&mut self.free, slot.0);
        self.len -= 1;
        match node.entry.take() {
            Some(entry) => entry,
            None => vacant(),
        }
    }

    /// The key in `slot`.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn key(&self, slot: Slot) -> &K {
        match &self.nodes[slot.index()].entry {
            Some((key, _)) => key,
            None => vacant(),
        }
    }

    /// Every entry from slot number `from` on, in the order of slots.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = (Slot, &K, &V)> {
        let nodes = self.nodes.iter().zip(0..).skip(from);
        nodes.filter_map(|(node, at)| node.entry.as_ref().map(|(k, v)| (Slot(at), k, v)))
    }

    fn chain(&self, key: &K) -> usize {
        self.keyed.index(key, self.heads.len())
    }

    /// Takes `slot` out of its chain.
    fn unchain(&mut self, slot: Slot) {
        let chain = self.chain(self.key(slot));
        let after = self.nodes[slot.index()].next;
        let mut at = self.heads[chain];
        if at == slot.0 {
            self.heads[chain] = after;
            return;
        }
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.next == slot.0 {
                node.next = after;
                return;
            }
            at = node.next;
        }
        unreachable!("an entry is in the chain that its key names");
    }
}

impl<K, V> Index<Slot> for Slots<K, V> {
    type Output = V;
    #[inline]
    fn index(&self, slot: Slot) -> &V {
        match &self.nodes[slot.index()].entry {
            Some((_, value)) => value,
            None => vacant(),
        }
    }
}

impl<K, V> IndexMut<Slot> for Slots<K, V> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut V {
        match &mut self.nodes[slot.index()].entry {
            Some((_, value)) => value,
            None => vacant(),
        }
    }
}

#[cold]
fn vacant() -> ! {
    unreachable!("a slot is not used after its entry was removed")
}

#[expect(clippy::cast_possible_truncation, reason = "`Slots::new` asserts that slots are u32")]
const fn number(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_map_does_as_a_list(
            ops in vec((any::<bool>(), 0..24_u8), 0..400),
            capacity in 1..20_usize,
        ) {
            let mut slots = Slots::new(capacity, Keyed::new([1, 2]));
            let mut model: Vec<(u8, usize, Slot)> = vec![];
            let mut given_back = None;
            for (version, (insert, key)) in (0..).zip(ops) {
                let known = model.iter().position(|(k, ..)| *k == key);
                prop_assert_eq!(slots.find(&key), known.map(|at| model[at].2));
                match known {
                    Some(at) if insert => {
                        let slot = model[at].2;
                        slots[slot] = version;
                        model[at].1 = version;
                    }
                    Some(at) => {
                        let (key, value, slot) = model.swap_remove(at);
                        prop_assert_eq!(slots.remove(slot), (key, value));
                        given_back = Some(slot);
                    }
                    None if insert && !slots.is_full() => {
                        let slot = slots.insert(key, version);
                        prop_assert!(given_back.take().is_none_or(|last| last == slot));
                        model.push((key, version, slot));
                    }
                    None => {}
                }
                prop_assert_eq!((slots.len(), slots.is_full()), (model.len(), model.len() == capacity));
            }
            model.sort_unstable_by_key(|(.., slot)| *slot);
            let listed: Vec<_> = slots.iter_from(0).map(|(slot, k, v)| (*k, *v, slot)).collect();
            prop_assert_eq!(&listed, &model);
            prop_assert!(model.iter().all(|(key, value, slot)| (slots.key(*slot), slots[*slot]) == (key, *value)));
            prop_assert!(listed.iter().all(|(.., slot)| slot.index() < capacity));
            let later = slots.iter_from(3).map(|(slot, ..)| slot.index()).min();
            prop_assert!(later.is_none_or(|first| first >= 3));
        }
    }
}
