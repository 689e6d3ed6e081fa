//! Which shard something belongs to, as fixed functions of what is known of it: nobody asks a
//! shared table.
//!
//! * A **session** belongs to the shard that the top bits of its receiver indices name.
//! * A **peer's home**, the shard that holds its session, follows from its WireGuard key.
//! * What is **between two peers**, a relay channel, belongs to a shard that follows from both ids.
//! * A **key of the overlay** (a peer id, a record's key) is owned by the shard that its prefix
//!   bucket falls to: `bucket = top 8 bits of (our id XOR key)`, `shard = bucket * S / 256`.
//!   Neighbours in the XOR space have one owner, for any number of shards.

use crate::bucket::Keyed;
use crate::ids::{PeerId, WgKey};

/// Bits of a receiver index that are ours; the lowest eight count a session's keys.
pub const INDEX_BITS: u32 = 24;
/// Prefix buckets of the overlay's keys.
pub const BUCKETS: usize = 256;
/// Most shards: six bits leave a quarter of a million sessions to each.
pub const SHARDS_MAX: u16 = 64;

/// Bits that name the shard among so many.
pub const fn bits(shards: u16) -> u32 {
    (shards as u32).next_power_of_two().trailing_zeros()
}

/// Sessions of one shard among so many that a receiver index can tell apart.
pub const fn slots_max(shards: u16) -> u32 {
    1 << (INDEX_BITS - bits(shards))
}

/// How a router's state is split among its shards; the same in all of them.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    shards: u16,
    /// Bits at the top of a receiver index that name the shard.
    bits: u32,
    homes: Keyed,
    self_top: u8,
}

impl Partition {
    /// A router of `shards` shards. `seed` keeps strangers from choosing keys that share a home;
    /// one that is the same after a restart lets peers keep theirs.
    ///
    /// # Panics
    /// If `shards` is zero or above [`SHARDS_MAX`].
    pub const fn new(shards: u16, seed: [u64; 2], self_id: &PeerId) -> Self {
        assert!(shards >= 1 && shards <= SHARDS_MAX, "1 to SHARDS_MAX shards");
        Self { shards, bits: bits(shards), homes: Keyed::new(seed), self_top: self_id.0[0] }
    }

    /// Everything in one shard.
    pub const fn single() -> Self {
        Self::new(1, [0; 2], &PeerId([0; 32]))
    }

    /// Shards.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// Names this division: another one, of as many shards, has another number.
    pub fn hash(&self) -> u64 {
        self.homes.hash(&self.self_top)
    }

    /// Bits of a receiver index that name the shard, at its top.
    pub const fn shard_bits(&self) -> u32 {
        self.bits
    }

    /// Sessions of a shard that its part of a receiver index can tell apart.
    #[inline]
    pub const fn slots_max(&self) -> u32 {
        1 << (INDEX_BITS - self.bits)
    }

    /// The 24 bits of a receiver index that name `slot` of `shard`.
    #[inline]
    pub const fn index(&self, shard: u16, slot: u32) -> u32 {
        (shard as u32) << (INDEX_BITS - self.bits) | slot
    }

    /// Shard and slot that a receiver index names, whether or not there are such.
    #[inline]
    pub const fn session_of(&self, receiver_index: u32) -> (u32, u32) {
        let word = receiver_index >> (u32::BITS - INDEX_BITS);
        (word >> (INDEX_BITS - self.bits), word & (self.slots_max() - 1))
    }

    /// The shard that the number of a relay channel names, whether or not there is such a one.
    #[inline]
    pub const fn shard_of_channel(&self, id: u32) -> u32 {
        if self.bits == 0 { 0 } else { id >> (u32::BITS - self.bits) }
    }

    /// The shard that holds a peer's session.
    #[inline]
    pub fn home(&self, key: &WgKey) -> u16 {
        share(self.homes.hash(key) >> 32, u32::BITS, self.shards)
    }

    /// The shard that holds what is between two peers, whichever is named first.
    #[inline]
    pub fn between(&self, a: &PeerId, b: &PeerId) -> u16 {
        let pair = if a < b { (a, b) } else { (b, a) };
        share(self.homes.hash(&pair) >> 32, u32::BITS, self.shards)
    }

    /// The shard that owns a key of the overlay.
    #[inline]
    pub fn owner(&self, key: &[u8; 32]) -> u16 {
        share((self.self_top ^ key[0]).into(), u8::BITS, self.shards)
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

const _: () = assert!(SHARDS_MAX as u32 <= u64::BITS, "a bit for each shard");

impl ShardSet {
    /// Without any.
    pub const EMPTY: Self = Self(0);

    /// Puts a shard in.
    pub fn add(&mut self, shard: u16) {
        self.0 |= 1 << shard;
    }

    /// Puts all of another set in.
    pub fn add_all(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether none is in.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in, ascending.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..SHARDS_MAX).filter(move |shard| self.0 >> shard & 1 == 1)
    }
}

/// `n` of `bits` bits, scaled to a number below `shards`.
fn share(n: u64, bits: u32, shards: u16) -> u16 {
    u16::try_from((n * u64::from(shards)) >> bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(shards: u16) -> Partition {
        Partition::new(shards, [3, 5], &PeerId([0x5a; 32]))
    }

    #[test]
    fn a_single_shard_has_everything() {
        let single = Partition::single();
        assert_eq!((single.shard_bits(), single.slots_max()), (0, 1 << INDEX_BITS));
        assert_eq!((single.home(&WgKey([9; 32])), single.owner(&[0xff; 32])), (0, 0));
        assert_eq!(single.session_of(u32::MAX), (0, (1 << 24) - 1));
    }

    #[test]
    fn keys_are_spread_evenly_and_neighbours_stay_together() {
        for shards in 1..=SHARDS_MAX {
            let partition = partition(shards);
            let mut owned = vec![0_usize; shards.into()];
            let owner = |top: u8| partition.owner(&[top; 32]);
            (0..=255).for_each(|top| owned[usize::from(owner(top))] += 1);
            let least = BUCKETS / usize::from(shards);
            assert!(owned.iter().all(|n| (least..=least + 1).contains(n)), "{shards}: {owned:?}");
            // By distance from us the owners are runs: each range of the XOR space has one.
            let by_distance: Vec<u16> = (0..=255).map(|d: u8| owner(d ^ 0x5a)).collect();
            assert!(by_distance.is_sorted(), "{by_distance:?}");
        }
    }

    #[test]
    fn homes_are_spread_evenly() {
        let partition = partition(3);
        let mut homes = [0; 3];
        for n in 0..3000_u32 {
            let key = WgKey(*blake3::hash(&n.to_le_bytes()).as_bytes());
            homes[usize::from(partition.home(&key))] += 1;
        }
        assert!(homes.iter().all(|n| (900..1100).contains(n)), "{homes:?}");
    }

    proptest! {
        #[test]
        fn indices_name_shard_and_slot(
            shards in 1..=SHARDS_MAX,
            at in any::<(u16, u32)>(),
            count in any::<u8>(),
        ) {
            let partition = partition(shards);
            let (shard, slot) = (at.0 % shards, at.1 % partition.slots_max());
            let index = partition.index(shard, slot) << 8 | u32::from(count);
            prop_assert_eq!(partition.session_of(index), (shard.into(), slot));
            // What steering looks at: the top byte of the index.
            prop_assert_eq!(index.checked_shr(32 - partition.shard_bits()).unwrap_or(0), u32::from(shard));
        }

        #[test]
        fn every_key_has_a_home_and_an_owner(key in any::<[u8; 32]>(), shards in 1..=SHARDS_MAX) {
            let partition = partition(shards);
            prop_assert!(partition.home(&WgKey(key)) < shards && partition.owner(&key) < shards);
            let (a, b) = (PeerId(key), PeerId([7; 32]));
            prop_assert!(partition.between(&a, &b) < shards);
            prop_assert_eq!(partition.between(&a, &b), partition.between(&b, &a));
        }
    }
}
