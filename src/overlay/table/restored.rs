//! Peers that are known from before the router started, and what is to be kept of peers for the
//! next time.
//!
//! A restored peer is listed without a session: it was there for minutes and is worth a try, even
//! before it has found back. It takes free places only, is the first to be asked whether it
//! is alive when its bucket is full, and has [`RETURN_WITHIN`] to come back.

use std::time::Duration;

use super::{Entry, EntryIdx, Room, Stored, Table, TableEvent};
use crate::ids::{PeerId, WgKey};
use crate::time::{Moment, Now};
use crate::wire::body::Peer;

/// A peer that was heard of so long after it was met is verified: it did not come and go.
pub const VERIFIED_AFTER: Duration = Duration::from_secs(180);
/// How long ago a peer may have been heard of to be restored.
pub const RESTORED_AGE_MAX: Duration = Duration::from_secs(86_400);
/// How often a peer is recorded that stays as it is.
pub const RECORD_INTERVAL: Duration = Duration::from_secs(3600);
/// Restored peers that one call looks at.
const LOOKED_AT_MAX: usize = 64;
/// How long a restored peer stays listed without a session.
pub const RETURN_WITHIN: Duration = Duration::from_secs(15 * 60);

/// An entry and what else is known of its peer.
#[derive(Clone, Copy, Debug)]
pub struct Known<'t> {
    /// Its number, until the table changes.
    pub index: usize,
    /// Who, and when it was met.
    pub entry: &'t Entry,
    /// When it was last heard of, in seconds since 1970.
    pub heard_unix_s: u64,
}

impl Known<'_> {
    /// Whether it did not come and go.
    pub fn is_verified(&self) -> bool {
        self.heard_unix_s.saturating_sub(self.entry.met_unix_s) >= VERIFIED_AFTER.as_secs()
    }
}

impl Table {
    /// Lists a peer that was last heard of at `heard_unix_s`, before the router started, if it is
    /// verified, was heard of lately enough and there is a free place for it. Who is listed already
    /// stays as it is, but keeps the earlier time at which it was met. Returns whether the
    /// peer was listed by this.
    pub fn restore(&mut self, now: Now, entry: Entry, heard_unix_s: u64) -> bool {
        let known_s = heard_unix_s.saturating_sub(entry.met_unix_s);
        let age_s = now.unix_s().saturating_sub(heard_unix_s);
        if known_s < VERIFIED_AFTER.as_secs() || age_s > RESTORED_AGE_MAX.as_secs() {
            return false;
        }
        if let Some(EntryIdx(at)) = self.find(&entry.id) {
            let met = &mut self.entries[at as usize].entry.met_unix_s;
            *met = entry.met_unix_s.min(*met);
            return false;
        }
        let waits = self.candidates.iter().any(|candidate| candidate.newcomer.id == entry.id);
        if waits || self.restored.len() == self.config.entries_max {
            return false;
        }
        let Room::Free(leaf) = self.room(&entry) else { return false };
        let id = entry.id;
        self.add(leaf, now.at, entry);
        if let Some(stored) = self.entries.last_mut() {
            stored.heard_before = Some(heard_unix_s);
            stored.recorded_unix_s = heard_unix_s.max(1);
        }
        self.restored.push_back((now.at + RETURN_WITHIN, id));
        true
    }

    /// Every entry of a number below `from`, the highest first. Whoever goes on later from the
    /// last number it saw misses nobody who was there all the time: when a peer leaves, the last
    /// one takes its place, and that one was visited or lies below still.
    pub fn iter_down(&self, now: Now, from: usize) -> impl Iterator<Item = Known<'_>> {
        let below = &self.entries[..from.min(self.entries.len())];
        below.iter().enumerate().rev().map(move |(index, stored)| {
            let Stored { entry, last_seen, heard_before, .. } = stored;
            let heard_unix_s = heard_before
                .unwrap_or_else(|| now.unix_s().saturating_sub(now.at.since(*last_seen).as_secs()));
            Known { index, entry, heard_unix_s }
        })
    }

    /// Whether a peer that was just heard of should be recorded for the next time: it is verified,
    /// and what was recorded of it is old, or not where it is now. Then it counts as recorded.
    pub fn take_news(&mut self, now: Now, id: &PeerId) -> bool {
        let Some(EntryIdx(at)) = self.find(id) else { return false };
        let stored = &mut self.entries[at as usize];
        let known_s = now.unix_s().saturating_sub(stored.entry.met_unix_s);
        let recorded_s = now.unix_s().saturating_sub(stored.recorded_unix_s);
        let news = stored.heard_before.is_none()
            && known_s >= VERIFIED_AFTER.as_secs()
            && recorded_s >= RECORD_INTERVAL.as_secs();
        if news {
            stored.recorded_unix_s = now.unix_s();
        }
        news
    }

    /// What is known of a peer.
    pub fn known(&self, now: Now, id: &PeerId) -> Option<Known<'_>> {
        let EntryIdx(at) = self.find(id)?;
        self.iter_down(now, at as usize + 1).next()
    }

    pub(super) fn note_gone(&mut self, stored: &Stored) {
        if stored.recorded_unix_s != 0
            && let Ok(peer) = Peer::read(&stored.entry.encoded)
        {
            self.gone.push((stored.entry.id, peer.wg_public));
        }
    }

    /// Takes out a peer that was restored, as if it had never been recorded. Returns whether it was.
    pub fn forget(&mut self, id: &PeerId) -> bool {
        let Some(EntryIdx(at)) = self.find(id) else { return false };
        let stored = &mut self.entries[at as usize];
        stored.recorded_unix_s = 0;
        stored.heard_before.is_some() && self.remove(id)
    }

    /// Whether recorded peers left since [`take_gone`](Self::take_gone).
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Those who left that were recorded, and their keys.
    pub fn take_gone(&mut self) -> impl Iterator<Item = (PeerId, WgKey)> {
        self.gone.drain(..)
    }

    pub(super) fn return_deadline(&self) -> Moment {
        self.restored.front().map_or(Moment::NEVER, |(deadline, _)| *deadline)
    }

    /// Takes out the next restored peer whose time to come back is over. Most are back: it looks at
    /// a bounded number, and the others are due still.
    pub(super) fn lapsed(&mut self, now: Moment) -> Option<TableEvent> {
        for _ in 0..LOOKED_AT_MAX {
            if self.return_deadline() > now {
                break;
            }
            let (deadline, peer) = self.restored.pop_front()?;
            let Some(EntryIdx(at)) = self.find(&peer) else { continue };
            let stored = &self.entries[at as usize];
            // It may have left meanwhile and been restored again.
            if stored.heard_before.is_some() && stored.last_seen + RETURN_WITHIN <= deadline {
                self.remove(&peer);
                return Some(TableEvent::Lapsed { peer });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
