//! Who a node is: an Ed25519 key that names it and an X25519 key that it speaks
//! WireGuard with, tied together by a signature.
//!
//! Secrets are wiped when dropped, are never printed and never part of an error.
//! Nothing here touches a file or a clock: the caller hands in text, seconds and
//! randomness.

pub mod known;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use boringtun::x25519::{PublicKey, StaticSecret};
use ed25519_dalek::{Signer as _, SigningKey};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::ids::{PeerId, WgKey};
use crate::signing;
use crate::wire::body::IdentityBinding;

/// What a binding's signature begins with.
const BINDING_TAG: &[u8; 16] = b"molia.v1.binding";

impl PeerId {
    /// The id of the holder of an Ed25519 key.
    pub fn of_public(ed25519_public: &[u8; 32]) -> Self {
        Self(*blake3::hash(ed25519_public).as_bytes())
    }
}

/// A node's own keys.
pub struct Identity {
    signing: SigningKey,
    wireguard: StaticSecret,
    peer_id: PeerId,
    wg_key: WgKey,
}

impl Identity {
    /// Draws new keys.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut seeds = Zeroizing::new([[0; 32]; 2]);
        seeds.iter_mut().for_each(|seed| rng.fill_bytes(seed));
        Self::of_secrets(&seeds[0], &seeds[1])
    }

    fn of_secrets(signing: &[u8; 32], wireguard: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(signing);
        let wireguard = StaticSecret::from(*wireguard);
        let peer_id = PeerId::of_public(signing.verifying_key().as_bytes());
        let wg_key = WgKey(PublicKey::from(&wireguard).to_bytes());
        Self { signing, wireguard, peer_id, wg_key }
    }

    /// The name others know the node by.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The public key others speak WireGuard to.
    pub const fn wg_key(&self) -> WgKey {
        self.wg_key
    }

    /// The secret key that signs what the node says, see [`signing`].
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// The secret key of the WireGuard tunnels.
    pub const fn wg_secret(&self) -> &StaticSecret {
        &self.wireguard
    }

    /// Seeds the choice of every peer's home shard: the same in every life of this router, and
    /// nobody else's to guess.
    pub fn home_seed(&self) -> [u64; 2] {
        let secret = Zeroizing::new(self.wireguard.to_bytes());
        let seed = blake3::derive_key("molia-router home shards v1", secret.as_slice());
        let half = |at: usize| {
            let mut le = [0; 8];
            le.copy_from_slice(&seed[at..at + 8]);
            u64::from_le_bytes(le)
        };
        [half(0), half(8)]
    }

    /// States, from one second to another, that the WireGuard key is this identity's.
    pub fn binding(&self, not_before_unix_s: u64, not_after_unix_s: u64) -> IdentityBinding {
        let signed = signed_bytes(&self.wg_key, not_before_unix_s, not_after_unix_s);
        IdentityBinding {
            ed25519_public: self.signing.verifying_key().to_bytes(),
            x25519_public: self.wg_key,
            not_before_unix_s,
            not_after_unix_s,
            signature: self.signing.sign(&signed).to_bytes(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// Why a binding was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Another WireGuard key than the session's.
    #[error("the binding is for another WireGuard key")]
    WrongKey,
    /// Its time has not come.
    #[error("the binding is not valid yet")]
    NotYetValid,
    /// Its time has passed.
    #[error("the binding has expired")]
    Expired,
    /// The signature is not that key's.
    #[error("the binding's signature is wrong")]
    BadSignature,
}

impl Refused {
    /// Every reason.
    pub const ALL: &[Self] =
        &[Self::WrongKey, Self::NotYetValid, Self::Expired, Self::BadSignature];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_key",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// Who speaks through `session_key`, if `binding` says so validly at `unix_s`
/// (both ends of its validity included). Checks the cheapest first.
///
/// # Errors
/// The first check that fails.
pub fn verify(
    binding: &IdentityBinding,
    session_key: &WgKey,
    unix_s: u64,
) -> Result<PeerId, Refused> {
    let peer_id = applies(binding, session_key, unix_s)?;
    let signed = signed_bytes(session_key, binding.not_before_unix_s, binding.not_after_unix_s);
    signing::verify(&binding.ed25519_public, &signed, &binding.signature)
        .map_err(|_| Refused::BadSignature)?;
    Ok(peer_id)
}

/// The same for a binding whose signature was verified before.
///
/// # Errors
/// The first check that fails.
pub fn applies(
    binding: &IdentityBinding,
    session_key: &WgKey,
    unix_s: u64,
) -> Result<PeerId, Refused> {
    if binding.x25519_public != *session_key {
        return Err(Refused::WrongKey);
    }
    if unix_s < binding.not_before_unix_s {
        return Err(Refused::NotYetValid);
    }
    if unix_s > binding.not_after_unix_s {
        return Err(Refused::Expired);
    }
    Ok(PeerId::of_public(&binding.ed25519_public))
}

fn signed_bytes(wg_key: &WgKey, not_before_unix_s: u64, not_after_unix_s: u64) -> [u8; 64] {
    let mut signed = [0; 64];
    signed[..16].copy_from_slice(BINDING_TAG);
    signed[16..48].copy_from_slice(&wg_key.0);
    signed[48..56].copy_from_slice(&not_before_unix_s.to_be_bytes());
    signed[56..].copy_from_slice(&not_after_unix_s.to_be_bytes());
    signed
}

/// First line of a key file that is not a comment.
const FORMAT: &str = "molia-identity 1";
/// Name of the Ed25519 secret's line.
const ED25519: &str = "ed25519";
/// Name of the X25519 secret's line.
const X25519: &str = "x25519";

/// What is wrong with a key file; never what it holds. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyFile {
    /// The format's name is not there.
    #[error("not an identity file: its first line should be `{FORMAT}`")]
    Format,
    /// Neither a comment nor a key.
    #[error("line {0}: neither a comment nor `{ED25519} KEY` nor `{X25519} KEY`")]
    UnknownLine(usize),
    /// A key that is there already.
    #[error("line {0}: a second key of this name")]
    Duplicate(usize),
    /// Not base64, or not of 32 bytes.
    #[error("line {0}: the key is not 32 bytes in base64 (44 characters)")]
    BadKey(usize),
    /// A key is not there.
    #[error("the line `{0} KEY` is missing")]
    Missing(&'static str),
}

impl Identity {
    /// The text of a key file.
    pub fn encode(&self) -> Zeroizing<String> {
        // Room for all of it: growing would leave unwiped copies behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let mut key = Zeroizing::new([0; 44]);
        text.push_str("# The identity of a molia node: whoever has this file is the node.\n");
        text.push_str("# Keep a copy in a safe place; nothing can restore it.\n");
        text.push_str("# node id: ");
        text.push_str(&self.peer_id.to_string());
        text.push('\n');
        text.push_str(FORMAT);
        text.push('\n');
        for (name, secret) in
            [(ED25519, self.signing.as_bytes()), (X25519, self.wireguard.as_bytes())]
        {
            let written = BASE64.encode_slice(secret, &mut key[..]).ok();
            assert!(written == Some(44), "32 bytes are 44 characters of base64");
            text.push_str(name);
            text.push(' ');
            key.iter().for_each(|&byte| text.push(char::from(byte)));
            text.push('\n');
        }
        text
    }

    /// The keys of a key file's text. Comments and blank lines may stand anywhere.
    pub fn decode(text: &str) -> Result<Self, BadKeyFile> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        if lines.next().is_none_or(|(_, line)| line != FORMAT) {
            return Err(BadKeyFile::Format);
        }
        let (mut ed25519, mut x25519) = (None, None);
        for (number, line) in lines {
            let (name, key) = line.split_once(' ').ok_or(BadKeyFile::UnknownLine(number))?;
            let slot = match name {
                ED25519 => &mut ed25519,
                X25519 => &mut x25519,
                _ => return Err(BadKeyFile::UnknownLine(number)),
            };
            if slot.is_some() {
                return Err(BadKeyFile::Duplicate(number));
            }
            *slot = Some(secret_of(key.trim_start()).ok_or(BadKeyFile::BadKey(number))?);
        }
        let ed25519 = ed25519.ok_or(BadKeyFile::Missing(ED25519))?;
        let x25519 = x25519.ok_or(BadKeyFile::Missing(X25519))?;
        Ok(Self::of_secrets(&ed25519, &x25519))
    }
}

fn secret_of(key: &str) -> Option<Zeroizing<[u8; 32]>> {
    // Base64 decodes whole groups: 44 characters need room for 33 bytes.
    let mut room = Zeroizing::new([0; 33]);
    let len = BASE64.decode_slice(key, &mut room[..]).ok()?;
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(room.get(..len).filter(|bytes| bytes.len() == 32)?);
    Some(secret)
}

#[cfg(test)]
mod tests;
