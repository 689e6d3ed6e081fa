//! A socket with sessions to several addresses, each of which knows nothing of the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use super::super::blocking::{fork, fresh_key, is_hint, is_pause};
use super::super::calls::sole;
use super::super::error::{Error, NoAnswer};
use super::super::peer::{DATAGRAM_BYTES_MAX, Event, Peer};
use super::super::requests::Requests;
use super::super::session::{Config, Session};
use super::super::wireguard::WireGuard;
use crate::clock::Clock;
use crate::ids::{PeerId, WgKey};
use crate::time::Moment;
use crate::wire::body::{Ping, ReflectReq, ReflectResp};
use crate::wire::kind::Kind;
use crate::wire::{multiaddr, probe};

/// Shortest wait: none at all would be for ever.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest wait before timers are looked at again.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Datagrams that no session takes are kept up to so many.
const STRAYS_MAX: usize = 64;

/// What REFLECT told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) observed: SocketAddr,
    pub(super) alternate: Option<SocketAddr>,
    pub(super) other: Option<PeerId>,
}

/// See the module.
pub(super) struct Wire {
    socket: UdpSocket,
    clock: Clock,
    rng: ChaCha12Rng,
    patience: Duration,
    lanes: Vec<Lane>,
    /// What came and is no message of a session: probes.
    strays: Vec<Vec<u8>>,
}

/// A session.
struct Lane {
    address: SocketAddr,
    key: WgKey,
    peer: Peer<WireGuard>,
}

impl Wire {
    /// A socket that can reach `towards`.
    pub(super) fn open(
        towards: SocketAddr,
        patience: Duration,
        rng: &mut ChaCha12Rng,
    ) -> Result<Self, Error> {
        let v6 = Ipv6Addr::UNSPECIFIED.into();
        let any: IpAddr = if towards.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { v6 };
        let doing = "opening a UDP socket";
        let socket = UdpSocket::bind((any, 0)).map_err(|error| Error::Socket { doing, error })?;
        let (lanes, strays) = (Vec::new(), Vec::new());
        Ok(Self { socket, clock: Clock::start(), rng: fork(rng), patience, lanes, strays })
    }

    /// The socket's own address, as `towards` would see it if nobody translated.
    pub(super) fn local(&self, towards: SocketAddr) -> Result<SocketAddr, Error> {
        let own = |error| Error::Socket { doing: "own address", error };
        let bound = self.socket.local_addr().map_err(own)?;
        // Connecting a datagram socket only asks the routing table.
        let other = UdpSocket::bind((bound.ip(), 0)).map_err(own)?;
        other.connect(towards).map_err(own)?;
        let ip = other.local_addr().map_err(own)?.ip();
        Ok(SocketAddr::new(ip, bound.port()))
    }

    /// A session with the router at `address` that has this key; begins when it is used.
    pub(super) fn add(&mut self, address: SocketAddr, router: WgKey) -> usize {
        let initiator = WireGuard::new(fresh_key(&mut self.rng), router);
        let key = initiator.public_key();
        let config = Config { handshake_patience: self.patience, keepalive: Some(KEEPALIVE) };
        let session = Session::new(initiator, config, fork(&mut self.rng));
        let peer = Peer::new(session, Requests::new(fork(&mut self.rng)), address);
        self.lanes.push(Lane { address, key, peer });
        self.lanes.len() - 1
    }

    /// REFLECT over one of the sessions.
    pub(super) fn reflect(&mut self, lane: usize, asked: ReflectReq<'_>) -> Result<Told, Error> {
        let request = Kind::ReflectReq;
        let started = self.clock.moment();
        let it = &mut self.lanes[lane];
        it.peer.connect(started);
        let asking = it.peer.request(request, |out| asked.write(out));
        let correlation = asking.map_err(|_| Error::TooLarge { request })?;
        loop {
            self.step(Moment::NEVER)?;
            while let Some(event) = self.lanes[lane].peer.poll_event() {
                match event {
                    Event::Answer(answer) if answer.correlation == correlation => {
                        let answer = answer.unless_refused(request)?;
                        return told(sole(&answer), asked.nonce)
                            .ok_or(Error::Malformed { request });
                    }
                    Event::TimedOut(it) if it == correlation => {
                        let waited = self.clock.moment().since(started);
                        return Err(Error::Timeout { request, waited });
                    }
                    Event::Unanswered(initiations) => {
                        let (address, waited) =
                            (self.lanes[lane].address, self.clock.moment().since(started));
                        let refused = false;
                        let silence = NoAnswer { address, waited, initiations, refused };
                        return Err(Error::NoAnswer(silence));
                    }
                    Event::Price(bits) => return Err(Error::Price { bits }),
                    Event::Established | Event::Answer(_) | Event::TimedOut(_) => {}
                    Event::Pinged
                    | Event::Asked { .. }
                    | Event::Goaway { .. }
                    | Event::Dropped(_) => {}
                }
            }
        }
    }

    /// Whether the filter probe with this nonce, for that session, has come.
    pub(super) fn has_probe(&self, key: &WgKey, nonce: u64) -> bool {
        self.strays.iter().any(|stray| probe::filter_check(stray, nonce, key))
    }

    /// Whether exactly these bytes have come.
    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        self.strays.iter().any(|stray| stray == bytes)
    }

    /// The key of a session.
    pub(super) fn key(&self, lane: usize) -> WgKey {
        self.lanes[lane].key
    }

    /// Sends bytes as they are.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        // What cannot be sent does not arrive, which is what is asked.
        let _ = self.socket.send_to(bytes, to);
    }

    /// Waits for `span`, or until `good`.
    pub(super) fn wait(
        &mut self,
        span: Duration,
        good: impl Fn(&Self) -> bool,
    ) -> Result<bool, Error> {
        let end = self.clock.moment() + span;
        while !good(self) && self.clock.moment() < end {
            self.step(end)?;
        }
        Ok(good(self))
    }

    /// Lets the sessions go on from another socket, at once; this one falls silent.
    pub(super) fn hand_over(&mut self, to: &mut Self) -> Result<(), Error> {
        for mut lane in self.lanes.drain(..) {
            let ping = Ping::default();
            // If it gets lost, the next keepalive moves the session.
            let _ = lane.peer.request(Kind::Ping, |out| ping.write(out));
            to.lanes.push(lane);
        }
        to.flush()
    }

    /// Sends what is due, and waits until something comes or `until`, not for long.
    pub(super) fn step(&mut self, until: Moment) -> Result<(), Error> {
        self.flush()?;
        let now = self.clock.moment();
        if self.lanes.iter().any(|lane| lane.peer.has_event()) {
            return Ok(());
        }
        let due = self.lanes.iter().map(|lane| lane.peer.next_deadline(now)).min();
        let due = due.unwrap_or(Moment::NEVER).min(until);
        let pause = due.since(now).clamp(PAUSE_MIN, PAUSE_MAX);
        let receiving = |error| Error::Socket { doing: "receiving", error };
        self.socket.set_read_timeout(Some(pause)).map_err(receiving)?;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        match self.socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                self.receive(from, &datagram[..len]);
                self.flush()
            }
            Err(error) if is_pause(error.kind()) || is_hint(error.kind()) => Ok(()),
            Err(error) => Err(receiving(error)),
        }
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !matches!(datagram.first(), Some(1..=4)) {
            if self.strays.len() < STRAYS_MAX {
                self.strays.push(datagram.to_vec());
            }
            return;
        }
        // Those of one router tell by their indices whom it is for.
        let now = self.clock.now();
        let lanes = self.lanes.iter_mut().filter(|lane| lane.address == from);
        lanes.for_each(|lane| lane.peer.receive(now, datagram));
    }

    fn flush(&mut self) -> Result<(), Error> {
        let now = self.clock.moment();
        for lane in &mut self.lanes {
            while let Some(datagram) = lane.peer.poll_transmit(now) {
                match self.socket.send_to(&datagram, lane.address) {
                    Ok(_) => {}
                    // As good as lost.
                    Err(error) if is_hint(error.kind()) || is_pause(error.kind()) => {}
                    Err(error) => return Err(Error::Socket { doing: "sending", error }),
                }
            }
        }
        Ok(())
    }

    /// Drops what happened to sessions that nobody asks about.
    pub(super) fn forget_events(&mut self) {
        for lane in &mut self.lanes {
            while lane.peer.poll_event().is_some() {}
        }
    }
}

/// How often a session that was handed over says where it is.
const KEEPALIVE: Duration = Duration::from_secs(8);

fn told(body: &[u8], nonce: u64) -> Option<Told> {
    let response = ReflectResp::read(body).ok().filter(|it| it.nonce == nonce)?;
    Some(Told {
        observed: multiaddr::decode(response.observed).ok()?,
        alternate: multiaddr::decode(response.alternate).ok(),
        other: response.other_router,
    })
}
