//! One class's queue: a ring of frames, with an index of those that may coalesce.

use super::Outgoing;
use crate::bucket::Keyed;
use crate::time::Moment;

/// End of a chain.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Waiting {
    offered: Moment,
    /// Next place of the same hash bucket.
    chained: u32,
    frame: Outgoing,
}

/// Result of [`Queue::coalesce`].
pub(super) enum Placed {
    /// The frame replaced a waiting one.
    Replaced,
    /// Nothing with its key waits; here it is back.
    Not(Outgoing),
}

/// A bounded FIFO. Frames with a key are found again through hash chains over ring places.
#[derive(Debug)]
pub(super) struct Queue {
    ring: Box<[Option<Waiting>]>,
    head: usize,
    len: usize,
    /// First place of each hash bucket; a power of two of them, at least one per ring place.
    chains: Box<[u32]>,
    keyed: Keyed,
}

impl Queue {
    /// Memory of a queue of this depth.
    pub(super) const fn bytes(depth: usize) -> usize {
        depth * size_of::<Option<Waiting>>() + depth.next_power_of_two() * size_of::<u32>()
    }

    pub(super) fn new(depth: usize, keyed: Keyed) -> Self {
        assert!(depth > 0 && depth < NONE as usize, "ring places are u32");
        let ring = (0..depth).map(|_| None).collect();
        let chains = vec![NONE; depth.next_power_of_two()].into();
        Self { ring, head: 0, len: 0, chains, keyed }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn free(&self) -> usize {
        self.ring.len() - self.len
    }

    /// Replaces the waiting frame of the same session and key, if there is one.
    #[inline]
    pub(super) fn coalesce(&mut self, now: Moment, frame: Outgoing) -> Placed {
        let Some(key) = frame.coalesce else { return Placed::Not(frame) };
        let mut place = self.chains[self.bucket(key, frame.session.slot)];
        while let Some(waiting) = self.ring.get_mut(place as usize).and_then(Option::as_mut) {
            if waiting.frame.coalesce == frame.coalesce && waiting.frame.session == frame.session {
                waiting.frame = frame;
                waiting.offered = now;
                return Placed::Replaced;
            }
            place = waiting.chained;
        }
        Placed::Not(frame)
    }

    /// Appends a frame.
    ///
    /// # Panics
    /// If the queue is full.
    #[inline]
    pub(super) fn push(&mut self, now: Moment, frame: Outgoing) {
        assert!(self.len < self.ring.len(), "pushed into a full queue");
        let place = self.wrap(self.head + self.len);
        let mut chained = NONE;
        if let Some(key) = frame.coalesce {
            let bucket = self.bucket(key, frame.session.slot);
            chained = std::mem::replace(&mut self.chains[bucket], number(place));
        }
        self.ring[place] = Some(Waiting { offered: now, chained, frame });
        self.len += 1;
    }

    /// When the content of the frame at the head was offered.
    #[inline]
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.ring[self.head].as_ref().map(|waiting| waiting.offered)
    }

    /// Takes the frame that has waited longest in place, with the time of its content's offer.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Moment, Outgoing)> {
        let place = self.head;
        let Waiting { offered, chained, frame } = self.ring[place].take()?;
        if let Some(key) = frame.coalesce {
            self.unchain(self.bucket(key, frame.session.slot), place, chained);
        }
        self.head = self.wrap(place + 1);
        self.len -= 1;
        Some((offered, frame))
    }

    /// Takes `place`, which was followed by `after`, out of its chain.
    fn unchain(&mut self, bucket: usize, place: usize, after: u32) {
        let gone = number(place);
        let mut at = self.chains[bucket];
        if at == gone {
            self.chains[bucket] = after;
            return;
        }
        while let Some(waiting) = self.ring.get_mut(at as usize).and_then(Option::as_mut) {
            if waiting.chained == gone {
                waiting.chained = after;
                return;
            }
            at = waiting.chained;
        }
        unreachable!("a waiting frame with a key is in its chain");
    }

    #[inline]
    fn wrap(&self, place: usize) -> usize {
        if place >= self.ring.len() { place - self.ring.len() } else { place }
    }

    #[inline]
    fn bucket(&self, key: u64, slot: u32) -> usize {
        self.keyed.index(&(key, slot), self.chains.len())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`Queue::new` asserts that places are u32")]
#[inline]
const fn number(place: usize) -> u32 {
    place as u32
}
