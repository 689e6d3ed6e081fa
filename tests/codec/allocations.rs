//! Nothing in the codec allocates, whatever the bytes.

use allocation_counter::measure;
use ed25519_dalek::SigningKey;
use molia_router::ids::{Key, PeerId, WgKey};
use molia_router::signing::consent::ConsentError;
use molia_router::signing::{self, Refused};
use molia_router::wire::body::{
    Addrs, AnnounceProviderReq, AnnounceProviderResp, Capabilities, Chunks, ConsentToken, Error,
    FindNodeReq, FindNodeResp, FindValueReq, FindValueResp, Found, Goaway, IdentityBinding,
    NegotiateReq, NegotiateResp, Peer, Ping, Pong, Provider, Puzzle, Record, ReflectReq,
    ReflectResp, RelayAllocReq, RelayAllocResp, RelayClose, RelayStatus, RendezvousAck,
    RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult, Stamp, StoreReq, StoreResp,
    Writer, find_value,
};
use molia_router::wire::channel::{Channel, HEADER_BYTES, inner};
use molia_router::wire::probe::{
    Punch, PunchKind, attempt_id, filter_check, filter_nonce, filter_write, punch_read, punch_write,
};
use molia_router::wire::{Header, Kind, encode, multiaddr, open, split};
use proptest::collection::vec;
use proptest::prelude::*;

use super::values::soup;

/// Reads `body` as every message; how many took it.
fn read_as_everything(body: &[u8]) -> usize {
    let peers = |response: FindNodeResp<'_>| response.peers.iter().count();
    let providers = |response: FindValueResp<'_>| match response.value {
        Some(Found::Providers(providers)) => providers.iter().count(),
        Some(Found::Record(_)) | None => response.closer_peers.iter().count(),
    };
    let taken = [
        Ping::read(body).is_ok(),
        Pong::read(body).is_ok(),
        Capabilities::read(body).is_ok(),
        IdentityBinding::read(body).is_ok(),
        Puzzle::read(body).is_ok(),
        NegotiateReq::read(body).is_ok(),
        NegotiateResp::read(body).is_ok(),
        Peer::read(body).is_ok_and(|peer| peer.addrs.sockets().count() < 5),
        FindNodeReq::read(body).is_ok(),
        FindNodeResp::read(body).map(peers).is_ok(),
        ReflectReq::read(body).is_ok(),
        ReflectResp::read(body).is_ok(),
        Error::read(body).is_ok(),
        Goaway::read(body).is_ok_and(|goaway| goaway.alternates.sockets().count() < 9),
        multiaddr::decode(body).is_ok(),
        Record::read(body).is_ok(),
        Provider::read(body).is_ok(),
        Stamp::read(body).is_ok(),
        FindValueReq::read(body).is_ok(),
        FindValueResp::read(body).map(providers).is_ok(),
        StoreReq::read(body).is_ok(),
        StoreResp::read(body).is_ok(),
        AnnounceProviderReq::read(body).is_ok(),
        AnnounceProviderResp::read(body).is_ok(),
    ];
    let paired = read_as_paired(body);
    let taken = taken.iter().chain(&paired);
    taken.filter(|taken| **taken).count()
}

/// Introductions, channels, consent, and what comes without a session.
fn read_as_paired(body: &[u8]) -> [bool; 13] {
    let few = |addrs: Addrs<'_>| addrs.sockets().count() < 9;
    [
        RendezvousReq::read(body).is_ok_and(|request| few(request.candidates)),
        RendezvousResp::read(body).is_ok_and(|response| few(response.candidates)),
        RendezvousNotify::read(body).is_ok_and(|notice| few(notice.candidates)),
        RendezvousAck::read(body).is_ok_and(|ack| few(ack.candidates)),
        RendezvousResult::read(body).is_ok(),
        RelayAllocReq::read(body).is_ok(),
        RelayAllocResp::read(body).is_ok_and(|response| few(response.relay_addrs)),
        RelayStatus::read(body).is_ok(),
        RelayClose::read(body).is_ok(),
        ConsentToken::read(body).is_ok(),
        Channel::read(body).is_ok() && inner(body).is_ok(),
        punch_read(body, &[7; 32]).is_some(),
        filter_nonce(body).is_some_and(|nonce| filter_check(body, nonce, &WgKey([7; 32]))),
    ]
}

proptest! {
    #[test]
    fn reading(body in prop_oneof![soup(), vec(any::<u8>(), 0..200)]) {
        let mut taken = 0;
        let info = measure(|| taken = read_as_everything(&body));
        prop_assert_eq!((info.count_total, info.bytes_total), (0, 0), "{} took it", taken);
    }

    #[test]
    fn opening_and_writing(plaintext in vec(any::<u8>(), 0..64), padding in vec(any::<u8>(), 0..1500)) {
        let mut out = vec![0; 1440];
        let mut len = 0;
        let info = measure(|| {
            len += open(&plaintext).map_or(0, |frame| split(frame).2.len());
            let ping = Ping { now_unix_ms: 1, padding: &padding, token: u64::MAX };
            len += encode(&mut out, Header::request(Kind::Ping, 1), |out| ping.write(out)).unwrap_or(0);
        });
        prop_assert_eq!((info.count_total, info.bytes_total), (0, 0), "{} bytes", len);
    }
}

/// A record cut for FIND_VALUE and for STORE, and providers.
#[test]
fn cutting_and_writing_what_is_stored() {
    let (record, provider) = ([7; 8192], [7; 144]);
    let info = measure(|| {
        let mut room = [0; 1184];
        let plan = Chunks::of_record(record.len(), 0, room.len()).unwrap();
        for (index, range) in (0..).zip(plan.iter()) {
            let mut out = Writer::new(&mut room);
            let mut response = find_value::RespWriter::new(&mut out);
            response.record(&record[range]).unwrap();
            response.finish_chunk(index, 7).unwrap();
        }
        let stamp = Some(Stamp { epoch: 1, nonce: 1 });
        let request =
            StoreReq { record: &record, stamp, admission: &[1; 64], ..Default::default() };
        for chunk in request.chunks(room.len()).unwrap() {
            chunk.write(&mut Writer::new(&mut room)).unwrap();
        }
        let providers = || std::iter::repeat_n(&provider[..], 40);
        for range in Chunks::of_providers(providers(), room.len()).unwrap().iter() {
            let mut out = Writer::new(&mut room);
            let mut response = find_value::RespWriter::new(&mut out);
            response.providers(providers().take(range.len())).unwrap();
        }
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
}

/// Nor does a signature cost memory, once there is room for what it is over.
#[test]
fn verifying() {
    let value = [7; 8000];
    let owner = [1; 32];
    let record = Record {
        key: Key::of_name(&owner, &[]),
        value: &value,
        sequence: 1,
        ttl_secs: 1,
        not_before_unix: 1,
        owner_pubkey: Some(&owner),
        signature: Some(&[2; 64]),
        salt: &[],
    };
    let stamp = Stamp { epoch: 1, nonce: 1 };
    let mut scratch = Vec::with_capacity(8400);
    let info = measure(|| {
        assert_eq!(signing::verify_record(&record, &mut scratch), Err(Refused::BadSignature));
        let _ = signing::stamp::paid(&stamp, &record.key, &PeerId([1; 32]), 8);
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
}

/// A consent is checked for each introduction and each channel.
#[test]
fn checking_consent() {
    let issuer = SigningKey::from_bytes(&[7; 32]);
    let id = PeerId::of_public(&issuer.verifying_key().to_bytes());
    let mut room = [0; 256];
    let mut out = Writer::new(&mut room);
    signing::consent::sign(&issuer, Some(PeerId([1; 32])), 2, 900).write(&mut out).unwrap();
    let token = out.written();
    let mut scratch = Vec::with_capacity(256);
    let info = measure(|| {
        let mut check = |subject| {
            signing::consent::check(token, &id, &PeerId([subject; 32]), 2, 100, &mut scratch)
        };
        assert_eq!((check(1), check(2)), (Ok(()), Err(ConsentError::Invalid)));
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
}

/// What leaves for the other leg, and what is answered without a session.
#[test]
fn writing_outside_of_sessions() {
    let punch = Punch { kind: PunchKind::Answer, attempt: attempt_id(&[7; 32]), clock_us: 1 };
    let mut header = [0; HEADER_BYTES];
    let info = measure(|| {
        Channel { generation: 1, id: 2 }.write(&mut header);
        assert!(punch_read(&punch_write(&punch, &[7; 32]), &[7; 32]).is_some());
        assert!(filter_check(&filter_write(1, &WgKey([7; 32])), 1, &WgKey([7; 32])));
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
}

/// The counter counts: prost's error for the same bytes is an allocation.
#[test]
fn prost_allocates_for_an_error() {
    use prost::Message;
    let info = measure(|| drop(molia_router::wire::proto::Ping::decode(&[0x18][..])));
    assert!(info.count_total > 0);
    assert_eq!(measure(|| assert!(Ping::read(&[0x18]).is_err())).count_total, 0);
}
