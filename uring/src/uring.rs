//! The io_uring engine: one multishot receive into a registered ring of slots,
//! one system call per turn.
//!
//! * A receive that ended (no slots left, or the kernel's own reasons) is
//!   started again at the next turn, once a slot is home.
//! * Datagrams leave through `sendmmsg` or, in [`TxMode::Uring`], as entries
//!   that go with the turn's own system call; their slots are parked until the
//!   completion.
//! * While the socket's send buffer is full nothing is tried: one poll entry at a time says when
//!   it has room. What was on its way through the ring when it filled up
//!   ([`TxMode::Uring`] only) is counted as failed: entries end apart from each other, and one
//!   sent again would be overtaken by those behind it.
//! * Side sockets that a turn is to watch are waited for by a poll of their epoll instance that
//!   ends with its first event and is started again with the next turn, where it ends at once if
//!   something is still there. (One that goes on would report changes only.)
//! * Registered buffers serve sends without a copy, for large runs that are passed on from
//!   their receive slot; `SENDMSG` and `sendmmsg` copy from any memory alike.
//! * Made and used by one thread.
//!
//! **Why `Auto` is `sendmmsg`.** Measured with `examples/echo_floor`, an entry
//! per message costs 3-6 % more per echoed datagram than a place in a `sendmmsg`
//! batch when nothing can be coalesced (the ring allocates a request, copies the
//! header and posts a completion for each), and 0-5 % more with trains of 8. Only
//! whole trains taken apart on delivery come out even.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use bufpool::Pool;

use crate::achieved::{Achieved, Engine, Feature, Missing, Reason, TxMode};
use crate::batch::{Batch, Gso};
use crate::config::{EngineConfig, TURN_BYTES};
use crate::datagram::{Datagram, Transmit};
use crate::errors::ErrorKind;
use crate::kernel::{Event, Kernel};
use crate::marks::Marks;
use crate::message::{self, Addressing};
use crate::plan::{Place, Plan, Run};
use crate::ring;
use crate::rx::{self, Arrival, Intake};
use crate::side::Watch;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::waker::Waker;

/// A ring on one socket. `!Send`, as its buffers are.
#[derive(Debug)]
pub struct UringEngine {
    // First, so that everything lent comes home before the rest goes.
    kernel: Kernel,
    /// Received while making room for sends; delivered with the next turn.
    stash: Vec<Datagram>,
    intake: Intake,
    plan: Plan,
    batch: Batch,
    gso: Gso,
    marks: Marks,
    tx: TxMode,
    rx_post: usize,
    rx_batch: usize,
    /// Receives that failed without a datagram in between.
    failures: usize,
    /// Side sockets had something.
    beside_ready: bool,
    stats: Stats,
    achieved: Achieved,
    socket: Socket,
    pool: Pool,
}

/// Why there is no ring, with what would have been used for it.
#[derive(Debug)]
pub struct Refused {
    /// What an operator would have to change.
    pub reason: Reason,
    /// The socket, as it was.
    pub socket: Socket,
    /// The pool, all slots home.
    pub pool: Pool,
}

/// What an engine leaves behind.
#[derive(Debug)]
pub struct Remains {
    /// The socket; what it received meanwhile is still there.
    pub socket: Socket,
    /// The pool of receive slots.
    pub pool: Pool,
    /// What was counted.
    pub stats: Stats,
    /// What was received and not delivered.
    pub received: Vec<Datagram>,
    /// What was queued and not handed to the kernel.
    pub queued: Vec<Transmit>,
}

/// Completions after which the kernel lets a multishot receive rest (`MULTISHOT_MAX_RETRY`).
const MULTISHOT_ROUND: usize = 32;
/// Failed receives in a row after which the ring counts as broken.
const FAILURES_MAX: usize = 256;

impl UringEngine {
    /// A ring for `socket` that receives into the slots of `pool`; to be called
    /// by the thread that will use it.
    ///
    /// # Errors
    /// Why there is none, with socket and pool for another engine.
    ///
    /// # Panics
    /// If a size of `config` is out of range or the slots are too small for any datagram.
    pub fn new(mut socket: Socket, config: EngineConfig, pool: Pool) -> Result<Self, Box<Refused>> {
        config.check();
        assert!(pool.slot_bytes() > rx::PAYLOAD_AT, "receive slots have room for a payload");
        if !rx::fits_runs(pool.slot_bytes()) {
            socket.refuse_gro();
        }
        let mut missing = socket.missing.clone();
        match Kernel::new(&socket, &pool, &config, &mut missing) {
            Ok(kernel) => Self::started(kernel, socket, config, pool, missing),
            Err(reason) => Err(Box::new(Refused { reason, socket, pool })),
        }
    }

    /// Starts receiving, so that a kernel that cannot says so now.
    fn started(
        kernel: Kernel,
        mut socket: Socket,
        config: EngineConfig,
        pool: Pool,
        missing: Vec<Missing>,
    ) -> Result<Self, Box<Refused>> {
        let tx = if config.tx == TxMode::Auto { TxMode::Sendmmsg } else { config.tx };
        let mut achieved = Achieved {
            engine: Engine::IoUring,
            tx,
            gro: socket.gro,
            gso: socket.gso,
            registered_file: kernel.registered_file(),
            registered_buffers: kernel.zero_copy.registered(),
            busy_poll: kernel.busy_poll,
            missing,
        };
        // Nobody misses what was not asked for, and it is asked for only where it gains.
        if let Some(reason) = kernel.zero_copy.off().filter(|reason| *reason != Reason::Disabled) {
            achieved.miss(Feature::RegisteredBuffers, reason);
        }
        let gso = Gso::new(socket.gso, config.gso_max_segments);
        socket.mark(socket.dscp);
        let mut engine = Self {
            kernel,
            stash: Vec::with_capacity(config.rx_post + config.rx_batch),
            intake: Intake::new(&socket, 0),
            plan: Plan::new(config.tx_batch, gso.segments()),
            batch: Batch::new(Addressing::of(&socket)),
            gso,
            marks: Marks::default(),
            tx,
            rx_post: config.rx_post,
            rx_batch: config.rx_batch,
            failures: 0,
            beside_ready: false,
            stats: Stats::default(),
            achieved,
            socket,
            pool,
        };
        match engine.start() {
            Ok(()) => Ok(engine),
            Err(error) => {
                let remains = engine.into_remains();
                let Remains { socket, pool, .. } = remains;
                Err(Box::new(Refused { reason: ring::why(&error), socket, pool }))
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        self.kernel.arm(&self.pool, &mut self.stats)?;
        self.kernel.enter(Duration::ZERO, &mut self.stats)?;
        let mut stash = std::mem::take(&mut self.stash);
        let taken = self.take(&mut stash, self.rx_batch);
        self.stash = stash;
        taken.map(drop)
    }

    /// Goes on from what another engine of the same socket counted.
    #[must_use]
    pub fn with_stats(mut self, stats: Stats) -> Self {
        self.stats = stats;
        self
    }

    /// Sends what is queued, waits up to `timeout` unless something is there,
    /// and adds what was received to `sink`, at most `rx_batch` messages.
    ///
    /// # Errors
    /// When the ring does not work any more; [`into_remains`](Self::into_remains)
    /// gives back what another engine needs.
    pub fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
        self.stage()?;
        self.kernel.arm(&self.pool, &mut self.stats)?;
        let before = sink.len();
        sink.append(&mut self.stash);
        let limit = (before + self.rx_batch).max(sink.len());
        let enough = self.stats.rx_bytes + TURN_BYTES;
        let mut left = if sink.len() > before { Duration::ZERO } else { timeout };
        let mut again = !left.is_zero();
        loop {
            if self.plan.blocked {
                self.kernel.await_room()?;
            }
            let rest = self.kernel.is_ready();
            if !rest {
                self.kernel.enter(left, &mut self.stats)?;
            }
            let start = sink.len();
            let only_sends = self.take(sink, limit)?;
            if only_sends && sink.len() == before && again {
                // The ends of sends cut the wait short; once more.
                again = false;
            } else if (rest || self.is_full_round(sink.len() - start))
                && sink.len() < limit
                && self.stats.rx_bytes < enough
            {
                // More may be waiting: this was a full round, or what the last turn left.
                self.kernel.arm(&self.pool, &mut self.stats)?;
                left = Duration::ZERO;
            } else {
                break;
            }
        }
        self.stats.rx_batches += u64::from(sink.len() > before);
        // There is something only if the socket was full, and is no more.
        self.stage()
    }

    /// Whether a round brought as much as one entering of the kernel does.
    fn is_full_round(&self, messages: usize) -> bool {
        messages >= self.rx_post.min(MULTISHOT_ROUND)
    }

    /// Queues a transmit; flushes if a batch is together. Beyond the [`room`](Self::room) it
    /// may be dropped, and counted.
    #[inline]
    pub fn send(&mut self, transmit: Transmit) {
        if self.plan.is_full() {
            return self.stats.tx_errors.add(ErrorKind::Full, transmit.datagrams() as u64);
        }
        self.marks.note(transmit.dscp);
        self.plan.push(transmit);
        if self.plan.is_due() {
            self.flush();
        }
    }

    /// How many more transmits are safe from loss now.
    #[inline]
    pub fn room(&self) -> usize {
        self.plan.room()
    }

    /// Hands everything queued to the kernel, unless the socket is full. A ring that is broken says so at
    /// the next turn.
    pub fn flush(&mut self) {
        if self.stage().is_ok() && self.tx == TxMode::Uring {
            // What fails here fails again in the turn, which reports it.
            let _ = self.kernel.enter(Duration::ZERO, &mut self.stats);
        }
    }

    /// What a turn waits for beside its own socket from now on.
    pub fn watch(&mut self, beside: Option<Watch>) {
        self.kernel.beside = beside;
    }

    /// Whether something was beside when the last turn ended. A turn always looks.
    pub fn watched(&mut self) -> Option<bool> {
        Some(std::mem::take(&mut self.beside_ready))
    }

    /// What side sockets receive into and count in.
    pub fn pool_and_stats(&mut self) -> (&Pool, &mut Stats) {
        (&self.pool, &mut self.stats)
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is in use.
    pub fn achieved(&self) -> &Achieved {
        &self.achieved
    }

    /// The handle that ends the wait of a turn.
    pub fn waker(&self) -> Waker {
        self.socket.waker()
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The pool that datagrams are received into.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Closes the ring and gives back what another engine needs.
    pub fn into_remains(self) -> Remains {
        let Self { kernel, stash, mut plan, mut socket, pool, mut stats, intake, .. } = self;
        kernel.close(&mut stats);
        socket.drops = intake.drops;
        Remains { socket, pool, stats, received: stash, queued: plan.drain().collect() }
    }

    /// Breaks the ring as a bug in the kernel would: everything fails from now on.
    ///
    /// # Errors
    /// If not even that can be done.
    #[doc(hidden)]
    pub fn break_on_purpose(&self) -> io::Result<()> {
        let null = std::fs::File::open("/dev/null")?;
        self.kernel.ring().break_on_purpose(null.as_fd())
    }

    /// Sends what is queued, or queues it on the ring.
    #[inline]
    fn stage(&mut self) -> io::Result<()> {
        if self.plan.is_empty() || self.plan.blocked {
            return Ok(());
        }
        if let Some(dscp) = self.marks.verdict(self.socket.dscp) {
            self.mark(dscp);
        }
        let staged = match self.tx {
            TxMode::Uring => self.stage_on_ring(),
            TxMode::Auto | TxMode::Sendmmsg => {
                let fd = self.socket.as_fd();
                self.batch.flush(fd, &mut self.plan, &mut self.gso, &mut self.stats);
                Ok(())
            }
        };
        self.note_refusals();
        staged
    }

    /// Changes what the socket gives by itself, unless something is on its way that counts on it.
    #[cold]
    fn mark(&mut self, dscp: u8) {
        if self.kernel.sends_are_idle() {
            self.socket.mark(dscp);
            self.batch.address(Addressing::of(&self.socket));
        }
    }

    fn stage_on_ring(&mut self) -> io::Result<()> {
        let sent = self.queue_runs()?;
        self.stats.tx_batches += 1;
        self.plan.segments = self.gso.segments();
        self.plan.end(sent, &mut self.stats);
        Ok(())
    }

    /// Queues the plan's runs on the ring; where the rest begins if the socket is known to be full.
    fn queue_runs(&mut self) -> io::Result<Result<(), Place>> {
        for index in 0..self.plan.runs().len() {
            let run = self.plan.runs()[index];
            self.make_room()?;
            if self.fits_one_message(run) {
                let datagrams = self.plan.transmits(run).map(Transmit::datagrams).sum::<usize>();
                let transmits = self.plan.take(run);
                match self.kernel.send(self.batch.addressing(), transmits) {
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                        self.stats.tx_errors.add(ErrorKind::Full, datagrams as u64);
                    }
                    result => result?,
                }
            } else {
                // Several messages from one slot: at once, behind what is queued before them.
                self.kernel.enter(Duration::ZERO, &mut self.stats)?;
                let fd = self.socket.as_fd();
                for (at, transmit) in self.plan.transmits(run).enumerate() {
                    let (gso, stats) = (&mut self.gso, &mut self.stats);
                    if let Err(rest) = self.batch.flush_one(fd, transmit, gso, stats) {
                        return Ok(Err(Place { run: index, transmit: at, ..rest }));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn fits_one_message(&self, run: Run) -> bool {
        let fits = |transmit: &Transmit| {
            transmit.buf.len() <= message::bytes_per_message(transmit, self.gso.segments())
        };
        (run.transmits == 1 || self.gso.on) && self.plan.transmits(run).all(fits)
    }

    /// Ends sends until the table has room; what is received meanwhile is kept for the turn.
    fn make_room(&mut self) -> io::Result<()> {
        if self.kernel.sends_full() {
            self.kernel.enter(Duration::ZERO, &mut self.stats)?;
            let mut stash = std::mem::take(&mut self.stash);
            let taken = self.take(&mut stash, usize::MAX);
            self.stash = stash;
            taken?;
        }
        Ok(())
    }

    /// Takes completions until `limit` messages are in `sink` or none is left.
    /// Whether all of them were ends of sends, and there was one.
    #[inline]
    fn take(&mut self, sink: &mut Vec<Datagram>, limit: usize) -> io::Result<bool> {
        let (mut sends, mut others) = (0, 0);
        let full = self.stats.tx_errors.count(ErrorKind::Full);
        while sink.len() < limit {
            let event = self.kernel.next(&self.socket, &mut self.gso, &mut self.stats);
            match event {
                Some(Event::Received(mut buf, bytes)) => {
                    buf.set_window(0, rx::HEADER_BYTES);
                    let arrival = buf.first_chunk().map(|header| Arrival::parse(header, bytes));
                    if let Some(arrival) = arrival {
                        sink.extend(self.intake.accept(&mut self.stats, buf, arrival));
                    }
                    (others, self.failures) = (others + 1, 0);
                }
                Some(Event::ReceiveFailed(errno)) => {
                    self.receive_failed(errno)?;
                    others += 1;
                }
                Some(Event::Woken) => {
                    self.stats.wakes += u64::from(self.socket.wake_source().drain());
                    others += 1;
                }
                Some(Event::Beside) => {
                    self.beside_ready = true;
                    others += 1;
                }
                Some(Event::Room) => {
                    self.plan.blocked = false;
                    others += 1;
                }
                Some(Event::Sent) => sends += 1,
                Some(Event::Nothing) => {}
                None => break,
            }
        }
        if sends > 0 {
            self.note_refusals();
            if self.stats.tx_errors.count(ErrorKind::Full) > full {
                self.plan.blocked = true;
                self.stats.tx_blocked += 1;
            }
        }
        Ok(sends > 0 && others == 0)
    }

    /// A receive ended with an error: most are started again, some mean that the ring is of no use.
    fn receive_failed(&mut self, errno: i32) -> io::Result<()> {
        match errno {
            // No slot was free: the next turn starts again when one is.
            libc::ENOBUFS => self.stats.rx_starved += 1,
            libc::EINVAL
            | libc::EBADF
            | libc::EFAULT
            | libc::EOPNOTSUPP
            | libc::ENOTSOCK
            | libc::ECANCELED => return Err(io::Error::from_raw_os_error(errno)),
            _ => {
                self.stats.rx_errors.add(ErrorKind::of_errno(errno), 1);
                self.failures += 1;
                if self.failures > FAILURES_MAX {
                    return Err(io::Error::from_raw_os_error(errno));
                }
            }
        }
        Ok(())
    }

    fn note_refusals(&mut self) {
        if self.achieved.registered_buffers
            && let Some(reason) = self.kernel.zero_copy.off()
        {
            self.achieved.registered_buffers = false;
            self.achieved.miss(Feature::ZeroCopy, reason);
        }
        if self.achieved.gso && !self.gso.on {
            self.achieved.gso = false;
            self.plan.segments = 1;
            self.achieved.miss(Feature::Gso, Reason::Refused(self.gso.refused.unwrap_or(0)));
        }
    }
}
