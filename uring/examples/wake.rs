//! What it costs to wake a shard that sleeps in its ring: an eventfd against `IORING_OP_MSG_RING`.
//!
//! ```text
//! cargo run --release -p uring --example wake -- [rounds] [CPU of the sender] [CPU of the sleeper]
//! ```
//! Two pinned threads with a ring each, set up as those of shards are. The sender does what ends
//! a shard's turn: it wakes the other one, and then enters its own ring, which it would anyway.
//! The ways of waking take turns, so that a noisy machine disturbs them alike:
//!
//! | way | the sender | the sleeper |
//! |---|---|---|
//! | `none` | enters its ring | sleeps on: the next line's enter is not its cost |
//! | `eventfd` | writes to an eventfd, enters its ring | has it polled (multishot), and reads it |
//! | `message` | enters its ring with a message to the other ring, and again | finds the message |
//! | `with` | enters its ring once, the message being among what it submits | finds the message |
//!
//! Printed are median and 90th percentile, in nanoseconds: the sender's time for all of it, from
//! its beginning to the sleeper being awake, and the sleeper's CPU time for a wake. Between two
//! wakes the sleeper has so long to fall asleep (`gap`): after a long one its CPU sleeps, too.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};

/// What a completion of the sleeper's is about.
const EVENT: u64 = 1;
const MESSAGE: u64 = 2;
/// Longest sleep.
const WAIT: Duration = Duration::from_millis(500);
/// Time to fall asleep in, and wakes of each kind for every round.
const GAPS: [(Duration, usize); 2] =
    [(Duration::from_micros(100), 300), (Duration::from_millis(2), 50)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    None,
    Eventfd,
    Message,
    With,
}

const WAYS: [Way; 4] = [Way::None, Way::Eventfd, Way::Message, Way::With];

/// What both threads see.
struct Shared {
    event: OwnedFd,
    stop: AtomicBool,
    /// Wakes so far, the time of the last one, and the sleeper's CPU time for it.
    wakes: AtomicU64,
    woke_ns: AtomicU64,
    spent_ns: AtomicU64,
    /// The sleeper's ring; 0 until it is there.
    ring: AtomicU64,
}

/// What was measured of one way with one gap.
#[derive(Default)]
struct Samples {
    sender: Vec<u64>,
    latency: Vec<u64>,
    sleeper: Vec<u64>,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [rounds, here, there] =
        [(0, 20), (1, 0), (2, 1)].map(|(at, default)| numbers.get(at).copied().unwrap_or(default));
    let shared = Arc::new(Shared {
        event: eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"),
        stop: AtomicBool::new(false),
        wakes: AtomicU64::new(0),
        woke_ns: AtomicU64::new(0),
        spent_ns: AtomicU64::new(0),
        ring: AtomicU64::new(0),
    });
    let inner = Arc::clone(&shared);
    let sleeper = thread::spawn(move || sleep_and_wake(&inner, there));
    pin(here);
    let mut sender = ring();
    while shared.ring.load(Ordering::Acquire) == 0 {
        thread::yield_now();
    }
    for (gap, wakes) in GAPS {
        let mut samples = WAYS.map(|_| Samples::default());
        for _ in 0..rounds * wakes {
            for (way, samples) in WAYS.into_iter().zip(&mut samples) {
                measure(&shared, &mut sender, way, gap, samples);
            }
        }
        print(gap, &mut samples);
    }
    shared.stop.store(true, Ordering::Relaxed);
    wake(&shared, &mut sender, Way::Eventfd);
    sleeper.join().expect("the sleeper ends");
}

fn measure(shared: &Shared, sender: &mut IoUring, way: Way, gap: Duration, samples: &mut Samples) {
    let before = shared.wakes.load(Ordering::Acquire);
    let asleep = now_ns() + u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
    while now_ns() < asleep {
        std::hint::spin_loop();
    }
    let began = now_ns();
    wake(shared, sender, way);
    samples.sender.push(now_ns() - began);
    if way == Way::None {
        return;
    }
    while shared.wakes.load(Ordering::Acquire) == before {
        std::hint::spin_loop();
    }
    samples.latency.push(shared.woke_ns.load(Ordering::Relaxed).saturating_sub(began));
    samples.sleeper.push(shared.spent_ns.load(Ordering::Relaxed));
}

/// Wakes the sleeper and ends the turn.
fn wake(shared: &Shared, sender: &mut IoUring, way: Way) {
    let ring = Fd(i32::try_from(shared.ring.load(Ordering::Relaxed)).expect("a descriptor"));
    let message = opcode::MsgRingData::new(ring, 0, MESSAGE, None).build();
    let quiet = |entry: squeue::Entry| entry.flags(squeue::Flags::SKIP_SUCCESS);
    match way {
        Way::None => {}
        Way::Eventfd => {
            rustix::io::write(&shared.event, &1u64.to_ne_bytes()).expect("a wake");
        }
        Way::Message => {
            push(sender, &quiet(message));
            enter(sender, 0);
        }
        Way::With => push(sender, &quiet(message)),
    }
    push(sender, &quiet(opcode::Nop::new().build()));
    enter(sender, 0);
    assert!(sender.completion().next().is_none(), "what fails is completed");
}

fn sleep_and_wake(shared: &Shared, cpu: usize) {
    pin(cpu);
    let mut ring = ring();
    let event = Fd(shared.event.as_raw_fd());
    let watch = opcode::PollAdd::new(event, libc::POLLIN.unsigned_abs().into()).multi(true);
    push(&mut ring, &watch.build().user_data(EVENT));
    enter(&mut ring, 0);
    let number = u64::try_from(ring.as_raw_fd()).expect("a descriptor");
    shared.ring.store(number, Ordering::Release);
    let mut spent = thread_cpu_ns();
    while !shared.stop.load(Ordering::Relaxed) {
        enter(&mut ring, 1);
        let woke = now_ns();
        let mut woken = false;
        while let Some(cqe) = ring.completion().next() {
            if cqe.user_data() == EVENT {
                assert!(cqueue::more(cqe.flags()), "the poll goes on");
                rustix::io::read(&shared.event, &mut [0; 8]).expect("a wake");
            }
            woken = true;
        }
        if woken {
            let total = thread_cpu_ns();
            shared.woke_ns.store(woke, Ordering::Relaxed);
            shared.spent_ns.store(total - spent, Ordering::Relaxed);
            shared.wakes.fetch_add(1, Ordering::Release);
            spent = total;
        }
    }
}

/// A ring with the flags of a shard's.
fn ring() -> IoUring {
    let mut builder = IoUring::builder();
    builder.setup_clamp().dontfork().setup_submit_all();
    builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    builder.build(64).expect("io_uring with DEFER_TASKRUN: Linux 6.1")
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: none of the entries here points to memory.
    unsafe { ring.submission().push(entry) }.expect("room for an entry");
}

fn enter(ring: &mut IoUring, want: usize) {
    let timeout = Timespec::from(WAIT);
    let args = SubmitArgs::new().timespec(&timeout);
    let entered = ring.submitter().submit_with_args(want, &args);
    let ended = entered.map_err(|error| error.raw_os_error());
    assert!(matches!(ended, Ok(_) | Err(Some(libc::ETIME | libc::EINTR))), "{ended:?}");
}

fn print(gap: Duration, samples: &mut [Samples; 4]) {
    println!("gap {gap:?}: median, 90th percentile");
    for (way, Samples { sender, latency, sleeper }) in WAYS.iter().zip(samples) {
        let [sender, latency, sleeper] = [sender, latency, sleeper].map(|it| quantiles(it));
        println!("{way:<8?} sender {sender}  until awake {latency}  sleeper's CPU {sleeper}");
    }
}

fn quantiles(samples: &mut [u64]) -> String {
    samples.sort_unstable();
    let at = |part: usize| samples.get(samples.len() * part / 100).copied().unwrap_or(0);
    format!("{:6} {:6}", at(50), at(90))
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("the CPU exists");
}

fn now_ns() -> u64 {
    nanos(ClockId::Monotonic)
}

fn thread_cpu_ns() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
