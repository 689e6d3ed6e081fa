//! Whom a lookup knows: candidates by distance, and what keeps one node or network from being
//! all of them.
//!
//! Invariants:
//! * Sorted by distance, then by WireGuard key; a pair of peer id and key is there once. A peer id under two keys
//!   is two candidates: one of them lies, and only asking tells which.
//! * Of those that did not fail, [`K`] at most are neither asked nor answered.
//! * Of what answers named and nobody was asked of yet, one answerer brought [`SHARE_MAX`] at most; of those that
//!   did not fail, [`PER_NETWORK`] at most are of one global network. Where a share is used up, the closer one stays.
//! * Who was asked is never taken out, and so never asked again.

use std::net::{IpAddr, SocketAddr};

use super::outcome::Unfit;
use crate::ids::{PeerId, WgKey};
use crate::net::{Prefix, Scope};
use crate::time::Moment;

/// Candidates beside those that were asked.
pub const K: usize = 20;
/// Candidates that one answerer may bring: half of them.
pub const SHARE_MAX: usize = K / 2;
/// Candidates of one global network: /24 or /48.
pub const PER_NETWORK: usize = 2;

/// A node, and how to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who it is said to be.
    pub peer: PeerId,
    /// Its WireGuard key.
    pub key: WgKey,
    /// Where it is.
    pub address: SocketAddr,
}

/// Where a request to a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unasked,
    /// Since when; its answer is expected until, and somebody else is asked in its place at.
    Asked {
        at: Moment,
        slow_at: Moment,
        late_at: Moment,
    },
    /// Past its timeout; an answer counts still.
    Late(Moment),
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) contact: Contact,
    pub(super) state: State,
    /// Hops from whom we knew.
    pub(super) hops: u32,
    distance: [u8; 32],
    /// The answerer that named it first; none for whom we knew.
    by: Option<WgKey>,
    network: Option<Prefix>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shortlist {
    target: PeerId,
    candidates: Vec<Candidate>,
}

impl Shortlist {
    pub(super) fn new(target: PeerId) -> Self {
        Self { target, candidates: Vec::new() }
    }

    /// All of them, the closest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Candidate> {
        self.candidates.iter_mut()
    }

    pub(super) fn find(&mut self, peer: &PeerId, key: &WgKey) -> Option<&mut Candidate> {
        let at = self.place(peer, key).ok()?;
        Some(&mut self.candidates[at])
    }

    /// Adds a candidate. Returns whether it is closer than every one before, or why it was left
    /// out; one that is there already is neither.
    ///
    /// # Errors
    /// Why it was left out.
    pub(super) fn add(
        &mut self,
        contact: Contact,
        by: Option<WgKey>,
        hops: u32,
    ) -> Result<bool, Unfit> {
        let Contact { peer, key, address } = contact;
        if self.place(&peer, &key).is_ok() {
            return Ok(false);
        }
        let distance = peer.distance(&self.target);
        let ip = address.ip();
        let network = (Scope::of(ip) == Scope::Global).then(|| Prefix::of(ip));
        let candidate = Candidate { contact, state: State::Unasked, hops, distance, by, network };
        for at in self.giving_way(&candidate)?.into_iter().flatten() {
            self.candidates.remove(at);
        }
        let at = self.place(&peer, &key).unwrap_or_else(|at| at);
        self.candidates.insert(at, candidate);
        Ok(at == 0)
    }

    /// Who goes for a newcomer, the farthest first: where a share is used up, the farthest that
    /// nobody was asked of, if it is farther than the newcomer.
    fn giving_way(&self, newcomer: &Candidate) -> Result<[Option<usize>; 3], Unfit> {
        let Candidate { by, network, .. } = *newcomer;
        let named = by.is_some();
        let ours = |it: &Candidate| named && it.by == by && it.state == State::Unasked;
        let neighbour = |it: &Candidate| named && network.is_some() && it.network == network;
        let waits = |it: &Candidate| it.state == State::Unasked;
        let mut going = [None; 3];
        going[0] = self.one_too_many(newcomer, &going, PER_NETWORK, neighbour, Unfit::Network)?;
        going[1] = self.one_too_many(newcomer, &going, SHARE_MAX, ours, Unfit::Share)?;
        going[2] = self.one_too_many(newcomer, &going, K, waits, Unfit::Far)?;
        // From the end, so that the places in front stay what they are.
        going.sort_unstable_by(|a, b| b.cmp(a));
        Ok(going)
    }

    fn one_too_many(
        &self,
        newcomer: &Candidate,
        going: &[Option<usize>; 3],
        max: usize,
        counts: impl Fn(&Candidate) -> bool,
        why: Unfit,
    ) -> Result<Option<usize>, Unfit> {
        let stays = |at: usize| !going.contains(&Some(at));
        let living =
            |(at, it): &(usize, &Candidate)| stays(*at) && it.state != State::Failed && counts(it);
        let living: Vec<_> = self.candidates.iter().enumerate().filter(living).collect();
        if living.len() < max {
            return Ok(None);
        }
        let gives_way =
            |it: &Candidate| it.state == State::Unasked && it.distance > newcomer.distance;
        let farthest = living.iter().rfind(|(_, it)| gives_way(it));
        farthest.map(|(at, _)| Some(*at)).ok_or(why)
    }

    fn place(&self, peer: &PeerId, key: &WgKey) -> Result<usize, usize> {
        let sought = (peer.distance(&self.target), key.0);
        self.candidates.binary_search_by_key(&sought, |it| (it.distance, it.contact.key.0))
    }
}

/// Whether a node at `from` can tell us of `address`: we can send there, and it means the same
/// thing to both. Nobody is told by a stranger on the Internet to look into our own network.
pub(super) fn is_fit(address: &SocketAddr, from: &SocketAddr, families: Families) -> bool {
    let ip = address.ip().to_canonical();
    let nowhere = match ip {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    let family = if ip.is_ipv4() { families.v4 } else { families.v6 };
    family && !nowhere && address.port() != 0 && Scope::of(ip) >= Scope::of(from.ip())
}

/// The address families that we can send in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Self = Self { v4: true, v6: true };
}
