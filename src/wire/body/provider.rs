//! ANNOUNCE_PROVIDER: I have what this key names.

use super::reader::Fields;
use super::record::bytes_of;
use super::store::Stamp;
use super::{BodyError, Overflow, Writer, at_most, exactly, exactly_if_present};
use crate::ids::{Key, PeerId};
use crate::limits::{ADMISSION_BYTES_MAX, META_BYTES_MAX, REASON_BYTES_MAX};
use crate::wire::code::StoreCode;

/// A peer that has what a key names; unverified, see [`signing`](crate::signing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider<'a> {
    /// Who.
    pub peer_id: PeerId,
    /// Free for applications.
    pub meta: &'a [u8],
    /// End of the claim.
    pub expires_unix_s: u64,
    /// Strictly grows.
    pub sequence: u64,
    /// The Ed25519 key that signs.
    pub owner_pubkey: Option<&'a [u8; 32]>,
    /// By that key.
    pub signature: Option<&'a [u8; 64]>,
}

impl<'a> Provider<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut fields = ProviderFields::default();
        fields.merge(body)?;
        fields.finish()
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.peer_id.0)?;
        out.bytes(2, self.meta)?;
        out.uint64(3, self.expires_unix_s)?;
        out.uint64(4, self.sequence)?;
        out.bytes(5, bytes_of(self.owner_pubkey))?;
        out.bytes(6, bytes_of(self.signature))
    }
}

/// A provider that may still be merged with another occurrence of its field.
#[derive(Default)]
struct ProviderFields<'a> {
    peer_id: &'a [u8],
    meta: &'a [u8],
    expires_unix_s: u64,
    sequence: u64,
    owner_pubkey: &'a [u8],
    signature: &'a [u8],
}

impl<'a> ProviderFields<'a> {
    fn merge(&mut self, body: &'a [u8]) -> Result<(), BodyError> {
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.peer_id = value.bytes()?,
                2 => self.meta = value.bytes()?,
                3 => self.expires_unix_s = value.uint64()?,
                4 => self.sequence = value.uint64()?,
                5 => self.owner_pubkey = value.bytes()?,
                6 => self.signature = value.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<Provider<'a>, BodyError> {
        Ok(Provider {
            peer_id: PeerId(*exactly(self.peer_id)?),
            meta: at_most(self.meta, META_BYTES_MAX)?,
            expires_unix_s: self.expires_unix_s,
            sequence: self.sequence,
            owner_pubkey: exactly_if_present(self.owner_pubkey)?,
            signature: exactly_if_present(self.signature)?,
        })
    }
}

/// I have what this key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceProviderReq<'a> {
    /// What is provided.
    pub key: Key,
    /// Who provides it; on the wire `self`.
    pub provider: Provider<'a>,
    /// Pays for the write.
    pub stamp: Option<Stamp>,
    /// Token of a NEGOTIATE answer.
    pub admission: &'a [u8],
}

impl<'a> AnnounceProviderReq<'a> {
    /// Reads a body. A provider that is absent is one without an id.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut key, mut admission) = (&[][..], &[][..]);
        let mut provider = ProviderFields::default();
        let mut stamp = None::<Stamp>;
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => key = value.bytes()?,
                2 => provider.merge(value.bytes()?)?,
                3 => stamp.get_or_insert_default().merge(value.bytes()?)?,
                4 => admission = value.bytes()?,
                _ => {}
            }
        }
        Ok(Self {
            key: Key(*exactly(key)?),
            provider: provider.finish()?,
            stamp,
            admission: at_most(admission, ADMISSION_BYTES_MAX)?,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.key.0)?;
        out.message(2, |out| self.provider.write(out))?;
        if let Some(stamp) = &self.stamp {
            out.message(3, |out| stamp.write(out))?;
        }
        out.bytes(4, self.admission)
    }
}

/// What became of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AnnounceProviderResp<'a> {
    /// What became of it; one that we do not know reads as [`StoreCode::Unspecified`].
    pub code: StoreCode,
    /// For people.
    pub reason: &'a str,
    /// How long it is kept.
    pub accepted_ttl_s: u32,
    /// When trying again may help; 0: never.
    pub retry_after_ms: u32,
}

impl<'a> AnnounceProviderResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => response.code = StoreCode::of_wire(value.uint32()?),
                2 => response.reason = value.text()?,
                3 => response.accepted_ttl_s = value.uint32()?,
                4 => response.retry_after_ms = value.uint32()?,
                _ => {}
            }
        }
        at_most(response.reason.as_bytes(), REASON_BYTES_MAX)?;
        Ok(response)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.code.to_wire())?;
        out.bytes(2, self.reason.as_bytes())?;
        out.uint32(3, self.accepted_ttl_s)?;
        out.uint32(4, self.retry_after_ms)
    }
}
