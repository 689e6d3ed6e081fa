//! No wake-up is lost and none is given twice, whatever order the threads run in and however
//! late they see what others wrote.
//!
//! A ring is a counter here, published and read as `rtrb` does it: a release store by one side, an
//! acquire load by the other. Who sleeps on what is there waits for ever, and loom reports it.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify, atomic};
use loom::thread;

#[path = "../../src/shard/mailbox/doorbell.rs"]
mod doorbell;

use doorbell::Doorbell;

/// Times that a thread is interrupted, at most, where there are many of them.
const PREEMPTIONS: usize = 4;

/// Two rings, the bell of who waits for them, and how often it was woken.
struct Shared {
    bell: Doorbell,
    waker: Notify,
    rings: [AtomicUsize; 2],
    wakes: AtomicUsize,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bell: Doorbell::new(3),
            waker: Notify::new(),
            rings: [AtomicUsize::new(0), AtomicUsize::new(0)],
            wakes: AtomicUsize::new(0),
        })
    }

    fn publish(&self, ring: usize) {
        let before = self.rings[ring].load(Ordering::Relaxed);
        self.rings[ring].store(before + 1, Ordering::Release);
    }

    fn look(&self) -> usize {
        self.rings.iter().map(|ring| ring.load(Ordering::Acquire)).sum()
    }

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.waker.notify();
    }

    /// Waits as a shard does until `wanted` is there.
    fn wait_for(&self, wanted: usize) {
        while self.look() < wanted {
            if self.bell.sleep(|| self.look() >= wanted) {
                self.waker.wait();
                self.bell.awake();
            }
        }
    }
}

#[test]
fn mail_wakes_who_waits_for_it() {
    let mut model = loom::model::Builder::new();
    // Three threads without a bound take minutes; two of them, below, need none.
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(|| {
        let shared = Shared::new();
        let senders = [0, 1].map(|ring| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.publish(ring);
                if shared.bell.mail_came() {
                    shared.wake();
                }
            })
        });
        shared.wait_for(2);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_sender_wakes_for_each_of_its_messages() {
    loom::model(|| {
        let shared = Shared::new();
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..2 {
                    shared.publish(0);
                    if shared.bell.mail_came() {
                        shared.wake();
                    }
                }
            })
        };
        shared.wait_for(1);
        shared.wait_for(2);
        sender.join().unwrap();
    });
}

#[test]
fn room_wakes_who_holds_mail_back() {
    loom::model(|| {
        let shared = Shared::new();
        let receiver = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.publish(0);
                if shared.bell.room_made(1) {
                    shared.wake();
                }
            })
        };
        shared.bell.want_room(1, true);
        shared.wait_for(1);
        receiver.join().unwrap();
    });
}

#[test]
fn one_wait_is_woken_once_and_only_for_what_it_waits_for() {
    loom::model(|| {
        let shared = Shared::new();
        shared.bell.want_room(1, true);
        assert!(shared.bell.sleep(|| false));
        let movers = [1, 2].map(|shard| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.publish(shard - 1);
                let room = shared.bell.room_made(shard);
                assert!(!room || shard == 1, "nobody waits for room from {shard}");
                if room || shared.bell.mail_came() {
                    shared.wake();
                }
            })
        });
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        assert_eq!(shared.wakes.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn nobody_is_woken_who_does_not_wait() {
    loom::model(|| {
        let shared = Shared::new();
        assert!(shared.bell.sleep(|| false));
        shared.bell.awake();
        assert!(!shared.bell.sleep(|| true));
        shared.bell.want_room(1, true);
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.publish(0);
                assert!(!shared.bell.mail_came() && !shared.bell.room_made(1));
            })
        };
        sender.join().unwrap();
    });
}
