//! Whom an answer names: this shard's own table and what the other shards published, as one.
//!
//! The closest peers bring who asks nearer to its target. Alone they would also make the answer
//! predictable: who places itself around a target would be all that is told of it. So FIND_NODE is
//! answered with the closest for one half, and with peers [drawn](super::sample) from all for the
//! other.
//!
//! Invariants of an [`answer`]:
//! * The closest come first, ascending; of those that were drawn there are never more.
//! * Nobody is in it twice, and nobody whose address means nothing to who asks.
//! * Of those that were drawn at most one lives in any one global network; those of the asker's own
//!   address family come first.
//! * What cannot be drawn is made up for with further closest ones.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::sample::Sample;
use super::snapshot::{Others, Published};
use super::table::{Closest, Table};
use crate::ids::PeerId;
use crate::limits::FIND_NODE_PEERS_MAX;
use crate::net::{Prefix, Scope};

/// A peer that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// Who.
    pub id: &'t PeerId,
    /// How far its address means the same thing.
    scope: Scope,
    /// Its `Peer` message in wire form.
    pub encoded: &'t [u8],
}

impl<'t> From<&'t Published> for Found<'t> {
    fn from(peer: &'t Published) -> Self {
        Self { id: &peer.id, scope: peer.scope, encoded: &peer.encoded }
    }
}

/// What was found, the closest first.
pub type Listing<'t> = ArrayVec<Found<'t>, FIND_NODE_PEERS_MAX>;

/// Where somebody asks from, and so which addresses are of use there.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// How far its own address means the same thing.
    pub scope: Scope,
    /// Whether it has IPv4.
    pub is_v4: bool,
}

impl Viewpoint {
    /// That of whoever is seen at `ip`.
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { scope: Scope::of(ip), is_v4: Prefix::of(ip).is_v4() }
    }
}

/// The answer to a FIND_NODE for `limit` peers: the closest to `target`, and behind them as many as
/// half of the answer drawn from `sample`.
pub fn answer<'t>(
    table: &'t Table,
    others: &'t Others,
    sample: &'t mut Sample,
    target: &PeerId,
    limit: usize,
    asker: Viewpoint,
) -> Listing<'t> {
    let limit = limit.min(FIND_NODE_PEERS_MAX);
    let half = limit.div_ceil(2);
    let mut listing = closest(table, others, target, half, asker.scope);
    // Where few are near, few are drawn.
    let wanted = (limit - half).min(listing.len());
    let mut drawn = sample.draw(wanted, asker, |id| listing.iter().any(|found| found.id == id));
    if listing.len() == half && half + drawn.len() < limit {
        let further = closest(table, others, target, limit, asker.scope).into_iter().skip(half);
        for found in further {
            if listing.len() + drawn.len() == limit {
                break;
            }
            drawn.retain(|peer| peer.id != *found.id);
            listing.push(found);
        }
    }
    listing.extend(drawn.into_iter().map(Found::from));
    listing
}

/// The closest peers to `target`, at most `limit`, whose addresses mean something to who asks
/// from `asker`.
pub fn closest<'t>(
    table: &'t Table,
    others: &'t Others,
    target: &PeerId,
    limit: usize,
    asker: Scope,
) -> Listing<'t> {
    let visible = |found: &Found<'_>| found.scope >= asker;
    let mut listing = merged(table, others, target, limit);
    if !listing.iter().all(visible) {
        listing = merged(table, others, target, FIND_NODE_PEERS_MAX);
        listing.retain(|found| visible(found));
        listing.truncate(limit);
    }
    listing
}

fn merged<'t>(table: &'t Table, others: &'t Others, target: &PeerId, limit: usize) -> Listing<'t> {
    let mut ours = Closest::new();
    table.closest(target, limit, &mut ours);
    let ours = ours.iter().map(|at| {
        let (entry, _) = table.entry(*at);
        Found { id: &entry.id, scope: entry.scope, encoded: &entry.encoded }
    });
    let theirs = others.nearest(target, limit);
    if theirs.is_empty() {
        return ours.collect();
    }
    let theirs = theirs.iter().copied().map(Found::from);
    let (mut ours, mut theirs) = (ours.peekable(), theirs.peekable());
    let next = || match (ours.peek(), theirs.peek()) {
        (Some(our), Some(their)) if their.id.distance(target) < our.id.distance(target) => {
            theirs.next()
        }
        (Some(_), _) => ours.next(),
        (None, _) => theirs.next(),
    };
    std::iter::from_fn(next).take(limit.min(FIND_NODE_PEERS_MAX)).collect()
}

#[cfg(test)]
mod tests;
