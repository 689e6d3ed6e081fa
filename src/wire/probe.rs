//! Probes outside WireGuard: punch probes between peers, filter probes from routers.
//!
//! Both end in a MAC, so that nobody is taken in by what a stranger sends. A punch probe is keyed
//! by the secret of one attempt, a filter probe by its nonce and the WireGuard key of whom it is for.

use crate::ids::WgKey;

/// First byte of a punch probe.
pub const PUNCH: u8 = 6;
/// First byte of a filter probe.
pub const FILTER: u8 = 7;
/// Bytes of a punch probe.
pub const PUNCH_BYTES: usize = 48;
/// Bytes of a filter probe.
pub const FILTER_BYTES: usize = 32;
/// Bytes of a MAC.
const MAC_BYTES: usize = 16;

const ATTEMPT_CONTEXT: &str = "molia.v1.attempt";
const FILTER_CONTEXT: &str = "molia.v1.probe";

/// What a punch probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PunchKind {
    /// Opens the way, and asks whether it is open.
    Probe,
    /// It is.
    Answer,
}

/// A punch probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punch {
    /// Which of the two.
    pub kind: PunchKind,
    /// Names the attempt, see [`attempt_id`].
    pub attempt: [u8; 8],
    /// Clock of who sent the probe, in microseconds; an answer says it again.
    pub clock_us: u64,
}

/// The name of the attempt with this secret.
pub fn attempt_id(secret: &[u8; 32]) -> [u8; 8] {
    head(&blake3::derive_key(ATTEMPT_CONTEXT, secret))
}

/// The bytes of `punch`, keyed by the attempt's secret.
pub fn punch_write(punch: &Punch, secret: &[u8; 32]) -> [u8; PUNCH_BYTES] {
    let mut bytes = [0; PUNCH_BYTES];
    bytes[0] = PUNCH;
    bytes[1] = u8::from(punch.kind == PunchKind::Answer);
    bytes[4..12].copy_from_slice(&punch.attempt);
    bytes[12..20].copy_from_slice(&punch.clock_us.to_be_bytes());
    seal(&mut bytes, secret);
    bytes
}

/// The attempt that a punch probe names, before anything is known to be true.
pub fn attempt_of(bytes: &[u8]) -> Option<[u8; 8]> {
    let bytes: &[u8; PUNCH_BYTES] = bytes.try_into().ok()?;
    let shaped = bytes[0] == PUNCH && bytes[1] <= 1 && bytes[2..4] == [0; 2];
    shaped.then(|| head(&bytes[4..]))
}

/// The punch probe that `bytes` are, if whoever sent it knows the attempt's secret.
pub fn punch_read(bytes: &[u8], secret: &[u8; 32]) -> Option<Punch> {
    let attempt = attempt_of(bytes)?;
    if !is_sealed(bytes, secret) {
        return None;
    }
    let kind = if bytes[1] == 0 { PunchKind::Probe } else { PunchKind::Answer };
    Some(Punch { kind, attempt, clock_us: u64::from_be_bytes(head(&bytes[12..])) })
}

/// A filter probe for the peer with this key.
pub fn filter_write(nonce: u64, key: &WgKey) -> [u8; FILTER_BYTES] {
    let mut bytes = [0; FILTER_BYTES];
    bytes[0] = FILTER;
    bytes[4..12].copy_from_slice(&nonce.to_be_bytes());
    seal(&mut bytes, &filter_key(nonce, key));
    bytes
}

/// The nonce that a filter probe names, before anything is known to be true.
pub fn filter_nonce(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; FILTER_BYTES] = bytes.try_into().ok()?;
    (bytes[..4] == [FILTER, 0, 0, 0]).then(|| u64::from_be_bytes(head(&bytes[4..])))
}

/// Whether `bytes` are the filter probe with this nonce for the peer with this key.
pub fn filter_check(bytes: &[u8], nonce: u64, key: &WgKey) -> bool {
    filter_nonce(bytes) == Some(nonce) && is_sealed(bytes, &filter_key(nonce, key))
}

fn filter_key(nonce: u64, key: &WgKey) -> [u8; 32] {
    let mut material = [0; 40];
    material[..8].copy_from_slice(&nonce.to_be_bytes());
    material[8..].copy_from_slice(&key.0);
    blake3::derive_key(FILTER_CONTEXT, &material)
}

/// The first eight of `bytes`, of which there are as many.
fn head(bytes: &[u8]) -> [u8; 8] {
    let mut head = [0; 8];
    head.copy_from_slice(&bytes[..8]);
    head
}

/// Fills in the MAC at the end.
fn seal(bytes: &mut [u8], key: &[u8; 32]) {
    let (said, mac) = bytes.split_at_mut(bytes.len() - MAC_BYTES);
    mac.copy_from_slice(&blake3::keyed_hash(key, said).as_bytes()[..MAC_BYTES]);
}

/// Whether the MAC at the end is right; takes the same time whatever it is.
fn is_sealed(bytes: &[u8], key: &[u8; 32]) -> bool {
    let (said, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
    let expected = blake3::keyed_hash(key, said);
    let differs = expected.as_bytes().iter().zip(mac).fold(0, |acc, (a, b)| acc | (a ^ b));
    differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const KEY: WgKey = WgKey([9; 32]);

    #[test]
    fn a_punch_probe_reads_back_and_no_bit_of_it_may_change() {
        for kind in [PunchKind::Probe, PunchKind::Answer] {
            let punch = Punch { kind, attempt: attempt_id(&SECRET), clock_us: 0x0102_0304_0506 };
            let bytes = punch_write(&punch, &SECRET);
            assert_eq!(attempt_of(&bytes), Some(punch.attempt));
            assert_eq!(punch_read(&bytes, &SECRET), Some(punch));
            assert_eq!(punch_read(&bytes, &[8; 32]), None);
            for bit in 0..8 * PUNCH_BYTES {
                let mut other = bytes;
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(punch_read(&other, &SECRET), None, "bit {bit}");
            }
            assert_eq!(punch_read(&bytes[..47], &SECRET), None);
        }
    }

    #[test]
    fn a_filter_probe_is_for_one_nonce_and_one_peer() {
        let bytes = filter_write(42, &KEY);
        assert_eq!(filter_nonce(&bytes), Some(42));
        assert!(filter_check(&bytes, 42, &KEY));
        assert!(!filter_check(&bytes, 43, &KEY) && !filter_check(&bytes, 42, &WgKey([1; 32])));
        for bit in 0..8 * FILTER_BYTES {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            let named = filter_nonce(&other).unwrap_or(42);
            assert!(!filter_check(&other, named, &KEY), "bit {bit}");
        }
    }

    /// Computed apart from this code, from the page's words.
    #[test]
    fn the_bytes_are_the_pages() {
        let punch = Punch { kind: PunchKind::Probe, attempt: attempt_id(&SECRET), clock_us: 1 };
        let bytes = punch_write(&punch, &SECRET);
        assert_eq!(bytes[..4], [6, 0, 0, 0]);
        assert_eq!(bytes[12..32], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mac = blake3::keyed_hash(&SECRET, &bytes[..32]);
        assert_eq!(bytes[32..], mac.as_bytes()[..16]);
    }
}
