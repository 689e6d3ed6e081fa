//! What is known of the NATs that peers are behind: soft, learnt again by and by.
//!
//! A fixed table in sets of four, found by the WireGuard key; in a full set what was learnt longest
//! ago goes. What peers say of their NATs decides whether a hole is worth punching; how long
//! their mappings lasted, how often they are sent something.

use std::num::NonZeroU16;
use std::time::Duration;

use super::nat::{Behaviour, Nat};
use crate::bucket::Keyed;
use crate::ids::{PeerId, WgKey};

const WAYS: usize = 4;
/// What is only confirmed is news again after so long, in seconds.
const STALE_S: u64 = 86_400;

/// What is known of one peer's NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who is behind it.
    pub peer: PeerId,
    /// The key it speaks through.
    pub key: WgKey,
    /// How it maps and filters.
    pub nat: Nat,
    /// A mapping was gone after so many seconds of silence; `None` if none ever was.
    pub lapsed_after_s: Option<NonZeroU16>,
    /// When that was learnt, in seconds since 1970.
    pub observed_unix_s: u64,
}

impl Facts {
    /// How often to send something, so that a mapping stays: 15 to 25 s, and 20 as long as nothing is known.
    pub fn keepalive(&self) -> Duration {
        let lapsed_s = self.lapsed_after_s.map_or(30, |s| u64::from(s.get()));
        Duration::from_secs((lapsed_s * 2 / 3).clamp(15, 25))
    }
}

/// The table.
#[derive(Debug)]
pub struct FactTable {
    keyed: Keyed,
    /// A power of two of them.
    sets: Box<[[Option<Facts>; WAYS]]>,
}

impl FactTable {
    /// Memory of a table for so many.
    pub const fn bytes(capacity: usize) -> usize {
        Self::sets(capacity) * size_of::<[Option<Facts>; WAYS]>()
    }

    const fn sets(capacity: usize) -> usize {
        capacity.div_ceil(WAYS).next_power_of_two()
    }

    /// An empty table for at least `capacity`. `keyed` keeps strangers from choosing keys that
    /// share a set.
    pub fn new(capacity: usize, keyed: Keyed) -> Self {
        Self { keyed, sets: vec![[None; WAYS]; Self::sets(capacity)].into_boxed_slice() }
    }

    /// What is known of the peer behind a key.
    pub fn find(&self, key: &WgKey) -> Option<Facts> {
        let set = &self.sets[self.keyed.index(key, self.sets.len())];
        set.iter().flatten().find(|known| known.key == *key).copied()
    }

    /// Adds what `facts` know to what was known; what they do not know stays. Returns whether
    /// that is news.
    pub fn learn(&mut self, facts: &Facts) -> bool {
        let set = self.keyed.index(&facts.key, self.sets.len());
        let set = &mut self.sets[set];
        let same = |place: &Option<Facts>| place.is_some_and(|known| known.key == facts.key);
        if let Some(known) = set.iter_mut().find(|place| same(place)).and_then(Option::as_mut) {
            return known.merge(facts);
        }
        let age = |place: &Option<Facts>| place.map_or(0, |known| known.observed_unix_s);
        if let Some(oldest) = set.iter_mut().min_by_key(|place| age(place)) {
            *oldest = Some(*facts);
        }
        true
    }

    /// Every place from number `from` on, with its number, ascending, and what is in it.
    pub fn places_from(&self, from: usize) -> impl Iterator<Item = (usize, Option<&Facts>)> {
        let places = self.sets.as_flattened().iter().enumerate().skip(from);
        places.map(|(at, place)| (at, place.as_ref()))
    }
}

impl Facts {
    fn merge(&mut self, newer: &Self) -> bool {
        let known = |newer: Behaviour, older: Behaviour| {
            if newer == Behaviour::Unknown { older } else { newer }
        };
        let nat = Nat {
            mapping: known(newer.nat.mapping, self.nat.mapping),
            filtering: known(newer.nat.filtering, self.nat.filtering),
        };
        let lapsed = [self.lapsed_after_s, newer.lapsed_after_s].into_iter().flatten().min();
        let peer = newer.peer;
        let stale = newer.observed_unix_s >= self.observed_unix_s.saturating_add(STALE_S);
        let same = (nat, lapsed, peer) == (self.nat, self.lapsed_after_s, self.peer);
        if same && !stale {
            return false;
        }
        let observed_unix_s = newer.observed_unix_s;
        *self = Self { peer, key: self.key, nat, lapsed_after_s: lapsed, observed_unix_s };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Behaviour::{AddressAndPortDependent, EndpointIndependent, Unknown};

    fn facts(key: u8, mapping: Behaviour, lapsed_s: u16, observed_unix_s: u64) -> Facts {
        Facts {
            peer: PeerId([1; 32]),
            key: WgKey([key; 32]),
            nat: Nat { mapping, filtering: Unknown },
            lapsed_after_s: NonZeroU16::new(lapsed_s),
            observed_unix_s,
        }
    }

    #[test]
    fn what_is_learnt_adds_up() {
        let mut table = FactTable::new(64, Keyed::new([1, 2]));
        assert!(table.learn(&facts(1, EndpointIndependent, 0, 100)));
        assert!(!table.learn(&facts(1, Unknown, 0, 200)), "nothing new");
        assert!(table.learn(&facts(1, Unknown, 40, 300)));
        assert!(!table.learn(&facts(1, Unknown, 60, 400)), "it is known to be shorter");
        let known = table.find(&WgKey([1; 32])).unwrap();
        assert_eq!(known, facts(1, EndpointIndependent, 40, 300));
        assert!(table.learn(&facts(1, EndpointIndependent, 40, 300 + STALE_S)), "still so");
        assert!(table.learn(&facts(1, AddressAndPortDependent, 0, 500)));
        assert_eq!(table.find(&WgKey([2; 32])), None);
        assert_eq!(table.places_from(0).filter(|(_, place)| place.is_some()).count(), 1);
    }

    #[test]
    fn a_full_set_forgets_the_oldest() {
        let mut table = FactTable::new(4, Keyed::new([1, 2]));
        for key in 1..=5 {
            assert!(table.learn(&facts(key, EndpointIndependent, 0, 100 + u64::from(key))));
        }
        assert_eq!(table.find(&WgKey([1; 32])), None);
        assert!((2..=5).all(|key| table.find(&WgKey([key; 32])).is_some()));
    }

    #[test]
    fn the_cadence_follows_what_mappings_last() {
        for (lapsed_s, every_s) in [(0, 20), (3, 15), (30, 20), (33, 22), (40, 25), (600, 25)] {
            let facts = facts(1, Unknown, lapsed_s, 0);
            assert_eq!(facts.keepalive(), Duration::from_secs(every_s), "{lapsed_s}");
        }
    }
}
