//! Two unmodified WireGuard peers, each with a port of the router as its endpoint.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use molia_router::client::link::{Host, Link};
use molia_router::client::{Client, Options};
use molia_router::clock::Clock;
use molia_router::identity::Identity;
use molia_router::partition::Partition;
use molia_router::port::{EngineChoice, Socket, SocketConfig};
use molia_router::relay::Budget;
use molia_router::relay::stock::Ports;
use molia_router::router::{Config, Keeping};
use molia_router::shard::{self, PortConfig, Shards};
use molia_router::signing::consent;
use molia_router::wire::body::{Writer, consent_scope};
use peerstore::journal::Durability;

use super::keeping::{self, Folder};
use super::server::{PATIENCE, engines, eventually, identity};

/// Where the routers of these tests have their ports; each test has its own.
const FIRST: u16 = 47_300;
const COUNT: u16 = 16;

/// A router with ports and a store.
struct Router {
    shards: Shards,
    link: Link,
}

impl Router {
    fn start(engine: EngineChoice, count: u16, folder: &Folder, listen: &str, first: u16) -> Self {
        let identity = Arc::new(identity(1));
        let (peer, key) = (identity.peer_id(), identity.wg_key());
        let store = keeping::config(&folder.store(), Durability::Group);
        let partition = Partition::new(count, identity.home_seed(), &peer);
        shard::divide(&store.directory, &partition, Clock::start().now().unix_s()).unwrap();
        let mut router = Config { allow_private: true, ..Config::default() };
        router.stock = Ports::new(first, COUNT);
        router.records.keeping = Keeping::Store;
        router.tunnel.sessions_max = 256;
        router.egress.sessions_max = 256;
        let free = Budget { bits_per_s: None, burst_bytes: 1 << 20 };
        (router.relay.peer, router.relay.prefix, router.relay.router) = (free, free, free);
        let config = SocketConfig::new(listen.parse().unwrap());
        let bits = molia_router::partition::bits(count);
        // The kernel takes a moment to close what a ring had.
        let mut group = None;
        eventually("the port is free", || {
            let bound = Socket::bind_group(&config, count.into(), bits, true);
            group = Some(bound.map_err(|error| error.to_string())?);
            Ok(())
        });
        let group = group.unwrap();
        let shards = shard::spawn(shard::Config {
            store: Some(store),
            sockets: group.sockets,
            alternates: Vec::new(),
            cpus: Vec::new(),
            port: PortConfig { engine, receive_slots: 64, ..PortConfig::default() },
            router,
            turn_budget: Duration::from_millis(1),
            identity,
            cookie_secret: [9; 32],
            other_router: None,
            counters: Vec::new(),
        });
        let shards = shards.unwrap();
        let address = shards.local_addr();
        let link = Link { peer, host: Host::Ip(address.ip()), port: address.port(), key };
        Self { shards, link }
    }

    fn connect(&self, who: &Identity) -> Client {
        let mut client = Client::connect(&self.link, Some(who), Options::default()).unwrap();
        client.negotiate(Some(who)).unwrap();
        client
    }

    fn stop(self) {
        self.shards.stop();
        self.shards.join().unwrap();
    }
}

/// A tunnel over a socket.
struct Tunnel {
    tunn: Tunn,
    socket: UdpSocket,
    endpoint: SocketAddr,
}

impl Tunnel {
    fn new(who: &Identity, other: &Identity, endpoint: SocketAddr) -> Self {
        let key = PublicKey::from(other.wg_key().0);
        let tunn = Tunn::new(who.wg_secret().clone(), key, None, None, 1, None);
        Self { tunn, socket: socket(), endpoint }
    }

    /// From another port from now on.
    fn roam(&mut self) {
        self.socket = socket();
    }

    fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.endpoint).unwrap();
    }

    fn initiate(&mut self) {
        let mut out = [0; 256];
        if let TunnResult::WriteToNetwork(bytes) =
            self.tunn.format_handshake_initiation(&mut out, true)
        {
            self.send(bytes);
        }
    }

    /// Sends a packet, if there are keys.
    fn say(&mut self, fill: u8) -> bool {
        let mut out = [0; 512];
        match self.tunn.encapsulate(&packet(fill), &mut out) {
            TunnResult::WriteToNetwork(bytes) if bytes[0] == 4 => {
                self.send(bytes);
                true
            }
            _ => false,
        }
    }

    /// Takes what comes for a moment; the packets in it.
    fn hear(&mut self) -> Vec<u8> {
        let (mut heard, mut datagram) = (Vec::new(), [0; 2048]);
        while let Ok((len, from)) = self.socket.recv_from(&mut datagram) {
            assert_eq!(from, self.endpoint, "only its own port sends to it");
            let mut out = [0; 2048];
            let mut input = &datagram[..len];
            loop {
                match self.tunn.decapsulate(None, input, &mut out) {
                    TunnResult::WriteToNetwork(bytes) => {
                        self.send(bytes);
                        input = &[];
                    }
                    TunnResult::WriteToTunnelV4(packet, _) => {
                        heard.push(packet[20]);
                        break;
                    }
                    _ => break,
                }
            }
        }
        heard
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}

fn packet(fill: u8) -> [u8; 100] {
    let mut packet = [fill; 100];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 100]);
    packet
}

fn word(of: &Identity) -> Vec<u8> {
    let until = Clock::start().now().unix_s() + 600;
    let token = consent::sign(of.signing_key(), None, consent_scope::RELAY, until);
    let mut bytes = [0; 256];
    let mut out = Writer::new(&mut bytes);
    token.write(&mut out).unwrap();
    let len = out.len();
    bytes[..len].to_vec()
}

/// Both shake hands as often as it takes, until each has heard the other.
fn get_together(a: &mut Tunnel, b: &mut Tunnel) {
    let clock = Clock::start();
    let until = clock.moment() + PATIENCE;
    let (mut at_a, mut at_b) = (false, false);
    while !at_a || !at_b {
        assert!(clock.moment() < until, "they do not get together");
        for end in [&mut *a, &mut *b] {
            // The router takes some of a stranger in a second.
            if !end.say(7) {
                end.initiate();
            }
        }
        for _ in 0..20 {
            at_a |= a.hear().contains(&7);
            at_b |= b.hear().contains(&7);
        }
    }
}

/// A packet each way, with keys that are there.
fn talk(a: &mut Tunnel, b: &mut Tunnel, fill: u8) {
    let clock = Clock::start();
    let until = clock.moment() + PATIENCE;
    let (mut at_a, mut at_b) = (false, false);
    while !at_a || !at_b {
        assert!(clock.moment() < until, "they do not hear each other");
        assert!(a.say(fill) && b.say(fill), "the keys are still good");
        at_a |= a.hear().contains(&fill);
        at_b |= b.hear().contains(&fill);
    }
}

#[test]
fn stock_peers_talk_roam_and_outlive_the_router() {
    for (n, &engine) in (0..).zip(engines()) {
        for count in [1, 2] {
            let first = FIRST + (2 * n + count) * COUNT;
            let folder = Folder::new();
            let router = Router::start(engine, count, &folder, "127.0.0.1:0", first);
            let listen = router.shards.local_addr();
            let (one, other) = (identity(70), identity(71));
            let (mut at_one, mut at_other) = (router.connect(&one), router.connect(&other));
            let consent = word(&other);
            let of_one = at_one.wireguard_port(&other.peer_id(), &consent).unwrap();
            let of_other = at_other.wireguard_port(&one.peer_id(), &[]).unwrap();
            assert!((first..first + COUNT).contains(&of_one.port));
            assert_ne!(of_one.port, of_other.port);
            let mut a = Tunnel::new(&one, &other, (listen.ip(), of_one.port).into());
            let mut b = Tunnel::new(&other, &one, (listen.ip(), of_other.port).into());
            get_together(&mut a, &mut b);
            talk(&mut a, &mut b, 8);

            // From elsewhere: the other side's answer takes the leg along.
            a.roam();
            a.initiate();
            let clock = Clock::start();
            let until = clock.moment() + PATIENCE;
            while !{ a.say(9) && b.hear().contains(&9) } {
                assert!(clock.moment() < until, "it cannot roam");
                a.hear();
            }
            talk(&mut a, &mut b, 10);

            // Without another handshake.
            router.stop();
            let router = Router::start(engine, count, &folder, &listen.to_string(), first);
            talk(&mut a, &mut b, 11);
            let mut at_other = router.connect(&other);
            let again = at_other.wireguard_port(&one.peer_id(), &[]).unwrap();
            assert_eq!(again.port, of_other.port, "also while the other peer has no session");
            router.stop();
        }
    }
}
