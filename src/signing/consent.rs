//! Consent: a peer's signed word that another one may reach it.

use ed25519_dalek::{Signer as _, SigningKey};

use super::{prefixed, verify};
use crate::ids::PeerId;
use crate::wire::body::ConsentToken;

/// What a consent's signature begins with.
const CONSENT_TAG: &[u8] = b"molia.v1.consent";
/// No consent is good for longer, in seconds.
pub const LIFE_S_MAX: u64 = 30 * 60;

/// Why a consent is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConsentError {
    /// It has ended or would last too long, or is for somebody or something else.
    #[error("the consent has ended, lasts too long, or is for another peer or use")]
    Invalid,
    /// It is no token, or not the word of the peer that is to be reached.
    #[error("the consent is not that peer's")]
    Unauthorized,
}

/// The consent of who has `issuer`, for `subject` or anyone, until that second of 1970.
pub fn sign(
    issuer: &SigningKey,
    subject: Option<PeerId>,
    scope: u32,
    expires_unix_s: u64,
) -> ConsentToken {
    let issuer_pubkey = issuer.verifying_key().to_bytes();
    let signature = [0; 64];
    let mut token = ConsentToken { issuer_pubkey, subject, scope, expires_unix_s, signature };
    token.signature = issuer.sign(signed(&token, &mut Vec::new())).to_bytes();
    token
}

/// Whether `token`, as it came, lets `subject` reach `issuer` in the way that `scope` says.
/// Whose word it is comes first: what a forged one says is not looked at.
///
/// # Errors
/// Why not; both are what a peer is told.
pub fn check(
    token: &[u8],
    issuer: &PeerId,
    subject: &PeerId,
    scope: u32,
    now_unix_s: u64,
    scratch: &mut Vec<u8>,
) -> Result<(), ConsentError> {
    let token = ConsentToken::read(token).map_err(|_| ConsentError::Unauthorized)?;
    if PeerId::of_public(&token.issuer_pubkey) != *issuer {
        return Err(ConsentError::Unauthorized);
    }
    let left_s = token.expires_unix_s.saturating_sub(now_unix_s);
    let other = token.subject.is_some_and(|named| named != *subject) || token.scope != scope;
    let signature = token.signature;
    // Only its issuer's own word is looked at for what it says.
    verify(&token.issuer_pubkey, signed(&token, scratch), &signature)
        .map_err(|_| ConsentError::Unauthorized)?;
    if other || left_s == 0 || left_s > LIFE_S_MAX {
        return Err(ConsentError::Invalid);
    }
    Ok(())
}

fn signed<'s>(token: &ConsentToken, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let subject = token.subject.as_ref().map_or(&[][..], |id| &id.0);
    let (scope, expires) = (token.scope.to_be_bytes(), token.expires_unix_s.to_be_bytes());
    prefixed(CONSENT_TAG, &[&token.issuer_pubkey, subject, &scope, &expires], scratch)
}

#[cfg(test)]
mod tests;
