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
    /// When it was proven last.
    proven: Moment,
    /// Its last initiations.
    pub(super) asked: [Option<Asked>; 2],
    /// The index that its last data named.
    pub(super) index: Option<u32>,
}

/// An address that a leg may be bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) path: Path,
    /// Bytes that came from there and were not spent.
    pub(super) credit: u32,
    /// When it was proven last.
    pub(super) proven: Option<Moment>,
    pub(super) asked: Option<Asked>,
    /// The sender index of the answer that was sent there.
    pub(super) answered: Option<u32>,
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
    /// The address that the session of this leg's peer proved, and when ports were asked for there.
    home: Option<(IpAddr, Moment)>,
    pub(super) bound: Option<Bound>,
    pub(super) candidates: ArrayVec<Candidate, CANDIDATES>,
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

    /// The session of this leg's peer is at that address.
    pub(super) fn live_at(&mut self, now: Moment, ip: IpAddr) {
        self.home = Some((ip, now));
        if let Some(bound) = self.bound.as_mut().filter(|bound| bound.path.peer.ip() == ip) {
            bound.proven = now;
        }
    }

    /// When the address that a path is from was proven: by the peer's session or the bound address,
    /// whatever their port, or with a cookie. `None` if that has to be done again.
    pub(super) fn proven(&self, now: Moment, path: &Path) -> Option<Moment> {
        let ip = path.peer.ip();
        let home = self.home.filter(|(home, _)| *home == ip).map(|(_, at)| at);
        let bound = self.bound.filter(|bound| bound.path.peer.ip() == ip);
        let candidate = self.candidate(path).and_then(|at| self.candidates[at].proven);
        let proofs = [home, bound.map(|bound| bound.proven), candidate];
        proofs.into_iter().flatten().max().filter(|at| now.since(*at) < PROOF_RENEWED)
    }

    /// A handshake message of the bound address, which is proven: with it, if that is due.
    pub(super) fn hear_bound(&mut self, now: Moment, proven: Moment) {
        if let Some(bound) = &mut self.bound {
            (bound.heard, bound.proven) = (now, bound.proven.max(proven));
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
    /// anything may go there.
    pub(super) fn may_be_sent_to(&self, now: Moment) -> bool {
        self.bound.is_some_and(|bound| {
            now.since(bound.heard) < HEARD_WITHIN && now.since(bound.proven) < PROOF_WITHIN
        })
    }

    pub(super) fn candidate(&self, path: &Path) -> Option<usize> {
        self.candidates.iter().position(|it| it.path.peer == path.peer)
    }

    /// Takes an initiation from elsewhere than the bound address, which makes a candidate of that.
    /// `shown` says whether it carries a cookie, and if so whether its network may have another one.
    ///
    /// # Errors
    /// [`Drop::RelayCookie`] if it needs a cookie: its address is not proven, or it is one of many.
    /// [`Drop::RelayBudget`] if it is one too many all the same.
    pub(super) fn hear_stranger(
        &mut self,
        now: Moment,
        path: &Path,
        (bytes, shown): (u32, Option<bool>),
    ) -> Result<(), Drop> {
        let proven = match shown {
            Some(true) => now,
            Some(false) => return Err(Drop::RelayBudget),
            None => {
                let proven = self.proven(now, path).ok_or(Drop::RelayCookie)?;
                if !self.strangers.take(now, &STRANGERS, 1) {
                    return Err(Drop::RelayCookie);
                }
                proven
            }
        };
        let before = self.candidate(path).map(|at| self.candidates.remove(at));
        self.propose(path, before.map_or(0, |it| it.credit).saturating_add(bytes), Some(proven));
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
        if let Some(at) = self.candidate(path) {
            let credit = &mut self.candidates[at].credit;
            *credit = credit.saturating_add(bytes);
        } else if guard.allows(&path.peer) && self.strangers.take(now, &STRANGERS, 1) {
            self.propose(path, bytes, None);
        }
    }

    fn propose(&mut self, path: &Path, credit: u32, proven: Option<Moment>) {
        if self.candidates.is_full() {
            self.candidates.remove(0);
        }
        let path = *path;
        self.candidates.push(Candidate { path, credit, proven, asked: None, answered: None });
    }

    /// Who gets an initiation of the other side: the bound address, or in place of a silent one the last
    /// candidate that may have so much.
    pub(super) fn receiver(&self, now: Moment, bytes: u32) -> Option<Receiver> {
        if !self.is_alive(now)
            && let Some(at) = self.candidates.iter().rposition(|it| it.credit >= bytes)
        {
            return Some(Receiver::Candidate(at));
        }
        self.bound.map(|_| Receiver::Bound)
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
    pub(super) fn affords(&self, receiver: Receiver, bytes: u32) -> bool {
        match receiver {
            Receiver::Bound => true,
            Receiver::Candidate(at) => self.candidates.get(at).is_some_and(|it| it.credit >= bytes),
        }
    }

    pub(super) fn spend(&mut self, receiver: Receiver, bytes: u32) {
        if let Receiver::Candidate(at) = receiver
            && let Some(candidate) = self.candidates.get_mut(at)
        {
            candidate.credit = candidate.credit.saturating_sub(bytes);
        }
    }

    /// The leg's peer is there from now on, which was proven then.
    pub(super) fn bind(&mut self, now: Moment, path: Path, proven: Moment) {
        let mut asked = [None; 2];
        if let Some(at) = self.candidate(&path) {
            asked[0] = self.candidates.remove(at).asked;
        }
        self.bound = Some(Bound { path, heard: now, proven, asked, index: None });
    }
}
