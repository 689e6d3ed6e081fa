//! What goes through a port: datagrams with the path they took.

use std::net::{IpAddr, SocketAddr};

use bufpool::Buf;

/// Our end of a path: the address that was asked, so that the answer leaves from
/// the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Local {
    /// Destination address of what was received; `None` lets the kernel choose.
    pub ip: Option<IpAddr>,
    /// Interface, where the address means nothing without it (IPv6 link-local);
    /// 0 lets the kernel choose. Answers are not tied to the interface they were
    /// asked by otherwise: routes may be asymmetric.
    pub ifindex: u32,
    /// Which of our sockets it came in by, and the one that an answer leaves by: 0 is the main
    /// one, others are those of [`SideSockets`](crate::SideSockets).
    pub socket: u16,
}

/// Both ends of a path. An IPv4-mapped peer is always written as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: Local,
}

/// One receive slot: a datagram, or up to 64 of one sender that the kernel coalesced.
#[derive(Debug)]
pub struct Datagram {
    /// Where it came from.
    pub path: Path,
    /// The bytes; a coalesced run is the segments back to back.
    pub buf: Buf,
    /// Bytes per segment, the last one may be shorter; equals `buf.len()` when nothing was coalesced.
    pub segment: usize,
}

impl Datagram {
    /// The datagrams of the run in the order they arrived. An empty datagram yields nothing.
    pub fn segments(&self) -> std::slice::Chunks<'_, u8> {
        self.buf.chunks(self.segment.max(1))
    }
}

/// A datagram (or a run of equal-sized ones, back to back in one slot) to send.
#[derive(Debug)]
pub struct Transmit {
    /// Where it goes and from which of our addresses.
    pub path: Path,
    /// The bytes.
    pub buf: Buf,
    /// Bytes per segment, the last one may be shorter; equals `buf.len()` for a single datagram.
    pub segment: usize,
    /// Differentiated services code point (RFC 2474) to send it with, 0 to 63; 0 is the default of
    /// all traffic. Datagrams of one path share a message only if theirs are equal.
    pub dscp: u8,
}

impl Transmit {
    /// Datagrams in the run; an empty one is still one.
    pub fn datagrams(&self) -> usize {
        self.buf.len().div_ceil(self.segment.max(1)).max(1)
    }
}
