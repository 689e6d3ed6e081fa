//! Random messages, lost, late, repeated and from forged addresses, against a small model of
//! what a router may do: which key it seals under, and how much it sends to whom.

use std::collections::HashMap;

use proptest::prelude::*;

use super::world::*;
use super::*;

const CLIENTS: u16 = 3;
/// Addresses from here on are forged: nothing sent there arrives anywhere.
const FORGED: u8 = 100;

#[derive(Clone, Debug)]
enum Act {
    Initiate {
        client: usize,
        from: u8,
    },
    Send {
        client: usize,
        from: u8,
        len: u16,
    },
    /// A message on the way arrives, from where it was sent or from a forged address, and may come again.
    Arrive {
        which: usize,
        forged: Option<u8>,
        again: bool,
    },
    Lose {
        which: usize,
    },
    Answer {
        client: usize,
        len: u16,
    },
    Wait {
        ms: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let client = 0..usize::from(CLIENTS);
    let from = 1_u8..4;
    let forged = prop::option::weighted(0.15, FORGED..FORGED + 3);
    prop_oneof![
        2 => (client.clone(), from.clone()).prop_map(|(client, from)| Act::Initiate { client, from }),
        3 => (client.clone(), from, 20_u16..200)
            .prop_map(|(client, from, len)| Act::Send { client, from, len }),
        8 => (any::<usize>(), forged, prop::bool::weighted(0.2))
            .prop_map(|(which, forged, again)| Act::Arrive { which, forged, again }),
        1 => any::<usize>().prop_map(|which| Act::Lose { which }),
        4 => (client, 20_u16..200).prop_map(|(client, len)| Act::Answer { client, len }),
        2 => (0_u32..15).prop_flat_map(|log| 0_u64..2 << log).prop_map(|ms| Act::Wait { ms }),
        1 => (1000_u64..70_000).prop_map(|ms| Act::Wait { ms }),
    ]
}

/// What is known of a peer's keys by watching what goes over the wire.
#[derive(Default)]
struct Keys {
    /// By the router's index: which handshake it was, the client's index, when.
    made: HashMap<u32, (u32, u32, Moment)>,
    handshakes: u32,
    /// The newest that data came under.
    confirmed: Option<(u32, u32, Moment)>,
    /// A confirmed key's place was taken, and the newest key is not confirmed yet.
    overwritten: bool,
}

struct Trial<K: Kind> {
    world: World<K>,
    clients: Vec<K::Client>,
    keys: Vec<Keys>,
    underway: Vec<(u8, Vec<u8>)>,
    /// By forged address: bytes in, bytes out.
    forged: HashMap<u8, (usize, usize)>,
    established: Vec<bool>,
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

fn last_byte(path: &Path) -> u8 {
    match path.peer.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => unreachable!("all paths here are IPv4"),
    }
}

impl<K: Kind> Trial<K> {
    fn new(config: Config) -> Self {
        let world = World::<K>::new(config);
        let clients: Vec<_> = (0..CLIENTS).map(|n| world.client(n)).collect();
        let keys = (0..CLIENTS).map(|_| Keys::default()).collect();
        let established = vec![false; usize::from(CLIENTS)];
        Self { world, clients, keys, underway: Vec::new(), forged: HashMap::new(), established }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Initiate { client, from } => {
                let initiation = self.clients[client].initiate();
                self.underway.push((from, initiation.to_vec()));
            }
            Act::Send { client, from, len } if self.established[client] => {
                let data = self.clients[client].seal(&frame(len, 1));
                self.underway.push((from, data));
            }
            Act::Arrive { which, forged, again } if !self.underway.is_empty() => {
                let which = which % self.underway.len();
                let (from, bytes) =
                    if again { self.underway[which].clone() } else { self.underway.remove(which) };
                self.arrive(forged.unwrap_or(from), &bytes);
            }
            Act::Lose { which } if !self.underway.is_empty() => {
                let which = which % self.underway.len();
                self.underway.remove(which);
            }
            Act::Answer { client, len } => self.answer(client, len),
            Act::Wait { ms } => {
                for due in self.world.run(Duration::from_millis(ms)) {
                    self.due(due);
                }
            }
            Act::Send { .. } | Act::Arrive { .. } | Act::Lose { .. } => {}
        }
        self.check();
    }

    fn arrive(&mut self, from: u8, bytes: &[u8]) {
        self.world.pass(Duration::from_micros(10));
        if from >= FORGED {
            self.forged.entry(from).or_default().0 += bytes.len();
        }
        let got = self.world.give(&path(from), bytes);
        if let Got::Reply(reply, _) = &got {
            self.sent(from, reply, false);
        }
        let authentic = matches!(got, Got::Frame(..)) || (got == Got::Nothing && bytes[0] == 4);
        if authentic {
            let index = word(&bytes[4..]);
            let peer = self.keys.iter_mut().find(|keys| keys.made.contains_key(&index));
            let keys = peer.expect("authentic data has a key");
            let key = keys.made[&index];
            keys.confirmed = keys.confirmed.max(Some(key));
            keys.overwritten &= key.0 != keys.handshakes;
        }
    }

    fn due(&mut self, due: Due) {
        match due {
            Due::Send(to, bytes) => {
                let challenge = bytes[0] == 4 && bytes.len() > DATA_OVERHEAD;
                self.sent(last_byte(&to), &bytes, challenge);
            }
            Due::Ended(_, key) => {
                let ours = self.clients.iter().position(|client| client.key() == key);
                self.keys[ours.unwrap()] = Keys::default();
            }
            Due::Move(..) => unreachable!("there is one shard"),
            Due::Refused(..) => unreachable!("there is room for all"),
            Due::Dropped(_) => {}
        }
    }

    /// The router sent something: note the key it made, account it, deliver it if anybody is there.
    fn sent(&mut self, to: u8, bytes: &[u8], challenge: bool) {
        if bytes[0] == 2 {
            let (ours, theirs) = (word(&bytes[4..]), word(&bytes[8..]));
            let keys = &mut self.keys[(theirs >> 8) as usize];
            keys.handshakes += 1;
            keys.made.insert(ours, (keys.handshakes, theirs, self.world.now.at));
            keys.overwritten |=
                keys.confirmed.is_some_and(|(order, ..)| keys.handshakes - order >= 8);
        }
        if to >= FORGED {
            self.forged.entry(to).or_default().1 += if challenge { 0 } else { bytes.len() };
            return;
        }
        for client in 0..self.clients.len() {
            match self.clients[client].hear(bytes) {
                Heard::Established(first) => {
                    self.established[client] = true;
                    self.underway.push((to, first));
                }
                Heard::Cookie | Heard::Keepalive | Heard::Frame(_) | Heard::Nothing => {}
            }
        }
    }

    fn answer(&mut self, client: usize, len: u16) {
        let now = self.world.now.at;
        let Some(session) = self.world.sessions.by_key(&self.clients[client].key()) else { return };
        let sealed = self.world.seal(session, &frame(len, 2));
        let keys = &self.keys[client];
        let tenant = self.world.sessions.session(session).unwrap();
        let fresh = |made: Moment| now.since(made) < Duration::from_secs(180);
        match (sealed, keys.confirmed) {
            (Ok((to, bytes)), Some((_, theirs, made))) => {
                assert!(fresh(made) && !keys.overwritten);
                assert_eq!(word(&bytes[4..]), theirs, "the newest key that the peer has used");
                self.sent(last_byte(&to), &bytes, false);
            }
            (Ok(_), None) => panic!("sealed under a key that nobody has used"),
            (Err(Drop::Unconfirmed), confirmed) => {
                assert!(confirmed.is_none() || keys.overwritten);
            }
            (Err(Drop::ExpiredKeys), Some((.., made))) => assert!(!fresh(made)),
            (Err(Drop::Unproven), Some(_)) => assert!(!tenant.proven()),
            (Err(drop), confirmed) => panic!("{drop:?} with {confirmed:?}"),
        }
    }

    fn check(&self) {
        for (address, (bytes_in, bytes_out)) in &self.forged {
            assert!(bytes_out <= bytes_in, "{bytes_out} to {address} for {bytes_in}");
        }
        for (_, session) in self.world.sessions.live() {
            let forged = last_byte(session.path()) >= FORGED;
            assert!(!(forged && session.proven()), "an address where nothing arrives is proven");
        }
        assert_eq!(self.world.sessions.stats().keys_lost, 0);
    }
}

fn play<K: Kind>(besieged: bool, budget: u32, acts: Vec<Act>) {
    let cookie_threshold_pps = if besieged { 0 } else { 1_000_000 };
    let admission = admission::Config { cookie_threshold_pps, ..roomy().admission };
    let mut trial = Trial::<K>::new(Config { admission, handshakes_per_turn: budget, ..roomy() });
    acts.into_iter().for_each(|act| trial.act(act));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn stock(besieged: bool, budget in 1_u32..3, acts in prop::collection::vec(act(), 1..120)) {
        play::<Stock>(besieged, budget, acts);
    }

    #[test]
    fn simulated(besieged: bool, budget in 1_u32..3, acts in prop::collection::vec(act(), 1..250)) {
        play::<Simulated>(besieged, budget, acts);
    }
}
