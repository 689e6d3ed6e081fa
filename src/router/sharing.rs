//! One routing table in several shards: what this one publishes of its part, and how a shard that
//! begins anew learns of its part again.

use std::sync::Arc;

use crate::overlay::snapshot::BucketSet;
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;

use super::{Mail, Router};

/// Snapshots made in one poll: each is a copy of some hundred entries.
const SNAPSHOTS_A_POLL: usize = 16;
/// Sessions looked at in one poll for a shard that began anew.
const SESSIONS_A_POLL: u32 = 64;

impl<T: Tunnel> Router<T> {
    /// This router has taken the place of one whose state is lost: the other shards are to tell
    /// it what it has to know, and to be told whom of those it had listed it still lists.
    pub fn begin_again(&mut self, now: Now) {
        self.post_all(|| Mail::Restarted);
        let mut owned = BucketSet::EMPTY;
        let ours = |bucket: &u8| self.partition.owner(&[*bucket; 32]) == self.shard;
        (0..=u8::MAX).filter(ours).for_each(|bucket| owned.add(bucket));
        self.publisher.begin_again(now.at, &owned);
    }

    /// Shard `from` lost everything: its sessions are no more, it knows none of the peers here
    /// whose ids it owns, and nobody of those this shard owns.
    pub(super) fn begin_again_with(&mut self, now: Now, from: u16) {
        self.table.shard_ended(from);
        let mut known = self.table.take_changed();
        self.table.iter().for_each(|entry| known.add(entry.id.0[0]));
        self.publisher.changed(now.at, &known);
        self.telling.retain(|(shard, _)| *shard != from);
        self.telling.push_back((from, 0));
    }

    /// Remembers to publish what changed in the table.
    #[inline]
    pub(super) fn note_changes(&mut self, now: Now) {
        if self.partition.shards() > 1 {
            let changed = self.table.take_changed();
            self.publisher.changed(now.at, &changed);
        }
    }

    pub(super) fn sharing_deadline(&self) -> Moment {
        if self.telling.is_empty() { self.publisher.next_deadline() } else { Moment::START }
    }

    pub(super) fn poll_sharing(&mut self, now: Now) {
        for _ in 0..SNAPSHOTS_A_POLL {
            let Some(snapshot) = self.publisher.publish(now.at, &self.table) else { break };
            self.post_all(|| Mail::Snapshot(Arc::clone(&snapshot)));
        }
        if let Some((shard, next)) = self.telling.pop_front() {
            let end = self.peers.len().min(next.saturating_add(SESSIONS_A_POLL));
            for slot in next..end {
                let Some(session) = self.peers.tenant(slot) else { continue };
                let identity = self.peers.at(session).identity;
                if identity.is_some_and(|bound| self.partition.owner(&bound.peer_id.0) == shard) {
                    self.list(now, session);
                }
            }
            if end < self.peers.len() {
                self.telling.push_front((shard, end));
            }
        }
    }
}
