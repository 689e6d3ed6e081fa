//! Puts requests together that are larger than a frame: slices of one run of bytes.
//!
//! One [stream] for each request of a session, with memory of its own that is as large as a
//! request may be and reserved at construction. A stream ends with its last slice, by a
//! contradiction, or after [`STREAM_LIFE`].
//!
//! Memory is given to sessions that have an identity (that is the caller's to check), a few streams
//! each; a session that has its share waits. When all are taken, **the oldest goes**: slices of a
//! request are sent at once and all there within milliseconds, so it is most likely one that will
//! never end, and a crowd that begins streams to lock others out has to begin all of them anew
//! within those milliseconds.
//!
//! Invariants: bytes are given back only if all slices came once and agree on how many there are;
//! a session has at most its share of streams; no call allocates, and each drops at most
//! [`SWEEP_MAX`] streams whose time is over.

pub mod stream;
#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::ops::Range;

use super::deadlines::Deadlines;
use super::slots::{Slot, Slots};
use crate::bucket::Keyed;
use crate::limits::CHUNKS_MAX;
use crate::time::Moment;

pub use stream::{Place, STREAM_LIFE, Step, Stream};

/// Streams whose time is over that one call drops.
pub const SWEEP_MAX: usize = 16;

/// Shape of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams at a time.
    pub streams_max: usize,
    /// Streams of one session at a time.
    pub per_session: usize,
    /// Bytes of a request, all slices together.
    pub bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { streams_max: 256, per_session: 4, bytes_max: 8 << 10 }
    }
}

/// A slice of a request.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a, T> {
    /// Where it belongs.
    pub place: Place,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What rides on the first slice and comes back with the whole; that of others is ignored.
    pub rider: Option<T>,
}

/// What became of a slice.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'r, T> {
    /// It was the last one that was missing.
    Whole {
        /// All slices, in order.
        bytes: &'r [u8],
        /// What rode on the first.
        rider: Option<T>,
    },
    /// More is to come.
    Kept,
    /// Seen before, or of a stream that was given up.
    Ignored,
    /// It is not kept.
    Refused(Why),
}

/// Why a slice was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It contradicts itself or the slices before; the stream is gone.
    Malformed,
    /// The slices are longer than a request may be; the stream is gone.
    TooLarge,
    /// The session has its share of streams; those go on.
    Busy,
}

impl Why {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Malformed, Self::TooLarge, Self::Busy];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
        }
    }
}

/// A request that is not whole yet.
#[derive(Debug)]
struct Partial<T> {
    stream: Stream,
    rider: Option<T>,
    /// Where in the stream's memory each slice is, which are in the order they came.
    pieces: [(u32, u32); CHUNKS_MAX],
    used: usize,
}

/// The requests of all sessions; `S` names a session, `T` rides along.
#[derive(Debug)]
pub struct Reassembly<S, T> {
    config: Config,
    /// By session and correlation.
    streams: Slots<(S, u32), Partial<T>>,
    /// Streams of each session that has any.
    sessions: Slots<S, usize>,
    deadlines: Deadlines,
    /// `bytes_max` for each stream.
    memory: Box<[u8]>,
    /// The request that was completed last.
    whole: Vec<u8>,
}

impl<S: Copy + Eq + Hash, T: Copy> Reassembly<S, T> {
    /// Memory of this configuration.
    pub const fn bytes(config: &Config) -> usize {
        let streams = config.streams_max;
        let tables =
            Slots::<(S, u32), Partial<T>>::bytes(streams) + Slots::<S, usize>::bytes(streams);
        tables + Deadlines::bytes(streams) + (streams + 1) * config.bytes_max
    }

    /// Nothing to put together yet.
    ///
    /// # Panics
    /// If there are no streams, or requests are not below 4 GiB.
    pub fn new(config: Config, keyed: Keyed) -> Self {
        let Config { streams_max, per_session, bytes_max } = config;
        assert!(per_session > 0, "a session without streams could never store anything large");
        assert!(u32::try_from(bytes_max).is_ok(), "places in a request are u32");
        Self {
            config,
            streams: Slots::new(streams_max, keyed),
            // Who is remembered has a stream.
            sessions: Slots::new(streams_max, keyed),
            deadlines: Deadlines::new(streams_max),
            memory: vec![0; streams_max * bytes_max].into(),
            whole: Vec::with_capacity(bytes_max),
        }
    }

    /// Takes a slice of the request that `session` calls `correlation`.
    pub fn insert(
        &mut self,
        now: Moment,
        session: S,
        correlation: u32,
        slice: &Slice<'_, T>,
    ) -> Taken<'_, T> {
        self.poll(now);
        let slot = match self.stream(now, (session, correlation), &slice.place) {
            Ok(slot) => slot,
            Err(why) => return Taken::Refused(why),
        };
        let partial = &mut self.streams[slot];
        let index = match partial.stream.take(now, &slice.place) {
            Step::Keep(index) => index,
            Step::Restart(index) => {
                (partial.used, partial.rider) = (0, None);
                self.deadlines.set(slot, partial.stream.ends());
                index
            }
            Step::Ignore => return Taken::Ignored,
            Step::Malformed => return self.give_up(slot, Why::Malformed),
        };
        if slice.bytes.len() > self.config.bytes_max - partial.used {
            return self.give_up(slot, Why::TooLarge);
        }
        if index == 0 {
            partial.rider = slice.rider;
        }
        let end = partial.used + slice.bytes.len();
        partial.pieces[index] = (place(partial.used), place(end));
        let at = slot.index() * self.config.bytes_max;
        self.memory[at + partial.used..at + end].copy_from_slice(slice.bytes);
        partial.used = end;
        if !partial.stream.is_complete() {
            return Taken::Kept;
        }
        let rider = partial.rider;
        self.assemble(slot);
        self.end(slot);
        Taken::Whole { bytes: &self.whole, rider }
    }

    /// Drops streams whose time is over, at most [`SWEEP_MAX`]. Returns how many.
    pub fn poll(&mut self, now: Moment) -> usize {
        let due = (0..SWEEP_MAX).map_while(|_| {
            let slot = self.deadlines.due(now)?;
            self.end(slot);
            Some(())
        });
        due.count()
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn next_deadline(&self) -> Moment {
        self.deadlines.next_deadline()
    }

    /// Streams that are not whole yet.
    pub const fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stream of a request, begun by a chunk at `place` if there is none.
    fn stream(&mut self, now: Moment, key: (S, u32), place: &Place) -> Result<Slot, Why> {
        if let Some(slot) = self.streams.find(&key) {
            if now < self.streams[slot].stream.ends() {
                return Ok(slot);
            }
            self.end(slot);
        }
        let stream = Stream::begin(now, place).ok_or(Why::Malformed)?;
        let session = self.sessions.find(&key.0);
        if session.is_some_and(|session| self.sessions[session] >= self.config.per_session) {
            return Err(Why::Busy);
        }
        if self.streams.is_full()
            && let Some(oldest) = self.deadlines.first()
        {
            self.end(oldest);
        }
        // Looked for again: the oldest may have been its only one.
        match self.sessions.find(&key.0) {
            Some(session) => self.sessions[session] += 1,
            None => {
                self.sessions.insert(key.0, 1);
            }
        }
        let partial = Partial { stream, rider: None, pieces: [(0, 0); CHUNKS_MAX], used: 0 };
        let slot = self.streams.insert(key, partial);
        self.deadlines.set(slot, stream.ends());
        Ok(slot)
    }

    /// Copies the slices of a stream in their order.
    fn assemble(&mut self, slot: Slot) {
        let Partial { stream, pieces, .. } = &self.streams[slot];
        let at = slot.index() * self.config.bytes_max;
        self.whole.clear();
        for (from, to) in &pieces[..stream.total()] {
            let piece = Range { start: at + *from as usize, end: at + *to as usize };
            self.whole.extend_from_slice(&self.memory[piece]);
        }
    }

    fn give_up(&mut self, slot: Slot, why: Why) -> Taken<'_, T> {
        self.end(slot);
        Taken::Refused(why)
    }

    fn end(&mut self, slot: Slot) {
        self.deadlines.cancel(slot);
        let ((session, _), _) = self.streams.remove(slot);
        let Some(session) = self.sessions.find(&session) else {
            unreachable!("who has a stream is counted")
        };
        self.sessions[session] -= 1;
        if self.sessions[session] == 0 {
            self.sessions.remove(session);
        }
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
