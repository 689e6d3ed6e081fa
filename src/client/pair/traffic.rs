//! What goes through a pair's tunnel: hellos that prove who is there, and the application's datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use super::leg::Leg;
use super::machine::Pair;
use super::packet::{self, Hello, PAYLOAD_MAX, Packet};
use super::step::{Path, Reason, Step};
use super::tunnel::{Received, Tunnel};
use super::{Event, Refused};
use crate::client::calls;
use crate::identity;
use crate::ids::WgKey;
use crate::time::{Moment, Now};
use crate::wire::channel::Channel;

/// A hello is repeated after this until the other side has heard it.
const HELLO_PAUSE: Duration = Duration::from_millis(250);
/// Datagrams that wait for a connection, or for the other side's proof.
const WAITING_MAX: usize = 256;
/// Datagrams kept of a peer that has not proved its id: it may be anybody.
const EARLY_MAX: usize = 16;
/// A channel that we learnt of from what came over it is taken to hold for so long.
const LEARNT_FOR: Duration = Duration::from_secs(600);

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Direct(SocketAddr),
    Relay(Channel),
}

/// Whether the two sides have proved themselves to each other.
#[derive(Debug)]
pub(super) struct Trust {
    /// The other side to us.
    pub(super) proven: bool,
    /// We to the other side.
    told: bool,
    /// When the next hello is due.
    pub(super) hello_at: Moment,
    /// Since when they go by this path.
    pub(super) greeting_since: Moment,
    /// What came before the proof.
    early: Vec<Vec<u8>>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            proven: false,
            told: false,
            hello_at: Moment::NEVER,
            greeting_since: Moment::NEVER,
            early: Vec::new(),
        }
    }
}

impl Trust {
    /// Whether each side knows that the other one is itself.
    const fn is_mutual(&self) -> bool {
        self.proven && self.told
    }

    /// Begins to ask by this path whether the other side hears us.
    pub(super) const fn ask(&mut self, now: Moment) {
        (self.told, self.hello_at, self.greeting_since) = (false, now, now);
    }

    /// Since when hellos go by this path that the other side does not hear.
    pub(super) fn unheard_since(&self) -> Option<Moment> {
        let greets = !self.is_mutual() && self.greeting_since != Moment::NEVER;
        greets.then_some(self.greeting_since)
    }
}

impl Pair {
    /// The key that the tunnel is to.
    pub(super) fn key(&self) -> Option<WgKey> {
        self.tunnel.as_ref().filter(|_| !self.closed).map(Tunnel::theirs)
    }

    /// Whether a message is for this pair's keys.
    pub(super) fn owns(&self, message: &[u8]) -> bool {
        !self.closed && self.tunnel.as_ref().is_some_and(|tunnel| tunnel.owns(message))
    }

    /// Sends a datagram, or keeps it until there is a connection.
    pub(super) fn send(&mut self, now: Moment, payload: &[u8]) -> Result<(), Refused> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Refused::TooLong);
        }
        self.touched = now;
        if self.trust.proven && self.waiting.is_empty() && self.say(now, &packet::data(payload)) {
            return Ok(());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Refused::Full);
        }
        self.waiting.push_back(payload.to_vec());
        self.go(now);
        Ok(())
    }

    /// Something waits: there must be keys, and for keys a path.
    pub(super) fn go(&mut self, now: Moment) {
        if self.established(now) {
            return self.flush(now);
        }
        match (self.path(), &mut self.tunnel) {
            (Some(path), Some(tunnel)) if !tunnel.is_connecting() => {
                tunnel.connect(now);
                self.log.push(now, Step::Initiated(path));
            }
            (Some(_), _) => {}
            (None, _) => self.start(now),
        }
    }

    fn flush(&mut self, now: Moment) {
        while self.trust.proven
            && self.path().is_some()
            && let Some(payload) = self.waiting.pop_front()
        {
            if !self.say(now, &packet::data(&payload)) {
                return self.waiting.push_front(payload);
            }
        }
    }

    /// Seals a plaintext, empty for a keepalive, and sends it the way that messages go; whether
    /// there were keys and a path.
    pub(super) fn say(&mut self, now: Moment, plaintext: &[u8]) -> bool {
        let (Some(tunnel), Some(path)) = (&mut self.tunnel, self.path) else { return false };
        let Some(message) = tunnel.seal(now, plaintext) else { return false };
        match (path, &self.leg) {
            (Path::Direct(address), _) => self.out.push_back((address, message)),
            (Path::Relay, Some(leg)) => self.out.push_back((self.me.router, leg.wrap(&message))),
            (Path::Relay, None) => return false,
        }
        true
    }

    /// Takes a WireGuard message that is for this pair.
    pub(super) fn message(&mut self, now: Now, via: Via, message: &[u8]) {
        let Some(tunnel) = &mut self.tunnel else { return };
        let (fresh, plaintext) = match tunnel.receive(now.at, message) {
            Received::Nothing => return,
            Received::Respond(response) => {
                self.came(now.at, via);
                return self.reply(via, response);
            }
            Received::Established(confirmation) => {
                if let Some(confirmation) = confirmation {
                    self.reply(via, confirmation);
                }
                (true, None)
            }
            Received::Keepalive { fresh } => (fresh, None),
            Received::Data { plaintext, fresh } => (fresh, Some(plaintext)),
        };
        self.came(now.at, via);
        if fresh {
            self.keys(now, via);
        }
        if let Some(plaintext) = plaintext {
            self.plaintext(now, &plaintext);
        }
        self.flush(now.at);
    }

    /// Something authentic came.
    fn came(&mut self, now: Moment, via: Via) {
        self.touched = now;
        match (via, &mut self.direct) {
            (Via::Direct(from), Some(direct)) if direct.address == from => {}
            (Via::Direct(from), direct) => {
                if let Some(direct) = direct {
                    direct.heard_elsewhere(from);
                }
                self.look_at(now, from);
            }
            (Via::Relay(channel), _) => {
                let known = self.leg.is_some_and(|leg| leg.channel == channel || leg.ours);
                if !known && self.me.options.relay {
                    // The offer was lost, or is late.
                    self.log.push(now, Step::RelayOffered);
                    self.go_relayed(now, Leg::new(now, channel, false, LEARNT_FOR));
                }
            }
        }
        self.follow(now, via);
    }

    /// There are new keys.
    fn keys(&mut self, now: Now, via: Via) {
        let path = match via {
            Via::Direct(from) => Path::Direct(from),
            Via::Relay(_) => Path::Relay,
        };
        self.log.push(now.at, Step::Established(path));
        // A peer that started anew does not know that we proved ourselves.
        self.trust.ask(now.at);
        self.tick_hello(now);
    }

    pub(super) fn tick_hello(&mut self, now: Now) {
        if now.at < self.trust.hello_at {
            return;
        }
        self.trust.hello_at = Moment::NEVER;
        if self.trust.is_mutual() {
            return;
        }
        if self.established(now.at) {
            self.hello(now);
            self.trust.hello_at = now.at + HELLO_PAUSE;
        }
    }

    fn hello(&mut self, now: Now) {
        let hello = Hello {
            seen: self.trust.proven,
            done: self.trust.is_mutual(),
            binding: calls::binding(&self.me.identity, now.unix_s()),
        };
        // A binding always fits.
        if let Ok(plaintext) = packet::hello(&hello) {
            self.say(now.at, &plaintext);
        }
    }

    fn plaintext(&mut self, now: Now, plaintext: &[u8]) {
        match packet::open(plaintext) {
            Some(Packet::Data(payload)) if self.trust.proven => {
                self.events.push_back(Event::Received(self.peer, payload.to_vec()));
            }
            Some(Packet::Data(payload)) if self.trust.early.len() < EARLY_MAX => {
                self.trust.early.push(payload.to_vec());
            }
            Some(Packet::Hello(hello)) => self.heard_hello(now, &hello),
            Some(Packet::Data(_)) | None => {}
        }
    }

    fn heard_hello(&mut self, now: Now, hello: &Hello) {
        let Some(tunnel) = &self.tunnel else { return };
        let who = identity::verify(&hello.binding, &tunnel.theirs(), now.unix_s());
        if who != Ok(self.peer) {
            return self.give_up(now.at, Reason::Impostor);
        }
        if !std::mem::replace(&mut self.trust.proven, true) {
            self.log.push(now.at, Step::Proven);
        }
        self.trust.told |= hello.seen;
        if !hello.done {
            self.hello(now);
        }
        self.connect(now.at);
    }

    /// The peer is proven: with a path it is connected.
    pub(super) fn connect(&mut self, now: Moment) {
        let Some(path) = self.path() else { return };
        if !std::mem::replace(&mut self.connected, true) {
            self.events.push_back(Event::Connected(self.peer, path));
        }
        let early = std::mem::take(&mut self.trust.early);
        let received = early.into_iter().map(|payload| Event::Received(self.peer, payload));
        self.events.extend(received);
        self.flush(now);
    }
}
