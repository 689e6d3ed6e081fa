//! What goes through an engine: whole, in order, by the right addresses.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uring::{EngineConfig, Feature, Path, Reason, SocketConfig, Transmit};

use crate::common::*;

const SECONDS: Duration = Duration::from_secs(5);

/// IPv4 and IPv6 peers of one dual-stack socket, each answered by the address it asked.
pub(crate) fn answers_leave_from_the_address_that_was_asked(kind: Kind) {
    let mut engine = some!(open(kind, "[::]:0"));
    let small = pool(2048, 8);
    let asked = [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")];
    for (bind, ip) in asked {
        let peer = peer(bind);
        peer.send_to(b"hello", at(&*engine, ip)).unwrap();
        let came = collect(&mut *engine, 1);
        assert_eq!(&came[0].buf[..], b"hello");
        assert_eq!(came[0].path.peer, peer.local_addr().unwrap());
        assert_eq!(came[0].path.local.ip, Some(ip.parse().unwrap()));
        assert_eq!((came[0].path.local.ifindex, came[0].segment), (0, 5));
        engine.send(single(&small, came[0].path, b"you too"));
        engine.flush();
        let mut answer = [0; 64];
        let (len, from) = peer.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&b"you too"[..], at(&*engine, ip)));
    }
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.rx_packets, stats.rx_messages, stats.rx_bytes), (3, 3, 15));
    assert_eq!((stats.tx_packets, stats.tx_messages, stats.tx_bytes), (3, 3, 21));
    assert_eq!((stats.tx_gso_segments, stats.tx_errors.total()), (0, 0));
}

pub(crate) fn a_socket_of_one_address_says_it(kind: Kind) {
    for (bind, from) in [("127.0.0.3:0", "127.0.0.1:0"), ("0.0.0.0:0", "127.0.0.1:0")] {
        let mut engine = some!(open(kind, bind));
        let small = pool(2048, 8);
        let (peer, ip) = (peer(from), "127.0.0.3");
        peer.send_to(b"", at(&*engine, ip)).unwrap();
        peer.send_to(b"x", at(&*engine, ip)).unwrap();
        let came = collect(&mut *engine, 2);
        assert_eq!((came[0].buf.len(), came[0].segments().count()), (0, 0));
        assert_eq!(came[1].path.local.ip, Some(ip.parse().unwrap()));
        engine.send(single(&small, came[0].path, b""));
        engine.send(single(&small, came[1].path, b"y"));
        engine.flush();
        for want in [&b""[..], b"y"] {
            let mut answer = [0; 8];
            let (len, from) = peer.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], from), (want, at(&*engine, ip)));
        }
    }
}

/// A train of equal datagrams with a shorter last one, sent whole, comes in one
/// slot, and goes back out of the same slot.
pub(crate) fn runs_come_whole_and_leave_whole(kind: Kind) {
    let mut engine = some!(open(kind, "[::]:0"));
    let mut sender = some!(open(kind, "127.0.0.1:0"));
    let small = pool(2048, 64);
    let path = Path { peer: at(&*engine, "127.0.0.1"), local: Default::default() };
    let sizes = [700, 700, 700, 700, 700, 700, 700, 100];
    for (seed, size) in sizes.into_iter().enumerate() {
        sender.send(single(&small, path, &pattern(seed, size)));
    }
    sender.flush();
    let came = collect(&mut *engine, sizes.len());
    assert_eq!(came.len(), 1, "the train stays whole");
    assert_eq!(came[0].segment, 700);
    for (seed, segment) in came[0].segments().enumerate() {
        assert!(segment == pattern(seed, sizes[seed]));
    }
    assert_eq!((engine.stats().rx_packets, engine.stats().rx_messages), (8, 1));
    for datagram in came {
        let (path, segment) = (datagram.path, datagram.segment);
        engine.send(Transmit { path, buf: datagram.buf, segment, dscp: 0 });
    }
    engine.flush();
    let back = collect(&mut *sender, sizes.len());
    assert_eq!((back.len(), back[0].buf.len()), (1, 5000));
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!((engine.stats().tx_gso_segments, engine.stats().tx_messages), (8, 1));
    assert_eq!((engine.stats().tx_packets, engine.stats().tx_bytes), (8, 5000));
}

pub(crate) fn without_offloads_every_datagram_is_its_own(kind: Kind) {
    let socket = SocketConfig { gro: false, gso: false, ..SocketConfig::new(addr("127.0.0.1:0")) };
    let slots = pool(RX_SLOT_BYTES, 96);
    let mut engine = some!(open_with(kind, &socket, EngineConfig::default(), slots));
    assert!(!engine.achieved().gro && !engine.achieved().gso);
    assert_eq!(engine.achieved().reason(Feature::Gro), Some(Reason::Disabled));
    let mut sender = some!(open(kind, "127.0.0.1:0"));
    let large = pool(RX_SLOT_BYTES, 2);
    let path = Path { peer: engine.socket().local_addr(), local: Default::default() };
    let buf = filled(&large, &pattern(1, 4050));
    sender.send(Transmit { path, buf, segment: 100, dscp: 0 });
    sender.flush();
    let came = collect(&mut *engine, 41);
    assert_eq!(came.len(), 41);
    let whole: Vec<u8> = came.iter().flat_map(|one| one.buf.to_vec()).collect();
    assert!(whole == pattern(1, 4050));
    // And a run in one slot leaves as datagrams.
    let path = came[0].path;
    engine.send(Transmit { path, buf: filled(&large, &whole), segment: 100, dscp: 0 });
    engine.flush();
    let back = collect(&mut *sender, 41);
    assert_eq!(back.iter().map(|one| one.segments().count()).sum::<usize>(), 41);
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!((engine.stats().tx_packets, engine.stats().tx_messages), (41, 41));
}

/// Both what the engine finds and what comes in one slot is cut to the length that is allowed.
pub(crate) fn runs_are_as_long_as_allowed(kind: Kind) {
    for (most, messages) in [(4, 6), (1, 20)] {
        let config = EngineConfig { gso_max_segments: most, ..EngineConfig::default() };
        let socket = SocketConfig::new(addr("127.0.0.1:0"));
        let mut engine = some!(open_with(kind, &socket, config, pool(RX_SLOT_BYTES, 96)));
        let (small, peer) = (pool(2048, 16), peer("127.0.0.1:0"));
        let path = Path { peer: peer.local_addr().unwrap(), local: Default::default() };
        for n in 0..10 {
            engine.send(single(&small, path, &pattern(n, 90)));
        }
        let whole: Vec<u8> = (10..20).flat_map(|n| pattern(n, 90)).collect();
        engine.send(Transmit { path, buf: filled(&small, &whole), segment: 90, dscp: 0 });
        engine.flush();
        for n in 0..20 {
            let mut bytes = [0; 2000];
            let len = peer.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..len], pattern(n, 90));
        }
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
        assert_eq!((engine.stats().tx_packets, engine.stats().tx_messages), (20, messages));
        assert_eq!(engine.stats().tx_gso_segments, if most > 1 { 20 } else { 0 });
        assert!(engine.achieved().gso, "nobody refused anything");
    }
}

/// More than every table holds, to interleaved peers, one by one and in runs.
pub(crate) fn many_sends_in_one_flush_keep_their_order(kind: Kind) {
    let config = EngineConfig { tx_batch: 8, ring_entries: 8, ..EngineConfig::default() };
    let socket = SocketConfig::new(addr("127.0.0.1:0"));
    let mut engine = some!(open_with(kind, &socket, config, pool(RX_SLOT_BYTES, 40)));
    let small = pool(2048, 64);
    let peers: Vec<_> = (0..5).map(|_| peer("127.0.0.1:0")).collect();
    for n in 0..200usize {
        let to = peers[(n * 7) % peers.len()].local_addr().unwrap();
        let path = Path { peer: to, local: Default::default() };
        engine.send(single(&small, path, &[u8::try_from(n).unwrap(); 60][..50 + n % 2]));
    }
    engine.flush();
    for (index, peer) in peers.iter().enumerate() {
        let mut bytes = [0; 100];
        for n in (0..200).filter(|n| (n * 7) % peers.len() == index) {
            assert_eq!(peer.recv(&mut bytes).unwrap(), 50 + n % 2);
            assert_eq!(usize::from(bytes[0]), n);
        }
    }
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(engine.stats().tx_packets, 200);
    assert_eq!(small.free(), small.slots());
}

const ECHOES: u64 = 100_000;

/// Peers that send numbered datagrams of every size and check what comes back.
fn echo_peer(to: SocketAddr, id: u64, count: u64) -> (u64, u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut back, mut wrong, mut bytes) = (0, 0, [0; 4096]);
    let expected = |n: u64| {
        let mut datagram = [id.to_ne_bytes(), n.to_ne_bytes()].concat();
        let size = (n * 37 + id * 11) % 1400;
        datagram.extend((0..size).map(|at| (n ^ at).to_le_bytes()[0]));
        datagram
    };
    for lot in 0..count / 20 {
        for n in lot * 20..(lot + 1) * 20 {
            socket.send_to(&expected(n), to).unwrap();
        }
        for _ in 0..20 {
            let Ok(len) = socket.recv(&mut bytes) else { break };
            let number = bytes[8..16].try_into().map(u64::from_ne_bytes).unwrap();
            wrong += u64::from(bytes[..len] != expected(number));
            back += 1;
        }
    }
    (back, wrong)
}

/// 10^5 datagrams of four peers: some may be lost, none may be wrong.
pub(crate) fn echoes_are_never_corrupted(kind: Kind) {
    let mut engine = some!(open(kind, "[::]:0"));
    let small = pool(2048, 64);
    let to = at(&*engine, "127.0.0.1");
    let done = Arc::new(AtomicBool::new(false));
    let (finished, waker) = (done.clone(), engine.waker());
    let peers = std::thread::spawn(move || {
        let peer = |id| std::thread::spawn(move || echo_peer(to, id, ECHOES / 4));
        let threads: Vec<_> = (0..4).map(peer).collect();
        let ends: Vec<_> = threads.into_iter().map(|peer| peer.join().unwrap()).collect();
        finished.store(true, Ordering::Release);
        waker.wake();
        ends
    });
    let mut sink = Vec::new();
    let mut by_peer: HashMap<SocketAddr, u64> = HashMap::new();
    while !done.load(Ordering::Acquire) {
        engine.turn(SECONDS, &mut sink).unwrap();
        for datagram in sink.drain(..) {
            *by_peer.entry(datagram.path.peer).or_default() += 1;
            // By copy and by handing the slot on, in turns.
            let (path, segment) = (datagram.path, datagram.segment);
            if engine.stats().rx_messages % 2 == 0 && segment == datagram.buf.len() {
                engine.send(single(&small, path, &datagram.buf));
            } else {
                engine.send(Transmit { path, buf: datagram.buf, segment, dscp: 0 });
            }
        }
        engine.flush();
    }
    let ends = peers.join().unwrap();
    let (back, wrong) = ends.iter().fold((0, 0), |sum, end| (sum.0 + end.0, sum.1 + end.1));
    assert_eq!((wrong, by_peer.len()), (0, 4));
    assert!(back > ECHOES * 9 / 10, "{back} of {ECHOES} came back");
    engine.turn(Duration::ZERO, &mut sink).unwrap();
    let stats = engine.stats();
    assert_eq!(stats.tx_packets + stats.tx_errors.total(), stats.rx_packets);
    assert_eq!(small.free(), small.slots());
}

/// Large runs leave their receive slot without a copy where that is possible; on loopback it
/// is not, and after a while it is not tried any more. What arrives is the same.
pub(crate) fn runs_without_a_copy_arrive_the_same(kind: Kind) {
    let config = EngineConfig { zero_copy_min_bytes: Some(16 << 10), ..EngineConfig::default() };
    let socket = SocketConfig::new(addr("127.0.0.1:0"));
    let mut engine = some!(open_with(kind, &socket, config, pool(RX_SLOT_BYTES, 96)));
    let mut sender = some!(open(Kind::Mmsg, "127.0.0.1:0"));
    let large = pool(RX_SLOT_BYTES, 2);
    let path = Path { peer: engine.socket().local_addr(), local: Default::default() };
    let registered = engine.achieved().registered_buffers;
    for round in 0..20 {
        let size = 40 * 1200 + round;
        let buf = filled(&large, &pattern(round, size));
        sender.send(Transmit { path, buf, segment: 1200, dscp: 0 });
        sender.flush();
        for datagram in collect(&mut *engine, 41.min(size.div_ceil(1200))) {
            let (path, segment) = (datagram.path, datagram.segment);
            engine.send(Transmit { path, buf: datagram.buf, segment, dscp: 0 });
        }
        engine.flush();
        // What was refused for leaving without a copy is sent again here.
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
        let back: Vec<u8> = collect(&mut *sender, size.div_ceil(1200))
            .iter()
            .flat_map(|one| one.buf.to_vec())
            .collect();
        assert!(back == pattern(round, size), "{} of {size} bytes, or other ones", back.len());
    }
    engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(engine.stats().tx_packets, 20 * 40 + 19);
    assert_eq!(engine.stats().tx_errors.total(), 0);
    match (kind, registered) {
        (Kind::UringTx, true) => match engine.achieved().reason(Feature::ZeroCopy) {
            Some(Reason::Copied) => assert!((16..20).contains(&engine.stats().tx_zero_copy)),
            // Before 6.15 the first one is refused, sent by copy, and the last.
            reason => {
                assert_eq!(reason, Some(Reason::Kernel("6.15")));
                assert_eq!(engine.stats().tx_zero_copy, 0);
            }
        },
        _ => assert_eq!((engine.stats().tx_zero_copy, registered), (0, false)),
    }
}
