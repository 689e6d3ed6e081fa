//! The client's side of admission: cookie replies, the price they carry, mac1 and mac2.
//!
//! A cookie reply is WireGuard's. If its nonce is marked `MOL`, byte 0 is a price
//! in bits: the sender index of the next initiation must be such that
//! `BLAKE3(E | sender index | cookie)` begins with so many zero bits.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};

use crate::ids::WgKey;

/// More work than this is refused: about two seconds of one core.
pub const BITS_MAX: u8 = 24;
const MARK: &[u8; 3] = b"MOL";
const SENDER: std::ops::Range<usize> = 4..8;
const EPHEMERAL: std::ops::Range<usize> = 8..40;

/// What a router asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Leading zero bits; 0 without a price.
    pub bits: u8,
    /// Unix minutes in which the cookie was made; 0 without the mark.
    pub epoch: u32,
}

/// A cookie, valid for the address it was asked from.
#[derive(Clone, Debug)]
pub struct Cookie {
    value: [u8; 16],
    /// What must be paid with it.
    pub price: Price,
}

impl Cookie {
    /// Opens a cookie reply (64 bytes) to the initiation with this mac1.
    pub fn open(router: &WgKey, mac1: &[u8; 16], reply: &[u8]) -> Option<Self> {
        let nonce: &[u8; 24] = reply.get(8..32)?.try_into().ok()?;
        let key = Blake2s256::new().chain_update(b"cookie--").chain_update(router.0).finalize();
        let payload = Payload { msg: reply.get(32..64)?, aad: mac1 };
        let value = XChaCha20Poly1305::new(&key).decrypt(nonce.into(), payload).ok()?;
        Some(Self { value: value.try_into().ok()?, price: Price::read(nonce) })
    }

    /// Makes `initiation` worth the cookie: grinds its sender index if that has a
    /// price, then writes mac1 and mac2. Returns the sender index, `None` if no
    /// index is worth it.
    pub fn pay(&self, router: &WgKey, initiation: &mut [u8]) -> Option<u32> {
        let sender = self.solve(initiation)?;
        initiation[SENDER].copy_from_slice(&sender.to_le_bytes());
        write_mac1(router, initiation);
        let (covered, mac2) = initiation.split_at_mut(initiation.len() - 16);
        mac2.copy_from_slice(&mac(&self.value, covered));
        Some(sender)
    }

    fn solve(&self, initiation: &[u8]) -> Option<u32> {
        let mut first = [0; 4];
        first.copy_from_slice(&initiation[SENDER]);
        let first = u32::from_le_bytes(first);
        let mut input = [0; 52];
        input[..32].copy_from_slice(&initiation[EPHEMERAL]);
        input[36..].copy_from_slice(&self.value);
        (0..=u32::MAX).map(|step| first.wrapping_add(step)).find(|sender| {
            input[32..36].copy_from_slice(&sender.to_le_bytes());
            leading_zero_bits(blake3::hash(&input).as_bytes()) >= u32::from(self.price.bits)
        })
    }
}

impl Price {
    fn read(nonce: &[u8; 24]) -> Self {
        if &nonce[5..8] != MARK {
            return Self { bits: 0, epoch: 0 };
        }
        let epoch = u32::from_le_bytes([nonce[1], nonce[2], nonce[3], nonce[4]]);
        Self { bits: nonce[0], epoch }
    }
}

/// The mac1 field of a handshake message.
pub fn mac1_of(message: &[u8]) -> [u8; 16] {
    let mut mac1 = [0; 16];
    mac1.copy_from_slice(&message[message.len() - 32..message.len() - 16]);
    mac1
}

/// Writes mac1 for the owner of `to` into a handshake message.
pub fn write_mac1(to: &WgKey, message: &mut [u8]) {
    let at = message.len() - 32;
    let mac1 = mac1(to, &message[..at]);
    message[at..at + 16].copy_from_slice(&mac1);
}

/// Whether a handshake message to the owner of `to` has the right mac1. Nothing
/// secret is compared: the key of mac1 is public.
pub fn mac1_holds(to: &WgKey, message: &[u8]) -> bool {
    mac1(to, &message[..message.len() - 32]) == mac1_of(message)
}

fn mac1(to: &WgKey, covered: &[u8]) -> [u8; 16] {
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(to.0).finalize();
    mac(&key, covered)
}

fn mac(key: &[u8], covered: &[u8]) -> [u8; 16] {
    #[expect(clippy::expect_used, reason = "BLAKE2s takes every key of up to 32 bytes")]
    let mac = Blake2sMac::<U16>::new_from_slice(key).expect("16 or 32 bytes");
    mac.chain(covered).finalize_fixed().into()
}

fn leading_zero_bits(hash: &[u8]) -> u32 {
    let whole = hash.iter().take_while(|&&byte| byte == 0).count();
    let rest = hash.get(whole).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(whole).unwrap_or(u32::MAX).saturating_mul(8) + rest
}
