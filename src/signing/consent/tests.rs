//! Whose word it is, whom and what it is for, and until when.

use super::*;
use crate::wire::body::{Writer, consent_scope};

const SUBJECT: PeerId = PeerId([0x1D; 32]);
const OTHER: PeerId = PeerId([0x1E; 32]);
const SCOPES: [u32; 2] = [consent_scope::PUNCH, consent_scope::RELAY];
const NOW: u64 = 1_790_000_000;
const EXPIRES: u64 = NOW + 600;

const SIGNED_FOR_ONE: &str = concat!(
    "01285076fdff58de03e110bc727821b42f9fe1c598a85ca9f3fd2625e9991495",
    "7b1a855cb45cdc14600e6e2a3e1044551eb752ec95d361d1ca2fc7ee11bd660e",
);
const SIGNED_FOR_ANYONE: &str = concat!(
    "0676fb7440f5ea4fecef7716c8f66e4e7068971e34b977f95ba2fd3caca83142",
    "f9ba578bf47b063c8bcab5e2ca4dc2286cdc4a63dacebad6c1834463d87ff80f",
);

fn issuer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn id_of(key: &SigningKey) -> PeerId {
    PeerId::of_public(&key.verifying_key().to_bytes())
}

fn encoded(token: &ConsentToken) -> Vec<u8> {
    let mut room = [0; crate::limits::CONSENT_BYTES_MAX];
    let mut out = Writer::new(&mut room);
    token.write(&mut out).unwrap();
    out.written().to_vec()
}

/// The verdict on `token` where `SUBJECT` wants to reach the issuer.
fn judged(token: &[u8], scope: u32, now_unix_s: u64) -> Result<(), ConsentError> {
    check(token, &id_of(&issuer()), &SUBJECT, scope, now_unix_s, &mut vec![0xEE; 3])
}

fn good(scope: u32) -> Vec<u8> {
    encoded(&sign(&issuer(), Some(SUBJECT), scope, EXPIRES))
}

/// Computed by an independent script, from the page's words.
#[test]
fn the_signature_is_the_pages() {
    let of = |subject, scope| sign(&issuer(), subject, scope, EXPIRES);
    let hex = |token: ConsentToken| -> String {
        token.signature.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(hex(of(Some(SUBJECT), consent_scope::RELAY)), SIGNED_FOR_ONE);
    assert_eq!(hex(of(None, consent_scope::PUNCH)), SIGNED_FOR_ANYONE);
    let anyones = of(None, consent_scope::PUNCH);
    assert_eq!(signed(&anyones, &mut vec![1; 9]).len(), 16 + 36 + 4 + 8 + 12);
}

#[test]
fn its_issuers_word_for_one_peer_and_one_use() {
    let mut scratch = Vec::new();
    for scope in SCOPES {
        let token = good(scope);
        for asked in [0, 1, 2, 3, u32::MAX] {
            let expected = if asked == scope { Ok(()) } else { Err(ConsentError::Invalid) };
            assert_eq!(judged(&token, asked, NOW), expected, "{scope} for {asked}");
        }
        let mut of = |issuer, subject| check(&token, &issuer, &subject, scope, NOW, &mut scratch);
        assert_eq!(of(id_of(&issuer()), OTHER), Err(ConsentError::Invalid));
        assert_eq!(of(OTHER, SUBJECT), Err(ConsentError::Unauthorized));
        assert_eq!(of(SUBJECT, SUBJECT), Err(ConsentError::Unauthorized));
    }
}

#[test]
fn a_token_for_anyone_is_for_one_use_and_a_while_all_the_same() {
    let token = encoded(&sign(&issuer(), None, consent_scope::PUNCH, EXPIRES));
    for subject in [SUBJECT, OTHER, id_of(&issuer()), PeerId([0; 32])] {
        let of =
            |scope, now| check(&token, &id_of(&issuer()), &subject, scope, now, &mut Vec::new());
        assert_eq!(of(consent_scope::PUNCH, NOW), Ok(()));
        assert_eq!(of(consent_scope::RELAY, NOW), Err(ConsentError::Invalid));
        assert_eq!(of(consent_scope::PUNCH, EXPIRES), Err(ConsentError::Invalid));
    }
    assert_eq!(
        check(&token, &OTHER, &SUBJECT, consent_scope::PUNCH, NOW, &mut Vec::new()),
        Err(ConsentError::Unauthorized)
    );
}

/// The last second is the one before its end; half an hour is allowed, a second more is not.
#[test]
fn it_ends() {
    let until = |expires, now| {
        let token = encoded(&sign(&issuer(), Some(SUBJECT), consent_scope::RELAY, expires));
        judged(&token, consent_scope::RELAY, now)
    };
    let invalid = Err(ConsentError::Invalid);
    for (expires, now, expected) in [
        (NOW + 1, NOW, Ok(())),
        (NOW, NOW, invalid),
        (NOW - 1, NOW, invalid),
        (NOW + LIFE_S_MAX - 1, NOW, Ok(())),
        (NOW + LIFE_S_MAX, NOW, Ok(())),
        (NOW + LIFE_S_MAX + 1, NOW, invalid),
        (0, 0, invalid),
        (0, u64::MAX, invalid),
        (u64::MAX, 0, invalid),
        (u64::MAX, NOW, invalid),
        (u64::MAX, u64::MAX, invalid),
        (u64::MAX, u64::MAX - 1, Ok(())),
        (u64::MAX, u64::MAX - LIFE_S_MAX, Ok(())),
        (u64::MAX, u64::MAX - LIFE_S_MAX - 1, invalid),
    ] {
        assert_eq!(until(expires, now), expected, "until {expires} at {now}");
    }
    assert_eq!(LIFE_S_MAX, 1800);
}

/// No bit of a token means nothing: whatever is changed, it is nobody's word.
#[test]
fn every_bit_and_byte_is_signed() {
    for (subject, scope) in [(Some(SUBJECT), consent_scope::RELAY), (None, consent_scope::PUNCH)] {
        let token = encoded(&sign(&issuer(), subject, scope, EXPIRES));
        assert_eq!(judged(&token, scope, NOW), Ok(()));
        for at in 0..token.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([0xFF]) {
                let mut bent = token.clone();
                bent[at] ^= flip;
                let verdict = judged(&bent, scope, NOW);
                assert_eq!(verdict, Err(ConsentError::Unauthorized), "byte {at} ^ {flip:#x}");
            }
            let verdict = judged(&token[..at], scope, NOW);
            assert_eq!(verdict, Err(ConsentError::Unauthorized), "the first {at} bytes");
        }
    }
}

#[test]
fn what_is_said_is_what_was_signed() {
    let token = sign(&issuer(), Some(SUBJECT), consent_scope::RELAY, EXPIRES);
    let stranger = sign(&SigningKey::from_bytes(&[8; 32]), Some(SUBJECT), 2, EXPIRES);
    for wrong in [
        ConsentToken { subject: None, ..token },
        ConsentToken { subject: Some(OTHER), ..token },
        ConsentToken { scope: consent_scope::PUNCH, ..token },
        ConsentToken { expires_unix_s: EXPIRES + 1, ..token },
        ConsentToken { signature: [0; 64], ..token },
        ConsentToken { signature: stranger.signature, ..token },
        ConsentToken { issuer_pubkey: stranger.issuer_pubkey, ..token },
        stranger,
    ] {
        for scope in SCOPES {
            let verdict = judged(&encoded(&wrong), scope, NOW);
            assert_eq!(verdict, Err(ConsentError::Unauthorized), "{wrong:?}");
        }
    }
    for none in [&[][..], &[0], &[0xFF; 256]] {
        assert_eq!(judged(none, consent_scope::RELAY, NOW), Err(ConsentError::Unauthorized));
    }
}

/// What a stranger made up says nothing about what the issuer allowed, however wrong it is.
#[test]
fn a_forged_token_is_unauthorized_whatever_else_is_wrong() {
    let forged = |subject, scope, expires| {
        let token = sign(&issuer(), subject, scope, expires);
        encoded(&ConsentToken { signature: [1; 64], ..token })
    };
    for token in [forged(Some(OTHER), 2, EXPIRES), forged(None, 1, EXPIRES), forged(None, 2, NOW)] {
        let verdict = judged(&token, consent_scope::RELAY, NOW);
        assert_eq!(verdict, Err(ConsentError::Unauthorized));
    }
}

/// A later version may add fields that this one passes over.
#[test]
fn fields_of_a_later_version_change_nothing() {
    let later = [good(consent_scope::RELAY), vec![0x7A, 2, 1, 2]].concat();
    assert_eq!(judged(&later, consent_scope::RELAY, NOW), Ok(()));
    let twice = [good(consent_scope::PUNCH), good(consent_scope::RELAY)].concat();
    assert_eq!(judged(&twice, consent_scope::RELAY, NOW), Ok(()), "the last one counts");
    assert_eq!(judged(&twice, consent_scope::PUNCH, NOW), Err(ConsentError::Invalid));
}

/// With the neutral point as key and R, and s = 0, the lax equation holds for every message.
#[test]
fn a_key_of_small_order_consents_to_nothing() {
    let (mut neutral, mut signature) = ([0; 32], [0; 64]);
    (neutral[0], signature[0]) = (1, 1);
    let token = ConsentToken {
        issuer_pubkey: neutral,
        subject: Some(SUBJECT),
        scope: consent_scope::RELAY,
        expires_unix_s: EXPIRES,
        signature,
    };
    let id = PeerId::of_public(&neutral);
    let verdict =
        check(&encoded(&token), &id, &SUBJECT, consent_scope::RELAY, NOW, &mut Vec::new());
    assert_eq!(verdict, Err(ConsentError::Unauthorized));
}
