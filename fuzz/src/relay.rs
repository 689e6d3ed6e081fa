//! The relay behind the router's port: two peers with a channel between them, and whatever they,
//! or strangers, send through it and around it.

use std::sync::LazyLock;

use molia_router::identity::Identity;
use molia_router::signing::consent;
use molia_router::wire::body::{
    ConsentToken, NegotiateReq, Overflow, RelayAllocReq, RelayAllocResp, RelayClose, Writer,
    consent_scope,
};
use molia_router::wire::channel::{self, Channel, HEADER_BYTES};
use molia_router::wire::probe::{self, Punch, PunchKind};
use molia_router::wire::{self, Header, Kind};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::router::{ADDRESSES, PEERS, World, plaintext};
use super::script::Script;

/// Within the lives of binding and consent, and what the router's clock begins with.
const NOW_S: u64 = 1_767_225_600;

static IDENTITIES: LazyLock<[Identity; PEERS]> = LazyLock::new(|| {
    [11, 12].map(|seed| Identity::generate(&mut ChaCha12Rng::seed_from_u64(seed)))
});

struct Pair {
    world: World,
    /// The channel as each of the two was told of it last.
    legs: [Channel; PEERS],
}

impl Pair {
    fn new() -> Self {
        let keys = [IDENTITIES[0].wg_key(), IDENTITIES[1].wg_key()];
        let nowhere = Channel { generation: 0, id: 0 };
        let mut pair = Self { world: World::new(keys), legs: [nowhere; PEERS] };
        for (who, identity) in IDENTITIES.iter().enumerate() {
            // A session that was answered with a cookie comes about with the next initiation.
            pair.world.later(1000);
            pair.world.shake_hands(who);
            let binding = Some(identity.binding(0, u64::from(u32::MAX)));
            let request = NegotiateReq { binding, ..NegotiateReq::default() };
            pair.ask(who, Kind::NegotiateReq, |out| request.write(out));
        }
        pair.allocate(0);
        assert!(pair.legs.iter().all(|leg| *leg != nowhere), "there is a channel to try");
        for who in 0..PEERS {
            let data = pair.datagram(who, 4, 40);
            pair.world.arrive(pair.world.places[who], &data, data.len());
            assert_eq!(pair.world.relayed.len(), who + 1, "it goes through");
        }
        pair.check();
        pair
    }

    fn ask(
        &mut self,
        who: usize,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        let mut out = [0; 1400];
        let len = wire::encode(&mut out, Header::request(kind, 7), body).expect("small enough");
        self.world.speak(who, &out[..len]);
        self.learn();
    }

    /// Asks for the channel with the other's consent, or keeps it.
    fn allocate(&mut self, who: usize) {
        let [me, other] = [&IDENTITIES[who], &IDENTITIES[1 - who]];
        let (subject, scope) = (Some(me.peer_id()), consent_scope::RELAY);
        let token = consent::sign(other.signing_key(), subject, scope, NOW_S + 600);
        let mut room = [0; 256];
        let request = RelayAllocReq {
            peer: other.peer_id(),
            consent: encoded(&token, &mut room),
            want_bps: 0,
            channel: self.legs[who].id,
            stock_wireguard: false,
        };
        self.ask(who, Kind::RelayAllocReq, |out| request.write(out));
    }

    /// What the peers are told of channels.
    fn learn(&mut self) {
        for (who, plaintext) in std::mem::take(&mut self.world.opened) {
            let (_, header, body) = wire::split(wire::open(&plaintext).expect("a router's frame"));
            if [Kind::RelayAllocResp.id(), Kind::RelayOffer.id()].contains(&header.kind) {
                let told = RelayAllocResp::read(body).expect("a router's body");
                let generation = u16::try_from(told.generation).expect("as much as a header has");
                self.legs[who] = Channel { generation, id: told.channel };
            }
        }
    }

    /// What leaves as channel data is a whole number of messages that somebody was told a channel for.
    fn check(&mut self) {
        self.learn();
        for (_, bytes, segment) in std::mem::take(&mut self.world.relayed) {
            for datagram in bytes.chunks(segment) {
                let leg = Channel::read(datagram).expect("a header");
                assert!(self.legs.contains(&leg), "{leg:?} is none of {:?}", self.legs);
                assert!(channel::inner(&datagram[HEADER_BYTES..]).is_ok(), "not relayed");
            }
        }
        self.world.check();
    }

    /// One datagram of `bytes` bytes, of the sort that `which` says.
    fn datagram(&self, who: usize, which: u8, bytes: usize) -> Vec<u8> {
        let leg = match which >> 6 {
            0 | 1 => self.legs[who],
            2 => self.legs[1 - who],
            _ => Channel { generation: self.legs[who].generation ^ 1, ..self.legs[who] },
        };
        let mut head = [0; HEADER_BYTES];
        leg.write(&mut head);
        let message = match which & 7 {
            kind @ 1..=3 => [kind, 0, 0, 0],
            5 => [4, 0, 1, 0],
            _ => [4, 0, 0, 0],
        };
        let mut datagram = match which & 7 {
            6 => {
                let kind = if which & 8 == 0 { PunchKind::Probe } else { PunchKind::Answer };
                let (attempt, clock_us) = (probe::attempt_id(&[which; 32]), 1);
                probe::punch_write(&Punch { kind, attempt, clock_us }, &[which; 32]).to_vec()
            }
            7 => probe::filter_write(u64::from(which), &IDENTITIES[who].wg_key()).to_vec(),
            _ => [&head[..], &message].concat(),
        };
        datagram.resize(bytes, which);
        datagram
    }

    /// A run of datagrams of one length, the last one perhaps shorter, any sorts mixed.
    fn run(&self, who: usize, script: &mut Script<'_>) -> (Vec<u8>, usize) {
        let segment = usize::from(script.number() % 1500).max(1);
        let last = usize::from(script.number() % 1500).clamp(1, segment);
        let sorts = script.bytes();
        let mut run = Vec::new();
        for (at, sort) in sorts.iter().enumerate().take(8) {
            let bytes = if at + 1 == sorts.len() { last } else { segment };
            run.extend(self.datagram(who, *sort, bytes));
        }
        (run, segment)
    }
}

fn encoded<'a>(token: &ConsentToken, room: &'a mut [u8]) -> &'a [u8] {
    let mut out = Writer::new(room);
    token.write(&mut out).expect("a token's room");
    let len = out.len();
    &room[..len]
}

/// Channel data, probes, control frames, moves and time in any order: no panic, every buffer in its
/// place, and nothing is relayed that has not a message's shape and a leg's header.
pub fn relay(data: &[u8]) {
    let mut script = Script(data);
    let mut pair = Pair::new();
    for _ in 0..64 {
        let Some(step) = script.byte() else { break };
        let who = usize::from(step >> 7);
        let home = pair.world.places[who];
        match step & 7 {
            0 | 1 => {
                let from = if step & 8 == 0 { home } else { usize::from(step >> 4 & 3) };
                let (mut run, segment) = pair.run(who, &mut script);
                if step & 1 == 1 {
                    let at = usize::from(script.number()) % run.len().max(1);
                    let flip = script.byte().unwrap_or(0);
                    run.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
                }
                pair.world.arrive(from % ADDRESSES.len(), &run, segment);
            }
            2 => {
                let bytes = script.bytes();
                let datagram = [&[5 + (step >> 3 & 3) % 3], bytes].concat();
                pair.world.arrive(usize::from(step >> 5 & 3), &datagram, datagram.len());
            }
            3 => pair.allocate(who),
            4 => {
                let close = RelayClose { channel: pair.legs[who].id, reason: 1 };
                pair.ask(who, Kind::RelayClose, |out| close.write(out));
            }
            5 => {
                let frame = script.bytes();
                pair.world.speak(who, &plaintext(&frame[..frame.len().min(1400)]));
            }
            6 if step & 8 == 0 => pair.world.places[who] = 1 - home,
            6 => pair.world.shake_hands(who),
            _ => pair.world.later(10 * u64::from(script.number())),
        }
        pair.check();
    }
}
