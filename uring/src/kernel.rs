//! Everything the kernel may touch on its own: the ring, the slots and messages
//! lent to it, and the order in which they end.
//!
//! Dropping it cancels what is under way, waits for the last completions, closes
//! the ring, and only then takes the slots home. Slots whose end was not seen
//! stay lent for good (their memory with them) unless the ring is of the kind
//! whose work runs only inside our own `enter`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bufpool::{Buf, Pool};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{cqueue, opcode, squeue};

use crate::achieved::{Feature, Missing, Reason, TxMode};
use crate::batch::Gso;
use crate::bufring::{self, BufRing};
use crate::config::EngineConfig;
use crate::datagram::Transmit;
use crate::errors::ErrorKind;
use crate::message::Addressing;
use crate::ring::{self, Ring};
use crate::rx;
use crate::side::Watch;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::sys;
use crate::table::{Parked, Retry, Table};
use crate::zerocopy::{self, ZeroCopy};

/// What an entry was for, in its user data.
const RECEIVE: u64 = 1;
const WAKE: u64 = 2;
const CANCEL: u64 = 3;
const ROOM: u64 = 4;
const BESIDE: u64 = 5;
/// A send; the row of the table is added.
const SEND: u64 = 1 << 32;

/// Rounds of waiting for the last completions, and the length of one.
const CLOSING: (u32, Duration) = (50, Duration::from_millis(20));

/// Without it a full socket buffer would park the entry in the kernel.
const NO_WAIT: u32 = libc::MSG_DONTWAIT.cast_unsigned();

/// Index of the socket and of the waker among the registered files.
const SOCKET: Fixed = Fixed(0);
const WAKER: Fixed = Fixed(1);

/// How entries name the socket and the waker.
#[derive(Clone, Copy, Debug)]
enum Files {
    Registered,
    Plain { socket: Fd, waker: Fd },
}

/// What a completion brought.
pub(crate) enum Event {
    /// A filled slot and the number of bytes in it.
    Received(Buf, usize),
    /// A receive failed, with this error number.
    ReceiveFailed(i32),
    /// Another thread woke us.
    Woken,
    /// A side socket has something.
    Beside,
    /// The socket's send buffer has room again.
    Room,
    /// A send ended; it is counted already.
    Sent,
    /// Nothing of interest.
    Nothing,
}

pub(crate) struct Kernel {
    // Order matters: the ring is closed before what it may touch goes.
    ring: Ring,
    lent: Lent,
    files: Files,
    /// Whether the network card is polled before a wait sleeps.
    pub(crate) busy_poll: bool,
    pub(crate) zero_copy: ZeroCopy,
    /// Lengths of name and control data in a slot, as the receive is told.
    shape: Box<libc::msghdr>,
    receiving: bool,
    watching: bool,
    awaiting_room: bool,
    /// Side sockets that a wait is for as well.
    pub(crate) beside: Option<Watch>,
    awaiting_beside: bool,
    closed: bool,
}

/// What the kernel may touch; the ring is closed when this is dropped.
struct Lent {
    slots: BufRing,
    sends: Table,
    /// Whether the kernel is done with all of it.
    settled: bool,
}

impl Kernel {
    /// A ring for `socket`, its waker, and the slots of `pool`.
    pub(crate) fn new(
        socket: &Socket,
        pool: &Pool,
        config: &EngineConfig,
        missing: &mut Vec<Missing>,
    ) -> Result<Self, Reason> {
        let entries = u32::try_from(config.ring_entries).unwrap_or(u32::MAX);
        let ring = Ring::new(entries, missing)?;
        let busy_poll = !config.busy_poll.is_zero()
            && ring
                .busy_poll(config.busy_poll)
                .map_err(|reason| missing.push(Missing { feature: Feature::BusyPoll, reason }))
                .is_ok();
        let slots = BufRing::new(pool, config.rx_post).map_err(|error| ring::why(&error))?;
        slots.register(ring.io()).map_err(|error| ring::why(&error))?;
        let files = register_files(&ring, socket, missing);
        let mut shape = Box::new(sys::blank_header());
        shape.msg_namelen = rx::NAME_LEN;
        shape.msg_controllen = rx::CONTROL_BYTES as _;
        let min_bytes = config.zero_copy_min_bytes.filter(|_| config.tx == TxMode::Uring);
        let zero_copy = ZeroCopy::new(ring.io(), pool, min_bytes);
        // Rows for two flushes, so that one may end while the next is queued.
        let sends = u32::try_from(config.tx_batch * 2).unwrap_or(u32::MAX);
        let lent = Lent { slots, sends: Table::new(sends), settled: ring.deferred };
        Ok(Self {
            ring,
            lent,
            files,
            busy_poll,
            zero_copy,
            shape,
            receiving: false,
            watching: false,
            awaiting_room: false,
            beside: None,
            awaiting_beside: false,
            closed: false,
        })
    }

    pub(crate) fn registered_file(&self) -> bool {
        matches!(self.files, Files::Registered)
    }

    /// Posts free slots and starts what is not running: the receive, if there is
    /// any slot to receive into, and the watch for the waker.
    #[inline]
    pub(crate) fn arm(&mut self, pool: &Pool, stats: &mut Stats) -> io::Result<()> {
        if !self.lent.slots.refill(pool) {
            stats.rx_starved += 1;
        } else if !self.receiving {
            let entry = self.receive_entry();
            // SAFETY: `shape` is boxed and lives as long as the ring; the slots are lent.
            unsafe { self.ring.push(&entry) }?;
            self.receiving = true;
        }
        if !self.watching {
            let entry = self.watch_entry();
            self.push_plain(&entry)?;
            self.watching = true;
        }
        if self.beside.is_some() {
            self.arm_beside()?;
        }
        Ok(())
    }

    /// Whether no send is on its way.
    pub(crate) fn sends_are_idle(&self) -> bool {
        self.lent.sends.is_idle()
    }

    /// Watches the side sockets, unless they are watched already or there is no slot to receive
    /// into. The watch ends with its one [`Event::Beside`], at once if something is there.
    fn arm_beside(&mut self) -> io::Result<()> {
        if let Some(set) = self.beside.as_ref().and_then(Watch::fd)
            && !self.awaiting_beside
        {
            let entry = opcode::PollAdd::new(Fd(set.as_raw_fd()), libc::POLLIN as u32).build();
            self.push_plain(&entry.user_data(BESIDE))?;
            self.awaiting_beside = true;
        }
        Ok(())
    }

    /// Queues an entry without pointers.
    fn push_plain(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the callers' entries poll and cancel, and point to nothing.
        unsafe { self.ring.push(entry) }
    }

    /// Watches for room in the socket's send buffer, unless that is watched already. Whoever
    /// asks was refused: the watch ends with its one [`Event::Room`].
    pub(crate) fn await_room(&mut self) -> io::Result<()> {
        if !self.awaiting_room {
            let events = libc::POLLOUT as u32;
            let entry = match self.files {
                Files::Registered => opcode::PollAdd::new(SOCKET, events).build(),
                Files::Plain { socket, .. } => opcode::PollAdd::new(socket, events).build(),
            };
            self.push_plain(&entry.user_data(ROOM))?;
            self.awaiting_room = true;
        }
        Ok(())
    }

    /// Queues a message of `transmits`; without room for it they are lost, with `EAGAIN`.
    #[inline]
    pub(crate) fn send(
        &mut self,
        addressing: Addressing,
        transmits: impl Iterator<Item = Transmit>,
    ) -> io::Result<()> {
        let parked = self.lent.sends.park(addressing, transmits, &self.zero_copy);
        let Some(Parked { row, header, zero_copy }) = parked else {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        };
        let entry = match (self.files, zero_copy) {
            (Files::Registered, false) => {
                opcode::SendMsg::new(SOCKET, header).flags(NO_WAIT).build()
            }
            (Files::Plain { socket, .. }, false) => {
                opcode::SendMsg::new(socket, header).flags(NO_WAIT).build()
            }
            (Files::Registered, true) => {
                let entry = opcode::SendMsgZc::new(SOCKET, header).flags(NO_WAIT);
                entry.ioprio(zerocopy::OPTIONS).build()
            }
            (Files::Plain { socket, .. }, true) => {
                let entry = opcode::SendMsgZc::new(socket, header).flags(NO_WAIT);
                entry.ioprio(zerocopy::OPTIONS).build()
            }
        };
        // SAFETY: the table keeps the row until its last completion is taken.
        unsafe { self.ring.push(&entry.user_data(SEND | u64::from(row))) }
    }

    pub(crate) fn sends_full(&self) -> bool {
        self.lent.sends.is_full()
    }

    /// Whether there is something to take without entering the kernel.
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        self.ring.has_completions() && !self.ring.has_submissions() && !self.ring.overflowed()
    }

    /// Submits, and waits for a completion or the end of `timeout`.
    #[inline]
    pub(crate) fn enter(&mut self, timeout: Duration, stats: &mut Stats) -> io::Result<()> {
        stats.syscalls += 1;
        stats.cq_overflows += u64::from(self.ring.overflowed());
        let wait = !timeout.is_zero() && !self.ring.has_completions();
        self.ring.enter(u32::from(wait), timeout)
    }

    /// Takes the next completion.
    #[inline]
    pub(crate) fn next(
        &mut self,
        socket: &Socket,
        gso: &mut Gso,
        stats: &mut Stats,
    ) -> Option<Event> {
        let cqe = self.ring.next()?;
        Some(match cqe.user_data() {
            RECEIVE => self.received(&cqe, stats),
            WAKE => {
                self.watching = cqueue::more(cqe.flags());
                Event::Woken
            }
            ROOM => {
                self.awaiting_room = false;
                Event::Room
            }
            BESIDE => {
                self.awaiting_beside = false;
                Event::Beside
            }
            send if send & SEND != 0 => {
                let retry = Retry { fd: socket.as_fd(), gso, zero_copy: &mut self.zero_copy };
                self.lent.sent(&cqe, Some(retry), stats);
                Event::Sent
            }
            _ => Event::Nothing,
        })
    }

    #[inline]
    fn received(&mut self, cqe: &cqueue::Entry, stats: &mut Stats) -> Event {
        if !cqueue::more(cqe.flags()) {
            self.receiving = false;
            stats.rx_rearms += 1;
        }
        let buf = cqueue::buffer_select(cqe.flags()).and_then(|bid| {
            // SAFETY: this completion names the slot.
            unsafe { self.lent.slots.take(bid) }
        });
        match (usize::try_from(cqe.result()), buf) {
            (Ok(bytes), Some(buf)) => Event::Received(buf, bytes),
            (Ok(_), None) => Event::Nothing,
            (Err(_), _) => Event::ReceiveFailed(-cqe.result()),
        }
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    fn receive_entry(&self) -> squeue::Entry {
        let shape = &raw const *self.shape;
        let entry = match self.files {
            Files::Registered => opcode::RecvMsgMulti::new(SOCKET, shape, bufring::GROUP).build(),
            Files::Plain { socket, .. } => {
                opcode::RecvMsgMulti::new(socket, shape, bufring::GROUP).build()
            }
        };
        entry.user_data(RECEIVE)
    }

    fn watch_entry(&self) -> squeue::Entry {
        let events = libc::POLLIN as u32;
        let entry = match self.files {
            Files::Registered => opcode::PollAdd::new(WAKER, events).multi(true).build(),
            Files::Plain { waker, .. } => opcode::PollAdd::new(waker, events).multi(true).build(),
        };
        entry.user_data(WAKE)
    }

    /// Whether anything of ours is still under way in the kernel.
    fn is_quiet(&self) -> bool {
        let polls = self.watching || self.awaiting_room || self.awaiting_beside;
        !self.receiving && !polls && self.lent.sends.is_idle()
    }

    /// Ends everything; what was on its way out and is not known to have left is lost.
    pub(crate) fn close(mut self, stats: &mut Stats) {
        self.lent.settled |= self.settle(stats).is_ok();
        stats.tx_errors.add(ErrorKind::Other, self.lent.sends.datagrams());
        self.closed = true;
    }

    /// Cancels everything and takes completions until nothing is under way.
    fn settle(&mut self, stats: &mut Stats) -> io::Result<()> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(CANCEL);
        self.push_plain(&cancel)?;
        for _ in 0..CLOSING.0 {
            self.ring.enter(1, CLOSING.1)?;
            while let Some(cqe) = self.ring.next() {
                self.forget(&cqe, stats);
            }
            if self.is_quiet() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// A completion that comes while closing: what it names goes home.
    fn forget(&mut self, cqe: &cqueue::Entry, stats: &mut Stats) {
        let data = cqe.user_data();
        if data == RECEIVE {
            drop(self.received(cqe, stats));
        } else if data == WAKE {
            self.watching = cqueue::more(cqe.flags());
        } else if data == ROOM {
            self.awaiting_room = false;
        } else if data == BESIDE {
            self.awaiting_beside = false;
        } else if data & SEND != 0 {
            self.lent.sent(cqe, None, stats);
        }
    }
}

impl Lent {
    /// A send ended, or, if it left without a copy, one of its two ends came.
    #[inline]
    fn sent(&mut self, cqe: &cqueue::Entry, retry: Option<Retry<'_>>, stats: &mut Stats) {
        let row = u32::try_from(cqe.user_data() & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        if !cqueue::notif(cqe.flags()) {
            self.sends.outcome(row, cqe.result(), retry, stats);
        } else if let Some(retry) = retry {
            retry.zero_copy.done(cqe.result());
        }
        if !cqueue::more(cqe.flags()) {
            // SAFETY: this is the row's last completion.
            unsafe { self.sends.release(row) };
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if !self.closed {
            self.lent.settled |= self.settle(&mut Stats::default()).is_ok();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.settled {
            // SAFETY: the ring is closed (fields drop in order), and either nothing was under way
            // any more or its work ran only inside our `enter`, which nobody calls again.
            unsafe { self.slots.reclaim() };
            // SAFETY: as above.
            unsafe { self.sends.reclaim() };
        }
    }
}

/// Registers the socket and the waker, so that entries need no look-up.
fn register_files(ring: &Ring, socket: &Socket, missing: &mut Vec<Missing>) -> Files {
    let (fd, waker) = (socket.as_fd().as_raw_fd(), socket.wake_source().fd().as_raw_fd());
    match ring.io().submitter().register_files(&[fd, waker]) {
        Ok(()) => Files::Registered,
        Err(error) => {
            let reason = ring::why(&error);
            missing.push(Missing { feature: Feature::RegisteredFile, reason });
            Files::Plain { socket: Fd(fd), waker: Fd(waker) }
        }
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ring, lent, files, .. } = self;
        write!(f, "{ring:?} {:?} {:?} {files:?}", lent.slots, lent.sends)
    }
}
