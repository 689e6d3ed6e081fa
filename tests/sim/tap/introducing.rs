//! What peers may be told of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use molia_router::ids::{PeerId, WgKey};
use molia_router::net::target;
use molia_router::time::Moment;
use molia_router::wire::body::{
    Addrs, NegotiateReq, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp,
    RendezvousStatus,
};
use molia_router::wire::{Header, Kind};

use super::{Tap, Violation};
use crate::verdict::{Oracle, ensure};

/// A router remembers an answer for a little longer; after that the question is a new one.
const MEMORY: Duration = Duration::from_secs(8);

/// What came of a request, as far as it may come again.
type Answer = (RendezvousStatus, Option<[u8; 32]>);

#[derive(Debug, Default)]
pub(super) struct Introducing {
    keys: BTreeMap<PeerId, WgKey>,
    ids: BTreeMap<WgKey, PeerId>,
    /// What peers said that they may be reached at.
    declared: BTreeSet<(WgKey, SocketAddr)>,
    /// Who asked for whom, by correlation.
    asked: BTreeMap<(WgKey, u32), PeerId>,
    answers: BTreeMap<(WgKey, u32), (Moment, Answer)>,
}

impl Introducing {
    pub(super) fn key_of(&self, id: &PeerId) -> Option<WgKey> {
        self.keys.get(id).copied()
    }

    pub(super) fn id_of(&self, key: &WgKey) -> Option<PeerId> {
        self.ids.get(key).copied()
    }

    /// A peer says something.
    pub(super) fn heard(&mut self, owner: WgKey, header: &Header, body: &[u8]) {
        if header.kind == Kind::NegotiateReq.id()
            && let Ok(NegotiateReq { binding: Some(binding), .. }) = NegotiateReq::read(body)
            && binding.x25519_public == owner
            && !self.ids.contains_key(&owner)
            && molia_router::identity::verify(&binding, &owner, binding.not_after_unix_s).is_ok()
        {
            let id = PeerId::of_public(&binding.ed25519_public);
            self.keys.insert(id, owner);
            self.ids.insert(owner, id);
        } else if header.kind == Kind::RendezvousReq.id()
            && let Ok(asked) = RendezvousReq::read(body)
        {
            self.declare(owner, &asked.candidates);
            self.asked.entry((owner, header.correlation)).or_insert(asked.target);
        } else if header.kind == Kind::RendezvousAck.id()
            && let Ok(ack) = RendezvousAck::read(body)
        {
            self.declare(owner, &ack.candidates);
        }
    }

    /// Sessions are no more, and with them what they asked: the same may be asked again.
    pub(super) fn forget(&mut self, stays: impl Fn(&WgKey) -> bool) {
        self.answers.retain(|(owner, _), _| stays(owner));
    }

    fn declare(&mut self, owner: WgKey, addrs: &Addrs<'_>) {
        self.declared.extend(addrs.sockets().map(|addr| (owner, addr)));
    }
}

impl Tap {
    /// A frame to `owner` that may tell it of somebody.
    pub(super) fn check_introduction(
        &mut self,
        now: Moment,
        owner: WgKey,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Violation> {
        if header.kind == Kind::RendezvousNotify.id()
            && let Ok(notice) = RendezvousNotify::read(body)
        {
            let of = self.introducing.key_of(&notice.requester);
            ensure(of == Some(notice.wg_public), Oracle::Introduction, now, || {
                format!("{:?} has another key than {:?}", notice.requester, notice.wg_public)
            })?;
            return self.check_candidates(now, owner, notice.wg_public, &notice.candidates);
        }
        if header.kind != Kind::RendezvousResp.id() {
            return Ok(());
        }
        let Ok(answer) = RendezvousResp::read(body) else { return Ok(()) };
        let place = (owner, header.correlation);
        let said = (answer.status, answer.attempt_secret);
        let first = self.introducing.answers.entry(place).or_insert((now, said));
        if now.since(first.0) >= MEMORY {
            *first = (now, said);
        }
        let first = first.1;
        ensure(first == said, Oracle::Introduction, now, || {
            format!("one question has two answers, {first:?} and {said:?}")
        })?;
        let target = self.introducing.asked.get(&place).copied();
        let Some(of) = target.and_then(|target| self.introducing.key_of(&target)) else {
            return ensure(
                answer.candidates.sockets().next().is_none(),
                Oracle::Introduction,
                now,
                || format!("{target:?}, whom nobody knows, is at {:?}", answer.candidates),
            );
        };
        self.check_candidates(now, owner, of, &answer.candidates)
    }

    fn check_candidates(
        &self,
        now: Moment,
        to: WgKey,
        of: WgKey,
        candidates: &Addrs<'_>,
    ) -> Result<(), Violation> {
        let ips = |whose: WgKey| -> BTreeSet<IpAddr> {
            let proven = self.proofs.iter().filter(|(owner, _)| *owner == whose);
            proven.map(|(_, addr)| addr.ip()).collect()
        };
        for addr in candidates.sockets() {
            let known = self.proofs.contains(&(of, addr))
                || self.introducing.declared.contains(&(of, addr));
            ensure(known, Oracle::Introduction, now, || {
                format!("{to:?} is told that {of:?} is at {addr}, which nobody said")
            })?;
            let private = !ips(to).is_disjoint(&ips(of));
            let forbidden = target::forbidden(&addr, &[], private);
            ensure(forbidden.is_none(), Oracle::Introduction, now, || {
                format!("{to:?} is told of {addr}: {forbidden:?}")
            })?;
        }
        Ok(())
    }
}
