//! Channel ids that look random and need no table.
//!
//! Below the shard's bits an id is a keyed permutation of slot and side: a Feistel network whose
//! halves may differ by a bit, so that it permutes any number of bits. Who sees some ids learns
//! nothing useful about others, and even a guessed id is of no use from another address.

pub(super) const ROUNDS: usize = 4;

/// A permutation of the numbers below `2^bits`, with the shard above them.
#[derive(Debug)]
pub(super) struct Scramble {
    /// Two secrets for each round; the second is odd.
    rounds: [[u64; 2]; ROUNDS],
    /// Bits of the lower half.
    low_bits: u32,
    low_mask: u32,
    high_mask: u32,
    /// The shard, in place.
    top: u32,
    top_mask: u32,
}

impl Scramble {
    /// A permutation of what `shard_bits` leave of 32 bits.
    pub(super) fn new(shard: u16, shard_bits: u32, secrets: [[u64; 2]; ROUNDS]) -> Self {
        let bits = u32::BITS - shard_bits;
        let low_bits = bits / 2;
        let mask = |bits: u32| u32::MAX >> (u32::BITS - bits);
        Self {
            rounds: secrets.map(|[a, b]| [a, b | 1]),
            low_bits,
            low_mask: mask(low_bits),
            high_mask: mask(bits - low_bits),
            top: u32::from(shard).checked_shl(bits).unwrap_or(0),
            top_mask: u32::MAX.checked_shl(bits).unwrap_or(0),
        }
    }

    /// The id of `n`.
    #[inline]
    pub(super) fn id(&self, n: u32) -> u32 {
        let (mut low, mut high) = (n & self.low_mask, n >> self.low_bits);
        for pair in self.rounds.chunks_exact(2) {
            low ^= round(&pair[0], high) & self.low_mask;
            high ^= round(&pair[1], low) & self.high_mask;
        }
        self.top | high << self.low_bits | low
    }

    /// What `id` is the id of, if it is one of this shard.
    #[inline]
    pub(super) fn of(&self, id: u32) -> Option<u32> {
        if id & self.top_mask != self.top {
            return None;
        }
        let id = id & !self.top_mask;
        let (mut low, mut high) = (id & self.low_mask, id >> self.low_bits);
        for pair in self.rounds.chunks_exact(2).rev() {
            high ^= round(&pair[1], low) & self.high_mask;
            low ^= round(&pair[0], high) & self.low_mask;
        }
        Some(high << self.low_bits | low)
    }
}

/// Some bits out of the middle of both halves of a product, in which `half` reaches both: one multiplication
/// a round, since a datagram costs two permutations.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a round takes some bits of its hash")]
fn round(secret: &[u64; 2], half: u32) -> u32 {
    let twice = u64::from(half) << 32 | u64::from(half);
    let product = u128::from(secret[0] ^ twice) * u128::from(secret[1]);
    ((product >> 20) ^ (product >> 84)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn scramble(shard: u16, shard_bits: u32) -> Scramble {
        let secret = crate::bucket::Keyed::new([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);
        let secrets = [1_u64, 2, 3, 4].map(|n| [secret.hash(&n), secret.hash(&!n)]);
        Scramble::new(shard, shard_bits, secrets)
    }

    #[test]
    fn ids_are_taken_back_and_name_their_shard() {
        for shard_bits in 0..=6 {
            let shard = (1 << shard_bits) - 1;
            let scramble = scramble(shard, shard_bits);
            let mut seen = HashSet::new();
            for n in (0..3000).chain([(u32::MAX >> shard_bits) - 1]) {
                let id = scramble.id(n);
                assert_eq!(scramble.of(id), Some(n));
                assert_eq!(id.checked_shr(32 - shard_bits).unwrap_or(0), u32::from(shard));
                assert!(seen.insert(id));
                if shard_bits > 0 {
                    assert_eq!(scramble.of(id ^ 1 << 31), None);
                }
            }
        }
    }

    #[test]
    fn neighbours_are_far_apart_in_every_bit() {
        let scramble = scramble(2, 3);
        let mut changes = [0; 29];
        for n in 0..1000 {
            let change = scramble.id(n) ^ scramble.id(n + 1);
            (0..29).for_each(|bit| changes[bit] += change >> bit & 1);
        }
        assert!(changes.iter().all(|n| (400..600).contains(n)), "{changes:?}");
    }
}
