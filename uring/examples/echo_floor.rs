//! What an engine costs by itself: CPU time of an echo per datagram, saturated.
//!
//! ```text
//! cargo run --release -p uring --example echo_floor -- [rounds] [words a case must have...] [key=value! ...]
//! ```
//! One pinned thread is echo and peers at once: peers queue a burst, then the
//! clock runs while the engine echoes all of it, then the peers read. So socket,
//! softirq and echo share a core and nothing ever waits. All cases take turns,
//! so that a noisy machine disturbs them alike; of the rounds the median and the
//! least are printed, in nanoseconds of thread CPU time per datagram, for
//! receiving, echoing and delivering to the peers.
//!
//! Peers send trains coalesced (`train=8`), and either keep answers whole
//! (`gro`) or have them taken apart on delivery (`cut`).

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};
use uring::{
    Datagram, Engine, EngineConfig, MmsgEngine, Socket, SocketConfig, Stats, Transmit, TxMode,
    UringEngine,
};

/// Datagrams queued before the clock runs.
const BURST: u64 = 1024;
/// Bursts per round.
const BURSTS: u64 = 30;

#[derive(Clone, Copy, Debug)]
struct Case {
    engine: Engine,
    config: EngineConfig,
    flows: usize,
    bytes: usize,
    train: usize,
    offloads: bool,
    whole: bool,
    listen: &'static str,
    /// Bytes per slot of the pool that answers are copied into; 0 sends the receive slot itself.
    copy: usize,
    slot_bytes: usize,
    /// Mark of the answers.
    dscp: u8,
}

impl Case {
    fn name(&self) -> String {
        let Self { engine, config, flows, bytes, train, .. } = self;
        let offloads = if self.offloads { "offloads" } else { "plain" };
        let far = if self.whole { "gro" } else { "cut" };
        let (engine, tx) = (engine.label(), config.tx.label());
        format!(
            "{engine:8} tx={tx:8} flows={flows:<3} bytes={bytes:<4} train={train:<2} {offloads:8} {far}"
        )
    }
}

/// An engine of either kind behind one call.
enum Any {
    Uring(Box<UringEngine>),
    Mmsg(Box<MmsgEngine>),
}

fn main() {
    let mut rounds = 7;
    let mut words = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.parse::<usize>() {
            Ok(number) => rounds = number.max(1),
            Err(_) => words.push(argument),
        }
    }
    let (settings, filter): (Vec<_>, Vec<_>) = words.into_iter().partition(|w| w.ends_with('!'));
    pin(0);
    let wanted = |case: &Case| filter.iter().all(|word| case.name().contains(word.as_str()));
    let mut runs: Vec<(Run, Vec<u64>)> = cases(&settings)
        .into_iter()
        .filter(wanted)
        .map(|case| (Run::start(case), Vec::new()))
        .collect();
    for _ in 0..rounds {
        for (run, results) in &mut runs {
            results.push(run.measure());
        }
    }
    for (run, mut results) in runs {
        results.sort_unstable();
        let stats = run.stats();
        let per_turn = |n: u64| n as f64 / stats.rx_batches.max(1) as f64;
        println!(
            "{} {:6} ns (least {:6})  {:4.1} slots {:4.1} calls a turn, lost {}",
            run.case.name(),
            results[results.len() / 2],
            results[0],
            per_turn(stats.rx_messages),
            per_turn(stats.syscalls),
            stats.rx_kernel_drops + stats.tx_errors.total(),
        );
    }
}

/// Every combination worth a line. Settings like `post=64!` replace a size.
fn cases(settings: &[String]) -> Vec<Case> {
    let sized = |key: &str, default: usize| {
        let found = settings.iter().find_map(|w| w.strip_prefix(key)?.strip_suffix('!'));
        found.and_then(|number| number.parse().ok()).unwrap_or(default)
    };
    let has = |word: &str| settings.iter().any(|w| w == word);
    let listen = match (has("v4!"), has("one!")) {
        (true, _) => "0.0.0.0:0",
        (_, true) => "127.0.0.1:0",
        _ => "[::]:0",
    };
    let base = EngineConfig {
        rx_post: sized("post=", 32),
        rx_batch: sized("batch=", 64),
        tx_batch: sized("tx_batch=", 128),
        gso_max_segments: sized("segments=", 64),
        ring_entries: sized("ring=", 256),
        busy_poll: Duration::ZERO,
        tx: TxMode::Auto,
        zero_copy_min_bytes: settings.iter().any(|w| w == "zc!").then_some(16 << 10),
    };
    let (copy, slot_bytes) = (sized("copy=", 0), sized("slot=", 68 * 1024));
    let dscp = u8::try_from(sized("dscp=", 0)).expect("a code point, 0 to 63");
    let shapes = [
        (256, 1, false, false),
        (256, 1, true, false),
        (8, 1, false, false),
        (8, 1, true, false),
        (8, 1, true, true),
        (64, 1, true, false),
        (64, 1, true, true),
        (1, 1, false, false),
        (1, 1, true, false),
        (1, 1, true, true),
        (256, 8, true, false),
        (256, 8, true, true),
        (1, 48, true, false),
        (1, 48, true, true),
    ];
    let engines = [
        (Engine::Mmsg, TxMode::Sendmmsg),
        (Engine::IoUring, TxMode::Sendmmsg),
        (Engine::IoUring, TxMode::Uring),
    ];
    let mut cases = Vec::new();
    for bytes in [100, 1200] {
        for (flows, train, offloads, whole) in shapes {
            for (engine, tx) in engines {
                let config = EngineConfig { tx, ..base };
                cases.push(Case {
                    engine,
                    config,
                    flows,
                    bytes,
                    train,
                    offloads,
                    whole,
                    listen,
                    copy,
                    slot_bytes,
                    dscp,
                });
            }
        }
    }
    cases
}

/// One engine and its peers.
struct Run {
    engine: Any,
    dscp: u8,
    small: Option<Pool>,
    peers: Vec<UdpSocket>,
    case: Case,
    sink: Vec<Datagram>,
    scratch: Vec<u8>,
    sent: u64,
}

impl Run {
    fn start(case: Case) -> Self {
        let config = SocketConfig {
            rcvbuf_bytes: 16 << 20,
            sndbuf_bytes: 4 << 20,
            gro: case.offloads,
            gso: case.offloads,
            ..SocketConfig::new(case.listen.parse().expect("an address"))
        };
        let socket = Socket::bind(&config).expect("a port");
        let to = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().port()));
        let slots = pool(case.slot_bytes, case.config.rx_post * 3);
        let engine = match case.engine {
            Engine::Mmsg => Any::Mmsg(Box::new(MmsgEngine::new(socket, case.config, slots))),
            Engine::IoUring => match UringEngine::new(socket, case.config, slots) {
                Ok(engine) => Any::Uring(Box::new(engine)),
                Err(refused) => panic!("no io_uring: {}", refused.reason),
            },
        };
        Self {
            engine,
            dscp: case.dscp,
            small: (case.copy > 0).then(|| pool(case.copy, 1024)),
            peers: (0..case.flows).map(|_| peer(to, case)).collect(),
            case,
            sink: Vec::with_capacity(256),
            scratch: vec![0; 1 << 16],
            sent: 0,
        }
    }

    /// CPU time per datagram, after one burst that does not count.
    fn measure(&mut self) -> u64 {
        self.burst();
        let before = self.stats().tx_packets;
        let ns: u64 = (0..BURSTS).map(|_| self.burst()).sum();
        ns / (self.stats().tx_packets - before).max(1)
    }

    /// CPU time of echoing one burst.
    fn burst(&mut self) -> u64 {
        let datagram = vec![7; self.case.bytes * self.case.train];
        let lot = (self.peers.len() * self.case.train) as u64;
        for _ in 0..BURST.div_ceil(lot) {
            for peer in &self.peers {
                peer.send(&datagram).expect("room in the echo's buffer");
            }
            self.sent += lot;
        }
        let before = thread_cpu_ns();
        while self.stats().rx_packets < self.sent {
            self.turn();
        }
        let after = thread_cpu_ns();
        for peer in &self.peers {
            while peer.recv(&mut self.scratch).is_ok() {}
        }
        after - before
    }

    fn turn(&mut self) {
        let Self { engine, small, sink, dscp, .. } = self;
        macro_rules! turn {
            ($engine:expr) => {{
                $engine.turn(Duration::ZERO, sink).expect("a turn");
                for Datagram { path, mut buf, segment } in sink.drain(..) {
                    if let Some(mut fresh) = small.as_ref().and_then(Pool::take)
                        && fresh.extend(&buf)
                    {
                        buf = fresh;
                    }
                    $engine.send(Transmit { path, buf, segment, dscp: *dscp });
                }
                $engine.flush();
            }};
        }
        match engine {
            Any::Uring(engine) => turn!(engine),
            Any::Mmsg(engine) => turn!(engine),
        }
    }

    fn stats(&self) -> &Stats {
        match &self.engine {
            Any::Uring(engine) => engine.stats(),
            Any::Mmsg(engine) => engine.stats(),
        }
    }
}

fn pool(slot_bytes: usize, slots: usize) -> Pool {
    let hugepages = Hugepages::Off;
    let config = PoolConfig { slot_bytes, slots, headroom: 0, hugepages, prefault: true };
    Pool::new(config).expect("memory")
}

fn peer(to: SocketAddr, case: Case) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(to).expect("a route");
    socket.set_nonblocking(true).expect("a mode");
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
    if case.train > 1 {
        set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, i32::try_from(case.bytes).unwrap_or(0));
    }
    if case.whole {
        set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    }
    socket
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    let (value, len) = (&raw const value, 4);
    // SAFETY: `value` points to `len` bytes on our stack.
    let _ = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len) };
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).expect("the core exists");
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
