//! One port over real sockets while its engine changes.

use std::net::{SocketAddr, UdpSocket};

use bufpool::{Hugepages, PoolConfig};

use super::*;
use crate::limits::RX_SLOT_BYTES;
use crate::net::{Local, Path};

const WAIT: Duration = Duration::from_secs(5);

fn pool(slot_bytes: usize, slots: usize) -> Pool {
    let hugepages = Hugepages::Off;
    Pool::new(PoolConfig { slot_bytes, slots, headroom: 0, hugepages, prefault: false }).unwrap()
}

fn open(choice: EngineChoice, tx: TxMode) -> Result<AnyPort, Reason> {
    let socket = Socket::bind(&SocketConfig::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let config = EngineConfig { tx, ..EngineConfig::default() };
    AnyPort::open(choice, socket, config, pool(RX_SLOT_BYTES, 96))
}

fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(WAIT)).unwrap();
    peer
}

fn transmit(pool: &Pool, peer: SocketAddr, bytes: &[u8]) -> Transmit {
    let mut buf = pool.take().unwrap();
    assert!(buf.extend(bytes));
    Transmit { path: Path { peer, local: Local::default() }, buf, segment: bytes.len(), dscp: 0 }
}

/// What arrives until `count` datagrams came.
fn receive(port: &mut AnyPort, count: usize) -> Vec<Vec<u8>> {
    let mut sink = Vec::new();
    while sink.len() < count {
        let before = sink.len();
        port.turn(WAIT, &mut sink).unwrap();
        assert!(sink.len() > before, "{before} of {count}");
    }
    sink.iter().map(|one| one.buf.to_vec()).collect()
}

#[test]
fn the_choice_is_kept_or_refused_with_a_reason() {
    let port = open(EngineChoice::Mmsg, TxMode::Auto).unwrap();
    assert_eq!(port.achieved().engine, Engine::Mmsg);
    assert_eq!(port.achieved().reason(Feature::IoUring), Some(Reason::Disabled));
    let auto = open(EngineChoice::Auto, TxMode::Auto).unwrap();
    // What nobody asked for is not missing.
    assert_eq!(auto.achieved().reason(Feature::RegisteredBuffers), None);
    match open(EngineChoice::IoUring, TxMode::Auto) {
        Ok(port) => {
            assert_eq!(port.achieved().engine, Engine::IoUring);
            assert_eq!(auto.achieved().engine, Engine::IoUring);
        }
        Err(reason) => {
            assert!(std::env::var_os("MOLIA_REQUIRE_URING").is_none(), "io_uring: {reason}");
            assert_eq!(auto.achieved().engine, Engine::Mmsg);
            assert_eq!(auto.achieved().reason(Feature::IoUring), Some(reason));
        }
    }
}

/// Opens a port, or ends the test where there is no ring; that is a failure where one is required.
macro_rules! some {
    ($open:expr) => {
        match $open {
            Ok(port) => port,
            Err(reason) => {
                assert!(std::env::var_os("MOLIA_REQUIRE_URING").is_none(), "io_uring: {reason}");
                return;
            }
        }
    };
}

/// The ring breaks with datagrams waiting in both directions; all arrive, on the same port.
fn a_broken_ring_is_replaced(tx: TxMode) {
    let mut port = some!(open(EngineChoice::IoUring, tx));
    let (peer, small) = (peer(), pool(2048, 64));
    let (here, there) = (port.socket().local_addr(), peer.local_addr().unwrap());
    let waker = port.waker();
    peer.send_to(b"before", here).unwrap();
    assert_eq!(receive(&mut port, 1), [b"before"]);
    port.send(transmit(&small, there, b"sent by the ring"));
    port.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    let slots = port.pool().slots();

    port.break_ring().unwrap();
    port.send(transmit(&small, there, b"queued when it broke"));
    peer.send_to(b"waiting when it broke", here).unwrap();
    assert_eq!(receive(&mut port, 1), [b"waiting when it broke"]);
    port.send(transmit(&small, there, b"sent without"));
    port.flush();

    assert_eq!(port.achieved().engine, Engine::Mmsg);
    let reason = port.achieved().reason(Feature::IoUring);
    assert!(matches!(reason, Some(Reason::Broke(_))), "{reason:?}");
    let mut bytes = [0; 64];
    let mut came = vec!["sent by the ring", "queued when it broke", "sent without"];
    if tx == TxMode::Uring {
        // It was on the ring already: lost, and counted.
        came.remove(1);
    }
    for want in &came {
        let len = peer.recv(&mut bytes).unwrap();
        assert_eq!(std::str::from_utf8(&bytes[..len]).unwrap(), *want);
    }
    // The counters go on, the waker still works, no slot is lost.
    assert_eq!((port.stats().rx_packets, port.stats().tx_packets), (2, came.len() as u64));
    assert_eq!(port.stats().tx_errors.total(), 3 - came.len() as u64);
    waker.wake();
    port.turn(Duration::from_secs(1000), &mut Vec::new()).unwrap();
    assert_eq!(port.stats().wakes, 1);
    let posted = EngineConfig::default().rx_post;
    assert_eq!(port.pool().free(), slots - posted);
    assert_eq!(small.free(), small.slots());
}

#[test]
fn a_ring_that_breaks_is_replaced() {
    a_broken_ring_is_replaced(TxMode::Sendmmsg);
}

#[test]
fn a_ring_that_breaks_with_sends_on_it_is_replaced() {
    a_broken_ring_is_replaced(TxMode::Uring);
}

#[test]
fn a_port_is_as_good_after_the_change() {
    let mut port = open(EngineChoice::Auto, TxMode::Auto).unwrap();
    let peer = peer();
    let here = port.socket().local_addr();
    port.break_ring().unwrap();
    for lot in 0..50u8 {
        for n in 0..20u8 {
            peer.send_to(&[lot, n], here).unwrap();
        }
        let want: Vec<Vec<u8>> = (0..20).map(|n| vec![lot, n]).collect();
        assert_eq!(receive(&mut port, 20), want);
    }
    assert_eq!(port.stats().rx_packets, 1000);
}

fn open_side(port: &mut AnyPort, id: u16) -> SocketAddr {
    let socket = Socket::bind(&SocketConfig::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let local = socket.local_addr();
    port.open_side(id, socket).unwrap();
    local
}

/// What goes in by a socket comes out by it, whatever becomes of the engine.
#[test]
fn further_sockets_survive_a_change_of_engine() {
    let mut port = open(EngineChoice::Auto, TxMode::Auto).unwrap();
    let (peer, small) = (peer(), pool(2048, 64));
    let mut doors = vec![(MAIN, port.socket().local_addr())];
    let talk = |port: &mut AnyPort, doors: &[(u16, SocketAddr)]| {
        for &(id, to) in doors {
            peer.send_to(&id.to_le_bytes(), to).unwrap();
            let mut came = Vec::new();
            port.turn(WAIT, &mut came).unwrap();
            assert_eq!((came[0].path.local.socket, &came[0].buf[..]), (id, &id.to_le_bytes()[..]));
            let buf = came.remove(0).buf;
            let path = Path { peer: peer.local_addr().unwrap(), ..path_by(id) };
            port.send(Transmit { path, segment: buf.len(), buf, dscp: 0 });
            port.flush();
            let mut bytes = [0; 8];
            assert_eq!(peer.recv_from(&mut bytes).unwrap(), (2, to));
        }
    };
    talk(&mut port, &doors);
    for id in [ALTERNATE, 2, 4000] {
        doors.push((id, open_side(&mut port, id)));
        talk(&mut port, &doors);
    }
    // What waits and what is queued when the ring breaks is there afterwards.
    peer.send_to(b"waits", doors[2].1).unwrap();
    let to = peer.local_addr().unwrap();
    let path = Path { peer: to, ..path_by(2) };
    port.send(Transmit { path, ..transmit(&small, to, b"queued") });
    port.break_ring().unwrap();
    let mut came = Vec::new();
    while came.is_empty() {
        port.turn(WAIT, &mut came).unwrap();
    }
    assert_eq!((came[0].path.local.socket, &came[0].buf[..]), (2, &b"waits"[..]));
    assert_eq!(port.achieved().engine, Engine::Mmsg);
    drop(came);
    let mut bytes = [0; 8];
    assert_eq!(peer.recv_from(&mut bytes).unwrap(), (6, doors[2].1));
    for _ in 0..5 {
        talk(&mut port, &doors);
    }
    assert_eq!(port.close_side(2).unwrap().local_addr(), doors[2].1);
    assert!(port.close_side(2).is_none() && port.side(2).is_none() && port.side(4000).is_some());
    doors.remove(2);
    talk(&mut port, &doors);
    let stats = port.stats();
    assert_eq!((stats.tx_errors.total(), stats.rx_errors.total(), small.free()), (0, 0, 64));
}

/// A path by the socket `id` that still lacks its other end.
fn path_by(id: u16) -> Path {
    let local = Local { socket: id, ..Local::default() };
    Path { peer: "0.0.0.0:0".parse().unwrap(), local }
}

#[test]
fn without_its_socket_a_transmit_is_lost_and_counted() {
    let mut port = open(EngineChoice::Auto, TxMode::Auto).unwrap();
    let (peer, small) = (peer(), pool(2048, 4));
    let lost = |port: &mut AnyPort| {
        let to = peer.local_addr().unwrap();
        let path = Path { peer: to, ..path_by(7) };
        port.send(Transmit { path, ..transmit(&small, to, b"x") });
        port.flush();
        port.stats().tx_errors.count(ErrorKind::NoAddress)
    };
    assert_eq!(lost(&mut port), 1);
    open_side(&mut port, 7);
    assert_eq!(lost(&mut port), 1, "there it is");
    port.close_side(7);
    assert_eq!((lost(&mut port), small.free()), (2, 4));
}

/// The plain engine does not wait while its own socket is busy; the others are heard all the same.
#[test]
fn a_busy_main_socket_does_not_keep_others_out() {
    for choice in [EngineChoice::Mmsg, EngineChoice::Auto] {
        let mut port = open(choice, TxMode::Auto).unwrap();
        let peer = peer();
        let (main, side) = (port.socket().local_addr(), open_side(&mut port, ALTERNATE));
        for round in 0..20 {
            peer.send_to(b"aside", side).unwrap();
            let mut heard = 0;
            for turn in 0.. {
                peer.send_to(b"main", main).unwrap();
                let mut came = Vec::new();
                port.turn(WAIT, &mut came).unwrap();
                heard += came.iter().filter(|one| one.path.local.socket == ALTERNATE).count();
                if heard > 0 {
                    break;
                }
                assert!(turn < 10, "not heard in round {round}");
            }
        }
        // One question in some turns is all that they cost.
        let before = port.stats().syscalls;
        for _ in 0..80 {
            peer.send_to(b"main", main).unwrap();
            port.turn(WAIT, &mut Vec::new()).unwrap();
        }
        let calls = port.stats().syscalls - before;
        assert!(calls <= 80 + 80 / 8 + 1, "{choice:?}: {calls} system calls in 80 turns");
    }
}
