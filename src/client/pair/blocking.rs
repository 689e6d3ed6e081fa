//! A node over a UDP socket, for tools and tests.
//!
//! Timers run only inside a call: whoever waits for nothing in particular uses [`Node::serve`].

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::{Endpoint, Event, Options, Pair, Path, Reason, Refused, Trouble};
use crate::client::blocking::{fork, is_hint, is_pause, resolve, seeded, unconnected};
use crate::client::error::{Error, NoAnswer, Refusal};
use crate::client::link::Link;
use crate::client::peer::{DATAGRAM_BYTES_MAX, Peer};
use crate::client::requests::Requests;
use crate::client::session::{Config, Session};
use crate::client::wireguard::WireGuard;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::ids::PeerId;
use crate::time::Moment;
use crate::wire::kind::Kind;

/// A socket without a deadline would never look at its timers again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How to open a node.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Give up on the router after this.
    pub patience: Duration,
    /// Say something to the router at least this often.
    pub keepalive: Duration,
    /// Tell peers our address in the local network as well.
    pub lan: bool,
    /// How to connect to peers.
    pub pairs: Options,
}

impl Default for Opened {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            keepalive: Duration::from_secs(20),
            lan: false,
            pairs: Options::default(),
        }
    }
}

/// A node with one router.
#[derive(Debug)]
pub struct Node {
    clock: Clock,
    socket: UdpSocket,
    router: SocketAddr,
    local: SocketAddr,
    endpoint: Endpoint<WireGuard>,
    /// What happened and was not asked for yet.
    events: VecDeque<Event>,
}

impl Node {
    /// Opens a socket, shakes hands with the router and says who we are.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Socket`], [`Error::NoAnswer`], [`Error::Price`], and if the
    /// router is not the one of the link, or refuses us.
    pub fn open(link: &Link, identity: Arc<Identity>, opened: Opened) -> Result<Self, Error> {
        let mut last = None;
        for router in resolve(link)? {
            match Self::open_at(link, router, Arc::clone(&identity), opened.clone()) {
                Ok(node) => return Ok(node),
                Err(error) => last = Some(error),
            }
        }
        let error = std::io::ErrorKind::NotFound.into();
        Err(last.unwrap_or(Error::Resolve { host: link.host.clone(), error }))
    }

    fn open_at(
        link: &Link,
        router: SocketAddr,
        identity: Arc<Identity>,
        mut opened: Opened,
    ) -> Result<Self, Error> {
        let (socket, local) = unconnected(router)?;
        if opened.lan {
            opened.pairs.addresses.push(local);
        }
        let mut rng = seeded()?;
        let clock = Clock::start();
        let config =
            Config { handshake_patience: opened.patience, keepalive: Some(opened.keepalive) };
        let initiator = WireGuard::new(identity.wg_secret().clone(), link.key);
        let session = Session::new(initiator, config, fork(&mut rng));
        let peer = Peer::new(session, Requests::new(fork(&mut rng)), router);
        let (now, who) = (clock.moment(), (identity, opened.pairs));
        let endpoint = Endpoint::new(now, link.clone(), router, peer, who, rng);
        let mut node = Self { clock, socket, router, local, endpoint, events: VecDeque::new() };
        node.get_ready(opened.patience)?;
        Ok(node)
    }

    fn get_ready(&mut self, patience: Duration) -> Result<(), Error> {
        let started = self.clock.moment();
        let end = started + patience + PAUSE_MAX;
        loop {
            match self.next_event(end)? {
                Some(Event::Ready) => return Ok(()),
                Some(Event::Unready(trouble)) => return Err(self.error(started, &trouble)),
                Some(_) => {}
                None => return Err(self.error(started, &Trouble::Silent)),
            }
        }
    }

    fn error(&self, started: Moment, trouble: &Trouble) -> Error {
        let request = Kind::NegotiateReq;
        match trouble {
            Trouble::Silent => Error::NoAnswer(NoAnswer {
                address: self.router,
                waited: self.clock.moment().since(started),
                initiations: self.endpoint.initiations(),
                refused: false,
            }),
            Trouble::Price(bits) => Error::Price { bits: *bits },
            Trouble::NoBinding => Error::NoBinding,
            Trouble::Unproven(why) => Error::Unproven(*why),
            Trouble::WrongPeer { expected, found } => {
                Error::WrongPeer { expected: *expected, found: *found }
            }
            Trouble::Malformed => Error::Malformed { request },
            Trouble::Refused(code) => Error::Refused {
                request,
                refusal: Refusal {
                    code: *code,
                    reason: String::new(),
                    retry_after: None,
                    detail: 0,
                },
            },
        }
    }

    /// Our own id.
    pub fn peer_id(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    /// Our address as the router sees it.
    pub const fn observed(&self) -> Option<SocketAddr> {
        self.endpoint.observed()
    }

    /// Our address in the local network, towards the router.
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The router's address.
    pub const fn router(&self) -> SocketAddr {
        self.router
    }

    /// The pair with a peer: its path and what was done.
    pub fn pair(&self, peer: &PeerId) -> Option<&Pair> {
        self.endpoint.pair(peer)
    }

    /// The node's clock, which the steps of a pair are timed by.
    pub fn now(&self) -> Moment {
        self.clock.moment()
    }

    /// Connects to a peer, with a consent token of that peer if there is one; returns with the
    /// first path. A better one may follow while the node is used.
    ///
    /// # Errors
    /// [`Error::Socket`]; and why the peer is not reached.
    pub fn connect(&mut self, peer: PeerId, consent: &[u8]) -> Result<Result<Path, Reason>, Error> {
        self.endpoint.connect(self.clock.moment(), peer, consent);
        loop {
            match self.turn(Moment::NEVER)? {
                Some(Event::Connected(it, path)) if it == peer => return Ok(Ok(path)),
                Some(Event::Failed(it, why)) if it == peer => return Ok(Err(why)),
                other => self.events.extend(other),
            }
        }
    }

    /// Sends a datagram, or keeps it until the peer is connected.
    ///
    /// # Errors
    /// [`Error::Socket`]; and why it was not taken.
    pub fn send(&mut self, peer: &PeerId, payload: &[u8]) -> Result<Result<(), Refused>, Error> {
        let taken = self.endpoint.send(self.clock.moment(), peer, payload);
        self.flush()?;
        Ok(taken)
    }

    /// The next thing that happens, if it does before `until`.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn next_event(&mut self, until: Moment) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let over = self.clock.moment() >= until;
            if let Some(event) = self.turn(until)? {
                return Ok(Some(event));
            }
            if over {
                return Ok(None);
            }
        }
    }

    /// The next datagram of whichever peer; other events are left for [`Node::next_event`].
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn recv_timeout(&mut self, span: Duration) -> Result<Option<(PeerId, Vec<u8>)>, Error> {
        let end = self.clock.moment() + span;
        let waiting = self.events.iter().position(|it| matches!(it, Event::Received(..)));
        if let Some(Event::Received(peer, payload)) = waiting.and_then(|at| self.events.remove(at))
        {
            return Ok(Some((peer, payload)));
        }
        loop {
            let over = self.clock.moment() >= end;
            match self.turn(end)? {
                Some(Event::Received(peer, payload)) => return Ok(Some((peer, payload))),
                Some(other) => self.events.push_back(other),
                None if over => return Ok(None),
                None => {}
            }
        }
    }

    /// Accepts peers for `span`; `answer` says what goes back for a datagram, and `tell` hears of
    /// everything else.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn serve(
        &mut self,
        span: Duration,
        mut answer: impl FnMut(&PeerId, &[u8]) -> Option<Vec<u8>>,
        mut tell: impl FnMut(&Event),
    ) -> Result<(), Error> {
        let end = self.clock.moment() + span;
        while let Some(event) = self.next_event(end)? {
            if let Event::Received(peer, payload) = &event {
                if let Some(reply) = answer(peer, payload) {
                    // What cannot be sent is lost, as it may be on the way.
                    let _ = self.send(peer, &reply)?;
                }
            } else {
                tell(&event);
            }
        }
        Ok(())
    }

    /// Sends what is due and waits for one datagram, an event or `until`.
    fn turn(&mut self, until: Moment) -> Result<Option<Event>, Error> {
        self.flush()?;
        if let Some(event) = self.endpoint.poll_event() {
            return Ok(Some(event));
        }
        let now = self.clock.moment();
        let deadline = self.endpoint.next_deadline(now).min(until);
        if deadline <= now {
            return Ok(None);
        }
        let pause = deadline.since(now).min(PAUSE_MAX);
        let receiving = |error| Error::Socket { doing: "receiving", error };
        self.socket.set_read_timeout(Some(pause)).map_err(receiving)?;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        match self.socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                self.endpoint.receive(self.clock.now(), from, &datagram[..len]);
                self.flush()?;
            }
            Err(error) if is_pause(error.kind()) || is_hint(error.kind()) => {}
            Err(error) => return Err(receiving(error)),
        }
        Ok(self.endpoint.poll_event())
    }

    /// A candidate may be anything, so what the kernel refuses to send is as good as lost.
    fn flush(&mut self) -> Result<(), Error> {
        while let Some(transmit) = self.endpoint.poll_transmit(self.clock.now()) {
            match self.socket.send_to(&transmit.datagram, transmit.to) {
                Err(error) if transmit.to == self.router && !is_lost(error.kind()) => {
                    return Err(Error::Socket { doing: "sending", error });
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn is_lost(kind: std::io::ErrorKind) -> bool {
    is_hint(kind) || kind == std::io::ErrorKind::WouldBlock
}
