//! Data through side sockets, both ways, and when it is noticed.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use uring::{Path, Socket, SocketConfig, Transmit};

use crate::both::Both;
use crate::common::*;

pub(crate) fn answers_leave_by_the_socket_that_was_asked(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let small = pool(2048, 16);
    let main = both.engine.socket().local_addr();
    both.side(1, "127.0.0.1:0");
    both.side(700, "[::]:0");
    let asked = [(0, main), (1, both.at(1, "127.0.0.1")), (700, both.at(700, "127.0.0.2"))];
    let peer = peer("127.0.0.1:0");
    for (id, to) in asked {
        peer.send_to(b"hello", to).unwrap();
        let came = both.collect(1);
        assert_eq!((&came[0].buf[..], came[0].segment), (&b"hello"[..], 5));
        assert_eq!(came[0].path.peer, peer.local_addr().unwrap());
        let local = came[0].path.local;
        assert_eq!((local.socket, local.ip, local.ifindex), (id, Some(to.ip()), 0));
        let answer = single(&small, came[0].path, b"you too");
        if id == 0 {
            both.engine.send(answer)
        } else {
            both.send(answer)
        }
        both.engine.flush();
        both.flush();
        let mut bytes = [0; 64];
        let (len, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (&b"you too"[..], to));
    }
    both.turn(Duration::ZERO, &mut Vec::new());
    // One account for all of them.
    let stats = both.stats();
    assert_eq!((stats.rx_packets, stats.rx_messages, stats.rx_bytes), (3, 3, 15));
    assert_eq!((stats.tx_packets, stats.tx_messages, stats.tx_bytes), (3, 3, 21));
    assert_eq!((stats.tx_errors.total(), stats.rx_errors.total()), (0, 0));
    assert_eq!(small.free(), small.slots());
}

/// A train sent whole by a side socket comes whole at another one.
pub(crate) fn runs_come_whole_and_leave_whole(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let small = pool(2048, 64);
    let (left, right) = (both.side(2, "127.0.0.1:0"), both.side(3, "127.0.0.1:0"));
    let mut path = Path { peer: right, local: Default::default() };
    path.local.socket = 2;
    let sizes = [700, 700, 700, 700, 700, 700, 700, 100];
    for (seed, size) in sizes.into_iter().enumerate() {
        both.send(single(&small, path, &pattern(seed, size)));
    }
    both.flush();
    let came = both.collect(1);
    assert_eq!((came.len(), came[0].segment, came[0].buf.len()), (1, 700, 5000));
    assert_eq!((came[0].path.peer, came[0].path.local.socket), (left, 3));
    for (seed, segment) in came[0].segments().enumerate() {
        assert!(segment == pattern(seed, sizes[seed]));
    }
    assert_eq!((both.stats().tx_messages, both.stats().tx_gso_segments), (1, 8));
    assert_eq!((both.stats().rx_messages, both.stats().rx_packets), (1, 8));
    // And out of the slot it came in.
    for datagram in came {
        let (path, segment) = (datagram.path, datagram.segment);
        both.send(Transmit { path, buf: datagram.buf, segment, dscp: 0 });
    }
    both.flush();
    let back = both.collect(1);
    assert_eq!((back.len(), back[0].buf.len(), back[0].path.local.socket), (1, 5000, 2));
}

/// Datagrams of one size to one peer, by two sockets in turns: each keeps its order, and none
/// leaves by the other.
pub(crate) fn what_differs_in_its_socket_alone_is_sent_apart(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let small = pool(2048, 200);
    let ports = [both.side(5, "127.0.0.1:0"), both.side(6, "127.0.0.1:0")];
    let peer = peer("127.0.0.1:0");
    // More than a queue holds, so that it is flushed in between.
    for n in 0..200u8 {
        let mut path = Path { peer: peer.local_addr().unwrap(), local: Default::default() };
        path.local.socket = 5 + u16::from(n % 2);
        both.send(single(&small, path, &[n; 100]));
    }
    both.flush();
    let mut came = [Vec::new(), Vec::new()];
    for _ in 0..200 {
        let mut bytes = [0; 200];
        let (len, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!(len, 100);
        came[usize::from(from == ports[1])].push(bytes[0]);
    }
    let sent = |odd: u8| (0..200).filter(|n| n % 2 == odd).collect::<Vec<u8>>();
    assert_eq!(came, [sent(0), sent(1)]);
    let stats = both.stats();
    assert!(stats.tx_messages <= 8 && stats.tx_gso_segments == 200, "{stats:?}");
}

/// Before the turn, in it, while what came is handled, and again at once: it ends the wait, which
/// is far longer than the test may take.
pub(crate) fn no_wake_is_lost(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let to = both.side(1, "127.0.0.1:0");
    let here = peer("127.0.0.1:0");
    for n in 0..200u8 {
        let mut sink = Vec::new();
        if n % 4 == 0 {
            let there = peer("127.0.0.1:0");
            let late = thread::spawn(move || {
                thread::park_timeout(Duration::from_millis(u64::from(n % 8)));
                there.send_to(&[n], to).unwrap();
            });
            both.turn(Duration::from_secs(1000), &mut sink);
            late.join().unwrap();
        } else {
            here.send_to(&[n], to).unwrap();
            both.turn(Duration::from_secs(1000), &mut sink);
        }
        assert_eq!(sink.iter().map(|one| one.buf[0]).collect::<Vec<_>>(), [n]);
        if n % 3 == 0 {
            // While what came is handled; and the main socket is not forgotten over it.
            here.send_to(&[n], to).unwrap();
            here.send_to(&[n], both.engine.socket().local_addr()).unwrap();
            let came = both.collect(2);
            assert_eq!(came.iter().filter(|one| one.path.local.socket == 1).count(), 1);
        }
        if n % 5 == 0 {
            both.engine.waker().wake();
            both.turn(Duration::from_secs(1000), &mut sink);
        }
    }
}

/// More than a look brings: nobody has to send anything for the rest to come.
pub(crate) fn what_a_look_leaves_ends_the_next_wait(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let to = both.side(9, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for n in 0..200u8 {
        peer.send_to(&[n], to).unwrap();
    }
    let mut came = Vec::new();
    while came.len() < 200 {
        let mut sink = Vec::new();
        both.turn(Duration::from_secs(1000), &mut sink);
        assert!((1..=crate::both::MOST).contains(&sink.len()), "{}", sink.len());
        came.extend(sink.iter().map(|one| one.buf[0]));
    }
    assert_eq!(came, (0..200).collect::<Vec<u8>>());
}

/// Every socket has its own count in the kernel.
pub(crate) fn losses_of_each_socket_add_up(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let mut flood = |id: u16, peer: &UdpSocket| {
        let config = SocketConfig { rcvbuf_bytes: 4096, ..SocketConfig::new(addr("127.0.0.1:0")) };
        let socket = Socket::bind(&config).unwrap();
        let to = socket.local_addr();
        both.sides.open(id, socket).unwrap();
        for _ in 0..500 {
            peer.send_to(&[7; 500], to).unwrap();
        }
        let mut came = 0;
        loop {
            let mut sink = Vec::new();
            both.turn(Duration::from_millis(20), &mut sink);
            if sink.is_empty() {
                break;
            }
            came += sink.len() as u64;
        }
        // The count comes with the next datagram that is received.
        peer.send_to(b"last", to).unwrap();
        came += both.collect(1).len() as u64;
        assert!(came < 500, "{came}");
        501 - came
    };
    let peer = peer("127.0.0.1:0");
    let lost = flood(1, &peer) + flood(2, &peer);
    assert_eq!(both.stats().rx_kernel_drops, lost);
}
