//! The plaintexts that are sent: requests of exact sizes, written fast.

use crate::ids::PeerId;
use crate::limits::PLAINTEXT_MIN;
use crate::wire::body::{Capabilities, FindNodeReq, NegotiateReq, Ping, feature};
use crate::wire::header::{Header, VERSION};
use crate::wire::kind::Kind;
use crate::wire::{self};

use super::fleet::plaintext_bytes;

/// A varint of full length, so that every PING has the same size.
const TOKEN: u64 = 1 << 63;
/// As long as any of this century.
const UNIX_MS: u64 = 1_800_000_000_000;

/// A PING that fills a datagram of exactly so many bytes.
///
/// # Errors
/// The size cannot be had.
pub(super) fn ping(datagram_bytes: usize) -> Result<Vec<u8>, String> {
    let wanted = plaintext_bytes(datagram_bytes);
    let made = (0..=wanted).find_map(|padding| {
        let padding = vec![0; padding];
        let ping = Ping { now_unix_ms: UNIX_MS, padding: &padding, token: TOKEN };
        let plaintext = encode(Kind::Ping, |out| ping.write(out));
        (plaintext.len() == wanted).then_some(plaintext)
    });
    made.ok_or_else(|| format!("no PING is {datagram_bytes} bytes long"))
}

/// A NEGOTIATE_REQ that asks for chunked answers.
pub(super) fn negotiate() -> Vec<u8> {
    let want = Capabilities {
        version: u32::from(VERSION),
        bitmap: feature::STREAMING_CHUNKS,
        max_msg_bytes: 1200,
    };
    let request = NegotiateReq { want: Some(want), ..NegotiateReq::default() };
    encode(Kind::NegotiateReq, |out| request.write(out))
}

/// A FIND_NODE_REQ.
pub(super) fn find_node(target: PeerId, limit: u32) -> Vec<u8> {
    encode(Kind::FindNodeReq, |out| FindNodeReq { target_id: target, limit }.write(out))
}

fn encode(
    kind: Kind,
    body: impl FnOnce(&mut wire::body::Writer<'_>) -> Result<(), wire::body::Overflow>,
) -> Vec<u8> {
    let mut plaintext = [0; 1440];
    let len = wire::encode(&mut plaintext, Header::request(kind, 1), body);
    let len = len.unwrap_or(PLAINTEXT_MIN);
    plaintext[..len].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_have_their_size() {
        for bytes in [100, 1200] {
            assert_eq!(ping(bytes).unwrap().len(), plaintext_bytes(bytes));
        }
        assert!(ping(60).is_err(), "less than a PING without padding");
    }
}
