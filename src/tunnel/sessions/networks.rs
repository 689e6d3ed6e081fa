//! Sessions by the network they began in: a fixed table of exact counts.
//!
//! Open addressing, at most half full; what leaves is closed up behind, so that
//! nothing has to be swept and no place is lost to churn. Hashed with a key of
//! the router's own: nobody can aim at a place.

use crate::bucket::Keyed;
use crate::net::Prefix;

/// Count 0 is an empty place.
type Place = (Prefix, u32);

const EMPTY: Place = (Prefix([0; 7]), 0);

#[derive(Debug)]
pub(super) struct Networks {
    keyed: Keyed,
    places: Box<[Place]>,
}

/// Twice as many as there can be networks.
fn places(sessions: usize) -> usize {
    (2 * sessions).max(2).next_power_of_two()
}

impl Networks {
    /// Memory of a table for so many sessions.
    pub(super) fn bytes(sessions: usize) -> usize {
        places(sessions) * size_of::<Place>()
    }

    pub(super) fn new(sessions: usize, keyed: Keyed) -> Self {
        Self { keyed, places: vec![EMPTY; places(sessions)].into_boxed_slice() }
    }

    /// Sessions of `network`.
    pub(super) fn count(&self, network: &Prefix) -> u32 {
        self.places[self.find(network)].1
    }

    /// One more. The table is for as many sessions as there can be.
    pub(super) fn enter(&mut self, network: &Prefix) {
        let at = self.find(network);
        let (_, count) = self.places[at];
        self.places[at] = (*network, count + 1);
    }

    /// One less of those that entered.
    pub(super) fn leave(&mut self, network: &Prefix) {
        let at = self.find(network);
        let (_, count) = &mut self.places[at];
        assert!(*count > 0, "who leaves has entered");
        *count -= 1;
        if *count == 0 {
            self.close_up(at);
        }
    }

    /// Where `network` is, or else would be.
    fn find(&self, network: &Prefix) -> usize {
        let mut at = self.home(network);
        while self.places[at].1 > 0 && self.places[at].0 != *network {
            at = self.after(at);
        }
        at
    }

    /// Moves up what was put behind its own place because of the one that is empty now.
    fn close_up(&mut self, mut hole: usize) {
        let mut at = self.after(hole);
        while self.places[at].1 > 0 {
            let home = self.home(&self.places[at].0);
            if self.distance(home, at) >= self.distance(hole, at) {
                self.places[hole] = std::mem::replace(&mut self.places[at], EMPTY);
                hole = at;
            }
            at = self.after(at);
        }
    }

    fn home(&self, network: &Prefix) -> usize {
        self.keyed.index(network, self.places.len())
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// Steps from one place to another, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a map; a table this small is full of collisions.
        #[test]
        fn counts_are_exact(moves in prop::collection::vec((any::<bool>(), 0..24_u8), 0..400)) {
            const SESSIONS: usize = 16;
            let mut networks = Networks::new(SESSIONS, Keyed::new([3, 5]));
            let mut model: BTreeMap<u8, u32> = BTreeMap::new();
            for (enters, n) in moves {
                let network = Prefix([n; 7]);
                let total: u32 = model.values().sum();
                let held = model.entry(n).or_default();
                if enters && (total as usize) < SESSIONS {
                    networks.enter(&network);
                    *held += 1;
                } else if !enters && *held > 0 {
                    networks.leave(&network);
                    *held -= 1;
                }
                for n in 0..24 {
                    let held = model.get(&n).copied().unwrap_or(0);
                    prop_assert_eq!(networks.count(&Prefix([n; 7])), held, "network {}", n);
                }
            }
        }
    }
}
