//! A hostile client with a session: everything that authentic data may hold and should not.

use std::net::SocketAddr;
use std::time::Duration;

use molia_router::identity::Identity;
use molia_router::ids::WgKey;
use molia_router::tunnel::plain::{Peer, Received};
use molia_router::wire::body::{IdentityBinding, RelayAllocResp};
use molia_router::wire::channel::Channel;
use molia_router::wire::{self, Flags, Header, Kind, proto};
use prost::Message;

use super::dice::Dice;
use super::hostile::Shot;
use super::plain::{self, Hello, Lane};

/// Keys that are kept to be used when they are too old.
const KEPT: usize = 4;
const SECOND: u64 = 1_000_000_000;
/// A key this old is renewed.
const RENEW_NS: u64 = 100 * SECOND;

/// One of them.
pub(crate) struct Insider {
    pub(crate) addr: SocketAddr,
    dice: Dice,
    identity: Identity,
    router: WgKey,
    peer: Peer,
    stamp: u64,
    hello: Option<Hello>,
    /// The newest first, with its birth.
    lanes: Vec<(Lane, u64)>,
    /// Its channels, the newest first.
    pub(crate) legs: Vec<Channel>,
}

impl Insider {
    pub(crate) fn new(number: usize, addr: SocketAddr, router: WgKey, mut dice: Dice) -> Self {
        let identity = Identity::generate(&mut dice.rng());
        let index = 0x4000_0000 | u32::try_from(number).expect("few insiders") << 20;
        let peer = Peer::new(identity.wg_key(), router, index);
        Self {
            addr,
            dice,
            identity,
            router,
            peer,
            stamp: 0,
            hello: None,
            lanes: Vec::new(),
            legs: Vec::new(),
        }
    }

    pub(crate) fn peer_id(&self) -> molia_router::ids::PeerId {
        self.identity.peer_id()
    }

    pub(crate) fn wg_key(&self) -> WgKey {
        self.identity.wg_key()
    }

    /// The router's answer; everything but handshakes is ignored, PINGs too.
    pub(crate) fn receive(&mut self, now_ns: u64, datagram: &[u8]) -> Option<Shot> {
        let mut out = [0; 2048];
        if datagram.len() > out.len() {
            return None;
        }
        match self.peer.receive(datagram, &mut out) {
            Received::Established => {
                let [mut lane, _] = plain::lanes(&self.hello.take()?, datagram);
                let confirmation = lane.seal(&[]);
                self.lanes.insert(0, (lane, now_ns));
                self.lanes.truncate(KEPT);
                Some(Shot::now(self.addr, confirmation))
            }
            Received::Data(len) => {
                self.hear(&out[..len]);
                None
            }
            Received::Cookie | Received::Ignored => None,
        }
    }

    /// Takes note of a channel, and ignores everything else.
    fn hear(&mut self, plaintext: &[u8]) {
        let Ok(frame) = wire::open(plaintext) else { return };
        let (_, header, body) = wire::split(frame);
        let granted = [Kind::RelayAllocResp, Kind::RelayOffer];
        if granted.iter().any(|kind| kind.id() == header.kind)
            && let Ok(told) = RelayAllocResp::read(body)
        {
            let generation = u16::try_from(told.generation).unwrap_or(0);
            self.legs.insert(0, Channel { generation, id: told.channel });
            self.legs.truncate(KEPT);
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it can speak.
    pub(crate) fn has_key(&self, now_ns: u64) -> bool {
        self.lanes.first().is_some_and(|(_, born)| now_ns - born < RENEW_NS)
    }

    pub(crate) fn act(&mut self, now_ns: u64) -> Vec<Shot> {
        if !self.has_key(now_ns) {
            let hello = self.initiate(now_ns);
            return vec![Shot::now(self.addr, hello)];
        }
        match self.dice.below(14) {
            0..=3 => self.bad_frames(),
            4 => self.bad_plaintexts(),
            5 => self.bad_counters(),
            6 => self.responses(),
            7 => self.flood(),
            8 => self.wander(),
            9 => self.old_keys(),
            10 => self.impersonate(),
            11 if self.dice.permille(250) => self.overwrite(now_ns),
            11 | 12 => self.join(),
            _ => self.hints(),
        }
    }

    fn initiate(&mut self, now_ns: u64) -> Vec<u8> {
        self.stamp = now_ns.max(self.stamp + 1);
        let initiation = self.peer.initiate(self.stamp, &self.dice.bytes()).to_vec();
        self.hello = plain::hello(&self.router, &initiation);
        initiation
    }

    fn seal(&mut self, content: &[u8]) -> Shot {
        let (lane, _) = self.lanes.first_mut().expect("somebody with a key acts");
        Shot::now(self.addr, lane.seal(content))
    }

    pub(crate) fn frame(&mut self, header: Header, body: &[u8]) -> Shot {
        let plaintext = plaintext(1, header, body);
        self.seal(&plaintext)
    }

    /// Any version, type, flags, class, stream and body.
    fn bad_frames(&mut self) -> Vec<Shot> {
        let count = self.dice.below(5) + 1;
        (0..count).map(|_| self.bad_frame()).collect()
    }

    fn bad_frame(&mut self) -> Shot {
        let kind = match self.dice.permille(700) {
            true => self.dice.pick(Kind::ALL).id(),
            false => self.dice.byte(),
        };
        let flags = if self.dice.permille(500) { 0 } else { self.dice.byte() };
        let header = Header {
            kind,
            flags: Flags(flags),
            qos: self.dice.byte() % 5,
            correlation: self.dice.u32(),
            stream: if self.dice.permille(800) { 0 } else { self.dice.u32() },
        };
        let len = *self.dice.pick(&[0, 1, 7, 34, 100, 1184, 1185, 1300, 1400]);
        let mut body = self.dice.blob(len);
        if self.dice.permille(500) {
            let request = proto::FindNodeReq { target_id: self.dice.blob(32), limit: 16 };
            body = request.encode_to_vec();
            let cut = self.dice.below(body.len() + 1);
            body.truncate(cut);
        }
        let version = if self.dice.permille(800) { 1 } else { self.dice.byte() };
        let plaintext = plaintext(version, header, &body);
        self.seal(&plaintext)
    }

    /// What is authentic and no frame.
    fn bad_plaintexts(&mut self) -> Vec<Shot> {
        let mut v4 = self.dice.blob(40);
        v4[..4].copy_from_slice(&[0x45, 0, 0, 40]);
        let mut v6 = self.dice.blob(60);
        v6[..6].copy_from_slice(&[0x60, 0, 0, 0, 0, 20]);
        let mut short = self.dice.blob(30);
        short[..4].copy_from_slice(&[b'M', 0, 0, 12]);
        let mut long = self.dice.blob(30);
        long[..4].copy_from_slice(&[b'M', 0, 0xFF, 0xFF]);
        let noise_len = self.dice.below(80) + 1;
        let noise = self.dice.blob(noise_len);
        [v4, v6, short, long, noise].iter().map(|content| self.seal(content)).collect()
    }

    fn bad_counters(&mut self) -> Vec<Shot> {
        let (lane, _) = self.lanes.first_mut().expect("somebody with a key acts");
        let again = lane.seal(&[]);
        let skipped = lane.seal_as(lane.next, &[]);
        lane.next += 3000;
        let beyond = lane.seal(&[]);
        let huge = lane.seal_as(1 << 63, &[]);
        let largest = lane.seal_as(u64::MAX, &[]);
        let all = [again.clone(), again, beyond, skipped, huge, largest];
        all.map(|bytes| Shot::now(self.addr, bytes)).into()
    }

    /// Answers to what nobody asked.
    fn responses(&mut self) -> Vec<Shot> {
        let pong = proto::Pong { token: self.dice.u64(), ..Default::default() }.encode_to_vec();
        let header = Header::response(Kind::Pong, self.dice.u32());
        let lost = Header { flags: Flags::NONE, ..header };
        let asking = Header { flags: Flags::RESPONSE, ..Header::request(Kind::Ping, 5) };
        let reserved = Header { flags: Flags(0x81), ..header };
        let unknown = Header { kind: 200, ..header };
        let found = Header::response(Kind::FindNodeResp, 6);
        let error = Header::response(Kind::Error, 7);
        vec![
            self.frame(header, &pong),
            self.frame(header, &[0x08]),
            self.frame(lost, &pong),
            self.frame(asking, &[]),
            self.frame(reserved, &pong),
            self.frame(unknown, &pong),
            self.frame(found, &[]),
            self.frame(error, &[]),
        ]
    }

    /// More than anybody may ask at once.
    fn flood(&mut self) -> Vec<Shot> {
        let find = proto::FindNodeReq { target_id: self.dice.blob(32), limit: 16 }.encode_to_vec();
        let kind = *self.dice.pick(&[Kind::Ping, Kind::FindNodeReq]);
        let body = if kind == Kind::Ping { Vec::new() } else { find };
        let qos = self.dice.byte() % 3;
        let count = self.dice.below(100) + 20;
        let shots = (0..count).map(|_| {
            let header = Header { qos, ..Header::request(kind, self.dice.u32()) };
            self.frame(header, &body)
        });
        shots.collect()
    }

    /// A small question from a new address, for a large answer to somebody else.
    fn wander(&mut self) -> Vec<Shot> {
        let mut victim = self.addr;
        victim.set_port(u16::try_from(self.dice.within(60_001..65_000)).expect("16 bits"));
        let find = proto::FindNodeReq { target_id: self.dice.blob(32), limit: 16 }.encode_to_vec();
        // A guess at what the victim would be asked.
        let guess = proto::Pong { token: self.dice.u64(), ..Default::default() }.encode_to_vec();
        let header = Header::response(Kind::Pong, self.dice.u32());
        let mut shots = vec![Shot { from: victim, ..self.frame(header, &guess) }];
        for _ in 0..=self.dice.below(6) {
            let header = Header::request(Kind::FindNodeReq, self.dice.u32());
            shots.push(Shot { from: victim, ..self.frame(header, &find) });
        }
        shots
    }

    fn old_keys(&mut self) -> Vec<Shot> {
        let plaintext = plaintext(1, Header::request(Kind::Ping, self.dice.u32()), &[]);
        let old = self.lanes.iter_mut().skip(1);
        old.map(|(lane, _)| Shot::now(self.addr, lane.seal(&plaintext))).collect()
    }

    /// A binding of another identity, of another key, or with a wrong signature.
    fn impersonate(&mut self) -> Vec<Shot> {
        let mut binding = self.identity.binding(0, u64::from(u32::MAX));
        match self.dice.below(3) {
            0 => binding.x25519_public = WgKey(self.dice.bytes()),
            1 => binding.signature = self.dice.bytes(),
            _ => binding.ed25519_public = self.dice.bytes(),
        }
        vec![self.negotiate(&binding)]
    }

    pub(crate) fn join(&mut self) -> Vec<Shot> {
        let binding = self.identity.binding(0, u64::from(u32::MAX));
        vec![self.negotiate(&binding)]
    }

    fn negotiate(&mut self, binding: &IdentityBinding) -> Shot {
        let binding = proto::IdentityBinding {
            ed25519_public: binding.ed25519_public.to_vec(),
            x25519_public: binding.x25519_public.0.to_vec(),
            not_before_unix_s: binding.not_before_unix_s,
            not_after_unix_s: binding.not_after_unix_s,
            signature: binding.signature.to_vec(),
        };
        let request = proto::NegotiateReq { binding: Some(binding), ..Default::default() };
        let header = Header::request(Kind::NegotiateReq, self.dice.u32());
        self.frame(header, &request.encode_to_vec())
    }

    /// A question whose key is overwritten by the eighth handshake before the answer is sealed.
    fn overwrite(&mut self, now_ns: u64) -> Vec<Shot> {
        let mut shots = Vec::new();
        for n in 0..7 {
            let bytes = self.initiate(now_ns);
            let after = Duration::from_millis(200 * n);
            shots.push(Shot { after, ..Shot::now(self.addr, bytes) });
        }
        let after = Duration::from_millis(200 * 7);
        let header = Header::request(Kind::Ping, self.dice.u32());
        let question = self.frame(header, &[]);
        let bytes = self.initiate(now_ns);
        shots.push(Shot { after, ..question });
        shots.push(Shot { after, ..Shot::now(self.addr, bytes) });
        shots
    }

    /// Faulty messages of types that are never answered.
    fn hints(&mut self) -> Vec<Shot> {
        let hint = Header::request(Kind::TraceHint, self.dice.u32());
        let reserved = Header { flags: Flags(0x40), ..hint };
        vec![self.frame(hint, &[]), self.frame(reserved, &[])]
    }
}

/// A plaintext of any version.
fn plaintext(version: u8, header: Header, body: &[u8]) -> Vec<u8> {
    let mut head = header.to_bytes();
    head[0] = version;
    let total = u16::try_from(16 + body.len()).expect("a datagram").to_be_bytes();
    let mut plaintext = [&[b'M', 0, total[0], total[1]], &head[..], body].concat();
    plaintext.resize(plaintext.len().max(20), 0);
    plaintext
}
