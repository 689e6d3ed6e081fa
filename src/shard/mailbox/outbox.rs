//! Mail to one other shard: three rings, what waits for them, and who has to give way.
//!
//! Invariants:
//! * Within a class, what was accepted first is sent first: nothing passes what waits.
//! * Control is dropped only beyond its backlog; whenever it has to wait, nothing of the lower
//!   classes goes on waiting.
//! * Hints that wait have different keys, and so has coordination.

use super::backlog::Backlog;
use super::ring::Outlet;
use super::{PAYLOAD_MAX, Posted};
use super::{Reason, Stats};
use crate::wire::kind::Class;

/// Mail to one other shard.
pub(super) struct Outbox<M> {
    outlets: [Outlet<M>; 3],
    backlogs: [Backlog<M>; 3],
    /// Something is in the rings that the receiver has not been told of.
    untold: bool,
}

impl<M> Outbox<M> {
    pub(super) fn new(outlets: [Outlet<M>; 3], backlogs: [usize; 3]) -> Self {
        Self { outlets, backlogs: backlogs.map(Backlog::new), untold: false }
    }

    #[inline]
    pub(super) fn post(
        &mut self,
        stats: &mut Stats,
        class: Class,
        key: Option<u64>,
        mail: M,
        payload: &[u8],
    ) -> Posted {
        assert!(payload.len() <= PAYLOAD_MAX, "mail of {} bytes", payload.len());
        let at = class as usize;
        // The receiver may have made room since the last turn.
        self.send_waiting(stats, class);
        let counters = &mut stats.classes[at];
        counters.offered += 1;
        if self.backlogs[at].is_empty() && self.outlets[at].has_room(payload.len()) {
            self.outlets[at].push(mail, payload);
            self.untold = true;
            counters.enqueued += 1;
            counters.sent += 1;
            return Posted::Enqueued;
        }
        let posted = self.keep(stats, class, key, mail, payload);
        let counters = &mut stats.classes[at];
        match posted {
            Posted::Enqueued => counters.enqueued += 1,
            Posted::Coalesced => counters.coalesced += 1,
            Posted::Dropped(reason) => counters.dropped[reason as usize] += 1,
        }
        posted
    }

    /// Finds a place for a message that has to wait, as its class demands.
    fn keep(
        &mut self,
        stats: &mut Stats,
        class: Class,
        key: Option<u64>,
        mail: M,
        payload: &[u8],
    ) -> Posted {
        let backlog = &mut self.backlogs[class as usize];
        let same = |backlog: &Backlog<M>| key.and_then(|key| backlog.find(key));
        match class {
            Class::Control => {
                stats.alarms += 1;
                self.shed(stats, Class::Hints);
                self.shed(stats, Class::Coordination);
                if self.backlogs[class as usize].is_full() {
                    return Posted::Dropped(Reason::ControlFull);
                }
            }
            Class::Coordination => {
                if same(backlog).is_some() {
                    return Posted::Dropped(Reason::Duplicate);
                }
                if backlog.is_full() {
                    return Posted::Dropped(Reason::QueueFull);
                }
            }
            Class::Hints => {
                if let Some(place) = same(backlog) {
                    backlog.put(place, key, mail, payload);
                    return Posted::Coalesced;
                }
                if backlog.is_full() && backlog.pop().is_some() {
                    stats.classes[class as usize].lose(Reason::Evicted);
                }
            }
        }
        self.backlogs[class as usize].push(key, mail, payload);
        stats.classes[class as usize].waits();
        Posted::Enqueued
    }

    /// Drops what waits in a class.
    fn shed(&mut self, stats: &mut Stats, class: Class) {
        while self.backlogs[class as usize].pop().is_some() {
            stats.classes[class as usize].lose(Reason::Shed);
        }
    }

    /// Sends what waits as far as there is room; whether the receiver has to be told.
    pub(super) fn flush(&mut self, stats: &mut Stats) -> bool {
        for class in Class::ALL {
            self.send_waiting(stats, class);
        }
        std::mem::take(&mut self.untold)
    }

    #[inline]
    fn send_waiting(&mut self, stats: &mut Stats, class: Class) {
        let (outlet, backlog) =
            (&mut self.outlets[class as usize], &mut self.backlogs[class as usize]);
        let counters = &mut stats.classes[class as usize];
        while backlog.first_len().is_some_and(|len| outlet.has_room(len))
            && let Some((mail, payload)) = backlog.pop()
        {
            outlet.push(mail, payload);
            self.untold = true;
            counters.depth -= 1;
            counters.sent += 1;
        }
    }

    /// Whether anything waits.
    pub(super) fn holds_back(&self) -> bool {
        self.backlogs.iter().any(|backlog| !backlog.is_empty())
    }

    /// Whether something waits that there is room for now.
    pub(super) fn can_move(&self) -> bool {
        let mut classes = self.backlogs.iter().zip(&self.outlets);
        classes.any(|(backlog, outlet)| backlog.first_len().is_some_and(|len| outlet.has_room(len)))
    }
}
