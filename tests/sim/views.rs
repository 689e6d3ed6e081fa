//! What all shards believe, held against each other: one home for every session, one listing
//! for every peer, the same to whichever shard is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use molia_router::ids::{HomeRef, PeerId, WgKey};
use molia_router::net::{Prefix, Scope};
use molia_router::overlay;
use molia_router::partition::Partition;
use molia_router::time::Moment;

use super::listing;
use super::saboteur::Saboteur;
use super::shard::Shard;
use super::tap::Tap;
use super::verdict::{Oracle, Violation, ensure};

/// Changes are told within this time, and the mail that tells them is under way for a moment.
pub(crate) const PROMPTLY: Duration = Duration::from_millis(220);
/// A newcomer that was listed is not put out again before somebody had this long to answer.
const SAFE: Duration = Duration::from_millis(1_500);
/// Longer than that, and than the time between two looks.
const LATELY: Duration = Duration::from_millis(2_600);

/// Somebody whose listing is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) id: PeerId,
    pub(crate) key: WgKey,
    pub(crate) prefix: Prefix,
    /// Honest, and with an identity that outlives the world: it has to be listed.
    pub(crate) due: bool,
}

/// The state of affairs in which something is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) at: Moment,
    /// Since when nothing goes wrong, and nothing is left of what did.
    pub(crate) settled: Option<Moment>,
    /// How long anything may take that is told from shard to shard while it does.
    pub(crate) hearsay: Duration,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// Since when a shard says of a peer what its owner does not.
    differs: BTreeMap<(u16, PeerId), Moment>,
    /// Since when peers could be listed, and by which session.
    ready: BTreeMap<PeerId, (HomeRef, Moment)>,
}

/// Every session is in its home, and every peer has one.
pub(crate) fn check_homes(
    at: Moment,
    shards: &[Shard],
    partition: &Partition,
    saboteur: &mut Option<Saboteur>,
) -> Result<(), Violation> {
    let mut census: Vec<(u16, WgKey)> = Vec::new();
    for (number, shard) in (0..).zip(shards) {
        let live = shard.router.sessions().live();
        census.extend(live.map(|(_, session)| (number, *session.key())));
    }
    if let Some(saboteur) = saboteur {
        saboteur.census(&mut census, partition.shards());
    }
    let stray = census.iter().find(|(shard, key)| partition.home(key) != *shard);
    ensure(stray.is_none(), Oracle::Home, at, || format!("{stray:?} is not at home"))?;
    let mut keys = BTreeSet::new();
    let second = census.iter().find(|(_, key)| !keys.insert(*key));
    ensure(second.is_none(), Oracle::Home, at, || format!("{second:?} has two sessions"))
}

impl Views {
    /// All shards tell of `known` peers what the owner of their ids has listed.
    pub(crate) fn check_views(
        &mut self,
        scene: Scene,
        shards: &[Shard],
        partition: &Partition,
        known: &[Known],
    ) -> Result<(), Violation> {
        // Nothing is left of what took longer while things went wrong.
        let patience = scene.settled.map_or(scene.hearsay, |_| PROMPTLY);
        for peer in known {
            let owner = partition.owner(&peer.id.0);
            let born = shards[usize::from(owner)].born;
            let table = shards[usize::from(owner)].router.table();
            let listed = table.find(&peer.id).map(|at| table.encoded(at));
            for (number, shard) in (0..).zip(shards) {
                let place = (number, peer.id);
                if said(shard, &peer.id) == listed {
                    self.differs.remove(&place);
                    continue;
                }
                let since = *self.differs.entry(place).or_insert(scene.at);
                let since = since.max(born).max(shard.born);
                let since = scene.settled.map_or(since, |settled| since.max(settled));
                ensure(scene.at.since(since) <= patience, Oracle::Listing, scene.at, || {
                    let said = said(shard, &peer.id);
                    format!(
                        "since {since:?}, for more than {patience:?}, shard {number} says {said:02x?} of \
                         {peer:?}, its owner {owner} {listed:02x?}"
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Whoever showed who it is and where it is has its place in the table soon.
    pub(crate) fn check_due(
        &mut self,
        scene: Scene,
        shards: &[Shard],
        partition: &Partition,
        known: &[Known],
        tap: &Tap,
    ) -> Result<(), Violation> {
        let settled = scene.settled.unwrap_or(Moment::NEVER);
        for peer in known.iter().filter(|peer| peer.due) {
            let Some((home, bound)) = ready(shards, partition, peer, tap) else {
                self.ready.remove(&peer.id);
                continue;
            };
            let ready = self.ready.entry(peer.id).or_insert((home, scene.at));
            if ready.0 != home {
                *ready = (home, scene.at);
            }
            let owner = partition.owner(&peer.id.0);
            let shard = &shards[usize::from(owner)];
            let table = shard.router.table();
            let occasion = ready.1.max(bound).max(shard.born);
            let looks = occasion >= settled
                && (PROMPTLY..SAFE).contains(&scene.at.since(occasion))
                && table.find(&peer.id).is_none();
            if !looks {
                continue;
            }
            let listing = shard.listing();
            let bucket = (owner, table.bucket_of(&peer.id));
            // There may be room now that there was not then.
            let excused = scene.at.since(shard.roomier_at) < LATELY
                || listing.len() >= shard.entries_max
                || listing::is_crowded_out(&listing, bucket, &peer.prefix);
            ensure(excused, Oracle::Listing, scene.at, || {
                format!("{peer:?} is due in the table of shard {owner} since {occasion:?}")
            })?;
        }
        Ok(())
    }
}

/// What a shard tells of a peer.
fn said<'s>(shard: &'s Shard, id: &PeerId) -> Option<&'s [u8]> {
    let (table, others) = (shard.router.table(), shard.router.others());
    let found = overlay::closest(table, others, id, 1, Scope::Loopback);
    found.first().filter(|found| found.id == id).map(|found| found.encoded)
}

/// The session of a peer that may be listed, and when its binding was accepted.
fn ready(
    shards: &[Shard],
    partition: &Partition,
    peer: &Known,
    tap: &Tap,
) -> Option<(HomeRef, Moment)> {
    let shard = partition.home(&peer.key);
    let sessions = shards[usize::from(shard)].router.sessions();
    let session = sessions.by_key(&peer.key)?;
    let tenant = sessions.session(session).filter(|tenant| tenant.proven())?;
    let bound = tap.bound(&peer.key).filter(|bound| *bound >= tenant.established())?;
    Some((HomeRef { shard, session }, bound))
}
