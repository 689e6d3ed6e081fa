//! Plaintexts, message bodies and addresses: whatever a peer can put behind its keys.

use molia_router::wire::body::{
    AnnounceProviderReq, AnnounceProviderResp, Capabilities, ConsentToken, Error, FindNodeReq,
    FindNodeResp, FindValueReq, FindValueResp, Found, Goaway, IdentityBinding, NegotiateReq,
    NegotiateResp, Overflow, Peer, Ping, Pong, Provider, Puzzle, Record, ReflectReq, ReflectResp,
    RelayAllocReq, RelayAllocResp, RelayClose, RelayStatus, RendezvousAck, RendezvousNotify,
    RendezvousReq, RendezvousResp, RendezvousResult, Stamp, StoreReq, StoreResp, Writer,
};
use molia_router::wire::check::{Rules, Verdict, check};
use molia_router::wire::kind::{Kind, KindSet};
use molia_router::wire::{self, multiaddr, proto, stun};
use prost::Message;

/// Longer than the encoding of any body that a datagram can hold.
const OUT_BYTES: usize = 8192;

/// Shim, header, checks: what opens lies inside the plaintext, the header survives being
/// written, and a response is never answered.
pub fn frame(data: &[u8]) {
    let Ok(frame) = wire::open(data) else { return };
    let (version, header, body) = wire::split(frame);
    assert_eq!(frame.len(), header.to_bytes().len() + body.len());
    assert_eq!(header.to_bytes()[1..], frame[1..frame.len() - body.len()]);
    let rules = Rules {
        handled: KindSet::of(&[Kind::Ping, Kind::FindNodeReq, Kind::TraceHint]),
        plaintext_max: 1440,
    };
    for identified in [false, true] {
        match check(&rules, version, &header, frame.len(), identified) {
            Verdict::Request(kind, _) => {
                assert!(rules.handled.contains(kind) && !header.flags.is_response());
            }
            Verdict::Response(kind) => assert!(kind.is_response() && header.flags.is_response()),
            Verdict::Refuse(_) => assert!(!header.flags.is_response(), "a response is answered"),
            Verdict::Ignore(_) => {}
        }
    }
}

/// Reads with the borrowed reader; what it takes, the generated type takes, too, and both write
/// the same bytes.
macro_rules! agree {
    ($Body:ident, $bytes:expr) => {
        agree!($Body, $bytes, |body: &$Body<'_>, out: &mut Writer<'_>| body.write(out))
    };
    (owned $Body:ident, $bytes:expr) => {
        agree!($Body, $bytes, |body: &$Body, out: &mut Writer<'_>| body.write(out))
    };
    ($Body:ident, $bytes:expr, $write:expr) => {
        agree!($Body, $bytes, $write, |generated: proto::$Body| generated)
    };
    ($Body:ident, $bytes:expr, $write:expr, $normal:expr) => {
        if let Ok(borrowed) = $Body::read($bytes) {
            let generated = proto::$Body::decode($bytes).expect("prost takes what we take");
            let generated = ($normal)(generated);
            let mut out = [0; OUT_BYTES];
            let mut writer = Writer::new(&mut out);
            ($write)(&borrowed, &mut writer).expect("a body that came fits");
            assert_eq!(writer.written(), generated.encode_to_vec(), "{borrowed:?}");
        }
    };
}

/// Bodies; the first byte says which.
pub fn body(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    if bytes.len() > OUT_BYTES / 2 {
        return;
    }
    match which % 33 {
        0 => agree!(Ping, bytes),
        1 => agree!(Pong, bytes),
        2 => agree!(owned Capabilities, bytes),
        3 => agree!(NegotiateReq, bytes),
        4 => agree!(NegotiateResp, bytes),
        5 => agree!(owned IdentityBinding, bytes),
        6 => agree!(owned Puzzle, bytes),
        7 => agree!(Peer, bytes),
        8 => agree!(owned FindNodeReq, bytes),
        9 => agree!(FindNodeResp, bytes, find_node),
        10 => agree!(ReflectReq, bytes),
        11 => agree!(ReflectResp, bytes),
        12 => agree!(
            Error,
            bytes,
            |error: &Error<'_>, out: &mut Writer<'_>| error.write(out),
            known_code
        ),
        13 => agree!(Goaway, bytes),
        which @ 14..=22 => stored(which, bytes),
        which => paired(which, bytes),
    }
}

/// Bodies of what is stored, found and announced.
fn stored(which: u8, bytes: &[u8]) {
    match which {
        14 => agree!(
            Record,
            bytes,
            |record: &Record<'_>, out: &mut Writer<'_>| record.write(out),
            |record| proto::Record { validators: Vec::new(), ..record }
        ),
        15 => agree!(Provider, bytes),
        16 => agree!(owned Stamp, bytes),
        17 => agree!(owned FindValueReq, bytes),
        18 => agree!(FindValueResp, bytes, find_value),
        19 => agree!(StoreReq, bytes),
        20 => agree!(
            StoreResp,
            bytes,
            |answer: &StoreResp<'_>, out: &mut Writer<'_>| answer.write(out),
            |answer: proto::StoreResp| proto::StoreResp { code: answer.code().into(), ..answer }
        ),
        21 => agree!(AnnounceProviderReq, bytes),
        _ => agree!(
            AnnounceProviderResp,
            bytes,
            |answer: &AnnounceProviderResp<'_>, out: &mut Writer<'_>| answer.write(out),
            |answer: proto::AnnounceProviderResp| proto::AnnounceProviderResp {
                code: answer.code().into(),
                ..answer
            }
        ),
    }
}

/// Bodies of introductions, relay channels and consent.
fn paired(which: u8, bytes: &[u8]) {
    match which {
        23 => agree!(RendezvousReq, bytes),
        24 => agree!(
            RendezvousResp,
            bytes,
            |answer: &RendezvousResp<'_>, out: &mut Writer<'_>| answer.write(out),
            |answer: proto::RendezvousResp| proto::RendezvousResp {
                status: answer.status().into(),
                ..answer
            }
        ),
        25 => agree!(RendezvousNotify, bytes),
        26 => agree!(RendezvousAck, bytes),
        27 => agree!(
            RendezvousResult,
            bytes,
            |result: &RendezvousResult, out: &mut Writer<'_>| result.write(out),
            |result: proto::RendezvousResult| proto::RendezvousResult {
                outcome: result.outcome().into(),
                ..result
            }
        ),
        28 => agree!(RelayAllocReq, bytes),
        29 => agree!(RelayAllocResp, bytes),
        30 => agree!(owned RelayStatus, bytes),
        31 => agree!(owned RelayClose, bytes),
        _ => agree!(owned ConsentToken, bytes),
    }
}

/// As a router writes it, from the encoded entries.
fn find_node(answer: &FindNodeResp<'_>, out: &mut Writer<'_>) -> Result<(), Overflow> {
    for peer in answer.peers.iter() {
        out.message(1, |out| peer.write(out))?;
    }
    out.uint32(14, answer.chunk_index)?;
    out.uint32(15, answer.total_chunks)
}

/// As a router writes it, from what it keeps in wire form.
fn find_value(answer: &FindValueResp<'_>, out: &mut Writer<'_>) -> Result<(), Overflow> {
    match answer.value {
        Some(Found::Record(slice)) => out.encoded(1, slice)?,
        Some(Found::Providers(providers)) => out.message(2, |out| {
            providers.iter().try_for_each(|one| out.message(1, |out| one.write(out)))
        })?,
        None => {}
    }
    answer.closer_peers.iter().try_for_each(|peer| out.message(3, |out| peer.write(out)))?;
    out.uint32(14, answer.chunk_index)?;
    out.uint32(15, answer.total_chunks)
}

/// Codes of a later version are UNSPECIFIED to us.
fn known_code(error: proto::Error) -> proto::Error {
    proto::Error { code: error.code().into(), ..error }
}

/// Addresses: what decodes is found again in its canonical form.
pub fn address(data: &[u8]) {
    let Ok(socket) = multiaddr::decode(data) else { return };
    let canonical = multiaddr::encode(socket);
    assert_eq!(multiaddr::decode(canonical.as_ref()).ok(), Some(socket));
}

/// STUN: what reads as a request is answered by one well-formed message, with its transaction id
/// and at most the address more.
pub fn stun(data: &[u8]) {
    assert!(stun::Request::read(data).is_err() || stun::is_request(data));
    let Ok(request) = stun::Request::read(data) else { return };
    for from in ["192.0.2.1:9", "[2001:db8::1]:9"] {
        let answer = request.answer(from.parse().expect("an address"));
        let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
        assert!(length + 20 == answer.len() && length.is_multiple_of(4));
        assert_eq!((answer[0], &answer[4..20]), (1, &data[4..20]));
        assert!(answer.len() <= data.len().max(20) + 60, "it is no amplifier");
    }
}
