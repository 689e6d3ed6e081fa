//! Token buckets: one as a plain value, and a fixed table of them keyed by whatever is limited;
//! and the [`Meter`] of buckets that are a single number, for where there are very many.
//!
//! Levels are kept in token-nanoseconds (`tokens * 10^9`), so refilling is exact at
//! every rate: nothing is lost to rounding however often a bucket is looked at.
//! The table has a fixed number of entries and is never swept: a bucket that
//! has filled up again says nothing, so its place may be taken; when all places
//! of a set are taken by buckets in use, the fullest one, which loses least, goes.

mod meter;

use std::hash::{BuildHasher, Hash, Hasher};

use crate::time::Moment;

pub use meter::Meter;

/// Nanoseconds in a second, and so the level of one token.
const TOKEN: u64 = 1_000_000_000;
/// Places of a set, all looked at for every key that falls into it.
const WAYS: usize = 4;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_s: u64,
    burst: u64,
}

impl Rate {
    /// Most tokens a bucket can hold.
    pub const BURST_MAX: u64 = u64::MAX / TOKEN;

    /// `per_s` tokens a second, at most `burst` of them saved up.
    ///
    /// # Panics
    /// If `burst` is zero or above [`Rate::BURST_MAX`].
    pub const fn new(per_s: u64, burst: u64) -> Self {
        assert!(burst > 0 && burst <= Self::BURST_MAX, "a bucket holds 1..=BURST_MAX tokens");
        Self { per_s, burst }
    }

    /// Tokens a second.
    pub const fn per_s(&self) -> u64 {
        self.per_s
    }

    /// Tokens that can be saved up.
    pub const fn burst(&self) -> u64 {
        self.burst
    }
}

/// One bucket; its [`Rate`] is kept by whoever owns many of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Token-nanoseconds at `at`.
    level: u64,
    at: Moment,
}

impl TokenBucket {
    /// A bucket with its whole burst saved up.
    pub const fn full(rate: &Rate, now: Moment) -> Self {
        Self { level: rate.burst * TOKEN, at: now }
    }

    /// Takes `cost` tokens if they are there.
    ///
    /// # Panics
    /// If `cost` is above the burst: it could never be paid.
    #[inline]
    pub fn take(&mut self, now: Moment, rate: &Rate, cost: u64) -> bool {
        assert!(cost <= rate.burst, "a cost above the burst could never be paid");
        self.refill(now, rate);
        let paid = self.level >= cost * TOKEN;
        if paid {
            self.level -= cost * TOKEN;
        }
        paid
    }

    /// Whole tokens at `now`.
    pub fn tokens(&self, now: Moment, rate: &Rate) -> u64 {
        self.level_at(now, rate) / TOKEN
    }

    /// When `cost` tokens will be there if nobody takes any; [`Moment::NEVER`] if the rate is zero.
    pub fn ready_at(&self, now: Moment, rate: &Rate, cost: u64) -> Moment {
        let missing = (cost.min(rate.burst) * TOKEN).saturating_sub(self.level_at(now, rate));
        match (missing, rate.per_s) {
            (0, _) => now,
            (_, 0) => Moment::NEVER,
            (missing, per_s) => {
                Moment::from_nanos(now.as_nanos().saturating_add(missing.div_ceil(per_s)))
            }
        }
    }

    #[inline]
    fn refill(&mut self, now: Moment, rate: &Rate) {
        self.level = self.level_at(now, rate);
        self.at = self.at.max(now);
    }

    #[inline]
    fn level_at(&self, now: Moment, rate: &Rate) -> u64 {
        let elapsed_ns = now.as_nanos().saturating_sub(self.at.as_nanos());
        let gained = elapsed_ns.saturating_mul(rate.per_s);
        self.level.saturating_add(gained).min(rate.burst * TOKEN)
    }
}

/// Buckets of one rate for an unbounded number of keys in a fixed amount of memory.
#[derive(Debug)]
pub struct BucketTable<K> {
    rate: Rate,
    keyed: Keyed,
    sets: Box<[Set<K>]>,
}

/// Places that a key can have.
type Set<K> = [Option<(K, TokenBucket)>; WAYS];

impl<K: Copy + Eq + Hash> BucketTable<K> {
    /// Memory of a table with so many places.
    pub fn bytes(entries: usize) -> usize {
        entries.div_ceil(WAYS).next_power_of_two() * size_of::<Set<K>>()
    }

    /// At least `entries` places; allocates now and never again.
    ///
    /// # Panics
    /// If `entries` is zero.
    pub fn new(entries: usize, rate: Rate, keyed: Keyed) -> Self {
        assert!(entries > 0, "a table without entries could not limit anybody");
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { rate, keyed, sets: vec![[None; WAYS]; sets].into_boxed_slice() }
    }

    /// Takes `cost` tokens from the bucket of `key` if they are there. A key that is not in the table has a full bucket.
    ///
    /// # Panics
    /// If `cost` is above the burst.
    #[inline]
    pub fn take(&mut self, now: Moment, key: &K, cost: u64) -> bool {
        let rate = self.rate;
        self.bucket(now, key).take(now, &rate, cost)
    }

    /// Places for buckets.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The rate of every bucket.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Another rate for every bucket from now on; what is saved up stays, up to the new burst.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    #[inline]
    fn bucket(&mut self, now: Moment, key: &K) -> &mut TokenBucket {
        let rate = self.rate;
        let set = self.keyed.index(key, self.sets.len());
        let set = &mut self.sets[set];
        let way = match set.iter().position(|place| matches!(place, Some((k, _)) if k == key)) {
            Some(way) => way,
            None => victim(set, now, &rate),
        };
        let place = &mut set[way];
        if !matches!(place, Some((k, _)) if k == key) {
            *place = None;
        }
        &mut place.get_or_insert((*key, TokenBucket::full(&rate, now))).1
    }
}

/// The place to give away: an empty one, else the one whose bucket is fullest.
fn victim<K>(set: &Set<K>, now: Moment, rate: &Rate) -> usize {
    let level = |place: &Option<(K, TokenBucket)>| match place {
        Some((_, bucket)) => bucket.level_at(now, rate),
        None => u64::MAX,
    };
    (0..WAYS).max_by_key(|way| level(&set[*way])).unwrap_or(0)
}

/// A cheap keyed hash for tables whose keys strangers choose: without the key nobody
/// can aim at a place. Not for anything that must not be forged.
#[derive(Clone, Copy)]
pub struct Keyed {
    key: [u64; 2],
}

impl Keyed {
    /// A hash that only who knows `seed` can predict.
    pub const fn new(seed: [u64; 2]) -> Self {
        // An odd multiplier never erases what it multiplies.
        Self { key: [seed[0], seed[1] | 1] }
    }

    /// Hash of `value`.
    #[inline]
    pub fn hash<V: Hash + ?Sized>(&self, value: &V) -> u64 {
        self.hash_one(value)
    }

    /// A place for `value` among `places`, which must be a power of two.
    #[inline]
    pub fn index<V: Hash + ?Sized>(&self, value: &V, places: usize) -> usize {
        debug_assert!(places.is_power_of_two());
        let hash = usize::try_from(self.hash(value) >> 1).unwrap_or(usize::MAX);
        hash & (places - 1)
    }
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(..)")
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;
    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.key[0], key: self.key[1] }
    }
}

/// State of a [`Keyed`] hash.
#[derive(Clone)]
pub struct KeyedHasher {
    state: u64,
    key: u64,
}

impl std::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHasher(..)")
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            let mut le = [0; 8];
            le.copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(le));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut le = [0; 8];
            le[..rest.len()].copy_from_slice(rest);
            // The length keeps a short tail apart from the same bytes padded with zeros.
            self.write_u64(u64::from_le_bytes(le) ^ (rest.len() as u64) << 56);
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key).wrapping_add(word.rotate_left(32));
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.key.rotate_left(29) | 1)
    }
}

/// Both halves of the 128-bit product, folded together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "each half is taken on purpose")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

#[cfg(test)]
mod tests;
