//! STUN Binding (RFC 8489): a request is read, and answered with the address it came from.
//!
//! No authentication and no other method. An attribute that a server has to understand and that
//! means nothing here is answered with error 420, as section 6.3.1 wants it; the ones of
//! authentication are understood in so far as nobody asked for them.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

/// Bytes of a message's header.
const HEADER_BYTES: usize = 20;
/// What follows the length of every message.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];
const ERROR: [u8; 2] = [0x01, 0x11];
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM,
/// USERHASH: a server that asks for no credentials passes them over.
const PASSED_OVER: [u16; 7] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E];
/// Attributes from here on may be ignored.
const OPTIONAL: u16 = 0x8000;
/// What a FINGERPRINT is XORed with.
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Unknown attributes that an answer names.
const UNKNOWN_MAX: usize = 8;
/// "Unknown Attribute", as 420 is called.
const REASON: &[u8; 17] = b"Unknown Attribute";
/// Header, ERROR-CODE with its reason (padded), UNKNOWN-ATTRIBUTES, FINGERPRINT.
const ANSWER_BYTES_MAX: usize = HEADER_BYTES + (4 + 4 + 20) + (4 + 2 * UNKNOWN_MAX) + 8;

/// An answer, ready to send.
pub type Answer = ArrayVec<u8, ANSWER_BYTES_MAX>;

/// A Binding request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    transaction: [u8; 12],
    /// Whether it had a FINGERPRINT, so that the answer has one.
    fingerprint: bool,
    /// Attributes that had to be understood and were not.
    unknown: ArrayVec<u16, UNKNOWN_MAX>,
}

/// A request that does not parse; it gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Whether `bytes` begin as a Binding request does.
pub fn is_request(bytes: &[u8]) -> bool {
    bytes.starts_with(&REQUEST) && bytes.get(4..8) == Some(&COOKIE)
}

impl Request {
    /// Reads a datagram that [begins](is_request) as a Binding request.
    ///
    /// # Errors
    /// If its length is not what it says, an attribute goes beyond it, or its FINGERPRINT is wrong
    /// or not the last.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !is_request(bytes) || length != rest.len() || !length.is_multiple_of(4) {
            return Err(Malformed);
        }
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let mut request = Self { transaction, fingerprint: false, unknown: ArrayVec::new() };
        while let Some(([t0, t1, l0, l1], value)) = rest.split_first_chunk::<4>() {
            let kind = u16::from_be_bytes([*t0, *t1]);
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let value_at = bytes.len() - value.len();
            let after = value.get(length.next_multiple_of(4)..).ok_or(Malformed)?;
            if kind == FINGERPRINT {
                let sum = value.first_chunk::<4>().filter(|_| length == 4 && after.is_empty());
                let right = fingerprint(&bytes[..value_at - 4]).to_be_bytes();
                if sum != Some(&right) {
                    return Err(Malformed);
                }
                request.fingerprint = true;
            } else if kind < OPTIONAL && !PASSED_OVER.contains(&kind) {
                // More of them change nothing.
                let _ = request.unknown.try_push(kind);
            }
            rest = after;
        }
        Ok(request)
    }

    /// The answer to it, for whoever is seen at `from`.
    pub fn answer(&self, from: SocketAddr) -> Answer {
        let mut answer = Answer::new();
        let kind = if self.unknown.is_empty() { SUCCESS } else { ERROR };
        push(&mut answer, &kind);
        push(&mut answer, &[0; 2]);
        push(&mut answer, &COOKIE);
        push(&mut answer, &self.transaction);
        if self.unknown.is_empty() {
            self.mapped(&mut answer, from);
        } else {
            self.refusal(&mut answer);
        }
        if self.fingerprint {
            set_length(&mut answer, 8);
            let sum = fingerprint(&answer);
            attribute(&mut answer, FINGERPRINT, &sum.to_be_bytes());
        }
        set_length(&mut answer, 0);
        answer
    }

    fn mapped(&self, answer: &mut Answer, from: SocketAddr) {
        let [p0, p1] = from.port().to_be_bytes();
        let port = [p0 ^ COOKIE[0], p1 ^ COOKIE[1]];
        let mut value = ArrayVec::<u8, 20>::new();
        let (family, octets): (u8, ArrayVec<u8, 16>) = match from.ip().to_canonical() {
            IpAddr::V4(ip) => (1, ip.octets().into_iter().collect()),
            IpAddr::V6(ip) => (2, ip.octets().into_iter().collect()),
        };
        value.extend([0, family, port[0], port[1]]);
        let pad = COOKIE.iter().chain(&self.transaction);
        value.extend(octets.iter().zip(pad).map(|(octet, pad)| octet ^ pad));
        attribute(answer, XOR_MAPPED_ADDRESS, &value);
    }

    fn refusal(&self, answer: &mut Answer) {
        let mut value = ArrayVec::<u8, { 4 + REASON.len() }>::new();
        value.extend([0, 0, 4, 20]);
        value.extend(*REASON);
        attribute(answer, ERROR_CODE, &value);
        let unknown: ArrayVec<u8, { 2 * UNKNOWN_MAX }> =
            self.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        attribute(answer, UNKNOWN_ATTRIBUTES, &unknown);
    }
}

/// Appends what there is room for by [`ANSWER_BYTES_MAX`].
fn push(answer: &mut Answer, bytes: &[u8]) {
    let fits = answer.try_extend_from_slice(bytes);
    debug_assert!(fits.is_ok(), "the largest answer is counted");
}

fn attribute(answer: &mut Answer, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    push(answer, &kind.to_be_bytes());
    push(answer, &length.to_be_bytes());
    push(answer, value);
    let padding = value.len().next_multiple_of(4) - value.len();
    push(answer, &[0; 3][..padding]);
}

/// Writes the length of what follows the header and of `more` bytes to come.
fn set_length(answer: &mut Answer, more: usize) {
    let length = answer.len() - HEADER_BYTES + more;
    answer[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

/// The CRC-32 of ITU V.42 over `bytes`, XORed with what tells it from others.
fn fingerprint(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc ^ FINGERPRINT_XOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRANSACTION: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&REQUEST[..], &length, &COOKIE, &TRANSACTION, attributes].concat()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    /// RFC 5769, sections 2.1 to 2.3, with their transaction id and addresses.
    #[test]
    fn the_test_vectors_are_those_of_rfc_5769() {
        let sample = hex("000100582112a442b7e7a701bc34d686fa87dfae
             80220010 5354554e 20746573 7420636c 69656e74  00240004 6e0001ff
             80290008 932ff9b1 51263b36  00060009 6576746a 3a683676 59202020
             00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2  80280004 e57a3bcf");
        let unknown = Request::read(&sample).unwrap();
        // PRIORITY is ICE's, and has to be understood.
        assert_eq!(unknown.unknown[..], [0x0024]);
        assert!(unknown.fingerprint);
        let v4 = Request::read(&request(&[])).unwrap().answer("192.0.2.1:32853".parse().unwrap());
        assert_eq!(v4[..2], SUCCESS);
        assert_eq!(v4[HEADER_BYTES..], hex("0020 0008 0001 a147 e112a643"));
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let v6 = Request::read(&request(&[])).unwrap().answer(v6);
        let wanted = hex("0020 0014 0002 a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9");
        assert_eq!(v6[HEADER_BYTES..], wanted);
    }

    #[test]
    fn an_answer_has_a_fingerprint_if_the_request_had_one() {
        let mut with = request(&[0; 8]);
        with[HEADER_BYTES..][..4].copy_from_slice(&[0x80, 0x28, 0, 4]);
        let sum = fingerprint(&with[..HEADER_BYTES]).to_be_bytes();
        with[HEADER_BYTES + 4..].copy_from_slice(&sum);
        let answer = Request::read(&with).unwrap().answer("192.0.2.1:1".parse().unwrap());
        let (rest, last) = answer.split_at(answer.len() - 8);
        assert_eq!(last[..4], [0x80, 0x28, 0, 4]);
        assert_eq!(last[4..], fingerprint(rest).to_be_bytes());
        assert_eq!(usize::from(answer[3]), answer.len() - HEADER_BYTES);
        with[HEADER_BYTES + 4] ^= 1;
        assert_eq!(Request::read(&with), Err(Malformed));
    }

    #[test]
    fn what_has_to_be_understood_and_is_not_is_named() {
        // CHANGE-REQUEST of RFC 5780, USERNAME with padding, SOFTWARE.
        let attributes = hex("0003 0004 00000006  0006 0001 61000000  8022 0001 62000000");
        let answer = Request::read(&request(&attributes)).unwrap();
        let answer = answer.answer("192.0.2.1:1".parse().unwrap());
        assert_eq!(answer[..2], ERROR);
        assert_eq!(answer[8..HEADER_BYTES], TRANSACTION);
        assert_eq!(answer[HEADER_BYTES..][..8], hex("0009 0015 0000 0414"));
        assert_eq!(answer[answer.len() - 8..], hex("000a 0002 0003 0000"));
        let many: Vec<u8> = (1..=20).flat_map(|kind| [0x7F, kind, 0, 0]).collect();
        let answer = Request::read(&request(&many)).unwrap();
        assert_eq!(answer.unknown.len(), UNKNOWN_MAX);
        answer.answer("[2001:db8::1]:1".parse().unwrap());
    }

    #[test]
    fn lengths_have_to_be_right() {
        let whole = request(&hex("8022 0001 62000000"));
        assert!(Request::read(&whole).is_ok());
        for len in 0..whole.len() {
            assert_eq!(Request::read(&whole[..len]), Err(Malformed), "{len}");
        }
        assert_eq!(Request::read(&[&whole[..], &[0]].concat()), Err(Malformed));
        assert_eq!(Request::read(&request(&hex("8022 0005 62000000"))), Err(Malformed));
        assert_eq!(Request::read(&request(&[0x80, 0x22])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_attributes_panic(mut attributes in proptest::collection::vec(any::<u8>(), 0..200)) {
            attributes.truncate(attributes.len() / 4 * 4);
            if let Ok(read) = Request::read(&request(&attributes)) {
                let answer = read.answer("192.0.2.1:1".parse().unwrap());
                let length = u16::from_be_bytes([answer[2], answer[3]]);
                prop_assert_eq!(usize::from(length) + HEADER_BYTES, answer.len());
            }
        }
    }
}
