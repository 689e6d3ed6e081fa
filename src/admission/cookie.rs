//! WireGuard's two message authentication codes and the cookie reply.
//!
//! mac1 proves that the sender knows our public key, mac2 that it receives at
//! its address: it is keyed by a cookie that was sent there. The cookie is a
//! MAC of address and port under a secret that changes every minute, so nothing
//! is stored per stranger; all shards share the node's secret and so each
//! other's cookies. The reply's nonce also carries the price (see
//! [`super::puzzle`]); a stock client does not look at it.

use std::net::SocketAddr;

use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::{AeadInPlace, XChaCha20Poly1305};
use rand_core::RngCore;
use subtle::ConstantTimeEq;

use super::{Initiation, MAC1_AT, MAC2_AT, puzzle};
use crate::net::Address;
use crate::time::Now;

/// Bytes of a cookie reply.
pub const REPLY_BYTES: usize = 64;
/// Milliseconds for which one secret makes cookies; they are accepted for as long again.
pub const EPOCH_MS: u64 = 60_000;

/// Bytes of mac1, mac2 and a cookie.
const MAC_BYTES: usize = 16;
const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// Key of mac1 of every handshake message sent to the owner of `public`.
pub fn mac1_key(public: &[u8; 32]) -> [u8; 32] {
    labelled(LABEL_MAC1, public)
}

/// Key under which the owner of `public` encrypts the cookies it sends.
pub fn cookie_key(public: &[u8; 32]) -> [u8; 32] {
    labelled(LABEL_COOKIE, public)
}

/// WireGuard's MAC: keyed BLAKE2s, 16 bytes; `key` is a mac1 key or a cookie.
///
/// # Panics
/// If `key` is longer than 32 bytes.
pub fn mac(key: &[u8], message: &[u8]) -> [u8; 16] {
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(key).expect("BLAKE2s takes keys up to 32 bytes");
    mac.update(message);
    mac.finalize_fixed().into()
}

/// Whether two MACs are equal, in constant time.
pub fn same(a: &[u8; 16], b: &[u8]) -> bool {
    a.as_slice().ct_eq(b).into()
}

fn labelled(label: &[u8], public: &[u8; 32]) -> [u8; 32] {
    Blake2s256::new().chain(label).chain(public).finalize().into()
}

/// The two MACs that end a handshake message: what each of them covers, and both.
struct Macs<'a> {
    before_mac1: &'a [u8],
    mac1: &'a [u8; MAC_BYTES],
    before_mac2: &'a [u8],
    mac2: &'a [u8; MAC_BYTES],
}

impl<'a> Macs<'a> {
    /// `None` of what is too short for two.
    fn of(message: &'a [u8]) -> Option<Self> {
        let (before_mac2, mac2) = message.split_last_chunk()?;
        let (before_mac1, mac1) = before_mac2.split_last_chunk()?;
        Some(Self { before_mac1, mac1, before_mac2, mac2 })
    }
}

/// Whether the mac1 of a handshake message of either kind is under this [key](mac1_key).
pub fn has_mac1(key: &[u8; 32], message: &[u8]) -> bool {
    Macs::of(message).is_some_and(|macs| same(&mac(key, macs.before_mac1), macs.mac1))
}

/// Where a cookie is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the router itself.
    Router,
    /// At a port for an unmodified WireGuard peer, named by shard and socket: who receives what is sent there must
    /// not show it elsewhere.
    Port(u16, u16),
}

impl Place {
    fn cookie(self, secret: &[u8; 32], peer: &SocketAddr) -> [u8; MAC_BYTES] {
        let Address(address) = Address::of(peer);
        let Self::Port(shard, socket) = self else { return mac(secret, &address) };
        let mut place = [0; 22];
        place[..18].copy_from_slice(&address);
        place[18..20].copy_from_slice(&shard.to_be_bytes());
        place[20..].copy_from_slice(&socket.to_be_bytes());
        mac(secret, &place)
    }
}

/// Makes and checks cookies.
pub struct Cookies {
    node_secret: [u8; 32],
    /// The epoch of the last call and the secrets of it and of the one before it.
    epoch: u32,
    secrets: [[u8; 32]; 2],
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookies").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Cookies {
    /// Shards that share `node_secret` accept each other's.
    pub fn new(node_secret: [u8; 32]) -> Self {
        let mut cookies = Self { node_secret, epoch: 0, secrets: [[0; 32]; 2] };
        cookies.secrets = [cookies.secret_of(0), cookies.secret_of(u32::MAX)];
        cookies
    }

    /// The cookie that the mac2 of a handshake message proves to hold, if it does: one of this epoch
    /// or the last.
    /// What was sent for one place is of no use at another.
    pub fn shown(
        &mut self,
        now: Now,
        peer: &SocketAddr,
        at: Place,
        message: &[u8],
    ) -> Option<[u8; 16]> {
        let macs = Macs::of(message).filter(|macs| *macs.mac2 != [0; MAC_BYTES])?;
        self.turn_to(now);
        let holds = |secret: &[u8; 32]| {
            let cookie = at.cookie(secret, peer);
            same(&mac(&cookie, macs.before_mac2), macs.mac2).then_some(cookie)
        };
        self.secrets.iter().find_map(holds)
    }

    /// The reply to a handshake message from `peer` in the name of the owner of `key`, its
    /// [cookie key](cookie_key): the cookie and its price. `None` to what is no such message.
    pub fn reply(
        &mut self,
        now: Now,
        (peer, at): (&SocketAddr, Place),
        message: &[u8],
        key: &[u8; 32],
        difficulty_bits: u8,
        rng: &mut impl RngCore,
    ) -> Option<[u8; REPLY_BYTES]> {
        let macs = Macs::of(message)?;
        let sender = macs.before_mac1.get(4..8)?;
        self.turn_to(now);
        let mut out = [0; REPLY_BYTES];
        let (head, sealed) = out.split_at_mut(32);
        head[..4].copy_from_slice(&[3, 0, 0, 0]);
        head[4..8].copy_from_slice(sender);
        let price = puzzle::Price { difficulty_bits, epoch: self.epoch };
        let nonce = &mut head[8..];
        nonce[..8].copy_from_slice(&price.encode());
        rng.fill_bytes(&mut nonce[8..]);
        let (cookie, tag) = sealed.split_at_mut(16);
        cookie.copy_from_slice(&at.cookie(&self.secrets[0], peer));
        let made = XChaCha20Poly1305::new(key.into())
            .encrypt_in_place_detached((&*nonce).into(), macs.mac1, cookie)
            .expect("16 bytes are within the cipher's limit");
        tag.copy_from_slice(&made);
        Some(out)
    }

    fn turn_to(&mut self, now: Now) {
        // Wraps after 8000 years.
        let epoch = u32::try_from(now.unix_ms / EPOCH_MS).unwrap_or(u32::MAX);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.secrets = [self.secret_of(epoch), self.secret_of(epoch.wrapping_sub(1))];
        }
    }

    fn secret_of(&self, epoch: u32) -> [u8; 32] {
        let mut mac = Blake2sMac::<U32>::new(&self.node_secret.into());
        mac.update(b"molia.v1.cookie");
        mac.update(&epoch.to_le_bytes());
        mac.finalize_fixed().into()
    }
}

/// What a client reads from a cookie reply to its `initiation`: cookie and price
/// (none from a router that names none). `None` if the reply is not genuine.
pub fn open_reply(
    router_public: &[u8; 32],
    initiation: &Initiation,
    reply: &[u8; REPLY_BYTES],
) -> Option<([u8; 16], Option<puzzle::Price>)> {
    let (head, sealed) = reply.split_at(32);
    if head[..4] != [3, 0, 0, 0] || head[4..8] != initiation[4..8] {
        return None;
    }
    let (nonce, mut cookie) = (&head[8..], [0; 16]);
    cookie.copy_from_slice(&sealed[..16]);
    XChaCha20Poly1305::new(&cookie_key(router_public).into())
        .decrypt_in_place_detached(
            nonce.into(),
            &initiation[MAC1_AT..MAC2_AT],
            &mut cookie,
            sealed[16..].into(),
        )
        .ok()?;
    let mut price = [0; 8];
    price.copy_from_slice(&nonce[..8]);
    Some((cookie, puzzle::Price::decode(&price)))
}
