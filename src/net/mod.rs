//! Datagrams and the paths they take.
//!
//! The types are the data path's own (crate `uring`, where the kernel fills
//! them in); this is the one place below the ports that names that crate, so
//! that a datagram is never converted on its way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub mod target;

/// What an engine says of itself, for the counters.
pub use uring::{Achieved, Engine, ErrorKind, Feature, Missing, Reason, Stats, TxMode};
pub use uring::{Datagram, Local, Path, Transmit};

/// Where a router's datagrams go. A closure is an outlet that always has room.
pub trait Outlet {
    /// Takes one more. Beyond the [`room`](Self::room) it may be dropped, and counted.
    fn send(&mut self, transmit: Transmit);

    /// How many more are safe to send now; what has a queue to wait in stays there meanwhile.
    fn room(&self) -> usize {
        usize::MAX
    }
}

impl<F: FnMut(Transmit)> Outlet for F {
    #[inline]
    fn send(&mut self, transmit: Transmit) {
        self(transmit);
    }
}

/// The network a limit is charged to: /24 of IPv4, /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(pub [u8; 7]);

impl Prefix {
    /// The prefix that `ip` belongs to.
    pub fn of(ip: IpAddr) -> Self {
        let mut bytes = [0; 7];
        match ip {
            IpAddr::V4(v4) => {
                bytes[0] = 4;
                bytes[1..4].copy_from_slice(&v4.octets()[..3]);
            }
            IpAddr::V6(v6) => {
                bytes[0] = 6;
                bytes[1..].copy_from_slice(&v6.octets()[..6]);
            }
        }
        Self(bytes)
    }

    /// Whether it is one of IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 4
    }
}

/// The network that is one host's: an address of IPv4, a /64 of IPv6.
pub fn host_network(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

/// A socket address in 18 bytes, IPv4 in its IPv6-mapped form: what cookies bind and what
/// memories of addresses keep. Interface scope and flow label are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u8; 18]);

impl Address {
    /// The compact form of `addr`.
    pub fn of(addr: &SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
        Self(bytes)
    }

    /// The address as sockets take it, an IPv4-mapped one as IPv4.
    pub fn socket(&self) -> SocketAddr {
        let [ip @ .., high, low] = self.0;
        let port = u16::from_be_bytes([high, low]);
        SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port)
    }
}

/// How far an address means the same thing (RFC 4007, RFC 6890), the nearest first: who is seen
/// in one scope can use addresses of that one and of those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This host.
    Loopback,
    /// Some network's own: private, link-local, shared (CGNAT), benchmark and documentation ranges.
    Private,
    /// Everywhere.
    Global,
}

impl Scope {
    /// The scope of `ip`, IPv4-mapped addresses taken for what they map. An address nobody can
    /// be reached at (unspecified, multicast, reserved) passes for private.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) if v4.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if special_v4(v4) => Self::Private,
            IpAddr::V6(v6) if v6.is_loopback() => Self::Loopback,
            IpAddr::V6(v6) if special_v6(v6) => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Global,
        }
    }
}

fn special_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || matches!(
            (a, b, c),
            (0 | 224.., _, _) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _)
        )
}

fn special_v6(ip: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3; documentation and the transition mechanisms that embed an
    // IPv4 address (6to4, Teredo) lie inside it.
    match ip.segments() {
        [0x2001, 0x0 | 0xdb8, ..] | [0x2002, ..] => true,
        [first, ..] => first >> 13 != 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_follow_the_registries() {
        let scope = |ip: &str| Scope::of(ip.parse().unwrap());
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(scope(ip), Scope::Loopback, "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "198.19.0.1",
            "192.0.2.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001::1",
            "64:ff9b::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(scope(ip), Scope::Private, "{ip}");
        }
        for ip in ["1.1.1.1", "100.128.0.1", "198.20.0.1", "223.255.255.1", "2606:4700::1111"] {
            assert_eq!(scope(ip), Scope::Global, "{ip}");
        }
    }
}
