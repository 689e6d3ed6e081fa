//! RENDEZVOUS as both sides see it: who is told what, when, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use molia_router::identity::Identity;
use molia_router::ids::PeerId;
use molia_router::router::Config;
use molia_router::signing::consent;
use molia_router::wire::body::{
    Addrs, Error, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousStatus,
    Writer, consent_scope,
};
use molia_router::wire::{Code, Header, Kind, multiaddr};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use support::{Bench, Peer};

/// 2026-01-01, with some time to spare.
const NOW_S: u64 = 1_767_225_600;

/// A peer with an identity.
struct Known {
    identity: Identity,
    peer: Peer,
}

impl Known {
    fn id(&self) -> PeerId {
        self.identity.peer_id()
    }
}

/// Routers of one shard and of three, over which peers and ids are spread.
fn each_size(test: impl Fn(Bench)) {
    for shards in [1, 3] {
        test(bench(shards));
    }
}

fn bench(shards: u16) -> Bench {
    let mut config = Config::default();
    config.tunnel.sessions_max = 1024;
    config.egress.sessions_max = 1024;
    config.own = Arc::from(["9.9.9.9".parse().unwrap()]);
    Bench::sharded(config, shards)
}

fn join(bench: &mut Bench, seed: u64, address: &str) -> Known {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1000 + seed));
    let peer = bench.identified(&identity, address);
    Known { identity, peer }
}

/// What came of a request: the datagrams that left, with where to.
fn ask(
    bench: &mut Bench,
    from: &mut Known,
    correlation: u32,
    target: PeerId,
    nat: (u32, u32),
    candidates: &[&str],
    consent: &[u8],
) -> Vec<(SocketAddr, Vec<u8>)> {
    let addrs: Vec<_> =
        candidates.iter().map(|addr| multiaddr::encode(addr.parse().unwrap())).collect();
    let request = RendezvousReq {
        target,
        candidates: Addrs::of(&addrs),
        nat_mapping: nat.0,
        nat_filtering: nat.1,
        consent,
    };
    let header = Header::request(Kind::RendezvousReq, correlation);
    let sealed = from.peer.seal(header, |body| request.write(body));
    let sent = bench.deliver(from.peer.path(), &sealed);
    sent.into_iter().map(|(path, bytes)| (path.peer, bytes)).collect()
}

/// The target's answer; returns what that made the router send.
fn acknowledge(
    bench: &mut Bench,
    target: &mut Known,
    correlation: u32,
    ack: &RendezvousAck<'_>,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let header = Header::response(Kind::RendezvousAck, correlation);
    let sealed = target.peer.seal(header, |body| ack.write(body));
    let sent = bench.deliver(target.peer.path(), &sealed);
    sent.into_iter().map(|(path, bytes)| (path.peer, bytes)).collect()
}

fn sockets(addrs: &Addrs<'_>) -> Vec<String> {
    addrs.sockets().map(|addr| addr.to_string()).collect()
}

#[test]
fn both_are_told_of_each_other_and_of_one_secret() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let sent =
            ask(&mut bench, &mut a, 7, b.id(), (1, 3), &["1.1.1.1:4000", "1.1.1.1:4001"], &[]);
        let [(to, notice)] = &sent[..] else { panic!("one notice, not {}", sent.len()) };
        assert_eq!(to.to_string(), "2.2.2.2:5000");
        let (header, body) = b.peer.frame(notice);
        assert_eq!(header.kind, Kind::RendezvousNotify.id());
        let notice = RendezvousNotify::read(&body).unwrap();
        assert_eq!((notice.requester, notice.wg_public), (a.id(), a.identity.wg_key()));
        assert_eq!(sockets(&notice.candidates), ["1.1.1.1:4000", "1.1.1.1:4001"]);
        assert_eq!((notice.windows, notice.window_ms), (2, 250));

        // A retry has no second effect, and waits like the first.
        let again = ask(&mut bench, &mut a, 7, b.id(), (1, 3), &["1.1.1.1:4000"], &[]);
        assert!(again.is_empty(), "{}", again.len());

        let addrs = [multiaddr::encode("2.2.2.2:6000".parse().unwrap())];
        let ack = RendezvousAck {
            accept: true,
            candidates: Addrs::of(&addrs),
            nat_mapping: 1,
            nat_filtering: 1,
            consent: b"a token",
        };
        let sent = acknowledge(&mut bench, &mut b, header.correlation, &ack);
        let [(to, answer)] = &sent[..] else { panic!("one answer, not {}", sent.len()) };
        assert_eq!(to.to_string(), "1.1.1.1:4000");
        let (header, body) = a.peer.frame(answer);
        assert_eq!((header.kind, header.correlation), (Kind::RendezvousResp.id(), 7));
        let answer = RendezvousResp::read(&body).unwrap();
        assert_eq!(answer.status, RendezvousStatus::Ok);
        assert_eq!(sockets(&answer.candidates), ["2.2.2.2:5000", "2.2.2.2:6000"]);
        assert_eq!(answer.attempt_secret, Some(notice.attempt_secret));
        assert_eq!(answer.consent, b"a token");
        // After the answer a retry gets it again.
        let again = ask(&mut bench, &mut a, 7, b.id(), (1, 3), &["1.1.1.1:4000"], &[]);
        let [(_, repeated)] = &again[..] else { panic!("the answer again, not {}", again.len()) };
        let (_, repeated) = a.peer.frame(repeated);
        assert_eq!(RendezvousResp::read(&repeated).unwrap().attempt_secret, answer.attempt_secret);
    });
}

#[test]
fn nobody_is_told_of_an_address_that_is_nobodys_business() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let declared = [
            "127.0.0.1:4000",
            "10.0.0.1:4000",
            "9.9.9.9:4000",
            "8.8.8.8:5300",
            "1.1.1.1:53",
            "224.0.0.1:4000",
            "[::ffff:10.0.0.1]:4000",
            "[64:ff9b::a00:1]:4000",
        ];
        let sent = ask(&mut bench, &mut a, 1, b.id(), (0, 0), &declared, &[]);
        let (_, body) = b.peer.frame(&sent[0].1);
        let notice = RendezvousNotify::read(&body).unwrap();
        assert_eq!(sockets(&notice.candidates), ["1.1.1.1:4000"]);
    });
}

/// The port below 1024 that is known to be its own, and no other one.
#[test]
fn a_peer_behind_a_low_port_is_told_of() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:500");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let declared = ["1.1.1.1:500", "1.1.1.1:501"];
        let sent = ask(&mut bench, &mut a, 1, b.id(), (0, 0), &declared, &[]);
        let (_, body) = b.peer.frame(&sent[0].1);
        let notice = RendezvousNotify::read(&body).unwrap();
        assert_eq!(sockets(&notice.candidates), ["1.1.1.1:500"]);
    });
}

#[test]
fn behind_one_nat_the_inner_addresses_are_told() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "1.1.1.1:5000");
        let sent = ask(
            &mut bench,
            &mut a,
            1,
            b.id(),
            (3, 3),
            &["192.168.1.7:4000", "127.0.0.1:4000"],
            &[],
        );
        let (header, body) = b.peer.frame(&sent[0].1);
        let notice = RendezvousNotify::read(&body).unwrap();
        assert_eq!(sockets(&notice.candidates), ["1.1.1.1:4000", "192.168.1.7:4000"]);
        let addrs = [multiaddr::encode("192.168.1.8:5000".parse().unwrap())];
        let candidates = Addrs::of(&addrs);
        let ack = RendezvousAck {
            accept: true,
            candidates,
            nat_mapping: 3,
            nat_filtering: 3,
            consent: &[],
        };
        let sent = acknowledge(&mut bench, &mut b, header.correlation, &ack);
        let (_, body) = a.peer.frame(&sent[0].1);
        let answer = RendezvousResp::read(&body).unwrap();
        assert_eq!(answer.status, RendezvousStatus::Ok, "inside there is no NAT between them");
        assert_eq!(sockets(&answer.candidates), ["1.1.1.1:5000", "192.168.1.8:5000"]);
    });
}

#[test]
fn whoever_cannot_or_will_not_be_reached_is_told_so_at_once() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let status = |a: &mut Known, bytes: &[u8]| {
            let (header, body) = a.peer.frame(bytes);
            assert_eq!(header.kind, Kind::RendezvousResp.id());
            RendezvousResp::read(&body).unwrap().status
        };
        let sent = ask(&mut bench, &mut a, 1, PeerId([9; 32]), (0, 0), &[], &[]);
        assert_eq!(status(&mut a, &sent[0].1), RendezvousStatus::NoSuchPeer);

        let verdicts = [
            (false, (1, 1), RendezvousStatus::Refused),
            (true, (1, 3), RendezvousStatus::UnreachableNats),
            (true, (1, 2), RendezvousStatus::Ok),
        ];
        for (correlation, (accept, nat, expected)) in (10..).zip(verdicts) {
            let sent = ask(&mut bench, &mut a, correlation, b.id(), (3, 3), &[], &[]);
            let (header, _) = b.peer.frame(&sent[0].1);
            let ack = RendezvousAck {
                accept,
                candidates: Addrs::NONE,
                nat_mapping: nat.0,
                nat_filtering: nat.1,
                consent: &[],
            };
            let sent = acknowledge(&mut bench, &mut b, header.correlation, &ack);
            assert_eq!(status(&mut a, &sent[0].1), expected);
            // An answer counts once.
            assert!(acknowledge(&mut bench, &mut b, header.correlation, &ack).is_empty());
        }

        let sent = ask(&mut bench, &mut a, 20, b.id(), (0, 0), &[], &[]);
        let (header, _) = b.peer.frame(&sent[0].1);
        let mut c = join(&mut bench, 3, "3.3.3.3:5000");
        let ack = RendezvousAck { accept: true, ..RendezvousAck::default() };
        assert!(acknowledge(&mut bench, &mut c, header.correlation, &ack).is_empty(), "not asked");
        bench.advance(2_000_000_000);
        let due = bench.due();
        assert_eq!(status(&mut a, due.last().unwrap()), RendezvousStatus::NoAnswer);
        assert!(bench.all_slots_home());
    });
}

#[test]
fn a_consent_that_is_no_good_is_refused() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let b = join(&mut bench, 2, "2.2.2.2:5000");
        let c = join(&mut bench, 3, "3.3.3.3:5000");
        let (punch, relay, a_id) = (consent_scope::PUNCH, consent_scope::RELAY, Some(a.id()));
        let token = |by: &Known, subject, scope, until| {
            let token = consent::sign(by.identity.signing_key(), subject, scope, NOW_S + until);
            let mut bytes = [0; 256];
            let mut out = Writer::new(&mut bytes);
            token.write(&mut out).unwrap();
            let len = out.len();
            bytes[..len].to_vec()
        };
        let refused = [
            (token(&c, a_id, punch, 600), Code::Unauthorized, "another issuer"),
            (token(&b, Some(c.id()), punch, 600), Code::Invalid, "another subject"),
            (token(&b, a_id, relay, 600), Code::Invalid, "another scope"),
            (token(&b, a_id, punch, 3600), Code::Invalid, "too long"),
            (token(&b, a_id, punch, 0), Code::Invalid, "expired"),
        ];
        for (correlation, (token, code, why)) in (1..).zip(&refused) {
            let sent = ask(&mut bench, &mut a, correlation, b.id(), (0, 0), &[], token);
            let [(_, answer)] = &sent[..] else { panic!("{why}: {}", sent.len()) };
            let (header, body) = a.peer.frame(answer);
            assert_eq!(header.kind, Kind::Error.id(), "{why}");
            assert_eq!(Error::read(&body).unwrap().code, *code, "{why}");
        }
        bench.advance(5_000_000_000);
        for (correlation, token) in
            [(30, token(&b, a_id, punch, 600)), (31, token(&b, None, punch, 600))]
        {
            let sent = ask(&mut bench, &mut a, correlation, b.id(), (0, 0), &[], &token);
            assert_eq!(sent[0].0.to_string(), "2.2.2.2:5000");
        }
    });
}

#[test]
fn who_asks_too_often_is_told_to_wait() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let b = join(&mut bench, 2, "2.2.2.2:5000");
        let mut limited = 0;
        for correlation in 0..20 {
            let sent = ask(&mut bench, &mut a, correlation, b.id(), (0, 0), &[], &[]);
            let [(to, bytes)] = &sent[..] else { panic!("{}", sent.len()) };
            if to.to_string() == "1.1.1.1:4000" {
                let (_, body) = a.peer.frame(bytes);
                assert_eq!(Error::read(&body).unwrap().code, Code::RateLimited);
                limited += 1;
            }
        }
        assert!((9..=10).contains(&limited), "{limited}");
    });
}
