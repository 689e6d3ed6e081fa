//! Nothing in the codec allocates, whatever the bytes.

use allocation_counter::measure;
use molia_router::wire::body::{
    Capabilities, Error, FindNodeReq, FindNodeResp, Goaway, IdentityBinding, NegotiateReq,
    NegotiateResp, Peer, Ping, Pong, Puzzle, ReflectReq, ReflectResp,
};
use molia_router::wire::{Header, Kind, encode, multiaddr, open, split};
use proptest::collection::vec;
use proptest::prelude::*;

use super::values::soup;

/// Reads `body` as every message; how many took it.
fn read_as_everything(body: &[u8]) -> usize {
    let peers = |response: FindNodeResp<'_>| response.peers.iter().count();
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

/// The counter counts: prost's error for the same bytes is an allocation.
#[test]
fn prost_allocates_for_an_error() {
    use prost::Message;
    let info = measure(|| drop(molia_router::wire::proto::Ping::decode(&[0x18][..])));
    assert!(info.count_total > 0);
    assert_eq!(measure(|| assert!(Ping::read(&[0x18]).is_err())).count_total, 0);
}
