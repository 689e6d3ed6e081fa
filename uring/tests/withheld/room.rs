//! A socket whose send buffer is full: on a link that lets little through, to a peer in a network
//! of its own, so that only our side of it is narrow.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bufpool::Pool;
use uring::{
    EngineConfig, ErrorKind, Path, SideSockets, Socket, SocketConfig, TX_RESERVE, Transmit,
};

use crate::common::*;

/// Ours, and the peer's.
const HERE: &str = "10.9.0.1";
const THERE: &str = "10.9.0.2";
const SECONDS: Duration = Duration::from_secs(5);

/// Gives this thread a network of its own.
fn own_network() -> Option<()> {
    // SAFETY: no pointers.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    (result == 0).then_some(())
}

fn run(line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let done = Command::new(words.next()?).args(words).status().ok()?;
    done.success().then_some(())
}

/// The peer's end: sockets that live in a network that only they hold.
fn far_end(ours: u32, sockets: usize) -> Option<Receiver<Vec<UdpSocket>>> {
    let (send, receive) = channel();
    let far = move || -> Option<()> {
        own_network()?;
        let this = format!("/proc/{ours}/ns/net");
        run(&format!("ip link add v1 type veth peer name v0 netns {this}"))?;
        run(&format!("ip addr add {THERE}/24 dev v1"))?;
        run("ip link set v1 up")?;
        let socket = |_| {
            let socket = UdpSocket::bind((THERE, 0)).expect("an address of our own");
            socket.set_read_timeout(Some(SECONDS)).expect("a timeout");
            socket
        };
        send.send((0..sockets).map(socket).collect()).ok()
    };
    thread::spawn(far).join().ok()??;
    Some(receive)
}

/// Peers behind a link whose way there lets `rate` through. `None`, said on stderr, where such a
/// thing may not be made.
fn narrow_link(rate: &str, sockets: usize) -> Option<Vec<UdpSocket>> {
    let made = || {
        own_network()?;
        let ours = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let peers = far_end(ours, sockets)?.recv().ok()?;
        run(&format!("ip addr add {HERE}/24 dev v0"))?;
        run("ip link set v0 up")?;
        run(&format!("tc qdisc add dev v0 root tbf rate {rate} burst 2kb limit 100mb"))?;
        Some(peers)
    };
    let peers = made();
    if peers.is_none() {
        eprintln!("SKIPPED: a full send buffer needs root, ip, tc and veth");
    }
    peers
}

fn engine(kind: Kind, gso: bool) -> Option<Box<dyn Face>> {
    let listen = SocketConfig::new(addr(&format!("{HERE}:0")));
    let socket = SocketConfig { sndbuf_bytes: 20_000, gso, ..listen };
    let config = EngineConfig { tx_batch: 32, ..EngineConfig::default() };
    open_with(kind, &socket, config, pool(RX_SLOT_BYTES, 40))
}

fn path(peer: SocketAddr) -> Path {
    Path { peer, local: Default::default() }
}

/// Sends until the socket is full. How many datagrams that took.
fn fill(engine: &mut dyn Face, small: &Pool, to: SocketAddr) -> u64 {
    let mut sent = 0;
    // Through the ring, the end of a send says so.
    while engine.room() > 0 {
        engine.send(single(small, path(to), &[7; 1000]));
        engine.turn(Duration::ZERO, &mut Vec::new()).unwrap();
        sent += 1;
        assert!(sent < 1000, "this link is not narrow");
    }
    sent
}

/// Datagrams wait for a full socket, up to the reserve, and nothing else does.
fn a_full_socket_blocks_nothing(kind: Kind) {
    let peers = some!(narrow_link("8kbit", 1));
    let (peer, to) = (&peers[0], peers[0].local_addr().unwrap());
    let mut engine = some!(engine(kind, false));
    let small = pool(2048, 1000);
    let filled = fill(&mut *engine, &small, to);
    let lost = engine.stats().tx_errors.total();
    assert!(kind == Kind::UringTx || lost == 0, "{:?}", engine.stats());
    assert!(engine.stats().tx_packets > 0 && engine.stats().tx_blocked > 0);
    // What cannot wait elsewhere has the reserve, and then is counted.
    let waiting = filled - engine.stats().tx_packets - lost;
    for more in 1..=200u64 {
        engine.send(single(&small, path(to), &[8; 100]));
        let kept = u64::try_from(32 + TX_RESERVE).unwrap() - waiting;
        let over = more.saturating_sub(kept);
        assert_eq!(engine.stats().tx_errors.count(ErrorKind::Full) - lost, over);
    }
    engine.flush();
    assert_eq!(engine.room(), 0);
    // A turn waits all its time, and the socket is asked a few times, not all the time.
    let before = engine.stats().syscalls;
    engine.turn(Duration::from_millis(300), &mut Vec::new()).unwrap();
    assert!(engine.stats().syscalls - before < 10, "{:?}", engine.stats());
    // And it still receives.
    for n in 0..5u8 {
        peer.send_to(&[n], engine.socket().local_addr()).unwrap();
    }
    let came = collect(&mut *engine, 5);
    assert_eq!(came.iter().map(|one| one.buf[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(engine.room(), 0, "8 kbit/s is slow");
    drop(came);
    drop(engine);
    assert_eq!(small.free(), small.slots());
}

/// What peers received, as long as there is something.
fn drain(peers: &[UdpSocket], came: &mut BTreeMap<SocketAddr, Vec<u16>>) {
    let mut bytes = [0; 2048];
    for peer in peers {
        peer.set_nonblocking(true).unwrap();
        loop {
            match peer.recv(&mut bytes) {
                Ok(len) => {
                    let number = u16::from_le_bytes([bytes[0], bytes[1]]);
                    assert!(bytes[2..len].iter().all(|byte| *byte == bytes[0]), "{number}");
                    came.entry(peer.local_addr().unwrap()).or_default().push(number);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Numbered datagrams, one by one and as runs in one slot.
fn numbered(pool: &Pool, to: SocketAddr, first: u16, count: u16, len: usize) -> Transmit {
    let mut buf = pool.take().unwrap();
    for n in first..first + count {
        let [low, high] = n.to_le_bytes();
        let mut datagram = vec![low; len];
        datagram[1] = high;
        assert!(buf.extend(&datagram));
    }
    Transmit { path: path(to), buf, segment: len, dscp: 0 }
}

/// Far more than the socket holds, to two peers: all of it arrives, in order, while the sender
/// keeps to the room there is.
fn who_keeps_to_the_room_loses_nothing(kind: Kind, gso: bool) {
    let peers = some!(narrow_link("4mbit", 2));
    let to = [0, 1].map(|at: usize| peers[at].local_addr().unwrap());
    let mut engine = some!(engine(kind, gso));
    let slots = pool(RX_SLOT_BYTES, 200);
    let (mut next, mut sent) = ([0u16; 2], 0);
    let mut came = BTreeMap::new();
    let count = 400;
    while next != [count; 2] {
        while engine.room() > 0 && next != [count; 2] {
            let at = if next[0] > next[1] { 1 } else { 0 };
            // Every fourth slot holds a run.
            let run = if next[at] % 4 == 0 { 20.min(count - next[at]) } else { 1 };
            let len = if run > 1 { 300 } else { 200 + usize::from(next[at] % 3) * 200 };
            engine.send(numbered(&slots, to[at], next[at], run, len));
            next[at] += run;
            sent += u64::from(run);
        }
        engine.turn(Duration::from_millis(20), &mut Vec::new()).unwrap();
        drain(&peers, &mut came);
    }
    // Everything leaves in the end. Only room ends these waits, or the end of an entry.
    let wait = if kind == Kind::UringTx { 20 } else { 1_000_000 };
    while engine.room() == 0 || engine.stats().tx_packets + engine.stats().tx_errors.total() < sent
    {
        engine.turn(Duration::from_millis(wait), &mut Vec::new()).unwrap();
        drain(&peers, &mut came);
    }
    let stats = *engine.stats();
    assert!(stats.tx_blocked > if kind == Kind::UringTx { 0 } else { 2 }, "{stats:?}");
    assert_eq!(stats.tx_packets + stats.tx_errors.total(), sent);
    while came.values().map(Vec::len).sum::<usize>() < usize::try_from(stats.tx_packets).unwrap() {
        thread::yield_now();
        drain(&peers, &mut came);
    }
    for at in to {
        // Entries of a ring end apart from each other.
        assert!(kind == Kind::UringTx || came[&at] == (0..count).collect::<Vec<_>>());
    }
    assert!(kind == Kind::UringTx || stats.tx_errors.total() == 0, "{stats:?}");
    drop(engine);
    assert_eq!(slots.free(), slots.slots());
}

/// What is sent by side sockets has no place to wait: it is dropped and counted, and later ones leave.
#[test]
fn a_full_side_socket_drops() {
    apart(|| {
        let peers = some!(narrow_link("64kbit", 1));
        let (peer, small) = (&peers[0], pool(2048, 400));
        let mut engine = some!(engine(Kind::Mmsg, true));
        let mut sides = SideSockets::new(&EngineConfig::default(), 2048, engine.waker()).unwrap();
        let listen = SocketConfig::new(addr(&format!("{HERE}:0")));
        let socket = SocketConfig { sndbuf_bytes: 20_000, gso: false, ..listen };
        sides.open(1, Socket::bind(&socket).unwrap()).unwrap();
        let mut path = path(peer.local_addr().unwrap());
        path.local.socket = 1;
        let stats = engine.pool_and_stats().1;
        for n in 0..300u16 {
            sides.send(single(&small, path, &[n.to_le_bytes()[0]; 1000]), stats);
        }
        sides.flush(stats);
        assert_eq!(small.free(), small.slots());
        let (sent, full) = (stats.tx_packets, stats.tx_errors.count(ErrorKind::Full));
        assert_eq!((sent + full, stats.tx_errors.total()), (300, full));
        assert!(sent > 0 && full > 0, "{stats:?}");
        let mut bytes = [0; 2048];
        for _ in 0..sent {
            assert_eq!(peer.recv(&mut bytes).unwrap(), 1000);
        }
        sides.send(single(&small, path, b"again"), stats);
        sides.flush(stats);
        assert_eq!(peer.recv(&mut bytes).unwrap(), 5);
    });
}

macro_rules! for_every_engine {
    ($($module:ident $kind:ident,)*) => {
        $(mod $module {
            use super::*;

            #[test]
            fn blocks_nothing() {
                apart(|| a_full_socket_blocks_nothing(Kind::$kind));
            }

            #[test]
            fn loses_nothing() {
                apart(|| who_keeps_to_the_room_loses_nothing(Kind::$kind, false));
            }

            #[test]
            fn loses_nothing_of_runs() {
                apart(|| who_keeps_to_the_room_loses_nothing(Kind::$kind, true));
            }
        })*
    };
}

for_every_engine! { on_mmsg Mmsg, on_io_uring Uring, through_io_uring UringTx, }
