//! When a port looks after its further sockets.
//!
//! An engine that waited knows whether they have something, and looking costs nothing if they do
//! not. The plain engine does not wait while its own socket keeps it busy; then they are asked every
//! few turns, or in each as long as they have something.

use std::io;

use bufpool::Pool;
use uring::{EngineConfig, SideSockets, Stats, Waker};

use crate::net::Datagram;

/// Turns without a wait after which to ask: the question is a system call.
const BUSY_TURNS: u32 = 8;

#[derive(Debug)]
pub(super) struct Sides {
    pub(super) sockets: SideSockets,
    /// Messages of a turn.
    most: usize,
    /// Turns since they were asked, or known to be silent.
    unknown: u32,
    /// Whether they had something then.
    active: bool,
}

impl Sides {
    pub(super) fn new(config: &EngineConfig, slot_bytes: usize, waker: Waker) -> io::Result<Self> {
        let sockets = SideSockets::new(config, slot_bytes, waker)?;
        Ok(Self { sockets, most: config.rx_batch.div_ceil(2), unknown: 0, active: false })
    }

    /// Whether to look now, after a turn whose engine `found` that there is something, or nothing,
    /// or did not look.
    pub(super) fn is_due(&mut self, found: Option<bool>) -> bool {
        if self.sockets.is_empty() {
            return false;
        }
        self.unknown += 1;
        if found == Some(false) {
            (self.unknown, self.active) = (0, false);
        }
        found.unwrap_or(self.active || self.unknown >= BUSY_TURNS)
    }

    /// Adds what they have to `sink`.
    pub(super) fn receive(&mut self, pool: &Pool, stats: &mut Stats, sink: &mut Vec<Datagram>) {
        self.unknown = 0;
        self.active = self.sockets.receive(pool, self.most, stats, sink) > 0;
    }
}
