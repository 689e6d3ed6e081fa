//! The whole router behind its port, with the tunnel's twin, so that frames reach the handlers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use molia_router::admission::{MAC1_AT, MAC2_AT, cookie};
use molia_router::counters::Counters;
use molia_router::identity::Identity;
use molia_router::ids::WgKey;
use molia_router::limits;
use molia_router::net::{Datagram, Local, Path, Transmit};
use molia_router::router::{Config, Router};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::plain::{Peer, Plain, Received};
use molia_router::tunnel::{INITIATION_BYTES, Secrets};
use molia_router::wire::channel;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::script::Script;

/// The first two belong to peers, the others to strangers.
pub(super) const ADDRESSES: [&str; 4] =
    ["192.0.2.1:1000", "[2001:db8::1]:1000", "198.51.100.7:7", "[2001:db8:7::1]:7"];
pub(super) const PEERS: usize = 2;
const SESSIONS: u32 = 4;

pub(super) struct World {
    pub(super) router: Router<Plain>,
    receive: Pool,
    public: WgKey,
    peers: [Peer; PEERS],
    /// Where each peer speaks from.
    pub(super) places: [usize; PEERS],
    now: Now,
    stamp: u64,
    traffic: [[usize; 2]; ADDRESSES.len()],
    /// What the router sent to peers since it was looked at.
    inbox: Vec<(usize, Vec<u8>)>,
    /// Channel data among it, with the length of its segments.
    pub(super) relayed: Vec<(usize, Vec<u8>, usize)>,
    /// Plaintexts that peers opened.
    pub(super) opened: Vec<(usize, Vec<u8>)>,
}

fn pool(slot_bytes: usize, slots: usize) -> Pool {
    let shape =
        PoolConfig { slot_bytes, slots, headroom: 0, hugepages: Hugepages::Off, prefault: false };
    Pool::new(shape).expect("memory")
}

fn path(place: usize) -> Path {
    Path { peer: ADDRESSES[place].parse().expect("an address"), local: Local::default() }
}

fn place(peer: SocketAddr) -> usize {
    ADDRESSES.iter().position(|it| it.parse() == Ok(peer)).expect("an address that spoke")
}

impl World {
    /// Of two peers with these WireGuard keys, who have a session each.
    pub(super) fn new(keys: [WgKey; PEERS]) -> Self {
        let identity = Arc::new(Identity::generate(&mut ChaCha12Rng::seed_from_u64(7)));
        let public = identity.wg_key();
        let mut config = Config::default();
        config.tunnel.sessions_max = SESSIONS;
        config.tunnel.admission.table_entries = 16;
        config.egress.sessions_max = SESSIONS as usize;
        config.egress.classes.iter_mut().for_each(|class| class.depth = 16);
        config.table.entries_max = 64;
        config.relay.channels_max = 8;
        config.relay.waiting_max = 16;
        config.allow_private = true;
        let slots = pool(limits::SLOT_BYTES, config.slots());
        let secrets = Secrets { cookies: [1; 32], seed: [2; 32] };
        let counters = Counters::anonymous(0).expect("memory");
        let tunnel = Plain::new(public, SESSIONS as usize);
        let peer = |which: usize, base| Peer::new(keys[which], public, base);
        let mut world = Self {
            router: Router::new(config, identity, tunnel, slots, counters, &secrets),
            receive: pool(limits::RX_SLOT_BYTES, 1),
            public,
            peers: [peer(0, 3 << 16), peer(1, 4 << 16)],
            places: [0, 1],
            now: Now { at: Moment::START + Duration::from_secs(1), unix_ms: 1_767_225_600_000 },
            stamp: 0,
            traffic: Default::default(),
            inbox: Vec::new(),
            relayed: Vec::new(),
            opened: Vec::new(),
        };
        (0..PEERS).for_each(|who| world.shake_hands(who));
        world
    }

    /// Lets a run of datagrams of `segment` bytes arrive.
    pub(super) fn arrive(&mut self, from: usize, bytes: &[u8], segment: usize) {
        let mut buf = self.receive.take().expect("the last one came home");
        assert!(buf.extend(bytes));
        self.traffic[from][0] += bytes.len();
        let (traffic, inbox) = (&mut self.traffic, &mut self.inbox);
        let relayed = &mut self.relayed;
        let mut send = |sent: Transmit| {
            let to = place(sent.path.peer);
            traffic[to][1] += sent.buf.len();
            if sent.buf.first() == Some(&channel::TYPE) {
                relayed.push((to, sent.buf.to_vec(), sent.segment));
            } else {
                inbox.push((to, sent.buf.to_vec()));
            }
        };
        let datagram = Datagram { path: path(from), buf, segment };
        self.router.receive(self.now, datagram, &mut send);
        self.router.transmit(self.now, &mut send);
        self.hear();
    }

    pub(super) fn later(&mut self, ms: u64) {
        self.now.at = self.now.at + Duration::from_millis(ms);
        self.now.unix_ms += ms;
        let (traffic, inbox) = (&mut self.traffic, &mut self.inbox);
        let relayed = &mut self.relayed;
        self.router.poll(self.now, &mut |sent: Transmit| {
            let to = place(sent.path.peer);
            traffic[to][1] += sent.buf.len();
            if sent.buf.first() == Some(&channel::TYPE) {
                relayed.push((to, sent.buf.to_vec(), sent.segment));
            } else {
                inbox.push((to, sent.buf.to_vec()));
            }
        });
        self.hear();
    }

    /// Peers take what came; a handshake is confirmed by a keepalive.
    fn hear(&mut self) {
        for (_, bytes) in std::mem::take(&mut self.inbox) {
            let mut out = [0; limits::SLOT_BYTES];
            for who in 0..PEERS {
                match self.peers[who].receive(&bytes, &mut out) {
                    Received::Established => self.speak(who, &[]),
                    Received::Data(len) if len > 0 => self.opened.push((who, out[..len].to_vec())),
                    Received::Data(_) | Received::Cookie | Received::Ignored => {}
                }
            }
        }
    }

    pub(super) fn shake_hands(&mut self, who: usize) {
        self.stamp += 1;
        let mut ephemeral = [0; 32];
        ephemeral[..8].copy_from_slice(&self.stamp.to_le_bytes());
        let initiation = self.peers[who].initiate(self.stamp, &ephemeral);
        self.arrive(self.places[who], &initiation, initiation.len());
    }

    pub(super) fn speak(&mut self, who: usize, plaintext: &[u8]) {
        let mut out = [0; 4096];
        if let Some(len) = self.peers[who].seal(plaintext, &mut out) {
            self.arrive(self.places[who], &out[..len], len);
        }
    }

    pub(super) fn check(&self) {
        let (free, all) = self.router.buffers();
        let waiting = self.router.queued() + self.router.relay().stats().waiting;
        assert_eq!(free + waiting, all, "a buffer is free or waits");
        assert_eq!(self.receive.free(), self.receive.slots());
        for [received, sent] in &self.traffic[PEERS..] {
            assert!(sent <= received, "{sent} bytes to strangers for {received}");
        }
    }
}

/// A frame with its shim.
pub(super) fn plaintext(frame: &[u8]) -> Vec<u8> {
    let total = u16::try_from(frame.len() + limits::SHIM_BYTES).unwrap_or(u16::MAX);
    let [high, low] = total.to_be_bytes();
    let mut plaintext = [&[b'M', 0, high, low], frame].concat();
    plaintext.resize(plaintext.len().max(limits::PLAINTEXT_MIN), 0);
    plaintext
}

/// Frames of two peers, garbage of strangers and time in any order: no panic, every buffer in
/// its place, and no stranger gets more than it gave.
pub fn router(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new([WgKey([3; 32]), WgKey([4; 32])]);
    for _ in 0..64 {
        let Some(step) = script.byte() else { break };
        let (who, from) = (usize::from(step >> 7), usize::from(step >> 6));
        match step & 7 {
            0 => {
                let bytes = script.bytes();
                world.arrive(from, bytes, usize::from(step >> 3 & 7) * 100 + 1);
            }
            1 => {
                let bytes = script.bytes();
                world.speak(who, &bytes[..bytes.len().min(1600)]);
            }
            2..=4 => {
                let frame = script.bytes();
                world.speak(who, &plaintext(&frame[..frame.len().min(1600)]));
            }
            5 => world.shake_hands(who),
            6 => {
                let mut datagram = [0; INITIATION_BYTES];
                let bytes = script.bytes();
                let len = bytes.len().min(INITIATION_BYTES - 4);
                datagram[4..4 + len].copy_from_slice(&bytes[..len]);
                datagram[0] = 1;
                let key = cookie::mac1_key(&world.public.0);
                let mac1 = cookie::mac(&key, &datagram[..MAC1_AT]);
                datagram[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
                world.arrive(from, &datagram, INITIATION_BYTES);
            }
            // Peers move between their two addresses only.
            _ if step & 8 == 0 => world.places[who] = 1 - world.places[who],
            _ => world.later(10 * u64::from(script.number())),
        }
        world.check();
    }
}
