//! Nothing in the codec allocates, whatever the bytes.

use allocation_counter::measure;
use molia_router::ids::{Key, PeerId};
use molia_router::signing::{self, Refused};
use molia_router::wire::body::{
    AnnounceProviderReq, AnnounceProviderResp, Capabilities, Chunks, Error, FindNodeReq,
    FindNodeResp, FindValueReq, FindValueResp, Found, Goaway, IdentityBinding, NegotiateReq,
    NegotiateResp, Peer, Ping, Pong, Provider, Puzzle, Record, ReflectReq, ReflectResp, Stamp,
    StoreReq, StoreResp, Writer, find_value,
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
    taken.iter().filter(|taken| **taken).count()
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

/// The counter counts: prost's error for the same bytes is an allocation.
#[test]
fn prost_allocates_for_an_error() {
    use prost::Message;
    let info = measure(|| drop(molia_router::wire::proto::Ping::decode(&[0x18][..])));
    assert!(info.count_total > 0);
    assert_eq!(measure(|| assert!(Ping::read(&[0x18]).is_err())).count_total, 0);
}
