//! Starting a shard on its thread, and the handle to it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};

use super::{Load, Shard};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::identity::Identity;
use crate::limits;
use crate::port::{Achieved, AnyPort, EngineChoice, EngineConfig, Port, Reason, Socket, Waker};
use crate::router::{self, Router};
use crate::time::{Moment, Now};
use crate::tunnel::Secrets;
use crate::tunnel::wireguard::WireGuard;

/// For what is not a table: stacks, the admin listener, the first sessions.
const SPARE_BYTES: usize = 16 << 20;

/// The port of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortConfig {
    /// Which engine.
    pub engine: EngineChoice,
    /// Its sizes.
    pub sizes: EngineConfig,
    /// Receive slots owned; a multiple of those posted to the kernel at a time.
    pub receive_slots: usize,
    /// What backs the slots.
    pub hugepages: Hugepages,
}

/// What a shard is made of. The socket is bound already, so that a port in use is found out
/// before anything else is touched.
pub struct ShardConfig {
    /// Number of the shard.
    pub shard: u16,
    /// CPU to pin the thread to; `None` lets the scheduler choose.
    pub cpu: Option<usize>,
    /// Where datagrams come and go.
    pub socket: Socket,
    /// Engine, offloads and receive slots.
    pub port: PortConfig,
    /// The router's settings.
    pub router: router::Config,
    /// Time after which a turn sends what it has and leaves the rest to the next one.
    pub turn_budget: Duration,
    /// Who the router is.
    pub identity: Arc<Identity>,
    /// Key of the handshake cookies, the same in all shards.
    pub cookie_secret: [u8; 32],
    /// File that the counters live in; `None` keeps them private.
    pub counters: Option<PathBuf>,
}

/// Why a shard did not start.
#[derive(Debug)]
pub enum StartError {
    /// The engine that was asked for is not to be had.
    Engine(Reason),
    /// The buffers could not be mapped.
    Buffers(io::Error),
    /// There is not so much memory, in bytes, for the tables.
    Tables(usize),
    /// The counter file could not be made.
    Counters(PathBuf, io::Error),
    /// The system gave no thread.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(reason) => write!(f, "io/engine = io_uring is not to be had: {reason}"),
            Self::Buffers(error) => write!(f, "cannot map the packet buffers: {error}"),
            Self::Tables(bytes) => write!(
                f,
                "no memory for the tables, {} MiB: wireguard/sessions_max, overlay/entries_max and \
                 admission/table_entries set their size",
                bytes >> 20
            ),
            Self::Counters(path, error) => write!(f, "counter file {}: {error}", path.display()),
            Self::Thread(error) => write!(f, "cannot start the shard's thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What other threads may ask of a shard.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    /// Questions for the CPU time so far, and those answered.
    asked: AtomicU64,
    answered: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Control {
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Answers a waiting question; reads `cpu_ns` only if there is one.
    pub(super) fn answer(&self, cpu_ns: impl FnOnce() -> u64) {
        let asked = self.asked.load(Ordering::Acquire);
        if asked != self.answered.load(Ordering::Relaxed) {
            self.cpu_ns.store(cpu_ns(), Ordering::Relaxed);
            self.answered.store(asked, Ordering::Release);
        }
    }
}

/// A running shard.
#[derive(Debug)]
pub struct Handle {
    thread: JoinHandle<io::Result<()>>,
    control: Arc<Control>,
    waker: Waker,
    local_addr: SocketAddr,
    achieved: Achieved,
}

impl Handle {
    /// The address it serves.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The engine and offloads it started with.
    pub fn achieved(&self) -> &Achieved {
        &self.achieved
    }

    /// Whether its thread runs.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// CPU time its thread has used, in nanoseconds, kernel time included.
    pub fn cpu_ns(&self) -> u64 {
        let asked = self.control.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.waker.wake();
        while self.control.answered.load(Ordering::Acquire) < asked && self.is_alive() {
            thread::yield_now();
        }
        self.control.cpu_ns.load(Ordering::Relaxed)
    }

    /// Asks it to end; returns at once.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Waits for its end. An error is a port that broke for good, or a panic.
    ///
    /// # Errors
    /// What ended the loop.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the shard panicked")))
    }
}

/// Starts a shard and waits until it serves.
///
/// # Errors
/// What it lacked; nothing is left behind.
pub fn spawn(config: ShardConfig) -> Result<Handle, StartError> {
    spawn_prepared(config, |_, _| {})
}

/// As [`spawn`]; before it serves, the shard's thread hands its router to `prepare`.
///
/// # Errors
/// What it lacked; nothing is left behind.
pub fn spawn_prepared(
    config: ShardConfig,
    prepare: impl FnOnce(Now, &mut Router<WireGuard>) + Send + 'static,
) -> Result<Handle, StartError> {
    let (local_addr, waker) = (config.socket.local_addr(), config.socket.waker());
    let control = Arc::new(Control::default());
    let (ready, started) = sync_channel(1);
    let name = format!("shard-{}", config.shard);
    let thread = {
        let control = Arc::clone(&control);
        thread::Builder::new().name(name).spawn(move || main(config, prepare, control, &ready))
    };
    let thread = thread.map_err(StartError::Thread)?;
    match started.recv() {
        Ok(Ok(achieved)) => Ok(Handle { thread, control, waker, local_addr, achieved }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Thread(io::Error::other("it panicked while starting"))),
    }
}

/// The shard's thread. The ring wants to be made by the thread that submits to it.
fn main(
    config: ShardConfig,
    prepare: impl FnOnce(Now, &mut Router<WireGuard>),
    control: Arc<Control>,
    ready: &SyncSender<Result<Achieved, StartError>>,
) -> io::Result<()> {
    match build(config, control) {
        Ok(mut shard) => {
            prepare(shard.clock.now(), &mut shard.router);
            // Whoever looks once it is ready sees the engine and the capacities.
            shard.publish(shard.clock.now());
            // The receiver waits in `spawn`.
            let _ = ready.send(Ok(shard.port.achieved().clone()));
            shard.run()
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Ok(())
        }
    }
}

/// Makes sure that so much memory is to be had: asks for all of it, and gives it back untouched.
fn reserve(bytes: usize) -> Result<(), StartError> {
    let mut space: Vec<u8> = Vec::new();
    let got = space.try_reserve_exact(bytes.saturating_add(SPARE_BYTES));
    // Memory that nobody looks at need not be asked for at all.
    std::hint::black_box(&mut space);
    got.map_err(|_| StartError::Tables(bytes))
}

fn build(config: ShardConfig, control: Arc<Control>) -> Result<Shard, StartError> {
    if let Some(id) = config.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(shard = config.shard, cpu = id, "cannot pin the shard");
    }
    let shard = u32::from(config.shard);
    let counters = match config.counters {
        Some(path) => {
            Counters::create(&path, shard).map_err(|error| StartError::Counters(path, error))?
        }
        None => Counters::anonymous(shard).map_err(StartError::Buffers)?,
    };
    let pool = |slot_bytes, slots, headroom| {
        let hugepages = config.port.hugepages;
        let shape = PoolConfig { slot_bytes, slots, headroom, hugepages, prefault: true };
        Pool::new(shape).map_err(StartError::Buffers)
    };
    let packets = pool(limits::SLOT_BYTES, config.router.slots(), limits::SLOT_HEADROOM)?;
    let receive = pool(limits::RX_SLOT_BYTES, config.port.receive_slots, 0)?;
    let port = AnyPort::open(config.port.engine, config.socket, config.port.sizes, receive)
        .map_err(StartError::Engine)?;
    let mut secrets = Secrets { cookies: config.cookie_secret, seed: [0; 32] };
    getrandom::getrandom(&mut secrets.seed)
        .map_err(|error| StartError::Thread(io::Error::other(error.to_string())))?;
    reserve(Router::<WireGuard>::bytes(&config.router))?;
    let sessions = config.router.tunnel.sessions_max as usize;
    let tunnel = WireGuard::new(config.identity.wg_secret().clone(), sessions);
    let router = Router::new(config.router, config.identity, tunnel, packets, counters, &secrets);
    let clock = Clock::start();
    router.counters().started(clock.now());
    Ok(Shard {
        received: Vec::with_capacity(config.port.receive_slots),
        left: Vec::with_capacity(config.port.receive_slots),
        turn_budget: config.turn_budget,
        port,
        router,
        clock,
        control,
        load: Load::default(),
        moved: (0, 0),
        published_at: Moment::START,
        stale: false,
    })
}
