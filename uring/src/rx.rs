//! From a filled receive slot to a [`Datagram`]; both engines lay slots out alike.
//!
//! ```text
//! 0        16          48               176
//! | header | name (32) | control (128)  | payload ...
//! ```
//! The header is what a multishot receive writes in front (`io_uring_recvmsg_out`);
//! the other engine leaves it alone. The payload moves nowhere: the datagram is
//! the slot with its window set to it, and what lies in front is its headroom.

use std::net::IpAddr;

use bufpool::Buf;

use crate::addr;
use crate::cmsg;
use crate::datagram::{Datagram, Local, Path};
use crate::socket::Socket;
use crate::stats::Stats;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const NAME_BYTES: usize = 32;
/// [`NAME_BYTES`] as the kernel counts them.
pub(crate) const NAME_LEN: libc::socklen_t = 32;
const _: () = assert!(NAME_LEN as usize == NAME_BYTES);
pub(crate) const CONTROL_BYTES: usize = cmsg::RECEIVE_BYTES;
pub(crate) const NAME_AT: usize = HEADER_BYTES;
pub(crate) const CONTROL_AT: usize = NAME_AT + NAME_BYTES;
pub(crate) const PAYLOAD_AT: usize = CONTROL_AT + CONTROL_BYTES;
const _: () = assert!(NAME_BYTES >= addr::NAME_BYTES && PAYLOAD_AT.is_multiple_of(16));

/// Longest UDP payload, coalesced or not.
const RUN_BYTES: usize = 65_535;

/// Whether slots of this size hold any run the kernel may coalesce.
pub(crate) fn fits_runs(slot_bytes: usize) -> bool {
    slot_bytes >= PAYLOAD_AT + RUN_BYTES
}

/// What the kernel says it wrote into a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) name: usize,
    pub(crate) control: usize,
    pub(crate) payload: usize,
    pub(crate) truncated: bool,
}

impl Arrival {
    /// Reads the header of a multishot receive: name, control and payload length, flags.
    #[inline]
    pub(crate) fn parse(header: &[u8; HEADER_BYTES], result: usize) -> Self {
        let field = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_ne_bytes(bytes)
        };
        let flags = field(12);
        Self {
            name: field(0) as usize,
            control: field(4) as usize,
            payload: result.saturating_sub(PAYLOAD_AT),
            truncated: flags & libc::MSG_TRUNC as u32 != 0,
        }
    }
}

/// Turns slots into datagrams and counts them.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Our address when there is only one: then the kernel does not say it each time.
    only: Option<IpAddr>,
    /// The socket's number.
    id: u16,
    /// Datagrams that the socket lost, as last told.
    pub(crate) drops: u64,
}

impl Intake {
    /// That of the socket with the number `id`.
    pub(crate) fn new(socket: &Socket, id: u16) -> Self {
        Self { only: socket.only_address(), id, drops: socket.drops }
    }

    /// The datagram in `buf`; `None`, counted, if it is none.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        stats: &mut Stats,
        mut buf: Buf,
        arrival: Arrival,
    ) -> Option<Datagram> {
        buf.set_window(0, PAYLOAD_AT);
        let name = &buf[NAME_AT..NAME_AT + arrival.name.min(NAME_BYTES)];
        let peer = addr::decode(name);
        let control = &buf[CONTROL_AT..CONTROL_AT + arrival.control.min(CONTROL_BYTES)];
        let received = cmsg::parse(control);
        if let Some(dropped) = received.dropped {
            stats.rx_kernel_drops += count_drops(&mut self.drops, dropped);
        }
        let Some(peer) = peer else {
            stats.rx_nameless += 1;
            return None;
        };
        if arrival.truncated {
            stats.rx_truncated += 1;
            return None;
        }
        buf.set_window(PAYLOAD_AT, arrival.payload);
        let len = arrival.payload;
        let segment = received.segment.map_or(len, |segment| segment.min(len));
        stats.rx_messages += 1;
        stats.rx_packets += if segment == len { 1 } else { len.div_ceil(segment) as u64 };
        stats.rx_bytes += len as u64;
        let local = match self.only {
            Some(_) => Local { ip: self.only, ifindex: 0, socket: self.id },
            None => Local { socket: self.id, ..received.local },
        };
        Some(Datagram { path: Path { peer, local }, buf, segment })
    }
}

/// `total` follows the kernel's 32-bit count, which wraps; how much it grew.
fn count_drops(total: &mut u64, seen: u32) -> u64 {
    let [a, b, c, d, ..] = total.to_le_bytes();
    let more = seen.wrapping_sub(u32::from_le_bytes([a, b, c, d]));
    let more = if more < u32::MAX / 2 { u64::from(more) } else { 0 };
    *total += more;
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_count_follows_a_wrapping_counter() {
        let mut total = 0;
        for (seen, want) in [(5, 5), (5, 5), (3, 5), (0x7000_0000, 0x7000_0000)] {
            let before = total;
            assert_eq!(before + count_drops(&mut total, seen), want);
            assert_eq!(total, want);
        }
        count_drops(&mut total, 0xE000_0000);
        count_drops(&mut total, 7);
        assert_eq!(total, 0x1_0000_0007);
    }

    #[test]
    fn a_multishot_header_is_read() {
        let mut header = [0; HEADER_BYTES];
        header[0] = 28;
        header[4] = 40;
        header[9] = 4;
        header[12] = u8::try_from(libc::MSG_TRUNC).unwrap();
        let arrival = Arrival::parse(&header, PAYLOAD_AT + 100);
        assert_eq!((arrival.name, arrival.control, arrival.payload), (28, 40, 100));
        assert!(arrival.truncated);
        assert_eq!(Arrival::parse(&[0; HEADER_BYTES], 3).payload, 0);
    }
}
