//! The client over a UDP socket, one call at a time, for tools and tests.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use boringtun::x25519::StaticSecret;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::error::{Error, NoAnswer};
use super::link::{Host, Link};
use super::peer::{DATAGRAM_BYTES_MAX, Event, Peer, Raw};
use super::requests::{Answer, Correlation, Requests};
use super::session::{Config, Session};
use super::wireguard::WireGuard;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::ids::WgKey;
use crate::time::{Moment, Now};
use crate::wire::body::{Overflow, Writer};
use crate::wire::kind::Kind;

/// This many reports that nothing listens there end a connection attempt.
const REFUSALS_MAX: u32 = 2;

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to try for a handshake, over all addresses of the host.
    pub patience: Duration,
    /// Send something at least this often while a call waits.
    pub keepalive: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), keepalive: Some(Duration::from_secs(20)) }
    }
}

/// A session with one router.
///
/// Timers run only inside a call; whoever pauses uses [`Client::idle`].
#[derive(Debug)]
pub struct Client {
    pub(super) link: Link,
    pub(super) rng: ChaCha12Rng,
    pub(super) clock: Clock,
    /// The key that the session speaks through.
    key: WgKey,
    socket: UdpSocket,
    address: SocketAddr,
    peer: Peer<WireGuard>,
    handshake: Duration,
    pings_answered: u64,
    /// What the router wants for a write, as it told last.
    pub(super) stamp_bits: u32,
}

impl Client {
    /// Shakes hands with the router. The session speaks through the identity's
    /// WireGuard key, or through a fresh one.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Socket`], [`Error::NoAnswer`], [`Error::Price`].
    pub fn connect(
        link: &Link,
        identity: Option<&Identity>,
        options: Options,
    ) -> Result<Self, Error> {
        let mut rng = seeded()?;
        let secret = identity.map_or_else(|| fresh_key(&mut rng), |id| id.wg_secret().clone());
        let addresses = resolve(link)?;
        // A resolver may succeed and know no address.
        let share = share(options.patience, addresses.len());
        let mut last = None;
        for address in addresses {
            let rng = fork(&mut rng);
            match Self::open(
                link,
                address,
                secret.clone(),
                rng,
                Options { patience: share, ..options },
            ) {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        let error = ErrorKind::NotFound.into();
        Err(last.unwrap_or(Error::Resolve { host: link.host.clone(), error }))
    }

    fn open(
        link: &Link,
        address: SocketAddr,
        secret: StaticSecret,
        mut rng: ChaCha12Rng,
        options: Options,
    ) -> Result<Self, Error> {
        let socket = socket_to(address)?;
        let config = Config { handshake_patience: options.patience, keepalive: options.keepalive };
        let initiator = WireGuard::new(secret, link.key);
        let key = initiator.public_key();
        let session = Session::new(initiator, config, fork(&mut rng));
        let peer = Peer::new(session, Requests::new(fork(&mut rng)), address);
        let clock = Clock::start();
        let mut client = Self {
            link: link.clone(),
            rng,
            clock,
            key,
            socket,
            address,
            peer,
            handshake: Duration::ZERO,
            pings_answered: 0,
            stamp_bits: 0,
        };
        client.shake_hands()?;
        Ok(client)
    }

    /// The router's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Our own address as the socket has it.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        self.socket.local_addr().map_err(|error| Error::Socket { doing: "own address", error })
    }

    /// The WireGuard key that the session speaks through.
    pub const fn key(&self) -> WgKey {
        self.key
    }

    /// How long the handshake took.
    pub const fn handshake_time(&self) -> Duration {
        self.handshake
    }

    /// The router's link.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Round-trip time and failures so far.
    pub const fn requests(&self) -> &Requests {
        self.peer.requests()
    }

    /// PINGs of the router that were answered.
    pub const fn pings_answered(&self) -> u64 {
        self.pings_answered
    }

    /// Forgets the keys' path: goes on from another source port, as behind a NAT
    /// that lost its mapping.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn change_address(&mut self) -> Result<(), Error> {
        self.socket = socket_to(self.address)?;
        Ok(())
    }

    /// Sends a request of any shape and returns what answers it.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn raw(&mut self, raw: Raw<'_>) -> Result<Answer, Error> {
        let kind = Kind::try_from(raw.header.kind).unwrap_or(Kind::Error);
        let started = self.clock.moment();
        let correlation =
            self.peer.request_raw(raw).map_err(|Overflow| Error::TooLarge { request: kind })?;
        self.wait_for(correlation, kind, started)
    }

    /// Sends a request of any shape under the correlation of an earlier one, as a client does whose
    /// answer was lost.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn raw_as(&mut self, correlation: Correlation, raw: Raw<'_>) -> Result<Answer, Error> {
        let kind = Kind::try_from(raw.header.kind).unwrap_or(Kind::Error);
        let started = self.clock.moment();
        let too_large = |Overflow| Error::TooLarge { request: kind };
        self.peer.request_raw_as(correlation, raw).map_err(too_large)?;
        self.wait_for(correlation, kind, started)
    }

    /// Sends a request of as many chunks as there are bodies and waits for its answer, an ERROR
    /// included.
    pub(super) fn exchange_chunked(
        &mut self,
        kind: Kind,
        bodies: &[Vec<u8>],
    ) -> Result<Answer, Error> {
        let started = self.clock.moment();
        let too_large = |Overflow| Error::TooLarge { request: kind };
        let correlation = self.peer.request_chunked(kind, bodies).map_err(too_large)?;
        self.wait_for(correlation, kind, started)
    }

    /// Sends a request and waits for its answer, an ERROR included.
    pub(super) fn exchange(
        &mut self,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<Answer, Error> {
        let started = self.clock.moment();
        let correlation =
            self.peer.request(kind, body).map_err(|Overflow| Error::TooLarge { request: kind })?;
        self.wait_for(correlation, kind, started)
    }

    /// Keeps the session alive for `span` without asking for anything.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn idle(&mut self, span: Duration) -> Result<(), Error> {
        let end = self.clock.moment() + span;
        while self.clock.moment() < end {
            self.step(end)?;
            while let Some(event) = self.peer.poll_event() {
                self.pings_answered += u64::from(event == Event::Pinged);
            }
        }
        Ok(())
    }

    fn shake_hands(&mut self) -> Result<(), Error> {
        let started = self.clock.moment();
        self.peer.connect(started);
        let mut refusals = 0;
        loop {
            refusals += u32::from(self.step(Moment::NEVER)? == Heard::Refusal);
            let initiations = self.peer.session().initiations();
            if refusals >= REFUSALS_MAX {
                return Err(self.no_answer(started, initiations, true));
            }
            while let Some(event) = self.peer.poll_event() {
                match event {
                    Event::Established => {
                        self.handshake = self.clock.moment().since(started);
                        // Sends the confirmation, without which the router stays silent.
                        return self.flush();
                    }
                    Event::Unanswered(tries) => {
                        return Err(self.no_answer(started, tries, refusals > 0));
                    }
                    Event::Price(bits) => return Err(Error::Price { bits }),
                    Event::Pinged => self.pings_answered += 1,
                    Event::Answer(_) | Event::TimedOut(_) => {}
                    Event::Goaway { .. } | Event::Asked { .. } | Event::Dropped(_) => {}
                }
            }
        }
    }

    fn no_answer(&self, started: Moment, initiations: u32, refused: bool) -> Error {
        let waited = self.clock.moment().since(started);
        Error::NoAnswer(NoAnswer { address: self.address, waited, initiations, refused })
    }

    fn wait_for(
        &mut self,
        correlation: Correlation,
        request: Kind,
        started: Moment,
    ) -> Result<Answer, Error> {
        let mut unanswered = None;
        loop {
            self.step(Moment::NEVER)?;
            while let Some(event) = self.peer.poll_event() {
                match event {
                    Event::Answer(answer) if answer.correlation == correlation => {
                        return Ok(answer);
                    }
                    Event::Unanswered(initiations) => unanswered = Some(initiations),
                    Event::TimedOut(it) if it == correlation => {
                        let waited = self.clock.moment().since(started);
                        return Err(match unanswered {
                            Some(initiations) => self.no_answer(started, initiations, false),
                            None => Error::Timeout { request, waited },
                        });
                    }
                    Event::Pinged => self.pings_answered += 1,
                    Event::Established | Event::Price(_) => {}
                    Event::Answer(_) | Event::TimedOut(_) => {}
                    Event::Goaway { .. } | Event::Asked { .. } | Event::Dropped(_) => {}
                }
            }
        }
    }

    /// Sends what is due and waits for one datagram, an event or `until`.
    fn step(&mut self, until: Moment) -> Result<Heard, Error> {
        self.flush()?;
        let now = self.clock.moment();
        let deadline = self.peer.next_deadline(now).min(until);
        if self.peer.has_event() || deadline <= now {
            return Ok(Heard::Nothing);
        }
        // A socket without a deadline would never look at its timers again.
        let pause = deadline.since(now).min(Duration::from_secs(1));
        let receiving = |error| Error::Socket { doing: "receiving", error };
        self.socket.set_read_timeout(Some(pause)).map_err(receiving)?;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        match self.socket.recv(&mut datagram) {
            Ok(len) => {
                let now: Now = self.clock.now();
                self.peer.receive(now, &datagram[..len]);
                self.flush()?;
                Ok(Heard::Datagram)
            }
            Err(error) if is_pause(error.kind()) => Ok(Heard::Nothing),
            Err(error) if is_hint(error.kind()) => Ok(Heard::Refusal),
            Err(error) => Err(receiving(error)),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        while let Some(datagram) = self.peer.poll_transmit(self.clock.moment()) {
            match self.socket.send(&datagram) {
                Ok(_) => {}
                // What an earlier datagram met, or a full buffer: as good as lost.
                Err(error) if is_hint(error.kind()) || error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::Socket { doing: "sending", error }),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Datagram,
    Refusal,
    Nothing,
}

/// Nothing came.
pub(super) fn is_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// ICMP told the kernel; anybody can send ICMP, so it is never believed at once.
pub(super) fn is_hint(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

/// Patience with each of so many addresses.
fn share(patience: Duration, addresses: usize) -> Duration {
    patience / u32::try_from(addresses).unwrap_or(1).max(1)
}

pub(super) fn resolve(link: &Link) -> Result<Vec<SocketAddr>, Error> {
    match &link.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, link.port)]),
        Host::Name(name) => (name.as_str(), link.port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .map_err(|error| Error::Resolve { host: link.host.clone(), error }),
    }
}

fn socket_to(address: SocketAddr) -> Result<UdpSocket, Error> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let doing = "opening a UDP socket";
    let socket = UdpSocket::bind((any, 0)).map_err(|error| Error::Socket { doing, error })?;
    let doing = "no route to the router";
    socket.connect(address).map_err(|error| Error::Socket { doing, error })?;
    Ok(socket)
}

/// A socket for a router and whoever it introduces, and its address towards the router.
pub(super) fn unconnected(router: SocketAddr) -> Result<(UdpSocket, SocketAddr), Error> {
    let local = socket_to(router)?.local_addr();
    let opening = |error| Error::Socket { doing: "opening a UDP socket", error };
    let any: IpAddr =
        if router.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(opening)?;
    let port = socket.local_addr().map_err(opening)?.port();
    Ok((socket, SocketAddr::new(local.map_err(opening)?.ip(), port)))
}

pub(super) fn seeded() -> Result<ChaCha12Rng, Error> {
    let mut seed = [0; 32];
    getrandom::getrandom(&mut seed).map_err(|error| Error::Socket {
        doing: "random numbers",
        error: std::io::Error::other(error.to_string()),
    })?;
    Ok(ChaCha12Rng::from_seed(seed))
}

pub(super) fn fork(rng: &mut ChaCha12Rng) -> ChaCha12Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha12Rng::from_seed(seed)
}

pub(super) fn fresh_key(rng: &mut ChaCha12Rng) -> StaticSecret {
    let mut secret = [0; 32];
    rng.fill_bytes(&mut secret);
    StaticSecret::from(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_addresses_costs_no_patience() {
        let second = Duration::from_secs(1);
        assert_eq!([0, 1, 4].map(|n| share(second, n)), [second, second, second / 4]);
    }
}
