//! Where the peers are whose ids this shard owns: the session that speaks for each of them.
//!
//! The routing table knows only those that it has a place for; whoever is asked for by name
//! (introductions, relay channels) must be found however full its bucket is.
//!
//! Invariants: a fixed number of places, taken once; one session per peer, that of the newest
//! binding (of equals the last one told); a session that is not the peer's current one takes
//! nothing away when it ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::bucket::Keyed;
use crate::ids::{HomeRef, PeerId, WgKey};

/// A peer's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Where it is.
    pub home: HomeRef,
    /// The WireGuard key that the peer speaks through.
    pub key: WgKey,
    /// Since when the binding holds that says so, in seconds since 1970.
    pub not_before_unix_s: u64,
}

/// What became of a session that says it speaks for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It does.
    Speaks,
    /// It does in place of another one.
    InPlaceOf(HomeRef),
    /// A newer binding does, or there is no place.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub struct Directory {
    present: HashMap<PeerId, Present, Keyed>,
    places: usize,
}

impl Directory {
    /// Memory of so many places.
    pub fn bytes(places: usize) -> usize {
        // A hash map is at most 7/8 full, has a power of two of places and a byte more for each.
        (places * 8 / 7 + 1).next_power_of_two() * (size_of::<(PeerId, Present)>() + 1)
    }

    /// Nobody is there yet.
    pub fn new(places: usize, keyed: Keyed) -> Self {
        Self { present: HashMap::with_capacity_and_hasher(places, keyed), places }
    }

    /// A peer has this session.
    pub fn arrived(&mut self, id: PeerId, present: Present) -> Arrival {
        let full = self.present.len() >= self.places;
        match self.present.entry(id) {
            Entry::Occupied(held) if present.not_before_unix_s < held.get().not_before_unix_s => {
                Arrival::Refused
            }
            Entry::Occupied(mut held) => match held.insert(present).home {
                former if former == present.home => Arrival::Speaks,
                former => Arrival::InPlaceOf(former),
            },
            Entry::Vacant(_) if full => Arrival::Refused,
            Entry::Vacant(place) => {
                place.insert(present);
                Arrival::Speaks
            }
        }
    }

    /// A session ended. Whether it was the one that spoke for the peer.
    pub fn left(&mut self, id: &PeerId, home: HomeRef) -> bool {
        let current = self.present.get(id).is_some_and(|present| present.home == home);
        if current {
            self.present.remove(id);
        }
        current
    }

    /// A shard lost all its sessions.
    pub fn shard_ended(&mut self, shard: u16) {
        self.present.retain(|_, present| present.home.shard != shard);
    }

    /// The session of a peer.
    pub fn find(&self, id: &PeerId) -> Option<Present> {
        self.present.get(id).copied()
    }

    /// Peers that are there.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionRef;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);

    fn at(shard: u16, slot: u32, not_before_unix_s: u64) -> Present {
        let session = SessionRef { slot, generation: 1 };
        Present { home: HomeRef { shard, session }, key: WgKey([3; 32]), not_before_unix_s }
    }

    #[test]
    fn the_newest_binding_speaks_for_a_peer() {
        let mut directory = Directory::new(4, Keyed::new([1, 2]));
        let (old, new) = (at(0, 1, 10), at(1, 2, 20));
        assert_eq!(directory.arrived(A, new), Arrival::Speaks);
        assert_eq!(directory.arrived(A, new), Arrival::Speaks, "as it did");
        assert_eq!(directory.arrived(A, old), Arrival::Refused, "an older binding");
        assert_eq!(directory.find(&A), Some(new));
        assert!(!directory.left(&A, old.home), "not the current session");
        assert!(directory.left(&A, new.home));
        assert_eq!(directory.find(&A), None);
        assert_eq!(directory.arrived(A, old), Arrival::Speaks);
        assert_eq!(directory.arrived(A, at(0, 5, 10)), Arrival::InPlaceOf(old.home));
        assert_eq!(directory.find(&A), Some(at(0, 5, 10)), "of equals the last");
    }

    #[test]
    fn a_full_directory_takes_no_newcomer_and_keeps_who_is_there() {
        let mut directory = Directory::new(1, Keyed::new([1, 2]));
        assert_eq!(directory.arrived(A, at(0, 1, 1)), Arrival::Speaks);
        assert_eq!(directory.arrived(B, at(0, 2, 1)), Arrival::Refused);
        assert_eq!(directory.arrived(A, at(0, 3, 2)), Arrival::InPlaceOf(at(0, 1, 1).home));
        assert_eq!((directory.len(), directory.find(&B)), (1, None));
    }

    #[test]
    fn a_shard_takes_its_sessions_along() {
        let mut directory = Directory::new(4, Keyed::new([1, 2]));
        for (id, present) in [(A, at(0, 1, 1)), (B, at(1, 1, 1))] {
            assert_eq!(directory.arrived(id, present), Arrival::Speaks);
        }
        directory.shard_ended(1);
        assert_eq!((directory.find(&A), directory.find(&B)), (Some(at(0, 1, 1)), None));
        assert!(!directory.is_empty());
    }
}
