//! Who waits for what, so that it is woken once, and only if it waits.
//!
//! A shard that is about to wait arms its bell, looks at its rings once more, and only then waits:
//! [`Doorbell::sleep`]. Whoever moved something in a ring asks the bell whether to wake its owner.
//! Each side writes first and reads second, with a sequentially consistent fence in
//! between, so at least one of them sees what the other wrote: the owner finds what was moved, or
//! the mover finds the bell armed. Without the fences both reads may come from before both
//! writes, and the owner sleeps on its mail; `tests/loom` goes through all interleavings.
//!
//! Invariants:
//! * A ring that changed after its owner's last look is followed by a wake.
//! * An armed bell is taken by one mover: one wake for one wait, however many send.
//! * Nobody is woken whose bell is not armed. An owner that something else woke in the same
//!   moment may still get the wake that was on its way; its next wait is then none.
//!
//! It knows neither rings nor how a wait ends, and it blocks nobody. The atomics are those of the
//! module above, because loom brings its own.

use super::atomic::{AtomicBool, Ordering, fence};

/// The bell of one shard; its owner arms it, everybody else asks it.
#[derive(Debug)]
pub(super) struct Doorbell {
    /// The owner waits, or is about to.
    armed: AtomicBool,
    /// By shard: the owner holds mail back until that one has made room.
    wants_room: Box<[AtomicBool]>,
}

impl Doorbell {
    /// A bell that is not armed, among so many shards.
    pub(super) fn new(shards: usize) -> Self {
        let wants_room = (0..shards).map(|_| AtomicBool::new(false)).collect();
        Self { armed: AtomicBool::new(false), wants_room }
    }

    /// Whether room in the ring to `shard` ends the owner's next wait. Said before `sleep`.
    pub(super) fn want_room(&self, shard: usize, wanted: bool) {
        // Nearly always it is so already, and the line stays shared.
        if self.wants_room[shard].load(Ordering::Relaxed) != wanted {
            self.wants_room[shard].store(wanted, Ordering::Relaxed);
        }
    }

    /// The owner is going to wait, unless it finds something to do: whether it may.
    #[must_use]
    pub(super) fn sleep(&self, something_to_do: impl FnOnce() -> bool) -> bool {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Not before: what came between this look and the bell would wake nobody.
        let calm = !something_to_do();
        if !calm {
            self.awake();
        }
        calm
    }

    /// The owner does not wait any more.
    pub(super) fn awake(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Asked after mail was put into a ring to the owner: whether the caller has to wake it.
    #[must_use]
    pub(super) fn mail_came(&self) -> bool {
        fence(Ordering::SeqCst);
        self.take()
    }

    /// Asked after `shard` took mail out of the owner's ring: whether it has to wake the owner.
    #[must_use]
    pub(super) fn room_made(&self, shard: usize) -> bool {
        fence(Ordering::SeqCst);
        self.wants_room[shard].load(Ordering::Relaxed) && self.take()
    }

    /// The flag carries no data, the rings publish their own: relaxed is enough.
    fn take(&self) -> bool {
        let (yes, no) = (true, false);
        // A bell that is not armed is only read: an awake shard costs its senders no locked
        // instruction and keeps its cache line.
        self.armed.load(Ordering::Relaxed)
            && self.armed.compare_exchange(yes, no, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
