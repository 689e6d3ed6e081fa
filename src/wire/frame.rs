//! Writing a whole plaintext: shim, header, body, padding.

use super::body::{Overflow, Writer};
use super::header::Header;
use super::shim;
use crate::limits::{HEADER_BYTES, PLAINTEXT_MIN, SHIM_BYTES};

/// Bytes in front of the body.
const PREFIX_BYTES: usize = SHIM_BYTES + HEADER_BYTES;

/// Writes a plaintext into `out` and returns its length.
///
/// `out` is as long as the plaintext may become: the path's and the peer's limit.
/// At least 20 bytes are written (zeros behind a shorter frame); the shim's
/// length does not count them.
pub fn encode(
    out: &mut [u8],
    header: Header,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Result<usize, Overflow> {
    let room = out.len().min(usize::from(u16::MAX));
    let out = &mut out[..room];
    let (prefix, rest) = out.split_at_mut_checked(PREFIX_BYTES).ok_or(Overflow)?;
    let mut writer = Writer::new(rest);
    body(&mut writer)?;
    let total = PREFIX_BYTES + writer.len();
    let length = u16::try_from(total).map_err(|_| Overflow)?;
    prefix[..SHIM_BYTES].copy_from_slice(&shim::bytes(length));
    prefix[SHIM_BYTES..].copy_from_slice(&header.to_bytes());
    if total < PLAINTEXT_MIN {
        out.get_mut(total..PLAINTEXT_MIN).ok_or(Overflow)?.fill(0);
        return Ok(PLAINTEXT_MIN);
    }
    Ok(total)
}
