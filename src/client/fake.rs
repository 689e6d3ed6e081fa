//! A router for the client's own tests: BoringTun's responder and just enough
//! answers, with switches for what can go wrong. The real router is tested elsewhere.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::link::{Host, Link};
use crate::identity::Identity;
use crate::ids::{PeerId, WgKey};
use crate::wire::body::find_node::{Chunks, RespWriter};
use crate::wire::body::{
    self, Addrs, Capabilities, Entry, FindNodeReq, NegotiateReq, NegotiateResp, Ping, Pong,
    ReflectReq, ReflectResp, feature,
};
use crate::wire::code::Code;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::{self, frame, multiaddr};

/// What the fake does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// Answers handshakes, and nothing after.
    Mute,
    /// Answers every request with ERROR BUSY.
    Busy,
    /// Its binding is another identity's, well signed.
    Impostor,
    /// Answers NEGOTIATE without a binding.
    Nameless,
    /// Answers with bodies that do not parse.
    Garbage,
}

/// The router without its socket.
pub(super) struct FakeRouter {
    pub(super) identity: Identity,
    pub(super) fault: Fault,
    /// Peers it lists.
    pub(super) entries: Vec<Entry>,
    /// What came up and was no request of its own handling: PONGs.
    pub(super) heard: Vec<(Header, Vec<u8>)>,
    pub(super) identified: Option<PeerId>,
    limiter: Arc<RateLimiter>,
    tunn: Option<(WgKey, Tunn)>,
}

/// An identity that is the same in every run.
pub(super) fn identity(seed: u64) -> Identity {
    Identity::generate(&mut ChaCha12Rng::seed_from_u64(seed))
}

impl FakeRouter {
    pub(super) fn new() -> Self {
        Self::of(1)
    }

    /// The router of the identity `seed`.
    pub(super) fn of(seed: u64) -> Self {
        let identity = identity(seed);
        let limiter = RateLimiter::new(&PublicKey::from(identity.wg_key().0), u64::MAX);
        Self {
            identity,
            fault: Fault::None,
            entries: (0..16).map(entry).collect(),
            heard: Vec::new(),
            identified: None,
            limiter: Arc::new(limiter),
            tunn: None,
        }
    }

    pub(super) fn link(&self, at: SocketAddr) -> Link {
        Link {
            peer: self.identity.peer_id(),
            host: Host::Ip(at.ip()),
            port: at.port(),
            key: self.identity.wg_key(),
        }
    }

    /// What goes back for a datagram.
    pub(super) fn receive(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        if let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(datagram) {
            let public = PublicKey::from(self.identity.wg_key().0);
            let Ok(half) = parse_handshake_anon(self.identity.wg_secret(), &public, &initiation)
            else {
                return Vec::new();
            };
            self.learn(WgKey(half.peer_static_public));
        }
        let Some((_, tunn)) = &mut self.tunn else { return Vec::new() };
        let mut out = [0; 2048];
        match tunn.decapsulate(Some(from.ip()), datagram, &mut out) {
            TunnResult::WriteToNetwork(response) => vec![response.to_vec()],
            TunnResult::WriteToTunnelV4(plaintext, _) => {
                let plaintext = plaintext.to_vec();
                self.frame(from, &plaintext)
            }
            TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnelV6(..) => Vec::new(),
        }
    }

    /// Forgets the session, as a restarted router.
    pub(super) fn restart(&mut self) {
        self.tunn = None;
    }

    /// A frame of the router's own accord.
    pub(super) fn push(
        &mut self,
        header: Header,
        body: impl FnOnce(&mut body::Writer<'_>) -> Result<(), body::Overflow>,
    ) -> Vec<u8> {
        let mut plaintext = [0; 1440];
        let len = frame::encode(&mut plaintext, header, body).unwrap();
        self.seal(&plaintext[..len])
    }

    fn learn(&mut self, key: WgKey) {
        if self.tunn.as_ref().is_none_or(|(known, _)| *known != key) {
            let secret = self.identity.wg_secret().clone();
            let public = PublicKey::from(key.0);
            let limiter = Some(Arc::clone(&self.limiter));
            self.tunn = Some((key, Tunn::new(secret, public, None, None, 77, limiter)));
        }
    }

    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        let sealed = self.tunn.as_mut().unwrap().1.encapsulate(plaintext, &mut out);
        let TunnResult::WriteToNetwork(datagram) = sealed else { panic!("{sealed:?}") };
        datagram.to_vec()
    }

    fn frame(&mut self, from: SocketAddr, plaintext: &[u8]) -> Vec<Vec<u8>> {
        let (version, header, body) = wire::split(wire::open(plaintext).unwrap());
        let kind = Kind::try_from(header.kind);
        if header.flags.is_response() {
            self.heard.push((header, body.to_vec()));
            return Vec::new();
        }
        let reply = |kind| Header::response(kind, header.correlation);
        match (self.fault, kind) {
            (Fault::Mute, _) => Vec::new(),
            (Fault::Busy, _) => vec![self.error(&header, Code::Busy)],
            (Fault::Garbage, Ok(kind)) => {
                let kind = Kind::try_from(kind.id() + 1).unwrap();
                vec![self.push(reply(kind), |out| out.message(15, |out| out.bytes(99, b"?")))]
            }
            (_, Ok(Kind::Ping)) if version == 1 => {
                let ping = Ping::read(body).unwrap();
                let observed = multiaddr::encode(from);
                let pong = Pong {
                    observed: observed.as_ref(),
                    load_permille: 7,
                    token: ping.token,
                    ..Pong::default()
                };
                vec![self.push(reply(Kind::Pong), |out| pong.write(out))]
            }
            (_, Ok(Kind::NegotiateReq)) => {
                vec![self.negotiate(from, reply(Kind::NegotiateResp), body)]
            }
            (_, Ok(Kind::ReflectReq)) => {
                let nonce = ReflectReq::read(body).unwrap().nonce;
                let observed = multiaddr::encode(from);
                let it = ReflectResp { nonce, observed: observed.as_ref(), ..Default::default() };
                vec![self.push(reply(Kind::ReflectResp), |out| it.write(out))]
            }
            (_, Ok(Kind::FindNodeReq)) => self.find_node(reply(Kind::FindNodeResp), body),
            _ => vec![self.error(&header, Code::Unsupported)],
        }
    }

    fn error(&mut self, to: &Header, code: Code) -> Vec<u8> {
        let error = body::Error {
            code,
            reason: "because",
            retry_after_ms: 250,
            detail: u32::from(to.kind),
        };
        self.push(Header::response(Kind::Error, to.correlation), |out| error.write(out))
    }

    fn negotiate(&mut self, from: SocketAddr, header: Header, body: &[u8]) -> Vec<u8> {
        let request = NegotiateReq::read(body).unwrap();
        let now = request.binding.map_or(0, |binding| binding.not_before_unix_s + 300);
        let session = self.tunn.as_ref().unwrap().0;
        self.identified = request
            .binding
            .map(|binding| crate::identity::verify(&binding, &session, now).unwrap());
        let want = request.want.unwrap();
        let binding = if self.fault == Fault::Impostor {
            impostor(&self.identity)
        } else {
            self.identity.binding(0, u64::MAX)
        };
        let observed = multiaddr::encode(from);
        let response = NegotiateResp {
            agreed: Some(Capabilities {
                version: 1,
                bitmap: want.bitmap & feature::STREAMING_CHUNKS,
                max_msg_bytes: want.max_msg_bytes.min(1300),
            }),
            binding: (self.fault != Fault::Nameless).then_some(binding),
            observed: observed.as_ref(),
            ..NegotiateResp::default()
        };
        self.push(header, |out| response.write(out))
    }

    fn find_node(&mut self, header: Header, body: &[u8]) -> Vec<Vec<u8>> {
        let wanted = FindNodeReq::read(body).unwrap().wanted().min(self.entries.len());
        let entries = self.entries[..wanted].to_vec();
        let chunks = Chunks::plan(entries.iter().map(AsRef::as_ref), 1184).unwrap();
        let total = u32::try_from(chunks.len()).unwrap();
        let frames = chunks.iter().zip(0..).map(|(range, index)| {
            let last = index + 1 == total;
            let header = if total > 1 { header.chunk(5, !last) } else { header };
            self.push(header, |out| {
                let mut response = RespWriter::new(out);
                entries[range].iter().try_for_each(|entry| response.push(entry.as_ref()))?;
                if total > 1 { response.finish_chunk(index, total) } else { Ok(()) }
            })
        });
        frames.collect()
    }
}

/// A peer as the fake lists it.
fn entry(number: u8) -> Entry {
    let addresses = [multiaddr::encode(([10, 0, 0, number], 7743).into())];
    let peer = body::Peer {
        peer_id: PeerId([number; 32]),
        addrs: Addrs::of(&addresses),
        rtt_ms: 3,
        wg_public: WgKey([number ^ 0xFF; 32]),
        flags: body::flag::REACHABLE,
    };
    Entry::encode(&peer).unwrap()
}

/// A peer as a router would list it.
pub(super) fn listed(peer: PeerId, key: WgKey, at: SocketAddr) -> Entry {
    let addresses = [multiaddr::encode(at)];
    let addrs = Addrs::of(&addresses);
    let peer = body::Peer { peer_id: peer, addrs, rtt_ms: 0, wg_public: key, flags: 0 };
    Entry::encode(&peer).unwrap()
}

/// A well-signed binding of another identity to this one's WireGuard key.
fn impostor(victim: &Identity) -> body::IdentityBinding {
    let x25519 = |line: &&str| line.starts_with("x25519 ");
    let (theirs, own) = (identity(2).encode(), victim.encode());
    let stolen = own.lines().find(x25519).unwrap();
    let lines = theirs.lines().map(|line| if x25519(&line) { stolen } else { line });
    let text = lines.collect::<Vec<_>>().join("\n");
    Identity::decode(&text).unwrap().binding(0, u64::MAX)
}

/// The fake on a socket of its own; its thread ends with the value.
pub(super) struct Running {
    pub(super) router: Arc<Mutex<FakeRouter>>,
    pub(super) link: Link,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(router: FakeRouter) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let link = router.link(socket.local_addr().unwrap());
        let router = Arc::new(Mutex::new(router));
        let stop = Arc::new(AtomicBool::new(false));
        let (inner, ended) = (Arc::clone(&router), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !ended.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut datagram) else { continue };
                for reply in inner.lock().unwrap().receive(from, &datagram[..len]) {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        });
        Self { router, link, stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
