//! What a pair's datagrams look like on their way to a relay, and when they come out of it.

use std::net::SocketAddr;

use crate::wire::channel::{Channel, HEADER_BYTES};

/// Bytes in front of the message in channel data of TURN (RFC 8656, section 12.4).
const TURN_HEADER_BYTES: usize = 4;
/// Type, receiver index and counter of a WireGuard data message.
const INNER_BYTES: usize = 16;

/// A relay as its peers see it.
pub(super) struct Road {
    /// Where everybody sends to and receives from.
    pub(super) server: SocketAddr,
    /// By pair.
    pub(super) lanes: Vec<Lane>,
    /// Most datagrams on their way at a time, if that is fewer than the load would send.
    pub(super) burst: usize,
}

/// The way of one pair's datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) sent: Header,
    pub(super) came: Header,
    /// Whether they come back to who sent them, as those of the floor do.
    pub(super) returns: bool,
}

/// What stands in front of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A channel of the router.
    Channel(Channel),
    /// A channel of a TURN server.
    Turn(u16),
}

/// The message: which pair's, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) pair: usize,
    pub(super) number: u64,
}

impl Header {
    const fn bytes(self) -> usize {
        match self {
            Self::Channel(_) => HEADER_BYTES,
            Self::Turn(_) => TURN_HEADER_BYTES,
        }
    }

    /// Writes a datagram that is as long as `out`; what follows the counter stays what it was, for it stands
    /// for a ciphertext.
    pub(super) fn write(self, message: Message, out: &mut [u8]) {
        let (header, inner) = out.split_at_mut(self.bytes());
        match self {
            Self::Channel(channel) => {
                let mut bytes = [0; HEADER_BYTES];
                channel.write(&mut bytes);
                header.copy_from_slice(&bytes);
            }
            Self::Turn(number) => header.copy_from_slice(&turn_header(number, inner.len())),
        }
        let pair = u32::try_from(message.pair).unwrap_or(u32::MAX);
        inner[..4].copy_from_slice(&[4, 0, 0, 0]);
        inner[4..8].copy_from_slice(&pair.to_le_bytes());
        inner[8..INNER_BYTES].copy_from_slice(&message.number.to_le_bytes());
    }

    /// Reads a datagram; `None` if it is not one of the lane.
    pub(super) fn read(self, datagram: &[u8]) -> Option<Message> {
        let (header, inner) = datagram.split_at_checked(self.bytes())?;
        let ours = match self {
            Self::Channel(channel) => Channel::read(header) == Ok(channel),
            Self::Turn(number) => header == turn_header(number, inner.len()),
        };
        let (kind, rest) = inner.split_first_chunk()?;
        let (pair, rest) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(*rest.first_chunk()?);
        let pair = usize::try_from(u32::from_le_bytes(*pair)).ok()?;
        (ours && *kind == [4, 0, 0, 0]).then_some(Message { pair, number })
    }
}

fn turn_header(number: u16, len: usize) -> [u8; TURN_HEADER_BYTES] {
    let [n0, n1] = number.to_be_bytes();
    let [l0, l1] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    [n0, n1, l0, l1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::channel::inner;

    #[test]
    fn datagrams_read_back_on_their_own_lane_only() {
        let channel = |id| Header::Channel(Channel { generation: 7, id });
        let message = Message { pair: 255, number: 1 << 40 };
        for (ours, other) in
            [(channel(9), channel(8)), (Header::Turn(0x4000), Header::Turn(0x4001))]
        {
            let mut datagram = [0xAA; 100];
            ours.write(message, &mut datagram);
            assert_eq!(ours.read(&datagram), Some(message));
            assert_eq!(other.read(&datagram), None);
            assert!(inner(&datagram[ours.bytes()..]).is_ok(), "a shape that is relayed");
            for len in 0..ours.bytes() + INNER_BYTES {
                assert_eq!(ours.read(&datagram[..len]), None, "{len}");
            }
        }
    }
}
