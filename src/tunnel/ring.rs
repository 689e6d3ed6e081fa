//! The keys of a session: a mirror of the ring that BoringTun keeps and does not show.
//!
//! BoringTun has eight places, a key's being its receiver index modulo 8, and
//! seals under "the current one". Three rules of its own decide which that is
//! and are repeated here, so that nothing is ever asked of it that would make it
//! queue, initiate, or seal under a key that the peer may not have:
//!
//! 1. a new key goes into its place, whatever was there, even the current one;
//! 2. the first authentic data under a key makes it current, if the key in the
//!    current one's place is not newer; "current" is an index, so after rule 1
//!    the place may hold a key that nobody has confirmed: no sealing then;
//! 3. keys older than 180 s are not used. BoringTun enforces that only when its
//!    timers are updated, which is too late; it is enforced here, per key.

use std::time::Duration;

use crate::drops::Drop;
use crate::net::Address;
use crate::time::Moment;

/// Keys of one session at a time; BoringTun's number.
pub(super) const KEYS: usize = 8;
/// WireGuard's REJECT_AFTER_TIME: a key is not used for longer.
pub(super) const KEY_LIFETIME: Duration = Duration::from_secs(180);

/// What is known of a key without knowing it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its receiver index.
    pub(super) index: u32,
    /// Counts the handshakes of the session from 1; 0 is an empty place.
    pub(super) order: u32,
    pub(super) established: Moment,
    /// One above the highest counter received; 0 until the initiator has confirmed the key.
    pub(super) next_counter: u64,
    /// Where the handshake response went.
    pub(super) answered: Address,
}

const EMPTY: Key = Key {
    index: 0,
    order: 0,
    established: Moment::START,
    next_counter: 0,
    answered: Address([0; 18]),
};

impl Key {
    fn usable(&self, now: Moment) -> bool {
        now.since(self.established) < KEY_LIFETIME
    }

    pub(super) fn confirmed(&self) -> bool {
        self.next_counter > 0
    }
}

/// All keys of a session.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    keys: [Key; KEYS],
    /// Receiver index of the key that the engine seals under.
    current: u32,
    handshakes: u32,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self { keys: [EMPTY; KEYS], current: 0, handshakes: 0 }
    }

    /// A key was made.
    pub(super) fn add(&mut self, established: Moment, index: u32, answered: Address) {
        self.handshakes = self.handshakes.saturating_add(1);
        let order = self.handshakes;
        *self.place(index) = Key { index, order, established, next_counter: 0, answered };
    }

    /// The engine lost its keys.
    pub(super) fn clear(&mut self) {
        self.keys = [EMPTY; KEYS];
        self.current = 0;
    }

    /// The key for data with this receiver index.
    ///
    /// # Errors
    /// [`Drop::NoSession`], [`Drop::ExpiredKeys`].
    #[inline]
    pub(super) fn receiving(&self, now: Moment, index: u32) -> Result<&Key, Drop> {
        let key = &self.keys[index as usize % KEYS];
        if key.order == 0 || key.index != index {
            return Err(Drop::NoSession);
        }
        if key.usable(now) { Ok(key) } else { Err(Drop::ExpiredKeys) }
    }

    /// Data under this index turned out authentic.
    #[inline]
    pub(super) fn authentic(&mut self, index: u32, counter: u64) {
        let key = self.place(index);
        key.next_counter = key.next_counter.max(counter.saturating_add(1));
        let order = key.order;
        if self.current != index && order >= self.place(self.current).order {
            self.current = index;
        }
    }

    /// Whether the engine may seal now.
    ///
    /// # Errors
    /// [`Drop::Unconfirmed`], [`Drop::ExpiredKeys`].
    #[inline]
    pub(super) fn sending(&self, now: Moment) -> Result<(), Drop> {
        let key = &self.keys[self.current as usize % KEYS];
        if key.index != self.current || !key.confirmed() {
            return Err(Drop::Unconfirmed);
        }
        if key.usable(now) { Ok(()) } else { Err(Drop::ExpiredKeys) }
    }

    /// When the last confirmed key will be too old, and when the last key was made at all.
    pub(super) fn ages(&self) -> (Option<Moment>, Moment) {
        let confirmed = self.keys.iter().filter(|key| key.confirmed());
        let dies = confirmed.map(|key| key.established + KEY_LIFETIME).max();
        let made = self.keys.iter().filter(|key| key.order > 0).map(|key| key.established).max();
        (dies, made.unwrap_or(Moment::START))
    }

    fn place(&mut self, index: u32) -> &mut Key {
        &mut self.keys[index as usize % KEYS]
    }
}
