//! Relay channel data: `05 | flags 0 | u16 generation | u32 channel | one WireGuard message`.

use super::Class;
use crate::drops::Drop;

/// First byte of channel data.
pub const TYPE: u8 = 5;
/// Bytes in front of the WireGuard message.
pub const HEADER_BYTES: usize = 8;
/// Data messages up to this size ride in the control class: keepalives, and what is as small.
const URGENT_BYTES_MAX: usize = 128;

/// A leg of a relay channel, as its peer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Which of the id's tenants is meant.
    pub generation: u16,
    /// Shard in the top bits; the rest is random.
    pub id: u32,
}

impl Channel {
    /// Reads the header of a datagram whose first byte is [`TYPE`].
    ///
    /// # Errors
    /// [`Drop::BadLength`] if there is no whole header, [`Drop::RelayShape`] for another type or flags.
    #[inline]
    pub fn read(datagram: &[u8]) -> Result<Self, Drop> {
        match datagram.first_chunk::<HEADER_BYTES>() {
            Some(&[TYPE, 0, g0, g1, c0, c1, c2, c3]) => Ok(Self {
                generation: u16::from_be_bytes([g0, g1]),
                id: u32::from_be_bytes([c0, c1, c2, c3]),
            }),
            Some(_) => Err(Drop::RelayShape),
            None => Err(Drop::BadLength),
        }
    }

    /// Writes the header.
    #[inline]
    pub const fn write(self, out: &mut [u8; HEADER_BYTES]) {
        let [g0, g1] = self.generation.to_be_bytes();
        let [c0, c1, c2, c3] = self.id.to_be_bytes();
        *out = [TYPE, 0, g0, g1, c0, c1, c2, c3];
    }
}

/// The class that a relayed message rides in.
///
/// # Errors
/// [`Drop::RelayShape`] if it has not the shape of a WireGuard message: type with zero reserved
/// bytes, and its exact (1: 148, 2: 92, 3: 64 bytes) or least (4: 32 bytes) length.
#[inline]
pub fn inner(message: &[u8]) -> Result<Class, Drop> {
    match (message.first_chunk::<4>(), message.len()) {
        (Some([4, 0, 0, 0]), 32..=URGENT_BYTES_MAX)
        | (Some([1, 0, 0, 0]), 148)
        | (Some([2, 0, 0, 0]), 92)
        | (Some([3, 0, 0, 0]), 64) => Ok(Class::Control),
        (Some([4, 0, 0, 0]), 32..) => Ok(Class::Coordination),
        (Some(_) | None, _) => Err(Drop::RelayShape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_flags_are_refused() {
        let channel = Channel { generation: 0x1234, id: 0xDEAD_BEEF };
        let mut bytes = [0xFF; HEADER_BYTES];
        channel.write(&mut bytes);
        assert_eq!(bytes, [5, 0, 0x12, 0x34, 0xDE, 0xAD, 0xBE, 0xEF]);
        assert_eq!(Channel::read(&bytes), Ok(channel));
        for flag in 0..8 {
            let mut flagged = bytes;
            flagged[1] = 1 << flag;
            assert_eq!(Channel::read(&flagged), Err(Drop::RelayShape));
        }
        for len in 0..HEADER_BYTES {
            assert_eq!(Channel::read(&bytes[..len]), Err(Drop::BadLength), "{len}");
        }
    }

    #[test]
    fn only_what_has_wireguards_shape_is_relayed() {
        for kind in 0..=255_u8 {
            for len in (0..200).chain([1232, 1472, 65_000]) {
                let mut message = vec![0xAA; len];
                message[..len.min(4)].copy_from_slice(&[kind, 0, 0, 0][..len.min(4)]);
                let expected = match (kind, len) {
                    (1, 148) | (2, 92) | (3, 64) | (4, 32..=128) => Ok(Class::Control),
                    (4, 129..) => Ok(Class::Coordination),
                    _ => Err(Drop::RelayShape),
                };
                assert_eq!(inner(&message), expected, "type {kind}, {len} bytes");
            }
        }
        for reserved in 1..4 {
            let mut message = vec![4, 0, 0, 0, 1, 1, 1, 1];
            message.resize(64, 0);
            message[reserved] = 1;
            assert_eq!(inner(&message), Err(Drop::RelayShape));
        }
    }
}
