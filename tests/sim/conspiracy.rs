//! What the hostile do to introductions and to the relay.

use std::net::SocketAddr;

use molia_router::ids::PeerId;
use molia_router::time::Now;
use molia_router::wire::body::{Addrs, RelayAllocReq, RendezvousReq};
use molia_router::wire::channel::{Channel, HEADER_BYTES};
use molia_router::wire::{Header, Kind};

use super::honest::{consent, encoded};
use super::hostile::{Hostile, Shot};

fn allocation(peer: PeerId, consent: &[u8]) -> RelayAllocReq<'_> {
    RelayAllocReq { peer, consent, want_bps: 0, channel: 0, stock_wireguard: false }
}

impl Hostile {
    /// The next misdeed of several together.
    pub(crate) fn conspire(&mut self, now: Now) -> Vec<Shot> {
        let at = self.dice.below(self.insiders.len());
        let with = (at + 1 + self.dice.below(self.insiders.len() - 1)) % self.insiders.len();
        if !self.insiders.iter().all(|insider| insider.has_key(now.at.as_nanos())) {
            return Vec::new();
        }
        match self.dice.below(9) {
            0 => self.insiders.iter_mut().flat_map(|it| it.join()).collect(),
            1 | 2 => vec![self.ally(now, at, with)],
            3 | 4 => self.pour(at),
            5 => self.forge(),
            6 => self.mix(at),
            7 => self.pester(now, at),
            _ => self.hide(at),
        }
    }

    /// A channel between two of them.
    fn ally(&mut self, now: Now, at: usize, with: usize) -> Shot {
        let (from, to) = (self.insiders[at].peer_id(), self.insiders[with].peer_id());
        let token = consent(self.insiders[with].identity(), from, 2, now);
        let request = allocation(to, &token);
        let body = encoded(|out| request.write(out));
        let header = Header::request(Kind::RelayAllocReq, self.dice.u32());
        self.insiders[at].frame(header, &body)
    }

    fn leg(&mut self, at: usize) -> Option<Channel> {
        let legs = &self.insiders[at].legs;
        if legs.is_empty() { None } else { Some(legs[self.dice.below(legs.len())]) }
    }

    fn data(&mut self, channel: Channel, len: usize) -> Vec<u8> {
        let mut bytes = self.dice.blob(len.max(HEADER_BYTES + 32));
        let mut head = [0; HEADER_BYTES];
        channel.write(&mut head);
        bytes[..8].copy_from_slice(&head);
        bytes[8..12].copy_from_slice(&[4, 0, 0, 0]);
        bytes
    }

    /// More than anybody may send.
    fn pour(&mut self, at: usize) -> Vec<Shot> {
        let Some(channel) = self.leg(at) else { return Vec::new() };
        let from = self.insiders[at].addr;
        let (count, len) = (self.dice.below(60) + 5, 40 + self.dice.below(1300));
        (0..count).map(|_| Shot::now(from, self.data(channel, len))).collect()
    }

    /// Data for others' channels, from elsewhere, or for no channel at all, or none.
    fn forge(&mut self) -> Vec<Shot> {
        let legs: Vec<Channel> = self.insiders.iter().flat_map(|it| it.legs.clone()).collect();
        let overheard = self.recorded.iter().filter_map(|(_, bytes)| Channel::read(bytes).ok());
        let mut known: Vec<Channel> = legs.into_iter().chain(overheard).collect();
        let (generation, id) = (self.dice.u32().to_be_bytes(), self.dice.u32());
        let [g0, g1, ..] = generation;
        known.push(Channel { generation: u16::from_be_bytes([g0, g1]), id });
        let mut shots = Vec::new();
        for channel in known {
            let from = self.anywhere(false);
            let bytes = self.data(channel, 100);
            let mut flagged = bytes.clone();
            flagged[1] = 0x80;
            let mut shapeless = bytes.clone();
            shapeless[9] = 1;
            let short = bytes[..6].to_vec();
            shots.extend([bytes, flagged, shapeless, short].map(|bytes| Shot::now(from, bytes)));
        }
        shots
    }

    /// Runs of what is data and what is not, which may arrive as one.
    fn mix(&mut self, at: usize) -> Vec<Shot> {
        let Some(channel) = self.leg(at) else { return Vec::new() };
        let from = self.insiders[at].addr;
        let other = Channel { id: channel.id ^ 2, ..channel };
        let shots = (0..20).map(|n| {
            let channel = if n % 7 == 3 { other } else { channel };
            let mut bytes = self.data(channel, 90);
            bytes[8] = if n % 3 == 1 { 9 } else { 4 };
            Shot::now(from, bytes)
        });
        shots.collect()
    }

    /// Asks for everybody, with consents that are worth nothing.
    fn pester(&mut self, now: Now, at: usize) -> Vec<Shot> {
        let own = self.insiders[at].peer_id();
        let forged = consent(self.insiders[at].identity(), own, 2, now);
        let mut shots = Vec::new();
        for _ in 0..12 {
            let victim = *self.dice.pick(&self.victims);
            let token: &[u8] = if self.dice.permille(300) { &[] } else { &forged };
            let alloc = allocation(victim, token);
            let meet = RendezvousReq {
                target: victim,
                candidates: Addrs::NONE,
                nat_mapping: 1,
                nat_filtering: 1,
                consent: token,
            };
            let (kind, body) = match self.dice.permille(500) {
                true => (Kind::RelayAllocReq, encoded(|out| alloc.write(out))),
                false => (Kind::RendezvousReq, encoded(|out| meet.write(out))),
            };
            let header = Header::request(kind, self.dice.u32());
            shots.push(self.insiders[at].frame(header, &body));
        }
        shots
    }

    /// Seems to be where nothing may be relayed to, while the others send.
    fn hide(&mut self, at: usize) -> Vec<Shot> {
        let port = u16::try_from(4000 + at).expect("few");
        let inner = SocketAddr::from(([10, 77, 0, 1], port));
        let header = Header::request(Kind::Ping, self.dice.u32());
        let mut shots = vec![Shot { from: inner, ..self.insiders[at].frame(header, &[]) }];
        for other in 0..self.insiders.len() {
            if let Some(channel) = self.leg(other).filter(|_| other != at) {
                let from = self.insiders[other].addr;
                let after = std::time::Duration::from_millis(50);
                shots.push(Shot { after, from, bytes: self.data(channel, 60) });
            }
        }
        shots
    }
}
