//! What clients stored, what they were promised, and what may therefore be found.
//!
//! A value that was acknowledged is owed until it may have expired, or until something happened
//! that the router may lose it by: without a store the end of its shard, with one that syncs by
//! and by an end that came before the next sync. Where every write waits for its sync, nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use molia_router::ids::Key;
use molia_router::router::Keeping;
use molia_router::time::Moment;

use super::verdict::{Oracle, Violation, ensure};

/// Times are whole seconds in places, and are looked at late.
const SLACK: Duration = Duration::from_secs(5);

/// Something that was offered for a key.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) sequence: u64,
    /// When first.
    pub(crate) asked: Moment,
    pub(crate) ttl: Duration,
    /// It says that there is nothing.
    pub(crate) tombstone: bool,
    /// The `Record` message.
    pub(crate) encoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    sequence: u64,
    at: Moment,
}

#[derive(Debug, Default)]
struct Promised {
    offered: Vec<Version>,
    acknowledged: Vec<Acknowledged>,
    /// When it may have been lost last.
    lost: Option<Moment>,
}

impl Promised {
    /// The newest version that is kept, or was until its time was over, since before `since`.
    fn firm(&self, since: Moment) -> Option<u64> {
        let before = self.acknowledged.iter().filter(|it| it.at < since);
        before.map(|it| it.sequence).max()
    }

    /// Until when something of this sequence or a later one is there.
    fn due_until(&self, sequence: u64, slack: Duration) -> Moment {
        let ends = self.offered.iter().filter(|it| it.sequence >= sequence);
        let ends = ends.map(|it| it.asked + it.ttl.saturating_sub(slack));
        ends.min().unwrap_or(Moment::START)
    }

    fn is_tombstone(&self, sequence: u64) -> bool {
        self.offered.iter().any(|it| it.sequence == sequence && it.tombstone)
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Promises {
    keeping: Keeping,
    /// How far the wall clock may jump.
    slack: Duration,
    values: BTreeMap<Key, Promised>,
    /// Every `Provider` message that somebody announced for a key.
    announced: BTreeSet<(Key, Vec<u8>)>,
    keys: Vec<Key>,
    /// Times that something was promised and looked for.
    checks: u64,
}

impl Promises {
    pub(crate) fn new(keeping: Keeping, jump: Duration) -> Self {
        Self {
            keeping,
            slack: SLACK + jump,
            values: BTreeMap::new(),
            announced: BTreeSet::new(),
            keys: Vec::new(),
            checks: 0,
        }
    }

    /// Times that something was promised and looked for.
    pub(crate) fn dues(&self) -> u64 {
        self.checks
    }

    /// Keys that somebody wrote to.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Somebody is about to store this.
    pub(crate) fn offer(&mut self, key: Key, version: Version) {
        if !self.values.contains_key(&key) {
            self.keys.push(key);
        }
        let promised = self.values.entry(key).or_default();
        let same = |it: &Version| it.encoded == version.encoded;
        if !promised.offered.iter().any(same) {
            promised.offered.push(version);
        }
    }

    pub(crate) fn announce(&mut self, key: Key, encoded: Vec<u8>) {
        if !self.announced.iter().any(|(of, _)| *of == key) {
            self.keys.push(key);
        }
        self.announced.insert((key, encoded));
    }

    /// The router said that it keeps what it was asked to keep at `since`.
    pub(crate) fn acknowledge(&mut self, now: Moment, since: Moment, key: &Key, sequence: u64) {
        let strict = self.keeping == Keeping::Strict;
        if let Some(promised) = self.values.get_mut(key)
            && (strict || promised.lost.is_none_or(|lost| lost < since))
        {
            promised.acknowledged.push(Acknowledged { sequence, at: now });
        }
    }

    /// Of these keys everything is gone that was not safe by then.
    pub(crate) fn lose(&mut self, now: Moment, safe: Moment, concerned: impl Fn(&Key) -> bool) {
        if self.keeping == Keeping::Strict {
            return;
        }
        for (_, promised) in self.values.iter_mut().filter(|(key, _)| concerned(key)) {
            promised.acknowledged.retain(|it| it.at < safe);
            promised.lost = Some(now);
        }
    }

    /// Whether a newer version was offered than this one, so that this may be stale.
    pub(crate) fn is_superseded(&self, key: &Key, sequence: u64) -> bool {
        let promised = self.values.get(key);
        promised.is_some_and(|it| it.offered.iter().any(|it| it.sequence > sequence))
    }

    /// What was found by somebody who asked at `since`: the `Record` message, if any.
    pub(crate) fn check_found(
        &mut self,
        now: Moment,
        since: Moment,
        key: &Key,
        found: Option<&[u8]>,
    ) -> Result<(), Violation> {
        self.check(now, since, key, found, false)
    }

    /// What is kept, in a router or behind an end of it; tombstones, too.
    pub(crate) fn check_kept(
        &mut self,
        now: Moment,
        kept: &BTreeMap<Key, Vec<u8>>,
    ) -> Result<(), Violation> {
        for key in kept.keys() {
            ensure(self.values.contains_key(key), Oracle::Forged, now, || {
                format!("{key:?} is kept, which nobody stored")
            })?;
        }
        for key in self.values.keys().copied().collect::<Vec<_>>() {
            self.check(now, now, &key, kept.get(&key).map(Vec::as_slice), true)?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        now: Moment,
        since: Moment,
        key: &Key,
        found: Option<&[u8]>,
        whole: bool,
    ) -> Result<(), Violation> {
        let Some(promised) = self.values.get(key) else {
            return ensure(found.is_none(), Oracle::Forged, now, || {
                format!("{key:?} has a value, and nobody stored one")
            });
        };
        let firm = promised.firm(since);
        self.checks += u64::from(firm.is_some());
        if let Some(found) = found {
            let version = promised.offered.iter().find(|it| it.encoded == found);
            let Some(version) = version else {
                let what = format!("{key:?} has a value that nobody stored: {found:02x?}");
                return Err(Violation { oracle: Oracle::Forged, at: now, what });
            };
            return ensure(
                firm.is_none_or(|firm| version.sequence >= firm),
                Oracle::Forged,
                now,
                || format!("{key:?} went back to {} from {firm:?}", version.sequence),
            );
        }
        let Some(firm) = firm else { return Ok(()) };
        let newest = promised.offered.iter().map(|it| it.sequence).max().unwrap_or(firm);
        let nothing = !whole && (firm..=newest).any(|it| promised.is_tombstone(it));
        let due = now < promised.due_until(firm, self.slack) && !nothing;
        ensure(!due, Oracle::Lasting, now, || {
            let Promised { acknowledged, lost, .. } = promised;
            format!("{key:?} is gone: {firm} was promised: {acknowledged:?}, lost at {lost:?}")
        })
    }

    /// Who was found to provide a key.
    pub(crate) fn check_provider(
        &self,
        now: Moment,
        key: &Key,
        encoded: Vec<u8>,
    ) -> Result<(), Violation> {
        let place = (*key, encoded);
        ensure(self.announced.contains(&place), Oracle::Forged, now, || {
            format!("nobody announced {place:02x?}")
        })
    }
}
