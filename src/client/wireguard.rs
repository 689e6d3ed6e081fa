//! WireGuard's initiator: stock BoringTun, one `Tunn` per handshake.
//!
//! A `Tunn` of its own for every handshake means that BoringTun's timers, its
//! ring of eight keys and its send queue are never used: an engine either waits
//! for its response or has exactly one key. The session above owns all timers.
//!
//! Cookies are handled here because their nonce may carry a price (a proof of
//! work over the sender index, which the Noise transcript does not cover). The
//! sender index on the wire may therefore differ from BoringTun's own; it is
//! translated back on receipt.

use std::fmt;
use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::cookie::{self, Cookie};
use super::session::{Initiator, Received, Refused};
use crate::ids::WgKey;

const INITIATION_BYTES: usize = 148;
const RESPONSE_BYTES: usize = 92;
const COOKIE_REPLY_BYTES: usize = 64;
const DATA_BYTES_MIN: usize = 32;
/// Largest datagram taken; its index may have to be rewritten in a copy.
const DATAGRAM_BYTES_MAX: usize = 2048;
const INDEX: std::ops::Range<usize> = 4..8;
const RECEIVER_OF_RESPONSE: std::ops::Range<usize> = 8..12;

/// The cryptography towards one router.
pub struct WireGuard {
    secret: StaticSecret,
    public: WgKey,
    router: WgKey,
    limiter: Arc<RateLimiter>,
    pending: Option<Pending>,
    current: Option<Keys>,
    /// What is still on its way under the keys before.
    previous: Option<Keys>,
    cookie: Option<Cookie>,
}

/// A sender index as the router knows it, and BoringTun's.
#[derive(Clone, Copy, Debug)]
struct Index {
    wire: u32,
    own: u32,
}

struct Pending {
    tunn: Box<Tunn>,
    /// The last two initiations: a late response to the one before is taken too.
    sent: [Option<Index>; 2],
    mac1: [u8; 16],
}

struct Keys {
    tunn: Box<Tunn>,
    index: Index,
}

impl WireGuard {
    /// An initiator with this static key.
    pub fn new(secret: StaticSecret, router: WgKey) -> Self {
        let public = PublicKey::from(&secret);
        Self {
            limiter: Arc::new(RateLimiter::new(&public, u64::MAX)),
            public: WgKey(public.to_bytes()),
            secret,
            router,
            pending: None,
            current: None,
            previous: None,
            cookie: None,
        }
    }

    /// Our static public key.
    pub const fn public_key(&self) -> WgKey {
        self.public
    }

    /// A tunnel for a new handshake, under an index that the keys in use do not have.
    fn tunn(&self, index: u32) -> Box<Tunn> {
        let taken = |index: u32| {
            let keys = [&self.current, &self.previous];
            keys.into_iter().flatten().any(|keys| keys.index.wire >> 8 == index & 0xFF_FFFF)
        };
        let index = (0..3).map(|step| index ^ step).find(|&index| !taken(index)).unwrap_or(index);
        Box::new(Tunn::new(
            self.secret.clone(),
            PublicKey::from(self.router.0),
            None,
            None,
            index & 0xFF_FFFF,
            Some(Arc::clone(&self.limiter)),
        ))
    }

    fn response<'o>(
        &mut self,
        datagram: &[u8],
        out: &'o mut [u8],
    ) -> Result<Received<'o>, Refused> {
        let receiver = read_u32(datagram, RECEIVER_OF_RESPONSE);
        let pending = self.pending.as_mut().ok_or(Refused::UnknownIndex)?;
        let sent = pending.sent.iter().flatten().find(|sent| sent.wire == receiver);
        let index = *sent.ok_or(Refused::UnknownIndex)?;
        let mut copy = [0; RESPONSE_BYTES];
        copy.copy_from_slice(datagram);
        if index.wire != index.own {
            if !cookie::mac1_holds(&self.public, &copy) {
                return Err(Refused::Unauthentic);
            }
            copy[RECEIVER_OF_RESPONSE].copy_from_slice(&index.own.to_le_bytes());
            cookie::write_mac1(&self.public, &mut copy);
        }
        let TunnResult::WriteToNetwork(confirmation) = pending.tunn.decapsulate(None, &copy, out)
        else {
            return Err(Refused::Unauthentic);
        };
        let len = confirmation.len();
        let tunn = self.pending.take().ok_or(Refused::UnknownIndex)?.tunn;
        self.previous = self.current.replace(Keys { tunn, index });
        // What let this handshake in need not let in the next.
        self.cookie = None;
        Ok(Received::Established(&out[..len]))
    }

    fn cookie_reply(&mut self, datagram: &[u8]) -> Result<(), Refused> {
        let pending = self.pending.as_ref().ok_or(Refused::UnknownIndex)?;
        let last = pending.sent[0].ok_or(Refused::UnknownIndex)?;
        if read_u32(datagram, INDEX) != last.wire {
            return Err(Refused::UnknownIndex);
        }
        let cookie =
            Cookie::open(&self.router, &pending.mac1, datagram).ok_or(Refused::Unauthentic)?;
        if cookie.price.bits > cookie::BITS_MAX {
            return Err(Refused::Price(cookie.price.bits));
        }
        self.cookie = Some(cookie);
        Ok(())
    }

    fn data<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused> {
        let receiver = read_u32(datagram, INDEX);
        let keys = [&mut self.current, &mut self.previous];
        let mut keys = keys.into_iter().flatten();
        let keys = keys.find(|keys| keys.index.wire == receiver).ok_or(Refused::UnknownIndex)?;
        let mut copy = [0; DATAGRAM_BYTES_MAX];
        let copy = &mut copy[..datagram.len()];
        let datagram = if keys.index.wire == keys.index.own {
            datagram
        } else {
            copy.copy_from_slice(datagram);
            copy[INDEX].copy_from_slice(&keys.index.own.to_le_bytes());
            copy
        };
        match keys.tunn.decapsulate(None, datagram, out) {
            TunnResult::WriteToTunnelV4(plaintext, _)
            | TunnResult::WriteToTunnelV6(plaintext, _) => Ok(Received::Plaintext(plaintext)),
            TunnResult::Done => Ok(Received::Keepalive),
            TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => Err(Refused::Unauthentic),
        }
    }
}

impl Initiator for WireGuard {
    fn initiate(&mut self, index: u32, out: &mut [u8]) -> Result<usize, Refused> {
        let mut pending = self.pending.take().unwrap_or_else(|| Pending {
            tunn: self.tunn(index),
            sent: [None, None],
            mac1: [0; 16],
        });
        let TunnResult::WriteToNetwork(message) =
            pending.tunn.format_handshake_initiation(out, true)
        else {
            return Err(Refused::NotForUs);
        };
        let own = read_u32(message, INDEX);
        let message = &mut out[..INITIATION_BYTES];
        let wire = match &self.cookie {
            Some(cookie) => {
                cookie.pay(&self.router, message).ok_or(Refused::Price(cookie.price.bits))?
            }
            None => own,
        };
        pending.mac1 = cookie::mac1_of(message);
        pending.sent = [Some(Index { wire, own }), pending.sent[0]];
        self.pending = Some(pending);
        Ok(INITIATION_BYTES)
    }

    fn receive<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused> {
        match (datagram.first_chunk(), datagram.len()) {
            (Some([2, 0, 0, 0]), RESPONSE_BYTES) => self.response(datagram, out),
            (Some([3, 0, 0, 0]), COOKIE_REPLY_BYTES) => {
                self.cookie_reply(datagram).map(|()| Received::Cookie)
            }
            (Some([4, 0, 0, 0]), DATA_BYTES_MIN..=DATAGRAM_BYTES_MAX) => self.data(datagram, out),
            _ => Err(Refused::NotForUs),
        }
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let sealed = self.current.as_mut()?.tunn.encapsulate(plaintext, out);
        if let TunnResult::WriteToNetwork(datagram) = sealed { Some(datagram.len()) } else { None }
    }

    fn abandon(&mut self) {
        self.pending = None;
        self.cookie = None;
    }

    fn expire(&mut self) {
        self.current = None;
        self.previous = None;
    }
}

impl fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireGuard")
            .field("public", &self.public)
            .field("router", &self.router)
            .field("pending", &self.pending.is_some())
            .field("keys", &self.current.is_some())
            .finish_non_exhaustive()
    }
}

fn read_u32(bytes: &[u8], range: std::ops::Range<usize>) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[range]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
#[path = "wireguard_tests.rs"]
mod tests;
