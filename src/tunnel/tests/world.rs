//! A router's sessions, the clients of both kinds, and a clock that tests turn by hand.

use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::*;
use crate::ids::{SessionRef, WgKey};
use crate::net::{Local, Path};
use crate::time::Now;
use crate::tunnel::plain::{self, Peer, Plain};
use crate::tunnel::wireguard::WireGuard;

/// One kind of engine with the initiator that fits it.
pub(super) trait Kind {
    type Engine: Tunnel;
    type Client: Client;
    fn engine(slots: usize) -> (Self::Engine, WgKey);
    /// Client number `n` of the router with this key.
    fn numbered(router: &WgKey, n: u16) -> Self::Client;
}

/// What a client makes of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The handshake is complete: this is its first message, a keepalive.
    Established(Vec<u8>),
    Cookie,
    Keepalive,
    Frame(Vec<u8>),
    Nothing,
}

pub(super) trait Client {
    fn key(&self) -> WgKey;
    fn initiate(&mut self) -> Initiation;
    fn hear(&mut self, datagram: &[u8]) -> Heard;
    fn seal(&mut self, frame: &[u8]) -> Vec<u8>;
}

/// BoringTun on both sides.
pub(super) struct Stock;

pub(super) struct StockClient {
    tunn: Tunn,
    key: WgKey,
}

impl Kind for Stock {
    type Engine = WireGuard;
    type Client = StockClient;

    fn engine(slots: usize) -> (WireGuard, WgKey) {
        let engine = WireGuard::new(StaticSecret::from([0x42; 32]), slots);
        let public = engine.public();
        (engine, public)
    }

    fn numbered(router: &WgKey, n: u16) -> StockClient {
        let secret = StaticSecret::from(key_bytes(n));
        let key = WgKey(PublicKey::from(&secret).to_bytes());
        // Its own would refuse more than ten responses a second.
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(key.0), u64::MAX));
        let router = PublicKey::from(router.0);
        let tunn = Tunn::new(secret, router, None, None, u32::from(n), Some(limiter));
        StockClient { tunn, key }
    }
}

impl Client for StockClient {
    fn key(&self) -> WgKey {
        self.key
    }

    fn initiate(&mut self) -> Initiation {
        let mut out = [0; 256];
        let made = self.tunn.format_handshake_initiation(&mut out, true);
        let TunnResult::WriteToNetwork(sent) = made else { panic!("no initiation: {made:?}") };
        (&*sent).try_into().unwrap()
    }

    fn hear(&mut self, datagram: &[u8]) -> Heard {
        let mut out = [0; 2048];
        match self.tunn.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToNetwork(sent) if datagram[0] == 2 => {
                Heard::Established(sent.to_vec())
            }
            TunnResult::WriteToTunnelV4(frame, _) => Heard::Frame(frame.to_vec()),
            TunnResult::Done if datagram[0] == 3 => Heard::Cookie,
            TunnResult::Done if datagram[0] == 4 => Heard::Keepalive,
            TunnResult::WriteToNetwork(_)
            | TunnResult::WriteToTunnelV6(..)
            | TunnResult::Done
            | TunnResult::Err(_) => Heard::Nothing,
        }
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; frame.len() + 256];
        let made = self.tunn.encapsulate(frame, &mut out);
        let TunnResult::WriteToNetwork(sent) = made else { panic!("no data message: {made:?}") };
        assert_eq!(sent[0], 4);
        sent.to_vec()
    }
}

/// The simulation's tunnel on both sides.
pub(super) struct Simulated;

pub(super) struct SimulatedClient {
    peer: Peer,
    key: WgKey,
    clock: u64,
}

impl Kind for Simulated {
    type Engine = Plain;
    type Client = SimulatedClient;

    fn engine(slots: usize) -> (Plain, WgKey) {
        let public = WgKey([0x42; 32]);
        (Plain::new(public, slots), public)
    }

    fn numbered(router: &WgKey, n: u16) -> SimulatedClient {
        let key = WgKey(key_bytes(n));
        let peer = Peer::new(key, *router, u32::from(n) << 8);
        SimulatedClient { peer, key, clock: 0 }
    }
}

impl Client for SimulatedClient {
    fn key(&self) -> WgKey {
        self.key
    }

    fn initiate(&mut self) -> Initiation {
        self.clock += 1;
        let mut ephemeral = self.key.0;
        ephemeral[..8].copy_from_slice(&self.clock.to_le_bytes());
        self.peer.initiate(self.clock, &ephemeral)
    }

    fn hear(&mut self, datagram: &[u8]) -> Heard {
        let mut out = [0; 2048];
        match self.peer.receive(datagram, &mut out) {
            plain::Received::Established => Heard::Established(self.seal(&[])),
            plain::Received::Cookie => Heard::Cookie,
            plain::Received::Data(0) => Heard::Keepalive,
            plain::Received::Data(len) => Heard::Frame(out[..len].to_vec()),
            plain::Received::Ignored => Heard::Nothing,
        }
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; frame.len() + 256];
        let len = self.peer.seal(frame, &mut out).expect("a session");
        out.truncate(len);
        out
    }
}

/// [`Opened`], owned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Frame(SessionRef, Vec<u8>),
    Reply(Vec<u8>, Option<Drop>),
    Nothing,
    Elsewhere(u16),
    Move(Moved),
    Dropped(Drop),
}

impl Got {
    fn of(opened: Opened<'_>) -> Self {
        match opened {
            Opened::Frame { session, plaintext } => Self::Frame(session, plaintext.to_vec()),
            Opened::Reply { bytes, drop } => Self::Reply(bytes.to_vec(), drop),
            Opened::Nothing => Self::Nothing,
            Opened::Elsewhere(shard) => Self::Elsewhere(shard),
            Opened::Move(moved) => Self::Move(moved),
            Opened::Dropped(drop) => Self::Dropped(drop),
        }
    }
}

/// [`Event`], owned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Send(Path, Vec<u8>),
    Ended(SessionRef, WgKey),
    Move(Moved, Vec<u8>),
    Dropped(Drop),
    Refused(Path, Vec<u8>, Drop),
}

pub(super) struct World<K: Kind> {
    pub(super) sessions: Sessions<K::Engine>,
    pub(super) router: WgKey,
    pub(super) now: Now,
}

impl<K: Kind> World<K> {
    pub(super) fn new(config: Config) -> Self {
        let (engine, router) = K::engine(config.sessions_max as usize);
        let secrets = Secrets { cookies: [7; 32], seed: [9; 32] };
        let sessions = Sessions::new(config, engine, &router, &secrets);
        let now = Now { at: Moment::START + Duration::from_secs(1000), unix_ms: 1_700_000_000_000 };
        Self { sessions, router, now }
    }

    /// Room for plenty of handshakes in a turn and a second.
    pub(super) fn roomy() -> Self {
        Self::new(roomy())
    }

    pub(super) fn client(&self, n: u16) -> K::Client {
        K::numbered(&self.router, n)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.at = self.now.at + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap();
    }

    /// Turns the clock in steps, as a shard would: at every deadline it polls. Returns what was due.
    pub(super) fn run(&mut self, time: Duration) -> Vec<Due> {
        let end = self.now.at + time;
        let mut due = self.poll();
        while self.sessions.next_deadline() <= end {
            let next = self.sessions.next_deadline().max(self.now.at + Duration::from_nanos(1));
            self.pass(next.since(self.now.at));
            due.extend(self.poll());
        }
        self.pass(end.since(self.now.at));
        due
    }

    pub(super) fn give(&mut self, path: &Path, datagram: &[u8]) -> Got {
        let mut scratch = [0; 2048];
        Got::of(self.sessions.receive(self.now, path, datagram, &mut scratch))
    }

    /// What another shard moved here.
    pub(super) fn adopt(&mut self, moved: &Moved, initiation: &Initiation) -> Got {
        let mut scratch = [0; 2048];
        Got::of(self.sessions.adopt(self.now, moved, initiation, &mut scratch))
    }

    pub(super) fn poll(&mut self) -> Vec<Due> {
        let mut scratch = [0; 2048];
        let mut due = Vec::new();
        while let Some(event) = self.sessions.poll(self.now, &mut scratch) {
            due.push(match event {
                Event::Send(path, bytes) => Due::Send(path, bytes.to_vec()),
                Event::Ended(session, key) => Due::Ended(session, key),
                Event::Move(moved, initiation) => Due::Move(moved, initiation.to_vec()),
                Event::Dropped(drop) => Due::Dropped(drop),
                Event::Refused(path, bytes, drop) => Due::Refused(path, bytes.to_vec(), drop),
            });
            assert!(due.len() < 10_000, "poll does not end");
        }
        due
    }

    pub(super) fn seal(
        &mut self,
        session: SessionRef,
        frame: &[u8],
    ) -> Result<(Path, Vec<u8>), Drop> {
        let mut out = [0; 2048];
        let (path, len) = self.sessions.seal(self.now, session, frame, &mut out)?;
        Ok((path, out[..len].to_vec()))
    }

    /// Initiation and response; the response is delivered, what the client then sends is returned.
    pub(super) fn shake(&mut self, client: &mut K::Client, path: &Path) -> Vec<u8> {
        self.pass(Duration::from_millis(1));
        let initiation = client.initiate();
        let Got::Reply(response, None) = self.give(path, &initiation) else {
            panic!("no response");
        };
        assert_eq!(response.len(), RESPONSE_BYTES);
        let heard = client.hear(&response);
        let Heard::Established(first) = heard else { panic!("not established: {heard:?}") };
        first
    }

    /// A confirmed session.
    pub(super) fn connect(&mut self, client: &mut K::Client, path: &Path) -> SessionRef {
        let first = self.shake(client, path);
        assert_eq!(self.give(path, &first), Got::Nothing);
        self.sessions.by_key(&client.key()).expect("a session")
    }
}

pub(super) fn roomy() -> Config {
    let admission = admission::Config {
        address: Rate::new(1000, 1000),
        prefix: Rate::new(1000, 1000),
        cookie_threshold_pps: 1_000_000,
        table_entries: 1024,
        ..admission::Config::default()
    };
    Config { sessions_max: 64, handshakes_per_turn: 1000, admission, ..Config::default() }
}

fn key_bytes(n: u16) -> [u8; 32] {
    let mut key = [0x11; 32];
    // Not the first or the last byte: the curve ignores bits of those.
    key[4..6].copy_from_slice(&n.to_be_bytes());
    key
}

/// An address of its own for every `n`.
pub(super) fn path(n: u8) -> Path {
    let peer = std::net::SocketAddr::from(([192, 0, 2, n], 40_000 + u16::from(n)));
    Path { peer, local: Local::default() }
}

/// A frame that passes the tunnel: the shim with its length, filled up with `fill`.
pub(super) fn frame(len: u16, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; usize::from(len)];
    frame[..2].copy_from_slice(&[0x4d, 0]);
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    frame
}
