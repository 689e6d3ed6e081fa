//! The price of admission: a proof of work over the initiation itself.
//!
//! `BLAKE3(E | sender_index | cookie)` must begin with as many zero bits as the
//! cookie reply asked for, where E is the initiation's ephemeral public key. The
//! solver grinds the sender index, which is in the clear and covered by both
//! MACs, so a solution fits one initiation and one cookie. Difficulty 0 is always met.

use super::Initiation;
use crate::signing::stamp::leading_zeros;

/// What a cookie reply's nonce says about the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Leading zero bits wanted; 0 for none.
    pub difficulty_bits: u8,
    /// Unix minutes in which the cookie was made.
    pub epoch: u32,
}

const MARK: &[u8; 3] = b"MOL";

impl Price {
    /// The first eight bytes of the nonce.
    pub fn encode(&self) -> [u8; 8] {
        let [a, b, c, d] = self.epoch.to_le_bytes();
        let [m, o, l] = *MARK;
        [self.difficulty_bits, a, b, c, d, m, o, l]
    }

    /// Reads the price; `None` without the mark.
    pub fn decode(nonce: &[u8; 8]) -> Option<Self> {
        let [difficulty_bits, a, b, c, d, mark @ ..] = *nonce;
        (&mark == MARK).then_some(Self { difficulty_bits, epoch: u32::from_le_bytes([a, b, c, d]) })
    }
}

/// Whether `initiation` pays `difficulty_bits` for `cookie`.
pub fn paid(initiation: &Initiation, cookie: &[u8; 16], difficulty_bits: u8) -> bool {
    difficulty_bits == 0 || {
        let mut index = [0; 4];
        index.copy_from_slice(&initiation[4..8]);
        work(&initiation[8..40], index, cookie) >= u32::from(difficulty_bits)
    }
}

/// The first sender index from `start` on that pays, tried `tries` times at most.
pub fn solve(
    ephemeral: &[u8; 32],
    cookie: &[u8; 16],
    difficulty_bits: u8,
    start: u32,
    tries: u32,
) -> Option<u32> {
    let pays =
        |index: &u32| work(ephemeral, index.to_le_bytes(), cookie) >= u32::from(difficulty_bits);
    (0..tries).map(|n| start.wrapping_add(n)).find(pays)
}

/// Leading zero bits of the digest.
fn work(ephemeral: &[u8], index: [u8; 4], cookie: &[u8; 16]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(ephemeral).update(&index).update(cookie);
    leading_zeros(hasher.finalize().as_bytes())
}
