//! A leg: who is bound to it, and who would like to be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arrayvec::ArrayVec;

use super::{Guard, STALE, STRANGERS};
use crate::admission::cookie;
use crate::bucket::TokenBucket;
use crate::drops::Drop;
use crate::ids::WgKey;
use crate::net::Path;
use crate::time::Moment;

/// Nothing goes to an address that nothing came from for so long.
const HEARD_WITHIN: Duration = Duration::from_secs(180);
/// After so long a proof of an address is asked for again, with the next handshake message. Keys are
/// renewed two minutes after the last ones and live for three, so that a tunnel goes on meanwhile.
const PROOF_RENEWED: Duration = Duration::from_secs(300);
/// Nothing goes to an address whose proof is older.
const PROOF_WITHIN: Duration = Duration::from_secs(600);
/// Candidates of a leg; the oldest goes.
const CANDIDATES: usize = 4;
/// A candidate that says nothing for so long is none any more.
const CANDIDATE_FOR: Duration = Duration::from_secs(60);
/// Bytes that an unproven candidate may have saved up: some initiations.
const CREDIT_MAX: u32 = 4 * 148;

/// An initiation that went to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its sender index.
    pub(super) index: u32,
    /// The one address that it went to.
    pub(super) to: SocketAddr,
}

/// The address that a leg is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) path: Path,
    /// When something came from there last.
    pub(super) heard: Moment,
    /// When it was bound.
    since: Moment,
    /// When it was proven last; `None` before the first time after a restart.
    proven: Option<Moment>,
    /// Its last initiations.
    pub(super) asked: [Option<Asked>; 2],
    /// The index that its last data named.
    pub(super) index: Option<u32>,
}

/// An address that a leg may be bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) path: Path,
    /// When something came from there last.
    heard: Moment,
    /// Bytes that came from there and were not spent.
    credit: u32,
    /// When it was proven last, and whether by a cookie of its own.
    proven: Option<Moment>,
    by_cookie: bool,
    pub(super) asked: Option<Asked>,
    /// The sender index of the answer that was sent there, and whether the bound peer gave it.
    pub(super) answered: Option<(u32, bool)>,
    /// The sender index of the answer that came from there, which may be anybody's.
    claimed: Option<u32>,
}

/// Where something for a leg goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    Bound,
    Candidate(usize),
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) side: super::Side,
    /// Key of mac1 of what is sent to this leg's peer.
    mac1_key: [u8; 32],
    pub(super) socket: u16,
    /// Place of who pays for what it sends.
    pub(super) owner: u32,
    /// The address that the session of this leg's peer proved, and when.
    home: Option<(IpAddr, Moment)>,
    pub(super) bound: Option<Bound>,
    pub(super) candidates: ArrayVec<Candidate, CANDIDATES>,
    /// Whose turn it is to be asked.
    turn: u8,
    strangers: TokenBucket,
}

impl Leg {
    pub(super) fn new(side: super::Side, socket: u16, owner: u32, now: Moment) -> Self {
        Self {
            mac1_key: cookie::mac1_key(&side.key.0),
            side,
            socket,
            owner,
            home: None,
            bound: None,
            candidates: ArrayVec::new(),
            turn: 0,
            strangers: TokenBucket::full(&STRANGERS, now),
        }
    }

    /// Another key is another tunnel: nobody is bound to it yet.
    pub(super) fn rekey(&mut self, key: WgKey) {
        self.side.key = key;
        self.mac1_key = cookie::mac1_key(&key.0);
        self.bound = None;
        self.candidates.clear();
    }

    /// Whether a handshake message is meant for this leg's peer, as far as mac1 tells.
    pub(super) fn is_meant(&self, message: &[u8]) -> bool {
        cookie::has_mac1(&self.mac1_key, message)
    }

    /// The session of this leg's peer is at that address, which was proven then.
    pub(super) fn live_at(&mut self, (ip, proven): (IpAddr, Moment)) {
        self.home = Some((ip, proven));
        if let Some(bound) = self.bound.as_mut().filter(|bound| bound.path.peer.ip() == ip) {
            bound.proven = bound.proven.max(Some(proven));
        }
    }

    /// Whether its peer was there once, whatever the port: by its session, or bound.
    pub(super) fn knows(&self, path: &Path) -> bool {
        let ip = path.peer.ip();
        self.home.is_some_and(|(home, _)| home == ip)
            || self.bound.is_some_and(|bound| bound.path.peer.ip() == ip)
    }

    /// When the address that a path is from was proven: by the peer's session or the bound address,
    /// whatever their port, or with a cookie. `None` if that has to be done again.
    pub(super) fn proven(&self, now: Moment, path: &Path) -> Option<Moment> {
        let candidate = self.candidate(path).and_then(|at| self.candidates[at].proven);
        let candidate = candidate.filter(|at| now.since(*at) < PROOF_RENEWED);
        self.proven_near(now, path).max(candidate)
    }

    fn proven_near(&self, now: Moment, path: &Path) -> Option<Moment> {
        let ip = path.peer.ip();
        let home = self.home.filter(|(home, _)| *home == ip).map(|(_, at)| at);
        let bound = self.bound.filter(|bound| bound.path.peer.ip() == ip);
        let proof = home.max(bound.and_then(|bound| bound.proven));
        proof.filter(|at| now.since(*at) < PROOF_RENEWED)
    }

    /// A handshake message of the bound address, which is proven: with it, if that is due.
    pub(super) fn hear_bound(&mut self, now: Moment, proven: Moment) {
        if let Some(bound) = &mut self.bound {
            (bound.heard, bound.proven) = (now, bound.proven.max(Some(proven)));
        }
    }

    #[inline]
    pub(super) fn is_bound_to(&self, path: &Path) -> bool {
        self.bound.is_some_and(|bound| bound.path.peer == path.peer)
    }

    /// Whether the bound address was heard of lately.
    pub(super) fn is_alive(&self, now: Moment) -> bool {
        self.bound.is_some_and(|bound| now.since(bound.heard) < STALE)
    }

    /// Whether something came from the bound address lately enough, and that is proven, so that
    /// anything may go there. A restart counts as both.
    pub(super) fn may_be_sent_to(&self, now: Moment) -> bool {
        self.bound.is_some_and(|bound| {
            let proven = bound.proven.unwrap_or(bound.since);
            now.since(bound.heard) < HEARD_WITHIN && now.since(proven) < PROOF_WITHIN
        })
    }

    pub(super) fn candidate(&self, path: &Path) -> Option<usize> {
        self.candidates.iter().position(|it| it.path.peer == path.peer)
    }

    /// Takes an initiation from elsewhere than the bound address, which makes a candidate of that.
    /// `cookie`: it carries one; `network` takes one of those that its network may have with one.
    /// It is of so many bytes.
    ///
    /// # Errors
    /// [`Drop::RelayCookie`] if it needs a cookie: its address is not proven, or it is one of many.
    /// [`Drop::RelayBudget`] if it is one too many all the same.
    pub(super) fn hear_stranger(
        &mut self,
        now: Moment,
        path: &Path,
        (bytes, cookie): (u32, bool),
        network: impl FnOnce() -> bool,
    ) -> Result<(), Drop> {
        self.tidy(now);
        let near = self.proven_near(now, path);
        let known = self.candidate(path).map(|at| self.candidates[at]);
        // A peer may show the cookie of the other side instead, which is under load.
        let own = known.filter(|it| it.by_cookie).and_then(|_| self.proven(now, path));
        let shown = cookie.then_some(now).or(own);
        let taken = shown.filter(|_| network()).or_else(|| {
            let near = near.filter(|_| self.strangers.take(now, &STRANGERS, 1));
            near.map(|near| shown.unwrap_or(near))
        });
        let Some(proven) = taken else {
            return Err(if shown.is_some() { Drop::RelayBudget } else { Drop::RelayCookie });
        };
        let place = self.propose(now, path, bytes);
        (place.proven, place.by_cookie) = (Some(proven), shown.is_some());
        Ok(())
    }

    /// Takes note of data from elsewhere, if it names the index that the bound address did: its peer
    /// may have moved and not know, and then nothing but keepalives comes from there.
    pub(super) fn hear_wanderer(
        &mut self,
        now: Moment,
        path: &Path,
        (index, bytes): (u32, u32),
        guard: &impl Guard,
    ) {
        if self.bound.is_none_or(|bound| bound.index != Some(index)) {
            return;
        }
        let known = self.candidate(path).is_some();
        if known || (guard.allows(&path.peer) && self.strangers.take(now, &STRANGERS, 1)) {
            let near = self.proven_near(now, path);
            let place = self.propose(now, path, bytes);
            place.proven = place.proven.max(near);
        }
    }

    /// An answer to an initiation that a candidate alone got, in place of an address that is
    /// silent. Anybody can say that; whether it is true shows in what the other side makes of it.
    ///
    /// # Errors
    /// [`Drop::RelaySource`] from elsewhere, or if the bound address is alive.
    pub(super) fn hear_claim(
        &mut self,
        now: Moment,
        path: &Path,
        index: u32,
        proof: impl FnOnce(&Self) -> Result<Moment, Drop>,
    ) -> Result<(), Drop> {
        let at = self.candidate(path).filter(|_| !self.is_alive(now)).ok_or(Drop::RelaySource)?;
        let proven = proof(self)?;
        let place = &mut self.candidates[at];
        (place.heard, place.proven, place.claimed) = (now, Some(proven), Some(index));
        Ok(())
    }

    /// Who claimed to be the peer by an answer with that index, and with which proof.
    pub(super) fn claimant(&self, now: Moment, index: u32) -> Option<(Path, Moment)> {
        let claims = |it: &&Candidate| it.claimed == Some(index) && it.counts(now);
        self.candidates.iter().find(claims).and_then(|it| Some((it.path, it.proven?)))
    }

    /// Whether somebody would like to be bound.
    #[inline]
    pub(super) fn is_courted(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// The proof of a candidate that got the answer with that index; and whether the bound peer
    /// gave that.
    pub(super) fn was_answered(
        &self,
        now: Moment,
        path: &Path,
        index: u32,
    ) -> Option<(Moment, bool)> {
        let it = self.candidates.get(self.candidate(path)?).filter(|it| it.counts(now))?;
        let (_, by_peer) = it.answered.filter(|(answered, _)| *answered == index)?;
        Some((it.proven?, by_peer))
    }

    /// Whether an answer of the other side, with that index if to a candidate, may have gone there.
    pub(super) fn is_answered(&self, path: &Path, index: u32) -> bool {
        let candidate = self.candidate(path).and_then(|at| self.candidates[at].answered);
        self.is_bound_to(path) || candidate == Some((index, true))
    }

    /// The place of a candidate that so many bytes came from, the newest.
    fn propose(&mut self, now: Moment, path: &Path, bytes: u32) -> &mut Candidate {
        let known = self.candidate(path).map(|at| self.candidates.remove(at));
        if self.candidates.is_full() {
            self.candidates.remove(0);
        }
        let mut place = known.unwrap_or(Candidate {
            path: *path,
            heard: now,
            credit: 0,
            proven: None,
            by_cookie: false,
            asked: None,
            answered: None,
            claimed: None,
        });
        place.heard = now;
        place.credit = place.credit.saturating_add(bytes).min(CREDIT_MAX);
        let at = self.candidates.len();
        self.candidates.push(place);
        &mut self.candidates[at]
    }

    fn tidy(&mut self, now: Moment) {
        self.candidates.retain(|it| it.counts(now));
    }

    /// Who gets an initiation of the other side: the bound address; in place of a silent one it and
    /// the candidates in turn, the newest first: nobody can keep the others from being asked.
    pub(super) fn receiver(&mut self, now: Moment, bytes: u32) -> Option<Receiver> {
        self.tidy(now);
        let mut asked: ArrayVec<Receiver, { CANDIDATES + 1 }> = ArrayVec::new();
        if !self.is_alive(now) {
            let may = |at: &usize| self.candidates[*at].affords(now, bytes);
            let candidates = (0..self.candidates.len()).rev().filter(may);
            asked.extend(candidates.map(Receiver::Candidate));
        }
        if self.bound.is_some() && (asked.is_empty() || self.may_be_sent_to(now)) {
            asked.push(Receiver::Bound);
        }
        let turn = usize::from(self.turn);
        self.turn = self.turn.wrapping_add(u8::from(asked.len() > 1));
        asked.get(turn % asked.len().max(1)).copied()
    }

    /// Who sent the initiation that somebody at `from` answers.
    pub(super) fn who_asked(&self, index: u32, from: &Path) -> Option<Receiver> {
        let is_it = |asked: &Option<Asked>| *asked == Some(Asked { index, to: from.peer });
        if self.bound.is_some_and(|bound| bound.asked.iter().any(is_it)) {
            return Some(Receiver::Bound);
        }
        self.candidates.iter().rposition(|it| is_it(&it.asked)).map(Receiver::Candidate)
    }

    /// The path of a receiver, by this leg's socket.
    pub(super) fn path(&self, receiver: Receiver) -> Option<Path> {
        match receiver {
            Receiver::Bound => self.bound.map(|bound| bound.path),
            Receiver::Candidate(at) => self.candidates.get(at).map(|it| it.path),
        }
    }

    /// Whether so much may go to a receiver.
    pub(super) fn affords(&self, now: Moment, receiver: Receiver, bytes: u32) -> bool {
        match receiver {
            Receiver::Bound => true,
            Receiver::Candidate(at) => {
                self.candidates.get(at).is_some_and(|it| it.affords(now, bytes))
            }
        }
    }

    pub(super) fn spend(&mut self, receiver: Receiver, bytes: u32) {
        if let Receiver::Candidate(at) = receiver
            && let Some(candidate) = self.candidates.get_mut(at)
        {
            candidate.credit = candidate.credit.saturating_sub(bytes);
        }
    }

    /// The leg's peer is there from now on, which was proven then; not yet, if it was there before
    /// a restart.
    pub(super) fn bind(&mut self, now: Moment, path: Path, proven: Option<Moment>) {
        let mut asked = [None; 2];
        if let Some(at) = self.candidate(&path) {
            asked[0] = self.candidates.remove(at).asked;
        }
        self.turn = 0;
        self.bound = Some(Bound { path, heard: now, since: now, proven, asked, index: None });
    }
}

impl Candidate {
    /// Whether it said something lately, and its proof is good if it has one.
    fn counts(&self, now: Moment) -> bool {
        now.since(self.heard) < CANDIDATE_FOR
            && self.proven.is_none_or(|at| now.since(at) < PROOF_WITHIN)
    }

    /// Whether so much may go there: anything if it is proven, else what came from it.
    fn affords(&self, now: Moment, bytes: u32) -> bool {
        let proven = self.proven.is_some_and(|at| now.since(at) < PROOF_RENEWED);
        proven || self.credit >= bytes
    }
}
