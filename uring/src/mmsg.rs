//! The engine that needs nothing but `recvmmsg`, `sendmmsg` and `ppoll`.
//!
//! A turn first tries to receive and waits only if nothing is there, so a busy
//! socket costs one system call a turn. Receive slots stay with the engine,
//! filled from the front; those handed out are replaced from the pool before
//! the next receive. With an empty pool a turn only waits for the waker and its
//! timeout: slots come home between turns.
//!
//! Side sockets that a turn is to [watch](MmsgEngine::watch) are one more descriptor to wait for; a
//! turn that does not wait knows nothing of them.
//!
//! While the socket's send buffer is full, each turn tries once whether it still is, and its
//! wait ends when there is room.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use bufpool::Pool;

use crate::achieved::{Achieved, Engine, Feature, Reason, TxMode};
use crate::batch::{Batch, Gso};
use crate::config::{EngineConfig, TURN_BYTES};
use crate::datagram::{Datagram, Transmit};
use crate::errors::ErrorKind;
use crate::marks::Marks;
use crate::message::Addressing;
use crate::plan::Plan;
use crate::posted::Posted;
use crate::rx::{self, Intake};
use crate::side::Watch;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::sys;
use crate::waker::Waker;

/// Failed receives a turn looks past; more would mean that nothing works.
const FAILURES_MAX: usize = 16;

/// `recvmmsg`/`sendmmsg` on one socket. `!Send`, as its buffers are.
#[derive(Debug)]
pub struct MmsgEngine {
    socket: Socket,
    pool: Pool,
    posted: Posted,
    intake: Intake,
    plan: Plan,
    batch: Batch,
    gso: Gso,
    marks: Marks,
    rx_batch: usize,
    beside: Option<Watch>,
    /// What the last turn found out about them, if it looked.
    beside_ready: Option<bool>,
    stats: Stats,
    achieved: Achieved,
}

impl MmsgEngine {
    /// An engine for `socket` that receives into the slots of `pool`.
    ///
    /// # Panics
    /// If a size of `config` is out of range or the slots are too small for any datagram.
    pub fn new(mut socket: Socket, config: EngineConfig, pool: Pool) -> Self {
        config.check();
        assert!(pool.slot_bytes() > rx::PAYLOAD_AT, "receive slots have room for a payload");
        if !rx::fits_runs(pool.slot_bytes()) {
            socket.refuse_gro();
        }
        socket.mark(socket.dscp);
        let slots = config.rx_post.min(config.rx_batch);
        let mut achieved = Achieved {
            engine: Engine::Mmsg,
            tx: TxMode::Sendmmsg,
            gro: socket.gro,
            gso: socket.gso,
            registered_file: false,
            registered_buffers: false,
            busy_poll: false,
            missing: socket.missing.clone(),
        };
        if !config.busy_poll.is_zero() {
            // `SO_BUSY_POLL` looks at the card once before `recvmmsg` comes back empty, but the wait
            // itself, `ppoll`, sleeps at once unless a sysctl for the whole system says otherwise.
            achieved.miss(Feature::BusyPoll, Reason::Engine);
        }
        let gso = Gso::new(socket.gso, config.gso_max_segments);
        Self {
            intake: Intake::new(&socket, 0),
            plan: Plan::new(config.tx_batch, gso.segments()),
            batch: Batch::new(Addressing::of(&socket)),
            gso,
            marks: Marks::default(),
            posted: Posted::new(slots),
            rx_batch: config.rx_batch,
            beside: None,
            beside_ready: None,
            stats: Stats::default(),
            achieved,
            socket,
            pool,
        }
    }

    /// Goes on from what another engine of the same socket counted.
    #[must_use]
    pub fn with_stats(mut self, stats: Stats) -> Self {
        self.stats = stats;
        self
    }

    /// Notes why something is missing that this engine knows nothing of.
    pub fn miss(&mut self, feature: Feature, reason: Reason) {
        self.achieved.miss(feature, reason);
    }

    /// Sends what is queued, waits up to `timeout` unless something is there,
    /// and adds what was received to `sink`.
    ///
    /// # Errors
    /// Only when the socket itself is unusable.
    pub fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
        self.resume();
        self.beside_ready = None;
        self.posted.refill(&self.pool, &mut self.stats);
        let (mut left, enough) = (self.rx_batch, self.stats.rx_bytes + TURN_BYTES);
        let mut count = self.receive(sink, left)?;
        if count == 0 && !timeout.is_zero() {
            if self.wait(timeout)? {
                self.resume();
            }
            count = self.receive(sink, left)?;
        }
        self.stats.rx_batches += u64::from(count > 0);
        // A full round: more may be waiting.
        while count > 0 && count == self.posted.len && self.stats.rx_bytes < enough {
            left -= count;
            self.posted.refill(&self.pool, &mut self.stats);
            count = self.receive(sink, left)?;
        }
        Ok(())
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

    /// Hands everything queued to the kernel, unless the socket is full.
    pub fn flush(&mut self) {
        if !self.plan.blocked {
            self.resume();
        }
    }

    /// Hands everything queued to the kernel, whatever it said the last time.
    fn resume(&mut self) {
        let before = self.gso.on;
        if let Some(dscp) = self.marks.verdict(self.socket.dscp) {
            self.socket.mark(dscp);
            self.batch.address(Addressing::of(&self.socket));
        }
        self.batch.flush(self.socket.as_fd(), &mut self.plan, &mut self.gso, &mut self.stats);
        if before && !self.gso.on {
            self.achieved.gso = false;
            self.achieved.miss(Feature::Gso, Reason::Refused(self.gso.refused.unwrap_or(0)));
        }
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

    /// What a turn waits for beside its own socket from now on.
    pub fn watch(&mut self, beside: Option<Watch>) {
        self.beside = beside;
    }

    /// Whether something was beside when the last turn ended; `None` if it did not look.
    pub fn watched(&mut self) -> Option<bool> {
        self.beside_ready
    }

    /// What side sockets receive into and count in.
    pub fn pool_and_stats(&mut self) -> (&Pool, &mut Stats) {
        (&self.pool, &mut self.stats)
    }

    /// Receives what is waiting, at most `limit` messages. How many there were.
    fn receive(&mut self, sink: &mut Vec<Datagram>, limit: usize) -> io::Result<usize> {
        for _ in 0..FAILURES_MAX {
            let received = self.posted.receive(self.socket.as_fd(), limit, &mut self.stats);
            match received {
                Ok(count) => {
                    self.collect(count, sink);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => self.stats.rx_errors.add(ErrorKind::of(&error), 1),
            }
        }
        Ok(0)
    }

    fn collect(&mut self, count: usize, sink: &mut Vec<Datagram>) {
        for (buf, arrival) in self.posted.take(count) {
            sink.extend(self.intake.accept(&mut self.stats, buf, arrival));
        }
    }

    /// Waits for a datagram, one beside, a wake, room to send what is left, or the end of `timeout`.
    /// Whether there is such room.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        // One that nothing is to be known of (not even errors) is none to the kernel.
        let poll = |fd: BorrowedFd<'_>, events| {
            let fd = if events == 0 { -1 } else { fd.as_raw_fd() };
            libc::pollfd { fd, events, revents: 0 }
        };
        // Without a slot to receive into, datagrams are no reason to wake up.
        let receive = if self.posted.len > 0 { libc::POLLIN } else { 0 };
        let send = if self.plan.blocked { libc::POLLOUT } else { 0 };
        let events = receive | send;
        let waker = self.socket.wake_source();
        let own = self.socket.as_fd();
        let beside = self.beside.as_ref().and_then(Watch::fd);
        let beside = beside.map_or(poll(own, 0), |set| poll(set, libc::POLLIN));
        let mut fds = [poll(waker.fd(), libc::POLLIN), poll(own, events), beside];
        self.stats.syscalls += 1;
        match sys::poll(&mut fds, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if fds[0].revents != 0 && waker.drain() {
            self.stats.wakes += 1;
        }
        self.beside_ready = Some(fds[2].revents != 0);
        Ok(fds[1].revents & send != 0)
    }
}

/// Whether an error means that the socket is of no use any more.
fn is_fatal(error: &io::Error) -> bool {
    let fatal = [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL, libc::ENOSYS];
    error.raw_os_error().is_some_and(|errno| fatal.contains(&errno))
}
