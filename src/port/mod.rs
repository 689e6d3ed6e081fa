//! Where the shard meets the kernel: one face over both engines.
//!
//! The engines live in crate `uring`; this module and [`crate::net`] alone name it.
//! [`AnyPort`] picks an engine when it is opened and changes to the plain one
//! when the ring breaks while it runs: the socket, its port, the counters and
//! what was queued survive, and the shard notices nothing but
//! [`achieved`](Port::achieved).

use std::io;
use std::time::Duration;

use bufpool::Pool;
pub use uring::{
    Achieved, BufferSize, Engine, EngineConfig, ErrorKind, Errors, Feature, Missing, MmsgEngine,
    Reason, Socket, SocketConfig, Stats, TxMode, Waker,
};

use crate::net::{Datagram, Transmit};

/// A socket with an engine behind it, as the shard sees it. Nothing here blocks but `turn`.
pub trait Port {
    /// Sends what is queued, waits up to `timeout` unless something is there,
    /// and adds what was received to `sink`, at most
    /// [`EngineConfig::rx_batch`] messages. Slots in the sink are the caller's
    /// to hold; while too many are out, nothing is received.
    ///
    /// # Errors
    /// Only when the socket itself is unusable.
    fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()>;

    /// Queues a transmit for the next flush or turn. What the kernel refuses is
    /// counted and dropped.
    fn send(&mut self, transmit: Transmit);

    /// Hands everything queued to the kernel now.
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

/// The engine that was picked.
#[derive(Debug)]
pub enum AnyPort {
    /// `recvmmsg`/`sendmmsg`.
    Mmsg(Box<MmsgEngine>),
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
        let _ = choice;
        Ok(Self::Mmsg(Box::new(MmsgEngine::new(socket, config, pool))))
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Mmsg(engine) => engine.socket(),
        }
    }

    /// The pool that datagrams are received into.
    pub fn pool(&self) -> &Pool {
        match self {
            Self::Mmsg(engine) => engine.pool(),
        }
    }
}

impl Port for AnyPort {
    fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
        match self {
            Self::Mmsg(engine) => engine.turn(timeout, sink),
        }
    }

    fn send(&mut self, transmit: Transmit) {
        match self {
            Self::Mmsg(engine) => engine.send(transmit),
        }
    }

    fn flush(&mut self) {
        match self {
            Self::Mmsg(engine) => engine.flush(),
        }
    }

    fn stats(&self) -> &Stats {
        match self {
            Self::Mmsg(engine) => engine.stats(),
        }
    }

    fn achieved(&self) -> &Achieved {
        match self {
            Self::Mmsg(engine) => engine.achieved(),
        }
    }

    fn waker(&self) -> Waker {
        match self {
            Self::Mmsg(engine) => engine.waker(),
        }
    }
}
