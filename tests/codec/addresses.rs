//! Socket addresses as multiaddr.

use std::net::SocketAddr;

use molia_router::wire::multiaddr::{self, BadMultiaddr};
use proptest::collection::vec;
use proptest::prelude::*;

use super::values::sockets;

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn decode(hex: &str) -> Result<SocketAddr, BadMultiaddr> {
    multiaddr::decode(&super::golden::bytes(hex))
}

#[test]
fn the_bytes_are_multiaddrs() {
    let encoded = |addr: &str| multiaddr::encode(addr.parse().unwrap()).as_ref().to_vec();
    let v6 = "29 2001 0db8 0000 0000 0000 0000 0000 0001 9102 1e3f";
    assert_eq!(encoded("192.0.2.1:7743"), super::golden::bytes("04 c0000201 9102 1e3f"));
    assert_eq!(encoded("[2001:db8::1]:7743"), super::golden::bytes(v6));
    assert_eq!(encoded("[::ffff:192.0.2.1]:7743"), encoded("192.0.2.1:7743"));
    assert_eq!(decode(v6), Ok("[2001:db8::1]:7743".parse().unwrap()));
}

#[test]
fn a_mapped_address_reads_as_ipv4() {
    let mapped = "29 0000 0000 0000 0000 0000 ffff c000 0201 9102 1e3f";
    assert_eq!(decode(mapped), Ok("192.0.2.1:7743".parse().unwrap()));
}

#[test]
fn a_certhash_may_follow() {
    let digest = "ab".repeat(32);
    let hashed = format!("04 c0000201 9102 1e3f d203 22 1220 {digest}");
    assert_eq!(decode(&hashed), Ok("192.0.2.1:7743".parse().unwrap()));
    assert_eq!(decode(&hashed[..hashed.len() - 2]), Err(BadMultiaddr));
    assert_eq!(decode(&format!("{hashed} 00")), Err(BadMultiaddr));
    assert_eq!(decode("04 c0000201 9102 1e3f d203 00"), Err(BadMultiaddr));
}

#[test]
fn nothing_else_is_an_address() {
    for wrong in [
        "",
        "04 c0000201",
        "04 c0000201 9102 1e",
        "04 c0000201 9102 1e3f 00",
        "04 c0000201 06 1e3f",
        "04 c0000201 918200 1e3f",
        "8400 c0000201 9102 1e3f",
        "29 2001 0db8 9102 1e3f",
        "35 03 612e62 9102 1e3f",
        "04 c0000201 9102 1e3f cc03",
    ] {
        assert_eq!(decode(wrong), Err(BadMultiaddr), "{wrong}");
    }
}

proptest! {
    #[test]
    fn every_address_survives(addr in sockets()) {
        let encoded = multiaddr::encode(addr);
        prop_assert_eq!(multiaddr::decode(encoded.as_ref()), Ok(canonical(addr)));
        prop_assert_eq!(encoded, multiaddr::encode(canonical(addr)));
        prop_assert_eq!(encoded.as_ref().len(), if canonical(addr).is_ipv4() { 9 } else { 21 });
    }

    /// What reads as an address without a hash is its only encoding, mapped ones aside.
    #[test]
    fn an_address_has_one_encoding(
        addr in sockets(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = multiaddr::encode(addr).as_ref().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = multiaddr::decode(&bytes) {
            prop_assert!(bytes[0] == 0x29 && read.is_ipv4() || multiaddr::encode(read).as_ref() == bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..70)) {
        let _ = multiaddr::decode(&bytes);
    }
}
