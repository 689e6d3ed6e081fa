//! Datagrams and the paths they take.
//!
//! The types are the data path's own (crate `uring`, where the kernel fills
//! them in); this is the one place below the ports that names that crate, so
//! that a datagram is never converted on its way.

use std::net::IpAddr;

pub use uring::{Datagram, Local, Path, Transmit};

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
}
