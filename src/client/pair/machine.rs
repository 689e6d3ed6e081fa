//! One pair: what it holds, what is due, and which path its messages take.
//!
//! What is asked of the router is in `seek`, what goes through the tunnel in `traffic`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use super::attempt::{self, Attempt, Heard, Outgoing, Plan};
use super::direct::{self, Cadence, Direct};
use super::leg::Leg;
use super::seek::{Ask, Seek};
use super::step::{Log, Origin, Path, Reason, Step};
use super::traffic::{Trust, Via};
use super::tunnel::Tunnel;
use super::{Event, Options};
use crate::client::blocking::fork;
use crate::identity::Identity;
use crate::ids::{PeerId, WgKey};
use crate::time::{Moment, Now};
use crate::wire::body::Outcome;

/// Attempts whose probes are still answered.
const ATTEMPTS_MAX: usize = 4;
/// Whoever does not have to initiate does so after this.
const INITIATE_LATE: Duration = Duration::from_secs(1);
/// Another address that was proven is taken for good for so long.
const SPARE_FOR: Duration = Duration::from_secs(60);

/// What all pairs of a node share.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) identity: Arc<Identity>,
    pub(super) options: Options,
    pub(super) router: SocketAddr,
}

/// A direct path that was proven and is not in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    address: SocketAddr,
    attempt: [u8; 8],
    rtt: Duration,
    at: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Pair {
    pub(super) me: Arc<Me>,
    pub(super) peer: PeerId,
    pub(super) rng: ChaCha12Rng,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) trust: Trust,
    pub(super) attempts: Vec<Attempt>,
    pub(super) cadence: Cadence,
    pub(super) direct: Option<Direct>,
    pub(super) spare: Option<Spare>,
    /// Until when none is used, since WireGuard does not pass there.
    pub(super) mute_until: Moment,
    /// Since when the peer sends over the relay, and not over the direct path that there is.
    pub(super) relayed_since: Option<Moment>,
    pub(super) leg: Option<Leg>,
    /// Where messages go, as it was told last.
    pub(super) path: Option<Path>,
    pub(super) connected: bool,
    pub(super) seek: Seek,
    pub(super) initiate_at: Moment,
    /// Since when we have initiated without an answer.
    pub(super) initiating_since: Option<Moment>,
    pub(super) waiting: VecDeque<Vec<u8>>,
    /// Since when nobody has wanted anything of it.
    pub(super) touched: Moment,
    /// It ended; nothing can be done with it any more.
    pub(super) closed: bool,
    pub(super) log: Log,
    pub(super) asks: VecDeque<Ask>,
    pub(super) out: VecDeque<Outgoing>,
    pub(super) events: VecDeque<Event>,
}

impl Pair {
    pub(super) fn new(now: Moment, me: Arc<Me>, peer: PeerId, rng: ChaCha12Rng) -> Self {
        let cadence = Cadence::new(me.options.mapping_lifetime);
        Self {
            me,
            peer,
            rng,
            tunnel: None,
            trust: Trust::default(),
            attempts: Vec::new(),
            cadence,
            direct: None,
            spare: None,
            mute_until: Moment::START,
            relayed_since: None,
            leg: None,
            path: None,
            connected: false,
            seek: Seek::default(),
            initiate_at: Moment::NEVER,
            initiating_since: None,
            waiting: VecDeque::new(),
            touched: now,
            closed: false,
            log: Log::default(),
            asks: VecDeque::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The other side.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where messages go, if there is a path.
    pub const fn path(&self) -> Option<Path> {
        self.path
    }

    /// Whether the peer is connected and proved who it is.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Round trip of the direct path, as its probes measured it.
    pub fn rtt(&self) -> Option<Duration> {
        self.direct.as_ref().map(|direct| direct.rtt)
    }

    /// What was done and why.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The key that the tunnel is to, once it is known; another one means another tunnel.
    pub(super) fn know(&mut self, key: WgKey) {
        if self.tunnel.as_ref().is_some_and(|tunnel| tunnel.theirs() == key) {
            return;
        }
        let secret = self.me.identity.wg_secret().clone();
        self.tunnel = Some(Tunnel::new(secret, key, fork(&mut self.rng)));
        self.trust = Trust::default();
    }

    pub(super) fn established(&self, now: Moment) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_established(now))
    }

    /// Starts to punch as the router said.
    pub(super) fn attempt(&mut self, now: Moment, plan: Plan) {
        for &(address, origin) in &plan.candidates {
            self.log.push(now, Step::Candidate(address, origin));
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            let used = self.direct.as_ref().map(|direct| direct.attempt);
            let idle = self.attempts.iter().position(|it| Some(it.id()) != used).unwrap_or(0);
            self.attempts.remove(idle);
        }
        let rng = fork(&mut self.rng);
        self.attempts.push(Attempt::new(now, plan, rng));
    }

    /// Whether a probe is of an attempt of this pair.
    pub(super) fn attempts_have(&self, id: [u8; 8]) -> bool {
        self.attempts.iter().any(|attempt| attempt.id() == id)
    }

    /// Takes a probe.
    pub(super) fn probe(&mut self, now: Moment, id: [u8; 8], from: SocketAddr, datagram: &[u8]) {
        if !self.me.options.punch {
            return;
        }
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id() == id) else {
            return;
        };
        match attempt.receive(now, from, datagram) {
            Heard::Probe(out, new) => {
                self.out.extend(out);
                if new {
                    self.log.push(now, Step::ProbeHeard(from));
                    self.log.push(now, Step::Candidate(from, Origin::Heard));
                }
            }
            Heard::Elsewhere(probe) => self.out.push_back(probe),
            Heard::Answer(rtt) => self.answered(now, id, from, rtt),
            Heard::Nothing => {}
        }
    }

    /// An address that tunnel messages come from, although no probe has proven it.
    pub(super) fn look_at(&mut self, now: Moment, from: SocketAddr) {
        if let (true, Some(attempt)) = (self.me.options.punch, self.attempts.last_mut()) {
            self.out.extend(attempt.look_at(now, from));
        }
    }

    fn answered(&mut self, now: Moment, attempt: [u8; 8], address: SocketAddr, rtt: Duration) {
        if now < self.mute_until {
            return;
        }
        match &mut self.direct {
            Some(direct) if direct.address == address => {
                direct.attempt = attempt;
                direct.answered(now, rtt, &mut self.cadence);
            }
            Some(direct) if !direct.is_suspect() && !direct.was_left_for(address) => {
                self.spare = Some(Spare { address, attempt, rtt, at: now });
            }
            Some(_) | None => self.go_direct(now, attempt, address, rtt),
        }
    }

    fn go_direct(&mut self, now: Moment, attempt: [u8; 8], address: SocketAddr, rtt: Duration) {
        self.log.push(now, Step::Answered(address, rtt));
        self.direct = Some(Direct::new(now, address, attempt, rtt));
        self.report(Outcome::Punched, rtt);
        self.seek.found();
        self.relayed_since = None;
        self.repath(now);
        self.try_direct(now);
        if !self.established(now) {
            let first = self.me.identity.peer_id() < self.peer;
            self.initiate_at = if first { now } else { now + INITIATE_LATE };
        }
    }

    /// A channel opened: a path, if there is none.
    pub(super) fn go_relayed(&mut self, now: Moment, leg: Leg) {
        self.leg = Some(leg);
        self.repath(now);
        if !self.established(now) {
            self.initiate_at = if leg.ours { now } else { now + INITIATE_LATE };
        }
    }

    /// The channel is no more.
    pub(super) fn lose_leg(&mut self, now: Moment, why: Reason) {
        if self.leg.take().is_some() {
            self.log.push(now, Step::RelayClosed(why));
            self.repath(now);
            if self.direct.is_none() {
                self.recover(now);
            }
        }
    }

    /// Gives every path back: the pair ended.
    pub(super) fn drop_paths(&mut self) {
        self.direct = None;
        self.path = None;
        self.attempts.clear();
        if let Some(leg) = self.leg.take().filter(|leg| leg.ours) {
            self.asks.push_back(Ask::Close(leg.channel.id));
        }
    }

    /// Looks which path is the best, and says so if it is another one than before.
    pub(super) fn repath(&mut self, now: Moment) {
        let tried = |it: &&Direct| it.used_by_peer || self.leg.is_none() || !self.connected;
        let direct = self.direct.as_ref().filter(tried).map(|it| Path::Direct(it.address));
        let path = direct.or(self.leg.map(|_| Path::Relay));
        if path == self.path {
            return;
        }
        self.path = path;
        self.initiating_since = None;
        let Some(path) = path else { return };
        self.log.push(now, Step::Switched(path));
        self.tunnel.iter_mut().for_each(Tunnel::rerouted);
        if self.established(now) {
            self.trust.greeting_since = now;
        }
        if let (Path::Relay, Some(leg)) = (path, &mut self.leg) {
            leg.needed();
        }
        if self.connected {
            self.events.push_back(Event::Moved(self.peer, path));
        }
        // Shows the path to the other side, whether or not there is something to say.
        self.say(now, &[]);
        if self.trust.proven {
            self.connect(now);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) {
        self.tick_attempts(now.at);
        self.tick_direct(now.at);
        self.tick_leg(now.at);
        self.tick_seek(now.at);
        self.tick_tunnel(now.at);
        self.tick_hello(now);
    }

    fn tick_attempts(&mut self, now: Moment) {
        let used = self.direct.as_ref().map(|direct| direct.attempt);
        self.attempts.retain(|attempt| Some(attempt.id()) == used || attempt.keep_until() > now);
        let mut unanswered = false;
        let newest = self.attempts.len();
        for (attempt, number) in self.attempts.iter_mut().zip(1..) {
            while let Some(due) = attempt.poll(now) {
                match due {
                    attempt::Due::Window(number) => self.log.push(now, Step::WindowOpen(number)),
                    attempt::Due::Send(probes) => self.out.extend(probes),
                    // Of one before the newest nothing is expected any more.
                    attempt::Due::Unanswered => unanswered |= number == newest,
                }
            }
        }
        if unanswered {
            self.log.push(now, Step::Unanswered);
            self.no_answer(now);
        }
    }

    fn tick_direct(&mut self, now: Moment) {
        let unanswered = self.unanswered_since().filter(|_| self.path != Some(Path::Relay));
        let Some(direct) = &mut self.direct else { return };
        match direct.poll(now, unanswered) {
            Some(direct::Due::Probe) => {
                let address = direct.address;
                let attempt = direct.attempt;
                let attempt = self.attempts.iter_mut().find(|it| it.id() == attempt);
                let probe = attempt.and_then(|attempt| attempt.probe(now, address));
                self.out.extend(probe.map(|probe| (address, probe)));
                self.try_direct(now);
            }
            Some(direct::Due::Dead) => self.lose_direct(now),
            None if self.path == Some(Path::Relay) => {}
            None if now >= self.deaf_at(now) => self.shun_direct(now),
            None if now >= self.ask_at() => self.ask(now),
            None => {}
        }
    }

    fn lose_direct(&mut self, now: Moment) {
        let Some(dead) = self.direct.take() else { return };
        self.log.push(now, Step::PathDied(dead.address));
        self.cadence.lost();
        let spare = self.spare.take().filter(|spare| now.since(spare.at) < SPARE_FOR);
        if let Some(spare) = spare.filter(|spare| spare.address != dead.address) {
            return self.go_direct(now, spare.attempt, spare.address, spare.rtt);
        }
        self.repath(now);
        self.recover(now);
    }

    fn tick_leg(&mut self, now: Moment) {
        let spare = self.direct.as_ref().is_some_and(|direct| direct.used_by_peer);
        let Some(leg) = &mut self.leg else { return };
        if spare {
            leg.spare(now);
        }
        let leg = *leg;
        if now >= leg.close_at {
            self.leg = None;
            self.asks.push_back(Ask::Close(leg.channel.id));
            return self.log.push(now, Step::RelayClosed(Reason::ChannelClosed(1)));
        }
        if now >= leg.ends_at {
            return self.lose_leg(now, Reason::ChannelClosed(3));
        }
        if now >= leg.refresh_at {
            self.refresh(now);
        }
        if self.path == Some(Path::Relay) && now >= self.deaf_at(now) {
            self.initiating_since = None;
            self.lose_leg(now, Reason::PathLost);
        }
    }

    fn tick_tunnel(&mut self, now: Moment) {
        let Some(path) = self.path else { return };
        let Some(tunnel) = &mut self.tunnel else { return };
        if now >= self.initiate_at {
            self.initiate_at = Moment::NEVER;
            if !tunnel.is_established(now) {
                tunnel.connect(now);
                self.log.push(now, Step::Initiated(path));
            }
        }
        if tunnel.is_established(now) {
            self.initiating_since = None;
        } else if tunnel.is_connecting() {
            self.initiating_since.get_or_insert(now);
        }
        while let Some(message) = tunnel.poll(now) {
            match (path, &self.leg) {
                (Path::Direct(address), _) => self.out.push_back((address, message)),
                (Path::Relay, Some(leg)) => {
                    self.out.push_back((self.me.router, leg.wrap(&message)));
                }
                (Path::Relay, None) => {}
            }
        }
        if path == Path::Relay && now >= self.keepalive_at() {
            self.say(now, &[]);
        }
    }

    /// The relay forgets an idle channel, and the router an idle session; a direct path has its probes.
    fn keepalive_at(&self) -> Moment {
        match (&self.tunnel, self.path) {
            (Some(tunnel), Some(Path::Relay)) if self.connected => {
                tunnel.sent_at() + self.cadence.pause()
            }
            _ => Moment::NEVER,
        }
    }

    /// When [`Pair::tick`] is to be called next.
    pub(super) fn next_deadline(&self, now: Moment) -> Moment {
        if self.closed {
            return Moment::NEVER;
        }
        let mut next = self
            .seek
            .next_deadline()
            .min(self.trust.hello_at)
            .min(self.deaf_at(now))
            .min(self.ask_at());
        if let (Some(tunnel), Some(_)) = (&self.tunnel, self.path) {
            next = next.min(tunnel.next_deadline()).min(self.initiate_at);
            if self.established(now) {
                next = next.min(self.keepalive_at());
            }
        }
        for attempt in &self.attempts {
            next = next.min(attempt.next_deadline());
        }
        if let Some(direct) = &self.direct {
            let unanswered = self.unanswered_since().filter(|_| self.path != Some(Path::Relay));
            next = next.min(direct.next_deadline(unanswered));
        }
        self.leg.as_ref().map_or(next, |leg| next.min(leg.next_deadline()))
    }

    /// The addresses that may be tried, without those that nobody is reached at.
    pub(super) fn candidates(
        &self,
        first: Origin,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Vec<(SocketAddr, Origin)> {
        let mut candidates: Vec<(SocketAddr, Origin)> = Vec::new();
        let mut add = |address: SocketAddr, origin| {
            let known = candidates.iter().any(|(known, _)| *known == address);
            if !known && address != self.me.router && may_be_probed(&address) {
                candidates.push((address, origin));
            }
        };
        for (place, address) in addresses.enumerate() {
            add(address, if place == 0 { first } else { Origin::Declared });
        }
        self.seek.listed.iter().for_each(|address| add(*address, Origin::Listed));
        candidates
    }

    /// Answers by the way that a message came.
    pub(super) fn reply(&mut self, via: Via, message: Vec<u8>) {
        match via {
            Via::Direct(address) => self.out.push_back((address, message)),
            Via::Relay(channel) => {
                let leg = Leg::new(Moment::START, channel, false, Duration::ZERO);
                self.out.push_back((self.me.router, leg.wrap(&message)));
            }
        }
    }
}

/// Probes are small and few, but they go nowhere by a stranger's word alone that no peer can be.
fn may_be_probed(address: &SocketAddr) -> bool {
    address.port() >= 1024 && crate::net::target::forbidden(address, &[], true).is_none()
}
