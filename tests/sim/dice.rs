//! Everything random in the world comes from one seed through here.

use std::ops::Range;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// A stream of draws.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha12Rng);

impl Dice {
    /// The stream of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A stream of its own, so that draws elsewhere do not shift it.
    pub(crate) fn fork(&mut self) -> Self {
        Self::of(self.0.next_u64())
    }

    /// A generator for the code under test.
    pub(crate) fn rng(&mut self) -> ChaCha12Rng {
        ChaCha12Rng::from_seed(self.bytes())
    }

    /// One of `0..n`; `n` is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).expect("64 bits");
        usize::try_from(self.0.next_u64() % n).expect("below a usize")
    }

    /// One of a range of numbers.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.next_u64() % (range.end - range.start)
    }

    /// A length of time within a range of microseconds.
    pub(crate) fn micros(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.within(range))
    }

    /// A length of time within a range of milliseconds, down to the microsecond.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        self.micros(range.start * 1000..range.end * 1000)
    }

    /// True so many times in a thousand.
    pub(crate) fn permille(&mut self, share: u64) -> bool {
        self.0.next_u64() % 1000 < share
    }

    /// One of `of`.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// `len` bytes.
    pub(crate) fn blob(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
