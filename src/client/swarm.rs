//! Lookups over a UDP socket, one at a time, for tools and tests: a [`Crowd`] with WireGuard
//! sessions to as many nodes as it takes.
//!
//! One socket serves both families where the system has IPv6 (an IPv4 address is then its mapped
//! form), else IPv4 alone. Whether an address can be reached, sending to it tells.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::blocking::{fork, fresh_key, is_hint, is_pause, seeded};
use super::crowd::{Crowd, Event};
use super::error::Error;
use super::lookup::{Config, Contact, Families, Goal, Outcome};
use super::peer::DATAGRAM_BYTES_MAX;
use super::wireguard::WireGuard;
use crate::clock::Clock;
use crate::identity::Identity;

/// Longest wait for a datagram before timers are looked at again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Shortest one: none at all would be for ever.
const PAUSE_MIN: Duration = Duration::from_micros(100);

/// See the module.
#[derive(Debug)]
pub struct Swarm {
    socket: UdpSocket,
    families: Families,
    clock: Clock,
    crowd: Crowd<WireGuard>,
    /// Nodes that we know ourselves.
    known: Vec<Contact>,
}

impl Swarm {
    /// Nobody yet. With an identity every node that is asked is told who we are, and may list us; without
    /// one the sessions speak through a fresh key.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn new(identity: Option<Arc<Identity>>) -> Result<Self, Error> {
        let mut rng = seeded()?;
        let opening = |error| Error::Socket { doing: "opening a UDP socket", error };
        let (socket, families) = open().map_err(opening)?;
        let secret = match &identity {
            Some(identity) => identity.wg_secret().clone(),
            None => fresh_key(&mut rng),
        };
        let dial = move |to: &Contact| WireGuard::new(secret.clone(), to.key);
        let crowd = Crowd::new(identity, Box::new(dial), fork(&mut rng));
        Ok(Self { socket, families, clock: Clock::start(), crowd, known: Vec::new() })
    }

    /// Lookups begin at this node, among others.
    pub fn know(&mut self, contact: Contact) {
        self.known.push(contact);
    }

    /// Looks up a node or a value for `budget` at most.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn look_up(&mut self, goal: Goal, budget: Duration) -> Result<Outcome, Error> {
        let config = Config { budget, families: self.families, ..Config::default() };
        let known = self.known.iter().copied();
        let id = self.crowd.look_up(self.clock.moment(), goal, config, known);
        loop {
            self.step()?;
            while let Some(event) = self.crowd.poll_event() {
                match event {
                    Event::LookedUp(it, outcome) if it == id => return Ok(*outcome),
                    Event::LookedUp(..) | Event::Answered(..) => {}
                }
            }
        }
    }

    /// Sends what is due and, if nothing has come about, waits for a datagram or a deadline.
    fn step(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        while let Some((to, datagram)) = self.crowd.poll_transmit(now) {
            self.send(to, &datagram)?;
        }
        if self.crowd.has_event() {
            return Ok(());
        }
        let pause = self.crowd.next_deadline().since(self.clock.moment());
        let receiving = |error| Error::Socket { doing: "receiving", error };
        let pause = pause.clamp(PAUSE_MIN, PAUSE_MAX);
        self.socket.set_read_timeout(Some(pause)).map_err(receiving)?;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        match self.socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                self.crowd.receive(self.clock.now(), from, &datagram[..len]);
                Ok(())
            }
            // The kernel speaks of an earlier datagram, and does not say of which.
            Err(error) if is_pause(error.kind()) || is_hint(error.kind()) => Ok(()),
            Err(error) => Err(receiving(error)),
        }
    }

    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Result<(), Error> {
        let address = match (to.ip(), self.families.v6) {
            (IpAddr::V4(ip), true) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => to,
        };
        match self.socket.send_to(datagram, address) {
            Ok(_) => Ok(()),
            // As good as lost, and what an earlier datagram met.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) =>
            {
                Ok(())
            }
            // No way there, or one that is forbidden: somebody else's address is not our failure.
            Err(error) if is_hint(error.kind()) || is_elsewhere(error.kind()) => {
                self.crowd.unreachable(self.clock.moment(), to);
                Ok(())
            }
            Err(error) => Err(Error::Socket { doing: "sending", error }),
        }
    }
}

fn is_elsewhere(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::AddrNotAvailable
    )
}

/// A socket, and the families that it can send in.
fn open() -> io::Result<(UdpSocket, Families)> {
    let any: (IpAddr, u16) = (Ipv6Addr::UNSPECIFIED.into(), 0);
    if let Ok(socket) = UdpSocket::bind(any) {
        // Where the system keeps IPv6 sockets to IPv6, IPv4 needs its own; so does who has no IPv6.
        let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        if socket.connect((mapped, 9)).is_ok() {
            return UdpSocket::bind(any).map(|socket| (socket, Families::BOTH));
        }
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok((socket, Families { v4: true, v6: false }))
}
