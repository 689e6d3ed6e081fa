//! The floor: a server that answers every datagram and does nothing else.
//!
//! It runs on the same port, in a thread pinned like the shard's, and answers
//! each receive slot with the slot itself, so nothing below the protocol could
//! be cheaper. Answers are as long as the router's answers to the same requests,
//! not as long as what came: a plain echo of 1200 bytes would send more than the
//! router does and flatter it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};

use crate::clock::thread_cpu_ns;
use crate::limits;
use crate::net::{Datagram, Transmit};
use crate::port::{AnyPort, EngineChoice, EngineConfig, Port, Reason, Socket, Waker};

/// Longest wait without a datagram.
const WAIT: Duration = Duration::from_millis(500);

/// A running floor server.
#[derive(Debug)]
pub(super) struct Floor {
    address: SocketAddr,
    waker: Waker,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answer_bytes: AtomicUsize,
    asked: AtomicU64,
    answered: AtomicU64,
    cpu_ns: AtomicU64,
}

/// What a floor server is made of.
pub(super) struct Config {
    pub(super) cpu: usize,
    pub(super) socket: Socket,
    pub(super) engine: EngineChoice,
    pub(super) sizes: EngineConfig,
    pub(super) receive_slots: usize,
}

impl Floor {
    /// Starts it and waits until it serves.
    pub(super) fn start(config: Config) -> Result<Self, String> {
        let (address, waker) = (config.socket.local_addr(), config.socket.waker());
        let shared = Arc::new(Shared::default());
        let (ready, started) = sync_channel(1);
        let inner = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("floor".into())
            .spawn(move || main(config, &inner, &ready))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { address, waker, shared, thread: Some(thread) }),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("the floor server panicked while starting".into()),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of every answer from now on.
    pub(super) fn set_answer_bytes(&self, bytes: usize) {
        self.shared.answer_bytes.store(bytes, Ordering::Relaxed);
    }

    /// CPU time its thread has used, read by the thread itself between two batches.
    pub(super) fn cpu_ns(&self) -> u64 {
        let asked = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.waker.wake();
        while self.shared.answered.load(Ordering::Acquire) < asked && !self.is_finished() {
            thread::yield_now();
        }
        self.shared.cpu_ns.load(Ordering::Relaxed)
    }

    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // Whatever ended it was noticed as missing answers.
            let _ = thread.join();
        }
    }
}

fn main(config: Config, shared: &Shared, ready: &SyncSender<Result<(), String>>) -> io::Result<()> {
    let batch = config.sizes.rx_batch;
    match open(config) {
        Ok(port) => {
            // `start` waits for it.
            let _ = ready.send(Ok(()));
            serve(port, shared, batch)
        }
        Err(reason) => {
            let _ = ready.send(Err(reason));
            Ok(())
        }
    }
}

fn open(config: Config) -> Result<AnyPort, String> {
    super::rig::pin(config.cpu)?;
    let shape = PoolConfig {
        slot_bytes: limits::RX_SLOT_BYTES,
        slots: config.receive_slots,
        headroom: 0,
        hugepages: Hugepages::Auto,
        prefault: true,
    };
    let pool = Pool::new(shape).map_err(|error| format!("cannot map buffers: {error}"))?;
    AnyPort::open(config.engine, config.socket, config.sizes, pool)
        .map_err(|reason: Reason| reason.to_string())
}

fn serve(mut port: AnyPort, shared: &Shared, batch: usize) -> io::Result<()> {
    let mut received: Vec<Datagram> = Vec::with_capacity(batch);
    while !shared.stop.load(Ordering::Relaxed) {
        port.turn(WAIT, &mut received)?;
        let answer_bytes = shared.answer_bytes.load(Ordering::Relaxed);
        for datagram in received.drain(..) {
            port.send(answer(datagram, answer_bytes));
        }
        port.flush();
        let asked = shared.asked.load(Ordering::Acquire);
        if asked != shared.answered.load(Ordering::Relaxed) {
            shared.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
            shared.answered.store(asked, Ordering::Release);
        }
    }
    Ok(())
}

/// The slot itself, cut so that every segment is answered with `bytes`.
fn answer(datagram: Datagram, bytes: usize) -> Transmit {
    let Datagram { path, mut buf, segment } = datagram;
    let segments = buf.len().div_ceil(segment.max(1));
    let bytes = bytes.min(segment);
    buf.truncate(segments * bytes);
    Transmit { path, buf, segment: bytes, dscp: 0 }
}
