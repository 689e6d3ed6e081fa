//! Whole plaintexts, computed by hand from the page: they pin the layout itself.

use molia_router::ids::{Key, PeerId, WgKey};
use molia_router::wire::body::{
    Addrs, AnnounceProviderReq, AnnounceProviderResp, Capabilities, Entry, Error, FindNodeReq,
    FindValueReq, FindValueResp, Found, Goaway, IdentityBinding, NegotiateReq, NegotiateResp,
    Overflow, Peer, Ping, Pong, Provider, Puzzle, Record, ReflectReq, ReflectResp, Stamp, StoreReq,
    StoreResp, Writer, feature, find_node, find_value, flag,
};
use molia_router::wire::{
    Class, Code, Flags, Header, Kind, StoreCode, VERSION, encode, multiaddr, open, split,
};

/// The bytes of hex digits; blanks mean nothing.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// `frame` is encoded to exactly `hex`, and comes back as it was.
pub(crate) fn pinned(
    hex: &str,
    header: Header,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Vec<u8> {
    let expected = bytes(hex);
    let mut out = [0xEE; 1440];
    let len = encode(&mut out, header, body).unwrap();
    assert_eq!(out[..len], expected, "{:02x?}", &out[..len]);
    assert!(out[len..].iter().all(|&byte| byte == 0xEE), "nothing behind it is touched");
    let (version, read, body) = split(open(&expected).unwrap());
    assert_eq!((version, read), (VERSION, header));
    body.to_vec()
}

#[test]
fn the_smallest_frame_is_padded() {
    let header = Header::request(Kind::Ping, 0x0102_0304);
    let hex = "4d00 0010  01 01 00 00  01020304 00000000  00000000";
    let body = pinned(hex, header, |out| Ping::default().write(out));
    assert!(body.is_empty());
}

#[test]
fn padding_ends_where_twenty_bytes_are_reached() {
    let header = Header::request(Kind::Ping, 1);
    let ping = |token| move |out: &mut Writer<'_>| Ping { token, ..Ping::default() }.write(out);
    pinned("4d00 0012  01 01 00 00  00000001 00000000  18 07  0000", header, ping(7));
    pinned("4d00 0013  01 01 00 00  00000001 00000000  18 80 01  00", header, ping(0x80));
    pinned("4d00 0014  01 01 00 00  00000001 00000000  18 80 80 01", header, ping(1 << 14));
    pinned("4d00 0015  01 01 00 00  00000001 00000000  18 80 80 80 01", header, ping(1 << 21));
}

#[test]
fn ping_and_pong() {
    let hex = "4d00 0017  01 01 04 00  80000001 00000000  08 01  12 01 ff  18 02";
    let header = Header { flags: Flags::PROBE, ..Header::request(Kind::Ping, 0x8000_0001) };
    let ping = Ping { now_unix_ms: 1, padding: &[0xFF], token: 2 };
    let body = pinned(hex, header, |out| ping.write(out));
    assert_eq!(Ping::read(&body), Ok(ping));

    let hex = "4d00 0025  01 02 01 00  0000002a 00000000
        08 01  12 09 04 c0000201 9102 1e3f  18 ac02  20 8001  28 02";
    let observed = multiaddr::encode("192.0.2.1:7743".parse().unwrap());
    let pong = Pong {
        now_unix_ms: 1,
        observed: observed.as_ref(),
        load_permille: 300,
        token: 128,
        echo_unix_ms: 2,
    };
    let body = pinned(hex, Header::response(Kind::Pong, 42), |out| pong.write(out));
    assert_eq!(Pong::read(&body), Ok(pong));
}

#[test]
fn negotiate() {
    let bitmap = feature::STREAMING_CHUNKS | feature::REFLECT | feature::GOAWAY;
    let capabilities = Capabilities { version: 1, bitmap, max_msg_bytes: 1200 };
    let binding = IdentityBinding {
        ed25519_public: [0xED; 32],
        x25519_public: WgKey([0x25; 32]),
        not_before_unix_s: 3,
        not_after_unix_s: 300,
        signature: [0x51; 64],
    };
    let (ed, x, sig) = ("ed".repeat(32), "25".repeat(32), "51".repeat(64));
    let binding_hex = format!("12 8b01  0a 20 {ed}  12 20 {x}  18 03  20 ac02  2a 40 {sig}");

    let hex = format!(
        "4d00 00a8  01 03 00 00  00000005 00000000
        0a 08  08 01  10 c408  18 b009  {binding_hex}"
    );
    let request = NegotiateReq { want: Some(capabilities), binding: Some(binding), admission: &[] };
    let body = pinned(&hex, Header::request(Kind::NegotiateReq, 5), |out| request.write(out));
    assert_eq!(NegotiateReq::read(&body), Ok(request));

    let hex = "4d00 003c  01 04 01 00  00000005 00000000
        0a 00  1a 03 aabbcc  22 09 04 c0000201 9102 1e3f
        2a 16  0a 10 09090909090909090909090909090909  10 0c  18 3c  30 14";
    let observed = multiaddr::encode("192.0.2.1:7743".parse().unwrap());
    let response = NegotiateResp {
        agreed: Some(Capabilities::default()),
        binding: None,
        admission: &[0xAA, 0xBB, 0xCC],
        observed: observed.as_ref(),
        puzzle: Some(Puzzle { nonce: [9; 16], difficulty_bits: 12, expires_in_s: 60 }),
        stamp_bits: 20,
    };
    let body = pinned(hex, Header::response(Kind::NegotiateResp, 5), |out| response.write(out));
    assert_eq!(NegotiateResp::read(&body), Ok(response));
}

#[test]
fn find_node() {
    let hex =
        format!("4d00 0034  01 05 00 01  00000009 00000000  0a 20 {}  10 10", "aa".repeat(32));
    let request = FindNodeReq { target_id: PeerId([0xAA; 32]), limit: 16 };
    let body = pinned(&hex, Header::request(Kind::FindNodeReq, 9), |out| request.write(out));
    assert_eq!(FindNodeReq::read(&body), Ok(request));

    let (id, key) = ("1d".repeat(32), "3a".repeat(32));
    let peer_hex =
        format!("0a 20 {id}  12 0b 0a 09 04 c0000201 9102 1e3f  18 19  22 20 {key}  28 01");
    let hex = format!("4d00 006b  01 06 03 01  00000009 00000007  0a 55 {peer_hex}  70 01  78 02");
    let addrs = [multiaddr::encode("192.0.2.1:7743".parse().unwrap())];
    let peer = Peer {
        peer_id: PeerId([0x1D; 32]),
        addrs: Addrs::of(&addrs),
        rtt_ms: 25,
        wg_public: WgKey([0x3A; 32]),
        flags: flag::REACHABLE,
    };
    let entry = Entry::encode(&peer).unwrap();
    assert_eq!(entry.as_ref(), bytes(&peer_hex));
    let header = Header::response(Kind::FindNodeResp, 9).chunk(7, true);
    let body = pinned(&hex, header, |out| {
        let mut response = find_node::RespWriter::new(out);
        response.push(entry.as_ref())?;
        response.finish_chunk(1, 2)
    });
    let read = find_node::FindNodeResp::read(&body).unwrap();
    assert_eq!((read.chunk_index, read.total_chunks), (1, 2));
    assert!(read.peers.iter().eq([peer]));
    assert_eq!(header.flags, Flags::RESPONSE.with(Flags::MORE_CHUNKS));
    assert_eq!(header.chunk(7, false).flags, Flags::RESPONSE);
}

const KEY: Key = Key([0xAA; 32]);
const PROVIDER: Provider<'_> = Provider {
    peer_id: PeerId([0x1D; 32]),
    meta: b"v=1",
    expires_unix_s: 300,
    sequence: 7,
    owner_pubkey: Some(&[0xED; 32]),
    signature: Some(&[0x51; 64]),
};

fn provider_hex() -> String {
    let (id, owner, sig) = ("1d".repeat(32), "ed".repeat(32), "51".repeat(64));
    format!("0a 20 {id}  12 03 763d31  18 ac02  20 07  2a 20 {owner}  32 40 {sig}")
}

/// What `write` writes.
fn encoded(write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>) -> Vec<u8> {
    let mut room = [0; 1184];
    let mut out = Writer::new(&mut room);
    write(&mut out).unwrap();
    out.written().to_vec()
}

#[test]
fn find_value() {
    let hex =
        format!("4d00 0034  01 07 00 01  00000009 00000000  0a 20 {}  10 05", "aa".repeat(32));
    let request = FindValueReq { key: KEY, provider_limit: 5 };
    let body = pinned(&hex, Header::request(Kind::FindValueReq, 9), |out| request.write(out));
    assert_eq!(FindValueReq::read(&body), Ok(request));

    let (id, key, provider) = ("1e".repeat(32), "3a".repeat(32), provider_hex());
    let hex = format!(
        "4d00 017f  01 08 01 01  00000009 00000000
        12 a602  0a 9001 {provider}  0a 9001 {provider}  1a 44  0a 20 {id}  22 20 {key}"
    );
    let entry = encoded(|out| PROVIDER.write(out));
    let peer = Peer {
        peer_id: PeerId([0x1E; 32]),
        addrs: Addrs::NONE,
        rtt_ms: 0,
        wg_public: WgKey([0x3A; 32]),
        flags: 0,
    };
    let peer_entry = encoded(|out| peer.write(out));
    let body = pinned(&hex, Header::response(Kind::FindValueResp, 9), |out| {
        let mut response = find_value::RespWriter::new(out);
        response.providers([&entry[..]; 2])?;
        response.closer_peer(&peer_entry)?;
        response.finish();
        Ok(())
    });
    let read = FindValueResp::read(&body).unwrap();
    let Some(Found::Providers(providers)) = read.value else { panic!("{read:?}") };
    assert!(providers.iter().eq([PROVIDER; 2]) && read.closer_peers.iter().eq([peer]));

    let hex = "4d00 0018  01 08 01 01  00000009 00000007  0a 02 ccdd  70 01  78 02";
    let header = Header::response(Kind::FindValueResp, 9).chunk(7, false);
    let body = pinned(hex, header, |out| {
        let mut response = find_value::RespWriter::new(out);
        response.record(&[0xCC, 0xDD])?;
        response.finish_chunk(1, 2)
    });
    let read = FindValueResp::read(&body).unwrap();
    assert_eq!(read.value, Some(Found::Record(&[0xCC, 0xDD])));
    assert_eq!((read.chunk_index, read.total_chunks), (1, 2));
}

#[test]
fn store() {
    let (key, owner, sig) = ("aa".repeat(32), "ed".repeat(32), "51".repeat(64));
    let record_hex = format!(
        "0a 20 {key}  12 02 6869  18 02  20 ac02  28 8001  32 20 {owner}  3a 40 {sig}
        4a 04 626c6f67"
    );
    let record = Record {
        key: KEY,
        value: b"hi",
        sequence: 2,
        ttl_secs: 300,
        not_before_unix: 128,
        owner_pubkey: Some(&[0xED; 32]),
        signature: Some(&[0x51; 64]),
        salt: b"blog",
    };
    let encoded = encoded(|out| record.write(out));
    assert_eq!(encoded, bytes(&record_hex));
    assert_eq!(Record::read(&encoded), Ok(record));

    let hex = format!(
        "4d00 00b7  01 09 00 01  00000009 00000000
        0a 9801 {record_hex}  12 06  08 ac02  10 8001  1a 02 aabb"
    );
    let request = StoreReq {
        record: &encoded,
        stamp: Some(Stamp { epoch: 300, nonce: 128 }),
        admission: &[0xAA, 0xBB],
        ..StoreReq::default()
    };
    let body = pinned(&hex, Header::request(Kind::StoreReq, 9), |out| request.write(out));
    assert_eq!(StoreReq::read(&body), Ok(request));

    let hex = "4d00 001a  01 0a 01 01  00000009 00000000  08 03  12 03 6f6c64  18 8001";
    let response = StoreResp { code: StoreCode::Stale, reason: "old", retry_after_ms: 128 };
    let body = pinned(hex, Header::response(Kind::StoreResp, 9), |out| response.write(out));
    assert_eq!(StoreResp::read(&body), Ok(response));
}

#[test]
fn announce_provider() {
    let hex = format!(
        "4d00 00cc  01 0b 00 01  00000009 00000000
        0a 20 {}  12 9001 {}  1a 02 08 01  22 01 01",
        "aa".repeat(32),
        provider_hex()
    );
    let request = AnnounceProviderReq {
        key: KEY,
        provider: PROVIDER,
        stamp: Some(Stamp { epoch: 1, nonce: 0 }),
        admission: &[1],
    };
    let header = Header::request(Kind::AnnounceProviderReq, 9);
    let body = pinned(&hex, header, |out| request.write(out));
    assert_eq!(AnnounceProviderReq::read(&body), Ok(request));

    let hex = "4d00 001c  01 0c 01 01  00000009 00000000  08 01  12 02 6f6b  18 904e  20 8001";
    let response = AnnounceProviderResp {
        code: StoreCode::Ok,
        reason: "ok",
        accepted_ttl_s: 10_000,
        retry_after_ms: 128,
    };
    let header = Header::response(Kind::AnnounceProviderResp, 9);
    let body = pinned(hex, header, |out| response.write(out));
    assert_eq!(AnnounceProviderResp::read(&body), Ok(response));
}

#[test]
fn reflect() {
    let hex = format!(
        "4d00 0036  01 10 00 00  00000003 00000000  08 05  10 01  1a 20 {}",
        "77".repeat(32)
    );
    let none = ReflectReq::default();
    let request =
        ReflectReq { nonce: 5, from_alt_port: true, via_router: Some(PeerId([0x77; 32])), ..none };
    let body = pinned(&hex, Header::request(Kind::ReflectReq, 3), |out| request.write(out));
    assert_eq!(ReflectReq::read(&body), Ok(request));

    let hex = format!(
        "4d00 0042  01 10 00 00  00000003 00000000  08 05  22 09 04 c0000201 9102 1e40  2a 20 {}  30 ac02",
        "88".repeat(32)
    );
    let target = multiaddr::encode("192.0.2.1:7744".parse().unwrap());
    let probe_key = Some(WgKey([0x88; 32]));
    let request =
        ReflectReq { nonce: 5, probe_target: target.as_ref(), probe_key, after_s: 300, ..none };
    let body = pinned(&hex, Header::request(Kind::ReflectReq, 3), |out| request.write(out));
    assert_eq!(ReflectReq::read(&body), Ok(request));

    let hex = "4d00 0034  01 11 01 00  00000003 00000000  08 05
        12 15 29 20010db8000000000000000000000001 9102 1e3f  1a 09 04 c0000201 9102 1e40";
    let observed = multiaddr::encode("[2001:db8::1]:7743".parse().unwrap());
    let alternate = multiaddr::encode("192.0.2.1:7744".parse().unwrap());
    let response = ReflectResp {
        nonce: 5,
        observed: observed.as_ref(),
        alternate: alternate.as_ref(),
        other_router: None,
    };
    let body = pinned(hex, Header::response(Kind::ReflectResp, 3), |out| response.write(out));
    assert_eq!(ReflectResp::read(&body), Ok(response));
}

#[test]
fn error_and_goaway() {
    let hex = "4d00 001b  01 ff 01 02  deadbeef 00000000  08 06  12 02 6e6f  18 64  20 fa01";
    let error = Error { code: Code::Unsupported, reason: "no", retry_after_ms: 100, detail: 250 };
    let header = Header::response(Kind::Error, 0xDEAD_BEEF).in_class(Class::Hints);
    let body = pinned(hex, header, |out| error.write(out));
    assert_eq!(Error::read(&body), Ok(error));

    let hex = "4d00 0023  01 2c 00 00  00000000 00000000
        08 8827  10 904e  1a 0b 0a 09 04 c0000201 9102 1e3f";
    let alternates = [multiaddr::encode("192.0.2.1:7743".parse().unwrap())];
    let goaway =
        Goaway { reconnect_in_ms: 5000, grace_ms: 10000, alternates: Addrs::of(&alternates) };
    let body = pinned(hex, Header::request(Kind::Goaway, 0), |out| goaway.write(out));
    let read = Goaway::read(&body).unwrap();
    assert_eq!(read, goaway);
    assert!(read.alternates.sockets().eq(["192.0.2.1:7743".parse().unwrap()]));
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let header = Header::request(Kind::Ping, 1);
    for room in 0..20 {
        let mut out = vec![0; room];
        assert_eq!(encode(&mut out, header, |out| Ping::default().write(out)), Err(Overflow));
    }
    let padding = [0; 1400];
    let ping = Ping { padding: &padding, ..Ping::default() };
    let mut out = [0; 1419];
    assert_eq!(encode(&mut out[..1418], header, |out| ping.write(out)), Err(Overflow));
    assert_eq!(encode(&mut out, header, |out| ping.write(out)), Ok(1419));
    assert_eq!(open(&out).map(<[u8]>::len), Ok(1415));
    // The shim's length has 16 bits.
    let mut out = vec![0; 100_000];
    let encoded = encode(&mut out, header, |out| out.bytes(2, &[1; 65_536]));
    assert_eq!(encoded, Err(Overflow));
}
