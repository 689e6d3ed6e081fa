//! Introductions, relay channels, consent: whole plaintexts, computed by hand from the page.

use molia_router::ids::{PeerId, WgKey};
use molia_router::wire::body::{
    Addrs, ConsentToken, Outcome, RelayAllocReq, RelayAllocResp, RelayClose, RelayStatus,
    RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult,
    RendezvousStatus, Writer, consent_scope,
};
use molia_router::wire::{Class, Header, Kind, Multiaddr, multiaddr};

use super::golden::{bytes, pinned};

/// An `Addr` field behind its tag: `192.0.2.1:7743`.
const ADDR: &str = "0b 0a 09 04 c0000201 9102 1e3f";

fn addr() -> Multiaddr {
    multiaddr::encode("192.0.2.1:7743".parse().unwrap())
}

#[test]
fn an_introduction_is_asked_for() {
    let hex = format!(
        "4d00 0048  01 18 00 00  00000009 00000000
        0a 20 {}  12 {ADDR}  18 02  20 03  2a 03 aabbcc",
        "7a".repeat(32)
    );
    let addrs = [addr()];
    let request = RendezvousReq {
        target: PeerId([0x7A; 32]),
        candidates: Addrs::of(&addrs),
        nat_mapping: 2,
        nat_filtering: 3,
        consent: &[0xAA, 0xBB, 0xCC],
    };
    let body = pinned(&hex, Header::request(Kind::RendezvousReq, 9), |out| request.write(out));
    assert_eq!(RendezvousReq::read(&body), Ok(request));

    let hex = format!(
        "4d00 004d  01 19 01 00  00000009 00000000
        08 01  12 {ADDR}  1a 20 {}  20 ac02  28 02  30 fa01  3a 02 ddee",
        "5e".repeat(32)
    );
    let response = RendezvousResp {
        status: RendezvousStatus::Ok,
        candidates: Addrs::of(&addrs),
        attempt_secret: Some([0x5E; 32]),
        fire_after_ms: 300,
        windows: 2,
        window_ms: 250,
        consent: &[0xDD, 0xEE],
    };
    let body = pinned(&hex, Header::response(Kind::RendezvousResp, 9), |out| response.write(out));
    assert_eq!(RendezvousResp::read(&body), Ok(response));

    let hex = "4d00 0012  01 19 01 00  00000009 00000000  08 05  0000";
    let nobody = RendezvousResp { status: RendezvousStatus::NoAnswer, ..Default::default() };
    let body = pinned(hex, Header::response(Kind::RendezvousResp, 9), |out| nobody.write(out));
    assert_eq!(RendezvousResp::read(&body), Ok(nobody));
}

#[test]
fn the_target_is_told_and_answers() {
    let hex = format!(
        "4d00 008f  01 1a 00 00  80000001 00000000
        0a 20 {}  12 20 {}  1a {ADDR}  22 20 {}  28 ac02  30 02  38 fa01  42 02 ddee",
        "1d".repeat(32),
        "3a".repeat(32),
        "5e".repeat(32)
    );
    let addrs = [addr()];
    let notify = RendezvousNotify {
        requester: PeerId([0x1D; 32]),
        wg_public: WgKey([0x3A; 32]),
        candidates: Addrs::of(&addrs),
        attempt_secret: [0x5E; 32],
        fire_after_ms: 300,
        windows: 2,
        window_ms: 250,
        consent: &[0xDD, 0xEE],
    };
    let header = Header::request(Kind::RendezvousNotify, 0x8000_0001);
    let body = pinned(&hex, header, |out| notify.write(out));
    assert_eq!(RendezvousNotify::read(&body), Ok(notify));

    let hex = format!(
        "4d00 0027  01 1b 01 00  80000001 00000000
        08 01  12 {ADDR}  18 01  20 01  2a 02 ddee"
    );
    let ack = RendezvousAck {
        accept: true,
        candidates: Addrs::of(&addrs),
        nat_mapping: 1,
        nat_filtering: 1,
        consent: &[0xDD, 0xEE],
    };
    let header = Header::response(Kind::RendezvousAck, 0x8000_0001);
    let body = pinned(&hex, header, |out| ack.write(out));
    assert_eq!(RendezvousAck::read(&body), Ok(ack));
    assert_eq!(RendezvousAck::read(&[]).map(|ack| ack.accept), Ok(false), "silence is no yes");
}

#[test]
fn how_an_introduction_ended() {
    let hex = format!(
        "4d00 0036  01 1c 00 02  00000000 00000000  0a 20 {}  10 03  18 19",
        "1d".repeat(32)
    );
    let result =
        RendezvousResult { other: PeerId([0x1D; 32]), outcome: Outcome::Relayed, rtt_ms: 25 };
    let header = Header::request(Kind::RendezvousResult, 0).in_class(Class::Hints);
    let body = pinned(&hex, header, |out| result.write(out));
    assert_eq!(RendezvousResult::read(&body), Ok(result));
}

#[test]
fn a_channel_is_asked_for_and_offered() {
    let hex = format!(
        "4d00 0041  01 20 00 00  00000009 00000000
        0a 20 {}  12 02 ddee  18 80f403  20 efbd837f  28 01",
        "1d".repeat(32)
    );
    let request = RelayAllocReq {
        peer: PeerId([0x1D; 32]),
        consent: &[0xDD, 0xEE],
        want_bps: 64_000,
        channel: 0x0FE0_DEEF,
        stock_wireguard: true,
    };
    let body = pinned(&hex, Header::request(Kind::RelayAllocReq, 9), |out| request.write(out));
    assert_eq!(RelayAllocReq::read(&body), Ok(request));

    let body = format!(
        "08 05  12 {ADDR}  18 901c  20 ac02  28 80f403  30 808010  38 8c09  42 20 {}  48 81ff03",
        "1d".repeat(32)
    );
    let addrs = [addr()];
    let response = RelayAllocResp {
        channel: 5,
        relay_addrs: Addrs::of(&addrs),
        lifetime_s: 3600,
        idle_timeout_s: 300,
        rate_bps: 64_000,
        burst_bytes: 1 << 18,
        inner_mtu: 1164,
        peer: PeerId([0x1D; 32]),
        generation: 0xFF81,
    };
    for (head, header) in [
        ("01 21 01 00  00000009 00000000", Header::response(Kind::RelayAllocResp, 9)),
        ("01 25 00 00  00000007 00000000", Header::request(Kind::RelayOffer, 7)),
    ] {
        let body = pinned(&format!("4d00 0056  {head}  {body}"), header, |out| response.write(out));
        assert_eq!(RelayAllocResp::read(&body), Ok(response));
    }
}

#[test]
fn a_channel_is_slowed_and_closed() {
    let hex = "4d00 001f  01 22 00 00  00000000 00000000
        08 05  10 808010  18 80f403  20 01  28 e807";
    let status = RelayStatus {
        channel: 5,
        used_bytes: 1 << 18,
        rate_bps: 64_000,
        throttled: true,
        retry_after_ms: 1000,
    };
    let body = pinned(hex, Header::request(Kind::RelayStatus, 0), |out| status.write(out));
    assert_eq!(RelayStatus::read(&body), Ok(status));

    let close = RelayClose { channel: 0xFFFF_FFFF, reason: 2 };
    for (head, header) in [
        ("01 23 00 00", Header::request(Kind::RelayClose, 9)),
        ("01 24 01 00", Header::response(Kind::RelayClosed, 9)),
    ] {
        let hex = format!("4d00 0018  {head}  00000009 00000000  08 ffffffff0f  10 02");
        let body = pinned(&hex, header, |out| close.write(out));
        assert_eq!(RelayClose::read(&body), Ok(close));
    }
}

#[test]
fn consent() {
    let (issuer, subject, signature) = ("ed".repeat(32), "1d".repeat(32), "51".repeat(64));
    let token = ConsentToken {
        issuer_pubkey: [0xED; 32],
        subject: Some(PeerId([0x1D; 32])),
        scope: consent_scope::RELAY,
        expires_unix_s: 300,
        signature: [0x51; 64],
    };
    let anyones = ConsentToken { subject: None, scope: consent_scope::PUNCH, ..token };
    for (token, said) in
        [(token, format!("12 20 {subject}  18 02")), (anyones, String::from("18 01"))]
    {
        let expected = bytes(&format!("0a 20 {issuer}  {said}  20 ac02  2a 40 {signature}"));
        let mut room = [0; 256];
        let mut out = Writer::new(&mut room);
        token.write(&mut out).unwrap();
        assert_eq!(out.written(), expected);
        assert_eq!(ConsentToken::read(&expected), Ok(token));
    }
}
