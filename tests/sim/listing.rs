//! Who is listed, and what follows from it by the book: computed without the trie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use molia_router::ids::{PeerId, WgKey};
use molia_router::limits::FIND_NODE_PEERS_MAX;
use molia_router::net::{Prefix, Scope};
use molia_router::overlay::Table;
use molia_router::time::Moment;
use molia_router::wire::body::{FindNodeReq, Peer};

use super::tap::Tap;
use super::verdict::{Oracle, Violation, ensure};

/// Peers of one global network in a bucket.
const PER_PREFIX: usize = 2;
/// Peers that fit one frame, whatever their addresses.
const FIT: usize = 9;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: PeerId,
    pub(crate) key: WgKey,
    /// Where others are told that it is.
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) prefix: Prefix,
    pub(crate) scope: Scope,
    /// Of which shard's table.
    pub(crate) bucket: (u16, usize),
}

/// Everybody in the table of `shard`.
pub(crate) fn of(shard: u16, table: &Table) -> Vec<Listed> {
    let listed = table.iter().map(|entry| {
        let peer = Peer::read(&entry.encoded).expect("the router wrote it");
        Listed {
            id: entry.id,
            key: peer.wg_public,
            addrs: peer.addrs.sockets().collect(),
            prefix: entry.prefix,
            scope: entry.scope,
            bucket: (shard, table.bucket_of(&entry.id)),
        }
    });
    listed.collect()
}

/// How many of `prefix` are in each bucket.
fn crowds(listing: &[Listed]) -> BTreeMap<((u16, usize), [u8; 7]), usize> {
    let mut crowds = BTreeMap::new();
    for listed in listing.iter().filter(|listed| listed.scope == Scope::Global) {
        *crowds.entry((listed.bucket, listed.prefix.0)).or_default() += 1;
    }
    crowds
}

/// Nobody owns a neighbourhood.
pub(crate) fn check_networks(at: Moment, listing: &[Listed]) -> Result<(), Violation> {
    let crowd = crowds(listing).into_iter().find(|(_, count)| *count > PER_PREFIX);
    ensure(crowd.is_none(), Oracle::Networks, at, || format!("{crowd:?}"))
}

/// Whoever is listed has a session, and so was heard of lately.
pub(crate) fn check_living(at: Moment, listing: &[Listed], tap: &Tap) -> Result<(), Violation> {
    let gone = listing.iter().find(|listed| !tap.may_live(&listed.key, at));
    ensure(gone.is_none(), Oracle::Listing, at, || format!("{gone:?} was not heard of any more"))
}

/// Nobody is sent to an address that its peer has not proven: it may be somebody else's.
pub(crate) fn check_proven(at: Moment, listing: &[Listed], tap: &Tap) -> Result<(), Violation> {
    let proven = |listed: &Listed| {
        let all = listed.addrs.iter().all(|addr| tap.was_proven(&listed.key, addr));
        all && !listed.addrs.is_empty()
    };
    let aimed = listing.iter().find(|listed| !proven(listed));
    ensure(aimed.is_none(), Oracle::Listing, at, || format!("{aimed:?} is where nobody was proven"))
}

/// Whether a peer of this network has a reason not to be in its bucket.
pub(crate) fn is_crowded_out(listing: &[Listed], bucket: (u16, usize), prefix: &Prefix) -> bool {
    crowds(listing).get(&(bucket, prefix.0)).is_some_and(|count| *count >= PER_PREFIX)
}

/// Whether `found` is the right answer to `asked` from `scope`, of those that mean something there:
/// the closest first, for one half at least, none left out but by lack of room; behind them no more
/// than that of others who are listed, no two of one global network.
pub(crate) fn is_right(
    listing: &[Listed],
    asked: &FindNodeReq,
    scope: Scope,
    chunked: bool,
    found: &[PeerId],
) -> bool {
    let mut by_distance: Vec<&Listed> = listing.iter().collect();
    by_distance.sort_by_key(|listed| listed.id.distance(&asked.target_id));
    // The router looks at the closest 16 of all for those that the asker can use.
    let near = by_distance.iter().take(FIND_NODE_PEERS_MAX);
    let due = near.filter(|listed| listed.scope >= scope).take(asked.wanted()).count();
    let due = if chunked { due } else { due.min(FIT) };
    let half = due.min(asked.wanted().div_ceil(2));
    let visible: Vec<&Listed> =
        by_distance.into_iter().filter(|listed| listed.scope >= scope).collect();
    let closest = found.iter().zip(&visible).take_while(|(id, near)| **id == near.id).count();
    let of = |id: &PeerId| visible.iter().find(|listed| listed.id == *id).copied();
    let Some(drawn) = found[closest..].iter().map(of).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let ids: BTreeSet<_> = found.iter().collect();
    let global: Vec<_> = drawn.iter().filter(|listed| listed.scope == Scope::Global).collect();
    let networks: BTreeSet<_> = global.iter().map(|listed| listed.prefix.0).collect();
    (due..=asked.wanted()).contains(&found.len())
        && closest >= half
        && drawn.len() <= closest.min(asked.wanted() / 2)
        && ids.len() == found.len()
        && networks.len() == global.len()
}
