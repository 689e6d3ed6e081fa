//! ConsentToken: a peer lets another one reach it.

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, exactly, exactly_if_present};
use crate::ids::PeerId;

/// Values of [`ConsentToken::scope`].
pub mod consent_scope {
    /// To be introduced.
    pub const PUNCH: u32 = 1;
    /// To be reached through a relay.
    pub const RELAY: u32 = 2;
}

/// Unverified, see [`signing::consent`](crate::signing::consent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentToken {
    /// Identity key of the peer that consents to be reached.
    pub issuer_pubkey: [u8; 32],
    /// Who may reach it; anyone if there is none.
    pub subject: Option<PeerId>,
    /// See [`consent_scope`].
    pub scope: u32,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
    /// By `issuer_pubkey`.
    pub signature: [u8; 64],
}

impl ConsentToken {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let (mut issuer, mut subject, mut signature) = (&[][..], &[][..], &[][..]);
        let (mut scope, mut expires_unix_s) = (0, 0);
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => issuer = value.bytes()?,
                2 => subject = value.bytes()?,
                3 => scope = value.uint32()?,
                4 => expires_unix_s = value.uint64()?,
                5 => signature = value.bytes()?,
                _ => {}
            }
        }
        Ok(Self {
            issuer_pubkey: *exactly(issuer)?,
            subject: exactly_if_present(subject)?.copied().map(PeerId),
            scope,
            expires_unix_s,
            signature: *exactly(signature)?,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.issuer_pubkey)?;
        out.bytes(2, self.subject.as_ref().map_or(&[], |id| &id.0))?;
        out.uint32(3, self.scope)?;
        out.uint64(4, self.expires_unix_s)?;
        out.bytes(5, &self.signature)
    }
}
