//! A router's sessions on stock BoringTun, stock BoringTun clients that run their own
//! timers, and a network between them, all on one clock that the test turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use mock_instant::MockClock;
use molia_router::admission;
use molia_router::bucket::Rate;
use molia_router::drops::Drop;
use molia_router::ids::SessionRef;
use molia_router::net::{Local, Path};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::tunnel::{Config, Event, Opened, Secrets, Sessions};

/// Milliseconds of a step of the clock.
pub const STEP_MS: u64 = 10;
/// How often clients look at their timers.
const TIMERS_MS: u64 = 250;
/// Least and most that a datagram is under way.
const LATENCY_MS: u64 = 10;

/// What is not ideal.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// Datagrams lost of a thousand.
    pub loss_permille: u64,
    /// How much later than another a datagram may arrive.
    pub jitter_ms: u64,
    /// How often somebody sends old initiations of every client again; never if 0.
    pub replay_ms: u64,
}

/// Somebody with a session, who asks something every so often.
pub struct Client {
    tunn: Tunn,
    /// Between two questions.
    pub period_ms: u64,
    next_ms: u64,
    /// Questions asked, and answered.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// When the last answer came.
    pub heard_ms: u64,
    /// The longest time without an answer.
    pub silence_ms: u64,
    recorded: Vec<Vec<u8>>,
}

/// A datagram under way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at_ms: u64,
    order: u64,
    to_router: bool,
    client: usize,
    bytes: Vec<u8>,
}

/// Everything.
pub struct World {
    /// The router's side.
    pub sessions: Sessions<WireGuard>,
    /// The others.
    pub clients: Vec<Client>,
    /// What the router dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Sessions that the router ended.
    pub ended: u64,
    /// Since the start.
    pub ms: u64,
    router: PublicKey,
    weather: Weather,
    underway: BinaryHeap<Reverse<Flight>>,
    order: u64,
    random: u64,
}

/// A frame that carries when it was sent.
pub fn frame(len: u16, ms: u64) -> Vec<u8> {
    let mut frame = vec![0; usize::from(len)];
    frame[0] = 0x4d;
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    frame[4..12].copy_from_slice(&ms.to_le_bytes());
    frame
}

/// Where a client is.
pub fn path(client: usize) -> Path {
    let [a, b, ..] = client.to_le_bytes();
    Path { peer: SocketAddr::from(([10, 0, b, a], 4000)), local: Local::default() }
}

impl World {
    /// `clients` clients with a persistent keepalive, or with none if that is 0. The memory of
    /// repeats is as good as absent, so that replays reach the engine.
    pub fn new(clients: usize, keepalive_s: u16, weather: Weather) -> Self {
        let plenty = Rate::new(1_000_000, 1_000_000);
        let admission = admission::Config {
            cookie_threshold_pps: 1_000_000,
            address: plenty,
            prefix: plenty,
            table_entries: 4,
            initiations_per_turn: 1_000_000,
            ..admission::Config::default()
        };
        let config = Config {
            sessions_max: 1024,
            handshakes_per_turn: 16,
            handshake_queue: 1024,
            admission,
            ..Config::default()
        };
        let engine = WireGuard::new(StaticSecret::from([3; 32]), 1024);
        let public = engine.public();
        let secrets = Secrets { cookies: [1; 32], seed: [2; 32] };
        let router = PublicKey::from(public.0);
        Self {
            sessions: Sessions::new(config, engine, &public, &secrets),
            clients: (0..clients).map(|n| Client::new(n, router, keepalive_s)).collect(),
            drops: BTreeMap::new(),
            ended: 0,
            ms: 0,
            router,
            weather,
            underway: BinaryHeap::new(),
            order: 0,
            random: 0x1234_5678_9abc_def1,
        }
    }

    /// Both clocks of the router.
    pub fn now(&self) -> Now {
        let at = Moment::START + Duration::from_millis(1_000_000 + self.ms);
        Now { at, unix_ms: 1_700_000_000_000 + self.ms }
    }

    /// Everything that happens in `ms` milliseconds.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            MockClock::advance(Duration::from_millis(STEP_MS));
            self.ms += STEP_MS;
            (0..self.clients.len()).for_each(|client| self.act(client));
            self.deliver();
            self.poll();
        }
    }

    /// The longest silence of any client that asks at least every `period_ms`.
    pub fn silence_ms(&self, period_ms: u64) -> u64 {
        let asking = self.clients.iter().filter(|client| client.period_ms <= period_ms);
        asking.map(|client| client.silence_ms.max(self.ms - client.heard_ms)).max().unwrap_or(0)
    }

    /// The session of the only client.
    pub fn session(&self) -> SessionRef {
        self.sessions.live().next().expect("a session").0
    }

    /// The router takes a datagram; an answer goes back, a frame is echoed.
    pub fn receive(&mut self, from: &Path, client: usize, bytes: &[u8]) -> Result<(), Drop> {
        let (mut scratch, mut out) = ([0; 2048], [0; 2048]);
        let now = self.now();
        match self.sessions.receive(now, from, bytes, &mut scratch) {
            Opened::Frame { session, plaintext } => {
                let (_, len) = self.sessions.seal(now, session, plaintext, &mut out)?;
                self.send(false, client, out[..len].to_vec());
            }
            Opened::Reply { bytes, .. } => self.send(false, client, bytes.to_vec()),
            Opened::Nothing => {}
            Opened::Elsewhere(_) | Opened::Move(_) => unreachable!("there is one shard"),
            Opened::Dropped(drop) => return Err(drop),
        }
        Ok(())
    }

    /// Strangers knock until the memory of repeats has no place left for what was before.
    pub fn forget_repeats(&mut self) {
        for n in 2000..2016 {
            let mut stranger = Client::new(n, self.router, 0);
            if let Some(initiation) = stranger.seal(&frame(40, 0)) {
                let _answer =
                    self.sessions.receive(self.now(), &path(n), &initiation, &mut [0; 2048]);
            }
        }
        // The next turn has a budget of its own.
        self.run(STEP_MS);
    }

    fn act(&mut self, client: usize) {
        let ms = self.ms;
        let len = 20 + u16::try_from(self.draw(400)).unwrap_or(0);
        let tenant = &mut self.clients[client];
        let mut sent = Vec::new();
        if ms % TIMERS_MS < STEP_MS {
            sent.extend(tenant.time());
        }
        if ms >= tenant.next_ms {
            tenant.next_ms = ms + tenant.period_ms;
            tenant.asked += 1;
            sent.extend(tenant.seal(&frame(len, ms)));
        }
        tenant.recorded.extend(sent.iter().filter(|bytes| bytes[0] == 1).cloned());
        tenant.recorded.truncate(3);
        sent.into_iter().for_each(|bytes| self.send(true, client, bytes));
        let replay_ms = self.weather.replay_ms;
        if replay_ms > 0 && ms % replay_ms < STEP_MS {
            let which = self.draw(3);
            if let Some(old) = self.clients[client].recorded.get(which).cloned() {
                let _refused_or_repeated = self.receive(&path(1000), client, &old);
            }
        }
    }

    fn deliver(&mut self) {
        while self.underway.peek().is_some_and(|Reverse(flight)| flight.at_ms <= self.ms) {
            let Some(Reverse(Flight { to_router, client, bytes, .. })) = self.underway.pop() else {
                break;
            };
            if !to_router {
                let answers = self.clients[client].hear(&bytes, self.ms);
                answers.into_iter().for_each(|bytes| self.send(true, client, bytes));
            } else if let Err(drop) = self.receive(&path(client), client, &bytes) {
                *self.drops.entry(drop.label()).or_default() += 1;
            }
        }
    }

    fn poll(&mut self) {
        let (mut scratch, now) = ([0; 2048], self.now());
        let mut sent = Vec::new();
        while let Some(event) = self.sessions.poll(now, &mut scratch) {
            match event {
                Event::Send(to, bytes) => sent.push((to, bytes.to_vec())),
                Event::Ended(..) => self.ended += 1,
                Event::Move(..) => unreachable!("there is one shard"),
                Event::Refused(_, _, drop) | Event::Dropped(drop) => {
                    *self.drops.entry(drop.label()).or_default() += 1
                }
            }
        }
        for (to, bytes) in sent {
            if let Some(client) = (0..self.clients.len()).find(|n| path(*n) == to) {
                self.send(false, client, bytes);
            }
        }
    }

    fn send(&mut self, to_router: bool, client: usize, bytes: Vec<u8>) {
        if (self.draw(1000) as u64) < self.weather.loss_permille {
            return;
        }
        self.order += 1;
        let late = self.draw(usize::try_from(self.weather.jitter_ms).unwrap_or(0) + 1) as u64;
        let (at_ms, order) = (self.ms + LATENCY_MS + late, self.order);
        self.underway.push(Reverse(Flight { at_ms, order, to_router, client, bytes }));
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 11).unwrap_or(0) % below
    }
}

impl Client {
    fn new(n: usize, router: PublicKey, keepalive_s: u16) -> Self {
        let mut secret = [9; 32];
        secret[4..12].copy_from_slice(&n.to_le_bytes());
        let secret = StaticSecret::from(secret);
        // Its own would refuse more than ten responses a second.
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&secret), u64::MAX));
        let keepalive = (keepalive_s > 0).then_some(keepalive_s);
        let index = u32::try_from(n).unwrap_or(0);
        let tunn = Tunn::new(secret, router, None, keepalive, index, Some(limiter));
        Self {
            tunn,
            period_ms: [200, 1_000, 3_000, 17_000, 40_000, 100_000][n % 6],
            next_ms: (n as u64 * 37) % 3_000,
            asked: 0,
            answered: 0,
            heard_ms: 0,
            silence_ms: 0,
            recorded: Vec::new(),
        }
    }

    /// Asks nothing from now on.
    pub fn sleep(&mut self) {
        self.next_ms = u64::MAX;
    }

    /// A data message, or an initiation if there is no session.
    pub fn seal(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 2048];
        match self.tunn.encapsulate(frame, &mut out) {
            TunnResult::WriteToNetwork(sent) => Some(sent.to_vec()),
            _ => None,
        }
    }

    /// An initiation of its past.
    pub fn recorded(&self) -> Vec<u8> {
        self.recorded[0].clone()
    }

    fn time(&mut self) -> Option<Vec<u8>> {
        let mut out = [0; 2048];
        match self.tunn.update_timers(&mut out) {
            TunnResult::WriteToNetwork(sent) => Some(sent.to_vec()),
            _ => None,
        }
    }

    fn hear(&mut self, bytes: &[u8], ms: u64) -> Vec<Vec<u8>> {
        let (mut out, mut answers) = ([0; 2048], Vec::new());
        match self.tunn.decapsulate(None, bytes, &mut out) {
            TunnResult::WriteToNetwork(sent) => {
                answers.push(sent.to_vec());
                while let TunnResult::WriteToNetwork(queued) =
                    self.tunn.decapsulate(None, &[], &mut out)
                {
                    answers.push(queued.to_vec());
                }
            }
            TunnResult::WriteToTunnelV4(..) => {
                self.answered += 1;
                self.silence_ms = self.silence_ms.max(ms - self.heard_ms);
                self.heard_ms = ms;
            }
            _ => {}
        }
        answers
    }
}
