//! Requests with an effect, answered lately: a repeat gets the same answer and has no second effect.
//!
//! A peer that misses an answer sends the request again under the same correlation. Each session
//! remembers its last [`REMEMBERED`] of them for [`MEMORY`].
//!
//! Invariants: a ring of fixed size, a plain value of whoever holds the session; the newest answer
//! to a correlation counts, and takes no second place.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::time::Moment;

/// Requests that a session remembers.
pub const REMEMBERED: usize = 16;
/// For how long.
pub const MEMORY: Duration = Duration::from_secs(10);

/// What a session's requests came to; `T` says that in whatever way the caller likes.
#[derive(Clone, Debug)]
pub struct Repeats<T> {
    ring: ArrayVec<Answered<T>, REMEMBERED>,
    /// The oldest, once all places are taken.
    oldest: u8,
}

#[derive(Clone, Copy, Debug)]
struct Answered<T> {
    correlation: u32,
    at: Moment,
    outcome: T,
}

impl<T> Default for Repeats<T> {
    fn default() -> Self {
        Self { ring: ArrayVec::new_const(), oldest: 0 }
    }
}

impl<T: Clone> Repeats<T> {
    /// What a request came to, if it is a repeat.
    pub fn recall(&self, now: Moment, correlation: u32) -> Option<T> {
        let known = self.ring.iter().find(|known| known.correlation == correlation)?;
        (now.since(known.at) < MEMORY).then(|| known.outcome.clone())
    }

    /// Remembers what a request came to, in the place of the oldest if need be.
    pub fn remember(&mut self, now: Moment, correlation: u32, outcome: T) {
        let answered = Answered { correlation, at: now, outcome };
        let mut known = self.ring.iter_mut();
        if let Some(known) = known.find(|known| known.correlation == correlation) {
            *known = answered;
        } else if !self.ring.is_full() {
            self.ring.push(answered);
        } else {
            self.ring[usize::from(self.oldest)] = answered;
            self.oldest = (self.oldest + 1) % PLACES;
        }
    }
}

const PLACES: u8 = {
    assert!(REMEMBERED <= u8::MAX as usize, "places fit a byte");
    REMEMBERED.to_le_bytes()[0]
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_sixteen_are_remembered_for_ten_seconds(
            ops in vec((0..24_u32, 0..2_000_u64, any::<bool>()), 0..300),
        ) {
            let mut repeats = Repeats::default();
            // In the order in which they were first heard of.
            let mut model: Vec<(u32, Moment, usize)> = vec![];
            let mut now = Moment::START;
            for (outcome, (correlation, wait_ms, remember)) in (0..).zip(ops) {
                now = now + Duration::from_millis(wait_ms);
                let known = model.iter().position(|(c, ..)| *c == correlation);
                let fresh = known.map(|at| model[at]).filter(|(_, at, _)| now.since(*at) < MEMORY);
                prop_assert_eq!(repeats.recall(now, correlation), fresh.map(|(.., outcome)| outcome));
                if remember {
                    repeats.remember(now, correlation, outcome);
                    match known {
                        Some(at) => model[at] = (correlation, now, outcome),
                        None => model.push((correlation, now, outcome)),
                    }
                    model.drain(..model.len().saturating_sub(REMEMBERED));
                }
            }
        }
    }

    #[test]
    fn a_session_remembers_in_a_few_hundred_bytes() {
        assert!(size_of::<Repeats<u32>>() <= 272, "{}", size_of::<Repeats<u32>>());
    }
}
