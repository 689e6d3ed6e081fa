//! Steady state allocates nothing: data in, frame handled, answer out, over real sockets; and mail
//! between shards.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::env;
use std::net::UdpSocket;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use molia_router::counters::layout::Id;
use molia_router::identity::Identity;
use molia_router::ids::{Key, PeerId};
use molia_router::limits;
use molia_router::net::{Datagram, Local, Path, Transmit};
use molia_router::port::{AnyPort, EngineChoice, EngineConfig, Port, Socket, SocketConfig};
use molia_router::router::{Config, Keeping};
use molia_router::shard::mailbox::{self, Mailbox, PAYLOAD_MAX, mesh};
use molia_router::wire::body::{
    Capabilities, FindNodeReq, FindValueReq, NegotiateReq, Ping, Record, ReflectReq, StoreReq,
    Writer, feature,
};
use molia_router::wire::kind::Class;
use molia_router::wire::{Header, Kind};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::{Bench, Peer};

const WARM_UP: usize = 500;
const MEASURED: usize = 2000;
const TURN: Duration = Duration::from_millis(200);

/// A router on a real socket and one peer of it, both driven by this thread.
struct Served {
    bench: Bench,
    port: AnyPort,
    socket: UdpSocket,
    peer: Peer,
    received: Vec<Datagram>,
}

impl Served {
    fn new(engine: EngineChoice) -> Option<Self> {
        let listen = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind(&SocketConfig::new(listen)).unwrap();
        let served_at = socket.local_addr();
        let pool = Pool::new(PoolConfig {
            slot_bytes: limits::RX_SLOT_BYTES,
            slots: 64,
            headroom: 0,
            hugepages: Hugepages::Off,
            prefault: true,
        });
        let port = match AnyPort::open(engine, socket, EngineConfig::default(), pool.unwrap()) {
            Ok(port) => port,
            Err(reason) => {
                assert!(env::var_os("MOLIA_REQUIRE_URING").is_none(), "{engine:?}: {reason}");
                eprintln!("SKIPPED {engine:?}: {reason}");
                return None;
            }
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(served_at).unwrap();
        socket.set_read_timeout(Some(TURN)).unwrap();
        let mut bench = Bench::new();
        let peer = bench.peer(&socket.local_addr().unwrap().to_string());
        let received = Vec::with_capacity(EngineConfig::default().rx_batch);
        let mut served = Self { bench, port, socket, peer, received };
        served.connect();
        Some(served)
    }

    fn connect(&mut self) {
        let initiation = self.peer.initiation();
        let mut answer = [0; 256];
        let len = self.exchange(&initiation, &mut answer).expect("a handshake response");
        let keepalive = self.peer.answer(&answer[..len]);
        self.socket.send(&keepalive).unwrap();
        self.turn();
        let want = Capabilities { bitmap: feature::STREAMING_CHUNKS, ..Capabilities::default() };
        let request = NegotiateReq { want: Some(want), ..NegotiateReq::default() };
        let header = Header::request(Kind::NegotiateReq, 1);
        let sealed = self.peer.seal(header, |body| request.write(body));
        self.exchange(&sealed, &mut [0; 2048]).expect("an agreement");
    }

    fn turn(&mut self) {
        let Self { bench, port, received, .. } = self;
        port.turn(TURN, received).unwrap();
        bench.advance(3_000_000);
        let now = bench.now;
        for datagram in received.drain(..) {
            bench.router.receive(now, datagram, &mut |transmit: Transmit| port.send(transmit));
            bench.router.transmit(now, &mut |transmit: Transmit| port.send(transmit));
        }
        port.flush();
    }

    /// Sends one datagram, lets the router handle it, receives the answer.
    fn exchange(&mut self, bytes: &[u8], answer: &mut [u8]) -> Option<usize> {
        self.socket.send(bytes).unwrap();
        self.turn();
        self.socket.recv(answer).ok()
    }
}

/// Requests and how many datagrams answer each.
fn requests(peer: &mut Peer, count: usize) -> Vec<(Vec<u8>, usize)> {
    let padding = [0; 900];
    let mut request = |n: usize| {
        let correlation = u32::try_from(n).unwrap();
        match n % 4 {
            0 => {
                let ping = Ping { now_unix_ms: 1, padding: &[], token: 3 };
                peer.seal(Header::request(Kind::Ping, correlation), |body| ping.write(body))
            }
            1 => {
                let ping = Ping { now_unix_ms: 1, padding: &padding, token: 3 };
                peer.seal(Header::request(Kind::Ping, correlation), |body| ping.write(body))
            }
            2 => {
                let find = FindNodeReq { target_id: PeerId([n.to_le_bytes()[0]; 32]), limit: 16 };
                peer.seal(Header::request(Kind::FindNodeReq, correlation), |body| find.write(body))
            }
            _ => {
                let reflect = ReflectReq { nonce: 9, ..ReflectReq::default() };
                let header = Header::request(Kind::ReflectReq, correlation);
                peer.seal(header, |body| reflect.write(body))
            }
        }
    };
    (0..count).map(|n| (request(n), if n % 4 == 2 { 2 } else { 1 })).collect()
}

fn steady_state_allocates_nothing(engine: EngineChoice) {
    let Some(mut served) = Served::new(engine) else { return };
    // Peers to be found: their handshakes need no socket.
    let others: Vec<_> = (0..20).map(|n| format!("192.0.2.{n}:1000")).collect();
    for (n, address) in others.iter().enumerate() {
        served.bench.list_peer(n as u64, address);
    }
    let requests = requests(&mut served.peer, WARM_UP + MEASURED);
    let (warm_up, measured) = requests.split_at(WARM_UP);
    let mut answer = [0; 2048];
    let mut answered = 0;
    let mut ask = |(request, answers): &(Vec<u8>, usize)| {
        let mut got = usize::from(served.exchange(request, &mut answer).is_some());
        while got > 0 && got < *answers && served.socket.recv(&mut answer).is_ok() {
            got += 1;
        }
        usize::from(got == *answers)
    };
    assert_eq!(warm_up.iter().map(&mut ask).sum::<usize>(), WARM_UP);
    let memory =
        allocation_counter::measure(|| answered = measured.iter().map(&mut ask).sum::<usize>());
    assert_eq!(answered, MEASURED, "requests that got all of their answer");
    assert_eq!(memory.count_total, 0, "allocations in {MEASURED} exchanges");
    let path = Path { peer: served.socket.local_addr().unwrap(), local: Local::default() };
    assert_eq!(served.peer.path(), path);
}

#[test]
fn nothing_is_allocated_per_datagram_on_mmsg() {
    steady_state_allocates_nothing(EngineChoice::Mmsg);
}

#[test]
fn nothing_is_allocated_per_datagram_on_io_uring() {
    steady_state_allocates_nothing(EngineChoice::IoUring);
}

/// Hands a sealed datagram to the router; how many left because of it.
fn handled(bench: &mut Bench, path: Path, sealed: &[u8]) -> usize {
    let mut buf = bench.receive_slot();
    assert!(buf.extend(sealed));
    // Slowly enough for the rates of writes.
    bench.advance(60_000_000);
    let (now, datagram) = (bench.now, Datagram { path, segment: buf.len(), buf });
    let mut left = 0;
    bench.router.receive(now, datagram, &mut |_: Transmit| left += 1);
    bench.router.transmit(now, &mut |_: Transmit| left += 1);
    // As a shard does: what changed goes to the store.
    bench.router.take_changes(now, |record| {
        std::hint::black_box(record);
    });
    left
}

/// Sealed writes of values of their own, and lookups of each.
fn writes_and_lookups(peer: &mut Peer, count: u32) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let sealed = |n: u32| {
        let value = [n.to_le_bytes(); 50].concat();
        let key = Key::of_value(&value);
        let record = Record {
            key,
            value: &value,
            sequence: 0,
            ttl_secs: 36_000,
            not_before_unix: 0,
            owner_pubkey: None,
            signature: None,
            salt: &[],
        };
        let mut encoded = [0; 512];
        let mut out = Writer::new(&mut encoded);
        record.write(&mut out).unwrap();
        let len = out.len();
        let store = StoreReq { record: &encoded[..len], ..StoreReq::default() };
        let find = FindValueReq { key, provider_limit: 0 };
        let header = Header::request(Kind::StoreReq, n);
        let write = peer.seal(header, |body| store.write(body));
        let header = Header::request(Kind::FindValueReq, n);
        (write, peer.seal(header, |body| find.write(body)))
    };
    (1..=count).map(sealed).unzip()
}

#[test]
fn a_hit_allocates_nothing_and_an_accepted_write_what_is_kept() {
    const VALUES: u32 = 250;
    const WARM: usize = 100;
    let mut config = Config::default();
    (config.tunnel.sessions_max, config.egress.sessions_max) = (64, 64);
    (config.records.stamp_bits, config.records.keeping) = (0, Keeping::Store);
    let mut bench = Bench::with(config);
    bench.router.store_room(usize::MAX);
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(3));
    let mut peer = bench.identified(&identity, "8.1.1.1:4000");
    let (writes, lookups) = writes_and_lookups(&mut peer, VALUES);
    let path = peer.path();
    // WireGuard's window of counters bears neither order nor long gaps: pairs, as they were sealed.
    let mut pairs = writes.iter().zip(&lookups);
    for (write, lookup) in pairs.by_ref().take(WARM) {
        assert_eq!(handled(&mut bench, path, write) + handled(&mut bench, path, lookup), 2);
    }
    let (mut for_writes, mut for_hits) = (0, 0);
    for (write, lookup) in pairs {
        let mut left = 0;
        let memory = allocation_counter::measure(|| left += handled(&mut bench, path, write));
        for_writes += memory.count_total;
        assert!(memory.count_current <= 1, "only what is kept stays");
        let memory = allocation_counter::measure(|| left += handled(&mut bench, path, lookup));
        for_hits += memory.count_total;
        assert_eq!(left, 2);
    }
    let kept = u64::from(VALUES) - WARM as u64;
    assert_eq!((for_writes, for_hits), (kept, 0), "for writes and for lookups");
    let stored = bench.router.counters().snapshot().value(Id::Written, &["stored"]);
    assert_eq!(stored, Some(u64::from(VALUES)));
}

/// Turns of two shards, one of which takes no mail for as long as it needs to run over.
fn exchange_mail(mailboxes: &mut [Mailbox<[u64; 10]>], out: &mut [u8; PAYLOAD_MAX]) -> usize {
    let payload = [7; PAYLOAD_MAX];
    let mut received = 0;
    for n in 0..400 {
        for class in Class::ALL {
            let _ = mailboxes[0].post(1, class, Some(n % 300), [n; 10], &payload);
        }
        mailboxes[0].flush();
    }
    while mailboxes[1].next(out).is_some() {
        received += 1;
        let _ = mailboxes[1].sleep();
        mailboxes[1].awake();
        mailboxes[0].flush();
    }
    received
}

#[test]
fn nothing_is_allocated_per_message_between_shards() {
    let listen = SocketConfig::new("127.0.0.1:0".parse().unwrap());
    let wakers = (0..2).map(|_| Socket::bind(&listen).unwrap().waker()).collect();
    let mut mailboxes = mesh(&mailbox::Config::default(), wakers);
    let mut received = 0;
    let memory = allocation_counter::measure(|| {
        received = exchange_mail(&mut mailboxes, &mut [0; PAYLOAD_MAX]);
    });
    let stats = mailboxes[0].stats();
    let dropped: u64 = stats.classes.iter().map(|class| class.refused() + class.lost()).sum();
    assert!(received > 400 && stats.alarms > 0 && dropped > 0, "every way was taken: {stats:?}");
    assert_eq!(memory.count_total, 0, "allocations for {received} messages");
}
