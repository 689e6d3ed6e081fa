//! What goes wrong around an engine: counted, and over when it is over.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use uring::{EngineConfig, ErrorKind, Feature, Path, Reason, SocketConfig};

use crate::common::*;

const SECONDS: Duration = Duration::from_secs(5);

/// Slots held by the caller stop the receive; slots given back start it again.
pub(crate) fn an_empty_pool_pauses_and_recovers(kind: Kind) {
    let slots = pool(RX_SLOT_BYTES, 4);
    let config = EngineConfig { rx_post: 4, ..EngineConfig::default() };
    let socket = SocketConfig::new(addr("127.0.0.1:0"));
    let mut engine = some!(open_with(kind, &socket, config, slots));
    let peer = peer("127.0.0.1:0");
    for n in 0..10u8 {
        peer.send_to(&[n], engine.socket().local_addr()).unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        engine.turn(Duration::from_millis(5), &mut held).unwrap();
    }
    assert_eq!(held.iter().map(|one| one.buf[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(engine.pool().free(), 0);
    assert!(engine.stats().rx_starved > 0);
    // One at a time, then all.
    held.remove(0);
    let mut more = collect(&mut *engine, 1);
    assert_eq!(more[0].buf[0], 4);
    held.clear();
    more.clear();
    let rest: Vec<u8> = collect_bytes(&mut *engine, 5);
    assert_eq!(rest, [5, 6, 7, 8, 9]);
    assert_eq!(engine.stats().rx_kernel_drops, 0);
}

/// First bytes of the next `count` datagrams, each slot given back at once.
fn collect_bytes(engine: &mut dyn Face, count: usize) -> Vec<u8> {
    let (mut bytes, mut sink) = (Vec::new(), Vec::new());
    while bytes.len() < count {
        engine.turn(SECONDS, &mut sink).unwrap();
        assert!(!sink.is_empty(), "{} of {count}", bytes.len());
        bytes.extend(sink.drain(..).map(|one| one.buf[0]));
    }
    bytes
}

pub(crate) fn what_does_not_fit_its_slot_is_dropped_and_counted(kind: Kind) {
    let socket = SocketConfig::new(addr("127.0.0.1:0"));
    let slots = pool(2048, 40);
    let mut engine = some!(open_with(kind, &socket, EngineConfig::default(), slots));
    assert_eq!(engine.achieved().reason(Feature::Gro), Some(Reason::SlotSize));
    let peer = peer("127.0.0.1:0");
    for size in [1, 4000, 1872, 1873, 2] {
        peer.send_to(&pattern(0, size), engine.socket().local_addr()).unwrap();
    }
    let came = collect(&mut *engine, 3);
    assert_eq!(came.iter().map(|one| one.buf.len()).collect::<Vec<_>>(), [1, 1872, 2]);
    assert_eq!((engine.stats().rx_truncated, engine.stats().rx_packets), (2, 3));
}

pub(crate) fn a_wake_ends_the_wait(kind: Kind) {
    let mut engine = some!(open(kind, "127.0.0.1:0"));
    let mut sink = Vec::new();
    // Before the turn, and by another thread while it waits. The wait is far
    // longer than the test may take.
    engine.waker().wake();
    engine.turn(Duration::from_secs(1000), &mut sink).unwrap();
    for round in 1..20 {
        let waker = engine.waker();
        let thread = std::thread::spawn(move || waker.wake());
        engine.turn(Duration::from_secs(1000), &mut sink).unwrap();
        thread.join().unwrap();
        assert!(engine.stats().wakes > round, "every turn ended by a wake");
    }
    assert!(sink.is_empty());
}

pub(crate) fn waits_end_without_anything(kind: Kind) {
    let mut engine = some!(open(kind, "127.0.0.1:0"));
    let mut sink = Vec::new();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(20)] {
        engine.turn(timeout, &mut sink).unwrap();
    }
    assert!(sink.is_empty());
    // A wait without end is one that a datagram ends.
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"x", engine.socket().local_addr()).unwrap();
    engine.turn(Duration::MAX, &mut sink).unwrap();
    assert_eq!(sink.len(), 1);
}

/// A wait that polls first ends as any other; who cannot poll says why.
pub(crate) fn waits_may_poll_first(kind: Kind) {
    let config = EngineConfig { busy_poll: Duration::from_micros(200), ..EngineConfig::default() };
    let socket = SocketConfig::new(addr("127.0.0.1:0"));
    let mut engine = some!(open_with(kind, &socket, config, pool(RX_SLOT_BYTES, 96)));
    let reason = engine.achieved().reason(Feature::BusyPoll);
    assert_eq!(engine.achieved().busy_poll, reason.is_none());
    assert_eq!(kind == Kind::Mmsg, reason == Some(Reason::Engine), "{reason:?}");
    engine.turn(Duration::from_millis(2), &mut Vec::new()).unwrap();
    let peer = peer("127.0.0.1:0");
    for n in 0..3u8 {
        peer.send_to(&[n], engine.socket().local_addr()).unwrap();
        assert_eq!(collect(&mut *engine, 1)[0].buf[..], [n]);
    }
    let plain = some!(open(kind, "127.0.0.1:0"));
    assert_eq!(plain.achieved().reason(Feature::BusyPoll), None, "nobody asked");
    assert!(!plain.achieved().busy_poll);
}

pub(crate) fn losses_in_the_kernel_are_counted(kind: Kind) {
    let socket = SocketConfig { rcvbuf_bytes: 8192, ..SocketConfig::new(addr("127.0.0.1:0")) };
    let slots = pool(RX_SLOT_BYTES, 64);
    let mut engine = some!(open_with(kind, &socket, EngineConfig::default(), slots));
    let peer = peer("127.0.0.1:0");
    for _ in 0..2000 {
        peer.send_to(&[7; 500], engine.socket().local_addr()).unwrap();
    }
    let mut came = 0;
    for _ in 0..2100 {
        let mut sink = Vec::new();
        engine.turn(Duration::from_millis(1), &mut sink).unwrap();
        if sink.is_empty() {
            break;
        }
        came += sink.len() as u64;
    }
    // The count comes with the next datagram that is received.
    peer.send_to(b"last", engine.socket().local_addr()).unwrap();
    came += collect(&mut *engine, 1).len() as u64;
    assert_eq!((came, engine.stats().rx_packets), (came, came));
    assert_eq!(engine.stats().rx_kernel_drops, 2001 - came);
}

pub(crate) fn errors_are_counted_and_nothing_breaks(kind: Kind) {
    let mut engine = some!(open(kind, "0.0.0.0:0"));
    let large = pool(RX_SLOT_BYTES, 8);
    let peer = peer("127.0.0.1:0");
    let to = |peer: SocketAddr| Path { peer, local: Default::default() };
    let mut nowhere = to(peer.local_addr().unwrap());
    nowhere.local.ip = Some("203.0.113.77".parse().unwrap());
    engine.send(single(&large, nowhere, b"from an address that is not ours"));
    engine.send(single(&large, to(addr("255.255.255.255:9")), b"to everybody, unasked"));
    engine.send(single(&large, to(addr("[::1]:9")), b"to the other family"));
    engine.send(single(&large, to(peer.local_addr().unwrap()), &[1; 65_530]));
    engine.send(single(&large, to(peer.local_addr().unwrap()), b"and one that works"));
    engine.flush();
    let mut bytes = [0; 64];
    let (len, _) = peer.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"and one that works");
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    let errors = &engine.stats().tx_errors;
    assert_eq!(errors.count(ErrorKind::TooLarge), 1);
    assert_eq!(errors.count(ErrorKind::Other), 0, "every kind is told apart: {errors:?}");
    assert_eq!((errors.total(), engine.stats().tx_packets), (4, 1), "{errors:?}");
    assert_eq!(large.free(), large.slots());
    // Nobody listens there; the refusal, whenever it comes, fails no turn.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..3 {
        engine.send(single(&large, to(gone), b"anybody?"));
        engine.turn(Duration::from_millis(5), &mut Vec::new()).unwrap();
    }
    peer.send_to(b"alive", at(&*engine, "127.0.0.1")).unwrap();
    assert_eq!(&collect(&mut *engine, 1)[0].buf[..], b"alive");
}

/// A socket that may not checksum is refused coalesced sends by the kernel itself.
pub(crate) fn a_refused_offload_is_given_up_for_good(kind: Kind) {
    let mut engine = some!(open(kind, "127.0.0.1:0"));
    set_option(&*engine, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let small = pool(2048, 16);
    let peer = peer("127.0.0.1:0");
    let path = Path { peer: peer.local_addr().unwrap(), local: Default::default() };
    assert!(engine.achieved().gso);
    for round in 0..3u8 {
        for n in 0..5u8 {
            engine.send(single(&small, path, &[round * 5 + n; 300]));
        }
        engine.flush();
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    }
    let mut bytes = [0; 2048];
    for n in 0..15u8 {
        assert_eq!(peer.recv(&mut bytes).unwrap(), 300);
        assert_eq!(bytes[0], n, "what was refused is sent again, in order");
    }
    assert!(!engine.achieved().gso);
    let reason = engine.achieved().reason(Feature::Gso);
    assert_eq!(reason, Some(Reason::Refused(libc::EINVAL)));
    assert_eq!((engine.stats().tx_packets, engine.stats().tx_messages), (15, 15));
    assert_eq!(engine.stats().tx_errors.total(), 0);
    assert_eq!(small.free(), small.slots());
}

/// The same error number for another reason: no stranger switches coalescing off.
pub(crate) fn a_bad_source_address_does_not_end_the_offload(kind: Kind) {
    let mut engine = some!(open(kind, "0.0.0.0:0"));
    let small = pool(2048, 16);
    let mut path = Path { peer: addr("127.0.0.1:9"), local: Default::default() };
    path.local.ip = Some("203.0.113.77".parse().unwrap());
    for _ in 0..4 {
        engine.send(single(&small, path, &[1; 100]));
    }
    engine.flush();
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert!(engine.achieved().gso);
    assert_eq!((engine.stats().tx_errors.total(), engine.stats().tx_packets), (4, 0));
    assert_eq!(small.free(), small.slots());
}

/// Whatever is under way when an engine is dropped: its slots come home.
pub(crate) fn all_slots_come_home(kind: Kind) {
    for held in [0, 3] {
        let small = pool(2048, 32);
        let mut engine = some!(open(kind, "127.0.0.1:0"));
        let peer = peer("127.0.0.1:0");
        let path = Path { peer: peer.local_addr().unwrap(), local: Default::default() };
        for _ in 0..20 {
            peer.send_to(b"in", engine.socket().local_addr()).unwrap();
            engine.send(single(&small, path, b"out"));
        }
        let mut sink = collect(&mut *engine, 20);
        sink.truncate(held);
        for _ in 0..7 {
            peer.send_to(b"never taken", engine.socket().local_addr()).unwrap();
            engine.send(single(&small, path, b"never flushed"));
        }
        drop(engine);
        assert_eq!(small.free(), small.slots());
        assert!(sink.iter().all(|one| &one.buf[..] == b"in"), "held slots stay readable");
    }
}
