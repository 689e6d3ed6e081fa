//! Many side sockets, opened and closed.

use std::io::ErrorKind;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uring::{ErrorKind as Kinds, Path, Socket, SocketConfig};

use crate::both::{Both, MOST};
use crate::common::*;

/// Each of the others is heard within one round, however much waits in one of them.
pub(crate) fn a_socket_that_is_flooded_keeps_nobody_out(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let peer = peer("127.0.0.1:0");
    let flooded = both.side(1, "127.0.0.1:0");
    for _ in 0..150 {
        peer.send_to(b"flood", flooded).unwrap();
    }
    let others = 2..=100u16;
    for id in others.clone() {
        let to = both.side(id, "127.0.0.1:0");
        peer.send_to(b"once", to).unwrap();
        peer.send_to(b"twice", to).unwrap();
    }
    let (mut heard, mut turns) = (vec![0; 101], 0);
    while heard[2..].iter().any(|count| *count < 2) {
        let mut sink = Vec::new();
        both.turn(Duration::from_secs(5), &mut sink);
        assert!((1..=MOST + 8).contains(&sink.len()), "{}", sink.len());
        sink.iter().for_each(|one| heard[usize::from(one.path.local.socket)] += 1);
        turns += 1;
    }
    let fair = (2 * others.count() + 16).div_ceil(MOST) + 2;
    assert!(turns <= fair, "{turns} turns, {fair} are enough");
    assert!(heard[1] < 150, "the flood waits");
}

pub(crate) fn one_of_a_thousand_is_heard(kind: Kind) {
    // Each test has its thousand at the same time.
    let all = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: all, maximum: all }).unwrap();
    let mut both = some!(Both::open(kind));
    let ports: Vec<_> = (1..=1000).map(|id| both.side(id, "127.0.0.1:0")).collect();
    assert_eq!((both.sides.len(), both.sides.is_empty()), (1000, false));
    let (peer, small) = (peer("127.0.0.1:0"), pool(2048, 8));
    let before = both.stats().syscalls;
    for n in 0..100u8 {
        peer.send_to(&[n], ports[776]).unwrap();
        let came = both.collect(1);
        assert_eq!((came[0].path.local.socket, came[0].buf[0]), (777, n));
        both.send(single(&small, came[0].path, &[n]));
        both.flush();
        let mut bytes = [0; 8];
        assert_eq!(peer.recv_from(&mut bytes).unwrap(), (1, ports[776]));
        assert_eq!(bytes[0], n);
    }
    // The number of sockets costs nothing: to wait, to ask which, to receive, to send.
    let each = (both.stats().syscalls - before) / 100;
    assert!(each <= 6, "{each} system calls for each datagram");
    for id in 1..=1000 {
        assert!(both.close(id).is_some());
    }
    assert!(both.sides.is_empty());
    both.turn(Duration::ZERO, &mut Vec::new());
}

/// What waits is lost; nothing turns in circles over it, and the number is free again.
pub(crate) fn a_socket_is_closed_while_data_waits(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let (peer, small) = (peer("127.0.0.1:0"), pool(2048, 8));
    let to = both.side(4, "127.0.0.1:0");
    peer.send_to(b"before", to).unwrap();
    let path = both.collect(1)[0].path;
    let other = both.side(5, "127.0.0.1:0");
    for port in [to, to, other] {
        for _ in 0..9 {
            peer.send_to(b"waits", port).unwrap();
        }
    }
    // What was queued leaves.
    both.send(single(&small, path, b"last words"));
    // Another handle stays open, as a shard's watcher has one.
    let kept = both.sides.socket(4).unwrap().try_clone().unwrap();
    assert_eq!(both.close(4).unwrap().local_addr(), to);
    assert!(both.close(4).is_none() && both.sides.socket(4).is_none());
    let mut bytes = [0; 64];
    let len = peer.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"last words");
    let came = both.collect(9);
    assert!(came.iter().all(|one| one.path.local.socket == 5));
    drop(came);
    let before = both.stats().syscalls;
    let mut sink = Vec::new();
    both.turn(Duration::from_millis(50), &mut sink);
    both.turn(Duration::from_millis(50), &mut sink);
    assert!(sink.is_empty() && both.stats().syscalls - before < 12);
    // Nobody answers for it any more.
    both.send(single(&small, path, b"to nobody"));
    both.flush();
    assert_eq!(both.stats().tx_errors.count(Kinds::NoAddress), 1);
    assert_eq!(small.free(), small.slots());
    // The one that comes next finds what waited: it is the same socket.
    both.sides.open(4, kept).unwrap();
    assert_eq!(both.collect(18).len(), 18);
    both.close(4).unwrap();
    let next = both.side(4, "127.0.0.1:0");
    peer.send_to(b"next", next).unwrap();
    assert_eq!(&both.collect(1)[0].buf[..], b"next");
}

/// While somebody holds all slots, what waits beside is no reason to wake up.
pub(crate) fn without_slots_nothing_is_tried(kind: Kind) {
    let mut both = some!(Both::with_slots(kind, 40));
    let peer = peer("127.0.0.1:0");
    let to = both.side(1, "127.0.0.1:0");
    for n in 0..60u8 {
        peer.send_to(&[n], to).unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        both.turn(Duration::from_millis(1), &mut held);
    }
    let (free, taken) = (both.engine.pool().free(), held.len());
    assert_eq!(free, 0, "the rest is posted for the main socket");
    let before = both.stats().syscalls;
    both.turn(Duration::from_millis(100), &mut held);
    assert!(both.stats().syscalls - before < 6 && held.len() == taken);
    let mut numbers: Vec<u8> = held.drain(..).map(|one| one.buf[0]).collect();
    while numbers.len() < 60 {
        numbers.extend(both.collect(1).iter().map(|one| one.buf[0]));
    }
    assert_eq!(numbers, (0..60).collect::<Vec<u8>>());
}

pub(crate) fn numbers_are_told_apart(kind: Kind) {
    let mut both = some!(Both::open(kind));
    let bind = || Socket::bind(&SocketConfig::new(addr("127.0.0.1:0"))).unwrap();
    let error = both.sides.open(0, bind()).unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::InvalidInput, "socket 0 is the main one")
    );
    both.sides.open(u16::MAX, bind()).unwrap();
    let error = both.sides.open(u16::MAX, bind()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "socket 65535 is open already");
    assert_eq!(both.sides.len(), 1);
    // A port that somebody has is one that cannot be had.
    let taken = both.sides.socket(u16::MAX).unwrap().local_addr();
    let error = Socket::bind(&SocketConfig::new(taken)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let path = Path { peer: taken, local: Default::default() };
    let small = pool(2048, 1);
    both.send(single(&small, path, b"the main one is not beside"));
    both.flush();
    assert_eq!((both.stats().tx_errors.count(Kinds::NoAddress), small.free()), (1, 1));
}

/// An engine that would take every slot leaves the others theirs.
pub(crate) fn a_flooded_engine_keeps_nobody_out(kind: Kind) {
    let mut both = some!(Both::with_slots(kind, 24));
    let (peer, side) = (peer("127.0.0.1:0"), both.side(1, "127.0.0.1:0"));
    let main = both.engine.socket().local_addr();
    let mut held = Vec::new();
    for _ in 0..20 {
        for _ in 0..40 {
            peer.send_to(b"flood", main).unwrap();
        }
        both.turn(Duration::from_millis(1), &mut held);
        // As a shard whose time is over: it handles a few.
        held.drain(..held.len().min(12));
    }
    peer.send_to(b"aside", side).unwrap();
    for turn in 0.. {
        peer.send_to(b"flood", main).unwrap();
        both.turn(Duration::from_millis(1), &mut held);
        if held.iter().any(|one| one.path.local.socket == 1) {
            break;
        }
        held.drain(..held.len().min(12));
        assert!(turn < 10, "not heard");
    }
}
