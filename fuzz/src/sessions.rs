//! Admission, sessions and stock BoringTun: everything a stranger's datagram goes through.

use std::net::SocketAddr;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use molia_router::admission::{MAC1_AT, MAC2_AT, cookie};
use molia_router::ids::WgKey;
use molia_router::net::{Local, Path};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::tunnel::{Config, Event, INITIATION_BYTES, Opened, Secrets, Sessions};

use super::script::Script;

const ADDRESSES: [&str; 4] =
    ["192.0.2.1:1000", "192.0.2.2:1000", "198.51.100.7:7", "[2001:db8::1]:1000"];
/// The address the honest peer speaks from; the others belong to strangers.
const HONEST: usize = 0;

struct World {
    sessions: Sessions<WireGuard>,
    mac1_key: [u8; 32],
    honest: Tunn,
    now: Now,
    scratch: Vec<u8>,
    /// Bytes from and to each address.
    traffic: [[usize; 2]; ADDRESSES.len()],
}

impl World {
    fn new() -> Self {
        let secret = StaticSecret::from([7; 32]);
        let public = PublicKey::from(&secret);
        let mut config = Config { sessions_max: 4, ..Config::default() };
        config.admission.table_entries = 16;
        config.admission.cookie_threshold_pps = 2;
        let secrets = Secrets { cookies: [1; 32], seed: [2; 32] };
        let key = WgKey(public.to_bytes());
        let honest = Tunn::new(StaticSecret::from([9; 32]), public, None, None, 5, None);
        Self {
            sessions: Sessions::new(config, WireGuard::new(secret, 4), &key, &secrets),
            mac1_key: cookie::mac1_key(&key.0),
            honest,
            now: Now { at: Moment::START + Duration::from_secs(1), unix_ms: 1_767_225_600_000 },
            scratch: vec![0; 4096],
            traffic: Default::default(),
        }
    }

    /// Lets a datagram arrive; returns what is sent back at once.
    fn arrive(&mut self, from: usize, datagram: &[u8]) -> Option<Vec<u8>> {
        let peer: SocketAddr = ADDRESSES[from].parse().expect("an address");
        let path = Path { peer, local: Local::default() };
        self.traffic[from][0] += datagram.len();
        match self.sessions.receive(self.now, &path, datagram, &mut self.scratch) {
            Opened::Reply { bytes, .. } => {
                self.traffic[from][1] += bytes.len();
                Some(bytes.to_vec())
            }
            Opened::Frame { session, plaintext } => {
                assert!(plaintext.len() + 32 <= datagram.len());
                assert!(self.sessions.session(session).is_some(), "a frame of a live session");
                None
            }
            Opened::Nothing | Opened::Dropped(_) => None,
            Opened::Elsewhere(_) | Opened::Move(_) => unreachable!("there is one shard"),
        }
    }

    /// What the honest peer sends next: an initiation, or data once it has keys.
    fn honest(&mut self, plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 2048];
        match self.honest.encapsulate(plaintext, &mut out) {
            TunnResult::WriteToNetwork(bytes) => Some(bytes.to_vec()),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    fn answer(&mut self, reply: &[u8]) {
        let mut out = [0; 2048];
        if let TunnResult::WriteToNetwork(bytes) = self.honest.decapsulate(None, reply, &mut out) {
            let keepalive = bytes.to_vec();
            self.arrive(HONEST, &keepalive);
        }
    }

    fn poll(&mut self, later_ms: u64) {
        self.now.at = self.now.at + Duration::from_millis(later_ms);
        self.now.unix_ms += later_ms;
        while let Some(event) = self.sessions.poll(self.now, &mut self.scratch) {
            if let Event::Send(path, bytes) | Event::Refused(path, bytes, _) = event {
                let to =
                    ADDRESSES.iter().position(|it| path.peer == it.parse().expect("an address"));
                self.traffic[to.expect("an address that spoke")][1] += bytes.len();
            }
        }
    }

    fn with_mac1(&self, bytes: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; INITIATION_BYTES];
        let len = bytes.len().min(INITIATION_BYTES - 4);
        datagram[4..4 + len].copy_from_slice(&bytes[..len]);
        datagram[0] = 1;
        let mac1 = cookie::mac(&self.mac1_key, &datagram[..MAC1_AT]);
        datagram[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
        datagram
    }
}

/// Datagrams of strangers, genuine and bent ones of an honest peer, and time, in any order: no
/// panic, no bytes to strangers beyond what came from them, sessions within their slots.
pub fn sessions(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new();
    for _ in 0..64 {
        let Some(step) = script.byte() else { break };
        let from = usize::from(step >> 6);
        match step & 7 {
            0 | 1 => {
                world.arrive(from, script.bytes());
            }
            2 => {
                let datagram = world.with_mac1(script.bytes());
                world.arrive(from.max(1), &datagram);
            }
            3 | 4 => {
                let bytes = script.bytes();
                let bytes = &bytes[..bytes.len().min(1600)];
                let sent = world.honest(&[bytes, &[0; 20]].concat());
                if let Some(reply) = sent.and_then(|sent| world.arrive(HONEST, &sent)) {
                    world.answer(&reply);
                }
            }
            5 => {
                let (at, bits) = (usize::from(script.number()), script.byte().unwrap_or(1).max(1));
                if let Some(mut sent) = world.honest(&[0x4D, 0, 0, 20, 1, 1]) {
                    let at = at % sent.len();
                    sent[at] ^= bits;
                    world.arrive(from, &sent);
                }
            }
            _ => world.poll(10 * u64::from(script.number())),
        }
        assert!(world.sessions.len() <= world.sessions.capacity());
        // An honest datagram may have come from any address, bent where nothing covers it.
        for [received, sent] in &world.traffic[1..] {
            assert!(sent <= received, "{sent} bytes for {received}");
        }
    }
}
