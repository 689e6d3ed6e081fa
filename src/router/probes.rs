//! Filter probes on their way: those that leave at once, and those that leave later.
//!
//! Both are few and bounded. A probe is 32 bytes to an address that was proven when it was asked
//! for; one that waits is gone with the session that asked for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::ids::{SessionRef, WgKey};
use crate::net::{Path, Prefix};
use crate::time::Moment;

/// Probes that may wait for the outlet.
const READY_MAX: usize = 64;
/// Probes that may wait for their time.
const WAITING_MAX: usize = 1024;
/// Those of one session, and of the sessions of one network.
const WAITING_PER_SESSION: u8 = 2;
const WAITING_PER_NETWORK: usize = WAITING_MAX / 8;

/// Where a probe is sent from, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbedFrom {
    /// The port that was asked, some time later.
    Main,
    /// The alternate port.
    Alternate,
    /// The main port, on behalf of the other router.
    Other,
}

impl ProbedFrom {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Main, Self::Alternate, Self::Other];

    /// Value of the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Alternate => "alternate",
            Self::Other => "other",
        }
    }
}

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) path: Path,
    pub(super) nonce: u64,
    /// Of the peer that is to recognise it.
    pub(super) key: WgKey,
    pub(super) from: ProbedFrom,
}

/// One that waits; ordered by its time alone.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: Moment,
    session: SessionRef,
    probe: Probe,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Probes {
    ready: VecDeque<Probe>,
    waiting: BinaryHeap<Reverse<Waiting>>,
}

impl Probes {
    /// Lets `probe` leave with the next batch; whether there is room.
    pub(super) fn send(&mut self, probe: Probe) -> bool {
        let room = self.ready.len() < READY_MAX;
        if room {
            self.ready.push_back(probe);
        }
        room
    }

    /// Lets `probe` leave at `at` unless `session` ends before; whether there is room. `waits` are
    /// those of the session that do; the same one again is no other.
    pub(super) fn send_at(
        &mut self,
        at: Moment,
        session: SessionRef,
        waits: &mut u8,
        probe: Probe,
    ) -> bool {
        let mut same = self.waiting.iter().filter(|Reverse(it)| it.session == session);
        if *waits > 0 && same.any(|Reverse(it)| it.probe.nonce == probe.nonce) {
            return true;
        }
        let network = Prefix::of(probe.path.peer.ip());
        let near = |it: &&Reverse<Waiting>| Prefix::of(it.0.probe.path.peer.ip()) == network;
        let room = self.waiting.len() < WAITING_MAX
            && *waits < WAITING_PER_SESSION
            && self.waiting.iter().filter(near).count() < WAITING_PER_NETWORK;
        if room {
            *waits += 1;
            self.waiting.push(Reverse(Waiting { at, session, probe }));
        }
        room
    }

    /// Makes one that is due by `now` leave; the session that asked for it. To be asked until `None`.
    pub(super) fn due(&mut self, now: Moment) -> Option<SessionRef> {
        if self.ready.len() >= READY_MAX {
            return None;
        }
        let Reverse(first) = self.waiting.peek()?;
        if first.at > now {
            return None;
        }
        let Reverse(Waiting { session, probe, .. }) = self.waiting.pop()?;
        self.ready.push_back(probe);
        Some(session)
    }

    /// The next one to leave.
    pub(super) fn next(&mut self) -> Option<Probe> {
        self.ready.pop_front()
    }

    /// When [`due`](Self::due) has something; never while there is no room for it.
    pub(super) fn next_deadline(&self) -> Moment {
        if self.ready.len() >= READY_MAX {
            return Moment::NEVER;
        }
        self.waiting.peek().map_or(Moment::NEVER, |Reverse(first)| first.at)
    }

    /// Forgets those that `session` asked for.
    pub(super) fn cancel(&mut self, session: SessionRef) {
        self.waiting.retain(|Reverse(it)| it.session != session);
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Local;

    fn probe(nonce: u64) -> Probe {
        let path = Path { peer: ([1, 1, 1, 1], 1).into(), local: Local::default() };
        Probe { path, nonce, key: WgKey([1; 32]), from: ProbedFrom::Main }
    }

    fn session(slot: u32) -> SessionRef {
        SessionRef { slot, generation: 1 }
    }

    #[test]
    fn probes_leave_in_the_order_of_their_times_unless_their_session_ends() {
        let at = |s: u64| Moment::from_nanos(s * 1_000_000_000);
        let mut probes = Probes::default();
        for (nonce, slot, s) in [(1, 1, 30), (2, 2, 10), (3, 3, 20), (4, 4, 40)] {
            assert!(probes.send_at(at(s), session(slot), &mut 0, probe(nonce)));
        }
        probes.cancel(session(3));
        assert_eq!(probes.next_deadline(), at(10));
        assert_eq!((probes.due(at(9)), probes.next()), (None, None));
        assert_eq!(probes.due(at(30)), Some(session(2)));
        assert_eq!(probes.due(at(30)), Some(session(1)));
        assert_eq!(probes.due(at(30)), None);
        assert_eq!(
            [probes.next(), probes.next(), probes.next()].map(|it| it.map(|it| it.nonce)),
            [Some(2), Some(1), None]
        );
        assert_eq!(probes.next_deadline(), at(40));
    }

    #[test]
    fn everything_is_bounded_and_a_retry_is_no_second_probe() {
        let mut probes = Probes::default();
        let mut waits = 0;
        assert!((1..=2).all(|nonce| probes.send_at(
            Moment::NEVER,
            session(1),
            &mut waits,
            probe(nonce)
        )));
        assert!(probes.send_at(Moment::NEVER, session(1), &mut waits, probe(1)), "again");
        assert!(!probes.send_at(Moment::NEVER, session(1), &mut waits, probe(3)));
        assert_eq!(waits, 2);
        let take_while = |probes: &mut Probes, network: u8, slots: std::ops::RangeFrom<u32>| {
            let path = Path { peer: ([1, 1, network, 1], 1).into(), local: Local::default() };
            let probe = Probe { path, ..probe(1) };
            let taken = |slot: &u32| probes.send_at(Moment::START, session(*slot), &mut 0, probe);
            slots.take_while(taken).count()
        };
        assert_eq!(take_while(&mut probes, 1, 2..), WAITING_PER_NETWORK - 2);
        let others = (2..9).map(|network| take_while(&mut probes, network, 2000..));
        assert_eq!(others.sum::<usize>(), WAITING_MAX - WAITING_PER_NETWORK);
        assert_eq!(take_while(&mut probes, 9, 2000..), 0);
        assert_eq!((0..).take_while(|_| probes.due(Moment::START).is_some()).count(), READY_MAX);
        assert!(!probes.send(probe(1)));
        assert_eq!(probes.next_deadline(), Moment::NEVER, "there is no room for more");
    }
}
