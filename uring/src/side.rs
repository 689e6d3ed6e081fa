//! Further sockets of a shard, beside the one that its engine is made for.
//!
//! There may be thousands, most of them silent, opened and closed while the shard runs: an epoll
//! instance knows which have something, and its descriptor is what the engine waits for together
//! with its own socket ([`SideSockets::watch`]). They are not the main road:
//!
//! * A look brings a bounded number of messages, and a few of each socket: those that have more
//!   are behind the others the next time. Nothing is forgotten in between, for epoll says again
//!   what is still there (it is level-triggered).
//! * Nothing waits for room in a send buffer: what finds it full is dropped and counted.
//!
//! All of them share one queue, one set of message headers and a few receive slots, which they
//! [take](SideSockets::stock) as slots come home: an engine that is flooded would leave them none.
//! Without a slot nobody waits for them.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use bufpool::Pool;

use crate::batch::{Batch, Gso};
use crate::config::{EngineConfig, TURN_BYTES};
use crate::datagram::{Datagram, Transmit};
use crate::errors::ErrorKind;
use crate::message::Addressing;
use crate::plan::Plan;
use crate::posted::Posted;
use crate::rx::{self, Intake};
use crate::socket::Socket;
use crate::stats::Stats;
use crate::sys::{self, Event};
use crate::waker::Waker;

/// Messages that a look takes from one socket before it goes on to the next.
const SHARE: usize = 8;
/// Sockets that the kernel names at a time.
const EVENTS: usize = 64;

/// What a turn waits for beside its engine's own socket: that a side socket has something.
#[derive(Clone, Debug)]
pub struct Watch(Rc<Watched>);

#[derive(Debug)]
struct Watched {
    /// The epoll instance.
    set: OwnedFd,
    /// Whether there is a slot to receive into.
    stocked: Cell<bool>,
}

impl Watch {
    /// What to wait for, unless there is no slot to receive into.
    #[inline]
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.stocked.get().then(|| self.set())
    }

    fn set(&self) -> BorrowedFd<'_> {
        self.0.set.as_fd()
    }
}

/// UDP sockets by number, without an engine of their own.
#[derive(Debug)]
pub struct SideSockets {
    watch: Watch,
    /// By number; there is none with number 0.
    sides: Vec<Option<Box<Side>>>,
    count: usize,
    /// Numbers of those that the kernel named; what lies in front of `at` had its turn.
    ready: Vec<u16>,
    at: usize,
    events: Box<[Event]>,
    posted: Posted,
    /// What is to be sent, and its order: the number of the socket, and the place in the queue.
    queue: Vec<Option<Transmit>>,
    order: Vec<(u16, u16)>,
    queue_max: usize,
    plan: Plan,
    batch: Option<Batch>,
    gso_max_segments: usize,
    slot_bytes: usize,
    waker: Waker,
}

#[derive(Debug)]
struct Side {
    socket: Socket,
    intake: Intake,
    addressing: Addressing,
    gso: Gso,
}

impl SideSockets {
    /// None yet. They will receive into slots of `slot_bytes`, queue and coalesce what they send
    /// as `config` says, and whoever waits for them is woken by `waker`.
    ///
    /// # Errors
    /// That of `epoll_create1(2)`: the process has no free descriptor.
    ///
    /// # Panics
    /// If a size of `config` is out of range.
    pub fn new(config: &EngineConfig, slot_bytes: usize, waker: Waker) -> io::Result<Self> {
        config.check();
        Ok(Self {
            watch: Watch(Rc::new(Watched { set: sys::epoll()?, stocked: Cell::new(false) })),
            sides: Vec::new(),
            count: 0,
            ready: Vec::with_capacity(EVENTS),
            at: 0,
            events: vec![Event::EMPTY; EVENTS].into(),
            posted: Posted::new(SHARE),
            queue: Vec::with_capacity(config.tx_batch),
            order: Vec::with_capacity(config.tx_batch),
            queue_max: config.tx_batch,
            plan: Plan::new(config.tx_batch, config.gso_max_segments),
            batch: None,
            gso_max_segments: config.gso_max_segments,
            slot_bytes,
            waker,
        })
    }

    /// Adds a socket, which keeps the number `id` until it is closed.
    ///
    /// # Errors
    /// `InvalidInput` for 0, which is the main socket; `AlreadyExists` if the number is taken;
    /// those of `epoll_ctl(2)`. The socket is dropped then.
    pub fn open(&mut self, id: u16, mut socket: Socket) -> io::Result<()> {
        if id == 0 {
            let why = "socket 0 is the main one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if self.socket(id).is_some() {
            let why = format!("socket {id} is open already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        if !rx::fits_runs(self.slot_bytes) {
            socket.refuse_gro();
        }
        socket.share_waker(&self.waker);
        sys::epoll_add(self.watch.set(), socket.as_fd(), id.into())?;
        let side = Side {
            intake: Intake::new(&socket, id),
            addressing: Addressing::of(&socket),
            gso: Gso::new(socket.gso, self.gso_max_segments),
            socket,
        };
        let at = usize::from(id);
        if self.sides.len() <= at {
            self.sides.resize_with(at + 1, || None);
        }
        self.sides[at] = Some(Box::new(side));
        self.count += 1;
        Ok(())
    }

    /// Takes the socket `id` out, if there is one: what is queued for it leaves first, and what
    /// waits in it is lost with its last handle.
    pub fn close(&mut self, id: u16, stats: &mut Stats) -> Option<Socket> {
        self.socket(id)?;
        self.flush(stats);
        let side = self.sides.get_mut(usize::from(id))?.take()?;
        self.count -= 1;
        // By name, for another handle of it may stay open. It was added, so it can be taken out.
        let _ = sys::epoll_delete(self.watch.set(), side.socket.as_fd());
        if self.is_empty() {
            self.posted.clear();
            self.watch.0.stocked.set(false);
        }
        Some(side.socket)
    }

    /// The socket with the number `id`.
    pub fn socket(&self, id: u16) -> Option<&Socket> {
        self.sides.get(usize::from(id))?.as_ref().map(|side| &side.socket)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What an engine is to wait for on their behalf.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Takes what is missing of their receive slots from `pool`, before the engine takes all that
    /// are free: to be called once in a turn.
    #[inline]
    pub fn stock(&mut self, pool: &Pool, stats: &mut Stats) {
        if self.count > 0 {
            self.posted.refill(pool, stats);
            self.watch.0.stocked.set(self.posted.len > 0);
        }
    }

    /// Adds what waits in the sockets to `sink`, in slots of `pool`: about `most` messages at most
    /// (no socket's share is cut) and not much beyond [`TURN_BYTES`]. How many came.
    pub fn receive(
        &mut self,
        pool: &Pool,
        most: usize,
        stats: &mut Stats,
        sink: &mut Vec<Datagram>,
    ) -> usize {
        let (before, enough) = (sink.len(), stats.rx_bytes + TURN_BYTES);
        let mut asked = false;
        while sink.len() - before < most && stats.rx_bytes < enough {
            if self.at == self.ready.len() {
                if std::mem::replace(&mut asked, true) || !self.ask(stats) {
                    break;
                }
                continue;
            }
            self.posted.refill(pool, stats);
            if self.posted.len == 0 {
                break;
            }
            self.at += 1;
            self.receive_from(self.ready[self.at - 1], stats, sink);
        }
        stats.rx_batches += u64::from(sink.len() > before);
        sink.len() - before
    }

    /// Asks which sockets have something; whether any does. The kernel begins with those that it
    /// did not name the last time.
    fn ask(&mut self, stats: &mut Stats) -> bool {
        stats.syscalls += 1;
        self.ready.clear();
        self.at = 0;
        // It fails only for a signal: what is there is there the next time too.
        let count = sys::epoll_ready(self.watch.set(), &mut self.events).unwrap_or(0);
        self.ready.extend(self.events[..count].iter().map(Event::id));
        count > 0
    }

    /// Takes one socket's share.
    fn receive_from(&mut self, id: u16, stats: &mut Stats, sink: &mut Vec<Datagram>) {
        // It may have been closed since it was named.
        let Some(Some(side)) = self.sides.get_mut(usize::from(id)) else { return };
        match self.posted.receive(side.socket.as_fd(), SHARE, stats) {
            Ok(count) => {
                for (buf, arrival) in self.posted.take(count) {
                    sink.extend(side.intake.accept(stats, buf, arrival));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => stats.rx_errors.add(ErrorKind::of(&error), 1),
        }
    }

    /// Queues a transmit for the socket that its path names; flushes if a batch is together.
    pub fn send(&mut self, transmit: Transmit, stats: &mut Stats) {
        if self.queue.len() == self.queue_max {
            self.flush(stats);
        }
        let at = u16::try_from(self.queue.len()).unwrap_or(u16::MAX);
        self.order.push((transmit.path.local.socket, at));
        self.queue.push(Some(transmit));
    }

    /// Hands everything queued to the kernel, socket by socket. What it does not take, and what
    /// is for a socket that is closed, is dropped and counted.
    pub fn flush(&mut self, stats: &mut Stats) {
        if self.queue.is_empty() {
            return;
        }
        self.order.sort_unstable();
        let Self { sides, queue, order, plan, batch, .. } = self;
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let id = usize::from(group[0].0);
            let transmits = group.iter().filter_map(|(_, at)| queue[usize::from(*at)].take());
            match sides.get_mut(id) {
                Some(Some(side)) => side.send(transmits, plan, batch, stats),
                _ => transmits.for_each(|one| lose(ErrorKind::NoAddress, &one, stats)),
            }
        }
        queue.clear();
        order.clear();
    }
}

impl Side {
    /// Sends `transmits`, which are no more than `plan` has room for.
    fn send(
        &mut self,
        transmits: impl Iterator<Item = Transmit>,
        plan: &mut Plan,
        batch: &mut Option<Batch>,
        stats: &mut Stats,
    ) {
        plan.segments = self.gso.segments();
        transmits.for_each(|transmit| plan.push(transmit));
        let batch = batch.get_or_insert_with(|| Batch::new(self.addressing));
        batch.address(self.addressing);
        batch.flush(self.socket.as_fd(), plan, &mut self.gso, stats);
        // Left only if the socket is full.
        plan.abandon(|transmit| lose(ErrorKind::Full, transmit, stats));
    }
}

fn lose(kind: ErrorKind, transmit: &Transmit, stats: &mut Stats) {
    stats.tx_errors.add(kind, transmit.datagrams() as u64);
}
