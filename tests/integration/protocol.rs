//! What the page says of frames, over the wire.

use molia_router::client::Client;
use molia_router::client::peer::Raw;
use molia_router::wire::{Code, Flags, Header, Kind};

use super::server::on_every_engine;

fn header(kind: u8) -> Header {
    Header { kind, flags: Flags::NONE, qos: 0, correlation: 0, stream: 0 }
}

/// The ERROR that answers a frame.
fn refusal(client: &mut Client, version: u8, header: Header, body: &[u8]) -> (Code, u32) {
    let answer = client.raw(Raw { version, header, body }).unwrap();
    let refusal = answer.refusal().expect("an ERROR").unwrap();
    (refusal.code, refusal.detail)
}

#[test]
fn the_first_failing_check_answers() {
    on_every_engine(|server| {
        let mut client = server.connect();
        let ping = header(Kind::Ping.id());
        let flagged = Header { flags: Flags(0x80), ..ping };
        let streamed = Header { stream: 7, ..ping };
        let find = header(Kind::FindNodeReq.id());
        let unknown = 77;
        let mut refused =
            |version, header, body: &[u8]| refusal(&mut client, version, header, body);
        // Version before type before flags before session before parse.
        assert_eq!(refused(2, header(unknown), &[]).0, Code::Unsupported);
        assert_eq!(refused(1, header(unknown), &[]), (Code::Unsupported, 77));
        assert_eq!(refused(1, header(Kind::Goaway.id()), &[]).0, Code::Unsupported);
        assert_eq!(refused(1, header(Kind::StoreReq.id()), &[]).0, Code::Unauthorized);
        assert_eq!(refused(2, flagged, &[]).0, Code::Unsupported);
        assert_eq!(refused(1, flagged, &[]).0, Code::Invalid);
        assert_eq!(refused(1, streamed, &[]).0, Code::Invalid);
        assert_eq!(refused(1, ping, &[0xff]).0, Code::Invalid);
        assert_eq!(refused(1, find, &[]).0, Code::Invalid, "a target has 32 bytes");
        assert_eq!(refused(1, header(Kind::FindValueReq.id()), &[]).0, Code::Invalid);
        assert_eq!(refused(1, find, &[10, 3, 1, 2, 3]).0, Code::Invalid);
        client.ping(0).unwrap();
    });
}

#[test]
fn a_frame_with_the_response_bit_is_never_answered() {
    on_every_engine(|server| {
        let mut client = server.connect();
        for kind in [Kind::Ping.id(), Kind::Pong.id(), 77, Kind::Error.id()] {
            let header = Header { flags: Flags::RESPONSE, ..header(kind) };
            assert!(client.raw(Raw { version: 1, header, body: &[] }).is_err(), "type {kind}");
        }
        client.ping(0).unwrap();
    });
}

#[test]
fn padding_is_never_echoed() {
    on_every_engine(|server| {
        let mut client = server.connect();
        client.ping(1150).unwrap();
        let body = [&[0x12, 0x80, 0x0a][..], &[0; 1280]].concat();
        let answer =
            client.raw(Raw { version: 1, header: header(Kind::Ping.id()), body: &body }).unwrap();
        assert_eq!(answer.kind, Kind::Pong);
    });
}
