//! A stored value.

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most, exactly, exactly_if_present};
use crate::ids::Key;
use crate::limits::SALT_BYTES_MAX;

/// A stored value; unverified, see [`signing`](crate::signing).
///
/// What a record says about who validated it is read over and never written: a
/// remote claim is no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is found under.
    pub key: Key,
    /// Empty with a higher sequence: a tombstone.
    pub value: &'a [u8],
    /// Strictly grows.
    pub sequence: u64,
    /// Life from `not_before_unix` on.
    pub ttl_secs: u64,
    /// In seconds.
    pub not_before_unix: u64,
    /// Ed25519; `None`: immutable.
    pub owner_pubkey: Option<&'a [u8; 32]>,
    /// By the owner.
    pub signature: Option<&'a [u8; 64]>,
    /// The owner's namespace and name.
    pub salt: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut key, mut value, mut salt) = (&[][..], &[][..], &[][..]);
        let (mut sequence, mut ttl_secs, mut not_before_unix) = (0, 0, 0);
        let (mut owner_pubkey, mut signature) = (&[][..], &[][..]);
        let mut fields = Fields::of(body);
        while let Some((tag, field)) = fields.next()? {
            match tag {
                1 => key = field.bytes()?,
                2 => value = field.bytes()?,
                3 => sequence = field.uint64()?,
                4 => ttl_secs = field.uint64()?,
                5 => not_before_unix = field.uint64()?,
                6 => owner_pubkey = field.bytes()?,
                7 => signature = field.bytes()?,
                8 => _ = field.bytes()?,
                9 => salt = field.bytes()?,
                _ => {}
            }
        }
        Ok(Self {
            key: Key(*exactly(key)?),
            value,
            sequence,
            ttl_secs,
            not_before_unix,
            owner_pubkey: exactly_if_present(owner_pubkey)?,
            signature: exactly_if_present(signature)?,
            salt: at_most(salt, SALT_BYTES_MAX)?,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.key.0)?;
        out.bytes(2, self.value)?;
        out.uint64(3, self.sequence)?;
        out.uint64(4, self.ttl_secs)?;
        out.uint64(5, self.not_before_unix)?;
        out.bytes(6, bytes_of(self.owner_pubkey))?;
        out.bytes(7, bytes_of(self.signature))?;
        out.bytes(9, self.salt)
    }
}

/// As a field that is left out when there is nothing in it.
pub(super) fn bytes_of<const N: usize>(bytes: Option<&[u8; N]>) -> &[u8] {
    bytes.map_or(&[], |bytes| bytes)
}
