//! Time and the network: events in the order of (time, sequence), and what paths do to datagrams.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::net::Path;
use molia_router::time::Moment;

use super::dice::Dice;
use super::scenario::Link;

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram reaches the router's socket.
    ToRouter(Path, Vec<u8>),
    /// A datagram reaches whoever has the address by then.
    ToClient(SocketAddr, Vec<u8>),
    /// A shard takes what is there.
    Turn(u16),
    /// An interrupted turn goes on.
    TurnEnds(u16),
    /// A shard's socket can take something again.
    Room(u16),
    /// A letter reaches a shard.
    Mail(u16),
    /// A client's own timers are due.
    Wake(usize),
    /// A client wants something.
    Request(usize),
    /// A client wants something of the values.
    Wish(usize),
    /// A shard's store does what is due.
    Disk(u16),
    DiskFails,
    DiskHeals,
    /// The machine or the process ends, and begins again.
    MachineEnds,
    /// A client wants something of another one.
    Pair,
    /// The hostile do something together.
    Conspire,
    /// Somebody hostile does something.
    Mischief,
    /// A client restarts, moves, leaves or comes back.
    Change,
    Return(usize),
    RouterRestarts,
    ShardRestarts,
    /// What the shards believe is compared.
    Census,
    ClockJumps,
    /// From here on nothing goes wrong.
    Calm,
    /// Another try to ask what will be judged begins, and every client asks it.
    LastRound,
    LastQuestions,
    End,
}

struct Entry {
    at: Moment,
    sequence: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
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
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
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
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, event }));
    }

    /// The next event if it is not after `until`.
    pub(crate) fn pop(&mut self, until: Moment) -> Option<(Moment, Event)> {
        if self.next() > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    pub(crate) fn next(&self) -> Moment {
        self.heap.peek().map_or(Moment::NEVER, |Reverse(entry)| entry.at)
    }
}

/// Sends `bytes` over `link`: `arrival` makes an event of every copy that gets through.
pub(crate) fn carry(
    agenda: &mut Agenda,
    dice: &mut Dice,
    now: Moment,
    link: &Link,
    bytes: &[u8],
    arrival: impl Fn(Vec<u8>) -> Event,
) {
    let copies = 1 + u64::from(dice.permille(link.duplication));
    for _ in 0..copies {
        if dice.permille(link.loss) {
            continue;
        }
        let mut bytes = bytes.to_vec();
        if dice.permille(link.corruption) {
            corrupt(dice, &mut bytes);
        }
        let jitter_us = u64::try_from(link.jitter.as_micros()).expect("a short time");
        let delay = link.delay + Duration::from_micros(dice.within(0..jitter_us + 1));
        agenda.add(now + delay, arrival(bytes));
    }
}

/// What a checksum of 16 bits lets through now and then.
pub(crate) fn corrupt(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if dice.permille(200) {
        return bytes.truncate(dice.below(bytes.len()));
    }
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
}
