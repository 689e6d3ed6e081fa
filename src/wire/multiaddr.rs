//! Socket addresses as multiaddr: ip4 or ip6, then udp, optionally certhash.
//!
//! Only what the protocol allows is read: minimal codes, nothing behind. An
//! IPv4-mapped address is IPv4, in both directions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const IP4: u8 = 0x04;
const IP6: u8 = 0x29;
/// 273 as varint.
const UDP: [u8; 2] = [0x91, 0x02];
/// 466 as varint.
const CERTHASH: [u8; 2] = [0xD2, 0x03];

/// ip6 and udp.
const BYTES_MAX: usize = 1 + 16 + 2 + 2;

/// A socket address in wire form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Multiaddr {
    len: u8,
    bytes: [u8; BYTES_MAX],
}

/// Bytes that are not an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMultiaddr;

/// The wire form of `addr`.
pub fn encode(addr: SocketAddr) -> Multiaddr {
    let port = addr.port().to_be_bytes();
    let mut bytes = [0; BYTES_MAX];
    let len = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => {
            bytes[0] = IP4;
            bytes[1..5].copy_from_slice(&ip.octets());
            bytes[5..7].copy_from_slice(&UDP);
            bytes[7..9].copy_from_slice(&port);
            9
        }
        IpAddr::V6(ip) => {
            bytes[0] = IP6;
            bytes[1..17].copy_from_slice(&ip.octets());
            bytes[17..19].copy_from_slice(&UDP);
            bytes[19..21].copy_from_slice(&port);
            21
        }
    };
    Multiaddr { len, bytes }
}

/// The address that `bytes` stand for; a certhash at the end is not looked into.
pub fn decode(bytes: &[u8]) -> Result<SocketAddr, BadMultiaddr> {
    let (ip, rest) = match bytes.split_first() {
        Some((&IP4, rest)) => {
            let (octets, rest) = rest.split_first_chunk::<4>().ok_or(BadMultiaddr)?;
            (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
        }
        Some((&IP6, rest)) => {
            let (octets, rest) = rest.split_first_chunk::<16>().ok_or(BadMultiaddr)?;
            (Ipv6Addr::from(*octets).to_canonical(), rest)
        }
        Some(_) | None => return Err(BadMultiaddr),
    };
    let (udp, rest) = rest.split_first_chunk::<4>().ok_or(BadMultiaddr)?;
    let [code @ .., high, low] = udp;
    if *code != UDP || !is_certhash_or_end(rest) {
        return Err(BadMultiaddr);
    }
    Ok(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])))
}

/// `certhash` is a length and as many bytes; a field's maximum keeps it below 128.
fn is_certhash_or_end(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [c0, c1, len @ 1..=0x7F, hash @ ..] => {
            [*c0, *c1] == CERTHASH && hash.len() == usize::from(*len)
        }
        _ => false,
    }
}

impl AsRef<[u8]> for Multiaddr {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Multiaddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", decode(self.as_ref()))
    }
}
