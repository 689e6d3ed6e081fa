//! Time and the network: events in the order of (time, sequence), and how long datagrams take.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::bucket::Keyed;
use molia_router::time::Moment;

use super::dice::Dice;

/// One way between two nodes, in milliseconds.
const DELAY_MS: std::ops::Range<u64> = 5..150;
/// A datagram may take longer than its path's time by such a part of it, within the range above.
const JITTER_PARTS: u64 = 10;
/// Datagrams that get lost, in a thousand.
const LOSS: u64 = 10;

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram reaches whoever has the address by then.
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A node's timers are due.
    Wake(usize),
    /// A node looks for its neighbours.
    Refresh(usize),
    /// An owner publishes a key.
    Publish(usize),
    /// Somebody looks a key up.
    Ask,
    /// A node joins, and from some time on another one leaves.
    Join,
    Leave,
    End,
}

struct Entry(Moment, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What is to come.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry(at, self.sequence, event)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, Event)> {
        self.heap.pop().map(|Reverse(Entry(at, _, event))| (at, event))
    }
}

/// The paths between nodes.
pub(crate) struct Network {
    dice: Dice,
    paths: Keyed,
}

impl Network {
    pub(crate) fn new(mut dice: Dice) -> Self {
        let paths = Keyed::new([dice.u64(), dice.u64()]);
        Self { dice, paths }
    }

    /// When a datagram arrives; never if it gets lost.
    pub(crate) fn carry(
        &mut self,
        now: Moment,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<Moment> {
        if self.dice.permille(LOSS) {
            return None;
        }
        let (low, high) = (DELAY_MS.start * 1000, DELAY_MS.end * 1000);
        // As long in one direction as in the other.
        let drawn = self.paths.hash(&(from.min(to), from.max(to)));
        let base_us = low + drawn % (high - low);
        let jitter_us = self.dice.within(0..base_us / JITTER_PARTS);
        Some(now + Duration::from_micros((base_us + jitter_us).min(high)))
    }
}
