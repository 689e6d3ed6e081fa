//! A router that introduces and relays, as the page says: the real one is tested elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use super::open;
use crate::client::fake::{identity, listed};
use crate::identity::Identity;
use crate::ids::{PeerId, WgKey};
use crate::time::Moment;
use crate::wire::body::find_node::RespWriter;
use crate::wire::body::{
    self, Addrs, Capabilities, FindNodeReq, IdentityBinding, NegotiateReq, NegotiateResp, Outcome,
    Overflow, RelayAllocReq, RelayAllocResp, RelayClose, RendezvousAck, RendezvousNotify,
    RendezvousReq, RendezvousResp, RendezvousResult, RendezvousStatus, Writer,
};
use crate::wire::channel::{Channel, HEADER_BYTES};
use crate::wire::code::Code;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::{self, Multiaddr, frame, multiaddr};

const NO_ANSWER: Duration = Duration::from_secs(2);
const NOTIFY_PAUSE: Duration = Duration::from_millis(300);

struct Member {
    key: WgKey,
    peer: Option<PeerId>,
    endpoint: SocketAddr,
}

/// An introduction under way, or its answer, for those who ask twice.
struct Introduction {
    asker: (usize, u32),
    target: usize,
    /// The correlation of NOTIFY.
    notify: u32,
    body: Vec<u8>,
    repeat_at: Moment,
    ends_at: Moment,
    secret: [u8; 32],
    own: Vec<Multiaddr>,
    nat: (u32, u32),
    answer: Option<Vec<u8>>,
}

struct Line {
    members: [usize; 2],
    legs: [Channel; 2],
}

pub(in crate::client::pair) struct Router {
    pub(in crate::client::pair) identity: Identity,
    pub(in crate::client::pair) address: SocketAddr,
    binding: IdentityBinding,
    members: Vec<Member>,
    introductions: Vec<Introduction>,
    lines: Vec<Line>,
    allocations: Vec<((usize, u32), Vec<u8>)>,
    count: u32,
    /// Lists this key for everybody: a router that lies.
    pub(in crate::client::pair) lie: Option<WgKey>,
    pub(in crate::client::pair) outcomes: Vec<Outcome>,
    pub(in crate::client::pair) relayed: u64,
    out: Vec<(SocketAddr, Vec<u8>)>,
}

impl Router {
    pub(in crate::client::pair) fn new(address: SocketAddr) -> Self {
        let identity = identity(1);
        Self {
            binding: identity.binding(0, u64::MAX),
            identity,
            address,
            members: Vec::new(),
            introductions: Vec::new(),
            lines: Vec::new(),
            allocations: Vec::new(),
            count: 0,
            lie: None,
            outcomes: Vec::new(),
            relayed: 0,
            out: Vec::new(),
        }
    }

    pub(in crate::client::pair) fn channels(&self) -> usize {
        self.lines.len()
    }

    pub(in crate::client::pair) fn take(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.out)
    }

    pub(in crate::client::pair) fn next_deadline(&self) -> Moment {
        let open = self.introductions.iter().filter(|it| it.answer.is_none());
        open.map(|it| it.repeat_at.min(it.ends_at)).min().unwrap_or(Moment::NEVER)
    }

    pub(in crate::client::pair) fn tick(&mut self, now: Moment) {
        for at in 0..self.introductions.len() {
            let it = &mut self.introductions[at];
            if it.answer.is_some() || now < it.repeat_at.min(it.ends_at) {
                continue;
            }
            if now >= it.ends_at {
                self.conclude(at, RendezvousStatus::NoAnswer, &[], &[]);
            } else {
                it.repeat_at = now + NOTIFY_PAUSE;
                let (target, notify, body) = (it.target, it.notify, it.body.clone());
                self.send_raw(target, Header::request(Kind::RendezvousNotify, notify), &body);
            }
        }
    }

    pub(in crate::client::pair) fn receive(
        &mut self,
        now: Moment,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        match datagram[0] {
            1 => {
                let index = u32::try_from(self.members.len()).unwrap();
                let (key, response) = open::respond(datagram, index);
                let known = self.members.iter().position(|it| it.key == key);
                let response = known
                    .map_or(response, |at| open::respond(datagram, u32::try_from(at).unwrap()).1);
                if known.is_none() {
                    self.members.push(Member { key, peer: None, endpoint: from });
                }
                self.out.push((from, response));
            }
            4 => {
                let at = open::index_of(datagram) as usize;
                self.members[at].endpoint = from;
                let plaintext = open::opened(datagram).to_vec();
                if !plaintext.is_empty() {
                    self.frame(now, at, &plaintext);
                }
            }
            5 => self.relay(from, datagram),
            _ => {}
        }
    }

    fn relay(&mut self, from: SocketAddr, datagram: &[u8]) {
        let channel = Channel::read(datagram).unwrap();
        for line in &self.lines {
            let Some(leg) = line.legs.iter().position(|it| *it == channel) else { continue };
            if self.members[line.members[leg]].endpoint != from {
                return;
            }
            let mut header = [0; HEADER_BYTES];
            line.legs[1 - leg].write(&mut header);
            let forwarded = [&header[..], &datagram[HEADER_BYTES..]].concat();
            self.relayed += 1;
            return self.out.push((self.members[line.members[1 - leg]].endpoint, forwarded));
        }
    }

    fn send(
        &mut self,
        to: usize,
        header: Header,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        let mut plaintext = [0; 1200];
        let len = frame::encode(&mut plaintext, header, body).unwrap();
        let datagram = open::sealed(u32::try_from(to).unwrap(), &plaintext[..len]);
        self.out.push((self.members[to].endpoint, datagram));
    }

    fn send_raw(&mut self, to: usize, header: Header, body: &[u8]) {
        let total = u16::try_from(16 + body.len()).unwrap();
        let [high, low] = total.to_be_bytes();
        let plaintext = [&[b'M', 0, high, low], &header.to_bytes()[..], body].concat();
        let datagram = open::sealed(u32::try_from(to).unwrap(), &plaintext);
        self.out.push((self.members[to].endpoint, datagram));
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a fake serves what the tests need")]
    fn frame(&mut self, now: Moment, at: usize, plaintext: &[u8]) {
        let (_, header, body) = wire::split(wire::open(plaintext).unwrap());
        let kind = Kind::try_from(header.kind).unwrap();
        let reply = |kind| Header::response(kind, header.correlation);
        match kind {
            Kind::NegotiateReq => self.negotiate(at, reply(Kind::NegotiateResp), body),
            Kind::FindNodeReq => self.find_node(at, reply(Kind::FindNodeResp), body),
            Kind::RendezvousReq => self.introduce(now, (at, header.correlation), body),
            Kind::RendezvousAck => self.acknowledge(at, header.correlation, body),
            Kind::RendezvousResult => {
                self.outcomes.push(RendezvousResult::read(body).unwrap().outcome);
            }
            Kind::RelayAllocReq => self.allocate((at, header.correlation), body),
            Kind::RelayClose => {
                let close = RelayClose::read(body).unwrap();
                self.close(close.channel, 1);
                self.send(at, reply(Kind::RelayClosed), |out| close.write(out));
            }
            // PONG, ERROR and what the nodes never send.
            _ => {}
        }
    }

    /// Closes a channel and tells both sides.
    pub(in crate::client::pair) fn close(&mut self, channel: u32, reason: u32) {
        let has = |line: &Line| line.legs.iter().any(|leg| leg.id == channel);
        let Some(at) = self.lines.iter().position(has) else { return };
        let line = self.lines.remove(at);
        for (member, leg) in line.members.into_iter().zip(line.legs) {
            if leg.id != channel || reason != 1 {
                let close = RelayClose { channel: leg.id, reason };
                self.send(member, Header::request(Kind::RelayClose, 9), |out| close.write(out));
            }
        }
    }

    pub(in crate::client::pair) fn close_all(&mut self, reason: u32) {
        while let Some(line) = self.lines.first() {
            self.close(line.legs[0].id, reason);
        }
    }

    fn negotiate(&mut self, at: usize, header: Header, body: &[u8]) {
        let request = NegotiateReq::read(body).unwrap();
        let member = &mut self.members[at];
        member.peer = request.binding.map(|it| PeerId::of_public(&it.ed25519_public));
        let observed = multiaddr::encode(member.endpoint);
        let response = NegotiateResp {
            agreed: Some(Capabilities { version: 1, bitmap: 0, max_msg_bytes: 1200 }),
            binding: Some(self.binding),
            observed: observed.as_ref(),
            ..NegotiateResp::default()
        };
        self.send(at, header, |out| response.write(out));
    }

    fn find_node(&mut self, at: usize, header: Header, body: &[u8]) {
        let target = FindNodeReq::read(body).unwrap().target_id;
        let found = self.members.iter().find(|it| it.peer == Some(target));
        let entry = found.map(|it| listed(target, self.lie.unwrap_or(it.key), it.endpoint));
        self.send(at, header, |out| {
            let mut response = RespWriter::new(out);
            entry.iter().try_for_each(|entry| response.push(entry.as_ref()))
        });
    }

    fn introduce(&mut self, now: Moment, asker: (usize, u32), body: &[u8]) {
        if let Some(known) = self.introductions.iter().find(|it| it.asker == asker) {
            if let Some(answer) = known.answer.clone() {
                let header = Header::response(Kind::RendezvousResp, asker.1);
                self.send_raw(asker.0, header, &answer);
            }
            return;
        }
        let request = RendezvousReq::read(body).unwrap();
        let target = self.members.iter().rposition(|it| it.peer == Some(request.target));
        self.count += 1;
        let secret = *blake3::hash(&self.count.to_be_bytes()).as_bytes();
        let mut it = Introduction {
            asker,
            target: target.unwrap_or(0),
            notify: 1000 + self.count,
            body: Vec::new(),
            repeat_at: now,
            ends_at: now + NO_ANSWER,
            secret,
            own: request.candidates.sockets().map(multiaddr::encode).collect(),
            nat: (request.nat_mapping, request.nat_filtering),
            answer: None,
        };
        it.body = self.notify(&it);
        self.introductions.push(it);
        let at = self.introductions.len() - 1;
        if target.is_none() {
            return self.conclude(at, RendezvousStatus::NoSuchPeer, &[], &[]);
        }
        self.tick(now);
    }

    fn notify(&self, it: &Introduction) -> Vec<u8> {
        let asker = &self.members[it.asker.0];
        let candidates = with_observed(asker.endpoint, &it.own);
        let notify = RendezvousNotify {
            requester: asker.peer.unwrap(),
            wg_public: asker.key,
            candidates: Addrs::of(&candidates),
            attempt_secret: it.secret,
            fire_after_ms: 20,
            windows: 2,
            window_ms: 250,
            consent: &[],
        };
        written(|out| notify.write(out))
    }

    fn acknowledge(&mut self, from: usize, correlation: u32, body: &[u8]) {
        let open = |it: &Introduction| {
            it.notify == correlation && it.target == from && it.answer.is_none()
        };
        let Some(at) = self.introductions.iter().position(open) else { return };
        let ack = RendezvousAck::read(body).unwrap();
        let (mapping, filtering) = self.introductions[at].nat;
        let stuck = |a: u32, b: (u32, u32)| a >= 2 && (b.0 >= 2 || b.1 == 3);
        let theirs = (ack.nat_mapping, ack.nat_filtering);
        let unreachable = stuck(mapping, theirs) || stuck(ack.nat_mapping, (mapping, filtering));
        let status = match (ack.accept, unreachable) {
            (false, _) => RendezvousStatus::Refused,
            (true, true) => RendezvousStatus::UnreachableNats,
            (true, false) => RendezvousStatus::Ok,
        };
        let own: Vec<Multiaddr> = ack.candidates.sockets().map(multiaddr::encode).collect();
        self.conclude(at, status, &own, ack.consent);
    }

    fn conclude(&mut self, at: usize, status: RendezvousStatus, own: &[Multiaddr], consent: &[u8]) {
        let it = &self.introductions[at];
        let candidates = with_observed(self.members[it.target].endpoint, own);
        let ok = status == RendezvousStatus::Ok;
        let response = RendezvousResp {
            status,
            candidates: if ok { Addrs::of(&candidates) } else { Addrs::NONE },
            attempt_secret: ok.then_some(it.secret),
            fire_after_ms: 0,
            windows: 2,
            window_ms: 250,
            consent,
        };
        let answer = written(|out| response.write(out));
        let (asker, correlation) = it.asker;
        self.introductions[at].answer = Some(answer.clone());
        self.send_raw(asker, Header::response(Kind::RendezvousResp, correlation), &answer);
    }

    fn allocate(&mut self, asker: (usize, u32), body: &[u8]) {
        let header = Header::response(Kind::RelayAllocResp, asker.1);
        if let Some((_, answer)) = self.allocations.iter().find(|(it, _)| *it == asker) {
            let answer = answer.clone();
            return self.send_raw(asker.0, header, &answer);
        }
        let request = RelayAllocReq::read(body).unwrap();
        let target = self.members.iter().rposition(|it| it.peer == Some(request.peer));
        let Some(target) = target.filter(|_| !request.consent.is_empty()) else {
            let error =
                body::Error { code: Code::Unauthorized, reason: "", retry_after_ms: 0, detail: 0 };
            return self
                .send(asker.0, Header::response(Kind::Error, asker.1), |out| error.write(out));
        };
        let pair = [asker.0, target];
        let known = |line: &Line| line.members.iter().all(|it| pair.contains(it));
        let at = self.lines.iter().position(known).unwrap_or_else(|| {
            self.count += 1;
            let leg = |add| Channel { generation: 7, id: self.count * 16 + add };
            self.lines.push(Line { members: pair, legs: [leg(1), leg(2)] });
            self.lines.len() - 1
        });
        let mine = usize::from(self.lines[at].members[0] != asker.0);
        for (side, to, kind) in [(mine, asker.0, None), (1 - mine, target, Some(Kind::RelayOffer))]
        {
            let leg = self.lines[at].legs[side];
            let body = written(|out| {
                RelayAllocResp {
                    channel: leg.id,
                    relay_addrs: Addrs::NONE,
                    lifetime_s: 3600,
                    idle_timeout_s: 300,
                    rate_bps: 0,
                    burst_bytes: 0,
                    inner_mtu: 1224,
                    peer: self.members[self.lines[at].members[1 - side]].peer.unwrap(),
                    generation: leg.generation.into(),
                }
                .write(out)
            });
            if kind.is_none() {
                self.allocations.push((asker, body.clone()));
            }
            let header = kind.map_or(header, |kind| Header::request(kind, 0));
            self.send_raw(to, header, &body);
        }
    }
}

fn with_observed(observed: SocketAddr, own: &[Multiaddr]) -> Vec<Multiaddr> {
    let observed = std::iter::once(multiaddr::encode(observed));
    observed.chain(own.iter().copied()).take(8).collect()
}

fn written(body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>) -> Vec<u8> {
    let mut bytes = [0; 1200];
    let mut out = Writer::new(&mut bytes);
    body(&mut out).unwrap();
    out.written().to_vec()
}
