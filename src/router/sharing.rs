//! One routing table in several shards: what this one publishes of its part, and how a shard that
//! begins anew learns of its part again.

use std::sync::Arc;
use std::time::Duration;

use crate::overlay::snapshot::BucketSet;
use crate::partition::ShardSet;
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;

use super::{Mail, Router};

/// Snapshots made in one poll: each is a copy of some hundred entries.
const SNAPSHOTS_A_POLL: usize = 16;
/// How long after control mail got lost it is made up for; if it is lost again, so long after that.
const MAKE_UP_AFTER: Duration = Duration::from_secs(1);
/// Sessions looked at in one poll for a shard that began anew.
const SESSIONS_A_POLL: u32 = 64;

impl<T: Tunnel> Router<T> {
    /// This router has taken the place of one whose state is lost: the other shards are to tell
    /// it what it has to know, and to be told whom of those it had listed it still lists.
    pub fn begin_again(&mut self, now: Now) {
        self.post_all(|| Mail::Restarted);
        self.publisher.begin_again(now.at, &self.owned());
    }

    fn owned(&self) -> BucketSet {
        let mut owned = BucketSet::EMPTY;
        let ours = |bucket: &u8| self.partition.owner(&[*bucket; 32]) == self.shard;
        (0..=u8::MAX).filter(ours).for_each(|bucket| owned.add(bucket));
        owned
    }

    /// Control mail to these shards got lost, for they stand still. What they do not know they
    /// would never learn: as if this shard were new, they forget it, and are told all of it again.
    pub fn mail_lost(&mut self, now: Now, shards: ShardSet) {
        self.lost.0.add_all(shards);
        self.lost.1 = now.at + MAKE_UP_AFTER;
    }

    fn make_up(&mut self, now: Now) {
        if self.lost.1 > now.at {
            return;
        }
        let shards = std::mem::take(&mut self.lost.0);
        self.lost.1 = Moment::NEVER;
        for shard in shards.iter() {
            self.tray.post(shard, Mail::Lost, &[]);
            self.telling.retain(|(told, _)| *told != shard);
            self.telling.push_back((shard, 0));
        }
        self.publisher.changed(now.at, &self.owned());
    }

    /// Shard `from` lost everything: its sessions are no more, it knows none of the peers here
    /// whose ids it owns, and nobody of those this shard owns.
    pub(super) fn begin_again_with(&mut self, now: Now, from: u16) {
        self.relay.shard_ended(from);
        self.forget_peers_of(now, from);
    }

    /// What shard `from` had to tell got lost: it tells all of it again. Channels of its peers go on:
    /// whoever can fill a mailbox must not be able to end them.
    pub(super) fn forget_peers_of(&mut self, now: Now, from: u16) {
        self.table.shard_ended(from);
        self.directory.shard_ended(from);
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
        let due = self.publisher.next_deadline().min(self.lost.1);
        if self.telling.is_empty() { due } else { Moment::START }
    }

    pub(super) fn poll_sharing(&mut self, now: Now) {
        self.make_up(now);
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
