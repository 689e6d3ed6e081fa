//! Names of things, each its own type so that they cannot be mixed up.

use std::fmt;

/// A peer of the overlay: BLAKE3 of its Ed25519 public key; also its place in the XOR space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// Bits of an id.
    pub const BITS: u32 = 256;

    /// Bit `n`, counted from the most significant one.
    ///
    /// # Panics
    /// If there is no such bit.
    #[inline]
    pub fn bit(&self, n: u32) -> bool {
        self.0[(n / 8) as usize] >> (7 - n % 8) & 1 == 1
    }

    /// XOR distance, comparable as a big-endian number.
    pub fn distance(&self, other: &Self) -> [u8; 32] {
        std::array::from_fn(|i| self.0[i] ^ other.0[i])
    }
}

/// What a record or a set of providers is found under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Its place in the XOR space, which is that of the peers.
    pub const fn point(&self) -> PeerId {
        PeerId(self.0)
    }
}

/// A WireGuard (X25519) public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WgKey(pub [u8; 32]);

/// A live session: a slot of the session table and which of the slot's tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// Index into every per-session table of the shard.
    pub slot: u32,
    /// Counts the tenants of the slot; a stale reference never finds the next one.
    pub generation: u32,
}

/// A live session of any shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HomeRef {
    /// The shard that holds it.
    pub shard: u16,
    /// Which of that shard's.
    pub session: SessionRef,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for PeerId {
    /// All 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..4], f)
    }
}

impl fmt::Display for Key {
    /// All 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..4], f)
    }
}

impl fmt::Debug for WgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..4], f)
    }
}
