//! Bindings, key files, and what must never be told.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;
use zeroize::ZeroizeOnDrop;

use super::*;

fn identity(seed: u64) -> Identity {
    Identity::generate(&mut ChaCha12Rng::seed_from_u64(seed))
}

#[test]
fn a_binding_names_its_signer() {
    let node = identity(1);
    let binding = node.binding(100, 200);
    assert_eq!(PeerId::of_public(&binding.ed25519_public), node.peer_id());
    assert_eq!(binding.x25519_public, node.wg_key());
    for unix_s in [100, 150, 200] {
        assert_eq!(verify(&binding, &node.wg_key(), unix_s), Ok(node.peer_id()));
    }
}

#[test]
fn the_signed_bytes_are_the_pages() {
    let node = identity(2);
    let binding = node.binding(0x0102_0304_0506_0708, 0x1112_1314_1516_1718);
    let mut signed = b"molia.v1.binding".to_vec();
    signed.extend(node.wg_key().0);
    signed.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
    let key = VerifyingKey::from_bytes(&binding.ed25519_public).unwrap();
    key.verify_strict(&signed, &Signature::from_bytes(&binding.signature)).unwrap();
}

#[test]
fn a_binding_is_refused_with_the_reason() {
    let (node, other) = (identity(3), identity(4));
    let binding = node.binding(100, 200);
    let ours = node.wg_key();
    assert_eq!(verify(&binding, &other.wg_key(), 150), Err(Refused::WrongKey));
    assert_eq!(verify(&binding, &ours, 99), Err(Refused::NotYetValid));
    assert_eq!(verify(&binding, &ours, 201), Err(Refused::Expired));
    assert_eq!(verify(&node.binding(200, 100), &ours, 150), Err(Refused::NotYetValid));

    let signature = other.binding(100, 200).signature;
    let forged = IdentityBinding { signature, ..binding };
    assert_eq!(verify(&forged, &ours, 150), Err(Refused::BadSignature));
    let stolen = IdentityBinding { ed25519_public: other.binding(1, 2).ed25519_public, ..binding };
    assert_eq!(verify(&stolen, &ours, 150), Err(Refused::BadSignature));
    let stretched = IdentityBinding { not_after_unix_s: 300, ..binding };
    assert_eq!(verify(&stretched, &ours, 150), Err(Refused::BadSignature));
    let earlier = IdentityBinding { not_before_unix_s: 50, ..binding };
    assert_eq!(verify(&earlier, &ours, 150), Err(Refused::BadSignature));
    for bit in 0..512 {
        let mut flipped = binding;
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&flipped, &ours, 150), Err(Refused::BadSignature), "bit {bit}");
    }
}

/// With the neutral point as key and R, and s = 0, the lax equation holds for every message.
#[test]
fn a_key_of_small_order_signs_nothing() {
    let node = identity(5);
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&neutral);
    let weak = IdentityBinding { ed25519_public: neutral, signature, ..node.binding(0, 10) };
    assert_eq!(verify(&weak, &node.wg_key(), 5), Err(Refused::BadSignature));
}

#[test]
fn a_key_file_gives_the_keys_back() {
    let node = identity(6);
    let text = node.encode();
    let back = Identity::decode(&text).unwrap();
    assert_eq!((back.peer_id(), back.wg_key()), (node.peer_id(), node.wg_key()));
    assert_eq!(back.wg_secret().as_bytes(), node.wg_secret().as_bytes());
    assert_eq!(back.binding(1, 2), node.binding(1, 2));
    assert!(text.contains(&node.peer_id().to_string()));
    let edited = text.replace('\n', "\r\n  # a note\r\n\r\n");
    assert_eq!(Identity::decode(&edited).unwrap().peer_id(), node.peer_id());
}

#[test]
fn a_broken_key_file_is_refused_with_its_line() {
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let refused = |text: &str| Identity::decode(text).map(|_| ()).unwrap_err();
    let with = |lines: &str| refused(&format!("# note\nmolia-identity 1\n{lines}"));
    assert_eq!(refused(""), BadKeyFile::Format);
    assert_eq!(refused("# note\n"), BadKeyFile::Format);
    assert_eq!(refused(&format!("ed25519 {KEY}\nx25519 {KEY}\n")), BadKeyFile::Format);
    assert_eq!(refused("molia-identity 2\n"), BadKeyFile::Format);
    assert_eq!(with(""), BadKeyFile::Missing("ed25519"));
    assert_eq!(with(&format!("ed25519 {KEY}")), BadKeyFile::Missing("x25519"));
    assert_eq!(with(&format!("ed25519 {KEY}\nrsa {KEY}")), BadKeyFile::UnknownLine(4));
    assert_eq!(with(&format!("ed25519 {KEY}\n{KEY}")), BadKeyFile::UnknownLine(4));
    assert_eq!(with(&format!("x25519 {KEY}\nx25519 {KEY}")), BadKeyFile::Duplicate(4));
    for bad in [
        "",
        "AAAA",
        &KEY[..43],
        &format!("{KEY}A"),
        &KEY.replace("=", "A"),
        "ÄÖÜ",
        &"A".repeat(4000),
    ] {
        let line = format!("x25519 {KEY}\ned25519  {bad}");
        let fault = with(&line);
        assert!(
            matches!(fault, BadKeyFile::BadKey(4) | BadKeyFile::UnknownLine(4)),
            "{bad}: {fault}"
        );
    }
}

#[test]
fn nothing_tells_a_secret() {
    let node = identity(7);
    let text = node.encode();
    let secrets: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("25519"))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(secrets.len(), 2);
    let broken = text.replace("x25519 ", "x25519 !");
    let told = format!(
        "{node:?} {} {:?}",
        Identity::decode(&broken).unwrap_err(),
        Identity::decode(&broken)
    );
    for secret in secrets {
        assert!(!told.contains(secret));
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(!told.contains(&hex(node.wg_secret().as_bytes())));
}

#[test]
fn secrets_are_wiped() {
    fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<SigningKey>();
    wiped::<Zeroizing<String>>();
    // Its derive wipes in `drop` without saying so by the marker trait.
    assert!(std::mem::needs_drop::<StaticSecret>());
}
