//! The initiator against BoringTun's responder and against hand-made cookie replies.

use blake2::digest::{FixedOutput, Update};
use blake2::{Blake2s256, Digest};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};

use super::*;

struct Router {
    secret: StaticSecret,
    tunn: Tunn,
}

/// A frame that BoringTun carries: nibble 4, length at bytes 2..4, 20 bytes.
fn plaintext(fill: u8) -> [u8; 20] {
    let mut bytes = [fill; 20];
    bytes[..4].copy_from_slice(&[0x4D, 0, 0, 20]);
    bytes
}

fn pair() -> (WireGuard, Router) {
    let secret = StaticSecret::from([7; 32]);
    let router = WgKey(PublicKey::from(&secret).to_bytes());
    let client = WireGuard::new(StaticSecret::from([8; 32]), router);
    let public = PublicKey::from(client.public_key().0);
    let tunn = Tunn::new(secret.clone(), public, None, None, 99, None);
    (client, Router { secret, tunn })
}

impl Router {
    fn take(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.tunn.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToNetwork(bytes) | TunnResult::WriteToTunnelV4(bytes, _) => {
                bytes.to_vec()
            }
            TunnResult::Done => Vec::new(),
            other @ (TunnResult::Err(_) | TunnResult::WriteToTunnelV6(..)) => {
                panic!("the router did not take it: {other:?}")
            }
        }
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        let sealed = self.tunn.encapsulate(frame, &mut out);
        let TunnResult::WriteToNetwork(bytes) = sealed else { panic!("{sealed:?}") };
        bytes.to_vec()
    }

    /// A cookie reply with a price, as wire-protocol.md section 8 has it.
    fn cookie_reply(&self, initiation: &[u8], cookie: [u8; 16], bits: u8) -> Vec<u8> {
        let mut nonce = [9; 24];
        nonce[0] = bits;
        nonce[1..5].copy_from_slice(&29_000_000u32.to_le_bytes());
        nonce[5..8].copy_from_slice(b"MOL");
        let key = Blake2s256::new()
            .chain(b"cookie--")
            .chain(PublicKey::from(&self.secret).as_bytes())
            .finalize_fixed();
        let sealed = XChaCha20Poly1305::new(&key)
            .encrypt(&nonce.into(), Payload { msg: &cookie, aad: &initiation[116..132] })
            .unwrap();
        [&[3, 0, 0, 0], &initiation[4..8], &nonce, &sealed].concat()
    }
}

fn initiate(client: &mut WireGuard) -> Vec<u8> {
    let mut out = [0; 2048];
    let len = client.initiate(5, &mut out).unwrap();
    out[..len].to_vec()
}

fn receive(client: &mut WireGuard, datagram: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut out = [0; 2048];
    Ok(match client.receive(datagram, &mut out)? {
        Received::Established(bytes) | Received::Plaintext(bytes) => bytes.to_vec(),
        Received::Keepalive => b"keepalive".to_vec(),
        Received::Cookie => b"cookie".to_vec(),
    })
}

fn seal(client: &mut WireGuard, frame: &[u8]) -> Vec<u8> {
    let mut out = [0; 2048];
    let len = client.seal(frame, &mut out).unwrap();
    out[..len].to_vec()
}

/// Exchanges frames both ways over fresh keys.
fn converse(client: &mut WireGuard, router: &mut Router) {
    let up = seal(client, &plaintext(1));
    assert_eq!(router.take(&up), plaintext(1));
    let down = router.seal(&plaintext(2));
    assert_eq!(receive(client, &down).unwrap(), plaintext(2));
    assert_eq!(receive(client, &down), Err(Refused::Unauthentic), "a replay");
}

#[test]
fn handshake_and_data() {
    let (mut client, mut router) = pair();
    assert_eq!(client.seal(&plaintext(0), &mut [0; 64]), None, "no keys yet");
    let initiation = initiate(&mut client);
    let response = router.take(&initiation);
    let confirmation = receive(&mut client, &response).unwrap();
    assert_eq!(receive(&mut client, &response), Err(Refused::UnknownIndex), "a duplicate");
    assert!(router.take(&confirmation).is_empty());
    converse(&mut client, &mut router);
}

#[test]
fn response_to_the_initiation_before_counts() {
    let (mut client, mut router) = pair();
    let first = initiate(&mut client);
    let second = initiate(&mut client);
    assert_ne!(first, second);
    let response = router.take(&first);
    let confirmation = receive(&mut client, &response).unwrap();
    router.take(&confirmation);
    converse(&mut client, &mut router);
}

#[test]
fn data_under_the_keys_before_still_opens_after_a_rekey() {
    let (mut client, mut router) = pair();
    for _ in 0..3 {
        let response = router.take(&initiate(&mut client));
        let confirmation = receive(&mut client, &response).unwrap();
        router.take(&confirmation);
        converse(&mut client, &mut router);
    }
    let late = router.seal(&plaintext(3));
    let response = router.take(&initiate(&mut client));
    receive(&mut client, &response).unwrap();
    assert_eq!(receive(&mut client, &late).unwrap(), plaintext(3));
    client.expire();
    assert_eq!(client.seal(&plaintext(0), &mut [0; 64]), None);
}

#[test]
fn what_no_router_sends_is_refused() {
    let (mut client, mut router) = pair();
    let response = router.take(&initiate(&mut client));
    let mut forged = response.clone();
    forged[50] ^= 1;
    assert_eq!(receive(&mut client, &forged), Err(Refused::Unauthentic));
    let mut other = response.clone();
    other[8] ^= 0x80;
    assert_eq!(receive(&mut client, &other), Err(Refused::UnknownIndex));
    for len in [0, 1, 3, 4, 31, 64, 92, 148, 2049] {
        for first in [0, 1, 2, 3, 4, 5, 0x4D] {
            let mut datagram = vec![0; len];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            let mut out = vec![0; 4096];
            assert!(client.receive(&datagram, &mut out).is_err(), "{first} of {len} bytes");
        }
    }
    assert_eq!(receive(&mut client, &response).unwrap().len(), 32, "none of it did harm");
}

#[test]
fn cookie_makes_mac2_and_a_price_is_paid() {
    for bits in [0, 1, 9] {
        let (mut client, mut router) = pair();
        let strange = initiate(&mut client);
        assert_eq!(strange[132..], [0; 16]);
        let cookie = [0xC0; 16];
        let reply = router.cookie_reply(&strange, cookie, bits);
        assert_eq!(receive(&mut client, &reply).unwrap(), b"cookie");

        let paid = initiate(&mut client);
        let mac2 = blake2::Blake2sMac::<blake2::digest::consts::U16>::new_from_slice(&cookie)
            .unwrap()
            .chain(&paid[..132])
            .finalize_fixed();
        assert_eq!(paid[132..], mac2[..]);
        let work = blake3::hash(&[&paid[8..40], &paid[4..8], &cookie].concat());
        let word = u32::from_be_bytes(work.as_bytes()[..4].try_into().unwrap());
        assert!(word.leading_zeros() >= u32::from(bits));

        let response = router.take(&paid);
        let confirmation = receive(&mut client, &response).unwrap();
        router.take(&confirmation);
        converse(&mut client, &mut router);
    }
}

#[test]
fn cookie_replies_are_checked() {
    let (mut client, router) = pair();
    let before = initiate(&mut client);
    let last = initiate(&mut client);
    let late = router.cookie_reply(&before, [1; 16], 0);
    assert_eq!(receive(&mut client, &late), Err(Refused::UnknownIndex));
    let mut forged = router.cookie_reply(&last, [1; 16], 0);
    forged[63] ^= 1;
    assert_eq!(receive(&mut client, &forged), Err(Refused::Unauthentic));
    let dear = router.cookie_reply(&last, [1; 16], 60);
    assert_eq!(receive(&mut client, &dear), Err(Refused::Price(60)));
    assert_eq!(initiate(&mut client)[132..], [0; 16], "none of them was taken");
}

#[test]
fn a_stock_cookie_reply_has_no_price() {
    let (mut client, router) = pair();
    let initiation = initiate(&mut client);
    let limiter = RateLimiter::new(&PublicKey::from(&router.secret), 0);
    let mut out = [0; 64];
    let from = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let Err(TunnResult::WriteToNetwork(reply)) = limiter.verify_packet(from, &initiation, &mut out)
    else {
        panic!("an empty limiter answers a cookie");
    };
    assert_eq!(receive(&mut client, reply).unwrap(), b"cookie");
    let again = initiate(&mut client);
    assert!(limiter.verify_packet(from, &again, &mut [0; 64]).is_ok(), "mac2 is right");
}
