//! A TURN server as the relay (RFC 8656): both ends are its clients, and channels lead to each other's relayed
//! address. So a datagram passes the server twice, as it does for two peers that both cannot be reached.
//!
//! Only what a server without authentication takes to serve IPv4.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use super::super::fleet::RETRY;
use super::lane::{Header, Lane, Road};
use super::pairs::{End, Pair};
use super::process::Process;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_BYTES: usize = 20;
/// Class bits of a response, beside the method's.
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;

const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const CHANNEL_BIND: u16 = 9;

const ERROR_CODE: u16 = 0x0009;
const CHANNEL_NUMBER: u16 = 0x000C;
const LIFETIME: u16 = 0x000D;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;

/// Error code of an allocation that there is already.
const MISMATCH: u16 = 437;

/// Channel numbers of who sends and who receives.
const SENDER: u16 = 0x4000;
const RECEIVER: u16 = 0x4001;
/// What its sockets hold, which are as small as the system makes them. It receives one datagram at a
/// time, so that larger bursts would not be cheaper for it.
const BURST: usize = 64;
/// Requests before a server counts as dead.
const ATTEMPTS: usize = 20;

/// A server in a process of its own.
pub(super) struct Turn {
    pub(super) process: Process,
    pub(super) road: Road,
}

impl Turn {
    /// Gives every pair a channel in both directions.
    pub(super) fn connect(
        server: SocketAddr,
        process: Process,
        pairs: &mut [Pair],
        rng: &mut ChaCha12Rng,
    ) -> Result<Self, String> {
        let mut lanes = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (sender, receiver) = (&mut pair.sender, &mut pair.receiver);
            let from = allocate(sender, server, rng)?;
            let to = allocate(receiver, server, rng)?;
            bind(sender, server, SENDER, to, rng)?;
            bind(receiver, server, RECEIVER, from, rng)?;
            lanes.push(Lane {
                sent: Header::Turn(SENDER),
                came: Header::Turn(RECEIVER),
                returns: false,
            });
        }
        Ok(Self { process, road: Road { server, lanes, burst: BURST } })
    }

    /// Gives the allocations back.
    pub(super) fn disconnect(
        &self,
        pairs: &mut [Pair],
        rng: &mut ChaCha12Rng,
    ) -> Result<(), String> {
        for pair in pairs {
            for end in [&mut pair.sender, &mut pair.receiver] {
                let lifetime = [(LIFETIME, vec![0; 4])];
                ask(end, self.road.server, REFRESH, &lifetime, rng)?;
            }
        }
        Ok(())
    }
}

/// The relayed address of a new allocation.
fn allocate(
    end: &mut End,
    server: SocketAddr,
    rng: &mut ChaCha12Rng,
) -> Result<SocketAddrV4, String> {
    // UDP, by its protocol number.
    let transport = [(REQUESTED_TRANSPORT, vec![17, 0, 0, 0])];
    for _ in 0..ATTEMPTS {
        match ask(end, server, ALLOCATE, &transport, rng) {
            Ok(response) => {
                let relayed = attribute(&response, XOR_RELAYED_ADDRESS).and_then(unmask);
                return relayed.ok_or_else(|| "an allocation without an IPv4 address".to_owned());
            }
            // Our port was one of a socket before it, which the server has not quite forgotten.
            Err(Refusal { code: MISMATCH, .. }) => drop(end.hear(server, RETRY)?),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err("the TURN server keeps allocations that were given back".into())
}

/// Opens channel `number` to `peer`, which permits that peer's data as well.
fn bind(
    end: &mut End,
    server: SocketAddr,
    number: u16,
    peer: SocketAddrV4,
    rng: &mut ChaCha12Rng,
) -> Result<(), String> {
    let [n0, n1] = number.to_be_bytes();
    let attributes = [(CHANNEL_NUMBER, vec![n0, n1, 0, 0]), (XOR_PEER_ADDRESS, mask(peer))];
    ask(end, server, CHANNEL_BIND, &attributes, rng)?;
    Ok(())
}

/// Asks until it is answered; the response.
fn ask(
    end: &mut End,
    server: SocketAddr,
    method: u16,
    attributes: &[(u16, Vec<u8>)],
    rng: &mut ChaCha12Rng,
) -> Result<Vec<u8>, Refusal> {
    let mut transaction = [0; 12];
    rng.fill_bytes(&mut transaction);
    let request = request(method, transaction, attributes);
    for _ in 0..ATTEMPTS {
        end.say(server, &request)?;
        for datagram in end.hear(server, RETRY)? {
            match answer_to(&datagram, method, transaction) {
                Some(true) => return Ok(datagram),
                Some(false) => return Err(Refusal::read(&datagram)),
                None => {}
            }
        }
    }
    Err(format!("no answer from the TURN server {server}").into())
}

fn request(method: u16, transaction: [u8; 12], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&method.to_be_bytes()[..], &len, &COOKIE, &transaction, &body].concat()
}

/// Whether it is the answer to that transaction, and whether it grants what was asked for.
fn answer_to(datagram: &[u8], method: u16, transaction: [u8; 12]) -> Option<bool> {
    let (header, _) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let ours = header[4..8] == COOKIE && header[8..] == transaction;
    match kind {
        _ if !ours => None,
        _ if kind == SUCCESS | method => Some(true),
        _ if kind == ERROR | method => Some(false),
        _ => None,
    }
}

/// The value of an attribute.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER_BYTES..)?;
    loop {
        let (head, values) = rest.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = values.get(..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = values.get(len.next_multiple_of(4)..)?;
    }
}

/// Why a request came to nothing.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    /// What the server says, or 0.
    code: u16,
    reason: String,
}

impl Refusal {
    fn read(message: &[u8]) -> Self {
        let Some([_, _, class, number, reason @ ..]) = attribute(message, ERROR_CODE) else {
            return "no reason".to_owned().into();
        };
        let code = u16::from(*class) * 100 + u16::from(*number);
        Self { code, reason: String::from_utf8_lossy(reason).into_owned() }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { code: 0, reason }
    }
}

impl From<Refusal> for String {
    fn from(Refusal { code, reason }: Refusal) -> Self {
        if code == 0 { reason } else { format!("the TURN server refuses: {code} {reason}") }
    }
}

/// An address as it is written, every byte under the cookie (RFC 8489, section 14.2).
fn mask(address: SocketAddrV4) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    let bytes = [&port[..], &address.ip().octets()].concat();
    let key = [&COOKIE[..2], &COOKIE].concat();
    let masked = bytes.iter().zip(key).map(|(byte, key)| byte ^ key);
    [0, 1].into_iter().chain(masked).collect()
}

fn unmask(value: &[u8]) -> Option<SocketAddrV4> {
    let [_, 1, p0, p1, a0, a1, a2, a3] = *value else { return None };
    let [c0, c1, c2, c3] = COOKIE;
    let port = u16::from_be_bytes([p0 ^ c0, p1 ^ c1]);
    Some(SocketAddrV4::new(Ipv4Addr::new(a0 ^ c0, a1 ^ c1, a2 ^ c2, a3 ^ c3), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_as_the_rfc_shows() {
        // RFC 5769, section 2.2: 192.0.2.1 port 32853.
        let written = [0, 1, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43];
        let address = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 32_853);
        assert_eq!(mask(address), written);
        assert_eq!(unmask(&written), Some(address));
        assert_eq!(unmask(&written[1..]), None);
    }

    #[test]
    fn answers_are_told_from_everything_else() {
        let mut message = request(ALLOCATE, [7; 12], &[(0x8022, vec![b'x'; 5])]);
        assert_eq!(message.len(), HEADER_BYTES + 12, "values are padded");
        assert_eq!(answer_to(&message, ALLOCATE, [7; 12]), None, "a request");
        message[0] = 1;
        assert_eq!(answer_to(&message, ALLOCATE, [7; 12]), Some(true));
        assert_eq!(answer_to(&message, ALLOCATE, [8; 12]), None);
        assert_eq!(answer_to(&message, REFRESH, [7; 12]), None);
        message[1] |= 0x10;
        assert_eq!(answer_to(&message, ALLOCATE, [7; 12]), Some(false));
        assert_eq!(Refusal::read(&message).code, 0);
        message.extend([0, 9, 0, 6, 0, 0, 4, 3, b'n', b'o', 0, 0]);
        let refusal = String::from(Refusal::read(&message));
        assert_eq!(refusal, "the TURN server refuses: 403 no");
        for len in 0..message.len() {
            let cut = &message[..len];
            assert_eq!(attribute(cut, LIFETIME), None);
        }
    }
}
