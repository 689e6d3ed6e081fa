//! What an earlier life left in the store, taken back before the router serves.
//!
//! Records were checked when they came, and the store checks that they are what was written; so
//! signatures are not verified again. Everything else is held against today's clock and settings:
//! what has expired, is larger than what is kept now, or finds no place, stays away, and so does
//! what it took the place of. Who brought it is forgotten: it counts against nobody, until it is
//! renewed.

use std::sync::Arc;

use peerstore::record::{self as stored, Subject};

use crate::ids::{Key, PeerId, WgKey};
use crate::overlay::records::{Announcement, Offer, Outcome, Payer, Version, left};
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::{IdentityBinding, Record};

use super::{RestoredPeer, Router};

impl<T: Tunnel> Router<T> {
    /// Takes back one record. Returns whether it says anything still.
    pub fn restore(&mut self, now: Now, record: &peerstore::Record<'_>) -> bool {
        match record {
            // Also in a role that does not serve it: else the next snapshot would be without it.
            peerstore::Record::Value(value) => self.restore_value(now, value),
            peerstore::Record::Provider(provider) => self.restore_provider(now, provider),
            peerstore::Record::Binding(binding) => self.restore_binding(now, binding),
            peerstore::Record::Tombstone(tombstone) => self.restore_tombstone(&tombstone.subject),
            peerstore::Record::Peer(peer) => self.restore_peer(
                now,
                &RestoredPeer {
                    id: PeerId(peer.host.peer_id.0),
                    key: WgKey(peer.host.wireguard.0),
                    encoded: peer.message.bytes(),
                    met_unix_s: peer.first_seen_unix_s,
                    heard_unix_s: peer.last_seen_unix_s,
                },
            ),
            peerstore::Record::PathFacts(facts) => self.restore_facts(facts),
            peerstore::Record::Allocation(it) => self.restore_allocation(now, it),
            // Nothing keeps these in memory yet.
            peerstore::Record::Score(_)
            | peerstore::Record::Ban(_)
            | peerstore::Record::Seal(_) => false,
        }
    }

    fn restore_value(&mut self, now: Now, value: &stored::Value<'_>) -> bool {
        let encoded = value.message.bytes();
        let key = Key(value.key.0);
        let Ok(record) = Record::read(encoded) else { return false };
        if self.partition.owner(&key.0) != self.shard || record.key != key {
            return false;
        }
        let version = match record.owner_pubkey {
            Some(_) => Version::Signed {
                sequence: record.sequence,
                digest: Key::of_value(record.value).0,
                tombstone: record.value.is_empty(),
            },
            None => Version::Immutable,
        };
        let (payer, ttl) = (Payer { peer: None, network: None }, left(now, value.expires_unix_s));
        let offer = Offer { key, payer, version, ttl, encoded: Arc::from(encoded) };
        is_kept(self.records.store_again(now.at, &offer))
    }

    fn restore_provider(&mut self, now: Now, provider: &stored::Provider<'_>) -> bool {
        let key = Key(provider.key.0);
        if self.partition.owner(&key.0) != self.shard {
            return false;
        }
        is_kept(self.records.put_back(
            now.at,
            &Announcement {
                key,
                peer: PeerId(provider.peer_id.0),
                network: None,
                sequence: provider.sequence,
                ttl: left(now, provider.expires_unix_s),
                encoded: Arc::from(provider.message.bytes()),
            },
        ))
    }

    fn restore_binding(&mut self, now: Now, bound: &stored::Binding) -> bool {
        bound.not_after_unix_s >= now.unix_s()
            && self.known.remember(IdentityBinding {
                ed25519_public: bound.signing.0,
                x25519_public: WgKey(bound.host.wireguard.0),
                not_before_unix_s: bound.not_before_unix_s,
                not_after_unix_s: bound.not_after_unix_s,
                signature: bound.signature,
            })
    }

    fn restore_tombstone(&mut self, subject: &Subject) -> bool {
        match subject {
            Subject::Provider { key, peer_id, .. } => {
                self.records.take_back(&Key(key.0), &PeerId(peer_id.0))
            }
            Subject::Host(host) => self.table.forget(&PeerId(host.peer_id.0)),
            Subject::Allocation(one, other) => {
                self.forget_allocation(PeerId(one.0), PeerId(other.0))
            }
            Subject::Value { .. } | Subject::Ban(_) => false,
        }
    }
}

fn is_kept(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Stored | Outcome::Refreshed | Outcome::Unchanged | Outcome::Displaced(_) => true,
        Outcome::Stale | Outcome::Equivocation | Outcome::Rejected(_) => false,
    }
}
