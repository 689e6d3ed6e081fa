//! The load: clients with a socket and a session each, sending sealed bursts.
//!
//! WireGuard takes a datagram once, so everything that a measured slice sends is
//! sealed before the slice begins. A slice is bursts in lockstep: send one, wait
//! until all its answers are there, send the next; the server finds full batches
//! and never a queue it cannot hold. Answers are counted; one in [`SAMPLE`] is
//! opened to see that it is what was asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use boringtun::x25519::{PublicKey, StaticSecret};
use bufpool::{Buf, Hugepages, Pool, PoolConfig};
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::client::session::{Initiator, Received};
use crate::client::wireguard::WireGuard;
use crate::clock::Clock;
use crate::ids::WgKey;
use crate::limits::{RX_SLOT_BYTES, WG_OVERHEAD};
use crate::net::{Datagram, Local, Path, Transmit};
use crate::port::{AnyPort, EngineChoice, EngineConfig, Port, Socket, SocketConfig};
use crate::wire;
use crate::wire::kind::Kind;

/// Datagrams on their way at a time, unless socket buffers are smaller.
const BURST: usize = 256;
/// Datagrams of a flow in a row, where offloads may coalesce them.
pub(super) const TRAIN: usize = 8;
/// One answer in so many is opened.
const SAMPLE: usize = 64;
/// Receive slots of a client.
const RECEIVE_SLOTS: usize = 40;
/// What a datagram takes up in a socket's buffer, whatever its length.
const BUFFER_BYTES: usize = 2560;
/// An answer that takes longer is lost. Long, for the machine may do other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts while flows are set up.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// Largest datagram made.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1472;

/// All clients, on one thread.
pub(super) struct Fleet {
    flows: Vec<Flow>,
    /// By server, then by flow; a server may know the first flows only.
    sessions: Vec<Vec<WireGuard>>,
    /// Datagrams on their way at a time.
    burst: usize,
    trains: Pool,
    clock: Clock,
    received: Vec<Datagram>,
    /// Who is asked in the slice at hand.
    target: Option<SocketAddr>,
    scratch: Vec<u8>,
    rng: ChaCha12Rng,
}

/// One client's source port.
struct Flow {
    port: AnyPort,
    /// Answers of the burst at hand that are not there yet.
    missing: usize,
}

/// An empty message under WireGuard's header and tag.
const KEEPALIVE_BYTES: usize = 32;

/// A train that is ready to go.
pub(super) struct Shot {
    flow: usize,
    buf: Buf,
    segment: usize,
}

/// What a slice sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// Flows that take turns.
    pub(super) flows: usize,
    /// Datagrams of a flow in a row.
    pub(super) train: usize,
    /// Datagrams of the slice.
    pub(super) datagrams: usize,
    /// Answers to each of them.
    pub(super) answers: usize,
}

/// What came of a slice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Answers that came.
    pub(super) answered: usize,
    /// Answers that did not come in time.
    pub(super) lost: usize,
    /// Bytes of the answer seen last.
    pub(super) answer_bytes: usize,
}

impl Fleet {
    /// `flows` clients; `trains` of them are sealed ahead at a time.
    pub(super) fn open(
        flows: usize,
        offloads: bool,
        datagrams: usize,
        rng: ChaCha12Rng,
    ) -> Result<Self, String> {
        let flows =
            (0..flows).map(|_| Flow::open(offloads)).collect::<Result<Vec<Flow>, String>>()?;
        let slot_bytes = (TRAIN * DATAGRAM_BYTES_MAX).next_multiple_of(64);
        let trains = pool(slot_bytes, datagrams, false)?;
        Ok(Self {
            burst: flows.first().map_or(TRAIN, |flow| burst(&flow.port)),
            flows,
            sessions: Vec::new(),
            trains,
            clock: Clock::start(),
            received: Vec::with_capacity(BURST),
            target: None,
            scratch: vec![0; 2048],
            rng,
        })
    }

    /// Gives every flow a session with one more server; the number of that server.
    pub(super) fn connect(&mut self, address: SocketAddr, key: WgKey) -> Result<usize, String> {
        self.connect_some(self.flows.len(), address, key, |_| true)
    }

    /// As [`connect`](Self::connect) for the first `flows` only, with client keys that are `wanted`.
    pub(super) fn connect_some(
        &mut self,
        flows: usize,
        address: SocketAddr,
        key: WgKey,
        wanted: impl Fn(&WgKey) -> bool,
    ) -> Result<usize, String> {
        let mut sessions = Vec::with_capacity(flows);
        for at in 0..flows {
            let mut session = WireGuard::new(self.secret(&wanted), key);
            let index = self.rng.next_u32();
            self.shake_hands(at, address, &mut session, index)?;
            sessions.push(session);
        }
        self.sessions.push(sessions);
        Ok(self.sessions.len() - 1)
    }

    fn secret(&mut self, wanted: impl Fn(&WgKey) -> bool) -> StaticSecret {
        loop {
            let mut bytes = [0; 32];
            self.rng.fill_bytes(&mut bytes);
            let secret = StaticSecret::from(bytes);
            if wanted(&WgKey(PublicKey::from(&secret).to_bytes())) {
                return secret;
            }
        }
    }

    /// One request of every flow and the plaintext that answers it first.
    pub(super) fn ask(
        &mut self,
        server: usize,
        address: SocketAddr,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut last = Vec::new();
        for at in 0..self.flows.len() {
            let mut sealed = [0; 2048];
            let session = &mut self.sessions[server][at];
            let len = session.seal(plaintext, &mut sealed).ok_or("a session lost its keys")?;
            let answer = self.round_trip(at, address, &sealed[..len])?;
            last = self.open_answer(at, server, &answer)?;
        }
        Ok(last)
    }

    /// Seals what a slice sends; `plaintext` writes the request number `n`.
    pub(super) fn seal(
        &mut self,
        server: usize,
        pattern: Pattern,
        plaintext: &mut impl FnMut(&mut [u8]) -> usize,
    ) -> Result<Vec<Shot>, String> {
        let trains = pattern.datagrams / pattern.train;
        let mut shots = Vec::with_capacity(trains);
        let mut clear = [0; DATAGRAM_BYTES_MAX];
        for number in 0..trains {
            let flow = number % pattern.flows;
            let session = &mut self.sessions[server][flow];
            let mut buf = self.trains.take().ok_or("more trains than were planned")?;
            let mut segment = 0;
            for _ in 0..pattern.train {
                let len = plaintext(&mut clear);
                let spare = buf.spare_mut();
                segment = session.seal(&clear[..len], spare).ok_or("a session lost its keys")?;
                buf.grow(segment);
            }
            shots.push(Shot { flow, buf, segment });
        }
        Ok(shots)
    }

    /// Sends a slice to `address` in bursts and waits for its answers. Answers
    /// of `check` are opened now and then and must be of that type.
    pub(super) fn fire(
        &mut self,
        shots: Vec<Shot>,
        address: SocketAddr,
        pattern: Pattern,
        check: Option<(usize, Kind)>,
    ) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        self.target = Some(address);
        let mut shots = shots.into_iter().peekable();
        while shots.peek().is_some() {
            let mut sent = Vec::with_capacity(BURST);
            for shot in shots.by_ref().take(self.burst / pattern.train) {
                sent.push(shot.flow);
                self.send(shot, address, pattern);
            }
            self.collect(&sent, check, &mut outcome)?;
        }
        Ok(outcome)
    }

    /// Sends one datagram each from as many flows and waits for `answers` to each;
    /// what came in the order of the flows, with the flow's number.
    pub(super) fn volley(
        &mut self,
        datagrams: &[Vec<u8>],
        address: SocketAddr,
        answers: usize,
    ) -> Result<Vec<(usize, Vec<u8>)>, String> {
        for (at, datagram) in datagrams.iter().enumerate() {
            self.send_one(at, address, datagram)?;
        }
        let deadline = self.clock.moment() + PATIENCE;
        let mut came = Vec::with_capacity(datagrams.len() * answers);
        for at in (0..datagrams.len()).rev() {
            let wanted = came.len() + answers;
            while came.len() < wanted {
                let wait = deadline.since(self.clock.moment());
                if wait.is_zero() {
                    return Err(format!("{} of {} answers", came.len(), datagrams.len()));
                }
                let turned = self.flows[at].port.turn(wait, &mut self.received);
                turned.map_err(|error| format!("receiving: {error}"))?;
                let new = self
                    .received
                    .drain(..)
                    .filter(|new| new.path.peer == address && new.buf.len() > KEEPALIVE_BYTES);
                came.extend(new.map(|datagram| (at, datagram.buf.to_vec())));
            }
        }
        came.sort_unstable_by_key(|(at, _)| *at);
        Ok(came)
    }

    fn send(&mut self, shot: Shot, address: SocketAddr, pattern: Pattern) {
        let flow = &mut self.flows[shot.flow];
        flow.missing += pattern.train * pattern.answers;
        let path = Path { peer: address, local: Local::default() };
        flow.port.send(Transmit { path, buf: shot.buf, segment: shot.segment, dscp: 0 });
        flow.port.flush();
    }

    /// Waits for the answers to what `sent` flows sent, those of the last one first:
    /// once they are there the others are, too.
    fn collect(
        &mut self,
        sent: &[usize],
        check: Option<(usize, Kind)>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let deadline = self.clock.moment() + PATIENCE;
        for &at in sent.iter().rev() {
            while self.flows[at].missing > 0 {
                let wait = deadline.since(self.clock.moment());
                let before = self.flows[at].missing;
                self.receive(at, wait, check, outcome)?;
                if wait.is_zero() && self.flows[at].missing == before {
                    outcome.lost += std::mem::take(&mut self.flows[at].missing);
                }
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        at: usize,
        wait: Duration,
        check: Option<(usize, Kind)>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut received = std::mem::take(&mut self.received);
        let flow = &mut self.flows[at];
        flow.port.turn(wait, &mut received).map_err(|error| format!("receiving: {error}"))?;
        for datagram in received.drain(..) {
            // Servers that are not asked now still send their keepalives.
            let asked = Some(datagram.path.peer) == self.target;
            for answer in datagram.segments().filter(|it| asked && it.len() > KEEPALIVE_BYTES) {
                self.flows[at].missing = self.flows[at].missing.saturating_sub(1);
                outcome.answered += 1;
                outcome.answer_bytes = answer.len();
                if let Some((server, kind)) = check
                    && outcome.answered % SAMPLE == 1
                {
                    let plaintext = self.open_answer(at, server, answer)?;
                    expect(kind, &plaintext)?;
                }
            }
        }
        self.received = received;
        Ok(())
    }

    fn shake_hands(
        &mut self,
        at: usize,
        address: SocketAddr,
        session: &mut WireGuard,
        index: u32,
    ) -> Result<(), String> {
        let mut out = [0; 2048];
        // A cookie may be asked for first.
        for _ in 0..3 {
            let len = session.initiate(index, &mut out).map_err(|error| error.to_string())?;
            let response = self.round_trip(at, address, &out[..len])?;
            let received = session.receive(&response, &mut out);
            if let Received::Established(confirmation) =
                received.map_err(|error| error.to_string())?
            {
                let confirmation = confirmation.to_vec();
                return self.send_one(at, address, &confirmation);
            }
        }
        Err("the server only hands out cookies".into())
    }

    fn send_one(&mut self, at: usize, address: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let mut buf = self.trains.take().ok_or("no free buffer")?;
        if !buf.extend(bytes) {
            return Err("a datagram longer than any".into());
        }
        let path = Path { peer: address, local: Local::default() };
        let port = &mut self.flows[at].port;
        port.send(Transmit { path, buf, segment: bytes.len(), dscp: 0 });
        port.flush();
        Ok(())
    }

    fn round_trip(
        &mut self,
        at: usize,
        address: SocketAddr,
        request: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut received = Vec::new();
        // The machine may be busy with other things while the flows are set up.
        for _ in 0..20 {
            self.send_one(at, address, request)?;
            let turned = self.flows[at].port.turn(RETRY, &mut received);
            turned.map_err(|error| format!("receiving: {error}"))?;
            received.retain(|datagram| datagram.path.peer == address);
            if let Some(datagram) = received.first() {
                return Ok(datagram.segments().next().unwrap_or_default().to_vec());
            }
        }
        Err(format!("no answer from {address} while setting up"))
    }

    fn open_answer(&mut self, at: usize, server: usize, answer: &[u8]) -> Result<Vec<u8>, String> {
        let session = &mut self.sessions[server][at];
        match session.receive(answer, &mut self.scratch) {
            Ok(Received::Plaintext(plaintext)) => Ok(plaintext.to_vec()),
            Ok(other) => Err(format!("{other:?} in place of an answer")),
            Err(refused) => Err(format!("an answer that {refused}")),
        }
    }
}

impl Flow {
    fn open(offloads: bool) -> Result<Self, String> {
        Ok(Self { port: client_port(offloads)?, missing: 0 })
    }
}

/// A client's socket.
pub(super) fn client_port(offloads: bool) -> Result<AnyPort, String> {
    let socket = Socket::bind(&SocketConfig {
        rcvbuf_bytes: 4 << 20,
        sndbuf_bytes: 4 << 20,
        gro: offloads,
        gso: offloads,
        ..SocketConfig::new((Ipv4Addr::LOCALHOST, 0).into())
    });
    let socket = socket.map_err(|error| format!("opening a socket: {error}"))?;
    let sizes = EngineConfig { rx_post: 32, rx_batch: 64, tx_batch: 64, ..EngineConfig::default() };
    let pool = pool(RX_SLOT_BYTES, RECEIVE_SLOTS, false)?;
    AnyPort::open(EngineChoice::Mmsg, socket, sizes, pool).map_err(|reason| reason.to_string())
}

/// Datagrams on their way at a time: what a server's socket holds, whose buffer is at least as
/// large as ours.
pub(super) fn burst(port: &AnyPort) -> usize {
    let held = 2 * port.socket().receive_buffer().effective_bytes / BUFFER_BYTES;
    (held / TRAIN * TRAIN).clamp(TRAIN, BURST)
}

pub(super) fn pool(slot_bytes: usize, slots: usize, prefault: bool) -> Result<Pool, String> {
    let hugepages = Hugepages::Off;
    Pool::new(PoolConfig { slot_bytes, slots, headroom: 0, hugepages, prefault })
        .map_err(|error| format!("cannot map buffers: {error}"))
}

fn expect(kind: Kind, plaintext: &[u8]) -> Result<(), String> {
    let frame = wire::open(plaintext).map_err(|drop| drop.help().to_owned())?;
    let (_, header, _) = wire::split(frame);
    if header.kind == kind.id() {
        return Ok(());
    }
    let found = Kind::try_from(header.kind).map_or("unknown", Kind::name);
    Err(format!("an answer of type {found} in place of {}", kind.name()))
}

/// Bytes of plaintext in a datagram of `bytes`.
pub(super) const fn plaintext_bytes(bytes: usize) -> usize {
    bytes - WG_OVERHEAD
}
