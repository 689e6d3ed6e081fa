//! A journal's writer never sleeps on what it has to know, and is not woken for anything else.
//!
//! The ring is a counter here, published and read as `rtrb` does it: a release store by one side, an
//! acquire load by the other. Who sleeps on what is there waits for ever, and loom reports it.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify, atomic};
use loom::thread;

#[path = "../../peerstore/src/journal/bell.rs"]
mod bell;

use bell::{Bell, Sleep};

/// So many entries crowd the ring.
const CROWD: usize = 2;

struct Shared {
    bell: Bell,
    park: Notify,
    ring: AtomicUsize,
    wakes: AtomicUsize,
}

impl Shared {
    fn new() -> Arc<Self> {
        let (ring, wakes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { bell: Bell::new(), park: Notify::new(), ring, wakes })
    }

    /// What the loop does in a turn: an entry, and a flush.
    fn turn(&self) {
        let queued = self.ring.load(Ordering::Relaxed) + 1;
        self.ring.store(queued, Ordering::Release);
        if self.bell.came(|| queued >= CROWD) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.park.notify();
        }
    }

    fn look(&self) -> usize {
        self.ring.load(Ordering::Acquire)
    }

    /// Sleeps as a writer does until so many entries are there.
    fn wait_for(&self, on: Sleep, entries: usize) {
        while self.look() < entries {
            if self.bell.sleep(on, || self.look() >= entries) {
                self.park.wait();
                self.bell.awake();
            }
        }
    }
}

/// A loop that takes so many turns while `writer` does what it does.
fn check(turns: usize, writer: impl Fn(&Shared) + Sync + Send + 'static) {
    loom::model(move || {
        let shared = Shared::new();
        let packets = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..turns).for_each(|_| shared.turn()))
        };
        writer(&shared);
        packets.join().unwrap();
        assert!(shared.wakes.load(Ordering::Relaxed) <= turns);
    });
}

#[test]
fn an_idle_writer_is_woken_for_each_entry() {
    check(2, |shared| {
        shared.wait_for(Sleep::Idle, 1);
        shared.wait_for(Sleep::Idle, 2);
    });
}

#[test]
fn a_crowded_ring_ends_a_nap() {
    check(CROWD, |shared| shared.wait_for(Sleep::Nap, CROWD));
}

#[test]
fn an_entry_that_came_in_a_nap_is_found_behind_it() {
    check(1, |shared| {
        // The nap ends by itself.
        if shared.bell.sleep(Sleep::Nap, || shared.look() >= CROWD) {
            shared.bell.awake();
        }
        shared.wait_for(Sleep::Idle, 1);
    });
}

#[test]
fn a_nap_behind_an_idle_sleep_ends_when_the_ring_crowds() {
    check(CROWD, |shared| {
        shared.wait_for(Sleep::Idle, 1);
        shared.wait_for(Sleep::Nap, CROWD);
    });
}

#[test]
fn a_nap_is_not_ended_by_less_than_a_crowd() {
    loom::model(|| {
        let shared = Shared::new();
        assert!(shared.bell.sleep(Sleep::Nap, || false));
        let packets = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..CROWD - 1).for_each(|_| shared.turn()))
        };
        packets.join().unwrap();
        assert_eq!(shared.wakes.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn nobody_is_woken_who_is_awake() {
    loom::model(|| {
        let shared = Shared::new();
        assert!(shared.bell.sleep(Sleep::Idle, || false));
        shared.bell.awake();
        assert!(!shared.bell.sleep(Sleep::Nap, || true));
        let packets = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..CROWD).for_each(|_| shared.turn()))
        };
        packets.join().unwrap();
        assert_eq!(shared.wakes.load(Ordering::Relaxed), 0);
    });
}
