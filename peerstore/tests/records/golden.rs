//! Layouts byte by byte, put together without the crate's help: what is on disk stays readable.

use peerstore::frame::{FRAME_BYTES_MAX, LEN_MAX};
use peerstore::record::{
    Home, PAYLOAD_BYTES_MAX, PEER_BYTES_MAX, PROVIDER_BYTES_MAX, Score, Subject, Target,
    VALUE_BYTES_MAX,
};
use peerstore::{Class, Epoch, Key, Kind, Message, Network, PeerId, Record, WgKey};

use crate::samples::{HOST, KEY, ban, every_shape, message, network, sealed, tombstone, value};

/// CRC-32C (Castagnoli), a bit at a time.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut register = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !register
}

/// The frame that `kind` and `fields` must make.
fn expected(epoch: u32, kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let payload = fields.concat();
    let len = u32::try_from(1 + payload.len()).expect("a short payload").to_le_bytes();
    let sum = crc32c(&[&u64::from(epoch).to_le_bytes(), &len, &[kind], &payload]);
    [&len[..], &[kind], &payload, &sum.to_le_bytes()].concat()
}

#[test]
fn the_reference_checksum_is_castagnolis() {
    assert_eq!(crc32c(&[b"123456789"]), 0xE306_9283);
}

#[test]
fn frames_are_what_the_format_says() {
    let (peer_id, wireguard, key) = ([0xA1; 32], [0xA2; 32], [0xB1; 32]);
    let host = [peer_id, wireguard].concat();
    let other = [0xA3; 32];
    let seen = [8, 7, 6, 5, 4, 3, 2, 1];
    let number = |number: u64| number.to_le_bytes();
    let text = [0xC5; 3];
    let v4 = [4, 24, 192, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let v6 = [6, 48, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let none = [0; 8];
    let port = |port: u16| port.to_le_bytes();
    let [leg, other_leg] = [host.clone(), [other, wireguard].concat()];
    let mut at_v4 = [0; 19];
    at_v4[..5].copy_from_slice(&[4, 192, 0, 2, 7]);
    at_v4[17..].copy_from_slice(&port(4567));
    let mut at_v6 = [0; 19];
    at_v6[..5].copy_from_slice(&[6, 0x20, 1, 0x0d, 0xb8]);
    at_v6[16..].copy_from_slice(&[7, port(4567)[0], port(4567)[1]]);
    let nowhere = [0; 19];
    // Factor and port.
    let [first, second] = [50_001, 50_002].map(|at| [2, port(at)[0], port(at)[1]]);
    let layouts: [(u8, &[&[u8]]); 19] = [
        (1, &[&host, &[0xA4; 32], &number(2), &[255; 8], &[0xA5; 64]]),
        (2, &[&host, &number(1), &seen, &text]),
        (3, &[&host, &seen, &[0xFD, 0xFF, 0xFF, 0xFF]]),
        (4, &[&key, &number(7), &number(9), &text]),
        (5, &[&key, &other, &number(3), &number(4), &text]),
        (6, &[&number(5), &[1], &host]),
        (6, &[&number(5), &[2], &key, &number(6)]),
        (6, &[&number(5), &[3], &key, &other, &number(6)]),
        (6, &[&number(5), &[4, 1], &other]),
        (7, &[&[255; 8], &[2, 1], &[1], &other]),
        (7, &[&[255; 8], &[2, 1], &[2], &[0xA5; 32]]),
        (7, &[&[255; 8], &[2, 1], &[3], &v4]),
        (7, &[&[255; 8], &[2, 1], &[3], &v6]),
        (8, &[&host, &number(8), &1472_u16.to_le_bytes(), &[1, 3, 1, 2], &[30, 0]]),
        (8, &[&host, &number(8), &[0; 2], &[0, 2], &none[..2], &none[..2]]),
        (9, &[&number(11), &number(12)]),
        (6, &[&number(5), &[5], &peer_id, &other]),
        (10, &[&number(13), &leg, &first, &at_v4, &other_leg, &second, &nowhere]),
        (10, &[&number(13), &leg, &first, &at_v6, &other_leg, &second, &nowhere]),
    ];
    let records = every_shape(text.len());
    assert_eq!(records.len(), layouts.len());
    for epoch in [0, 1, 0xDEAD_BEEF] {
        for (record, (kind, fields)) in records.iter().zip(layouts) {
            let frame = sealed(Epoch::new(epoch), record);
            assert_eq!(frame, expected(epoch, kind, fields), "{record:?}");
        }
    }
}

#[test]
fn kinds_have_their_byte_class_and_name() {
    let kinds = Kind::ALL.map(|kind| (kind as u8, kind.label(), kind.class()));
    let wanted = [
        (1, "binding", Class::Critical),
        (2, "peer", Class::Critical),
        (3, "score", Class::Soft),
        (4, "value", Class::Critical),
        (5, "provider", Class::Critical),
        (6, "tombstone", Class::Critical),
        (7, "ban", Class::Critical),
        (8, "path_facts", Class::Soft),
        (9, "seal", Class::Critical),
        (10, "allocation", Class::Critical),
    ];
    assert_eq!(kinds, wanted);
    for byte in 0..=u8::MAX {
        let kind = Kind::try_from(byte).ok();
        assert_eq!(kind, Kind::ALL.into_iter().find(|kind| *kind as u8 == byte));
    }
}

#[test]
fn records_know_where_they_belong() {
    let key = Home::Key(KEY);
    let peer = Home::Peer(HOST.wireguard);
    let id = Home::Key(Key(HOST.peer_id.0));
    let homes = [peer, id, peer, key, key, id, key, key];
    let homes = homes.into_iter().chain([Home::EveryShard; 5]).chain([peer; 2]);
    let pair = Home::Pair(HOST.peer_id, PeerId([0xA3; 32]));
    let homes = homes.chain([Home::EveryShard]).chain([pair; 3]);
    for (record, home) in every_shape(1).iter().zip(homes) {
        assert_eq!(record.home(), home, "{record:?}");
    }
}

#[test]
fn bounds_are_those_of_the_longest_records() {
    for kind in Kind::ALL {
        let longest = every_shape(VALUE_BYTES_MAX)
            .iter()
            .filter(|record| record.kind() == kind)
            .map(Record::payload_len)
            .max();
        assert_eq!(longest, Some(kind.payload_bytes_max()), "{kind:?}");
    }
    assert_eq!(PAYLOAD_BYTES_MAX, 32 + 8 + 8 + VALUE_BYTES_MAX);
    assert_eq!(LEN_MAX, 1 + PAYLOAD_BYTES_MAX);
    assert_eq!(sealed(Epoch::new(1), &value(VALUE_BYTES_MAX)).len(), FRAME_BYTES_MAX);
    let long = [0; VALUE_BYTES_MAX + 1];
    assert!(Message::<PEER_BYTES_MAX>::new(&long[..=PEER_BYTES_MAX]).is_err());
    assert!(Message::<PROVIDER_BYTES_MAX>::new(&long[..=PROVIDER_BYTES_MAX]).is_err());
    assert!(Message::<VALUE_BYTES_MAX>::new(&long).is_err());
    assert_eq!(message::<VALUE_BYTES_MAX>(2).bytes(), [0xC5; 2]);
}

#[test]
fn every_value_of_a_small_field_means_one_thing_or_nothing() {
    // Where the bytes of a choice lie in a payload, and how many values they have.
    let facts =
        every_shape(0).into_iter().rfind(|record| record.kind() == Kind::PathFacts).unwrap();
    let score = Record::Score(Score { host: HOST, last_seen_unix_s: 1, score: 1 });
    let cases: [(Record<'_>, usize, usize); 9] = [
        (facts, 74, 4),                                                 // mapping
        (facts, 75, 4),                                                 // filtering
        (facts, 76, 3),                                                 // hairpin
        (facts, 77, 3),                                                 // port preservation
        (tombstone(Subject::Ban(Target::Peer(PeerId([1; 32])))), 9, 2), // target, both of 32 bytes
        (ban(Target::WireGuard(WgKey([1; 32]))), 10, 2),                // target, likewise
        (ban(Target::Network(network("192.0.2.0", 24))), 11, 2),        // family
        (ban(Target::Network(network("0.0.0.0", 0))), 12, 33),          // prefix length
        (score, 72, 256),                                               // any score is one
    ];
    for (record, at, meanings) in cases {
        let frame = sealed(Epoch::new(1), &record);
        let mut payload = frame[5..frame.len() - 4].to_vec();
        let mut good = 0;
        for byte in 0..=u8::MAX {
            payload[at] = byte;
            let Ok(decoded) = Record::decode(record.kind(), &payload) else { continue };
            good += 1;
            let again = sealed(Epoch::new(1), &decoded);
            assert_eq!(again[5..again.len() - 4], payload, "{decoded:?}");
        }
        assert_eq!(good, meanings, "byte {at} of {record:?}");
    }
}

#[test]
fn networks_have_one_name() {
    let net = |ip: &str, bits| Network::new(ip.parse().unwrap(), bits);
    for (ip, bits) in [("0.0.0.0", 0), ("10.0.0.0", 7), ("1.2.3.4", 32), ("::", 0), ("::1", 128)] {
        let network = net(ip, bits).unwrap();
        assert_eq!((network.ip().to_string().as_str(), network.prefix_bits()), (ip, bits));
    }
    for (ip, bits) in [
        ("1.2.3.5", 31),
        ("128.0.0.0", 0),
        ("1.2.3.4", 33),
        ("::1", 127),
        ("8000::", 0),
        ("::", 129),
    ] {
        assert_eq!(net(ip, bits), None, "{ip}/{bits}");
    }
}
