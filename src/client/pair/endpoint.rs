//! One node: its session with a router, and the pairs that the router introduced.
//!
//! What comes in is told apart by its first byte and by where it comes from: probes by their attempt,
//! the router's channel data and everything of WireGuard by the keys that it is for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn};
use boringtun::x25519::PublicKey;
use rand_chacha::ChaCha12Rng;

use super::asking::Asking;
use super::machine::{Me, Pair};
use super::step::{Reason, Step};
use super::traffic::Via;
use super::{Event, Options, Refused, Trouble};
use crate::client::blocking::fork;
use crate::client::link::Link;
use crate::client::peer::{self, Peer};
use crate::client::session::Initiator;
use crate::identity::Identity;
use crate::ids::{PeerId, WgKey};
use crate::time::{Moment, Now};
use crate::wire::channel::{self, Channel};
use crate::wire::probe;

/// Pairs of a node: a stranger more is declined.
pub(super) const PAIRS_MAX: usize = 256;
/// A pair without any path that nobody wants anything of is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// The router is called again after this.
const RECALL: Duration = Duration::from_secs(1);
/// Relayed data is taken from the address of the session alone, and a NAT may change that at any
/// time without a word: while data is relayed, the router is shown this often where we are.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// First bytes.
const CHANNEL: u8 = 5;
const PROBE: u8 = 6;

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Endpoint<I> {
    pub(super) me: Arc<Me>,
    pub(super) link: Link,
    rng: ChaCha12Rng,
    pub(super) peer: Peer<I>,
    pub(super) pairs: Vec<Pair>,
    pub(super) asking: Asking,
    recall_at: Moment,
    /// When the router was last shown where we are.
    shown_at: Moment,
    out: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
}

impl<I: Initiator> Endpoint<I> {
    /// A node that calls the router at once. `router` is where the link's host is; the session
    /// below `peer` speaks through the identity's WireGuard key.
    pub fn new(
        now: Moment,
        link: Link,
        router: SocketAddr,
        peer: Peer<I>,
        (identity, options): (Arc<Identity>, Options),
        rng: ChaCha12Rng,
    ) -> Self {
        let mut peer = peer.for_pairs();
        peer.connect(now);
        Self {
            me: Arc::new(Me { identity, options, router }),
            link,
            rng,
            peer,
            pairs: Vec::new(),
            asking: Asking::default(),
            recall_at: Moment::NEVER,
            shown_at: Moment::START,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Our own id.
    pub fn peer_id(&self) -> PeerId {
        self.me.identity.peer_id()
    }

    /// Our address as the router sees it.
    pub const fn observed(&self) -> Option<SocketAddr> {
        self.asking.observed
    }

    /// Whether the router knows who we are.
    pub const fn is_ready(&self) -> bool {
        self.asking.ready
    }

    /// Initiations that the router has not answered.
    pub fn initiations(&self) -> u32 {
        self.peer.session().initiations()
    }

    /// The pair with a peer.
    pub fn pair(&self, peer: &PeerId) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.peer == *peer)
    }

    /// Every pair.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    /// Looks for a peer and connects to it; with a consent token of that peer, if there is one.
    pub fn connect(&mut self, now: Moment, peer: PeerId, consent: &[u8]) {
        let observed = self.asking.observed;
        let pair = self.pair_with(now, peer);
        if let Some(observed) = observed {
            pair.log.push(now, Step::SeenAt(observed));
        }
        pair.seek.consent_given = consent.to_vec();
        pair.start(now);
    }

    /// Forgets a peer.
    pub fn disconnect(&mut self, peer: &PeerId) {
        let Some(at) = self.pairs.iter().position(|pair| pair.peer == *peer) else { return };
        let pair = self.pairs.swap_remove(at);
        if let Some(leg) = pair.leg.filter(|leg| leg.ours) {
            self.close(leg.channel.id);
        }
    }

    /// Sends a datagram to a peer, or keeps it until the peer is connected.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn send(&mut self, now: Moment, peer: &PeerId, payload: &[u8]) -> Result<(), Refused> {
        let pair = self.pairs.iter_mut().find(|pair| pair.peer == *peer);
        pair.ok_or(Refused::Unknown)?.send(now, payload)
    }

    /// Takes a datagram.
    pub fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        match datagram.first() {
            Some(&PROBE) => self.probe(now.at, from, datagram),
            Some(&CHANNEL) if from == self.me.router => self.relayed(now, datagram),
            _ if from == self.me.router => self.peer.receive(now, datagram),
            Some(1..=4) => self.message(now, Via::Direct(from), datagram),
            _ => {}
        }
    }

    fn probe(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) {
        let Some(id) = probe::attempt_of(datagram) else { return };
        let pair = self.pairs.iter_mut().find(|pair| pair.attempts_have(id));
        if let Some(pair) = pair {
            pair.probe(now, id, from, datagram);
        }
    }

    fn relayed(&mut self, now: Now, datagram: &[u8]) {
        let Ok(channel) = Channel::read(datagram) else { return };
        let message = &datagram[channel::HEADER_BYTES..];
        if channel::inner(message).is_ok() {
            self.message(now, Via::Relay(channel), message);
        }
    }

    fn message(&mut self, now: Now, via: Via, message: &[u8]) {
        let pair = match message.first() {
            Some(1) => {
                let key = self.initiator(message);
                self.pairs.iter_mut().find(|pair| pair.key() == key && key.is_some())
            }
            _ => self.pairs.iter_mut().find(|pair| pair.owns(message)),
        };
        if let Some(pair) = pair {
            pair.message(now, via, message);
        }
    }

    /// Whose initiation it is, as it says.
    fn initiator(&self, message: &[u8]) -> Option<WgKey> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(message) else {
            return None;
        };
        let public = PublicKey::from(self.me.identity.wg_key().0);
        let half = parse_handshake_anon(self.me.identity.wg_secret(), &public, &initiation);
        half.ok().map(|half| WgKey(half.peer_static_public))
    }

    /// The next datagram to send, until `None`.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit> {
        self.run(now);
        if let Some(transmit) = self.out.pop_front() {
            let relayed = transmit.datagram.first() == Some(&CHANNEL);
            if relayed && now.at.since(self.shown_at) >= SHOW_EVERY {
                self.shown_at = now.at;
                self.peer.show_address(now.at);
            }
            return Some(transmit);
        }
        let datagram = self.peer.poll_transmit(now.at)?;
        Some(Transmit { to: self.me.router, datagram })
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Endpoint::poll_transmit`] is to be called next, if no datagram comes before.
    pub fn next_deadline(&self, now: Moment) -> Moment {
        let router = self.peer.next_deadline(now).min(self.recall_at);
        self.pairs.iter().fold(router, |next, pair| next.min(pair.next_deadline(now)))
    }

    fn run(&mut self, now: Now) {
        if now.at >= self.recall_at {
            self.recall_at = Moment::NEVER;
            self.peer.connect(now.at);
        }
        self.hear(now);
        for pair in &mut self.pairs {
            if !pair.closed && pair.next_deadline(now.at) <= now.at {
                pair.tick(now);
            }
            let out = pair.out.drain(..);
            self.out.extend(out.map(|(to, datagram)| Transmit { to, datagram }));
            self.events.append(&mut pair.events);
        }
        self.ask(now);
        self.forget(now.at);
    }

    /// What the router said.
    fn hear(&mut self, now: Now) {
        while let Some(event) = self.peer.poll_event() {
            match event {
                peer::Event::Established => self.greet(now),
                peer::Event::Unanswered(_) => {
                    self.events.push_back(Event::Unready(Trouble::Silent));
                    self.recall_at = now.at + RECALL;
                }
                peer::Event::Price(bits) => {
                    self.events.push_back(Event::Unready(Trouble::Price(bits)));
                }
                peer::Event::Answer(answer) => self.answered(now, &answer),
                peer::Event::TimedOut(correlation) => self.timed_out(now, correlation),
                peer::Event::Asked { kind, correlation, body } => {
                    self.asked(now, kind, correlation, &body);
                }
                peer::Event::Pinged | peer::Event::Goaway { .. } | peer::Event::Dropped(_) => {}
            }
        }
    }

    /// The pair with a peer, a new one if there is none.
    pub(super) fn pair_with(&mut self, now: Moment, peer: PeerId) -> &mut Pair {
        let at = self.pairs.iter().position(|pair| pair.peer == peer && !pair.closed);
        let at = at.unwrap_or_else(|| {
            self.pairs.retain(|pair| pair.peer != peer);
            let rng = fork(&mut self.rng);
            self.pairs.push(Pair::new(now, Arc::clone(&self.me), peer, rng));
            self.pairs.len() - 1
        });
        &mut self.pairs[at]
    }

    fn forget(&mut self, now: Moment) {
        self.pairs.retain_mut(|pair| {
            let idle = pair.path().is_none() && !pair.seek.is_looking();
            let forgotten = idle && now.since(pair.touched) >= FORGET_AFTER;
            if forgotten && pair.connected && !pair.closed {
                self.events.push_back(Event::Failed(pair.peer, Reason::PathLost));
            }
            // One that ended is kept for a while: its log says why.
            !forgotten
        });
    }
}
