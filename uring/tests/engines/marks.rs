//! Marks on what leaves, as the peer's kernel sees them: per datagram, in every family.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::net::sockopt::{set_ip_recvtos, set_ipv6_recvtclass};
use uring::{EngineConfig, SocketConfig, Transmit};

use crate::common::*;

const EXPEDITED: u8 = 46;

/// Where the engine is bound, where its peer is, and the address that the peer asks.
const FAMILIES: [[&str; 3]; 5] = [
    ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"],
    ["0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"],
    ["[::1]:0", "[::1]:0", "::1"],
    ["[::]:0", "127.0.0.1:0", "127.0.0.2"],
    ["[::]:0", "[::1]:0", "::1"],
];

/// A peer that is told the marks.
fn watcher(bind: &str) -> UdpSocket {
    let peer = peer(bind);
    match peer.local_addr().unwrap().is_ipv4() {
        true => set_ip_recvtos(&peer, true).unwrap(),
        false => set_ipv6_recvtclass(&peer, true).unwrap(),
    }
    peer
}

/// Only what is marked is, also next to others, with a source address said and in runs.
pub(crate) fn marks_are_of_single_datagrams(kind: Kind) {
    // Whatever the socket marks by itself.
    for ([listen, bind, ip], of_socket) in
        FAMILIES.into_iter().flat_map(|f| [(f, 0), (f, EXPEDITED)])
    {
        let socket = SocketConfig { dscp: of_socket, ..SocketConfig::new(addr(listen)) };
        let slots = pool(RX_SLOT_BYTES, 96);
        let mut engine = some!(open_with(kind, &socket, EngineConfig::default(), slots));
        let (small, peer) = (pool(2048, 32), watcher(bind));
        peer.send_to(b"hello", at(&*engine, ip)).unwrap();
        let path = collect(&mut *engine, 1)[0].path;
        let marks = [0, EXPEDITED, EXPEDITED, 0, 0, 10, EXPEDITED, 0, 63];
        for (n, dscp) in marks.into_iter().enumerate() {
            engine.send(Transmit { dscp, ..single(&small, path, &pattern(n, 100)) });
        }
        let run: Vec<u8> = (9..12).flat_map(|n| pattern(n, 100)).collect();
        let whole = single(&small, path, &run);
        engine.send(Transmit { segment: 100, dscp: EXPEDITED, ..whole });
        engine.flush();
        for (n, dscp) in marks.into_iter().chain([EXPEDITED; 3]).enumerate() {
            let (bytes, class) = receive_marked(&peer);
            assert!(bytes == pattern(n, 100), "{listen}: in order");
            assert_eq!(class, dscp << 2, "{listen} {bind}: datagram {n}, no other bit");
        }
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
        // 0 | 46 46 | 0 0 | 10 | 46 | 0 | 63 | 46 46 46
        assert_eq!((engine.stats().tx_packets, engine.stats().tx_messages), (12, 8));
        assert_eq!(engine.stats().tx_errors.total(), 0);
    }
}

/// The socket marks by itself what most datagrams have, and nobody but the kernel notices.
pub(crate) fn marks_are_right_while_the_socket_changes_its_own(kind: Kind) {
    let socket = SocketConfig { dscp: EXPEDITED, ..SocketConfig::new(addr("127.0.0.1:0")) };
    let slots = pool(RX_SLOT_BYTES, 96);
    let mut engine = some!(open_with(kind, &socket, EngineConfig::default(), slots));
    let (small, peer) = (pool(2048, 32), watcher("127.0.0.1:0"));
    let path = uring::Path { peer: peer.local_addr().unwrap(), local: Default::default() };
    let own = |engine: &dyn Face| rustix::net::sockopt::ip_tos(engine.socket()).unwrap();
    let send = |engine: &mut dyn Face, n: usize, dscp| {
        engine.send(Transmit { dscp, ..single(&small, path, &pattern(n, 100)) });
        engine.flush();
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
        assert_eq!(receive_marked(&peer), (pattern(n, 100), dscp << 2), "datagram {n}");
    };
    assert_eq!(own(&*engine), EXPEDITED << 2);
    for n in 0..1100 {
        send(&mut *engine, n, if n % 8 == 0 { EXPEDITED } else { 0 });
    }
    assert_eq!(own(&*engine), 0);
    for n in 0..2200 {
        send(&mut *engine, n, if n % 8 == 0 { 0 } else { EXPEDITED });
    }
    assert_eq!(own(&*engine), EXPEDITED << 2);
}

/// A device that refuses a run gets its datagrams one by one, with their mark.
pub(crate) fn a_run_that_is_refused_keeps_its_mark(kind: Kind) {
    let mut engine = some!(open(kind, "127.0.0.1:0"));
    let (small, peer) = (pool(2048, 8), watcher("127.0.0.1:0"));
    // Without checksums there is no segmentation.
    set_option(&*engine, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let path = uring::Path { peer: peer.local_addr().unwrap(), local: Default::default() };
    for n in 0..3 {
        let one = single(&small, path, &pattern(n, 100));
        engine.send(Transmit { dscp: EXPEDITED, ..one });
    }
    engine.flush();
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert!(!engine.achieved().gso);
    for n in 0..3 {
        assert_eq!(receive_marked(&peer), (pattern(n, 100), EXPEDITED << 2));
    }
}
