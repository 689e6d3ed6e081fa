//! What honest clients want of each other: to be introduced, and data relayed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use molia_router::client::peer::{Peer, Raw};
use molia_router::client::requests::{Answer, Requests};
use molia_router::client::session::{Config, Session};
use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::limits::PLAINTEXT_BASE;
use molia_router::signing::consent;
use molia_router::time::Now;
use molia_router::wire::body::{
    Addrs, Overflow, RelayAllocReq, RelayAllocResp, RelayClose, RendezvousAck, RendezvousReq,
    RendezvousResp, RendezvousStatus, Writer,
};
use molia_router::wire::channel::{Channel, HEADER_BYTES};
use molia_router::wire::{self, Header, Kind, frame, multiaddr};

use super::{Ask, Honest, RouterFacts};
use crate::dice::Dice;
use crate::keys::Side;
use crate::plain::PlainInitiator;

/// What a consent is good for, in seconds.
const CONSENT_S: u64 = 20 * 60;
/// Behind the header of data that the end of the world is judged by.
const LAST: [u8; 4] = *b"LAST";
const LEAST: usize = HEADER_BYTES + 32;

/// A new connection: the `life`-th of the client.
pub(super) fn connection(
    number: usize,
    life: u32,
    key: WgKey,
    router: &RouterFacts,
    at: SocketAddr,
    clock: &Rc<Cell<u64>>,
    dice: &mut Dice,
) -> (Peer<PlainInitiator>, Side) {
    let number = u32::try_from(number).expect("few clients");
    let index = number << 20 | life << 12;
    let initiator = PlainInitiator::new(key, router.key, index, Rc::clone(clock), dice.fork());
    let side = initiator.side();
    let session = Session::new(initiator, Config::default(), dice.rng());
    (Peer::new(session, Requests::new(dice.rng()), router.addr_for(&at)), side)
}

/// Whom somebody wants to reach, and its word for it.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) id: PeerId,
    pub(crate) consents: [Vec<u8>; 2],
}

/// A question about another peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Meet,
    Channel(PeerId),
    Close(u32),
}

/// What a client has of others.
#[derive(Debug)]
pub(crate) struct Pairs {
    dice: Dice,
    side: Side,
    legs: BTreeMap<PeerId, Channel>,
    out: Vec<Vec<u8>>,
    sent: u64,
    /// What came back in the last round.
    pub(crate) last_met: bool,
    pub(crate) last_carried: bool,
}

impl Pairs {
    pub(super) fn new(key: &WgKey, side: Side) -> Self {
        let seed = u64::from_be_bytes(*key.0.first_chunk().expect("32 bytes"));
        Self {
            dice: Dice::of(seed),
            side,
            legs: BTreeMap::new(),
            out: Vec::new(),
            sent: 0,
            last_met: false,
            last_carried: false,
        }
    }

    /// A new life.
    pub(super) fn restart(&mut self, side: Side) {
        (self.side, self.legs) = (side, BTreeMap::new());
    }

    pub(super) fn begin_last_round(&mut self) {
        (self.last_met, self.last_carried) = (false, false);
    }

    pub(super) fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// Channel data comes.
    pub(super) fn carried(&mut self, datagram: &[u8]) {
        let known =
            Channel::read(datagram).is_ok_and(|it| self.legs.values().any(|leg| *leg == it));
        self.last_carried |= known && datagram.get(12..16) == Some(&LAST);
    }

    /// Something that looks like a WireGuard message, unlike any other.
    fn data(&mut self, channel: Channel, key: &WgKey, last: bool, len: usize) -> Vec<u8> {
        let mut datagram = vec![0xAB; len.max(LEAST)];
        let mut head = [0; HEADER_BYTES];
        channel.write(&mut head);
        datagram[..8].copy_from_slice(&head);
        datagram[8..12].copy_from_slice(&[4, 0, 0, 0]);
        datagram[12..16].copy_from_slice(if last { &LAST } else { b"DATA" });
        datagram[16..24].copy_from_slice(&key.0[..8]);
        self.sent += 1;
        datagram[24..32].copy_from_slice(&self.sent.to_be_bytes());
        datagram
    }

    fn say(&mut self, header: Header, body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>) {
        let mut plaintext = [0; PLAINTEXT_BASE];
        let len = frame::encode(&mut plaintext, header, body).expect("it fits");
        let mut out = [0; 2048];
        let sealed = self.side.borrow_mut().peer.seal(&plaintext[..len], &mut out);
        self.out.extend(sealed.map(|len| out[..len].to_vec()));
    }
}

/// A token of `issuer`'s.
pub(crate) fn consent(issuer: &Identity, subject: PeerId, scope: u32, now: Now) -> Vec<u8> {
    let ends = now.unix_s() + CONSENT_S;
    let token = consent::sign(issuer.signing_key(), Some(subject), scope, ends);
    encoded(|out| token.write(out))
}

pub(crate) fn encoded(write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>) -> Vec<u8> {
    let mut bytes = [0; 1200];
    let mut out = Writer::new(&mut bytes);
    write(&mut out).expect("it fits");
    let len = out.len();
    bytes[..len].to_vec()
}

impl Honest {
    pub(crate) fn other(&self, subject: PeerId, now: Now) -> Other {
        let consents = [1, 2].map(|scope| consent(&self.identity, subject, scope, now));
        Other { id: self.peer_id, consents }
    }

    /// Wants something of `other`, or of whom it has a channel to.
    pub(crate) fn pair(&mut self, now: Now, other: &Other) {
        let consents = self.pairs.dice.permille(800);
        match self.pairs.dice.below(10) {
            0..=2 => self.meet(now, other, consents),
            3..=5 => self.channel(now, other, consents),
            6 => self.close(now),
            _ => {}
        }
        let legs: Vec<Channel> = self.pairs.legs.values().copied().collect();
        for leg in legs {
            let count = 1 + self.pairs.dice.below(12);
            let len = LEAST + self.pairs.dice.below(1200);
            for _ in 0..count {
                let data = self.pairs.data(leg, &self.wg_key, false, len);
                self.pairs.out.push(data);
            }
        }
    }

    /// What the end of the world is judged by.
    pub(crate) fn pair_last(&mut self, now: Now, other: &Other) {
        if !self.pairs.last_met {
            self.meet(now, other, true);
        }
        self.channel(now, other, true);
        self.carry_last(&other.id);
    }

    fn carry_last(&mut self, other: &PeerId) {
        if let Some(leg) = self.pairs.legs.get(other).copied() {
            let data = self.pairs.data(leg, &self.wg_key, true, LEAST);
            self.pairs.out.push(data);
        }
    }

    fn meet(&mut self, now: Now, other: &Other, consents: bool) {
        let addrs = self.declared();
        let request = RendezvousReq {
            target: other.id,
            candidates: Addrs::of(&addrs),
            nat_mapping: self.pairs.dice.u32() % 5,
            nat_filtering: self.pairs.dice.u32() % 5,
            consent: if consents { &other.consents[0] } else { &[] },
        };
        let body = encoded(|out| request.write(out));
        self.want(now, Kind::RendezvousReq, &body, Wish::Meet);
    }

    fn channel(&mut self, now: Now, other: &Other, consents: bool) {
        let consent = if consents { &other.consents[1][..] } else { &[] };
        let want_bps = if self.pairs.dice.permille(200) { 20_000 } else { 0 };
        let request =
            RelayAllocReq { peer: other.id, consent, want_bps, channel: 0, stock_wireguard: false };
        let body = encoded(|out| request.write(out));
        self.want(now, Kind::RelayAllocReq, &body, Wish::Channel(other.id));
    }

    fn close(&mut self, now: Now) {
        let Some((_, leg)) = self.pairs.legs.pop_first() else { return };
        let body = encoded(|out| RelayClose { channel: leg.id, reason: 1 }.write(out));
        self.want(now, Kind::RelayClose, &body, Wish::Close(leg.id));
    }

    fn want(&mut self, now: Now, kind: Kind, body: &[u8], wish: Wish) {
        let sent =
            self.peer.request_raw(Raw { version: 1, header: Header::request(kind, 0), body });
        self.note(now, sent.expect("it fits"), Ask::Pair(wish));
    }

    /// Where it says it is: some of that is nobody's business.
    fn declared(&mut self) -> Vec<multiaddr::Multiaddr> {
        let host = self.pairs.dice.byte();
        let inner = SocketAddr::from(([192, 168, 7, host], 4000));
        let more = [inner, ([127, 0, 0, 1], 4000).into(), ([198, 51, 200, host], 5000).into()];
        let count = self.pairs.dice.below(more.len() + 1);
        let addrs = [self.addr()].into_iter().chain(more.into_iter().take(count));
        addrs.map(multiaddr::encode).collect()
    }

    /// Does what notices ask for. In the end everybody is polite.
    pub(super) fn take_notices(&mut self) {
        loop {
            let notice = self.pairs.side.borrow_mut().notices.pop_front();
            let Some(notice) = notice else { return };
            let Ok(frame) = wire::open(&notice) else { continue };
            let (_, header, body) = wire::split(frame);
            if header.kind == Kind::RendezvousNotify.id() {
                self.acknowledge(header.correlation);
            } else if header.kind == Kind::RelayOffer.id() {
                self.granted(body);
            } else if header.kind == Kind::RelayClose.id()
                && let Ok(closed) = RelayClose::read(body)
            {
                self.pairs.legs.retain(|_, leg| leg.id != closed.channel);
            }
        }
    }

    fn acknowledge(&mut self, correlation: u32) {
        let polite = self.last_round;
        if !polite && self.pairs.dice.permille(150) {
            return;
        }
        let addrs = self.declared();
        let ack = RendezvousAck {
            accept: polite || self.pairs.dice.permille(800),
            candidates: Addrs::of(&addrs),
            nat_mapping: self.pairs.dice.u32() % 4,
            nat_filtering: self.pairs.dice.u32() % 4,
            consent: &[],
        };
        let header = Header::response(Kind::RendezvousAck, correlation);
        self.pairs.say(header, |out| ack.write(out));
    }

    fn granted(&mut self, body: &[u8]) -> Option<PeerId> {
        let told = RelayAllocResp::read(body).ok()?;
        let generation = u16::try_from(told.generation).ok()?;
        self.pairs.legs.insert(told.peer, Channel { generation, id: told.channel });
        Some(told.peer)
    }

    /// What came of a wish.
    pub(super) fn judge_pair(&mut self, wish: Wish, answer: &Answer) -> bool {
        let body = answer.bodies.concat();
        match wish {
            Wish::Meet => RendezvousResp::read(&body).is_ok_and(|told| {
                let met = told.status == RendezvousStatus::Ok;
                self.pairs.last_met = true;
                met == told.attempt_secret.is_some()
            }),
            Wish::Channel(other) => {
                let right = self.granted(&body) == Some(other);
                if self.last_round {
                    self.carry_last(&other);
                }
                right
            }
            Wish::Close(channel) => {
                RelayClose::read(&body).is_ok_and(|closed| closed.channel == channel)
            }
        }
    }
}
