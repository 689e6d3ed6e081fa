//! The question that proves an address: a PING with a random token, sent to it.

use crate::time::Now;
use crate::wire::body::Ping;
use crate::wire::frame;
use crate::wire::header::Header;
use crate::wire::kind::Kind;

/// Room for the largest challenge: shim, header, clock and token.
pub(super) const CHALLENGE_BYTES: usize = 48;

/// What the challenge with this token, and so its answer, goes by.
pub(super) fn correlation(token: u64) -> u32 {
    let [a, b, c, d, ..] = token.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Writes the challenge and returns its length. The answer is recognized by its token; the
/// correlation is the token's lower half.
pub(super) fn write(now: Now, token: u64, out: &mut [u8; CHALLENGE_BYTES]) -> usize {
    let header = Header::request(Kind::Ping, correlation(token));
    let ping = Ping { now_unix_ms: now.unix_ms, padding: &[], token };
    frame::encode(out, header, |body| ping.write(body))
        .expect("a challenge has two varints, and room for both")
}
