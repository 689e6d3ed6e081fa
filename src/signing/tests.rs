//! What an independent script computed from the page, and what must not pass.

use super::*;
use crate::ids::PeerId;
use crate::wire::body::Stamp;

const OWNER: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
const SALT: &[u8] = b"blog/index";
const NAMED: &str = "e3626d705a2e2a77a14481ff1dbc967a4bd2d3d2bdfe0971143e6bbf2d3702ac";
const UNNAMED: &str = "75ea22849b68ea30e86ff90bd2e39b9ec0c55ccbb68e392714af9142b5efd5e4";
const PEER: &str = "0871f3aabc26e4582c508af5c03884e6a96f0989d1dd8cfb49cd17ed25792433";

fn hex<const N: usize>(digits: &str) -> [u8; N] {
    assert_eq!(digits.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

fn owner() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn record<'a>(owner: &'a [u8; 32], signature: Option<&'a [u8; 64]>) -> Record<'a> {
    Record {
        key: Key(hex(NAMED)),
        value: b"hello molia",
        sequence: 0x0102_0304_0506_0708,
        ttl_secs: 86_400,
        not_before_unix: 1_790_000_000,
        owner_pubkey: Some(owner),
        signature,
        salt: SALT,
    }
}

fn provider<'a>(owner: &'a [u8; 32], signature: Option<&'a [u8; 64]>) -> Provider<'a> {
    Provider {
        peer_id: PeerId(hex(PEER)),
        meta: b"v=1",
        expires_unix_s: 1_790_003_600,
        sequence: 3,
        owner_pubkey: Some(owner),
        signature,
    }
}

fn verified(record: &Record<'_>) -> Result<(), Refused> {
    verify_record(record, &mut vec![0xEE; 3])
}

#[test]
fn keys_are_the_pages() {
    let value = "6bb87794b712a2275a498e521ca6feb405216edb5719f4c3f16ddb77859596e7";
    assert_eq!(Key::of_value(b"hello molia").0, hex(value));
    let nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(Key::of_value(b"").0, hex(nothing));
    assert_eq!(owner().verifying_key().to_bytes(), hex(OWNER));
    assert_eq!(Key::of_name(&hex(OWNER), SALT).0, hex(NAMED));
    assert_eq!(Key::of_name(&hex(OWNER), b"").0, hex(UNNAMED));
}

#[test]
fn a_records_signature_is_the_pages() {
    let (public, mut scratch) = (hex(OWNER), Vec::new());
    let record = record(&public, None);
    let signed = record_bytes(&record, &mut scratch);
    let digest = "5fb52167646732bf3be695c76fbbf6a718bba95745affdf98f06fb73de672aa1";
    assert_eq!((signed.len(), *blake3::hash(signed).as_bytes()), (152, hex(digest)));
    let expected: [u8; 64] = hex(concat!(
        "aed04a5eef6a75a1b0da4baa2713a3e01f7bb0549129d633076058ea1deee099",
        "08c863da0e7fc11481a9985831731c31596951594a761e1dd2dca90b44660c0f",
    ));
    assert_eq!(sign_record(&owner(), &record, &mut scratch), expected);
    assert_eq!(verified(&Record { signature: Some(&expected), ..record }), Ok(()));

    let tombstone = Record { value: &[], sequence: 9, ttl_secs: 0, not_before_unix: 0, ..record };
    let expected: [u8; 64] = hex(concat!(
        "c365cacef964130f0818cbd7e72a49488b91fc5e4a71d3cdb41ef6497f71c58d",
        "8810eeae518ca64c486ef79e59c3bd3272d8db5daaf022b9a514eca91c3bd60f",
    ));
    assert_eq!(sign_record(&owner(), &tombstone, &mut scratch), expected);
    assert_eq!(verified(&Record { signature: Some(&expected), ..tombstone }), Ok(()));
}

#[test]
fn the_largest_record_without_a_name() {
    let (public, mut scratch) = (hex(OWNER), Vec::new());
    let value: Vec<u8> = (0..=250).cycle().take(8192).collect();
    let record = Record {
        key: Key(hex(UNNAMED)),
        value: &value,
        sequence: 1,
        ttl_secs: 60,
        not_before_unix: 5,
        salt: &[],
        ..record(&public, None)
    };
    let expected: [u8; 64] = hex(concat!(
        "81256074c4a7c67573f76dbd286045f5c2fb28ef387c8b8c4315178792cb59a2",
        "18f9894ef1076c9474204b224d13bea9f8fb04bcaf8c3d08e1dd6d22c15c0d0e",
    ));
    assert_eq!(sign_record(&owner(), &record, &mut scratch), expected);
    assert_eq!(verified(&Record { signature: Some(&expected), ..record }), Ok(()));
}

#[test]
fn a_record_is_refused_with_the_reason() {
    let (public, mut scratch) = (hex(OWNER), Vec::new());
    let unsigned = record(&public, None);
    let signature = sign_record(&owner(), &unsigned, &mut scratch);
    let good = Record { signature: Some(&signature), ..unsigned };
    assert_eq!(verified(&unsigned), Err(Refused::Unsigned));

    let other = SigningKey::from_bytes(&[8; 32]);
    let stranger = other.verifying_key().to_bytes();
    for wrong in [
        Record { key: Key([1; 32]), ..good },
        Record { salt: b"blog/indey", ..good },
        Record { owner_pubkey: Some(&stranger), ..good },
        Record { owner_pubkey: None, ..good },
    ] {
        assert_eq!(verified(&wrong), Err(Refused::WrongKey), "{wrong:?}");
    }
    let forged = sign_record(&other, &good, &mut scratch);
    for wrong in [
        Record { value: b"hello moria", ..good },
        Record { value: b"", ..good },
        Record { sequence: 1, ..good },
        Record { ttl_secs: 86_401, ..good },
        Record { not_before_unix: 0, ..good },
        Record { signature: Some(&forged), ..good },
        Record { signature: Some(&[0; 64]), ..good },
    ] {
        assert_eq!(verified(&wrong), Err(Refused::BadSignature), "{wrong:?}");
    }
    for bit in 0..512 {
        let mut flipped = signature;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let wrong = Record { signature: Some(&flipped), ..good };
        assert_eq!(verified(&wrong), Err(Refused::BadSignature), "bit {bit}");
    }
}

/// Where one field ends and the next begins is signed, too.
#[test]
fn a_byte_cannot_move_between_fields() {
    let (public, mut scratch) = (hex(OWNER), Vec::new());
    let record = record(&public, None);
    let bytes = record_bytes(&record, &mut scratch).to_vec();
    let longer = Record { salt: b"blog/inde", value: b"xhello molia", ..record };
    assert_ne!(record_bytes(&longer, &mut scratch), bytes);
    let swapped = Record { sequence: record.ttl_secs, ttl_secs: record.sequence, ..record };
    assert_ne!(record_bytes(&swapped, &mut scratch), bytes);
}

#[test]
fn an_immutable_record_needs_no_signature() {
    let immutable = Record {
        key: Key::of_value(b"hello molia"),
        owner_pubkey: None,
        salt: &[],
        ..record(&[0; 32], None)
    };
    assert_eq!(verified(&immutable), Ok(()));
    assert_eq!(verified(&Record { value: b"hello", ..immutable }), Err(Refused::WrongKey));
    let public = hex(OWNER);
    let owned = Record { owner_pubkey: Some(&public), ..immutable };
    assert_eq!(verified(&owned), Err(Refused::WrongKey));
}

#[test]
fn a_providers_signature_is_the_pages() {
    let (public, mut scratch) = (hex(OWNER), Vec::new());
    let (key, unsigned) = (Key(hex(NAMED)), provider(&public, None));
    let signed = format!(
        "6d6f6c69612e76312e70726f7669646572 00000020{NAMED} 00000020{PEER} \
         000000080000000000000003 00000008000000006ab14990 00000003763d31"
    );
    let signed: [u8; 120] = hex(&signed.replace(' ', ""));
    assert_eq!(provider_bytes(&key, &unsigned, &mut scratch), signed);
    let expected: [u8; 64] = hex(concat!(
        "c3776f597bbb271f118a4bda23d8d98c5cbdce88554e108831c009b09d85ac25",
        "f1304de556ecbcb4fe027c7974c1311083fd718274f6ab04c07e1c97563edc08",
    ));
    assert_eq!(sign_provider(&owner(), &key, &unsigned, &mut scratch), expected);

    let good = Provider { signature: Some(&expected), ..unsigned };
    let mut verified = |key: &Key, provider| verify_provider(key, &provider, &mut scratch);
    assert_eq!(verified(&key, good), Ok(()));
    assert_eq!(verified(&key, unsigned), Err(Refused::Unsigned));
    assert_eq!(verified(&key, Provider { owner_pubkey: None, ..good }), Err(Refused::Unsigned));
    assert_eq!(verified(&Key([1; 32]), good), Err(Refused::BadSignature));
    let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    for wrong in [
        Provider { peer_id: PeerId([1; 32]), ..good },
        Provider { meta: b"v=2", ..good },
        Provider { expires_unix_s: 1_790_003_601, ..good },
        Provider { sequence: 4, ..good },
        Provider { owner_pubkey: Some(&stranger), ..good },
    ] {
        assert_eq!(verified(&key, wrong), Err(Refused::BadSignature), "{wrong:?}");
    }
}

/// With the neutral point as key and R, and s = 0, the lax equation holds for every message.
#[test]
fn a_key_of_small_order_owns_nothing() {
    let (mut neutral, mut signature) = ([0; 32], [0; 64]);
    (neutral[0], signature[0]) = (1, 1);
    let key = Key::of_name(&neutral, SALT);
    let weak = Record { key, ..record(&neutral, Some(&signature)) };
    assert_eq!(verified(&weak), Err(Refused::BadSignature));
}

const KEY: Key = Key([0x11; 32]);
const ROUTER: PeerId = PeerId([0x22; 32]);
const EPOCH: u32 = 29_833_333;

#[test]
fn stamps_are_the_pages() {
    // The first nonces that pay, and what they pay.
    for (bits, nonce) in [(1, 0), (8, 136), (12, 847), (16, 26_729)] {
        let stamp = Stamp { epoch: EPOCH, nonce };
        assert_eq!(stamp::solve(&KEY, &ROUTER, EPOCH, bits, 0, 1 << 20), Some(stamp));
        assert!(stamp::paid(&stamp, &KEY, &ROUTER, bits));
        assert!(!stamp::paid(&stamp, &KEY, &ROUTER, bits + 1));
        assert!(stamp::paid(&stamp, &KEY, &ROUTER, 0));
        assert_eq!(stamp::solve(&KEY, &ROUTER, EPOCH, bits, 0, nonce), None);
    }
    // Nonces go on at 0 behind the last one.
    let start = 0xFFFF_FFFF_FFFF_FFF7;
    let stamp = Stamp { epoch: EPOCH, nonce: 3 };
    assert_eq!(stamp::solve(&KEY, &ROUTER, EPOCH, 4, start, 20), Some(stamp));
}

#[test]
fn a_stamp_fits_one_key_router_epoch_and_nonce() {
    let good = Stamp { epoch: EPOCH, nonce: 26_729 };
    let paid = |stamp: Stamp, key, router| stamp::paid(&stamp, &key, &router, 16);
    assert!(paid(good, KEY, ROUTER));
    assert!(!paid(good, Key([0x12; 32]), ROUTER));
    assert!(!paid(good, KEY, PeerId([0x23; 32])));
    assert!(!paid(Stamp { epoch: EPOCH + 1, ..good }, KEY, ROUTER));
    assert!(!paid(Stamp { nonce: 26_730, ..good }, KEY, ROUTER));
    assert!(!stamp::paid(&good, &KEY, &ROUTER, u32::MAX));
}

#[test]
fn a_stamp_lasts_its_epoch_and_the_next() {
    let unix_s = u64::from(EPOCH) * 60;
    assert_eq!((stamp::epoch(unix_s - 1), stamp::epoch(unix_s)), (EPOCH - 1, EPOCH));
    for (at, current) in [(unix_s - 1, false), (unix_s, true), (unix_s + 119, true)] {
        assert_eq!(stamp::is_current(EPOCH, at), current, "{at}");
    }
    assert!(!stamp::is_current(EPOCH, unix_s + 120));
    assert!(stamp::is_current(0, 0) && stamp::is_current(0, 60));
    assert!(!stamp::is_current(u32::MAX, 0));
    assert_eq!(stamp::epoch(u64::MAX), u32::MAX);
}

#[test]
fn zero_bits_are_counted_from_the_front() {
    assert_eq!(stamp::leading_zeros(&[0; 32]), 256);
    for bit in 0..256_u32 {
        let mut digest = [0; 32];
        let at = (bit / 8) as usize;
        digest[at] = 0x80 >> (bit % 8);
        digest[at + 1..].fill(0xFF);
        assert_eq!(stamp::leading_zeros(&digest), bit);
    }
}

#[test]
fn reasons_have_labels() {
    let labels: Vec<_> = Refused::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels, ["wrong_key", "unsigned", "bad_signature"]);
}
