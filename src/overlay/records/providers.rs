//! Who provides a key.
//!
//! The providers of a key are a list, the one that came or was renewed last first. When a key has
//! enough of them, one goes as if the newcomer was in already: **of the network that is present
//! most, the one that expires first**, which may be the newcomer. So who wants all places of a key
//! needs as many networks as there are places, and stays only as long as it keeps renewing.

use std::cmp::Reverse;
use std::iter::successors;
use std::sync::Arc;

use super::ledger::{Cost, Ledger, Limits, Payer, Share};
use super::{Outcome, SWEEP_MAX, Why};
use crate::bucket::Keyed;
use crate::ids::{Key, PeerId};
use crate::net::Prefix;
use crate::overlay::deadlines::Deadlines;
use crate::overlay::slots::{Slot, Slots};
use crate::time::Moment;

/// A provider that was kept, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Provider<'a> {
    pub(super) peer: PeerId,
    pub(super) network: Option<Prefix>,
    pub(super) sequence: u64,
    pub(super) expires: Moment,
    pub(super) encoded: &'a Arc<[u8]>,
}

impl Provider<'_> {
    fn cost(&self) -> Cost {
        let payer = Payer { peer: Some(self.peer), network: self.network };
        Cost { payer, bytes: self.encoded.len() }
    }
}

#[derive(Debug)]
struct Kept {
    network: Option<Prefix>,
    sequence: u64,
    expires: Moment,
    encoded: Arc<[u8]>,
    newer: Option<Slot>,
    older: Option<Slot>,
}

/// The list of a key; never empty.
#[derive(Clone, Copy, Debug)]
struct Topic {
    newest: Option<Slot>,
    len: usize,
}

#[derive(Debug)]
pub(super) struct Providers {
    per_key: usize,
    ledger: Ledger,
    topics: Slots<Key, Topic>,
    /// By topic and peer.
    kept: Slots<(Slot, PeerId), Kept>,
    deadlines: Deadlines,
}

impl Providers {
    pub(super) const fn bytes(limits: &Limits) -> usize {
        let entries = limits.total.entries;
        let lists = Slots::<Key, Topic>::bytes(entries);
        let tables = Slots::<(Slot, PeerId), Kept>::bytes(entries) + Deadlines::bytes(entries);
        lists + tables + Ledger::bytes(entries) + limits.total.bytes
    }

    pub(super) fn new(limits: Limits, per_key: usize, keyed: Keyed) -> Self {
        assert!(per_key > 0, "a key without places could not be provided");
        let entries = limits.total.entries;
        Self {
            per_key,
            ledger: Ledger::new(limits, keyed),
            // Every topic has a provider.
            topics: Slots::new(entries, keyed),
            kept: Slots::new(entries, keyed),
            deadlines: Deadlines::new(entries),
        }
    }

    pub(super) fn announce(&mut self, now: Moment, key: &Key, offer: &Provider<'_>) -> Outcome {
        if offer.expires <= now {
            return Outcome::Rejected(Why::Expired);
        }
        let (out, outcome) = match self.place(now, key, offer) {
            Ok(place) => place,
            Err(outcome) => return outcome,
        };
        match self.add(key, offer, out) {
            Ok(()) => outcome,
            Err(why) => Outcome::Rejected(why),
        }
    }

    /// The providers of a key, newest first.
    pub(super) fn find(&self, now: Moment, key: &Key) -> Listed<'_> {
        let next = self.topics.find(key).and_then(|topic| self.topics[topic].newest);
        Listed { now, providers: self, next }
    }

    /// What `peer` announced for `key`.
    pub(super) fn get(&self, key: &Key, peer: &PeerId) -> Option<Provider<'_>> {
        let topic = self.topics.find(key)?;
        self.kept.find(&(topic, *peer)).map(|slot| self.provider(slot))
    }

    /// Whether a key has as many providers as it may have.
    pub(super) fn is_full(&self, key: &Key) -> bool {
        self.topics.find(key).is_some_and(|topic| self.topics[topic].len >= self.per_key)
    }

    /// Takes out what `peer` announced for `key`. Returns whether there was something.
    pub(super) fn remove(&mut self, key: &Key, peer: &PeerId) -> bool {
        let topic = self.topics.find(key);
        let slot = topic.and_then(|topic| self.kept.find(&(topic, *peer)));
        slot.map(|slot| self.take_out(slot)).is_some()
    }

    /// Takes out what `peer` announced for `key` before its announcement of this sequence. Returns
    /// whether there was something.
    pub(super) fn outdate(&mut self, key: &Key, peer: &PeerId, sequence: u64) -> bool {
        self.get(key, peer).is_some_and(|held| held.sequence < sequence) && self.remove(key, peer)
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

    pub(super) fn iter_from(
        &self,
        from: usize,
    ) -> impl Iterator<Item = (usize, &Key, Provider<'_>)> {
        self.kept.iter_from(from).map(|(slot, (topic, _), _)| {
            (slot.index(), self.topics.key(*topic), self.provider(slot))
        })
    }

    /// Whose place a provider takes, if anybody's, and what to call that; or why it gets none.
    fn place(
        &self,
        now: Moment,
        key: &Key,
        offer: &Provider<'_>,
    ) -> Result<(Option<Slot>, Outcome), Outcome> {
        let Some(topic) = self.topics.find(key) else { return Ok((None, Outcome::Stored)) };
        if let Some(slot) = self.kept.find(&(topic, offer.peer)) {
            let held = self.provider(slot);
            return match offer.sequence {
                _ if held.expires <= now => Ok((Some(slot), Outcome::Stored)),
                sequence if sequence > held.sequence => Ok((Some(slot), Outcome::Stored)),
                sequence if sequence < held.sequence => Err(Outcome::Stale),
                _ if offer.encoded == held.encoded => Err(Outcome::Unchanged),
                _ => Err(Outcome::Equivocation),
            };
        }
        if self.topics[topic].len < self.per_key {
            return Ok((None, Outcome::Stored));
        }
        let Some(out) = self.crowded(now, topic, offer) else {
            return Err(Outcome::Rejected(Why::KeyFull));
        };
        let Provider { peer, expires, .. } = self.provider(out);
        let outcome = if expires <= now { Outcome::Stored } else { Outcome::Displaced(peer) };
        Ok((Some(out), outcome))
    }

    /// Puts a provider at the head of its key's list, and takes `out` from there.
    fn add(&mut self, key: &Key, offer: &Provider<'_>, out: Option<Slot>) -> Result<(), Why> {
        let cost = offer.cost();
        let old = out.map(|slot| self.provider(slot).cost());
        self.ledger.fits(&cost, old.as_ref())?;
        if let Some(out) = out {
            self.take_out(out);
        }
        self.ledger.charge(&cost);
        let topic = match self.topics.find(key) {
            Some(topic) => topic,
            None => self.topics.insert(*key, Topic { newest: None, len: 0 }),
        };
        let Topic { newest: older, len } = self.topics[topic];
        let Provider { peer, network, sequence, expires, encoded } = *offer;
        let encoded = Arc::clone(encoded);
        let new = Kept { network, sequence, expires, encoded, newer: None, older };
        let slot = self.kept.insert((topic, peer), new);
        if let Some(older) = older {
            self.kept[older].newer = Some(slot);
        }
        self.topics[topic] = Topic { newest: Some(slot), len: len + 1 };
        self.deadlines.set(slot, expires);
        Ok(())
    }

    /// Who goes so that the newcomer can come; `None` if it is the newcomer.
    fn crowded(&self, now: Moment, topic: Slot, newcomer: &Provider<'_>) -> Option<Slot> {
        let list = || self.list(topic);
        let places = |network| {
            let present = list().filter(|slot| self.kept[*slot].network == network).count();
            present + usize::from(newcomer.network == network)
        };
        let rank = |slot: Option<Slot>| {
            let (network, expires) = match slot.map(|slot| &self.kept[slot]) {
                Some(kept) => (kept.network, kept.expires),
                None => (newcomer.network, newcomer.expires),
            };
            (expires <= now, places(network), Reverse(expires))
        };
        // Of equals the last, who came first.
        std::iter::once(None).chain(list().map(Some)).max_by_key(|slot| rank(*slot)).flatten()
    }

    /// A key's list, newest first.
    fn list(&self, topic: Slot) -> impl Iterator<Item = Slot> {
        successors(self.topics[topic].newest, |slot| self.kept[*slot].older)
    }

    fn provider(&self, slot: Slot) -> Provider<'_> {
        let (_, peer) = *self.kept.key(slot);
        let Kept { network, sequence, expires, ref encoded, .. } = self.kept[slot];
        Provider { peer, network, sequence, expires, encoded }
    }

    fn take_out(&mut self, slot: Slot) {
        let cost = self.provider(slot).cost();
        self.ledger.discharge(&cost);
        self.deadlines.cancel(slot);
        let ((topic, _), Kept { newer, older, .. }) = self.kept.remove(slot);
        if let Some(older) = older {
            self.kept[older].newer = newer;
        }
        let list = &mut self.topics[topic];
        list.len -= 1;
        match newer {
            Some(newer) => self.kept[newer].older = older,
            None => list.newest = older,
        }
        if list.len == 0 {
            self.topics.remove(topic);
        }
    }
}

/// Encoded providers of a key, newest first.
#[derive(Clone, Debug)]
pub struct Listed<'r> {
    now: Moment,
    providers: &'r Providers,
    next: Option<Slot>,
}

impl<'r> Iterator for Listed<'r> {
    type Item = &'r Arc<[u8]>;

    fn next(&mut self) -> Option<&'r Arc<[u8]>> {
        while let Some(slot) = self.next {
            let kept = &self.providers.kept[slot];
            self.next = kept.older;
            if kept.expires > self.now {
                return Some(&kept.encoded);
            }
        }
        None
    }
}
