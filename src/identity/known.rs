//! Bindings that were verified before: what was signed once need not be checked with every
//! handshake, nor by a process that takes the place of another.
//!
//! A fixed table in sets of four, found by the WireGuard key; in a full set one of them goes, which
//! one nobody can choose: whoever could keep places for ever, by bindings that never end, would. The signature is kept as well: another one over the same is not known to be good.

use crate::bucket::Keyed;
use crate::ids::WgKey;
use crate::wire::body::IdentityBinding;

const WAYS: usize = 4;

/// The table.
#[derive(Debug)]
pub struct Known {
    keyed: Keyed,
    /// A power of two of them.
    sets: Box<[[Option<IdentityBinding>; WAYS]]>,
}

impl Known {
    /// Memory of a table for so many.
    pub const fn bytes(capacity: usize) -> usize {
        Self::sets(capacity) * size_of::<[Option<IdentityBinding>; WAYS]>()
    }

    const fn sets(capacity: usize) -> usize {
        capacity.div_ceil(WAYS).next_power_of_two()
    }

    /// An empty table for at least `capacity`. `keyed` keeps strangers from choosing keys that
    /// share a set.
    pub fn new(capacity: usize, keyed: Keyed) -> Self {
        Self { keyed, sets: vec![[None; WAYS]; Self::sets(capacity)].into_boxed_slice() }
    }

    /// Whether just that was verified before.
    pub fn has(&self, binding: &IdentityBinding) -> bool {
        let set = &self.sets[self.set(&binding.x25519_public)];
        set.iter().flatten().any(|known| known == binding)
    }

    /// Remembers what was verified. Returns whether it was news.
    pub fn remember(&mut self, binding: IdentityBinding) -> bool {
        let set = self.set(&binding.x25519_public);
        let places = &mut self.sets[set];
        let same_key = |place: &Option<IdentityBinding>| {
            place.as_ref().is_some_and(|known| known.x25519_public == binding.x25519_public)
        };
        let place = places.iter().position(same_key);
        let place = place.or_else(|| places.iter().position(Option::is_none));
        let place = &mut places[place.unwrap_or(self.keyed.index(&binding.signature[..], WAYS))];
        place.replace(binding) != Some(binding)
    }

    /// Every place from number `from` on, with its number, ascending, and what is in it.
    pub fn places_from(
        &self,
        from: usize,
    ) -> impl Iterator<Item = (usize, Option<&IdentityBinding>)> {
        let places = self.sets.as_flattened().iter().enumerate().skip(from);
        places.map(|(at, place)| (at, place.as_ref()))
    }

    fn set(&self, key: &WgKey) -> usize {
        self.keyed.index(key, self.sets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(key: u8, not_after_unix_s: u64) -> IdentityBinding {
        IdentityBinding {
            ed25519_public: [7; 32],
            x25519_public: WgKey([key; 32]),
            not_before_unix_s: 1,
            not_after_unix_s,
            signature: [9; 64],
        }
    }

    #[test]
    fn a_binding_is_known_as_it_was_and_not_otherwise() {
        let mut known = Known::new(64, Keyed::new([1, 2]));
        let said = binding(1, 100);
        assert!(!known.has(&said));
        assert!(known.remember(said));
        assert!(!known.remember(said), "no news");
        assert!(known.has(&said));
        for other in [
            IdentityBinding { ed25519_public: [8; 32], ..said },
            IdentityBinding { not_before_unix_s: 0, ..said },
            IdentityBinding { not_after_unix_s: 101, ..said },
            IdentityBinding { signature: [1; 64], ..said },
            IdentityBinding { x25519_public: WgKey([2; 32]), ..said },
        ] {
            assert!(!known.has(&other), "{other:?}");
        }
        assert!(known.remember(IdentityBinding { not_after_unix_s: 200, ..said }));
        assert!(!known.has(&said), "a key has one");
        assert_eq!(known.places_from(0).filter(|(_, place)| place.is_some()).count(), 1);
    }

    #[test]
    fn in_a_full_set_one_goes_for_the_newcomer_whenever_it_ends() {
        let mut known = Known::new(WAYS, Keyed::new([1, 2]));
        let never_ends = (1..=4).map(|key| binding(key, u64::MAX));
        never_ends.for_each(|binding| assert!(known.remember(binding)));
        for key in 5..50 {
            let mut newcomer = binding(key, 10);
            newcomer.signature[0] = key;
            assert!(known.remember(newcomer) && known.has(&newcomer));
        }
        // The places are nobody's: those that never end have left, too.
        let left = known.places_from(0).filter_map(|(_, place)| place);
        assert_eq!(left.filter(|binding| binding.not_after_unix_s == 10).count(), WAYS);
    }
}
