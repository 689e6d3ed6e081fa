//! What the overlay's peers keep at a shard that owns the keys: values and providers.
//!
//! Who calls has parsed and verified: that a key is the digest of its value or of its owner and
//! salt, that signatures are good, that a stamp was paid, that the shard owns the key. Times of the
//! protocol are turned into how long is [`left`], once, so that nothing here jumps with the wall
//! clock.
//!
//! **Nothing that lives goes for a stranger.** A value leaves when its time is over or its owner
//! has a newer one; when there is no room, the newcomer is refused and asks another of the nodes
//! close to the key. Evicting what is far from us would not do better: whoever wants a value out
//! grinds keys close to us (salts are free), for less than the value's owner pays to bring it back.
//! What keeps room for newcomers is the [ledger](Limits): the less is left, the less may a network
//! hold. Only the few places of a provider's key are given away, see [`Records::announce`].
//!
//! Invariants:
//! * A key has at most one value; a peer provides a key at most once.
//! * Sequences of a key (of a peer at a key) never go back while it is kept; a tombstone is kept
//!   like a value, so that older versions stay out until its time is over.
//! * Who brought what is kept, or kept it alive last, pays for it: nobody can use up another's
//!   share by renewing what that one has left.
//! * What expired is never found, whether or not it was [swept](Records::poll) yet.
//! * The outcome depends on the sequence of calls alone. All tables are reserved at construction;
//!   only what is kept is allocated, and a call sweeps at most [`SWEEP_MAX`] of each kind.

mod ledger;
mod outcome;
mod providers;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;
use std::time::Duration;

use crate::bucket::Keyed;
use crate::ids::{Key, PeerId};
use crate::limits::PROVIDER_BYTES_MAX;
use crate::net::Prefix;
use crate::time::{Moment, Now};
use providers::{Provider, Providers};
use values::{Value, Values};

pub use ledger::{Limits, Payer, Share};
pub use outcome::{Outcome, Why};
pub use providers::Listed;
pub use values::Version;

/// Entries of each kind whose time is over that one call takes out.
pub const SWEEP_MAX: usize = 64;

/// Shape of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How much of values is kept.
    pub values: Limits,
    /// How much of providers is kept.
    pub providers: Limits,
    /// Providers of one key. Deciding who goes costs its square: keep it small.
    pub providers_per_key: usize,
    /// Nothing is kept longer than this without being offered again.
    pub ttl_max: Duration,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            values: Limits {
                total: Share { entries: 1 << 15, bytes: 32 * MIB },
                peer: Share { entries: 256, bytes: MIB },
                network: Share { entries: 1 << 12, bytes: 4 * MIB },
                entry_bytes_max: 8 * KIB,
            },
            providers: Limits {
                total: Share { entries: 1 << 16, bytes: 16 * MIB },
                peer: Share { entries: 1 << 10, bytes: 256 * KIB },
                network: Share { entries: 1 << 13, bytes: 2 * MIB },
                entry_bytes_max: PROVIDER_BYTES_MAX,
            },
            providers_per_key: 64,
            ttl_max: Duration::from_secs(48 * 3600),
        }
    }
}

/// A value, as it is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where it belongs.
    pub key: Key,
    /// Whom it counts against.
    pub payer: Payer,
    /// What tells it from others.
    pub version: Version,
    /// How long it is to be kept, from now on.
    pub ttl: Duration,
    /// The `Record` message in wire form. It is kept as it is, not copied.
    pub encoded: Arc<[u8]>,
}

/// A provider, as it announces itself.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// What it provides.
    pub key: Key,
    /// Who it is, and whom it counts against.
    pub peer: PeerId,
    /// The network of its address, as in [`Payer`].
    pub network: Option<Prefix>,
    /// Counts its announcements for this key.
    pub sequence: u64,
    /// How long it is to be kept, from now on.
    pub ttl: Duration,
    /// The `Provider` message in wire form. It is kept as it is, not copied.
    pub encoded: Arc<[u8]>,
}

/// What there is under a key.
#[derive(Clone, Debug)]
pub struct Found<'r> {
    /// The `Record` message, unless it is a tombstone.
    pub value: Option<&'r Arc<[u8]>>,
    /// The `Provider` messages, the one that came or was renewed last first.
    pub providers: Listed<'r>,
}

/// A value that is kept, for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptValue<'r> {
    /// Where it belongs.
    pub key: Key,
    /// Whom it counts against.
    pub payer: Payer,
    /// What tells it from others.
    pub version: Version,
    /// Until when it is kept.
    pub expires: Moment,
    /// The `Record` message in wire form.
    pub encoded: &'r [u8],
}

/// A provider that is kept, for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptProvider<'r> {
    /// What it provides.
    pub key: Key,
    /// Who it is.
    pub peer: PeerId,
    /// The network of its address.
    pub network: Option<Prefix>,
    /// Counts its announcements.
    pub sequence: u64,
    /// Until when it is kept.
    pub expires: Moment,
    /// The `Provider` message in wire form.
    pub encoded: &'r [u8],
}

impl<'r> KeptValue<'r> {
    fn new(key: Key, value: Value<'r>) -> Self {
        let Value { payer, version, expires, encoded } = value;
        Self { key, payer, version, expires, encoded }
    }
}

impl<'r> KeptProvider<'r> {
    fn new(key: Key, provider: Provider<'r>) -> Self {
        let Provider { peer, network, sequence, expires, encoded } = provider;
        Self { key, peer, network, sequence, expires, encoded }
    }
}

/// How long is left until a second of the wall clock; zero if it has begun.
pub fn left(now: Now, expires_unix_s: u64) -> Duration {
    Duration::from_millis(expires_unix_s.saturating_mul(1000).saturating_sub(now.unix_ms))
}

/// The values and providers of a shard.
#[derive(Debug)]
pub struct Records {
    ttl_max: Duration,
    values: Values,
    providers: Providers,
}

impl Records {
    /// Memory that records of this configuration take when full.
    pub const fn bytes(config: &Config) -> usize {
        Values::bytes(&config.values) + Providers::bytes(&config.providers)
    }

    /// No records yet. `keyed` keeps strangers from choosing keys that share a place.
    ///
    /// # Panics
    /// If no entries of a kind are allowed, in all or for a key, or 2^32 of them.
    pub fn new(config: Config, keyed: Keyed) -> Self {
        Self {
            ttl_max: config.ttl_max,
            values: Values::new(config.values, keyed),
            providers: Providers::new(config.providers, config.providers_per_key, keyed),
        }
    }

    /// Keeps a value, if it is newer than what is there or extends its time.
    ///
    /// A signed value takes the place of one without owner: the same digest names both, if what is
    /// hashed as value was made to look like an owner with a salt, and then only the owner's counts.
    pub fn store(&mut self, now: Moment, offer: &Offer) -> Outcome {
        self.values.sweep(now);
        let Offer { key, payer, version, ttl, ref encoded } = *offer;
        let expires = now + ttl.min(self.ttl_max);
        self.values.store(now, &key, &Value { payer, version, expires, encoded })
    }

    /// Keeps a provider, if it is new or newer than what the peer announced before; the same again
    /// changes nothing, for an announcement names the moment of its end.
    ///
    /// When the key has enough of them, one goes as if this one was in already: of the network that
    /// is present most, the one that expires first, which may be this one.
    pub fn announce(&mut self, now: Moment, offer: &Announcement) -> Outcome {
        self.providers.sweep(now);
        let Announcement { key, peer, network, sequence, ttl, ref encoded } = *offer;
        let expires = now + ttl.min(self.ttl_max);
        let provider = Provider { peer, network, sequence, expires, encoded };
        self.providers.announce(now, &key, &provider)
    }

    /// Keeps a value that was kept before. If there is no place for it, or its time is over, what it
    /// took the place of goes all the same.
    pub fn store_again(&mut self, now: Moment, offer: &Offer) -> Outcome {
        let outcome = self.store(now, offer);
        if matches!(outcome, Outcome::Rejected(_)) {
            self.values.outdate(&offer.key, offer.version);
        }
        outcome
    }

    /// Keeps a provider that was kept before, unless the key has enough of them: nobody goes for it.
    /// What the peer announced before it goes in any case.
    pub fn put_back(&mut self, now: Moment, offer: &Announcement) -> Outcome {
        let full = self.providers.get(&offer.key, &offer.peer).is_none()
            && self.providers.is_full(&offer.key);
        let outcome =
            if full { Outcome::Rejected(Why::KeyFull) } else { self.announce(now, offer) };
        if matches!(outcome, Outcome::Rejected(_)) {
            self.providers.outdate(&offer.key, &offer.peer, offer.sequence);
        }
        outcome
    }

    /// Takes out what a peer announced for a key. Returns whether there was something.
    pub fn take_back(&mut self, key: &Key, peer: &PeerId) -> bool {
        self.providers.remove(key, peer)
    }

    /// What there is under a key.
    pub fn find(&self, now: Moment, key: &Key) -> Found<'_> {
        Found { value: self.values.find(now, key), providers: self.providers.find(now, key) }
    }

    /// The value of a key, tombstones too, for a log.
    pub fn value(&self, key: &Key) -> Option<KeptValue<'_>> {
        self.values.get(key).map(|value| KeptValue::new(*key, value))
    }

    /// What a peer announced for a key, for a log.
    pub fn provider(&self, key: &Key, peer: &PeerId) -> Option<KeptProvider<'_>> {
        self.providers.get(key, peer).map(|provider| KeptProvider::new(*key, provider))
    }

    /// Takes out what has expired, at most [`SWEEP_MAX`] of each kind. Returns how many; if there
    /// are more, [`next_deadline`](Self::next_deadline) has passed still.
    pub fn poll(&mut self, now: Moment) -> usize {
        self.values.sweep(now) + self.providers.sweep(now)
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn next_deadline(&self) -> Moment {
        self.values.next_deadline().min(self.providers.next_deadline())
    }

    /// Values and their bytes.
    pub fn values(&self) -> Share {
        self.values.used()
    }

    /// Providers and their bytes.
    pub fn providers(&self) -> Share {
        self.providers.used()
    }

    /// Every value whose number is at least `from`, with its number, ascending. A value keeps its
    /// number as long as it is kept, so a walk can be interrupted and misses nothing that stayed.
    pub fn values_from(&self, from: usize) -> impl Iterator<Item = (usize, KeptValue<'_>)> {
        self.values.iter_from(from).map(|(at, &key, value)| (at, KeptValue::new(key, value)))
    }

    /// The same for providers: one that is renewed keeps its number, one that is displaced leaves it to who comes.
    pub fn providers_from(&self, from: usize) -> impl Iterator<Item = (usize, KeptProvider<'_>)> {
        let all = self.providers.iter_from(from);
        all.map(|(at, &key, provider)| (at, KeptProvider::new(key, provider)))
    }
}
