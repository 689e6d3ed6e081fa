//! What is signed, what names a record, and the work that pays for a write.
//!
//! A signature is over the protocol's own bytes, never over protobuf: a tag, then
//! the fields in the page's order, each behind its length. Ed25519 goes over them
//! twice, so they have to lie in one piece; the caller lends the buffer, and once
//! that has grown to the largest record nothing here allocates.
//!
//! What this does not do: say whether a record may be stored, or who may announce
//! whom. It looks at no clock and keeps nothing.

pub mod consent;
pub mod stamp;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::ids::Key;
use crate::wire::body::{Provider, Record};

/// What a record's signature begins with.
const RECORD_TAG: &[u8] = b"molia.v1.record";
/// What a provider's signature begins with.
const PROVIDER_TAG: &[u8] = b"molia.v1.provider";
/// What an owned record's key begins with.
const NAMED_TAG: &[u8] = b"molia.v1.named";

impl Key {
    /// The key of an immutable record.
    pub fn of_value(value: &[u8]) -> Self {
        Self(*blake3::hash(value).as_bytes())
    }

    /// The key of the record that an owner calls `salt`.
    pub fn of_name(owner_pubkey: &[u8; 32], salt: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(NAMED_TAG).update(owner_pubkey).update(salt);
        Self(*hasher.finalize().as_bytes())
    }
}

/// Why a record or a provider is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The key is not that of the value, or of the owner and its salt.
    #[error("the key is another record's")]
    WrongKey,
    /// Nobody's signature.
    #[error("the signature is missing")]
    Unsigned,
    /// The signature is not the owner's, or over something else.
    #[error("the signature is wrong")]
    BadSignature,
}

impl Refused {
    /// Every reason.
    pub const ALL: &[Self] = &[Self::WrongKey, Self::Unsigned, Self::BadSignature];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_key",
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// Whether `record` is what its key names: the value, or the owner's word under
/// that name. Checks the cheapest first. What an immutable record says beside its
/// value is nobody's word; a signature without an owner is not looked at.
pub fn verify_record(record: &Record<'_>, scratch: &mut Vec<u8>) -> Result<(), Refused> {
    let named = match record.owner_pubkey {
        None => Key::of_value(record.value),
        Some(owner) => Key::of_name(owner, record.salt),
    };
    if named != record.key {
        return Err(Refused::WrongKey);
    }
    match (record.owner_pubkey, record.signature) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refused::Unsigned),
        (Some(owner), Some(by_owner)) => verify(owner, record_bytes(record, scratch), by_owner),
    }
}

/// The signature of `record` by `owner`; the one that it has does not count.
pub fn sign_record(owner: &SigningKey, record: &Record<'_>, scratch: &mut Vec<u8>) -> [u8; 64] {
    owner.sign(record_bytes(record, scratch)).to_bytes()
}

/// Whether `provider` is announced for `key` by the owner that it names. Whether
/// that owner may speak for the peer is for the caller to say.
pub fn verify_provider(
    key: &Key,
    provider: &Provider<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), Refused> {
    match (provider.owner_pubkey, provider.signature) {
        (Some(owner), Some(by_owner)) => {
            verify(owner, provider_bytes(key, provider, scratch), by_owner)
        }
        (None, _) | (_, None) => Err(Refused::Unsigned),
    }
}

/// The signature of `provider` for `key` by `owner`; the one that it has does not count.
pub fn sign_provider(
    owner: &SigningKey,
    key: &Key,
    provider: &Provider<'_>,
    scratch: &mut Vec<u8>,
) -> [u8; 64] {
    owner.sign(provider_bytes(key, provider, scratch)).to_bytes()
}

/// Whether `signature` is that key's over `signed`. Keys of small order, under
/// which a signature says nothing, are refused.
pub fn verify(public: &[u8; 32], signed: &[u8], signature: &[u8; 64]) -> Result<(), Refused> {
    VerifyingKey::from_bytes(public)
        .and_then(|key| key.verify_strict(signed, &Signature::from_bytes(signature)))
        .map_err(|_| Refused::BadSignature)
}

fn record_bytes<'s>(record: &Record<'_>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let numbers = [record.sequence, record.ttl_secs, record.not_before_unix].map(u64::to_be_bytes);
    let [sequence, ttl_secs, not_before_unix] = &numbers;
    let owner = record.owner_pubkey.map_or(&[][..], <[u8; 32]>::as_slice);
    let key = &record.key.0[..];
    let fields = [key, record.value, sequence, ttl_secs, not_before_unix, owner, record.salt];
    prefixed(RECORD_TAG, &fields, scratch)
}

fn provider_bytes<'s>(key: &Key, provider: &Provider<'_>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let [sequence, expires] = &[provider.sequence, provider.expires_unix_s].map(u64::to_be_bytes);
    let fields = [&key.0[..], &provider.peer_id.0, sequence, expires, provider.meta];
    prefixed(PROVIDER_TAG, &fields, scratch)
}

/// `tag`, then each field behind its length.
fn prefixed<'s>(tag: &[u8], fields: &[&[u8]], scratch: &'s mut Vec<u8>) -> &'s [u8] {
    scratch.clear();
    scratch.extend_from_slice(tag);
    for field in fields {
        let Ok(len) = u32::try_from(field.len()) else {
            unreachable!("no field of a message has four gigabytes");
        };
        scratch.extend_from_slice(&len.to_be_bytes());
        scratch.extend_from_slice(field);
    }
    scratch
}

#[cfg(test)]
mod tests;
