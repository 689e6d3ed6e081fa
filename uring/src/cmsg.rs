//! Control messages, built and read as bytes: source address, mark, segment size, drop count.
//!
//! Layout per `cmsg(3)`: header (length, level, type), data, each padded to the
//! size of a `usize`. What does not parse is skipped or ends the list; nothing
//! here can fail.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::is_source;
use crate::datagram::Local;

const HEADER: usize = size_of::<libc::cmsghdr>();
const LEVEL_AT: usize = offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_AT: usize = offset_of!(libc::cmsghdr, cmsg_type);
const PKTINFO6: usize = size_of::<libc::in6_pktinfo>();
const PKTINFO4: usize = size_of::<libc::in_pktinfo>();

const fn space(data: usize) -> usize {
    (HEADER + data).next_multiple_of(align_of::<usize>())
}

/// Most that is ever sent along: a source address, a mark and a segment size.
const SEND_BYTES: usize = space(PKTINFO6) + space(4) + space(2);

/// Room for all that is ever received along, with some to spare.
pub(crate) const RECEIVE_BYTES: usize = 128;
const _: () = assert!(space(PKTINFO6) + 3 * space(4) <= RECEIVE_BYTES);

/// The control messages of one send.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Control {
    pub(crate) bytes: [u8; SEND_BYTES],
    pub(crate) len: usize,
}

impl Control {
    pub(crate) const EMPTY: Self = Self { bytes: [0; SEND_BYTES], len: 0 };

    /// Starts over.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The address to leave from. An IPv4 address goes as `IP_PKTINFO`, which
    /// sockets of both families take.
    #[inline]
    pub(crate) fn source(&mut self, local: &Local) {
        match local.ip {
            Some(IpAddr::V4(ip)) => {
                let mut data = [0; PKTINFO4];
                const AT: usize = offset_of!(libc::in_pktinfo, ipi_spec_dst);
                data[..4].copy_from_slice(&local.ifindex.to_ne_bytes());
                data[AT..AT + 4].copy_from_slice(&ip.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(ip)) => {
                let mut data = [0; PKTINFO6];
                const AT: usize = offset_of!(libc::in6_pktinfo, ipi6_ifindex);
                data[..16].copy_from_slice(&ip.octets());
                data[AT..AT + 4].copy_from_slice(&local.ifindex.to_ne_bytes());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
            None => {}
        }
    }

    /// The code point to send with. What counts is the family of the packet, not
    /// of the socket: an IPv6 socket's IPv4 packets take the mark of IPv4 alone.
    #[inline]
    pub(crate) fn dscp(&mut self, v4: bool, dscp: u8) {
        let (level, kind) = match v4 {
            true => (libc::IPPROTO_IP, libc::IP_TOS),
            false => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        // Above the two bits of congestion notification, which stay off.
        self.push(level, kind, &libc::c_int::from(dscp << 2).to_ne_bytes());
    }

    /// The size to cut the message into.
    #[inline]
    pub(crate) fn segment(&mut self, bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    #[inline]
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let at = &mut self.bytes[self.len..];
        at[..size_of::<usize>()].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        at[LEVEL_AT..LEVEL_AT + 4].copy_from_slice(&level.to_ne_bytes());
        at[TYPE_AT..TYPE_AT + 4].copy_from_slice(&kind.to_ne_bytes());
        at[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.len += space(data.len());
    }
}

/// What the kernel says of a received message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The address that was asked.
    pub(crate) local: Local,
    /// Size of the segments, if several were coalesced.
    pub(crate) segment: Option<usize>,
    /// Datagrams this socket lost so far, modulo 2^32.
    pub(crate) dropped: Option<u32>,
}

/// Reads the control messages of a received datagram.
#[inline]
pub(crate) fn parse(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while let Some((level, kind, data, rest)) = split(control) {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let ip = data.get(offset_of!(libc::in_pktinfo, ipi_spec_dst)..);
                let ip = ip.and_then(|ip| ip.first_chunk::<4>());
                if let Some(ip) = ip.map(|ip| Ipv4Addr::from(*ip)) {
                    received.local = local(ip.into(), 0);
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let ifindex = number(data, offset_of!(libc::in6_pktinfo, ipi6_ifindex));
                if let (Some(ip), Some(ifindex)) = (data.first_chunk::<16>(), ifindex) {
                    received.local = local(Ipv6Addr::from(*ip).to_canonical(), ifindex);
                }
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = number(data, 0).and_then(|size| usize::try_from(size).ok());
                received.segment = size.filter(|size| *size > 0);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.dropped = number(data, 0),
            _ => {}
        }
        control = rest;
    }
    received
}

fn local(ip: IpAddr, ifindex: u32) -> Local {
    let scoped = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let (ip, ifindex) = (is_source(ip).then_some(ip), if scoped { ifindex } else { 0 });
    Local { ip, ifindex, socket: 0 }
}

fn number(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?))
}

/// Level, type and data of the first message, and what follows it.
#[inline]
fn split(control: &[u8]) -> Option<(libc::c_int, libc::c_int, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(*control.first_chunk()?);
    let level = i32::from_ne_bytes(*control.get(LEVEL_AT..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(TYPE_AT..)?.first_chunk()?);
    let data = control.get(HEADER..len)?;
    let next = len.next_multiple_of(align_of::<usize>()).min(control.len());
    Some((level, kind, data, &control[next..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_built_parses() {
        let v4 = Local { ip: Some("192.0.2.1".parse().unwrap()), ..Local::default() };
        let v6 = Local { ip: Some("2001:db8::5".parse().unwrap()), ..Local::default() };
        let scoped = Local { ifindex: 7, ip: Some("fe80::5".parse().unwrap()), socket: 0 };
        for local in [v4, v6, scoped] {
            let mut control = Control::EMPTY;
            control.source(&local);
            control.dscp(local.ip.is_some_and(|ip| ip.is_ipv4()), 46);
            let plain = control.len;
            control.segment(1232);
            assert_eq!(parse(&control.bytes[..control.len]).local, local);
            let (level, kind, data, rest) = split(&control.bytes[plain..control.len]).unwrap();
            assert_eq!((level, kind), (libc::SOL_UDP, libc::UDP_SEGMENT));
            assert_eq!((data, rest), (&1232u16.to_ne_bytes()[..], &[][..]));
        }
        let mut control = Control::EMPTY;
        control.source(&Local::default());
        assert_eq!(control.len, 0, "no address, no message");
    }

    #[test]
    fn everything_a_datagram_brings_is_read() {
        let mut bytes = Vec::new();
        let mut put = |level: i32, kind: i32, data: &[u8]| {
            let mut one = Control::EMPTY;
            one.push(level, kind, data);
            bytes.extend_from_slice(&one.bytes[..one.len]);
        };
        let mut info = [0; PKTINFO6];
        info[..16].copy_from_slice(&Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped().octets());
        info[16] = 1;
        put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        put(libc::SOL_SOCKET, libc::SO_TIMESTAMP, &[1; 16]);
        put(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
        put(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &77u32.to_ne_bytes());
        let received = parse(&bytes);
        assert_eq!(received.local.ip, Some("127.0.0.2".parse().unwrap()));
        assert_eq!(received.local.ifindex, 0, "only scoped addresses keep their interface");
        assert_eq!((received.segment, received.dropped), (Some(1200), Some(77)));
    }

    proptest! {
        #[test]
        fn nothing_the_kernel_could_write_breaks_the_reader(bytes: Vec<u8>, len in 0..200usize) {
            let mut bytes = bytes;
            if let Some(head) = bytes.first_chunk_mut() {
                *head = len.to_ne_bytes();
            }
            let _ = parse(&bytes);
        }
    }
}
