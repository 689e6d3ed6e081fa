//! Values by key.

use std::sync::Arc;

use super::ledger::{Cost, Ledger, Limits, Payer, Share};
use super::{Outcome, SWEEP_MAX, Why};
use crate::bucket::Keyed;
use crate::ids::Key;
use crate::overlay::deadlines::Deadlines;
use crate::overlay::slots::{Slot, Slots};
use crate::time::Moment;

/// What tells a value of a key from another one.
///
/// The owner is not part of it: the key is a digest of the owner, and who offers has checked that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The key is the digest of the value: there can be only one.
    Immutable,
    /// Its owner signed it.
    Signed {
        /// Counts the owner's versions.
        sequence: u64,
        /// BLAKE3 of the value.
        digest: [u8; 32],
        /// The value is empty: it says that there is nothing (any more).
        tombstone: bool,
    },
}

/// A value that was kept, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) payer: Payer,
    pub(super) version: Version,
    pub(super) expires: Moment,
    pub(super) encoded: &'a Arc<[u8]>,
}

#[derive(Debug)]
struct Kept {
    payer: Payer,
    version: Version,
    expires: Moment,
    encoded: Arc<[u8]>,
}

impl Kept {
    fn cost(&self) -> Cost {
        Cost { payer: self.payer, bytes: self.encoded.len() }
    }

    fn value(&self) -> Value<'_> {
        let Self { payer, version, expires, ref encoded } = *self;
        Value { payer, version, expires, encoded }
    }
}

/// What is offered, seen from what is there.
enum Relation {
    Newer,
    Same,
    Not(Outcome),
}

#[derive(Debug)]
pub(super) struct Values {
    ledger: Ledger,
    kept: Slots<Key, Kept>,
    deadlines: Deadlines,
}

impl Values {
    pub(super) const fn bytes(limits: &Limits) -> usize {
        let entries = limits.total.entries;
        let tables = Slots::<Key, Kept>::bytes(entries) + Deadlines::bytes(entries);
        tables + Ledger::bytes(entries) + limits.total.bytes
    }

    pub(super) fn new(limits: Limits, keyed: Keyed) -> Self {
        let entries = limits.total.entries;
        let (kept, deadlines) = (Slots::new(entries, keyed), Deadlines::new(entries));
        Self { ledger: Ledger::new(limits, keyed), kept, deadlines }
    }

    pub(super) fn store(&mut self, now: Moment, key: &Key, offer: &Value<'_>) -> Outcome {
        if offer.expires <= now {
            return Outcome::Rejected(Why::Expired);
        }
        let mut known = self.kept.find(key);
        if let Some(slot) = known.filter(|slot| self.kept[*slot].expires <= now) {
            self.take_out(slot);
            known = None;
        }
        let outcome = match known.map(|slot| self.relation(slot, offer)) {
            None | Some(Relation::Newer) => Outcome::Stored,
            Some(Relation::Same) => Outcome::Refreshed,
            Some(Relation::Not(outcome)) => return outcome,
        };
        let cost = Cost { payer: offer.payer, bytes: offer.encoded.len() };
        let old = known.map(|slot| self.kept[slot].cost());
        if let Err(why) = self.ledger.fits(&cost, old.as_ref()) {
            return Outcome::Rejected(why);
        }
        if let Some(old) = old {
            self.ledger.discharge(&old);
        }
        self.ledger.charge(&cost);
        let Value { payer, version, expires, encoded } = *offer;
        let new = Kept { payer, version, expires, encoded: Arc::clone(encoded) };
        let slot = match known {
            Some(slot) => {
                self.kept[slot] = new;
                slot
            }
            None => self.kept.insert(*key, new),
        };
        self.deadlines.set(slot, expires);
        outcome
    }

    /// Takes out what `version` takes the place of. Returns whether there was something.
    pub(super) fn outdate(&mut self, key: &Key, version: Version) -> bool {
        let held = self.kept.find(key);
        let older = held.filter(|slot| match (self.kept[*slot].version, version) {
            (Version::Immutable, Version::Signed { .. }) => true,
            (Version::Signed { sequence: held, .. }, Version::Signed { sequence, .. }) => {
                sequence > held
            }
            (_, Version::Immutable) => false,
        });
        older.map(|slot| self.take_out(slot)).is_some()
    }

    /// What is kept under `key`, unless it says that there is nothing.
    pub(super) fn find(&self, now: Moment, key: &Key) -> Option<&Arc<[u8]>> {
        let kept = &self.kept[self.kept.find(key)?];
        let tombstone = matches!(kept.version, Version::Signed { tombstone: true, .. });
        (!tombstone && kept.expires > now).then_some(&kept.encoded)
    }

    /// What is kept under `key`.
    pub(super) fn get(&self, key: &Key) -> Option<Value<'_>> {
        self.kept.find(key).map(|slot| self.kept[slot].value())
    }

    /// Takes out what has expired, a bounded number. Returns how many.
    pub(super) fn sweep(&mut self, now: Moment) -> usize {
        let due = (0..SWEEP_MAX).map_while(|_| {
            let slot = self.deadlines.due(now)?;
            self.take_out(slot);
            Some(())
        });
        due.count()
    }

    pub(super) fn next_deadline(&self) -> Moment {
        self.deadlines.next_deadline()
    }

    pub(super) fn used(&self) -> Share {
        self.ledger.used()
    }

    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = (usize, &Key, Value<'_>)> {
        self.kept.iter_from(from).map(|(slot, key, kept)| (slot.index(), key, kept.value()))
    }

    fn relation(&self, slot: Slot, offer: &Value<'_>) -> Relation {
        let held = &self.kept[slot];
        let same = match (held.version, offer.version) {
            (Version::Immutable, Version::Immutable) => true,
            (Version::Immutable, Version::Signed { .. }) => false,
            (Version::Signed { .. }, Version::Immutable) => {
                return Relation::Not(Outcome::Rejected(Why::Owned));
            }
            (
                Version::Signed { sequence: held, digest, .. },
                Version::Signed { sequence, digest: offered, .. },
            ) => match (sequence < held, sequence == held, digest == offered) {
                (true, ..) => return Relation::Not(Outcome::Stale),
                (_, true, false) => return Relation::Not(Outcome::Equivocation),
                (_, same, _) => same,
            },
        };
        match same {
            false => Relation::Newer,
            true if offer.expires > held.expires => Relation::Same,
            true => Relation::Not(Outcome::Unchanged),
        }
    }

    fn take_out(&mut self, slot: Slot) {
        self.deadlines.cancel(slot);
        let (_, gone) = self.kept.remove(slot);
        self.ledger.discharge(&gone.cost());
    }
}
