//! Holds many sessions with a router for a long time; fails if one of them goes deaf.
//!
//! ```sh
//! cargo run --release --example soak -- molia://... --sessions 500 --seconds 600
//! ```
//!
//! Every session has a key and a socket of its own and sends PING, FIND_NODE and REFLECT at
//! random intervals. A part of them rests for minutes in between, beyond the end of its keys; a part
//! changes its address now and then, as behind a NAT that forgets. Sessions live through several
//! rekeys. A session is deaf from a request that is answered neither at once nor when it is repeated
//! until its next answer; keys that are renewed before their time count as deafness, too, for
//! that is how the client gets over it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use boringtun::x25519::StaticSecret;
use clap::Parser;
use molia_router::client::Link;
use molia_router::client::link::Host;
use molia_router::client::peer::{Event, Peer};
use molia_router::client::requests::Requests;
use molia_router::client::session::{Config, REKEY_AFTER, Session};
use molia_router::client::wireguard::WireGuard;
use molia_router::clock::Clock;
use molia_router::ids::PeerId;
use molia_router::time::{Moment, Now};
use molia_router::wire::body::{FindNodeReq, Ping, ReflectReq};
use molia_router::wire::kind::Kind;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::task::LocalSet;

/// Holds many sessions with a router and fails if one goes deaf.
#[derive(Debug, Parser)]
struct Args {
    /// The router's link; its host must be an address.
    link: Link,
    /// Sessions to hold.
    #[arg(long, default_value_t = 500)]
    sessions: u64,
    /// How long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// A session that hears nothing for longer is deaf.
    #[arg(long, default_value_t = 3)]
    deaf_s: u64,
    /// Seed of keys, intervals and choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How a session passes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// A request every 0.1 to 30 s.
    Talks,
    /// The same, and a new address every 20 to 60 s.
    Roams,
    /// A request every 60 to 240 s and nothing in between, not even keepalives.
    Rests,
}

impl Habit {
    const fn of(index: u64) -> Self {
        match index % 10 {
            0 => Self::Roams,
            1 | 2 => Self::Rests,
            _ => Self::Talks,
        }
    }

    /// Until the next request.
    fn pause(self, rng: &mut ChaCha12Rng) -> Duration {
        match self {
            // As many short as long ones: 100 ms times 1 to 300, evenly over the exponents.
            Self::Talks | Self::Roams => Duration::from_secs_f64(0.1 * 300_f64.powf(unit(rng))),
            Self::Rests => Duration::from_secs_f64(60.0 + 180.0 * unit(rng)),
        }
    }
}

/// What became of a session, or of all together.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    requests: u64,
    answers: u64,
    timeouts: u64,
    handshakes: u64,
    early_handshakes: u64,
    failed_handshakes: u64,
    pinged: u64,
    moves: u64,
    deaf: Duration,
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.timeouts += other.timeouts;
        self.handshakes += other.handshakes;
        self.early_handshakes += other.early_handshakes;
        self.failed_handshakes += other.failed_handshakes;
        self.pinged += other.pinged;
        self.moves += other.moves;
        self.deaf = self.deaf.max(other.deaf);
    }
}

struct Held {
    habit: Habit,
    router: SocketAddr,
    socket: UdpSocket,
    peer: Peer<WireGuard>,
    rng: ChaCha12Rng,
    report: Report,
    established: Option<Moment>,
    /// The first request that was not answered since the last answer.
    unheard_since: Option<Moment>,
    next_request: Moment,
    next_move: Moment,
}

impl Held {
    async fn open(args: &Args, router: SocketAddr, index: u64, now: Moment) -> Result<Self> {
        let mut rng = ChaCha12Rng::seed_from_u64(args.seed ^ index.rotate_left(32));
        let habit = Habit::of(index);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let keepalive = (habit != Habit::Rests).then_some(Duration::from_secs(20));
        let config = Config { keepalive, ..Config::default() };
        let initiator = WireGuard::new(StaticSecret::from(secret), args.link.key);
        let session = Session::new(initiator, config, fork(&mut rng));
        let peer = Peer::new(session, Requests::new(fork(&mut rng)), router);
        let never = Moment::NEVER;
        // Spread over the first ten seconds: this is no test of handshake floods.
        let next_request = now + Duration::from_secs_f64(10.0 * unit(&mut rng));
        let mut held = Self {
            habit,
            router,
            socket: socket(router).await?,
            peer,
            rng,
            report: Report::default(),
            established: None,
            unheard_since: None,
            next_request,
            next_move: never,
        };
        held.plan_move(next_request);
        Ok(held)
    }

    fn plan_move(&mut self, now: Moment) {
        if self.habit == Habit::Roams {
            self.next_move = now + Duration::from_secs_f64(20.0 + 40.0 * unit(&mut self.rng));
        }
    }

    async fn run(mut self, clock: Clock, end: Moment) -> Result<Report> {
        let mut datagram = [0; 2048];
        loop {
            let now = clock.now();
            if now.at >= end {
                return Ok(self.finish(now.at));
            }
            self.act(now).await?;
            let due = self.peer.next_deadline(now.at).min(self.next_request).min(self.next_move);
            let wait = due.min(end).since(clock.moment()).max(Duration::from_millis(1));
            // A refusal that ICMP brought and silence alike show as an unanswered request.
            let received = tokio::time::timeout(wait, self.socket.recv(&mut datagram)).await;
            if let Ok(Ok(len)) = received {
                self.peer.receive(clock.now(), &datagram[..len]);
            }
        }
    }

    async fn act(&mut self, now: Now) -> Result<()> {
        if now.at >= self.next_move {
            self.socket = socket(self.router).await?;
            self.report.moves += 1;
            self.plan_move(now.at);
        }
        if now.at >= self.next_request {
            self.request(now)?;
            self.next_request = now.at + self.habit.pause(&mut self.rng);
        }
        while let Some(datagram) = self.peer.poll_transmit(now.at) {
            // As above: what could not be sent is not answered.
            let _ = self.socket.send(&datagram).await;
        }
        while let Some(event) = self.peer.poll_event() {
            self.note(now.at, &event);
        }
        Ok(())
    }

    fn request(&mut self, now: Now) -> Result<()> {
        self.report.requests += 1;
        let sent = match self.rng.next_u32() % 3 {
            0 => {
                let ping = Ping { now_unix_ms: now.unix_ms, ..Ping::default() };
                self.peer.request(Kind::Ping, |body| ping.write(body))
            }
            1 => {
                let mut id = [0; 32];
                self.rng.fill_bytes(&mut id);
                let find = FindNodeReq { target_id: PeerId(id), limit: 8 };
                self.peer.request(Kind::FindNodeReq, |body| find.write(body))
            }
            _ => {
                let reflect = ReflectReq { nonce: self.rng.next_u64(), ..ReflectReq::default() };
                self.peer.request(Kind::ReflectReq, |body| reflect.write(body))
            }
        };
        sent.map(|_| ()).ok().context("a request is larger than a datagram")
    }

    fn note(&mut self, now: Moment, event: &Event) {
        match event {
            Event::Established => {
                self.report.handshakes += 1;
                let age = self.established.replace(now).map(|before| now.since(before));
                if age.is_some_and(|age| age + Duration::from_secs(1) < REKEY_AFTER) {
                    self.report.early_handshakes += 1;
                }
            }
            Event::Answer(_) => {
                self.report.answers += 1;
                self.heard(now);
            }
            Event::TimedOut(_) => {
                self.report.timeouts += 1;
                self.unheard_since.get_or_insert(now);
                // Do not wait for the habit: ask until it hears again.
                self.next_request = self.next_request.min(now + Duration::from_millis(500));
            }
            Event::Unanswered(_) => self.report.failed_handshakes += 1,
            Event::Pinged => self.report.pinged += 1,
            Event::Price(_) | Event::Goaway { .. } | Event::Asked { .. } | Event::Dropped(_) => {}
        }
    }

    fn heard(&mut self, now: Moment) {
        if let Some(since) = self.unheard_since.take() {
            self.report.deaf = self.report.deaf.max(now.since(since));
        }
    }

    fn finish(mut self, now: Moment) -> Report {
        self.heard(now);
        self.report
    }
}

/// Of 0..1.
fn unit(rng: &mut ChaCha12Rng) -> f64 {
    f64::from(rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

fn fork(rng: &mut ChaCha12Rng) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(rng.next_u64())
}

async fn socket(router: SocketAddr) -> Result<UdpSocket> {
    let any = if router.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.context("no socket (ulimit -n?)")?;
    socket.connect(router).await?;
    Ok(socket)
}

async fn soak(args: &Args) -> Result<Vec<Report>> {
    let Host::Ip(ip) = &args.link.host else { bail!("the link's host must be an address") };
    let router = SocketAddr::new(*ip, args.link.port);
    let clock = Clock::start();
    let end = clock.moment() + Duration::from_secs(args.seconds);
    let mut tasks = Vec::new();
    for index in 0..args.sessions {
        let held = Held::open(args, router, index, clock.moment()).await?;
        tasks.push(tokio::task::spawn_local(held.run(clock, end)));
    }
    let mut reports = Vec::new();
    for task in tasks {
        reports.push(task.await??);
    }
    Ok(reports)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports = LocalSet::new().block_on(&runtime, soak(&args))?;
    let mut all = Report::default();
    reports.iter().for_each(|report| all.add(report));
    let deaf_after = Duration::from_secs(args.deaf_s);
    let deaf = reports.iter().filter(|report| report.deaf > deaf_after).count();
    let silent = reports.iter().filter(|report| report.answers == 0).count();
    println!("sessions            {}", reports.len());
    println!("seconds             {}", args.seconds);
    println!("requests            {}", all.requests);
    println!("answered            {}", all.answers);
    println!("timed out           {} (asked twice, no answer)", all.timeouts);
    println!("handshakes          {}", all.handshakes);
    println!("  before their time {}", all.early_handshakes);
    println!("  never answered    {}", all.failed_handshakes);
    println!("changes of address  {}", all.moves);
    println!("pinged by router    {}", all.pinged);
    println!("longest deaf time   {:.3} s", all.deaf.as_secs_f64());
    println!("deaf sessions       {deaf} (over {} s), never heard {silent}", args.deaf_s);
    let lost = deaf + silent;
    if lost > 0 || all.early_handshakes > 0 || all.failed_handshakes > 0 {
        bail!("{lost} of {} sessions were lost", reports.len());
    }
    Ok(())
}
