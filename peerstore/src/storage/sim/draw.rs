//! Chance that a seed decides.

/// `SplitMix64`: the same seed draws the same.
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    /// Anything of `low..=high`, its ends more often than what is between.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        match self.below(4) {
            0 => low,
            1 => high,
            _ => low + self.below(high - low + 1),
        }
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// How much of what was not synced survives. Drawn once for many parts, so that all, none and
/// any beginning of them come about too, however many there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    /// No part.
    Nothing,
    /// Every part.
    Everything,
    /// The parts before this one, and a piece of it.
    Beginning(usize),
    /// Any of them.
    Any,
}

impl Survival {
    /// Of so many parts.
    pub(super) fn drawn(draw: &mut Draw, parts: usize) -> Self {
        match draw.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Beginning(draw.below(parts + 1)),
            _ => Self::Any,
        }
    }

    /// Bytes of a part of `len` that survive.
    pub(super) fn bytes(self, part: usize, len: usize, draw: &mut Draw) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => len,
            Self::Beginning(last) if part == last => draw.below(len + 1),
            Self::Beginning(last) => len * usize::from(part < last),
            Self::Any => match draw.below(8) {
                0..=3 => len,
                4..=6 => 0,
                _ => draw.below(len + 1),
            },
        }
    }

    /// Whether a part that has no pieces survives.
    pub(super) fn keeps(self, part: usize, draw: &mut Draw) -> bool {
        self.bytes(part, 1, draw) == 1
    }
}
