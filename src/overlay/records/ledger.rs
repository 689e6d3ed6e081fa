//! Who holds how much of the space.
//!
//! Three shares: of everybody, of a peer, of a network. The share of a network is its fixed one
//! or as much as is **left**, whichever is less (Choudhury and Hahne's dynamic threshold): `n`
//! networks that take all they can get leave one part in `n + 1` free, so none of them and no
//! few of them can lock the others out, and nothing that is kept has to go for that.
//!
//! Invariant: what is used is the sum of what is kept; peers and networks without anything are
//! not remembered.

use std::hash::Hash;

use super::Why;
use crate::bucket::Keyed;
use crate::ids::PeerId;
use crate::net::Prefix;
use crate::overlay::slots::Slots;

/// A part of the space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Entries.
    pub entries: usize,
    /// Their bytes in wire form.
    pub bytes: usize,
}

impl Share {
    const fn one(bytes: usize) -> Self {
        Self { entries: 1, bytes }
    }

    const fn plus(self, more: Self) -> Self {
        Self { entries: self.entries + more.entries, bytes: self.bytes + more.bytes }
    }

    /// What is left without `less`.
    const fn less(self, less: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(less.entries),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    fn or_less(self, other: Self) -> Self {
        Self { entries: self.entries.min(other.entries), bytes: self.bytes.min(other.bytes) }
    }

    fn or_more(self, other: Self) -> Self {
        Self { entries: self.entries.max(other.entries), bytes: self.bytes.max(other.bytes) }
    }

    const fn within(self, most: Self) -> bool {
        self.entries <= most.entries && self.bytes <= most.bytes
    }
}

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub total: Share,
    /// By a peer.
    pub peer: Share,
    /// By the peers of a network together, at the most.
    pub network: Share,
    /// Bytes of one entry.
    pub entry_bytes_max: usize,
}

/// Whom an entry counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Who brought it; `None` if that is forgotten, as after a restart.
    pub peer: Option<PeerId>,
    /// The network of its address; `None` if forgotten, or if it is nobody's to use up: a
    /// laboratory's peers all live in one.
    pub network: Option<Prefix>,
}

/// An entry, as it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) payer: Payer,
    pub(super) bytes: usize,
}

/// The account of all entries of a kind.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    used: Share,
    peers: Slots<PeerId, Share>,
    networks: Slots<Prefix, Share>,
}

impl Ledger {
    /// Memory of a ledger for so many entries.
    pub(super) const fn bytes(entries_max: usize) -> usize {
        Slots::<PeerId, Share>::bytes(entries_max) + Slots::<Prefix, Share>::bytes(entries_max)
    }

    pub(super) fn new(limits: Limits, keyed: Keyed) -> Self {
        // Who is remembered holds at least one entry.
        let entries_max = limits.total.entries;
        let (peers, networks) = (Slots::new(entries_max, keyed), Slots::new(entries_max, keyed));
        Self { limits, used: Share::default(), peers, networks }
    }

    /// What is held in all.
    pub(super) const fn used(&self) -> Share {
        self.used
    }

    /// Whether `new` fits, in the place of `old` if there is one. Who holds too much already
    /// may keep it up, only not add to it: shares shrink when space gets scarce.
    pub(super) fn fits(&self, new: &Cost, old: Option<&Cost>) -> Result<(), Why> {
        if new.bytes > self.limits.entry_bytes_max {
            return Err(Why::TooLarge);
        }
        let fits = |used: Share, mine: bool, most: Share| {
            let others = old.filter(|_| mine).map_or(used, |old| used.less(Share::one(old.bytes)));
            others.plus(Share::one(new.bytes)).within(most.or_more(used))
        };
        let Limits { total, peer, network, .. } = self.limits;
        if !fits(self.used, true, total) {
            return Err(Why::Full);
        }
        if let Some(id) = new.payer.peer {
            let mine = old.is_some_and(|old| old.payer.peer == Some(id));
            if !fits(held(&self.peers, &id), mine, peer) {
                return Err(Why::PeerShare);
            }
        }
        if let Some(prefix) = new.payer.network {
            let mine = old.is_some_and(|old| old.payer.network == Some(prefix));
            let kept = old.map_or(self.used, |old| self.used.less(Share::one(old.bytes)));
            let most = network.or_less(total.less(kept));
            if !fits(held(&self.networks, &prefix), mine, most) {
                return Err(Why::NetworkShare);
            }
        }
        Ok(())
    }

    /// Counts an entry.
    pub(super) fn charge(&mut self, cost: &Cost) {
        let more = Share::one(cost.bytes);
        self.used = self.used.plus(more);
        if let Some(peer) = cost.payer.peer {
            add(&mut self.peers, peer, more);
        }
        if let Some(network) = cost.payer.network {
            add(&mut self.networks, network, more);
        }
    }

    /// Counts an entry no more.
    pub(super) fn discharge(&mut self, cost: &Cost) {
        let less = Share::one(cost.bytes);
        self.used = self.used.less(less);
        if let Some(peer) = cost.payer.peer {
            take(&mut self.peers, &peer, less);
        }
        if let Some(network) = cost.payer.network {
            take(&mut self.networks, &network, less);
        }
    }
}

fn held<K: Eq + Hash>(shares: &Slots<K, Share>, key: &K) -> Share {
    shares.find(key).map_or_else(Share::default, |slot| shares[slot])
}

fn add<K: Eq + Hash>(shares: &mut Slots<K, Share>, key: K, more: Share) {
    match shares.find(&key) {
        Some(slot) => shares[slot] = shares[slot].plus(more),
        None => {
            shares.insert(key, more);
        }
    }
}

fn take<K: Eq + Hash>(shares: &mut Slots<K, Share>, key: &K, less: Share) {
    let Some(slot) = shares.find(key) else { unreachable!("what is taken was charged before") };
    shares[slot] = shares[slot].less(less);
    if shares[slot] == Share::default() {
        shares.remove(slot);
    }
}
