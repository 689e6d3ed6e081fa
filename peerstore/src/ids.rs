//! Names of things in the store, each its own type so that they cannot be mixed up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::layout::{Field, Malformed, NoRoom, Reader, Writer};

macro_rules! ids {
    ($($(#[$about:meta])* $name:ident)*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, "..)")
            }
        }

        impl Field<'_> for $name {
            const BYTES_MAX: usize = 32;

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.take().map(Self)
            }

            fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
                to.put(&self.0)
            }
        }
    )*};
}

ids! {
    /// A peer of the overlay: BLAKE3 of its Ed25519 public key.
    PeerId
    /// A WireGuard (X25519) public key.
    WgKey
    /// An Ed25519 public key.
    SigningKey
    /// Where a value or its providers are stored in the overlay.
    Key
}

/// An IP network: an address of which the first so many bits count and the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    ip: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// The network of this address and prefix length; `None` if the length is above the family's
    /// or the address has a bit behind the prefix, so that a network has one name only.
    pub fn new(ip: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (bits, width) = match ip {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let behind = bits.checked_shl(prefix_bits.into()).unwrap_or(0);
        (prefix_bits <= width && behind == 0).then_some(Self { ip, prefix_bits })
    }

    /// Its first address.
    pub const fn ip(self) -> IpAddr {
        self.ip
    }

    /// How many bits of the address count.
    pub const fn prefix_bits(self) -> u8 {
        self.prefix_bits
    }
}

/// Family (4 or 6), prefix length, then 16 bytes of address, of which IPv4 uses the first four.
impl Field<'_> for Network {
    const BYTES_MAX: usize = 1 + 1 + 16;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (family, prefix_bits, address) = (u8::read(from)?, u8::read(from)?, from.take()?);
        let ip = match (family, address) {
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => IpAddr::from([a, b, c, d]),
            (6, address) => IpAddr::from(address),
            _ => return Err(Malformed::BadValue),
        };
        Self::new(ip, prefix_bits).ok_or(Malformed::BadValue)
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        let mut address = [0; 16];
        let family: u8 = match self.ip {
            IpAddr::V4(v4) => {
                address[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                address = v6.octets();
                6
            }
        };
        family.write(to)?;
        self.prefix_bits.write(to)?;
        to.put(&address)
    }
}

/// Family (4 or 6; 0 for none, and then zeros), 16 bytes of address, of which IPv4 uses the first
/// four, and the port, which is not 0. Interface scope and flow label are not kept.
impl Field<'_> for Option<SocketAddr> {
    const BYTES_MAX: usize = 1 + 16 + 2;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (family, address, port) = (u8::read(from)?, from.take::<16>()?, u16::read(from)?);
        let ip = match (family, address) {
            (0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) if port == 0 => return Ok(None),
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => IpAddr::from([a, b, c, d]),
            (6, address) => IpAddr::from(address),
            _ => return Err(Malformed::BadValue),
        };
        if port == 0 { Err(Malformed::BadValue) } else { Ok(Some(SocketAddr::new(ip, port))) }
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        let (family, address, port): (u8, [u8; 16], u16) = match self {
            None => (0, [0; 16], 0),
            Some(SocketAddr::V4(v4)) => {
                let mut address = [0; 16];
                address[..4].copy_from_slice(&v4.ip().octets());
                (4, address, v4.port())
            }
            Some(SocketAddr::V6(v6)) => (6, v6.ip().octets(), v6.port()),
        };
        family.write(to)?;
        to.put(&address)?;
        port.write(to)
    }
}
