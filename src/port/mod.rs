//! Where the shard meets the kernel: one face over both engines.
//!
//! The engines live in crate `uring`; this module and [`crate::net`] alone name it.
//! [`AnyPort`] picks an engine when it is opened and changes to the plain one
//! when the ring breaks while it runs: the socket, its port, the counters and
//! what is queued or waiting survive, and the shard notices nothing but
//! [`achieved`](Port::achieved).
//!
//! Beside the socket that the engine is made for there may be [further ones](AnyPort::open_side),
//! each with a number: a datagram says by which it came, and what is sent leaves by the one that
//! its path names. They outlive a change of engine as well.

mod sides;

use std::io;
use std::time::Duration;

use bufpool::Pool;
pub use uring::{
    Achieved, BufferSize, Engine, EngineConfig, ErrorKind, Errors, Feature, Group, Missing,
    MmsgEngine, Reason, Socket, SocketConfig, Stats, Steering, TxMode, Waker, own_addresses,
    prefer_batches,
};
use uring::{Refused, Remains, UringEngine};

use crate::net::{Datagram, Transmit};
use sides::Sides;

/// Number of the socket that the engine is made for.
pub const MAIN: u16 = 0;
/// Number of the alternate port's socket (`udp/alt_port`).
pub const ALTERNATE: u16 = 1;

/// A socket with an engine behind it, as the shard sees it. Nothing here blocks but `turn`.
pub trait Port {
    /// Sends what is queued, waits up to `timeout` unless something is there or there is room
    /// again for what a full send buffer left, and adds what was received to `sink`, at most
    /// [`EngineConfig::rx_batch`] messages, and about half as many of further sockets. Slots in the sink are the caller's
    /// to hold; while too many are out, nothing is received.
    ///
    /// # Errors
    /// Only when the socket itself is unusable.
    fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()>;

    /// Queues a transmit for the next flush or turn. What the kernel refuses is
    /// counted and dropped, but for what only finds the socket's send buffer full: that stays
    /// queued, in order, and leaves when there is room. Beyond the [`room`](Self::room) there
    /// are a few places left for what cannot wait anywhere else; then it is dropped as well.
    fn send(&mut self, transmit: Transmit);

    /// How many more transmits are safe from being dropped: 0 while the send buffer is full,
    /// until a turn has found it otherwise.
    fn room(&self) -> usize;

    /// Hands everything queued to the kernel now, unless the send buffer is full.
    fn flush(&mut self);

    /// What was counted since the socket was opened.
    fn stats(&self) -> &Stats;

    /// What is in use, and what is missing with the reason.
    fn achieved(&self) -> &Achieved;

    /// The handle by which another thread ends the wait of a turn.
    fn waker(&self) -> Waker;
}

/// Which engine to open (`io/engine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// io_uring where it is to be had, else mmsg.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// `recvmmsg`/`sendmmsg`.
    Mmsg,
}

/// An engine, and what it takes to change it.
#[derive(Debug)]
pub struct AnyPort {
    /// None until the first one is opened.
    sides: Option<Box<Sides>>,
    inner: Inner,
    config: EngineConfig,
}

#[derive(Debug)]
enum Inner {
    IoUring(Box<UringEngine>),
    Mmsg(Box<MmsgEngine>),
    /// Only while one is taken apart to make the other.
    Changing,
}

/// Does the same with whichever engine there is.
macro_rules! with {
    ($inner:expr, $engine:ident => $act:expr) => {
        match $inner {
            Inner::IoUring($engine) => $act,
            Inner::Mmsg($engine) => $act,
            Inner::Changing => unreachable!("a port is whole between two calls"),
        }
    };
}

impl AnyPort {
    /// Opens an engine for `socket` that receives into the slots of `pool`. Must
    /// be called by the thread that will use it.
    ///
    /// # Errors
    /// Why io_uring is not to be had, if it was required.
    pub fn open(
        choice: EngineChoice,
        socket: Socket,
        config: EngineConfig,
        pool: Pool,
    ) -> Result<Self, Reason> {
        let inner = match choice {
            EngineChoice::Mmsg => {
                let mut engine = MmsgEngine::new(socket, config, pool);
                engine.miss(Feature::IoUring, Reason::Disabled);
                Inner::Mmsg(Box::new(engine))
            }
            EngineChoice::Auto | EngineChoice::IoUring => {
                match UringEngine::new(socket, config, pool) {
                    Ok(engine) => Inner::IoUring(Box::new(engine)),
                    Err(refused) if choice == EngineChoice::IoUring => return Err(refused.reason),
                    Err(refused) => {
                        let Refused { reason, socket, pool } = *refused;
                        let mut engine = MmsgEngine::new(socket, config, pool);
                        engine.miss(Feature::IoUring, reason);
                        Inner::Mmsg(Box::new(engine))
                    }
                }
            }
        };
        Ok(Self { inner, config, sides: None })
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        with!(&self.inner, engine => engine.socket())
    }

    /// The pool that datagrams are received into.
    pub fn pool(&self) -> &Pool {
        with!(&self.inner, engine => engine.pool())
    }

    /// Opens a further socket, which has the number `id` until it is closed; for one that has its
    /// port to itself, [`Socket::bind`] makes it.
    ///
    /// # Errors
    /// `InvalidInput` for the number of the main one, `AlreadyExists` if the number is taken, and
    /// what the system says if there are no descriptors.
    pub fn open_side(&mut self, id: u16, socket: Socket) -> io::Result<()> {
        let sides = match &mut self.sides {
            Some(sides) => sides,
            None => {
                let (slot_bytes, waker) = (self.pool().slot_bytes(), self.waker());
                let sides = Sides::new(&self.config, slot_bytes, waker)?;
                self.sides.insert(Box::new(sides))
            }
        };
        sides.sockets.open(id, socket)?;
        self.watch();
        Ok(())
    }

    /// Closes a further socket, and gives it back: what is queued for it leaves first.
    pub fn close_side(&mut self, id: u16) -> Option<Socket> {
        let sides = self.sides.as_mut()?;
        let stats = with!(&mut self.inner, engine => engine.pool_and_stats().1);
        let closed = sides.sockets.close(id, stats);
        self.watch();
        closed
    }

    /// A further socket.
    pub fn side(&self, id: u16) -> Option<&Socket> {
        self.sides.as_ref()?.sockets.socket(id)
    }

    /// Lets the engine wait for further sockets as long as there are any.
    fn watch(&mut self) {
        let sides = self.sides.as_ref().filter(|sides| !sides.sockets.is_empty());
        let watch = sides.map(|sides| sides.sockets.watch());
        with!(&mut self.inner, engine => engine.watch(watch));
    }

    /// Breaks the ring, if there is one, as a bug in the kernel would.
    ///
    /// # Errors
    /// If not even that can be done.
    #[doc(hidden)]
    pub fn break_ring(&self) -> io::Result<()> {
        match &self.inner {
            Inner::IoUring(engine) => engine.break_on_purpose(),
            Inner::Mmsg(_) | Inner::Changing => Ok(()),
        }
    }

    /// Puts the plain engine in the place of a ring that failed with `error`.
    /// What the ring had received and not delivered goes to `sink`; what was
    /// queued is queued again. Datagrams on the ring itself count as failed.
    fn change(&mut self, error: &io::Error, sink: &mut Vec<Datagram>) {
        match std::mem::replace(&mut self.inner, Inner::Changing) {
            Inner::IoUring(engine) => {
                let Remains { socket, pool, stats, received, queued } = engine.into_remains();
                let mut engine = MmsgEngine::new(socket, self.config, pool).with_stats(stats);
                let errno = error.raw_os_error().unwrap_or(0);
                engine.miss(Feature::IoUring, Reason::Broke(errno));
                sink.extend(received);
                queued.into_iter().for_each(|transmit| engine.send(transmit));
                self.inner = Inner::Mmsg(Box::new(engine));
                self.watch();
            }
            other @ (Inner::Mmsg(_) | Inner::Changing) => self.inner = other,
        }
    }

    /// A turn of the engine, and of the one in its place if it breaks.
    #[inline]
    fn turn_main(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
        match &mut self.inner {
            Inner::Mmsg(engine) => engine.turn(timeout, sink),
            Inner::IoUring(engine) => match engine.turn(timeout, sink) {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.change(&error, sink);
                    // What is there already; the next turn waits.
                    self.turn_main(Duration::ZERO, sink)
                }
            },
            Inner::Changing => unreachable!("a port is whole between two calls"),
        }
    }

    /// Adds what came by further sockets, if the engine found that something did.
    fn look_aside(&mut self, sink: &mut Vec<Datagram>) {
        let Some(sides) = &mut self.sides else { return };
        let found = with!(&mut self.inner, engine => engine.watched());
        if sides.is_due(found) {
            let (pool, stats) = with!(&mut self.inner, engine => engine.pool_and_stats());
            sides.receive(pool, stats, sink);
        }
    }

    /// Queues a transmit for a further socket.
    #[inline(never)]
    fn send_aside(&mut self, transmit: Transmit) {
        let stats = with!(&mut self.inner, engine => engine.pool_and_stats().1);
        match &mut self.sides {
            Some(sides) => sides.sockets.send(transmit, stats),
            None => stats.tx_errors.add(ErrorKind::NoAddress, transmit.datagrams() as u64),
        }
    }

    /// Before the engine takes all slots that are free, and waits.
    #[inline]
    fn prepare_aside(&mut self) {
        if let Some(sides) = &mut self.sides {
            let (pool, stats) = with!(&mut self.inner, engine => engine.pool_and_stats());
            sides.sockets.flush(stats);
            sides.sockets.stock(pool, stats);
        }
    }

    #[inline]
    fn flush_aside(&mut self) {
        if let Some(sides) = &mut self.sides {
            let stats = with!(&mut self.inner, engine => engine.pool_and_stats().1);
            sides.sockets.flush(stats);
        }
    }
}

impl Port for AnyPort {
    #[inline]
    fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
        self.prepare_aside();
        self.turn_main(timeout, sink)?;
        if self.sides.is_some() {
            self.look_aside(sink);
        }
        Ok(())
    }

    #[inline]
    fn send(&mut self, transmit: Transmit) {
        if transmit.path.local.socket != MAIN {
            return self.send_aside(transmit);
        }
        with!(&mut self.inner, engine => engine.send(transmit));
    }

    #[inline]
    fn room(&self) -> usize {
        with!(&self.inner, engine => engine.room())
    }

    #[inline]
    fn flush(&mut self) {
        self.flush_aside();
        with!(&mut self.inner, engine => engine.flush());
    }

    fn stats(&self) -> &Stats {
        with!(&self.inner, engine => engine.stats())
    }

    fn achieved(&self) -> &Achieved {
        with!(&self.inner, engine => engine.achieved())
    }

    fn waker(&self) -> Waker {
        with!(&self.inner, engine => engine.waker())
    }
}

#[cfg(test)]
mod tests;
