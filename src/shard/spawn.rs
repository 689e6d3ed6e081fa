//! Starting the shards of a router, each on its thread, and the handle to them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bufpool::Hugepages;
use peerstore::OpenError;

use super::keeper::StoreConfig;
use super::liaison::Liaison;
use super::life::{self, Seat};
use super::mailbox;
use crate::client::Link;
use crate::identity::Identity;
use crate::partition::Partition;
use crate::port::{Achieved, EngineChoice, EngineConfig, Reason, Socket, SocketConfig, Waker};
use crate::router::{self, Router};
use crate::time::Now;
use crate::tunnel::wireguard::WireGuard;

/// The port of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortConfig {
    /// Which engine.
    pub engine: EngineChoice,
    /// Its sizes.
    pub sizes: EngineConfig,
    /// Sockets that are opened while it runs, each at a port of its own.
    pub beside: SocketConfig,
    /// Receive slots owned; a multiple of those posted to the kernel at a time.
    pub receive_slots: usize,
    /// What backs the slots.
    pub hugepages: Hugepages,
}

/// What the shards of a router are made of. The sockets are bound already, so that a port in use
/// is found out before anything else is touched.
pub struct Config {
    /// Where datagrams come and go: one socket for each shard, in the order of their numbers.
    pub sockets: Vec<Socket>,
    /// Those of the alternate port in the same order; empty if there is none.
    pub alternates: Vec<Socket>,
    /// CPUs to pin the shards' threads to, in order; the scheduler chooses for those without.
    pub cpus: Vec<usize>,
    /// Engine, offloads and receive slots of each.
    pub port: PortConfig,
    /// The router's settings; which shard of how many, and the alternate port, are filled in.
    pub router: router::Config,
    /// Time after which a turn sends what it has and leaves the rest to the next one.
    pub turn_budget: Duration,
    /// Who the router is.
    pub identity: Arc<Identity>,
    /// Key of the handshake cookies, the same in all shards.
    pub cookie_secret: [u8; 32],
    /// Where they remember; `None` is in memory alone.
    pub store: Option<StoreConfig>,
    /// The router that sends filter probes for this one; its peer id is filled in below.
    pub other_router: Option<Link>,
    /// Files that the counters live in, in the shards' order; those without keep them private.
    pub counters: Vec<PathBuf>,
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
    /// A handle of a socket could not be had.
    Socket(io::Error),
    /// The system gave no thread.
    Thread(io::Error),
    /// What was kept cannot be read.
    Store(OpenError),
    /// Nor the directory that it lies in.
    StoreDirectory(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(reason) => write!(f, "io/engine = io_uring is not to be had: {reason}"),
            Self::Buffers(error) => write!(f, "cannot map the packet buffers: {error}"),
            Self::Tables(bytes) => write!(
                f,
                "no memory for the tables, {} MiB: wireguard/sessions_max, overlay/entries_max, \
                 admission/table_entries and shards/count set their size",
                bytes >> 20
            ),
            Self::Counters(path, error) => write!(f, "counter file {}: {error}", path.display()),
            Self::Socket(error) => write!(f, "cannot use the socket: {error}"),
            Self::Thread(error) => write!(f, "cannot start the shard's thread: {error}"),
            Self::Store(error) => write!(f, "cannot open the store: {error}"),
            Self::StoreDirectory(error) => {
                write!(f, "cannot open the store's directory: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// What other threads may ask of a shard.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    panic: AtomicBool,
    /// Questions for the CPU time so far, and those answered.
    asked: AtomicU64,
    answered: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Control {
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Answers what is waiting; reads `cpu_ns` only if somebody asks for it.
    ///
    /// # Panics
    /// If that is what was asked for.
    pub(super) fn answer(&self, cpu_ns: impl FnOnce() -> u64) {
        let asked = self.asked.load(Ordering::Acquire);
        if asked != self.answered.load(Ordering::Relaxed) {
            self.cpu_ns.store(cpu_ns(), Ordering::Relaxed);
            self.answered.store(asked, Ordering::Release);
        }
        let panic = self.panic.load(Ordering::Relaxed) && self.panic.swap(false, Ordering::Relaxed);
        assert!(!panic, "somebody wants to see a shard panic");
    }
}

/// The running shards of a router.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<Handle>,
    local_addr: SocketAddr,
    liaison: Option<Liaison>,
}

/// One of them.
#[derive(Debug)]
struct Handle {
    thread: JoinHandle<io::Result<()>>,
    control: Arc<Control>,
    waker: Waker,
    achieved: Achieved,
}

impl Handle {
    fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    fn cpu_ns(&self) -> u64 {
        let asked = self.control.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.waker.wake();
        while self.control.answered.load(Ordering::Acquire) < asked && self.is_alive() {
            thread::yield_now();
        }
        self.control.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Shards {
    /// The address they serve.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// The engine and offloads that the first one started with; all are made alike.
    pub fn achieved(&self) -> &Achieved {
        &self.handles[0].achieved
    }

    /// Whether all their threads run.
    pub fn are_alive(&self) -> bool {
        self.handles.iter().all(Handle::is_alive)
    }

    /// CPU time their threads have used so far, in nanoseconds, kernel time included.
    pub fn cpu_ns(&self) -> u64 {
        self.handles.iter().map(Handle::cpu_ns).sum()
    }

    /// Makes a shard panic, as a bug of ours would: it loses its state and begins again.
    #[doc(hidden)]
    pub fn panic(&self, shard: usize) {
        self.handles[shard].control.panic.store(true, Ordering::Relaxed);
        self.handles[shard].waker.wake();
    }

    /// Asks all of them to end; returns at once.
    pub fn stop(&self) {
        self.liaison.iter().for_each(Liaison::stop);
        for Handle { control, waker, .. } in &self.handles {
            control.stop.store(true, Ordering::Relaxed);
            waker.wake();
        }
    }

    /// Waits for their end. An error is a port that broke for good, or a panic at the very start.
    ///
    /// # Errors
    /// What ended the first of the loops that failed.
    pub fn join(self) -> io::Result<()> {
        let ends = self.handles.into_iter().map(|handle| {
            let panicked = || Err(io::Error::other("the shard panicked"));
            handle.thread.join().unwrap_or_else(|_| panicked())
        });
        let ends = ends.collect::<Vec<_>>();
        self.liaison.into_iter().for_each(Liaison::join);
        ends.into_iter().collect()
    }
}

/// Starts the shards and waits until all serve.
///
/// # Errors
/// What one of them lacked; nothing is left behind.
pub fn spawn(config: Config) -> Result<Shards, StartError> {
    spawn_prepared(config, |_, _| {})
}

/// As [`spawn`]; before it serves, each shard's thread hands its router to `prepare`.
///
/// # Errors
/// What one of them lacked; nothing is left behind.
///
/// # Panics
/// If there is no socket, or more than there can be shards, or an alternate one for some only.
pub fn spawn_prepared(
    config: Config,
    prepare: impl Fn(Now, &mut Router<WireGuard>) + Send + Sync + 'static,
) -> Result<Shards, StartError> {
    let Config { sockets, cpus, port, mut router, turn_budget, identity, cookie_secret, .. } =
        config;
    let Config { store, counters, alternates, other_router, .. } = config;
    let alike = alternates.is_empty() || alternates.len() == sockets.len();
    assert!(alike, "the alternate port has a socket for every shard");
    let port_of = |sockets: &[Socket]| sockets.first().map_or(0, |it| it.local_addr().port());
    (router.port, router.alternate_port) = (port_of(&sockets), port_of(&alternates));
    let count = u16::try_from(sockets.len()).unwrap_or(u16::MAX);
    router.tunnel.partition = Partition::new(count, identity.home_seed(), &identity.peer_id());
    router.other_router = other_router.as_ref().map(|link| link.peer);
    let liaison = other_router.map(|link| Liaison::start(link, Arc::clone(&identity)));
    let (liaison, other) = liaison.transpose().map_err(StartError::Thread)?.unzip();
    let wakers: Vec<_> = sockets.iter().map(Socket::waker).collect();
    let mailboxes = mailbox::mesh(&mailbox::Config::among(sockets.len()), wakers);
    let prepare: Arc<life::Prepare> = Arc::new(prepare);
    let local_addr = sockets[0].local_addr();
    let mut shards = Shards { handles: Vec::with_capacity(sockets.len()), local_addr, liaison };
    let (mut cpus, mut counters) = (cpus.into_iter(), counters.into_iter());
    let mut alternates = alternates.into_iter();
    for ((shard, socket), mailbox) in (0..).zip(sockets).zip(mailboxes) {
        router.tunnel.shard = shard;
        let seat = Seat {
            shard,
            cpu: cpus.next(),
            socket,
            alternate: alternates.next(),
            mailbox,
            port,
            router: router.clone(),
            turn_budget,
            identity: Arc::clone(&identity),
            cookie_secret,
            store: store.clone(),
            other: other.clone(),
            counters: counters.next(),
            control: Arc::default(),
        };
        match start(seat, &prepare) {
            Ok(handle) => shards.handles.push(handle),
            Err(error) => {
                shards.stop();
                // It fails already, and for another reason.
                let _ = shards.join();
                return Err(error);
            }
        }
    }
    Ok(shards)
}

fn start(seat: Seat, prepare: &Arc<life::Prepare>) -> Result<Handle, StartError> {
    let (control, waker) = (Arc::clone(&seat.control), seat.socket.waker());
    let (ready, started) = sync_channel(1);
    let prepare = Arc::clone(prepare);
    let thread = thread::Builder::new().name(format!("shard-{}", seat.shard));
    let thread = thread.spawn(move || life::lead(seat, &*prepare, &ready));
    let thread = thread.map_err(StartError::Thread)?;
    match started.recv() {
        Ok(Ok(achieved)) => Ok(Handle { thread, control, waker, achieved }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Thread(io::Error::other("it panicked while starting"))),
    }
}
