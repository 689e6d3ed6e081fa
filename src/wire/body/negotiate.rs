//! NEGOTIATE: capabilities, identity, the price of things.

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most, exactly};
use crate::ids::WgKey;
use crate::limits::{ADMISSION_BYTES_MAX, MULTIADDR_BYTES_MAX};

/// Bits of [`Capabilities::bitmap`].
pub mod feature {
    /// Blinded lookups.
    pub const PRIVACY_BLINDING: u64 = 1 << 0;
    /// Relaying over two routers.
    pub const TWO_HOP_RELAY: u64 = 1 << 1;
    /// Messages of several frames.
    pub const STREAMING_CHUNKS: u64 = 1 << 2;
    /// Hints for erasure-coded values.
    pub const ERASURE_HINTS: u64 = 1 << 3;
    /// Relay channels.
    pub const RELAY: u64 = 1 << 4;
    /// Introductions.
    pub const RENDEZVOUS: u64 = 1 << 5;
    /// Address reflection.
    pub const REFLECT: u64 = 1 << 6;
    /// The browser gateway.
    pub const WEBRTC: u64 = 1 << 7;
    /// Serves newcomers, stores nothing.
    pub const BOOT_ONLY: u64 = 1 << 8;
    /// Told before the router leaves.
    pub const GOAWAY: u64 = 1 << 10;
}

/// What a side can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Version of the protocol.
    pub version: u32,
    /// See [`feature`].
    pub bitmap: u64,
    /// Largest plaintext, shim included.
    pub max_msg_bytes: u32,
}

impl Capabilities {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut capabilities = Self::default();
        capabilities.merge(body)?;
        Ok(capabilities)
    }

    fn merge(&mut self, body: &[u8]) -> Result<(), BodyError> {
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.version = value.uint32()?,
                2 => self.bitmap = value.uint64()?,
                3 => self.max_msg_bytes = value.uint32()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.version)?;
        out.uint64(2, self.bitmap)?;
        out.uint32(3, self.max_msg_bytes)
    }
}

/// Ties a WireGuard key to an identity; unverified, see [`identity`](crate::identity).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityBinding {
    /// The identity.
    pub ed25519_public: [u8; 32],
    /// The WireGuard key it speaks through.
    pub x25519_public: WgKey,
    /// Valid from this second on.
    pub not_before_unix_s: u64,
    /// Valid up to this second.
    pub not_after_unix_s: u64,
    /// By `ed25519_public`.
    pub signature: [u8; 64],
}

impl IdentityBinding {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut fields = BindingFields::default();
        fields.merge(body)?;
        fields.finish()
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.ed25519_public)?;
        out.bytes(2, &self.x25519_public.0)?;
        out.uint64(3, self.not_before_unix_s)?;
        out.uint64(4, self.not_after_unix_s)?;
        out.bytes(5, &self.signature)
    }
}

/// A binding that may still be merged with another occurrence of its field.
#[derive(Default)]
struct BindingFields<'a> {
    ed25519_public: &'a [u8],
    x25519_public: &'a [u8],
    not_before_unix_s: u64,
    not_after_unix_s: u64,
    signature: &'a [u8],
}

impl<'a> BindingFields<'a> {
    fn merge(&mut self, body: &'a [u8]) -> Result<(), BodyError> {
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.ed25519_public = value.bytes()?,
                2 => self.x25519_public = value.bytes()?,
                3 => self.not_before_unix_s = value.uint64()?,
                4 => self.not_after_unix_s = value.uint64()?,
                5 => self.signature = value.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<IdentityBinding, BodyError> {
        Ok(IdentityBinding {
            ed25519_public: *exactly(self.ed25519_public)?,
            x25519_public: WgKey(*exactly(self.x25519_public)?),
            not_before_unix_s: self.not_before_unix_s,
            not_after_unix_s: self.not_after_unix_s,
            signature: *exactly(self.signature)?,
        })
    }
}

/// Work asked for before the next handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// The WireGuard cookie of the session's address.
    pub nonce: [u8; 16],
    /// Leading zero bits wanted.
    pub difficulty_bits: u32,
    /// Life of the cookie.
    pub expires_in_s: u32,
}

impl Puzzle {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut fields = PuzzleFields::default();
        fields.merge(body)?;
        fields.finish()
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.nonce)?;
        out.uint32(2, self.difficulty_bits)?;
        out.uint32(3, self.expires_in_s)
    }
}

/// A puzzle that may still be merged with another occurrence of its field.
#[derive(Default)]
struct PuzzleFields<'a> {
    nonce: &'a [u8],
    difficulty_bits: u32,
    expires_in_s: u32,
}

impl<'a> PuzzleFields<'a> {
    fn merge(&mut self, body: &'a [u8]) -> Result<(), BodyError> {
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.nonce = value.bytes()?,
                2 => self.difficulty_bits = value.uint32()?,
                3 => self.expires_in_s = value.uint32()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<Puzzle, BodyError> {
        Ok(Puzzle {
            nonce: *exactly(self.nonce)?,
            difficulty_bits: self.difficulty_bits,
            expires_in_s: self.expires_in_s,
        })
    }
}

/// What I can do and who I am.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NegotiateReq<'a> {
    /// What the asker can do.
    pub want: Option<Capabilities>,
    /// Without one the session stays anonymous.
    pub binding: Option<IdentityBinding>,
    /// Token of an earlier answer.
    pub admission: &'a [u8],
}

impl<'a> NegotiateReq<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut request = Self::default();
        let mut binding = None::<BindingFields<'a>>;
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => request.want.get_or_insert_default().merge(value.bytes()?)?,
                2 => binding.get_or_insert_default().merge(value.bytes()?)?,
                3 => request.admission = value.bytes()?,
                _ => {}
            }
        }
        request.binding = binding.map(|binding| binding.finish()).transpose()?;
        at_most(request.admission, ADMISSION_BYTES_MAX)?;
        Ok(request)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        if let Some(want) = &self.want {
            out.message(1, |out| want.write(out))?;
        }
        if let Some(binding) = &self.binding {
            out.message(2, |out| binding.write(out))?;
        }
        out.bytes(3, self.admission)
    }
}

/// What we agree on and what things cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NegotiateResp<'a> {
    /// Bits that both have, the smaller message size.
    pub agreed: Option<Capabilities>,
    /// The router's own.
    pub binding: Option<IdentityBinding>,
    /// Token to present next time.
    pub admission: &'a [u8],
    /// The asker's address as multiaddr.
    pub observed: &'a [u8],
    /// Price of the next handshake.
    pub puzzle: Option<Puzzle>,
    /// Price of a write.
    pub stamp_bits: u32,
}

impl<'a> NegotiateResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut binding = None::<BindingFields<'a>>;
        let mut puzzle = None::<PuzzleFields<'a>>;
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => response.agreed.get_or_insert_default().merge(value.bytes()?)?,
                2 => binding.get_or_insert_default().merge(value.bytes()?)?,
                3 => response.admission = value.bytes()?,
                4 => response.observed = value.bytes()?,
                5 => puzzle.get_or_insert_default().merge(value.bytes()?)?,
                6 => response.stamp_bits = value.uint32()?,
                _ => {}
            }
        }
        response.binding = binding.map(|binding| binding.finish()).transpose()?;
        response.puzzle = puzzle.map(|puzzle| puzzle.finish()).transpose()?;
        at_most(response.admission, ADMISSION_BYTES_MAX)?;
        at_most(response.observed, MULTIADDR_BYTES_MAX)?;
        Ok(response)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        if let Some(agreed) = &self.agreed {
            out.message(1, |out| agreed.write(out))?;
        }
        if let Some(binding) = &self.binding {
            out.message(2, |out| binding.write(out))?;
        }
        out.bytes(3, self.admission)?;
        out.bytes(4, self.observed)?;
        if let Some(puzzle) = &self.puzzle {
            out.message(5, |out| puzzle.write(out))?;
        }
        out.uint32(6, self.stamp_bits)
    }
}
