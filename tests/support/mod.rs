//! A router without sockets, and a stock WireGuard peer to talk to it.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bufpool::{Buf, Hugepages, Pool, PoolConfig};
use molia_router::counters::Counters;
use molia_router::identity::Identity;
use molia_router::ids::WgKey;
use molia_router::limits;
use molia_router::net::{Datagram, Local, Path, Transmit};
use molia_router::partition::Partition;
use molia_router::router::{Config, Router};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::Secrets;
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::wire::body::{FindNodeResp, NegotiateReq, Overflow, Ping, Pong, Writer};
use molia_router::wire::{self, Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// 2026-01-01.
const UNIX_MS: u64 = 1_767_225_600_000;

/// What the router's identity is made of.
pub(crate) const ROUTER_SEED: u64 = 7;

pub(crate) fn now(ns: u64) -> Now {
    Now { at: Moment::from_nanos(ns), unix_ms: UNIX_MS + ns / 1_000_000 }
}

fn pool(slot_bytes: usize, slots: usize) -> Pool {
    let hugepages = Hugepages::Off;
    let shape = PoolConfig { slot_bytes, slots, headroom: 0, hugepages, prefault: true };
    Pool::new(shape).unwrap()
}

/// The router under test.
pub(crate) struct Bench {
    pub(crate) router: Router<WireGuard>,
    /// Its further shards.
    pub(crate) others: Vec<Router<WireGuard>>,
    pub(crate) now: Now,
    /// Letters between shards about where a leg is.
    pub(crate) letters: usize,
    receive: Pool,
    key: WgKey,
    rng: ChaCha20Rng,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut config = Config::default();
        config.tunnel.sessions_max = 1024;
        config.egress.sessions_max = 1024;
        Self::with(config)
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::sharded(config, 1)
    }

    /// A router of so many shards.
    pub(crate) fn sharded(config: Config, shards: u16) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(ROUTER_SEED);
        let identity = Arc::new(Identity::generate(&mut rng));
        let key = identity.wg_key();
        let partition = Partition::new(shards, identity.home_seed(), &identity.peer_id());
        let shard = |shard: u16| {
            let mut config = config.clone();
            (config.tunnel.shard, config.tunnel.partition) = (shard, partition);
            let sessions = config.tunnel.sessions_max as usize;
            let tunnel = WireGuard::new(identity.wg_secret().clone(), sessions);
            let slots = pool(limits::SLOT_BYTES, config.slots());
            let secrets = Secrets { cookies: [1; 32], seed: [2 + shard.to_le_bytes()[0]; 32] };
            let counters = Counters::anonymous(shard.into()).unwrap();
            Router::new(config, Arc::clone(&identity), tunnel, slots, counters, &secrets)
        };
        let (router, others) = (shard(0), (1..shards).map(shard).collect());
        let receive = pool(limits::RX_SLOT_BYTES, 8);
        let now = now(1_000_000_000);
        Self { router, others, now, letters: 0, receive, key, rng }
    }

    /// The shard that a datagram is steered to.
    fn steered(&mut self, bytes: &[u8]) -> &mut Router<WireGuard> {
        let shards = self.others.len() + 1;
        let bits = u16::try_from(shards).unwrap().next_power_of_two().trailing_zeros();
        let top = match bytes {
            [4, _, _, _, _, _, _, top, ..] | [5, _, _, _, top, ..] => u32::from(*top) << 24,
            _ => 0,
        };
        let shard = top.checked_shr(32 - bits).unwrap_or(0) as usize;
        if shard == 0 || shard >= shards { &mut self.router } else { &mut self.others[shard - 1] }
    }

    /// Lets a receive slot arrive at the shard that its first datagram is steered to; returns what
    /// left, in the slots that it left in.
    pub(crate) fn arrive(&mut self, path: Path, buf: Buf, segment: usize) -> Vec<Transmit> {
        let (mut sent, now) = (Vec::new(), self.now);
        let head = buf[..buf.len().min(16)].to_vec();
        let datagram = Datagram { path, segment, buf };
        let left = self.steered(&head).receive(now, datagram, &mut |it: Transmit| sent.push(it));
        assert!(left.is_none());
        let mut by_mail = Vec::new();
        self.pass_mail(&mut by_mail);
        for (path, bytes) in by_mail {
            let mut buf = self.receive.take().unwrap();
            assert!(buf.extend(&bytes));
            sent.push(Transmit { path, segment: bytes.len(), buf, dscp: 0 });
        }
        sent
    }

    /// Lets `bytes` arrive at a shard whether or not they are for it.
    pub(crate) fn deliver_astray(
        &mut self,
        shard: usize,
        path: Path,
        bytes: &[u8],
    ) -> Vec<(Path, Vec<u8>)> {
        let mut buf = self.receive_slot();
        assert!(buf.extend(bytes));
        let datagram = Datagram { path, segment: buf.len(), buf };
        let (mut sent, now) = (Vec::new(), self.now);
        let router = if shard == 0 { &mut self.router } else { &mut self.others[shard - 1] };
        router.receive(now, datagram, &mut |it: Transmit| sent.push((it.path, it.buf.to_vec())));
        self.pass_mail(&mut sent);
        sent
    }

    /// Every shard.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Router<WireGuard>> {
        std::iter::once(&self.router).chain(&self.others)
    }

    /// Lets the shards read what they wrote to each other.
    fn pass_mail(&mut self, sent: &mut Vec<(Path, Vec<u8>)>) {
        let now = self.now;
        loop {
            let mut letters = Vec::new();
            for (from, router) in
                (0..).zip(std::iter::once(&mut self.router).chain(&mut self.others))
            {
                router.take_mail(now, |to, mail, payload| {
                    letters.push((from, to, mail, payload.to_vec()));
                });
            }
            if letters.is_empty() {
                return;
            }
            for (from, to, mail, payload) in letters {
                self.letters += usize::from(mail.moved_leg().is_some());
                let router = match to {
                    0 => &mut self.router,
                    other => &mut self.others[usize::from(other) - 1],
                };
                let mut outlet = |it: Transmit| sent.push((it.path, it.buf.to_vec()));
                router.deliver(now, from, mail, &payload, &mut outlet);
                router.transmit(now, &mut outlet);
            }
        }
    }

    /// A peer that never spoke to the router.
    pub(crate) fn peer(&mut self, address: &str) -> Peer {
        let secret = StaticSecret::random_from_rng(&mut self.rng);
        self.peer_with(secret, address)
    }

    pub(crate) fn peer_with(&mut self, secret: StaticSecret, address: &str) -> Peer {
        let router = PublicKey::from(self.key.0);
        let tunn = Tunn::new(secret, router, None, None, self.rng.next_u32() >> 8, None);
        Peer { tunn, address: address.parse().unwrap() }
    }

    /// An empty slot to receive into.
    pub(crate) fn receive_slot(&mut self) -> Buf {
        self.receive.take().unwrap()
    }

    /// Lets `bytes` arrive; returns what was sent because of it.
    pub(crate) fn deliver(&mut self, path: Path, bytes: &[u8]) -> Vec<(Path, Vec<u8>)> {
        let mut buf = self.receive_slot();
        assert!(buf.extend(bytes));
        let datagram = Datagram { path, segment: buf.len(), buf };
        let mut sent = Vec::new();
        self.advance(1_000_000);
        let now = self.now;
        let router = self.steered(bytes);
        router.receive(now, datagram, &mut |it: Transmit| sent.push((it.path, it.buf.to_vec())));
        router.transmit(now, &mut |it: Transmit| sent.push((it.path, it.buf.to_vec())));
        self.pass_mail(&mut sent);
        sent
    }

    /// What time alone makes the router send by now.
    pub(crate) fn due(&mut self) -> Vec<Vec<u8>> {
        self.advance(20_000_000);
        let mut sent = Vec::new();
        let now = self.now;
        for router in std::iter::once(&mut self.router).chain(&mut self.others) {
            router.poll(now, &mut |it: Transmit| sent.push((it.path, it.buf.to_vec())));
        }
        self.pass_mail(&mut sent);
        sent.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Lets time pass; a turn answers a limited number of handshakes.
    pub(crate) fn advance(&mut self, ns: u64) {
        self.now = now(self.now.at.as_nanos() + ns);
    }

    /// Handshake and first data.
    pub(crate) fn connect(&mut self, peer: &mut Peer) {
        let initiation = peer.initiation();
        let sent = self.deliver(peer.path(), &initiation);
        let [(_, response)] = &sent[..] else { panic!("one response, not {}", sent.len()) };
        let keepalive = peer.answer(response);
        assert!(self.deliver(peer.path(), &keepalive).is_empty());
    }

    /// A peer that connects from `address` and shows an identity, and so is listed.
    pub(crate) fn list_peer(&mut self, seed: u64, address: &str) {
        let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1000 + seed));
        self.identified(&identity, address);
    }

    /// A peer of this identity that connects from `address` and shows who it is.
    pub(crate) fn identified(&mut self, identity: &Identity, address: &str) -> Peer {
        self.identified_since(identity, address, 0)
    }

    /// The same by a binding that holds since then, in seconds since 1970.
    pub(crate) fn identified_since(
        &mut self,
        identity: &Identity,
        address: &str,
        unix_s: u64,
    ) -> Peer {
        let mut peer = self.peer_with(identity.wg_secret().clone(), address);
        self.connect(&mut peer);
        let binding = Some(identity.binding(unix_s, u64::from(u32::MAX)));
        let request = NegotiateReq { binding, ..NegotiateReq::default() };
        let header = Header::request(Kind::NegotiateReq, 1);
        let sealed = peer.seal(header, |body| request.write(body));
        let sent = self.deliver(peer.path(), &sealed);
        let [(_, answer)] = &sent[..] else { panic!("one answer, not {}", sent.len()) };
        assert_eq!(peer.open(answer), Kind::NegotiateResp.id());
        peer
    }

    /// A PING is still answered with a PONG.
    pub(crate) fn assert_still_serves(&mut self, peer: &mut Peer) {
        let ping = peer.seal_ping();
        let sent = self.deliver(peer.path(), &ping);
        let [(_, pong)] = &sent[..] else { panic!("one PONG, not {}", sent.len()) };
        assert_eq!(peer.open(pong), Kind::Pong.id());
    }

    pub(crate) fn all_slots_home(&self) -> bool {
        let mut buffers = self.shards().map(Router::buffers);
        buffers.all(|(free, all)| free == all) && self.receive.free() == self.receive.slots()
    }
}

/// A stock WireGuard peer.
pub(crate) struct Peer {
    tunn: Tunn,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn path(&self) -> Path {
        Path { peer: self.address, local: Local::default() }
    }

    pub(crate) fn initiation(&mut self) -> Vec<u8> {
        let mut out = [0; 256];
        match self.tunn.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a handshake response; returns the keepalive that confirms it.
    pub(crate) fn answer(&mut self, response: &[u8]) -> Vec<u8> {
        let mut out = [0; 256];
        match self.tunn.decapsulate(None, response, &mut out) {
            TunnResult::WriteToNetwork(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Seals one frame.
    pub(crate) fn seal(
        &mut self,
        header: Header,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Vec<u8> {
        let (mut plaintext, mut out) = ([0; 1500], [0; 1600]);
        let len = wire::encode(&mut plaintext, header, body).unwrap();
        match self.tunn.encapsulate(&plaintext[..len], &mut out) {
            TunnResult::WriteToNetwork(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn seal_ping(&mut self) -> Vec<u8> {
        let ping = Ping { now_unix_ms: UNIX_MS, padding: &[], token: 5 };
        self.seal(Header::request(Kind::Ping, 1), |body| ping.write(body))
    }

    /// Goes on from another address.
    pub(crate) fn move_to(&mut self, address: &str) {
        self.address = address.parse().unwrap();
    }

    /// Opens a datagram of the router; returns the frame's type.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> u8 {
        self.frame(datagram).0.kind
    }

    /// Opens a datagram of the router; returns the frame's correlation.
    pub(crate) fn correlation(&mut self, datagram: &[u8]) -> u32 {
        self.frame(datagram).0.correlation
    }

    /// The first address of every peer that an answer lists.
    pub(crate) fn found(&mut self, datagram: &[u8]) -> Vec<String> {
        let (_, body) = self.frame(datagram);
        let answer = FindNodeResp::read(&body).unwrap();
        let addresses = answer.peers.iter().map(|peer| peer.addrs.sockets().next().unwrap());
        addresses.map(|address| address.to_string()).collect()
    }

    /// The answer to `datagram` if it is a PING of the router.
    pub(crate) fn pong(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = self.frame(datagram);
        if header.kind != Kind::Ping.id() {
            return None;
        }
        let token = Ping::read(&body).unwrap().token;
        let pong = Pong { token, ..Pong::default() };
        let answer = Header::response(Kind::Pong, header.correlation);
        Some(self.seal(answer, |body| pong.write(body)))
    }

    pub(crate) fn frame(&mut self, datagram: &[u8]) -> (Header, Vec<u8>) {
        self.try_frame(datagram).unwrap()
    }

    /// What is in a datagram of the router, if it is a frame for this peer.
    pub(crate) fn try_frame(&mut self, datagram: &[u8]) -> Option<(Header, Vec<u8>)> {
        let mut out = [0; 2048];
        match self.tunn.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToTunnelV4(plaintext, _) => {
                let (_, header, body) = wire::split(wire::open(plaintext).unwrap());
                Some((header, body.to_vec()))
            }
            _ => None,
        }
    }
}
