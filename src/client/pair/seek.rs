//! What a pair asks of the router, and what it makes of the answers: introduction, relay, retries.
//!
//! The side that wants the connection asks; once a path died, both do. The relay is prepared as soon
//! as the first window passed without an answer, so that it is there when the last one has.

use std::net::SocketAddr;
use std::time::Duration;

use super::Event;
use super::attempt::Plan;
use super::leg::Leg;
use super::machine::Pair;
use super::step::{Origin, Reason, Step};
use crate::client::error::Refusal;
use crate::client::session::jitter;
use crate::ids::WgKey;
use crate::time::Moment;
use crate::wire::body::{Outcome, RendezvousStatus};
use crate::wire::body::{RelayAllocResp, RendezvousNotify, RendezvousResp};
use crate::wire::channel::Channel;
use crate::wire::code::Code;

/// Relayed, punching is tried again after this, and then after twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Without any path, after this.
const AGAIN: Duration = Duration::from_millis(500);
/// A peer that the router does not know may only just be coming: asked for so often.
const UNKNOWN_MAX: u32 = 3;
/// Consent of a peer is used for so long: its tokens hold for half an hour at most.
const CONSENT_FOR: Duration = Duration::from_secs(20 * 60);
/// Whoever did not ask first leaves it to the other side for so long.
const DEFER: Duration = Duration::from_secs(2);

/// Something to ask of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Where the peer is, and its key.
    Find,
    /// An introduction.
    Introduce,
    /// A channel, with this consent; to refresh it if it is one that we have.
    Allocate { consent: Vec<u8>, channel: u32 },
    /// The end of a channel.
    Close(u32),
    /// What became of the introduction.
    Result(Outcome, Duration),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seek {
    /// We are the side that wants it.
    pub(super) active: bool,
    finding: bool,
    find_at: Moment,
    introducing: bool,
    introduce_at: Moment,
    allocating: bool,
    /// When the relay is asked for if nothing has answered.
    prepare_at: Moment,
    /// Consent that the user brought, and that the peer gave.
    pub(super) consent_given: Vec<u8>,
    consent: Vec<u8>,
    consent_until: Moment,
    /// What the router lists the peer at.
    pub(super) listed: Vec<SocketAddr>,
    unknown: u32,
    retries: u32,
    reported: bool,
    last: Reason,
    /// When it is given up, if there is no connection.
    deadline: Moment,
}

impl Default for Seek {
    fn default() -> Self {
        Self {
            active: false,
            finding: false,
            find_at: Moment::NEVER,
            introducing: false,
            introduce_at: Moment::NEVER,
            allocating: false,
            prepare_at: Moment::NEVER,
            consent_given: Vec::new(),
            consent: Vec::new(),
            consent_until: Moment::START,
            listed: Vec::new(),
            unknown: 0,
            retries: 0,
            reported: false,
            last: Reason::Patience,
            deadline: Moment::NEVER,
        }
    }
}

impl Seek {
    /// A direct path: nothing is looked for any more.
    pub(super) const fn found(&mut self) {
        self.introduce_at = Moment::NEVER;
        self.prepare_at = Moment::NEVER;
        self.retries = 0;
    }

    /// Whether something is still hoped for.
    pub(super) fn is_looking(&self) -> bool {
        self.deadline != Moment::NEVER
    }

    pub(super) fn next_deadline(&self) -> Moment {
        let ask = if self.introducing { Moment::NEVER } else { self.introduce_at };
        let find = if self.finding { Moment::NEVER } else { self.find_at };
        ask.min(find).min(self.prepare_at).min(self.deadline)
    }
}

impl Pair {
    /// Looks for the peer.
    pub(super) fn start(&mut self, now: Moment) {
        self.touched = now;
        if self.seek.active && self.seek.deadline != Moment::NEVER {
            return;
        }
        self.seek.active = true;
        self.seek.unknown = 0;
        self.seek.deadline = now + self.me.options.patience;
        self.seek.find_at = if self.tunnel.is_none() { now } else { Moment::NEVER };
        let consent = !self.seek.consent_given.is_empty();
        if !self.me.options.punch && consent {
            self.allocate(now, Reason::PunchingOff);
        } else {
            self.seek.introduce_at = now;
        }
    }

    /// A path died. Whoever asked first asks again; the other one does if that takes too long, and if
    /// they ever were connected.
    pub(super) fn recover(&mut self, now: Moment) {
        self.seek.unknown = 0;
        if self.connected || !self.seek.is_looking() {
            self.seek.deadline = now + self.me.options.patience;
        }
        if self.seek.active || self.connected {
            let defer = if self.seek.active { Duration::ZERO } else { DEFER };
            self.seek.introduce_at = now + defer;
        }
        if self.seek.active && self.leg.is_none() && self.consent(now).is_some() {
            self.allocate(now, Reason::PathLost);
        }
    }

    pub(super) fn tick_seek(&mut self, now: Moment) {
        if now >= self.seek.find_at && !self.seek.finding {
            self.seek.finding = true;
            self.asks.push_back(Ask::Find);
        }
        if now >= self.seek.introduce_at && !self.seek.introducing {
            self.introduce(now);
        }
        if now >= self.seek.prepare_at {
            self.seek.prepare_at = Moment::NEVER;
            if self.direct.is_none() && self.consent(now).is_some() {
                self.allocate(now, Reason::FirstWindowPassed);
            }
        }
        if now >= self.seek.deadline {
            self.seek.deadline = Moment::NEVER;
            // A direct path is proven by its probes, a relayed one by nothing but the tunnel.
            let path = self.direct.is_some() || (self.leg.is_some() && self.established(now));
            if !self.connected || !path {
                self.give_up(now, self.seek.last);
            }
        }
    }

    fn introduce(&mut self, now: Moment) {
        self.seek.introduce_at = Moment::NEVER;
        self.seek.active = true;
        self.seek.introducing = true;
        self.seek.reported = false;
        self.log.push(now, Step::Asked(self.me.options.addresses.len()));
        self.asks.push_back(Ask::Introduce);
    }

    /// The peer's key is not known: the router is asked for it.
    pub(super) fn look_up(&mut self, now: Moment) {
        if self.tunnel.is_none() {
            self.seek.find_at = self.seek.find_at.min(now);
        }
    }

    /// The router's list was asked for the peer.
    pub(super) fn found(&mut self, now: Moment, found: Option<(WgKey, Vec<SocketAddr>)>) {
        self.seek.finding = false;
        self.seek.find_at = Moment::NEVER;
        match found {
            Some((key, addresses)) => {
                self.log.push(now, Step::Listed(addresses.len()));
                self.know(key);
                for address in addresses {
                    self.seek.listed.push(address);
                    self.try_listed(now, address);
                }
                if self.path().is_some() {
                    self.go(now);
                }
            }
            None if self.tunnel.is_none() => self.seek.find_at = now + AGAIN,
            None => {}
        }
    }

    fn try_listed(&mut self, now: Moment, address: SocketAddr) {
        let tried = self.candidates(Origin::Listed, std::iter::once(address));
        let Some(attempt) = self.attempts.last_mut().filter(|attempt| !attempt.is_over()) else {
            return;
        };
        if tried.iter().any(|(it, _)| *it == address) && attempt.add(address) {
            self.log.push(now, Step::Candidate(address, Origin::Listed));
        }
    }

    /// The peer asks to be connected, and may.
    pub(super) fn notified(&mut self, now: Moment, notify: &RendezvousNotify<'_>) {
        self.touched = now;
        self.know(notify.wg_public);
        if self.attempts.iter().any(|it| *it.secret() == notify.attempt_secret) {
            // The router repeats itself: the answer was lost.
            return;
        }
        if !self.seek.active {
            // The other side looks for us: two need not ask.
            self.seek.introduce_at = Moment::NEVER;
        }
        self.log.push(now, Step::Notified);
        self.log.push(now, Step::Accepted);
        self.seek.reported = false;
        if self.me.options.punch {
            let candidates = self.candidates(Origin::Observed, notify.candidates.sockets());
            let after = Duration::from_millis(notify.fire_after_ms.into());
            self.attempt(
                now,
                Plan {
                    secret: notify.attempt_secret,
                    candidates,
                    opens_at: now + after,
                    windows: notify.windows,
                    window: Duration::from_millis(notify.window_ms.into()),
                },
            );
        }
    }

    /// The router answered our wish to be introduced.
    pub(super) fn introduced(&mut self, now: Moment, response: &RendezvousResp<'_>) {
        self.seek.introducing = false;
        if !response.consent.is_empty() {
            self.seek.consent = response.consent.to_vec();
            self.seek.consent_until = now + CONSENT_FOR;
        }
        match (response.status, response.attempt_secret) {
            (RendezvousStatus::Ok, Some(secret)) => {
                self.log.push(now, Step::Introduced);
                self.seek.last = Reason::NoProbeAnswered;
                if !self.me.options.punch {
                    return self.allocate(now, Reason::PunchingOff);
                }
                if now < self.mute_until {
                    self.allocate(now, Reason::PathMute);
                    return self.retry(now);
                }
                let candidates = self.candidates(Origin::Observed, response.candidates.sockets());
                let after = Duration::from_millis(response.fire_after_ms.into());
                let window = Duration::from_millis(response.window_ms.into());
                let (opens_at, windows) = (now + after, response.windows);
                self.attempt(now, Plan { secret, candidates, opens_at, windows, window });
                let attempt = self.attempts.last().map(super::attempt::Attempt::first_window_ends);
                self.seek.prepare_at = attempt.unwrap_or(Moment::NEVER);
            }
            (RendezvousStatus::UnreachableNats, _) => {
                self.log.push(now, Step::NotIntroduced(Reason::UnreachableNats));
                self.seek.last = Reason::UnreachableNats;
                self.allocate(now, Reason::UnreachableNats);
                self.retry(now);
            }
            (RendezvousStatus::Refused, _) => self.declined(now),
            (RendezvousStatus::NoSuchPeer, _) => self.not_introduced(now, Reason::NoSuchPeer, None),
            (_, _) => self.not_introduced(now, Reason::PeerSilent, None),
        }
    }

    fn declined(&mut self, now: Moment) {
        self.log.push(now, Step::NotIntroduced(Reason::Declined));
        self.seek.last = Reason::Declined;
        if self.leg.is_some() {
            self.retry(now);
        } else if self.consent(now).is_some() {
            self.allocate(now, Reason::Declined);
        } else {
            self.give_up(now, Reason::Declined);
        }
    }

    /// The router refused, or said nothing.
    pub(super) fn unanswered(&mut self, now: Moment, refusal: Option<&Refusal>) {
        self.seek.introducing = false;
        let why = refusal.map_or(Reason::RouterSilent, |it| Reason::Refused(it.code));
        self.not_introduced(now, why, refusal.and_then(|it| it.retry_after));
    }

    fn not_introduced(&mut self, now: Moment, why: Reason, pause: Option<Duration>) {
        self.log.push(now, Step::NotIntroduced(why));
        self.seek.last = why;
        self.seek.unknown += u32::from(why == Reason::NoSuchPeer);
        let passing = |code| matches!(code, Code::Busy | Code::RateLimited | Code::Internal);
        let hopeless = if let Reason::Refused(code) = why {
            !passing(code)
        } else {
            why == Reason::NoSuchPeer && self.seek.unknown >= UNKNOWN_MAX
        };
        if self.path().is_some() {
            return self.retry(now);
        }
        if self.leg.is_none() && self.consent(now).is_some() {
            self.allocate(now, why);
        } else if hopeless {
            return self.give_up(now, why);
        }
        self.seek.introduce_at = now + pause.unwrap_or(AGAIN).max(AGAIN);
    }

    /// No probe was answered in the windows of an attempt.
    pub(super) fn no_answer(&mut self, now: Moment) {
        if self.direct.is_some() {
            return;
        }
        let relayed = self.leg.is_some() || self.seek.allocating;
        let outcome = if relayed { Outcome::Relayed } else { Outcome::Failed };
        self.report(outcome, Duration::ZERO);
        if !self.seek.active {
            return;
        }
        if !relayed {
            self.allocate(now, Reason::NoProbeAnswered);
        }
        self.retry(now);
    }

    /// Says once what became of an introduction.
    pub(super) fn report(&mut self, outcome: Outcome, rtt: Duration) {
        if !std::mem::replace(&mut self.seek.reported, true) {
            self.asks.push_back(Ask::Result(outcome, rtt));
        }
    }

    /// Punching is tried again later: soon without any path, less and less often with the relay.
    fn retry(&mut self, now: Moment) {
        if !self.me.options.punch || !self.seek.active || self.direct.is_some() {
            return;
        }
        let relayed = self.leg.is_some() || self.seek.allocating;
        let pause = if relayed {
            let pause = RETRY_FIRST.saturating_mul(1 << self.seek.retries.min(8)).min(RETRY_MAX);
            self.seek.retries += 1;
            pause + jitter(&mut self.rng, pause / 10)
        } else {
            AGAIN
        };
        let pause = pause.max(self.mute_until.since(now));
        self.seek.introduce_at = now + pause;
        self.log.push(now, Step::RetryIn(pause));
    }

    /// The newest consent that there is.
    fn consent(&self, now: Moment) -> Option<Vec<u8>> {
        let fresh = !self.seek.consent.is_empty() && now < self.seek.consent_until;
        let consent = if fresh { &self.seek.consent } else { &self.seek.consent_given };
        (!consent.is_empty()).then(|| consent.clone())
    }

    /// Whether there is a channel, or may be one.
    pub(super) fn may_be_relayed(&self, now: Moment) -> bool {
        self.leg.is_some() || (self.me.options.relay && self.consent(now).is_some())
    }

    fn allocate(&mut self, now: Moment, why: Reason) {
        if !self.me.options.relay {
            return self.log.push(now, Step::RelayRefused(Reason::RelayOff));
        }
        if self.leg.is_some() || self.seek.allocating {
            return;
        }
        let Some(consent) = self.consent(now) else {
            self.seek.last = Reason::NoConsent;
            return self.log.push(now, Step::RelayRefused(Reason::NoConsent));
        };
        self.seek.allocating = true;
        self.log.push(now, Step::RelayAsked(why));
        self.asks.push_back(Ask::Allocate { consent, channel: 0 });
    }

    /// Our channel would end.
    pub(super) fn refresh(&mut self, now: Moment) {
        let consent = self.consent(now).unwrap_or_default();
        let Some(leg) = &mut self.leg else { return };
        leg.refresh_at = Moment::NEVER;
        self.asks.push_back(Ask::Allocate { consent, channel: leg.channel.id });
    }

    /// The router gave us a channel, or tells of one that the peer asked for.
    pub(super) fn allocated(&mut self, now: Moment, leg: &RelayAllocResp<'_>, ours: bool) {
        if ours {
            self.seek.allocating = false;
        }
        let Ok(generation) = u16::try_from(leg.generation) else { return };
        let channel = Channel { generation, id: leg.channel };
        let lifetime = Duration::from_secs(leg.lifetime_s.into());
        self.touched = now;
        let known = self.leg.is_some_and(|known| known.channel == channel);
        if !known {
            let step = if ours { Step::RelayOpen(lifetime) } else { Step::RelayOffered };
            self.log.push(now, step);
        }
        let ours = ours || (known && self.leg.is_some_and(|leg| leg.ours));
        self.go_relayed(now, Leg::new(now, channel, ours, lifetime));
        if self.direct.is_none() && self.attempts.iter().all(super::attempt::Attempt::is_over) {
            self.report(Outcome::Relayed, Duration::ZERO);
        }
    }

    /// The router gave us none.
    pub(super) fn not_allocated(&mut self, now: Moment, refusal: Option<&Refusal>) {
        self.seek.allocating = false;
        let why = refusal.map_or(Reason::RouterSilent, |it| Reason::Refused(it.code));
        self.seek.last = why;
        self.log.push(now, Step::RelayRefused(why));
        // What was consented to may be over, and is asked for again with the introduction.
        self.seek.consent.clear();
        if self.leg.is_none() && self.direct.is_none() && self.seek.active {
            let pause = refusal.and_then(|it| it.retry_after).unwrap_or(AGAIN).max(AGAIN);
            self.seek.introduce_at = self.seek.introduce_at.min(now + pause);
        }
    }

    /// The router slows our channel down.
    pub(super) fn throttled(&mut self, now: Moment) {
        self.log.push(now, Step::RelayThrottled);
    }

    pub(super) fn give_up(&mut self, now: Moment, why: Reason) {
        self.log.push(now, Step::GaveUp(why));
        self.closed = true;
        self.seek.deadline = Moment::NEVER;
        self.drop_paths();
        self.events.push_back(Event::Failed(self.peer, why));
    }
}
