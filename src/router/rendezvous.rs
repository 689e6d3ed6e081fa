//! Introductions: RENDEZVOUS from the request to both sides' candidates and one moment to fire.
//!
//! A request is checked where its session lives, and goes as a letter to the shard that owns the
//! target's id, which knows where the target is; to the shard that has the target's session, which
//! notifies it and waits for its word; and back to where it came from, which answers. Each of these
//! may be the same shard, and a letter only ever goes on to the next of them.
//!
//! Nobody can be made a target: an address that is told to the other side was proven to be the
//! session's, or is one that nothing is [forbidden](crate::net::target) to be sent to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use rand_core::RngCore;

use crate::bucket::{Rate, TokenBucket};
use crate::ids::{HomeRef, PeerId, SessionRef, WgKey};
use crate::limits::{CANDIDATES_MAX, CONSENT_BYTES_MAX};
use crate::net::{Prefix, Scope, host_network, target};
use crate::rendezvous::{Due, Nat, Schedule, WINDOW, WINDOWS, schedule};
use crate::signing::consent::{self, ConsentError};
use crate::time::{Moment, Now};
use crate::tunnel::{Session, Tunnel};
use crate::wire::body::{
    Addrs, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult,
    RendezvousStatus, consent_scope,
};
use crate::wire::{Class, Code, Header, Kind, Multiaddr, multiaddr};

use super::records::{Asker, asker};
use super::{Mail, Request, Router, Source};

/// Introductions that one session may ask for.
const ASKED: Rate = Rate::new(2, 10);
/// Those that one peer is notified of: of all that it consented to, and of each network.
pub(super) const NOTIFIED: Rate = Rate::new(4, 16);
/// Peers whose notices are counted apart.
pub(super) const NOTIFIED_PEERS: usize = 4096;
/// Ports below are those of services, which a probe is never aimed at: a peer that was seen at one
/// proved that it is its own.
pub(super) const SERVICE_PORTS: u16 = 1024;

/// Addresses that a peer may be reached at.
type Candidates = ArrayVec<SocketAddr, CANDIDATES_MAX>;
/// An encoded ConsentToken.
type Consent = ArrayVec<u8, CONSENT_BYTES_MAX>;

/// One peer's wish to reach another, on its way.
#[derive(Debug)]
pub struct Introduction {
    /// Whom to answer, and the shard that does.
    asker: Asker,
    shard: u16,
    requester: PeerId,
    key: WgKey,
    observed: SocketAddr,
    declared: Candidates,
    nat: Nat,
    rtt: Option<Duration>,
    consent: Consent,
    target: PeerId,
    /// When both fire; known once the target is notified.
    plan: Schedule,
    /// On the way back.
    outcome: Outcome,
}

/// What became of an introduction.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    status: RendezvousStatus,
    candidates: Candidates,
    secret: [u8; 32],
    fire_after_ms: u32,
    consent: Consent,
}

impl Outcome {
    fn ending(status: RendezvousStatus) -> Self {
        let (candidates, consent) = (Candidates::new(), Consent::new());
        Self { status, candidates, secret: [0; 32], fire_after_ms: 0, consent }
    }
}

/// An introduction that a session asked for: what came of it, once that is known.
pub(super) type Asked = Option<Arc<Outcome>>;

impl<T: Tunnel> Router<T> {
    pub(super) fn rendezvous(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = RendezvousReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let session = request.from.session;
        let correlation = request.header.correlation;
        let peer = self.peers.at(session);
        let Some(bound) = peer.identity else { return };
        let introductions = peer.introductions.get_or_insert_default();
        match introductions.recall(now.at, correlation) {
            Some(Some(outcome)) => return self.answer_introduction(now, request, &outcome),
            // It is under way.
            Some(None) => return,
            None => {}
        }
        let requester = bound.peer_id;
        if asked.target == requester {
            return self.refuse(now, request, Code::Invalid, 0);
        }
        let left = peer.introductions_left.get_or_insert_with(|| TokenBucket::full(&ASKED, now.at));
        if !left.take(now.at, &ASKED, 1) || !self.network_may_ask(now, session) {
            return self.refuse(now, request, Code::RateLimited, 0);
        }
        let scope = consent_scope::PUNCH;
        if !asked.consent.is_empty()
            && let Err(code) = self.consented(now, asked.consent, &asked.target, &requester, scope)
        {
            return self.refuse(now, request, code, 0);
        }
        let Some(tenant) = self.sessions.session(session) else { return };
        if !tenant.proven() {
            // Nobody is to be sent to an address that may be forged; it will be proven in a moment.
            return self.refuse(now, request, Code::Busy, 0);
        }
        let (key, observed, rtt) = (*tenant.key(), tenant.path().peer, tenant.srtt());
        let said = Nat::of_wire(asked.nat_mapping, asked.nat_filtering);
        let nat = self.told_of_nat(now, session, said);
        let introduction = Introduction {
            asker: asker(request),
            shard: self.shard,
            requester,
            key,
            observed,
            declared: candidates(&asked.candidates),
            nat,
            rtt,
            consent: ArrayVec::try_from(asked.consent).unwrap_or_default(),
            target: asked.target,
            plan: schedule(None, None),
            outcome: Outcome::ending(RendezvousStatus::NoAnswer),
        };
        let peer = self.peers.at(session);
        peer.introductions.get_or_insert_default().remember(now.at, correlation, None);
        self.seek(now, Box::new(introduction));
    }

    /// Whether the network that a session began in has requests left that others are asked for.
    pub(super) fn network_may_ask(&mut self, now: Now, session: SessionRef) -> bool {
        let network = self.sessions.session(session).map(|tenant| *tenant.network());
        network.is_some_and(|network| self.network_asks.take(now.at, &network, 1))
    }

    /// Whether `issuer` lets `subject` reach it that way; else the code of the refusal.
    pub(super) fn consented(
        &mut self,
        now: Now,
        token: &[u8],
        issuer: &PeerId,
        subject: &PeerId,
        scope: u32,
    ) -> Result<(), Code> {
        let checked = consent::check(token, issuer, subject, scope, now.unix_s(), &mut self.signed);
        checked.map_err(|refused| match refused {
            ConsentError::Invalid => Code::Invalid,
            ConsentError::Unauthorized => Code::Unauthorized,
        })
    }

    /// To the shard that knows where the target is.
    fn seek(&mut self, now: Now, introduction: Box<Introduction>) {
        match self.partition.owner(&introduction.target.0) {
            owner if owner == self.shard => self.find_target(now, introduction),
            owner => self.tray.post(owner, Mail::Seek(introduction), &[]),
        }
    }

    /// The target's id is one that this shard owns.
    pub(super) fn find_target(&mut self, now: Now, mut introduction: Box<Introduction>) {
        let Some(present) = self.directory.find(&introduction.target) else {
            introduction.outcome = Outcome::ending(RendezvousStatus::NoSuchPeer);
            return self.introduced(now, introduction);
        };
        let HomeRef { shard, session } = present.home;
        if shard == self.shard {
            self.notify(now, session, introduction);
        } else {
            self.tray.post(shard, Mail::Notify(session, introduction), &[]);
        }
    }

    /// The target has its session here: asks it.
    pub(super) fn notify(
        &mut self,
        now: Now,
        session: SessionRef,
        mut introduction: Box<Introduction>,
    ) {
        let target = introduction.target;
        let present = self.sessions.session(session).filter(|it| it.proven() && it.usable(now.at));
        let Some(rtt) = present.map(Session::srtt) else {
            return self.introduced(now, introduction);
        };
        // A consent is good for a notice whatever others do; without one, networks do not spend each
        // other's.
        let asker = Prefix::of(introduction.observed.ip());
        let counted = (target, introduction.consent.is_empty().then_some(asker));
        if !self.notified.take(now.at, &counted, 1) {
            return self.introduced(now, introduction);
        }
        self.rng.fill_bytes(&mut introduction.outcome.secret);
        introduction.plan = schedule(introduction.rtt, rtt);
        let random = self.rng.next_u32();
        match self.attempts.ask(now.at, session, random, introduction) {
            Ok(correlation) => self.send_notice(now, session, correlation, Duration::ZERO),
            Err(introduction) => self.introduced(now, introduction),
        }
    }

    /// Notifies the target, so long after the first time; what finds no place is as good as lost.
    fn send_notice(&mut self, now: Now, session: SessionRef, correlation: u32, waited: Duration) {
        let Some(path) = self.sessions.session(session).map(|it| *it.path()) else { return };
        let Some(introduction) = self.attempts.attempt(correlation) else { return };
        let told = self.told(introduction.observed, &introduction.declared, path.peer.ip());
        let addrs = encoded(&told);
        let notice = RendezvousNotify {
            requester: introduction.requester,
            wg_public: introduction.key,
            candidates: Addrs::of(&addrs),
            attempt_secret: introduction.outcome.secret,
            fire_after_ms: introduction.plan.target_ms(waited),
            windows: WINDOWS,
            window_ms: window_ms(),
            consent: &introduction.consent,
        };
        let to = Source { session, path, prefix: Prefix::of(path.peer.ip()) };
        let header = Header::request(Kind::RendezvousNotify, correlation);
        let limit = self.peers.at(session).plaintext_limit();
        self.outbox.offer(now, &to, Class::Control, limit, header, |body| notice.write(body));
    }

    /// The target's word. Whether anybody waits for it.
    pub(super) fn acknowledged(&mut self, now: Now, ack: &Request<'_>) -> bool {
        let session = ack.from.session;
        let correlation = ack.header.correlation;
        let Ok(said) = RendezvousAck::read(ack.body) else { return false };
        let Some((mut introduction, waited)) = self.attempts.answered(now.at, session, correlation)
        else {
            return false;
        };
        let nat = Nat::of_wire(said.nat_mapping, said.nat_filtering);
        let nat = self.told_of_nat(now, session, nat);
        let at = self.sessions.session(session).filter(|it| it.proven()).map(Session::path);
        let Some(observed) = at.map(|path| path.peer) else {
            self.introduced(now, introduction);
            return true;
        };
        let asker_ip = introduction.observed.ip();
        let together = observed.ip() == asker_ip;
        let told = self.told(observed, &candidates(&said.candidates), asker_ip);
        let fire_after_ms = introduction.plan.requester_ms(waited);
        let outcome = &mut introduction.outcome;
        outcome.status = if !said.accept {
            RendezvousStatus::Refused
        } else if together || introduction.nat.punchable(nat) {
            (outcome.candidates, outcome.fire_after_ms) = (told, fire_after_ms);
            RendezvousStatus::Ok
        } else {
            RendezvousStatus::UnreachableNats
        };
        if said.accept {
            outcome.consent = ArrayVec::try_from(said.consent).unwrap_or_default();
        }
        self.introduced(now, introduction);
        true
    }

    /// Asks targets again that have not answered, and ends the attempts of those that never do.
    pub(super) fn poll_introductions(&mut self, now: Now) {
        while self.tray.is_light()
            && !self.crowded()
            && let Some(due) = self.attempts.due(now.at)
        {
            match due {
                Due::Again(session, correlation, waited) => {
                    self.send_notice(now, session, correlation, waited);
                }
                Due::Over(introduction) => self.introduced(now, introduction),
            }
        }
    }

    pub(super) fn introductions_deadline(&self) -> Moment {
        match self.blocked && self.crowded() {
            true => Moment::NEVER,
            false => self.attempts.next_deadline(),
        }
    }

    /// Back to who asked.
    fn introduced(&mut self, now: Now, introduction: Box<Introduction>) {
        match introduction.shard {
            shard if shard == self.shard => self.conclude_introduction(now, *introduction),
            shard => self.tray.post(shard, Mail::Introduced(introduction), &[]),
        }
    }

    pub(super) fn conclude_introduction(&mut self, now: Now, introduction: Introduction) {
        let Introduction { asker, outcome, .. } = introduction;
        self.outbox.counters.introduced(outcome.status);
        let Some(request) = self.request_of(&asker) else { return };
        let outcome = Arc::new(outcome);
        let kept = self.peers.at(asker.session).introductions.get_or_insert_default();
        kept.remember(now.at, asker.correlation, Some(Arc::clone(&outcome)));
        self.answer_introduction(now, &request, &outcome);
    }

    fn answer_introduction(&mut self, now: Now, request: &Request<'_>, outcome: &Outcome) {
        let addrs = encoded(&outcome.candidates);
        let fires = outcome.status == RendezvousStatus::Ok;
        let answer = RendezvousResp {
            status: outcome.status,
            candidates: Addrs::of(&addrs),
            attempt_secret: fires.then_some(outcome.secret),
            fire_after_ms: outcome.fire_after_ms,
            windows: if fires { WINDOWS } else { 0 },
            window_ms: if fires { window_ms() } else { 0 },
            consent: &outcome.consent,
        };
        self.answer(now, request, Kind::RendezvousResp, |body| answer.write(body));
    }

    /// A side tells how an attempt ended.
    pub(super) fn rendezvous_result(&mut self, now: Now, request: &Request<'_>) {
        match RendezvousResult::read(request.body) {
            Ok(result) => self.outbox.counters.punched(result.outcome),
            Err(_) => self.refuse(now, request, Code::Invalid, 0),
        }
    }

    /// What one side, observed at an address that it proved, is to be tried at by another that is
    /// seen at `seer`: first that address, then those it declares that may be told.
    fn told(&self, observed: SocketAddr, declared: &[SocketAddr], seer: IpAddr) -> Candidates {
        // Only what it proved is told of it, but for other ports there, and, behind one NAT, what it
        // is called in there: probes to anything else would be aimed at others.
        let together = observed.ip() == seer;
        let there = host_network(observed.ip());
        let may = |addr: &SocketAddr| {
            let lan = together && *addr != observed && Scope::of(addr.ip()) == Scope::Private;
            let near = host_network(addr.ip()) == there || self.config.allow_private;
            if !near && !lan {
                return false;
            }
            let private = self.config.allow_private || lan;
            let proven = *addr == observed;
            (proven || addr.port() >= SERVICE_PORTS)
                && target::forbidden(addr, &self.config.own, private).is_none()
        };
        let declared = declared.iter().copied().filter(|addr| *addr != observed);
        std::iter::once(observed).chain(declared).filter(may).take(CANDIDATES_MAX).collect()
    }
}

fn candidates(addrs: &Addrs<'_>) -> Candidates {
    addrs.sockets().take(CANDIDATES_MAX).collect()
}

fn encoded(addrs: &[SocketAddr]) -> ArrayVec<Multiaddr, CANDIDATES_MAX> {
    addrs.iter().map(|addr| multiaddr::encode(*addr)).collect()
}

fn window_ms() -> u32 {
    u32::try_from(WINDOW.as_millis()).unwrap_or(u32::MAX)
}
