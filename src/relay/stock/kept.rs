//! What of a pair outlives the process.

use std::net::SocketAddr;

use super::{PairId, Side, Stock};
use crate::net::{Local, Path};
use crate::time::Moment;

/// A leg as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLeg {
    /// Who has it.
    pub side: Side,
    /// The router's port.
    pub port: u16,
    /// The address that it is bound to.
    pub bound: Option<SocketAddr>,
}

/// A pair as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Both legs.
    pub legs: [KeptLeg; 2],
    /// When it ends if nothing comes.
    pub expires: Moment,
}

impl Stock {
    /// A pair as it is to be kept; `None` if it is gone.
    pub fn kept(&self, id: PairId) -> Option<Kept> {
        self.kept_at(*self.by_id.get(&id)? as usize)
    }

    /// The pairs from a number on, with their numbers.
    pub fn kept_from(&self, first: usize) -> impl Iterator<Item = (usize, Option<Kept>)> + '_ {
        (first..self.pairs.len()).map(|at| (at, self.kept_at(at)))
    }

    fn kept_at(&self, at: usize) -> Option<Kept> {
        let pair = self.pairs.get(at)?.as_ref()?;
        let legs = [0, 1].map(|side: usize| {
            let leg = &pair.legs[side];
            let bound = leg.bound.map(|bound| bound.path.peer);
            KeptLeg { side: leg.side, port: self.ports.port(leg.socket), bound }
        });
        Some(Kept { legs, expires: pair.expires })
    }

    /// Takes a pair back: its ports are to be opened again, and who was bound is bound. Whether there
    /// is still a place for it. `permitted` says where anything may be sent at all.
    pub fn put_back(
        &mut self,
        now: Moment,
        kept: &Kept,
        permitted: impl Fn(&SocketAddr) -> bool,
    ) -> bool {
        let sides = kept.legs.map(|leg| leg.side);
        let id = PairId::of(sides[0].peer, sides[1].peer);
        // A later record of the same pair says more.
        if let Some(slot) = self.by_id.get(&id).copied() {
            self.take_out(slot);
        }
        let sockets = kept.legs.map(|leg| self.ports.socket(leg.port));
        let [Some(a), Some(b)] = sockets else { return false };
        let there = |socket: u16| self.free.contains(&socket);
        if a == b || sides[0].peer == sides[1].peer || !there(a) || !there(b) || kept.expires <= now
        {
            return false;
        }
        self.free.retain(|socket| *socket != a && *socket != b);
        let (kept_for, lifetime) = (self.kept_for(), self.lifetime());
        // Who asked for it is not kept.
        let slot = self.put(now, (id, None), &sides, [a, b]);
        let Some(pair) = self.pair(slot) else { return false };
        (pair.expires, pair.noted) = (kept.expires, kept.expires);
        let lately = kept.expires > now + (kept_for - lifetime);
        for (leg, kept) in pair.legs.iter_mut().zip(&kept.legs) {
            let local = Local { socket: leg.socket, ..Local::default() };
            // Who is silent for long may be somebody else by now.
            if let Some(peer) = kept.bound.filter(|to| lately && permitted(to)) {
                leg.bind(now, Path { peer, local }, None);
            }
        }
        self.watch(now, slot);
        true
    }

    /// Forgets a pair that was taken back and is gone since. Whether there was one.
    pub fn take_back(&mut self, id: PairId) -> bool {
        let slot = self.by_id.get(&id).copied();
        slot.inspect(|slot| self.take_out(*slot)).is_some()
    }

    /// Without a word to the store, where this comes from.
    fn take_out(&mut self, slot: u32) {
        if let Some(pair) = self.pair(slot) {
            pair.changed = true;
        }
        self.remove(slot);
    }
}
