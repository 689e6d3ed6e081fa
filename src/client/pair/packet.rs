//! What two peers say inside their tunnel: a length that engines take for IPv4's, one byte that
//! says what it is, and the rest.
//!
//! `4D 00 | u16 length of all of it | kind`; kind 0 is the application's datagram, 1 a [`Hello`].
//! Engines hand up nothing below 20 bytes, so what is shorter is padded with zeros behind its length.

use crate::limits::{PLAINTEXT_BASE, PLAINTEXT_MIN};
use crate::wire::body::{IdentityBinding, Overflow, Writer};

/// In front of what is carried.
const HEAD_BYTES: usize = 5;
/// Longest datagram of an application that every path carries, relayed or not: the relay puts 8
/// bytes in front.
pub const PAYLOAD_MAX: usize = PLAINTEXT_BASE - HEAD_BYTES - crate::wire::channel::HEADER_BYTES;
/// A hello that is longer is none.
const HELLO_BYTES_MAX: usize = 400;

const DATA: u8 = 0;
const HELLO: u8 = 1;

/// A plaintext of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The application's.
    Data(&'a [u8]),
    /// Who the other side is.
    Hello(Hello),
}

/// A side's own word that the tunnel's key is its key: the router that told the key to the other
/// side is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The other's has come: it need not be repeated.
    pub(super) seen: bool,
    /// The other said so too: nothing is waited for.
    pub(super) done: bool,
    /// Whose key the tunnel speaks through.
    pub(super) binding: IdentityBinding,
}

/// A plaintext that carries a datagram.
pub(super) fn data(payload: &[u8]) -> Vec<u8> {
    plaintext(DATA, &[payload])
}

/// A plaintext that carries a hello.
pub(super) fn hello(hello: &Hello) -> Result<Vec<u8>, Overflow> {
    let mut body = [0; HELLO_BYTES_MAX];
    let mut out = Writer::new(&mut body);
    hello.binding.write(&mut out)?;
    let len = out.len();
    let flags = u8::from(hello.seen) | u8::from(hello.done) << 1;
    Ok(plaintext(HELLO, &[&[flags], &body[..len]]))
}

/// What a plaintext carries, if it is one of ours.
pub(super) fn open(plaintext: &[u8]) -> Option<Packet<'_>> {
    let &[b'M', 0, high, low, kind, ..] = plaintext else { return None };
    let rest = plaintext.get(HEAD_BYTES..usize::from(u16::from_be_bytes([high, low])))?;
    match (kind, rest) {
        (DATA, payload) => Some(Packet::Data(payload)),
        (HELLO, [flags @ 0..=3, binding @ ..]) => {
            let binding = IdentityBinding::read(binding).ok()?;
            Some(Packet::Hello(Hello { seen: flags & 1 != 0, done: flags & 2 != 0, binding }))
        }
        _ => None,
    }
}

fn plaintext(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let total = HEAD_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
    let [high, low] = u16::try_from(total).unwrap_or(u16::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(total.max(PLAINTEXT_MIN));
    bytes.extend([b'M', 0, high, low, kind]);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(total.max(PLAINTEXT_MIN), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::identity;

    #[test]
    fn what_is_carried_comes_back() {
        for payload in [&b""[..], b"x", &[7; PAYLOAD_MAX]] {
            let bytes = data(payload);
            assert!(bytes.len() >= PLAINTEXT_MIN && bytes.len() <= PLAINTEXT_BASE);
            assert_eq!(open(&bytes), Some(Packet::Data(payload)));
        }
        let said = Hello { seen: true, done: false, binding: identity(3).binding(1, 2) };
        assert_eq!(open(&hello(&said).unwrap()), Some(Packet::Hello(said)));
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for bytes in [&b"M"[..], b"M\0\0\x04\0", b"M\0\0\x05\x02", b"M\0\0\xff\0", b"E\0\0\x05\0"] {
            assert_eq!(open(bytes), None, "{bytes:?}");
        }
        assert_eq!(open(b"M\0\0\x06\x01\x04"), None, "a hello with a flag that is none");
    }
}
