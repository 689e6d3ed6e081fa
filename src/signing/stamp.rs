//! Stamps: `BLAKE3(key | epoch | router | nonce)` begins with as many zero bits as
//! the router asks for a write. A stamp fits one key, one router and, with the
//! minute after it, one minute. Nobody here remembers which were spent.

use crate::ids::{Key, PeerId};
use crate::wire::body::Stamp;

/// Offset of the nonce in what is hashed.
const NONCE_AT: usize = 68;

/// The epoch of a second: unix minutes.
pub fn epoch(unix_s: u64) -> u32 {
    u32::try_from(unix_s / 60).unwrap_or(u32::MAX)
}

/// Whether a stamp of `stamped` still counts at `unix_s`: it is of this epoch or
/// the one before.
pub fn is_current(stamped: u32, unix_s: u64) -> bool {
    matches!(epoch(unix_s).checked_sub(stamped), Some(0 | 1))
}

/// Whether `stamp` pays `bits` for a write of `key` at the router with this id.
pub fn paid(stamp: &Stamp, key: &Key, router: &PeerId, bits: u32) -> bool {
    let mut hashed = hashed(key, stamp.epoch, router);
    bits == 0 || work(&mut hashed, stamp.nonce) >= bits
}

/// The first stamp from the nonce `start` on that pays, tried `tries` times at most.
pub fn solve(
    key: &Key,
    router: &PeerId,
    epoch: u32,
    bits: u32,
    start: u64,
    tries: u64,
) -> Option<Stamp> {
    let mut hashed = hashed(key, epoch, router);
    let nonces = (0..tries).map(|n| start.wrapping_add(n));
    let pays = |nonce: &u64| work(&mut hashed, *nonce) >= bits;
    nonces.into_iter().find(pays).map(|nonce| Stamp { epoch, nonce })
}

/// What is hashed, up to the nonce.
fn hashed(key: &Key, epoch: u32, router: &PeerId) -> [u8; NONCE_AT + 8] {
    let mut hashed = [0; NONCE_AT + 8];
    hashed[..32].copy_from_slice(&key.0);
    hashed[32..36].copy_from_slice(&epoch.to_be_bytes());
    hashed[36..NONCE_AT].copy_from_slice(&router.0);
    hashed
}

fn work(hashed: &mut [u8; NONCE_AT + 8], nonce: u64) -> u32 {
    hashed[NONCE_AT..].copy_from_slice(&nonce.to_be_bytes());
    leading_zeros(blake3::hash(hashed).as_bytes())
}

/// Bits in front of a digest's first set one.
pub fn leading_zeros(digest: &[u8; 32]) -> u32 {
    let mut zeros = 0;
    for byte in digest {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros
}
