//! The four bytes that make a frame acceptable to WireGuard engines.
//!
//! Engines hand up IP packets only; `4D 00` has the version nibble of IPv4 and
//! the total length stands where IPv4 has it, so a frame survives them, and
//! their padding comes off with the length.

use crate::drops::Drop;
use crate::limits::{HEADER_BYTES, SHIM_BYTES};

/// First byte: 'M', and the nibble of IPv4.
const MARK: u8 = 0x4D;

/// The frame (header and body) of a decrypted plaintext, its padding cut off.
///
/// The result has at least the 12 bytes of a header. A plaintext of another
/// shape is [`Drop::IpPacket`] or [`Drop::BadShim`].
pub fn open(plaintext: &[u8]) -> Result<&[u8], Drop> {
    match *plaintext {
        [MARK, 0, high, low, ..] => {
            let total = usize::from(u16::from_be_bytes([high, low]));
            if total < SHIM_BYTES + HEADER_BYTES {
                return Err(Drop::BadShim);
            }
            plaintext.get(SHIM_BYTES..total).ok_or(Drop::BadShim)
        }
        // Too short to tell; no engine hands that up.
        [MARK] | [MARK, 0, ..] => Err(Drop::BadShim),
        [first, ..] if matches!(first >> 4, 4 | 6) => Err(Drop::IpPacket),
        _ => Err(Drop::BadShim),
    }
}

/// The shim of a plaintext of `total` bytes, shim and header included.
pub(super) const fn bytes(total: u16) -> [u8; SHIM_BYTES] {
    let [high, low] = total.to_be_bytes();
    [MARK, 0, high, low]
}
