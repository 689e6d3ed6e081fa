//! Bodies that are refused, by hand: what random bytes rarely come upon.

use molia_router::wire::body::{
    AnnounceProviderReq, BodyError, Error, FindNodeReq, FindNodeResp, FindValueReq, FindValueResp,
    Found, Goaway, IdentityBinding, NegotiateReq, Peer, Ping, Pong, Provider, Puzzle, Record,
    ReflectReq, StoreReq, StoreResp,
};
use molia_router::wire::{Code, StoreCode, proto};
use prost::Message;

use super::golden::bytes;

fn ping(hex: &str) -> Result<u64, BodyError> {
    Ping::read(&bytes(hex)).map(|ping| ping.token)
}

#[test]
fn unknown_fields_are_skipped() {
    for unknown in ["", "20 ff01", "2a 03 010203", "2d 01020304", "31 0102030405060708", "fa7f 00"]
    {
        assert_eq!(ping(&format!("{unknown} 18 07 {unknown}")), Ok(7), "{unknown}");
    }
}

#[test]
fn groups_are_refused() {
    for group in ["23 24", "1b 1c", "0b 18 01 0c", "24", "23", "23 2c"] {
        assert_eq!(ping(&format!("18 07 {group}")), Err(BodyError::Malformed), "{group}");
    }
    let inside = |hex: &str| NegotiateReq::read(&bytes(hex)).map(|request| request.want.is_some());
    assert_eq!(inside("0a 02 08 01"), Ok(true));
    assert_eq!(inside("0a 02 23 24"), Err(BodyError::Malformed));
}

#[test]
fn a_known_field_of_another_wire_type_is_malformed() {
    for field in ["1a 01 07", "1d 01020304", "19 0102030405060708", "10 01", "15 01020304"] {
        assert_eq!(ping(field), Err(BodyError::Malformed), "{field}");
    }
}

#[test]
fn varints_may_be_overlong_but_not_overflow() {
    assert_eq!(ping("18 87 80 80 80 80 80 80 80 80 00"), Ok(7));
    assert_eq!(ping("98 80 00 07"), Ok(7), "keys too");
    assert_eq!(ping("18 ff ff ff ff ff ff ff ff ff 01"), Ok(u64::MAX));
    for bad in [
        "18 ff ff ff ff ff ff ff ff ff 02",
        "18 87 80 80 80 80 80 80 80 80 80 00",
        "18 87",
        "18",
        "98",
        "98 80 80 80 10 07",
        "00 07",
        "07 07",
        "1e 07",
    ] {
        assert_eq!(ping(bad), Err(BodyError::Malformed), "{bad}");
    }
}

#[test]
fn lengths_stay_inside() {
    assert_eq!(Ping::read(&bytes("12 02 aabb")).unwrap().padding, [0xAA, 0xBB]);
    for bad in ["12 03 aabb", "12 ff ff ff ff ff ff ff ff ff 01 aa", "12", "22 01", "2d 010203"] {
        assert_eq!(ping(bad), Err(BodyError::Malformed), "{bad}");
    }
    // The inner field ends behind the sub-message that holds it.
    let crossing = bytes("0a 01 08 01");
    assert_eq!(NegotiateReq::read(&crossing), Err(BodyError::Malformed));
}

#[test]
fn thirty_two_bits_keep_the_low_ones() {
    let load = Pong::read(&bytes("18 85 80 80 80 10")).map(|pong| pong.load_permille);
    assert_eq!(load, Ok(5));
    let body = bytes("10 80 80 80 80 10");
    let request = ReflectReq::read(&body).unwrap();
    assert!(request.from_alt_port, "a bool is any bit of the 64");
}

#[test]
fn codes() {
    for (value, code) in (0..).zip(Code::ALL) {
        assert_eq!((Code::of_wire(value), code.to_wire()), (*code, value));
    }
    assert_eq!(Code::ALL.len(), 12);
    assert_eq!(Code::of_wire(12), Code::Unspecified);
    assert_eq!(
        Error::read(&bytes("08 ff ff ff ff ff ff ff ff ff 01")).unwrap().code,
        Code::Unspecified
    );
    assert_eq!(Error::read(&bytes("12 02 c328")), Err(BodyError::Malformed), "not UTF-8");
}

#[test]
fn store_codes() {
    for (value, code) in (0..).zip(StoreCode::ALL) {
        assert_eq!((StoreCode::of_wire(value), code.to_wire()), (*code, value));
    }
    let labels: Vec<_> = StoreCode::ALL.iter().map(|code| code.label()).collect();
    assert_eq!(labels, ["unspecified", "ok", "rejected", "stale", "equivocation"]);
    assert_eq!(StoreCode::of_wire(5), StoreCode::Unspecified);
    let code = |hex| StoreResp::read(&bytes(hex)).map(|response| response.code);
    assert_eq!(code("08 ff ff ff ff ff ff ff ff ff 01"), Ok(StoreCode::Unspecified));
    assert_eq!(code("12 02 c328"), Err(BodyError::Malformed), "not UTF-8");
}

/// Parsing comes first: a body above a maximum that also ends badly is malformed.
#[test]
fn maxima_come_after_parsing() {
    let mut body = proto::Ping { padding: vec![0; 1401], ..proto::Ping::default() }.encode_to_vec();
    assert_eq!(Ping::read(&body), Err(BodyError::AboveMaximum));
    body.push(0x18);
    assert_eq!(Ping::read(&body), Err(BodyError::Malformed));

    let addr = |len| proto::Addr { multiaddr: vec![4; len] };
    let goaway = |alternates| proto::Goaway { alternates, ..proto::Goaway::default() };
    let read = |alternates| Goaway::read(&goaway(alternates).encode_to_vec()).map(|_| ());
    assert_eq!(read(vec![addr(64); 8]), Ok(()));
    assert_eq!(read(vec![addr(64); 9]), Err(BodyError::AboveMaximum));
    assert_eq!(read(vec![addr(65)]), Err(BodyError::AboveMaximum));

    let mut body = goaway(vec![addr(65); 9]).encode_to_vec();
    body.extend([0x1A, 0x01, 0x08]);
    assert_eq!(Goaway::read(&body).map(|_| ()), Err(BodyError::Malformed));
}

#[test]
fn more_peers_than_an_answer_may_have() {
    let peer =
        proto::Peer { peer_id: vec![1; 32], wg_public: vec![2; 32], ..proto::Peer::default() };
    let body =
        |peers| proto::FindNodeResp { peers, ..proto::FindNodeResp::default() }.encode_to_vec();
    let read = |peers| FindNodeResp::read(&body(peers)).map(|response| response.peers.len());
    assert_eq!(read(vec![peer.clone(); 16]), Ok(16));
    assert_eq!(read(vec![peer.clone(); 17]), Err(BodyError::AboveMaximum));
    // Six hundred empty ones cost three times their bytes and no memory.
    assert_eq!(FindNodeResp::read(&[0x0A, 0x00].repeat(600)), Err(BodyError::AboveMaximum));
    let nameless = proto::Peer { peer_id: vec![1; 31], ..peer.clone() };
    assert_eq!(read(vec![nameless.clone(), peer.clone()]), Err(BodyError::WrongLength));
    let addr = proto::Addr::default();
    let crowded = proto::Peer { addrs: vec![addr; 5], ..peer };
    assert_eq!(read(vec![crowded]), Err(BodyError::AboveMaximum));
    let mut ends_badly = body(vec![nameless]);
    ends_badly.extend([0x0A, 0x01, 0x08]);
    assert_eq!(FindNodeResp::read(&ends_badly), Err(BodyError::Malformed));
}

/// A provider of a FIND_VALUE answer, its id filled with `id`.
fn provider(id: u8) -> proto::Provider {
    proto::Provider { peer_id: vec![id; 32], ..proto::Provider::default() }
}

fn answer(providers: Vec<proto::Provider>) -> Vec<u8> {
    let value = proto::find_value_resp::Value::Providers(proto::Providers { providers });
    proto::FindValueResp { value: Some(value), ..Default::default() }.encode_to_vec()
}

/// The first bytes of the ids of an answer's providers; `None` if it has none or a record.
fn ids(body: &[u8]) -> Result<Option<Vec<u8>>, BodyError> {
    Ok(match FindValueResp::read(body)?.value {
        Some(Found::Providers(found)) => Some(found.iter().map(|one| one.peer_id.0[0]).collect()),
        Some(Found::Record(_)) | None => None,
    })
}

#[test]
fn of_two_values_the_last_counts_and_providers_merge() {
    let (one, two) = (answer(vec![provider(1)]), answer(vec![provider(2), provider(3)]));
    let record = bytes("0a 01 cc");
    let join = |parts: &[&[u8]]| ids(&parts.concat());
    assert_eq!(join(&[]), Ok(None));
    assert_eq!(join(&[&one, &two]), Ok(Some(vec![1, 2, 3])));
    assert_eq!(join(&[&one, &record, &two]), Ok(Some(vec![2, 3])));
    assert_eq!(join(&[&one, &bytes("78 02"), &two, &bytes("12 00")]), Ok(Some(vec![1, 2, 3])));
    assert_eq!(join(&[&one, &two, &record]), Ok(None));
    assert_eq!(join(&[&record, &bytes("12 00")]), Ok(Some(vec![])));
    let empty = FindValueResp::read(&[0x0A, 0x00]).map(|response| response.value.is_some());
    assert_eq!(empty, Ok(true), "an empty slice is a record all the same");
}

#[test]
fn more_providers_than_a_frame_may_have() {
    assert_eq!(ids(&answer(vec![provider(1); 32])), Ok(Some(vec![1; 32])));
    let above = Err(BodyError::AboveMaximum);
    assert_eq!(ids(&answer(vec![provider(1); 33])), above);
    assert_eq!(ids(&answer(vec![provider(1); 17]).repeat(2)), above, "in two messages");
    let talkative = proto::Provider { meta: vec![0; 129], ..provider(1) };
    assert_eq!(ids(&answer(vec![provider(1), talkative.clone()])), above);
    let nameless = proto::Provider { peer_id: vec![1; 31], ..provider(1) };
    assert_eq!(ids(&answer(vec![nameless.clone(), talkative])), Err(BodyError::WrongLength));
    // What a record takes the place of is parsed, but held against no maximum.
    let replaced = [answer(vec![nameless]), vec![0x0A, 0x00]].concat();
    assert_eq!(ids(&replaced), Ok(None));
    assert_eq!(ids(&bytes("12 02 0a01  0a 00")), Err(BodyError::Malformed));
    // Six hundred empty ones cost three times their bytes and no memory.
    assert_eq!(ids(&[0x12, 0x02, 0x0A, 0x00].repeat(600)), above);

    let peer = bytes(&format!("1a 44  0a 20 {}  22 20 {}", "1e".repeat(32), "3a".repeat(32)));
    assert_eq!(ids(&peer.repeat(8)), Ok(None));
    assert_eq!(ids(&peer.repeat(9)), above);
}

#[test]
fn exact_lengths_of_what_is_stored() {
    let read = |record: &proto::Record| Record::read(&record.encode_to_vec()).map(|_| ());
    let good = proto::Record { key: vec![1; 32], ..proto::Record::default() };
    assert_eq!(read(&good), Ok(()));
    for len in [0, 31, 33, 63, 65] {
        let wrong = Err(BodyError::WrongLength);
        let key = vec![1; len];
        assert_eq!(read(&proto::Record { key: key.clone(), ..good.clone() }), wrong);
        let request = proto::FindValueReq { key: key.clone(), provider_limit: 1 };
        assert_eq!(FindValueReq::read(&request.encode_to_vec()).map(|_| ()), wrong);
        let named = proto::Provider { peer_id: key.clone(), ..provider(1) };
        assert_eq!(Provider::read(&named.encode_to_vec()).map(|_| ()), wrong);
        let (self_, stamp, admission) = (Some(provider(1)), None, Vec::new());
        let request = proto::AnnounceProviderReq { key, self_, stamp, admission };
        assert_eq!(AnnounceProviderReq::read(&request.encode_to_vec()).map(|_| ()), wrong);

        // Nobody's is none, anything else is wrong.
        let optional = if len == 0 { Ok(()) } else { wrong };
        let (owner_pubkey, signature) = (vec![1; len], vec![1; len]);
        assert_eq!(read(&proto::Record { owner_pubkey, ..good.clone() }), optional);
        assert_eq!(read(&proto::Record { signature, ..good.clone() }), optional);
    }
    let announced = proto::AnnounceProviderReq { key: vec![1; 32], ..Default::default() };
    let read = AnnounceProviderReq::read(&announced.encode_to_vec()).map(|_| ());
    assert_eq!(read, Err(BodyError::WrongLength), "nobody is announced");
}

#[test]
fn maxima_of_what_is_stored() {
    let read = |record: &proto::Record| Record::read(&record.encode_to_vec()).map(|_| ());
    let salted = |len| proto::Record { key: vec![1; 32], salt: vec![2; len], ..Default::default() };
    assert_eq!((read(&salted(64)), read(&salted(65))), (Ok(()), Err(BodyError::AboveMaximum)));
    // Validators are passed over, whatever they say, but they are bytes.
    let claimed = proto::Record { validators: vec![3; 1000], ..salted(1) };
    assert_eq!(read(&claimed), Ok(()));
    let mut body = salted(65).encode_to_vec();
    body.extend([0x40, 0x01]);
    assert_eq!(Record::read(&body), Err(BodyError::Malformed));

    let store = |len| proto::StoreReq { admission: vec![1; len], ..Default::default() };
    let read = |len| StoreReq::read(&store(len).encode_to_vec()).map(|_| ());
    assert_eq!((read(64), read(65)), (Ok(()), Err(BodyError::AboveMaximum)));
    let response = |len| proto::StoreResp { reason: "é".repeat(len), ..Default::default() };
    let read = |len| StoreResp::read(&response(len).encode_to_vec()).map(|_| ());
    assert_eq!((read(64), read(65)), (Ok(()), Err(BodyError::AboveMaximum)), "counted in bytes");
}

#[test]
fn exact_lengths() {
    let wrong = Err(BodyError::WrongLength);
    for len in [0, 31, 33, 64] {
        let request = proto::FindNodeReq { target_id: vec![1; len], limit: 1 }.encode_to_vec();
        assert_eq!(FindNodeReq::read(&request).map(|_| ()), wrong);
        let via_router = vec![1; len];
        let request = proto::ReflectReq { via_router, ..proto::ReflectReq::default() };
        let expected = if len == 0 { Ok(None) } else { Err(BodyError::WrongLength) };
        assert_eq!(
            ReflectReq::read(&request.encode_to_vec()).map(|read| read.via_router),
            expected
        );
    }
    for lens in [[31, 32, 64], [32, 33, 64], [32, 32, 63], [0, 32, 64], [32, 0, 64], [32, 32, 0]] {
        let [ed25519_public, x25519_public, signature] = lens.map(|len| vec![1; len]);
        let binding = proto::IdentityBinding {
            ed25519_public,
            x25519_public,
            signature,
            ..Default::default()
        };
        assert_eq!(IdentityBinding::read(&binding.encode_to_vec()).map(|_| ()), wrong, "{lens:?}");
    }
    for len in [0, 15, 17, 32] {
        let puzzle = proto::Puzzle { nonce: vec![1; len], ..proto::Puzzle::default() };
        assert_eq!(Puzzle::read(&puzzle.encode_to_vec()).map(|_| ()), wrong);
    }
    assert_eq!(Peer::read(&[]).map(|_| ()), wrong);
    // A binding that is there but empty is not an absent one.
    assert_eq!(NegotiateReq::read(&bytes("12 00")).map(|_| ()), wrong);
}

#[test]
fn reasons_have_labels() {
    let labels: Vec<_> = BodyError::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels, ["malformed", "above_maximum", "wrong_length"]);
}
