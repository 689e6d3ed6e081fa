//! Introductions: two peers that know of each other are told to send at the same time, so that
//! each one's datagrams open its NAT for the other's.
//!
//! [`Attempts`] are those that wait for the target's word, in the shard that has its session;
//! [`schedule`] says when to fire; [`nat`] which pairs it is of use to; [`facts`] is what is known of them.
//!
//! Invariants: a fixed number of places; an attempt ends once, by the answer, by time or with its
//! session; only the session that was asked may answer. It does not know what an attempt is about.

pub mod facts;
pub mod nat;

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::SessionRef;
use crate::time::Moment;

pub use facts::{FactTable, Facts};
pub use nat::{Behaviour, Nat};

/// How long the target may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Time after which it is asked again: a datagram may have been lost, and somebody waits.
pub const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Windows in which both sides send probes.
pub const WINDOWS: u32 = 2;
/// Length of one.
pub const WINDOW: Duration = Duration::from_millis(250);

/// What the round trip of a peer is taken for that nobody measured.
const RTT_UNKNOWN: Duration = Duration::from_millis(100);
/// No round trip is waited for longer: who is that far off is late by the rest.
const RTT_MAX: Duration = Duration::from_secs(1);
/// For what the target and the router take to think.
const MARGIN: Duration = Duration::from_millis(20);

/// When both sides open fire, counted from the moment the target is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    fire: Duration,
    half_requester: Duration,
    half_target: Duration,
}

/// A time that both can keep: the notice has to reach the target, its answer the router, and
/// that the requester. The arguments are smoothed round-trip times.
pub fn schedule(requester: Option<Duration>, target: Option<Duration>) -> Schedule {
    let rtt = |measured: Option<Duration>| measured.unwrap_or(RTT_UNKNOWN).min(RTT_MAX);
    let (requester, target) = (rtt(requester), rtt(target));
    let (half_requester, half_target) = (requester / 2, target / 2);
    Schedule { fire: target + half_requester + MARGIN, half_requester, half_target }
}

impl Schedule {
    /// What the target is told, so long after the first time: from its receipt on, in milliseconds.
    pub fn target_ms(&self, waited: Duration) -> u32 {
        millis(self.fire.saturating_sub(waited).saturating_sub(self.half_target))
    }

    /// What the requester is told when the target's answer took `waited`.
    pub fn requester_ms(&self, waited: Duration) -> u32 {
        millis(self.fire.saturating_sub(waited).saturating_sub(self.half_requester))
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Bits of a correlation that name the place of an attempt; the rest is drawn at random.
const PLACE_BITS: u32 = 12;
/// Attempts that wait at once in a shard.
pub const ATTEMPTS_MAX: usize = 1 << PLACE_BITS;

/// What time brings about.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<A> {
    /// That session is to be asked again under this correlation, so long after the first time.
    Again(SessionRef, u32, Duration),
    /// It has not answered.
    Over(A),
}

#[derive(Debug)]
struct Waiting<A> {
    session: SessionRef,
    correlation: u32,
    asked: Moment,
    attempt: A,
}

/// Attempts that wait for an answer of their targets.
#[derive(Debug)]
pub struct Attempts<A> {
    places: Vec<Option<Waiting<A>>>,
    free: Vec<u32>,
    /// Place and correlation in the order in which they are looked at; some have ended before.
    order: VecDeque<(u32, u32, Moment)>,
}

impl<A> Default for Attempts<A> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), order: VecDeque::new() }
    }
}

impl<A> Attempts<A> {
    /// Memory at most.
    pub const fn bytes() -> usize {
        ATTEMPTS_MAX * (size_of::<Option<Waiting<A>>>() + size_of::<(u32, u32, Moment)>() + 4)
    }

    /// Attempts that wait.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `session` is asked about `attempt`; returns the correlation to ask under. `random` makes
    /// it one that nobody else can answer to.
    ///
    /// # Errors
    /// The attempt, if too many wait.
    pub fn ask(
        &mut self,
        now: Moment,
        session: SessionRef,
        random: u32,
        attempt: A,
    ) -> Result<u32, A> {
        if self.free.is_empty() && self.places.len() == ATTEMPTS_MAX {
            return Err(attempt);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let correlation = random << PLACE_BITS | place;
        self.places[place as usize] = Some(Waiting { session, correlation, asked: now, attempt });
        self.order.push_back((place, correlation, now + ASK_AGAIN));
        Ok(correlation)
    }

    /// `session` answered: the attempt, and how long that took. `None` if it was not asked that.
    pub fn answered(
        &mut self,
        now: Moment,
        session: SessionRef,
        correlation: u32,
    ) -> Option<(A, Duration)> {
        let place = correlation & ((1 << PLACE_BITS) - 1);
        let waiting = self.places.get(place as usize)?.as_ref()?;
        if waiting.session != session || waiting.correlation != correlation {
            return None;
        }
        let Waiting { asked, attempt, .. } = self.take(place)?;
        Some((attempt, now.since(asked)))
    }

    /// What an attempt is about, while it waits.
    pub fn attempt(&self, correlation: u32) -> Option<&A> {
        let place = correlation & ((1 << PLACE_BITS) - 1);
        let waiting = self.places.get(place as usize)?.as_ref()?;
        (waiting.correlation == correlation).then_some(&waiting.attempt)
    }

    /// The next thing that is due; to be asked until `None`.
    pub fn due(&mut self, now: Moment) -> Option<Due<A>> {
        while let Some(&(place, correlation, at)) = self.order.front() {
            let waiting = self.places.get(place as usize).and_then(Option::as_ref);
            let Some(waiting) = waiting.filter(|it| it.correlation == correlation) else {
                self.order.pop_front();
                continue;
            };
            if at > now {
                return None;
            }
            self.order.pop_front();
            let (session, waited) = (waiting.session, now.since(waiting.asked));
            if waited >= ANSWER_WITHIN {
                return Some(Due::Over(self.take(place)?.attempt));
            }
            // All wait equally long, so the order stays one of time.
            self.order.push_back((place, correlation, now + ASK_AGAIN));
            return Some(Due::Again(session, correlation, waited));
        }
        None
    }

    /// When [`due`](Self::due) has something next.
    pub fn next_deadline(&self) -> Moment {
        self.order.front().map_or(Moment::NEVER, |(.., until)| *until)
    }

    fn take(&mut self, place: u32) -> Option<Waiting<A>> {
        let waiting = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests;
