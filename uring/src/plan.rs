//! Groups what is to be sent into runs: datagrams of one size on one path that
//! leave as one message.
//!
//! Runs are found among all that waits for a flush, not only among neighbours: with
//! 8 peers whose datagrams alternate that saves 44 % of an echo's cost (58 % if
//! the far side keeps runs whole), and it costs nothing that can be measured when
//! no two datagrams share a path.
//!
//! Invariants:
//! * Datagrams of one path leave in the order they were queued. Those of other
//!   paths may overtake, within one flush.
//! * A run of several transmits has at most as many datagrams as is configured (64)
//!   and 65,000 bytes, all of one mark and
//!   of one size but the last, which may be shorter and ends the run.
//! * What a full socket refused stays, in order, and is grouped anew.
//! * A look-up probes at most [`PROBES`] places however the paths hash. A path
//!   that finds no place is not remembered, so its datagrams go out one by one,
//!   in order.

use crate::config::TX_RESERVE;
use crate::datagram::{Path, Transmit};
use crate::stats::Stats;
use std::net::{IpAddr, SocketAddr};

/// Most datagrams in one message (`UDP_MAX_SEGMENTS` before Linux 6.9).
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Most bytes in one message, below what either family's length field holds.
pub(crate) const BYTES_MAX: usize = 65_000;

/// Places a look-up tries.
const PROBES: usize = 8;
const NOWHERE: u16 = u16::MAX;

/// Transmits that leave as one message, or a single one that is a run by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// First transmit; the others follow by `Plan::next`.
    pub(crate) first: u16,
    last: u16,
    /// Number of transmits.
    pub(crate) transmits: u16,
    datagrams: u16,
    bytes: u32,
    /// Bytes per datagram.
    pub(crate) segment: u32,
    dscp: u8,
    /// Where the look-up table remembers it.
    place: u16,
    /// Whether a further datagram of the size may join.
    open: bool,
}

/// Where a flush stopped: everything in front of it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run: usize,
    /// Of the run.
    pub(crate) transmit: usize,
    /// Of the transmit.
    pub(crate) bytes: usize,
}

/// The transmits of one flush, grouped as they come, and what the last one left behind.
#[derive(Debug)]
pub(crate) struct Plan {
    queue: Vec<Option<Transmit>>,
    /// For each transmit the next one of its run.
    next: Vec<u16>,
    runs: Vec<Run>,
    /// Newest run of a path, by hash.
    places: Box<[u16]>,
    /// Used while what is left is grouped anew.
    rest: Vec<Transmit>,
    /// Transmits after which a flush is due.
    batch: usize,
    /// Whether the socket's send buffer was full when it was last tried.
    pub(crate) blocked: bool,
    /// Datagrams that may share a message; 1 if none may.
    pub(crate) segments: usize,
}

impl Plan {
    /// A plan of `batch` transmits, and the reserve for what comes while the socket is full.
    pub(crate) fn new(batch: usize, segments: usize) -> Self {
        let capacity = batch + TX_RESERVE;
        let places = (batch * 2).next_power_of_two().max(PROBES);
        assert!(places < usize::from(NOWHERE), "runs and places are u16");
        Self {
            queue: Vec::with_capacity(capacity),
            next: Vec::with_capacity(capacity),
            runs: Vec::with_capacity(capacity),
            places: vec![NOWHERE; places].into(),
            rest: Vec::with_capacity(capacity),
            batch,
            blocked: false,
            segments,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() == self.batch + TX_RESERVE
    }

    /// Whether a batch is together and may be sent.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.queue.len() >= self.batch && !self.blocked
    }

    /// How many more transmits are safe from loss: none while the socket is full, for what is
    /// taken then has only the reserve.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.blocked { 0 } else { self.batch.saturating_sub(self.queue.len()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The transmits of a run in order.
    #[inline]
    pub(crate) fn transmits(&self, run: Run) -> impl Iterator<Item = &Transmit> {
        let mut at = run.first;
        (0..run.transmits).filter_map(move |_| {
            let transmit = self.queue[usize::from(at)].as_ref();
            at = self.next[usize::from(at)];
            transmit
        })
    }

    /// Takes the transmits of a run out, in order.
    pub(crate) fn take(&mut self, run: Run) -> impl Iterator<Item = Transmit> {
        let mut at = run.first;
        (0..run.transmits).filter_map(move |_| {
            let transmit = self.queue[usize::from(at)].take();
            at = self.next[usize::from(at)];
            transmit
        })
    }

    /// Forgets everything; slots that were not taken go home.
    pub(crate) fn clear(&mut self) {
        for run in self.runs.drain(..) {
            if run.place != NOWHERE {
                self.places[usize::from(run.place)] = NOWHERE;
            }
        }
        self.queue.clear();
        self.next.clear();
    }

    /// Forgets what a full socket refused, each told to `lose`, and that it is full.
    pub(crate) fn abandon(&mut self, lose: impl FnMut(&Transmit)) {
        if self.blocked {
            self.queue.iter().flatten().for_each(lose);
            self.clear();
            self.blocked = false;
        }
    }

    /// Ends a flush: nothing is left, or what a full socket refused.
    pub(crate) fn end(&mut self, sent: Result<(), Place>, stats: &mut Stats) {
        self.blocked = sent.is_err();
        match sent {
            Ok(()) => self.clear(),
            Err(place) => {
                stats.tx_blocked += 1;
                self.keep_from(place);
            }
        }
    }

    /// Forgets what lies in front of `place`. The rest keeps its order within each path.
    fn keep_from(&mut self, place: Place) {
        let mut rest = std::mem::take(&mut self.rest);
        for index in place.run..self.runs.len() {
            let gone = if index == place.run { place.transmit } else { 0 };
            rest.extend(self.take(self.runs[index]).skip(gone));
        }
        self.clear();
        if let Some(first) = rest.first_mut() {
            first.buf.advance(place.bytes);
        }
        rest.drain(..).for_each(|transmit| self.push(transmit));
        self.rest = rest;
    }

    /// Takes everything that is left out, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Transmit> {
        let queue = std::mem::take(&mut self.queue);
        self.clear();
        queue.into_iter().flatten()
    }

    /// Queues one more.
    ///
    /// # Panics
    /// If the plan is full.
    #[inline]
    pub(crate) fn push(&mut self, transmit: Transmit) {
        assert!(!self.is_full(), "flush before queueing more");
        let (len, index) = (transmit.buf.len(), narrow(self.queue.len()));
        let segment = transmit.segment.clamp(1, len.max(1));
        let datagrams = if segment >= len { 1 } else { len.div_ceil(segment) };
        let alone = Run {
            first: index,
            last: index,
            transmits: 1,
            datagrams: narrow(datagrams),
            bytes: wide(len),
            segment: wide(segment),
            dscp: transmit.dscp,
            place: NOWHERE,
            open: self.segments > 1 && len > 0 && len.is_multiple_of(segment),
        };
        if self.segments > 1 {
            self.join_or_open(&transmit.path, alone);
        } else {
            self.runs.push(alone);
        }
        self.next.push(NOWHERE);
        self.queue.push(Some(transmit));
    }

    /// Adds `alone` to the newest run of its path if it fits there, else starts a run with it.
    #[inline]
    fn join_or_open(&mut self, path: &Path, mut alone: Run) {
        let place = self.place(path);
        if let Some(place) = place {
            alone.place = narrow(place);
            let newest = self.places[place];
            if newest != NOWHERE {
                let run = &mut self.runs[usize::from(newest)];
                if run.takes(&alone, self.segments) {
                    self.next[usize::from(run.last)] = alone.first;
                    run.append(&alone);
                    return;
                }
                run.place = NOWHERE;
            }
            self.places[place] = narrow(self.runs.len());
        }
        self.runs.push(alone);
    }

    /// Where the path is remembered, or may be.
    #[inline]
    fn place(&self, path: &Path) -> Option<usize> {
        let mask = self.places.len() - 1;
        let start = hash(&path.peer);
        (0..PROBES).map(|step| (start + step) & mask).find(|place| {
            let run = self.places[*place];
            run == NOWHERE || self.path_of(run) == Some(path)
        })
    }

    #[inline]
    fn path_of(&self, run: u16) -> Option<&Path> {
        let first = self.runs[usize::from(run)].first;
        self.queue[usize::from(first)].as_ref().map(|transmit| &transmit.path)
    }
}

impl Run {
    /// Whether `more` may follow: the same mark, no datagram larger than the segment, the limits kept.
    #[inline]
    fn takes(&self, more: &Self, segments: usize) -> bool {
        let same = more.segment == self.segment;
        let shorter_last = more.datagrams == 1 && more.segment < self.segment;
        self.open
            && more.dscp == self.dscp
            && more.bytes > 0
            && (same || shorter_last)
            && usize::from(self.datagrams) + usize::from(more.datagrams) <= segments
            && self.bytes as usize + more.bytes as usize <= BYTES_MAX
    }

    #[inline]
    fn append(&mut self, more: &Self) {
        self.open = more.open && more.segment == self.segment;
        self.last = more.last;
        self.transmits += 1;
        self.datagrams += more.datagrams;
        self.bytes += more.bytes;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by the capacity, below u16::MAX")]
fn narrow(n: usize) -> u16 {
    n as u16
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by the slot size, a u32")]
fn wide(n: usize) -> u32 {
    n as u32
}

/// Mixes a peer's address and port; quality matters little, see the module's invariants.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a hash")]
fn hash(peer: &SocketAddr) -> usize {
    let ip = match peer.ip() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits as u64) ^ ((bits >> 64) as u64).rotate_left(29)
        }
    };
    let mixed = (ip ^ (u64::from(peer.port()) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize
}

#[cfg(test)]
mod tests;
