//! Finds out what lies between a host and a server, in the manner of RFC 5780.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use molia_router::clock::Clock;

use crate::lab::{Client, Depends, Host, Lab, Server};

const PORTS: [u16; 2] = [3478, 3479];
/// How long an answer may take. There is no delay in the laboratory, but there may be load.
const PATIENCE: Duration = Duration::from_millis(400);

/// Answers every question with the address it came from, from the address it names.
pub(crate) struct Responder {
    /// Two addresses with two ports each; bit 0 of the index is the port.
    addresses: [SocketAddr; 4],
    /// Datagrams that arrived at all.
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// From where an answer is wanted, seen from the address asked.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Same = 0,
    OtherPort = 1,
    OtherAddressAndPort = 3,
}

/// What lies between a host and the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) translated: bool,
    pub(crate) mapping: Depends,
    pub(crate) filtering: Depends,
    pub(crate) port_kept: bool,
}

/// Whether two sockets of one host reach each other by their outside endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hairpin {
    No,
    /// Only where the other one has sent before.
    Invited,
    Always,
}

impl Responder {
    /// Serves on the addresses of the server in one family.
    pub(crate) fn new(lab: &Lab, server: Server, v6: bool) -> Self {
        let v4 = server.v4.map(IpAddr::V4);
        let [first, second] = if v6 { server.v6.map(IpAddr::V6) } else { v4 };
        let addresses = [(first, 0), (first, 1), (second, 0), (second, 1)]
            .map(|(ip, port)| SocketAddr::new(ip, PORTS[port]));
        let sockets = Arc::new(addresses.map(|it| lab.bind(server.host, &it.to_string())));
        let (arrived, stop) = (Arc::default(), Arc::default());
        let serve = |index: usize| {
            let (sockets, arrived) = (Arc::clone(&sockets), Arc::clone(&arrived));
            let stop: Arc<AtomicBool> = Arc::clone(&stop);
            sockets[index].set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    answer(&sockets, index, &arrived);
                }
            })
        };
        let threads = (0..4).map(serve).collect();
        Self { addresses, arrived, stop, threads }
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 4] {
        self.addresses
    }

    /// How many questions arrived so far.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// The address that `socket` is seen at, if an answer comes.
    pub(crate) fn seen(&self, socket: &UdpSocket) -> Option<SocketAddr> {
        ask(socket, self.addresses[0], Answer::Same, Duration::ZERO)
    }

    /// Mapping, filtering and ports between a client and here; nothing if no answer comes.
    pub(crate) fn classify(&self, lab: &Lab, client: Client) -> Option<Found> {
        let socket = self.socket(lab, client.host);
        let v6 = client.v6.filter(|_| self.addresses[0].is_ipv6());
        let ip = v6.map_or(IpAddr::V4(client.v4), IpAddr::V6);
        let own = SocketAddr::new(ip, socket.local_addr().ok()?.port());
        let mut seen = Vec::new();
        for address in self.addresses {
            seen.push(ask(&socket, address, Answer::Same, Duration::ZERO)?);
        }
        let mapping = match seen[..] {
            [a, b, c, d] if a == b && b == c && c == d => Depends::Nothing,
            [a, b, c, d] if a == b && c == d => Depends::Address,
            _ => Depends::AddressAndPort,
        };
        let filtering = self.filtering(lab, client.host)?;
        let port_kept = seen[0].port() == own.port();
        Some(Found { translated: seen[0] != own, mapping, filtering, port_kept })
    }

    /// Each question by a socket that has only ever spoken to one address.
    fn filtering(&self, lab: &Lab, host: Host) -> Option<Depends> {
        let hears = |wanted| -> Option<bool> {
            let socket = self.socket(lab, host);
            self.seen(&socket)?;
            Some(ask(&socket, self.addresses[0], wanted, Duration::ZERO).is_some())
        };
        if hears(Answer::OtherAddressAndPort)? {
            return Some(Depends::Nothing);
        }
        let from_its_address = hears(Answer::OtherPort)?;
        Some(if from_its_address { Depends::Address } else { Depends::AddressAndPort })
    }

    pub(crate) fn hairpin(&self, lab: &Lab, host: Host) -> Option<Hairpin> {
        let (a, b) = (self.socket(lab, host), self.socket(lab, host));
        let (at_a, at_b) = (self.seen(&a)?, self.seen(&b)?);
        if hears(&a, &b, at_b, at_a) {
            return Some(Hairpin::Always);
        }
        let _ = b.send_to(b"open", at_a);
        Some(if hears(&a, &b, at_b, at_a) { Hairpin::Invited } else { Hairpin::No })
    }

    /// A socket of the responder's family.
    pub(crate) fn socket(&self, lab: &Lab, host: Host) -> UdpSocket {
        lab.bind(host, if self.addresses[0].is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Asks at `to`; the observed address from the answer, which is held back for `delay`.
///
/// Asks again for what got lost, unless the question is how long an answer may take.
pub(crate) fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    from: Answer,
    delay: Duration,
) -> Option<SocketAddr> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let tries = if delay.is_zero() { 3 } else { 1 };
    (0..tries).find_map(|_| {
        let delay_ms = u32::try_from(delay.as_millis()).unwrap();
        let mut question = [0; 13];
        let nonce = NEXT.fetch_add(1, Ordering::Relaxed);
        question[..8].copy_from_slice(&nonce.to_be_bytes());
        question[8] = from as u8;
        question[9..].copy_from_slice(&delay_ms.to_be_bytes());
        // An error of an earlier datagram may be told here.
        let _ = socket.send_to(&question, to);
        receive(socket, delay + PATIENCE, |answer, _| {
            let text = answer.strip_prefix(&question[..8])?;
            std::str::from_utf8(text).ok()?.parse().ok()
        })
    })
}

/// What `pick` takes from the first datagram that it takes anything from.
pub(crate) fn receive<T>(
    socket: &UdpSocket,
    within: Duration,
    mut pick: impl FnMut(&[u8], SocketAddr) -> Option<T>,
) -> Option<T> {
    let clock = Clock::start();
    let until = clock.moment() + within;
    let mut bytes = [0; 128];
    loop {
        let left = until.since(clock.moment());
        if left.is_zero() {
            return None;
        }
        socket.set_read_timeout(Some(left)).unwrap();
        if let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let picked = pick(&bytes[..len], from);
            if picked.is_some() {
                return picked;
            }
        }
    }
}

/// Whether `b` hears what `a` sends to its outside endpoint, and from the outside endpoint of `a`.
fn hears(a: &UdpSocket, b: &UdpSocket, at_b: SocketAddr, at_a: SocketAddr) -> bool {
    let _ = a.send_to(b"hairpin", at_b);
    let from = receive(b, PATIENCE, |text, from| (text == b"hairpin").then_some(from));
    assert!(from.is_none_or(|from| from == at_a), "hairpin with inside address {from:?}");
    from.is_some()
}

fn answer(sockets: &[UdpSocket; 4], index: usize, arrived: &AtomicU64) {
    let mut question = [0; 64];
    let received: io::Result<_> = sockets[index].recv_from(&mut question);
    let Ok((13, from)) = received else { return };
    arrived.fetch_add(1, Ordering::Relaxed);
    let mut reply = question[..8].to_vec();
    reply.extend_from_slice(from.to_string().as_bytes());
    let other = index ^ usize::from(question[8] & 3);
    let delay_ms = u32::from_be_bytes(question[9..13].try_into().unwrap());
    if delay_ms == 0 {
        let _ = sockets[other].send_to(&reply, from);
        return;
    }
    let socket = sockets[other].try_clone().unwrap();
    thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(delay_ms.into()));
        let _ = socket.send_to(&reply, from);
    });
}
