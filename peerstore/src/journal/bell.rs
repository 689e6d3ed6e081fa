//! Whether the writer sleeps, and on what, so that it is woken only if it has to know.
//!
//! The writer arms its bell, looks at the ring once more, and only then parks: [`Bell::sleep`].
//! The loop moves its entries into the ring and asks the bell: [`Bell::came`]. Each side writes
//! first and reads second, with a sequentially consistent fence in between. In the order of the two
//! fences, one is first:
//! * The loop's is: the writer's look, behind its own fence, sees the entries, and it does not park.
//! * The writer's is: the loop sees the bell armed, takes it, and unparks the writer. If that is not
//!   parked yet, it keeps the token and returns from its park at once.
//!
//! Without the fences both reads may come from before both writes, and the writer sleeps on a full
//! ring. `tests/loom` goes through all interleavings.
//!
//! A writer that naps has entries in hand and wakes by itself when they are due; more of them can
//! wait for that, unless the ring crowds. The loop may think it more crowded than it is, never
//! less, because the writer takes nothing out while it sleeps.
//!
//! Invariants:
//! * A ring with something in it is followed by a wake of a writer that is idle, and a ring that is
//!   crowded by one of a writer that naps.
//! * An armed bell is taken once. A writer that woke by itself meanwhile gets a token that it
//!   does not need: its next sleep is then none.
//!
//! The flag carries no data, the ring publishes its own: relaxed is enough beside the fences.

use super::atomic::{AtomicU8, Ordering, fence};

/// What a writer sleeps on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sleep {
    /// Anything that comes wakes it.
    Idle = 1,
    /// A crowded ring wakes it.
    Nap = 2,
}

const AWAKE: u8 = 0;
const IDLE: u8 = Sleep::Idle as u8;
const NAP: u8 = Sleep::Nap as u8;

/// The bell; its writer arms it, the loop asks it.
#[derive(Debug)]
pub(super) struct Bell(AtomicU8);

impl Bell {
    /// One that is not armed.
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(AWAKE))
    }

    /// The writer is going to park, unless it finds something to do: whether it may.
    #[must_use]
    pub(super) fn sleep(&self, on: Sleep, something_to_do: impl FnOnce() -> bool) -> bool {
        self.0.store(on as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Not before: what came between this look and the bell would wake nobody.
        let calm = !something_to_do();
        if !calm {
            self.awake();
        }
        calm
    }

    /// The writer does not sleep any more.
    pub(super) fn awake(&self) {
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Asked after entries were put into the ring: whether the caller has to wake the writer.
    #[must_use]
    pub(super) fn came(&self, crowded: impl FnOnce() -> bool) -> bool {
        fence(Ordering::SeqCst);
        match self.0.load(Ordering::Relaxed) {
            IDLE => self.take(IDLE),
            NAP => crowded() && self.take(NAP),
            _ => false,
        }
    }

    fn take(&self, armed: u8) -> bool {
        self.0.compare_exchange(armed, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
