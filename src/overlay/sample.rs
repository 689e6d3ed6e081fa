//! Peers drawn from all that are listed, for the half of an answer that is not about closeness.
//!
//! Everybody who is listed is verified: it has a live session and proved its address, or was there
//! for minutes before the router [started anew](super::table::VERIFIED_AFTER). So a draw is fair if it is
//! uniform over the own table and what the other shards published.
//!
//! Some of them are drawn at a time and kept in wire form side by side, so that answering touches
//! nothing cold. Each answer goes on where the last one ended. Nobody wakes the router for it: the
//! first request after [`INTERVAL`] draws anew, so a peer that left is told of for so long at most.
//!
//! Invariants: drawn without replacement, every peer with the same chance, in an order that says
//! nothing; nothing is allocated after construction.

use std::time::Duration;

use arrayvec::ArrayVec;
use rand_core::RngCore;

use super::lookup::Viewpoint;
use super::snapshot::{Others, Published};
use super::table::Table;
use crate::ids::PeerId;
use crate::limits::FIND_NODE_PEERS_MAX;
use crate::net::Scope;
use crate::time::Moment;

/// Peers drawn at a time.
pub const SIZE: usize = 128;
/// How long they are told of.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Those of one answer: half of it.
pub const DRAWN_MAX: usize = FIND_NODE_PEERS_MAX / 2;

/// Drawn peers of one answer.
pub type Drawn<'s> = ArrayVec<&'s Published, DRAWN_MAX>;

/// Places in the sample.
type Picks = ArrayVec<usize, DRAWN_MAX>;

/// The peers that were drawn last.
#[derive(Debug)]
pub struct Sample {
    peers: Vec<Published>,
    /// Where the next answer begins.
    next: usize,
    drawn_at: Option<Moment>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { peers: Vec::with_capacity(SIZE), next: 0, drawn_at: None }
    }
}

impl Sample {
    /// Draws anew if it is time: to be called in front of each answer.
    #[inline]
    pub fn refresh(&mut self, now: Moment, table: &Table, others: &Others, rng: &mut impl RngCore) {
        if self.drawn_at.is_none_or(|at| now.since(at) >= INTERVAL) {
            self.drawn_at = Some(now);
            self.redraw(table, others, rng);
        }
    }

    fn redraw(&mut self, table: &Table, others: &Others, rng: &mut impl RngCore) {
        self.next = 0;
        self.peers.clear();
        let own = table.len();
        for n in numbers(own + others.len(), rng) {
            let peer = match n.checked_sub(own) {
                None => table.nth(n).map(|at| Published::from(table.entry(at).0)),
                Some(n) => others.nth(n).cloned(),
            };
            self.peers.extend(peer);
        }
    }

    /// The next `wanted` peers, at most [`DRAWN_MAX`], that are of use to who asks and were not
    /// `told` otherwise: first those of its address family.
    pub fn draw(
        &mut self,
        wanted: usize,
        asker: Viewpoint,
        told: impl Fn(&PeerId) -> bool,
    ) -> Drawn<'_> {
        let wanted = wanted.min(DRAWN_MAX);
        let mut picks = Picks::new();
        let own_family = |peer: &Published| peer.prefix.is_v4() == asker.is_v4;
        let visible = |peer: &Published| peer.scope >= asker.scope && !told(&peer.id);
        let fresh = |peer: &Published, picks: &[usize]| {
            picks.iter().all(|&at| self.peers[at].prefix != peer.prefix)
        };
        let passed = self.pick(wanted, &mut picks, |peer, picks| {
            own_family(peer) && fresh(peer, picks) && visible(peer)
        });
        self.pick(wanted, &mut picks, |peer, picks| {
            !own_family(peer) && fresh(peer, picks) && visible(peer)
        });
        // Networks that are not global have no share to use up, as in the table.
        self.pick(wanted, &mut picks, |peer, picks| {
            let is_in = || picks.iter().any(|&at| self.peers[at].id == peer.id);
            peer.scope < Scope::Global && !is_in() && visible(peer)
        });
        let all = self.peers.len();
        if all > 0 {
            // Who saw all of them leaves the next one others to begin with nevertheless.
            self.next = (self.next + if passed == all { wanted } else { passed }) % all;
        }
        picks.into_iter().map(|at| &self.peers[at]).collect()
    }

    /// Adds places of peers that `fits` says yes to until there are `wanted`; returns how many
    /// were looked at.
    fn pick(
        &self,
        wanted: usize,
        picks: &mut Picks,
        fits: impl Fn(&Published, &[usize]) -> bool,
    ) -> usize {
        let all = self.peers.len();
        let mut passed = 0;
        while passed < all && picks.len() < wanted {
            let at = (self.next + passed) % all;
            passed += 1;
            if fits(&self.peers[at], picks) {
                picks.push(at);
            }
        }
        passed
    }
}

/// [`SIZE`] different numbers below `all`, or all of them if there are fewer, in random order. Floyd's way:
/// each draw is from one number more than the last; who comes up again stands for the new one.
fn numbers(all: usize, rng: &mut impl RngCore) -> ArrayVec<usize, SIZE> {
    let mut drawn = ArrayVec::new();
    for last in all.saturating_sub(SIZE)..all {
        let n = below(last + 1, rng);
        drawn.push(if drawn.contains(&n) { last } else { n });
    }
    // Where a number lies now says something of its size.
    for at in (1..drawn.len()).rev() {
        drawn.swap(at, below(at + 1, rng));
    }
    drawn
}

/// A number below `end`, as good as uniform: what is left over is a part in 2^32 and less.
fn below(end: usize, rng: &mut impl RngCore) -> usize {
    let scaled = u128::from(rng.next_u64()) * end as u128;
    usize::try_from(scaled >> u64::BITS).unwrap_or(0)
}

#[cfg(test)]
mod tests;
