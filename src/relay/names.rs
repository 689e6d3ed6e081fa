//! A fixed number of places, found again by name.
//!
//! A place in use is counted; one that is no longer keeps its name, and whatever its owner keeps
//! beside it, until all others are taken too: the longest unused goes first. So what is owed
//! under a name is not forgiven to who leaves and comes back at once. Nothing allocates after
//! [`Names::new`].

use std::hash::Hash;

use crate::bucket::Keyed;

pub(super) const NIL: u32 = u32::MAX;
/// `next` of a place that does not wait to be reused.
const BUSY: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    name: K,
    uses: u32,
    /// Next of the same hash; [`NAMELESS`] before the place had its first name.
    chain: u32,
    /// Next to be reused.
    next: u32,
}

const NAMELESS: u32 = u32::MAX - 1;

/// What [`Names::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) at: u32,
    /// Whether the place was another's, or nobody's, before.
    pub(super) new: bool,
}

/// Places by name.
#[derive(Debug)]
pub(super) struct Names<K> {
    entries: Box<[Entry<K>]>,
    chains: Box<[u32]>,
    /// Unused places in the order in which they are reused; some are in use again meanwhile.
    first: u32,
    last: u32,
    used: usize,
    keyed: Keyed,
}

impl<K: Copy + Eq + Hash> Names<K> {
    /// Memory of so many places.
    pub(super) const fn bytes(places: usize) -> usize {
        places * size_of::<Entry<K>>() + Self::chains(places) * size_of::<u32>()
    }

    /// One to two places a chain.
    const fn chains(places: usize) -> usize {
        (places / 2 + 1).next_power_of_two()
    }

    /// `filler` stands where there is no name yet.
    pub(super) fn new(places: usize, filler: K, keyed: Keyed) -> Self {
        let places = u32::try_from(places).unwrap_or(NIL);
        assert!(places > 0 && places < BUSY, "places are u32");
        let entry = |at: u32| {
            let next = if at + 1 < places { at + 1 } else { NIL };
            Entry { name: filler, uses: 0, chain: NAMELESS, next }
        };
        Self {
            entries: (0..places).map(entry).collect(),
            chains: vec![NIL; Self::chains(places as usize)].into(),
            first: 0,
            last: places - 1,
            used: 0,
            keyed,
        }
    }

    /// Places in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// How often the place is in use.
    pub(super) fn uses(&self, at: u32) -> u32 {
        self.entries[at as usize].uses
    }

    /// The place of `name` if it is in use.
    pub(super) fn find(&self, name: &K) -> Option<u32> {
        self.position(name).filter(|at| self.uses(*at) > 0)
    }

    /// Uses the place of `name` once more; a new one if it has none, `None` if all are in use.
    pub(super) fn take(&mut self, name: K) -> Option<Taken> {
        let found = self.position(&name);
        let at = match found {
            Some(at) => at,
            None => self.reuse(name)?,
        };
        let entry = &mut self.entries[at as usize];
        entry.uses += 1;
        self.used += usize::from(entry.uses == 1);
        Some(Taken { at, new: found.is_none() })
    }

    /// Uses the place once less. Returns whether that was the last use.
    pub(super) fn release(&mut self, at: u32) -> bool {
        let entry = &mut self.entries[at as usize];
        assert!(entry.uses > 0, "released more often than taken");
        entry.uses -= 1;
        if entry.uses > 0 {
            return false;
        }
        self.used -= 1;
        if entry.next == BUSY {
            entry.next = NIL;
            self.append(at);
        }
        true
    }

    fn append(&mut self, at: u32) {
        match self.last {
            NIL => self.first = at,
            last => self.entries[last as usize].next = at,
        }
        self.last = at;
    }

    /// Gives the longest unused place to `name`.
    fn reuse(&mut self, name: K) -> Option<u32> {
        let at = loop {
            let at = self.first;
            let entry = self.entries.get_mut(at as usize)?;
            self.first = std::mem::replace(&mut entry.next, BUSY);
            if self.first == NIL {
                self.last = NIL;
            }
            if entry.uses == 0 {
                break at;
            }
        };
        let Entry { name: old, chain, .. } = self.entries[at as usize];
        if chain != NAMELESS {
            self.unchain(at, &old);
        }
        let chain = self.keyed.index(&name, self.chains.len());
        let entry = &mut self.entries[at as usize];
        entry.name = name;
        entry.chain = std::mem::replace(&mut self.chains[chain], at);
        Some(at)
    }

    fn position(&self, name: &K) -> Option<u32> {
        let mut at = self.chains[self.keyed.index(name, self.chains.len())];
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.name == *name {
                return Some(at);
            }
            at = entry.chain;
        }
        None
    }

    fn unchain(&mut self, gone: u32, name: &K) {
        let after = self.entries[gone as usize].chain;
        let mut link = &mut self.chains[self.keyed.index(name, self.chains.len())];
        while *link != gone {
            link = &mut self.entries[*link as usize].chain;
        }
        *link = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(names: &mut Names<u16>, name: u16) -> (u32, bool) {
        let Taken { at, new } = names.take(name).unwrap();
        (at, new)
    }

    #[test]
    fn the_longest_unused_place_goes_first() {
        let mut names = Names::new(3, 0, Keyed::new([1, 2]));
        let (a, b, c) = (taken(&mut names, 10), taken(&mut names, 11), taken(&mut names, 12));
        assert_eq!((a, b, c), ((0, true), (1, true), (2, true)));
        assert_eq!(names.take(13), None);
        assert!(names.release(b.0) && names.release(a.0) && names.release(c.0));
        assert_eq!((names.used(), names.find(&11)), (0, None));
        assert_eq!(taken(&mut names, 11), (1, false), "it kept its name");
        assert_eq!(taken(&mut names, 13), (0, true), "11 is in use again, 10 unused longest");
        assert_eq!(taken(&mut names, 10), (2, true));
        assert_eq!(names.find(&12), None);
        assert_eq!(names.take(12), None);
        assert_eq!(taken(&mut names, 13), (0, false));
        assert!(!names.release(0) && names.release(0));
        assert_eq!((taken(&mut names, 14), names.used()), ((0, true), 3));
    }

    #[test]
    fn names_agree_with_a_map() {
        let mut names = Names::new(50, 0, Keyed::new([3, 4]));
        let mut uses = std::collections::BTreeMap::new();
        let mut dice = 1_u64;
        for _ in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let name = u16::try_from(dice >> 33 & 63).unwrap();
            if dice >> 60 < 9 {
                let taken = names.take(name);
                assert_eq!(taken.is_none(), uses.len() == 50 && !uses.contains_key(&name));
                taken.inspect(|_| *uses.entry(name).or_insert(0) += 1);
            } else if let Some(count) = uses.get_mut(&name) {
                *count -= 1;
                let last = names.release(names.find(&name).unwrap());
                assert_eq!(last, *count == 0);
                uses.retain(|_, count| *count > 0);
            }
            let count = names.find(&name).map(|at| names.uses(at));
            assert_eq!(count, uses.get(&name).copied());
            assert_eq!(names.used(), uses.len());
        }
    }
}
