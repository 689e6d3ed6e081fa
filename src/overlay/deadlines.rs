//! Deadlines of [`Slot`]s, the earliest first: a binary heap that knows where each of them is.
//!
//! Setting, cancelling and taking cost log n, each time. The [`wheel`](crate::wheel) does it in
//! constant time on average, but moves all timers of a coarse slot at once when it gets there;
//! what lives for hours and is renewed by the thousand crowds such slots.
//!
//! Invariants: nobody is before its parent; a slot has one deadline or none; equal moments are
//! ordered by slot, so order depends on nothing else. Allocates at construction only.

use super::slots::Slot;
use crate::time::Moment;

/// Not in the heap.
const NONE: u32 = u32::MAX;

/// The deadlines.
#[derive(Debug)]
pub(super) struct Deadlines {
    heap: Vec<(Moment, Slot)>,
    /// Where in the heap each slot is.
    places: Box<[u32]>,
}

impl Deadlines {
    /// Memory of deadlines for so many slots.
    pub(super) const fn bytes(capacity: usize) -> usize {
        capacity * (size_of::<(Moment, Slot)>() + size_of::<u32>())
    }

    /// No deadlines yet, for slots below `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity < NONE as usize, "places are u32");
        Self { heap: Vec::with_capacity(capacity), places: vec![NONE; capacity].into() }
    }

    /// Sets the deadline of `slot`, whatever it was before.
    ///
    /// # Panics
    /// If `slot` is not below the capacity.
    pub(super) fn set(&mut self, slot: Slot, at: Moment) {
        let place = match self.places[slot.index()] {
            NONE => {
                self.heap.push((at, slot));
                self.settled(self.heap.len() - 1);
                self.heap.len() - 1
            }
            place => place as usize,
        };
        self.heap[place].0 = at;
        self.sift(place);
    }

    /// Takes the deadline of `slot` out, if it has one.
    pub(super) fn cancel(&mut self, slot: Slot) {
        let place = std::mem::replace(&mut self.places[slot.index()], NONE) as usize;
        if place < self.heap.len() {
            self.heap.swap_remove(place);
        }
        if place < self.heap.len() {
            self.settled(place);
            self.sift(place);
        }
    }

    /// The slot whose deadline comes first.
    pub(super) fn first(&self) -> Option<Slot> {
        self.heap.first().map(|(_, slot)| *slot)
    }

    /// The same, if its deadline has come.
    pub(super) fn due(&self, now: Moment) -> Option<Slot> {
        self.first().filter(|_| self.next_deadline() <= now)
    }

    /// The first deadline.
    pub(super) fn next_deadline(&self) -> Moment {
        self.heap.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// Moves what is at `place` up or down to where it belongs.
    fn sift(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let below = [2 * place + 1, 2 * place + 2].into_iter();
            let below = below.filter(|child| *child < self.heap.len());
            match below.min_by_key(|child| self.heap[*child]) {
                Some(child) if self.heap[child] < self.heap[place] => {
                    self.swap(place, child);
                    place = child;
                }
                Some(_) | None => return,
            }
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.settled(a);
        self.settled(b);
    }

    /// Notes who is at `place`.
    fn settled(&mut self, place: usize) {
        self.places[self.heap[place].1.index()] = u32::try_from(place).unwrap_or(NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Keyed;
    use crate::overlay::slots::Slots;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn deadlines_come_in_order(ops in vec((0..16_usize, 0..40_u64, 0..4_u8), 0..300)) {
            let mut slots = Slots::new(16, Keyed::new([0; 2]));
            let slots: Vec<Slot> = (0..16).map(|n| slots.insert(n, ())).collect();
            let mut deadlines = Deadlines::new(16);
            let mut model: Vec<(Moment, Slot)> = vec![];
            for (n, at, op) in ops {
                let (slot, at) = (slots[n], Moment::from_nanos(at));
                match op {
                    0 => {
                        deadlines.cancel(slot);
                        model.retain(|(_, here)| *here != slot);
                    }
                    1 => {
                        let due = model.first().filter(|(first, _)| *first <= at).map(|(_, s)| *s);
                        prop_assert_eq!(deadlines.due(at), due);
                    }
                    _ => {
                        deadlines.set(slot, at);
                        model.retain(|(_, here)| *here != slot);
                        model.push((at, slot));
                    }
                }
                model.sort_unstable();
                prop_assert_eq!(deadlines.first(), model.first().map(|(_, slot)| *slot));
                let next = model.first().map_or(Moment::NEVER, |(at, _)| *at);
                prop_assert_eq!(deadlines.next_deadline(), next);
            }
            for (_, slot) in model {
                prop_assert_eq!(deadlines.first(), Some(slot));
                deadlines.cancel(slot);
            }
            prop_assert_eq!(deadlines.first(), None);
        }
    }
}
