//! Stamps that were spent: each pays for one write.
//!
//! What a stamp is and whether it pays is [`stamp`]'s to say. It is good for its own minute and the
//! next, so what was spent in those two is remembered, and nothing older.
//!
//! Invariants:
//! * **No stamp is taken twice**: the memory of a minute never forgets; when it is full, stamps of
//!   that minute are refused. It keeps 63 bits of each, so a stamp that was never spent is taken for
//!   one that was about once in 2^47; the other way round never.
//! * What is cheap comes first: the epoch, then the memory, and only then the digest; a stamp that
//!   does not pay leaves no trace.
//! * A wall clock that is set back by up to [`BACK_MAX`] minutes changes nothing, as if it had
//!   stood still. Set back further, it is believed; stamps of minutes that come again can then be
//!   spent again.
//! * Allocates at construction only. A new minute costs forgetting an old one, a fill of its table.

use crate::bucket::Keyed;
use crate::ids::{Key, PeerId};
use crate::signing::stamp;
use crate::time::Now;
use crate::wire::body::Stamp;

/// Minutes by which the wall clock may be set back without forgetting what was spent.
pub const BACK_MAX: u32 = 2;

/// Why a stamp is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Neither of this minute nor of the one before.
    Outdated,
    /// It was spent already.
    Spent,
    /// Too few zero bits.
    Unpaid,
    /// No more stamps of its minute can be remembered.
    Full,
}

impl Refused {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Outdated, Self::Spent, Self::Unpaid, Self::Full];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Outdated => "outdated",
            Self::Spent => "spent",
            Self::Unpaid => "unpaid",
            Self::Full => "full",
        }
    }
}

/// What was spent.
#[derive(Debug)]
pub struct Stamps {
    router: PeerId,
    keyed: Keyed,
    /// The newest minute there was.
    newest: u32,
    /// By the parity of the minute.
    minutes: [Minute; 2],
}

impl Stamps {
    /// Memory for so many stamps a minute.
    pub const fn bytes(per_minute: usize) -> usize {
        2 * Minute::places(per_minute) * size_of::<u64>()
    }

    /// Remembers `per_minute` stamps of each minute; `router` is who they are paid to.
    ///
    /// # Panics
    /// If `per_minute` is zero.
    pub fn new(router: PeerId, per_minute: usize, keyed: Keyed) -> Self {
        assert!(per_minute > 0, "a memory without places could take no stamps");
        let minutes = [Minute::new(per_minute), Minute::new(per_minute)];
        Self { router, keyed, newest: 0, minutes }
    }

    /// Takes a stamp for `key` that pays `bits`, once.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn spend(&mut self, now: Now, key: &Key, spent: &Stamp, bits: u32) -> Result<(), Refused> {
        let minute = stamp::epoch(now.unix_s());
        let back = self.newest.saturating_sub(minute);
        self.newest = if back <= BACK_MAX { self.newest.max(minute) } else { minute };
        if self.newest.checked_sub(spent.epoch).is_none_or(|age| age > 1) {
            return Err(Refused::Outdated);
        }
        let mark = self.keyed.hash(&(key, spent.epoch, spent.nonce));
        let minute = &mut self.minutes[usize::from(spent.epoch % 2 == 1)];
        minute.begin(spent.epoch);
        let place = minute.place(mark)?;
        if !stamp::paid(spent, key, &self.router, bits) {
            return Err(Refused::Unpaid);
        }
        minute.remember(place, mark);
        Ok(())
    }

    /// Stamps that are remembered.
    pub const fn len(&self) -> usize {
        self.minutes[0].len + self.minutes[1].len
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The stamps of one minute: an open-addressing table, at most half full, that only grows until
/// it is forgotten as a whole.
#[derive(Debug)]
struct Minute {
    epoch: u32,
    len: usize,
    most: usize,
    /// Marks; 0 is an empty place.
    table: Box<[u64]>,
}

impl Minute {
    const fn places(per_minute: usize) -> usize {
        (2 * per_minute).next_power_of_two()
    }

    fn new(per_minute: usize) -> Self {
        let table = vec![0; Self::places(per_minute)].into();
        Self { epoch: 0, len: 0, most: per_minute, table }
    }

    /// Forgets everything, unless it is of the minute `epoch`.
    fn begin(&mut self, epoch: u32) {
        if self.epoch != epoch && self.len > 0 {
            self.table.fill(0);
            self.len = 0;
        }
        self.epoch = epoch;
    }

    /// The empty place for a mark that is not there.
    fn place(&self, mark: u64) -> Result<usize, Refused> {
        let mask = self.table.len() - 1;
        let mut place = usize::try_from(mark >> 1).unwrap_or(usize::MAX) & mask;
        while self.table[place] != 0 {
            if self.table[place] == mark | 1 {
                return Err(Refused::Spent);
            }
            place = (place + 1) & mask;
        }
        if self.len == self.most { Err(Refused::Full) } else { Ok(place) }
    }

    fn remember(&mut self, place: usize, mark: u64) {
        self.table[place] = mark | 1;
        self.len += 1;
    }
}

#[cfg(test)]
mod tests;
