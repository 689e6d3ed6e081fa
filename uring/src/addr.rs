//! Socket addresses as the kernel writes them.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family's address.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn domain(self) -> libc::c_int {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// A `sockaddr_in` or `sockaddr_in6`, at a stable address while the kernel reads it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub(crate) bytes: [u8; NAME_BYTES],
    pub(crate) len: u32,
}

impl Name {
    pub(crate) const EMPTY: Self = Self { bytes: [0; NAME_BYTES], len: 0 };

    /// Writes `peer` for a socket of `family`: IPv4 goes to an IPv6 socket as a mapped address.
    /// An IPv6 peer of an IPv4 socket is written as it is; the kernel refuses it.
    #[inline]
    pub(crate) fn set(&mut self, family: Family, peer: SocketAddr) {
        match (family, peer) {
            (Family::V4, SocketAddr::V4(v4)) => self.set_v4(v4),
            (Family::V6, SocketAddr::V4(v4)) => self.set_v6(v4.ip().to_ipv6_mapped(), v4.port(), 0),
            (_, SocketAddr::V6(v6)) => self.set_v6(*v6.ip(), v6.port(), v6.scope_id()),
        }
    }

    fn set_v4(&mut self, peer: SocketAddrV4) {
        const { assert!(offset_of!(libc::sockaddr_in, sin_port) == 2) };
        const { assert!(offset_of!(libc::sockaddr_in, sin_addr) == 4) };
        self.bytes[..2].copy_from_slice(&family_bytes(libc::AF_INET));
        self.bytes[2..4].copy_from_slice(&peer.port().to_be_bytes());
        self.bytes[4..8].copy_from_slice(&peer.ip().octets());
        self.bytes[8..16].fill(0);
        self.len = 16;
    }

    fn set_v6(&mut self, ip: Ipv6Addr, port: u16, scope: u32) {
        const { assert!(offset_of!(libc::sockaddr_in6, sin6_flowinfo) == 4) };
        const { assert!(offset_of!(libc::sockaddr_in6, sin6_addr) == 8) };
        const { assert!(offset_of!(libc::sockaddr_in6, sin6_scope_id) == 24) };
        self.bytes[..2].copy_from_slice(&family_bytes(libc::AF_INET6));
        self.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        self.bytes[4..8].fill(0);
        self.bytes[8..24].copy_from_slice(&ip.octets());
        self.bytes[24..28].copy_from_slice(&scope.to_ne_bytes());
        self.len = 28;
    }
}

/// Reads a name; mapped addresses come out as IPv4, flow labels are dropped.
#[inline]
pub(crate) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddr::V4(SocketAddrV4::new(ip.into(), port)))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(match Ipv6Addr::from(ip).to_ipv4_mapped() {
                Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip.into(), port, 0, scope)),
            })
        }
        _ => None,
    }
}

/// Whether an answer may leave from `ip`: not from the group or broadcast
/// address that a datagram was sent to.
pub(crate) fn is_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    }
}

fn family_bytes(family: libc::c_int) -> [u8; 2] {
    let [low, high, ..] = family.to_le_bytes();
    u16::from_le_bytes([low, high]).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(family: Family, peer: &str) -> Option<SocketAddr> {
        let mut name = Name { bytes: [0xAA; NAME_BYTES], len: 0 };
        name.set(family, peer.parse().unwrap());
        decode(&name.bytes[..name.len as usize])
    }

    #[test]
    fn addresses_come_back_as_they_went() {
        for (family, peer) in [
            (Family::V4, "192.0.2.7:7743"),
            (Family::V6, "192.0.2.7:7743"),
            (Family::V6, "[2001:db8::1]:1"),
            (Family::V6, "[fe80::1%3]:65535"),
        ] {
            assert_eq!(through(family, peer), Some(peer.parse().unwrap()), "{peer}");
        }
    }

    #[test]
    fn a_mapped_peer_is_ipv4_and_nonsense_is_nobody() {
        let mapped = through(Family::V6, "[::ffff:192.0.2.7]:9");
        assert_eq!(mapped, Some("192.0.2.7:9".parse().unwrap()));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0; 28]), None);
        let mut name = Name::EMPTY;
        name.set(Family::V6, "[::1]:1".parse().unwrap());
        for short in 0..28 {
            assert_eq!(decode(&name.bytes[..short]), None, "{short}");
        }
    }

    #[test]
    fn answers_do_not_leave_from_group_addresses() {
        for ip in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"] {
            assert!(!is_source(ip.parse().unwrap()), "{ip}");
        }
        assert!(is_source("127.0.0.2".parse().unwrap()) && is_source("fe80::1".parse().unwrap()));
    }
}
