//! Introductions, channels and consents that are refused: each maximum, each exact length.

use molia_router::wire::body::{
    BodyError, ConsentToken, Outcome, RelayAllocReq, RelayAllocResp, RendezvousAck,
    RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult, RendezvousStatus,
};
use molia_router::wire::proto;
use prost::Message;

use super::golden::bytes;
use super::oracle::Twin;

const ABOVE: Result<(), BodyError> = Err(BodyError::AboveMaximum);
const WRONG: Result<(), BodyError> = Err(BodyError::WrongLength);

/// What our reader says of `message`.
fn read<T: Twin>(message: &T) -> Result<(), BodyError> {
    T::ours(&message.encode_to_vec()).map(|_| ())
}

fn addrs(count: usize, len: usize) -> Vec<proto::Addr> {
    vec![proto::Addr { multiaddr: vec![4; len] }; count]
}

fn request() -> proto::RendezvousReq {
    proto::RendezvousReq { target_peer_id: vec![1; 32], ..Default::default() }
}

fn notify() -> proto::RendezvousNotify {
    proto::RendezvousNotify {
        requester_peer_id: vec![1; 32],
        wg_public: vec![2; 32],
        attempt_secret: vec![3; 32],
        ..Default::default()
    }
}

fn alloc_req() -> proto::RelayAllocReq {
    proto::RelayAllocReq { peer_id: vec![1; 32], ..Default::default() }
}

fn alloc_resp() -> proto::RelayAllocResp {
    proto::RelayAllocResp { peer_id: vec![1; 32], ..Default::default() }
}

fn token() -> proto::ConsentToken {
    let (issuer_pubkey, signature) = (vec![1; 32], vec![2; 64]);
    proto::ConsentToken { issuer_pubkey, signature, ..Default::default() }
}

#[test]
fn candidates() {
    for (count, len, expected) in
        [(8, 64, Ok(())), (9, 1, ABOVE), (9, 0, ABOVE), (1, 65, ABOVE), (8, 65, ABOVE)]
    {
        let candidates = addrs(count, len);
        let said = [
            read(&proto::RendezvousReq { candidates: candidates.clone(), ..request() }),
            read(&proto::RendezvousResp { candidates: candidates.clone(), ..Default::default() }),
            read(&proto::RendezvousNotify { candidates: candidates.clone(), ..notify() }),
            read(&proto::RendezvousAck { candidates, ..Default::default() }),
        ];
        assert_eq!(said, [expected; 4], "{count} of {len} bytes");
    }
    for (count, len, expected) in [(4, 64, Ok(())), (5, 1, ABOVE), (1, 65, ABOVE)] {
        let relay_addrs = addrs(count, len);
        let said = read(&proto::RelayAllocResp { relay_addrs, ..alloc_resp() });
        assert_eq!(said, expected, "{count} of {len} bytes");
    }
}

#[test]
fn consent() {
    for (len, expected) in [(0, Ok(())), (256, Ok(())), (257, ABOVE), (1000, ABOVE)] {
        let consent = vec![1; len];
        let said = [
            read(&proto::RendezvousReq { consent: consent.clone(), ..request() }),
            read(&proto::RendezvousResp { consent: consent.clone(), ..Default::default() }),
            read(&proto::RendezvousNotify { consent: consent.clone(), ..notify() }),
            read(&proto::RendezvousAck { consent: consent.clone(), ..Default::default() }),
            read(&proto::RelayAllocReq { consent, ..alloc_req() }),
        ];
        assert_eq!(said, [expected; 5], "{len} bytes");
    }
}

#[test]
fn exact_lengths() {
    for len in [0, 31, 33, 64] {
        let id = || vec![1; len];
        let said = [
            read(&proto::RendezvousReq { target_peer_id: id(), ..request() }),
            read(&proto::RendezvousNotify { requester_peer_id: id(), ..notify() }),
            read(&proto::RendezvousNotify { wg_public: id(), ..notify() }),
            read(&proto::RendezvousNotify { attempt_secret: id(), ..notify() }),
            read(&proto::RendezvousResult { other_peer_id: id(), ..Default::default() }),
            read(&proto::RelayAllocReq { peer_id: id(), ..alloc_req() }),
            read(&proto::RelayAllocResp { peer_id: id(), ..alloc_resp() }),
            read(&proto::ConsentToken { issuer_pubkey: id(), ..token() }),
        ];
        assert_eq!(said, [WRONG; 8], "{len} bytes");
        // Nobody's is anyone's, no attempt has no secret.
        let optional = if len == 0 { Ok(()) } else { WRONG };
        let said = [
            read(&proto::ConsentToken { subject_peer_id: id(), ..token() }),
            read(&proto::RendezvousResp { attempt_secret: id(), ..Default::default() }),
        ];
        assert_eq!(said, [optional; 2], "{len} bytes");
    }
    for len in [0, 32, 63, 65] {
        assert_eq!(read(&proto::ConsentToken { signature: vec![2; len], ..token() }), WRONG);
    }
    let whole = [read(&request()), read(&notify()), read(&alloc_req()), read(&alloc_resp())];
    assert_eq!((whole, read(&token())), ([Ok(()); 4], Ok(())));
}

/// Parsing comes first: a body above a maximum that also ends badly is malformed.
#[test]
fn maxima_come_after_parsing() {
    let (candidates, consent) = (addrs(9, 65), vec![0; 257]);
    let crowded = proto::RendezvousReq { candidates, consent, ..Default::default() };
    let mut body = crowded.encode_to_vec();
    assert!(matches!(
        RendezvousReq::read(&body),
        Err(BodyError::AboveMaximum | BodyError::WrongLength)
    ));
    body.extend(bytes("12 01 08"));
    assert_eq!(RendezvousReq::read(&body), Err(BodyError::Malformed));
    // Four hundred empty ones cost no memory.
    assert_eq!(RendezvousAck::read(&[0x12, 0x00].repeat(400)), Err(BodyError::AboveMaximum));
}

#[test]
fn a_known_field_of_another_wire_type_is_malformed() {
    let malformed = Some(BodyError::Malformed);
    for hex in ["08 01", "10 01", "1a 00", "22 00", "28 01"] {
        assert_eq!(RendezvousReq::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["0a 00", "10 01", "18 01", "22 00", "2a 00", "32 00", "38 01"] {
        assert_eq!(RendezvousResp::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["08 01", "10 01", "18 01", "20 01", "2a 00", "32 00", "3a 00", "40 01"] {
        assert_eq!(RendezvousNotify::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["0a 00", "10 01", "1a 00", "22 00", "28 01"] {
        assert_eq!(RendezvousAck::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["08 01", "10 01", "1a 00", "22 00", "2a 00"] {
        assert_eq!(RelayAllocReq::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["0a 00", "10 01", "1a 00", "22 00", "2a 00", "32 00", "3a 00", "40 01", "4a 00"] {
        assert_eq!(RelayAllocResp::read(&bytes(hex)).err(), malformed, "{hex}");
    }
    for hex in ["08 01", "10 01", "1a 00", "22 00", "28 01"] {
        assert_eq!(ConsentToken::read(&bytes(hex)).err(), malformed, "{hex}");
    }
}

#[test]
fn statuses_and_outcomes() {
    for (value, status) in (0..).zip(RendezvousStatus::ALL) {
        assert_eq!((RendezvousStatus::of_wire(value), status.to_wire()), (*status, value));
    }
    for (value, outcome) in (0..).zip(Outcome::ALL) {
        assert_eq!((Outcome::of_wire(value), outcome.to_wire()), (*outcome, value));
    }
    let labels: Vec<_> = RendezvousStatus::ALL.iter().map(|status| status.label()).collect();
    let expected =
        ["unspecified", "ok", "no_such_peer", "refused", "unreachable_nats", "no_answer"];
    assert_eq!(labels, expected);
    let labels: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
    assert_eq!(labels, ["unspecified", "punched", "failed", "relayed"]);
    for unknown in ["06", "ff ff ff ff ff ff ff ff ff 01"] {
        let status = RendezvousResp::read(&bytes(&format!("08 {unknown}"))).map(|it| it.status);
        assert_eq!(status, Ok(RendezvousStatus::Unspecified), "{unknown}");
        let hex = format!("0a 20 {}  10 {unknown}", "1d".repeat(32));
        let outcome = RendezvousResult::read(&bytes(&hex)).map(|it| it.outcome);
        assert_eq!(outcome, Ok(Outcome::Unspecified), "{unknown}");
    }
}
