//! Who is closest: this shard's own table and what the other shards published, as one.

use arrayvec::ArrayVec;

use super::snapshot::Others;
use super::table::{Closest, Table};
use crate::ids::PeerId;
use crate::limits::FIND_NODE_PEERS_MAX;
use crate::net::Scope;

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

/// What was found, the closest first.
pub type Listing<'t> = ArrayVec<Found<'t>, FIND_NODE_PEERS_MAX>;

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
    let theirs = theirs.iter().map(|peer| {
        let peer = *peer;
        Found { id: &peer.id, scope: peer.scope, encoded: &peer.encoded }
    });
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
