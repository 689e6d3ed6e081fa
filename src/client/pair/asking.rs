//! What a node says to its router for its pairs, what the router answers, and what it asks by itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::endpoint::{Endpoint, PAIRS_MAX};
use super::machine::Pair;
use super::seek::Ask;
use super::step::{Reason, Step};
use super::{Event, Policy, Trouble};
use crate::client::calls::{self, sole};
use crate::client::requests::{Answer, Correlation};
use crate::client::session::Initiator;
use crate::identity;
use crate::ids::{PeerId, WgKey};
use crate::limits::{CANDIDATES_MAX, CONSENT_BYTES_MAX};
use crate::signing::consent;
use crate::time::{Moment, Now};
use crate::wire::body::{
    Addrs, FindNodeReq, FindNodeResp, NegotiateResp, RelayAllocReq, RelayAllocResp, RelayClose,
    RelayStatus, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult,
    Writer, consent_scope, feature,
};
use crate::wire::kind::Kind;
use crate::wire::multiaddr::{self, Multiaddr};

/// How long a consent of ours holds: the page allows half an hour.
const CONSENT_LIFE: Duration = Duration::from_secs(25 * 60);

/// What was asked of the router, and what it said of us.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub(super) ready: bool,
    pub(super) observed: Option<SocketAddr>,
    greeted: bool,
    asked: Vec<(Correlation, Asked)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Greeting,
    Find(PeerId),
    Introduce(PeerId),
    Allocate(PeerId),
    Close,
}

impl<I: Initiator> Endpoint<I> {
    /// Says who we are, once; the session repeats it by itself after every later handshake.
    pub(super) fn greet(&mut self, now: Now) {
        if std::mem::replace(&mut self.asking.greeted, true) {
            return;
        }
        let binding = calls::binding(&self.me.identity, now.unix_s());
        let mut greeting = calls::greeting(Some(binding));
        if let Some(want) = &mut greeting.want {
            want.bitmap |= feature::RENDEZVOUS | feature::RELAY;
        }
        if let Ok(asked) = self.peer.request(Kind::NegotiateReq, |out| greeting.write(out)) {
            self.asking.asked.push((asked, Asked::Greeting));
        }
    }

    fn greeted(&mut self, now: Now, answer: &Answer) {
        let trouble = match (answer.refusal(), NegotiateResp::read(sole(answer))) {
            (Some(Ok(refusal)), _) => Trouble::Refused(refusal.code),
            (None, Ok(response)) => match self.check_router(now, &response) {
                None => {
                    self.asking.ready = true;
                    self.asking.observed = multiaddr::decode(response.observed).ok();
                    return self.events.push_back(Event::Ready);
                }
                Some(trouble) => trouble,
            },
            (Some(Err(_)) | None, _) => Trouble::Malformed,
        };
        self.asking.greeted = false;
        self.events.push_back(Event::Unready(trouble));
    }

    fn check_router(&self, now: Now, response: &NegotiateResp<'_>) -> Option<Trouble> {
        let Some(binding) = &response.binding else { return Some(Trouble::NoBinding) };
        let expected = self.link.peer;
        match identity::verify(binding, &self.link.key, now.unix_s()) {
            Ok(found) if found == expected => None,
            Ok(found) => Some(Trouble::WrongPeer { expected, found }),
            Err(why) => Some(Trouble::Unproven(why)),
        }
    }

    /// Asks what the pairs want to know.
    pub(super) fn ask(&mut self, now: Now) {
        if !self.asking.ready {
            return;
        }
        for at in 0..self.pairs.len() {
            while let Some(ask) = self.pairs[at].asks.pop_front() {
                self.ask_for(now, at, &ask);
            }
        }
    }

    fn ask_for(&mut self, now: Now, at: usize, ask: &Ask) {
        let peer = self.pairs[at].peer;
        let (asked, started) = match ask {
            Ask::Find => {
                let request = FindNodeReq { target_id: peer, limit: 1 };
                let started = self.peer.request(Kind::FindNodeReq, |out| request.write(out));
                (Asked::Find(peer), started)
            }
            Ask::Introduce => {
                let addresses = self.addresses();
                let request = RendezvousReq {
                    target: peer,
                    candidates: Addrs::of(&addresses),
                    nat_mapping: self.me.options.nat_mapping,
                    nat_filtering: self.me.options.nat_filtering,
                    consent: &self.pairs[at].seek.consent_given,
                };
                let kind = Kind::RendezvousReq;
                (Asked::Introduce(peer), self.peer.request_eager(kind, |out| request.write(out)))
            }
            Ask::Allocate { consent, channel } => {
                let request = RelayAllocReq {
                    peer,
                    consent,
                    want_bps: 0,
                    channel: *channel,
                    stock_wireguard: false,
                };
                let kind = Kind::RelayAllocReq;
                (Asked::Allocate(peer), self.peer.request_eager(kind, |out| request.write(out)))
            }
            Ask::Close(channel) => return self.close(*channel),
            Ask::Result(outcome, rtt) => {
                let rtt_ms = u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX);
                let result = RendezvousResult { other: peer, outcome: *outcome, rtt_ms };
                let kind = Kind::RendezvousResult;
                return self.peer.tell(now.at, kind, |out| result.write(out));
            }
        };
        // What does not fit is as what is not answered: nothing that we write here is too long.
        if let Ok(correlation) = started {
            self.asking.asked.push((correlation, asked));
        }
    }

    /// Gives a channel back.
    pub(super) fn close(&mut self, channel: u32) {
        let request = RelayClose { channel, reason: 1 };
        if let Ok(asked) = self.peer.request(Kind::RelayClose, |out| request.write(out)) {
            self.asking.asked.push((asked, Asked::Close));
        }
    }

    /// Our own addresses as others may try them.
    fn addresses(&self) -> Vec<Multiaddr> {
        let own = self.me.options.addresses.iter();
        let own = own.filter(|own| Some(**own) != self.asking.observed);
        own.take(CANDIDATES_MAX).map(|own| multiaddr::encode(*own)).collect()
    }

    fn take(&mut self, correlation: Correlation) -> Option<Asked> {
        let at = self.asking.asked.iter().position(|(it, _)| *it == correlation)?;
        Some(self.asking.asked.swap_remove(at).1)
    }

    fn of(&mut self, peer: PeerId) -> Option<&mut Pair> {
        self.pairs.iter_mut().find(|pair| pair.peer == peer && !pair.closed)
    }

    pub(super) fn answered(&mut self, now: Now, answer: &Answer) {
        let refusal = answer.refusal().and_then(Result::ok);
        let refused = answer.kind == Kind::Error;
        match self.take(answer.correlation) {
            Some(Asked::Greeting) => self.greeted(now, answer),
            Some(Asked::Find(peer)) => {
                let found = listed(&peer, &answer.bodies).filter(|_| !refused);
                self.of(peer).into_iter().for_each(|pair| pair.found(now.at, found.clone()));
            }
            Some(Asked::Introduce(peer)) => {
                let Some(pair) = self.of(peer) else { return };
                match RendezvousResp::read(sole(answer)).ok().filter(|_| !refused) {
                    Some(response) => pair.introduced(now.at, &response),
                    None => pair.unanswered(now.at, refusal.as_ref()),
                }
            }
            Some(Asked::Allocate(peer)) => {
                let Some(pair) = self.of(peer) else { return };
                match RelayAllocResp::read(sole(answer)).ok().filter(|_| !refused) {
                    Some(leg) => pair.allocated(now.at, &leg, true),
                    None => pair.not_allocated(now.at, refusal.as_ref()),
                }
            }
            Some(Asked::Close) | None => {}
        }
    }

    pub(super) fn timed_out(&mut self, now: Now, correlation: Correlation) {
        match self.take(correlation) {
            Some(Asked::Greeting) => {
                self.asking.greeted = false;
                self.events.push_back(Event::Unready(Trouble::Silent));
                self.greet(now);
            }
            Some(Asked::Find(peer)) => {
                self.of(peer).into_iter().for_each(|pair| pair.found(now.at, None));
            }
            Some(Asked::Introduce(peer)) => {
                self.of(peer).into_iter().for_each(|pair| pair.unanswered(now.at, None));
            }
            Some(Asked::Allocate(peer)) => {
                self.of(peer).into_iter().for_each(|pair| pair.not_allocated(now.at, None));
            }
            Some(Asked::Close) | None => {}
        }
    }

    /// The router asks or tells something.
    pub(super) fn asked(&mut self, now: Now, kind: Kind, correlation: Correlation, body: &[u8]) {
        if kind == Kind::RendezvousNotify {
            if let Ok(notify) = RendezvousNotify::read(body) {
                self.notified(now, correlation, &notify);
            }
        } else if kind == Kind::RelayOffer {
            if let Ok(offer) = RelayAllocResp::read(body) {
                self.offered(now.at, &offer);
            }
        } else if kind == Kind::RelayClose {
            if let Ok(close) = RelayClose::read(body)
                && let Some(pair) = self.with_channel(close.channel)
            {
                pair.lose_leg(now.at, Reason::ChannelClosed(close.reason));
            }
        } else if kind == Kind::RelayStatus
            && let Ok(status) = RelayStatus::read(body)
            && let Some(pair) = self.with_channel(status.channel)
            && status.throttled
        {
            pair.throttled(now.at);
        }
    }

    fn with_channel(&mut self, channel: u32) -> Option<&mut Pair> {
        let has = |pair: &&mut Pair| pair.leg.is_some_and(|leg| leg.channel.id == channel);
        self.pairs.iter_mut().find(has)
    }

    fn notified(&mut self, now: Now, to: Correlation, notify: &RendezvousNotify<'_>) {
        let peer = notify.requester;
        let room = self.pairs.len() < PAIRS_MAX || self.of(peer).is_some();
        let accept = room && self.accepts(now, &peer, notify.consent);
        if accept {
            self.pair_with(now.at, peer).notified(now.at, notify);
        } else if let Some(pair) = self.of(peer) {
            pair.log.push(now.at, Step::Declined);
        }
        let token =
            if accept && self.me.options.relay { self.consent(now, &peer) } else { Vec::new() };
        let addresses = self.addresses();
        let ack = RendezvousAck {
            accept,
            candidates: if accept { Addrs::of(&addresses) } else { Addrs::NONE },
            nat_mapping: self.me.options.nat_mapping,
            nat_filtering: self.me.options.nat_filtering,
            consent: &token,
        };
        self.peer.respond(now.at, Kind::RendezvousAck, to, |out| ack.write(out));
    }

    fn accepts(&self, now: Now, peer: &PeerId, token: &[u8]) -> bool {
        match &self.me.options.policy {
            Policy::Everybody => true,
            Policy::Only(peers) => peers.contains(peer),
            Policy::WithConsent => {
                let (us, mut scratch) = (self.me.identity.peer_id(), Vec::new());
                consent::check(token, &us, peer, consent_scope::PUNCH, now.unix_s(), &mut scratch)
                    .is_ok()
            }
            Policy::Nobody => false,
        }
    }

    /// Our consent to be relayed to, for a peer that we accepted.
    fn consent(&self, now: Now, peer: &PeerId) -> Vec<u8> {
        let expires = now.unix_s() + CONSENT_LIFE.as_secs();
        let token = consent::sign(
            self.me.identity.signing_key(),
            Some(*peer),
            consent_scope::RELAY,
            expires,
        );
        let mut bytes = vec![0; CONSENT_BYTES_MAX];
        let mut out = Writer::new(&mut bytes);
        let len = token.write(&mut out).map_or(0, |()| out.len());
        bytes.truncate(len);
        bytes
    }

    fn offered(&mut self, now: Moment, offer: &RelayAllocResp<'_>) {
        if !self.me.options.relay {
            return;
        }
        let peer = offer.peer;
        // The router asked for our consent before, so it is somebody whom we accepted, or gave a token.
        let may = match &self.me.options.policy {
            Policy::Everybody | Policy::WithConsent => self.pairs.len() < PAIRS_MAX,
            Policy::Only(peers) => peers.contains(&peer),
            Policy::Nobody => false,
        };
        if self.of(peer).is_none() && !may {
            return;
        }
        let pair = self.pair_with(now, peer);
        pair.allocated(now, offer, false);
        pair.look_up(now);
    }
}

/// The key and addresses of a peer in the router's list.
fn listed(peer: &PeerId, bodies: &[Vec<u8>]) -> Option<(WgKey, Vec<SocketAddr>)> {
    bodies.iter().find_map(|body| {
        let response = FindNodeResp::read(body).ok()?;
        let found = response.peers.iter().find(|found| found.peer_id == *peer)?;
        Some((found.wg_public, found.addrs.sockets().collect()))
    })
}
