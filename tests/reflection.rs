//! REFLECT as a peer and as the other router see it: what they are told, which probes leave from
//! where and when, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use molia_router::drops::Drop;
use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::net::{Local, Path};
use molia_router::router::{Config, Wanted};
use molia_router::wire::body::{Error, NegotiateReq, Ping, ReflectReq, ReflectResp};
use molia_router::wire::{Code, Header, Kind, multiaddr, probe};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use support::{Bench, Peer};

const SECOND: u64 = 1_000_000_000;

fn config() -> Config {
    let mut config = Config::default();
    config.tunnel.sessions_max = 1024;
    config.egress.sessions_max = 1024;
    config.own = Arc::from(["9.9.9.9".parse().unwrap()]);
    config.alternate_port = 7744;
    config.other_router = Some(other().peer_id());
    config
}

/// The other router.
fn other() -> Identity {
    identity(2)
}

fn identity(n: u64) -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(n))
}

/// A peer with the key by which probes to it are recognised.
struct Asker {
    peer: Peer,
    key: WgKey,
    path: Path,
    correlation: u32,
}

impl Asker {
    fn connect(bench: &mut Bench, identity: &Identity, address: &str) -> Self {
        let mut peer = bench.peer_with(identity.wg_secret().clone(), address);
        bench.connect(&mut peer);
        let path = peer.path();
        Self { peer, key: identity.wg_key(), path, correlation: 0 }
    }

    /// Shows who it is.
    fn introduced(mut self, bench: &mut Bench, identity: &Identity) -> Self {
        let binding = Some(identity.binding(0, u64::from(u32::MAX)));
        let request = NegotiateReq { binding, ..NegotiateReq::default() };
        let header = Header::request(Kind::NegotiateReq, 77);
        let sealed = self.peer.seal(header, |body| request.write(body));
        let sent = bench.deliver(self.path, &sealed);
        assert_eq!(self.peer.open(&sent[0].1), Kind::NegotiateResp.id());
        self
    }

    /// Asks; the answer or the refusal, and the probes that left beside it.
    fn ask(&mut self, bench: &mut Bench, asked: ReflectReq<'_>) -> (Result<Told, Code>, Vec<Sent>) {
        self.correlation += 1;
        let header = Header::request(Kind::ReflectReq, self.correlation);
        let sealed = self.peer.seal(header, |body| asked.write(body));
        let sent = bench.deliver(self.path, &sealed);
        let (probes, rest): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, it)| it[0] == 7);
        let [(_, answer)] = &rest[..] else { panic!("one answer, not {}", rest.len()) };
        let (header, body) = self.peer.frame(answer);
        assert_eq!(header.correlation, self.correlation);
        if header.kind == Kind::Error.id() {
            return (Err(Error::read(&body).unwrap().code), probes);
        }
        let answer = ReflectResp::read(&body).unwrap();
        assert_eq!(answer.nonce, asked.nonce);
        let told = Told {
            observed: multiaddr::decode(answer.observed).unwrap(),
            alternate: multiaddr::decode(answer.alternate).ok(),
            other: answer.other_router,
        };
        (Ok(told), probes)
    }

    fn refused(&mut self, bench: &mut Bench, asked: ReflectReq<'_>) -> Code {
        let (answer, probes) = self.ask(bench, asked);
        assert!(probes.is_empty());
        answer.unwrap_err()
    }
}

/// A datagram that left, with where to and from.
type Sent = (Path, Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct Told {
    observed: SocketAddr,
    alternate: Option<SocketAddr>,
    other: Option<PeerId>,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const FROM_ALTERNATE: ReflectReq<'_> = ReflectReq {
    nonce: 5,
    from_alt_port: true,
    via_router: None,
    probe_target: &[],
    probe_key: None,
    after_s: 0,
};

const PLAIN: ReflectReq<'_> = ReflectReq { from_alt_port: false, ..FROM_ALTERNATE };

#[test]
fn the_alternate_port_is_named_and_probes_from_there() {
    let mut bench = Bench::with(config());
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    let (told, probes) = asker.ask(&mut bench, PLAIN);
    let wanted =
        Told { observed: addr("1.1.1.1:4000"), alternate: Some(addr("9.9.9.9:7744")), other: None };
    assert_eq!((told, probes.len()), (Ok(wanted), 0));

    // The address that was asked is the better guess of the two.
    asker.path.local.ip = Some("8.8.8.8".parse().unwrap());
    let (told, probes) = asker.ask(&mut bench, FROM_ALTERNATE);
    assert_eq!(told.unwrap().alternate, Some(addr("8.8.8.8:7744")));
    let [(path, bytes)] = &probes[..] else { panic!("one probe, not {}", probes.len()) };
    assert_eq!(path.peer, addr("1.1.1.1:4000"));
    assert_eq!(path.local, Local { socket: 1, ..asker.path.local });
    assert!(probe::filter_check(bytes, 5, &asker.key));
    assert!(!probe::filter_check(bytes, 6, &asker.key));
    assert!(bench.all_slots_home());
}

#[test]
fn without_an_alternate_port_there_is_neither() {
    let mut bench = Bench::with(Config { alternate_port: 0, ..config() });
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    let (told, probes) = asker.ask(&mut bench, FROM_ALTERNATE);
    assert_eq!((told.unwrap().alternate, probes.len()), (None, 0));
}

#[test]
fn an_address_that_is_not_proven_gets_no_probe() {
    let mut bench = Bench::with(config());
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    asker.peer.move_to("2.2.2.2:4000");
    asker.path = asker.peer.path();
    // What comes from there is worth as much going there, a refusal as well.
    let ping = Ping { padding: &[0; 1000], ..Ping::default() };
    let ping = asker.peer.seal(Header::request(Kind::Ping, 1), |body| ping.write(body));
    bench.deliver(asker.path, &ping);
    assert_eq!(asker.refused(&mut bench, FROM_ALTERNATE), Code::Busy);
    let later = ReflectReq { after_s: 1, ..PLAIN };
    assert_eq!(asker.refused(&mut bench, later), Code::Busy);
    let (told, _) = asker.ask(&mut bench, PLAIN);
    assert_eq!(told.unwrap().observed, addr("2.2.2.2:4000"));
    // The challenge is answered.
    let pong = bench.due().iter().find_map(|sent| asker.peer.pong(sent)).unwrap();
    bench.deliver(asker.path, &pong);
    let (told, probes) = asker.ask(&mut bench, FROM_ALTERNATE);
    assert!(told.is_ok());
    assert_eq!(probes[0].0.peer, addr("2.2.2.2:4000"));
}

#[test]
fn a_network_of_its_own_is_probed_in_a_laboratory_only() {
    for (allow_private, probed) in [(false, Err(Code::Unauthorized)), (true, Ok(1))] {
        let mut bench = Bench::with(Config { allow_private, ..config() });
        let mut asker = Asker::connect(&mut bench, &identity(3), "10.0.0.1:4000");
        let (told, probes) = asker.ask(&mut bench, FROM_ALTERNATE);
        assert_eq!(told.map(|_| probes.len()), probed);
        assert!(asker.ask(&mut bench, PLAIN).0.is_ok());
    }
}

#[test]
fn who_wants_too_many_is_told_so() {
    let mut bench = Bench::with(config());
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    for n in 0..12 {
        let (told, probes) = asker.ask(&mut bench, FROM_ALTERNATE);
        let expected = if n < 8 { Ok(1) } else { Err(Code::RateLimited) };
        assert_eq!(told.map(|_| probes.len()), expected, "{n}");
    }
    assert!(asker.ask(&mut bench, PLAIN).0.is_ok(), "what is no probe costs none");
    bench.advance(SECOND);
    assert_eq!(asker.ask(&mut bench, FROM_ALTERNATE).1.len(), 1);
}

#[test]
fn a_probe_leaves_later_to_where_the_peer_was_then() {
    let mut bench = Bench::with(config());
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    for after_s in [301, u32::MAX] {
        assert_eq!(asker.refused(&mut bench, ReflectReq { after_s, ..PLAIN }), Code::Invalid);
    }
    for nonce in [1, 2, 2] {
        let (told, probes) = asker.ask(&mut bench, ReflectReq { nonce, after_s: 30, ..PLAIN });
        assert!(told.is_ok() && probes.is_empty());
    }
    assert_eq!(asker.refused(&mut bench, ReflectReq { nonce: 3, after_s: 9, ..PLAIN }), Code::Busy);
    // It goes on from elsewhere, so that the way it came stays silent.
    asker.peer.move_to("1.1.1.1:5000");
    asker.path = asker.peer.path();
    let mut sent = Vec::new();
    for _ in 0..40 {
        let ping = asker.peer.seal_ping();
        bench.deliver(asker.path, &ping);
        bench.advance(SECOND - 21_000_000);
        let now = bench.now;
        bench.router.poll(now, &mut |it: molia_router::net::Transmit| {
            if it.buf[0] == 7 {
                sent.push((now.at.as_nanos() / SECOND, it.path, it.buf.to_vec()));
            }
        });
    }
    let [(at, path, first), (_, _, second)] = &sent[..] else { panic!("two, not {}", sent.len()) };
    assert!((31..=32).contains(at), "{at}");
    assert_eq!((path.peer, path.local.socket), (addr("1.1.1.1:4000"), 0));
    assert!(
        probe::filter_check(first, 1, &asker.key) && probe::filter_check(second, 2, &asker.key)
    );
    assert!(bench.all_slots_home());
}

#[test]
fn a_session_that_ends_takes_its_probes_along() {
    let mut bench = Bench::with(config());
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    assert!(asker.ask(&mut bench, ReflectReq { after_s: 300, ..PLAIN }).0.is_ok());
    for _ in 0..310 {
        bench.advance(SECOND);
        assert!(bench.due().iter().all(|sent| sent[0] != 7));
    }
    assert!(bench.router.sessions().is_empty());
}

#[test]
fn the_other_router_is_named_and_wanted_while_it_is_there() {
    let mut bench = Bench::with(config());
    let other = other().peer_id();
    let mut asker = Asker::connect(&mut bench, &identity(3), "1.1.1.1:4000");
    let via = ReflectReq { via_router: Some(other), ..PLAIN };
    assert_eq!(asker.refused(&mut bench, via), Code::NotFound);
    bench.router.set_other_router(Some(other));
    assert_eq!(asker.ask(&mut bench, PLAIN).0.unwrap().other, Some(other));
    assert_eq!(bench.router.take_wanted(), None);
    let stranger = ReflectReq { via_router: Some(PeerId([1; 32])), ..PLAIN };
    assert_eq!(asker.refused(&mut bench, stranger), Code::NotFound);
    assert!(asker.ask(&mut bench, via).1.is_empty());
    let wanted = Wanted { nonce: 5, target: addr("1.1.1.1:4000"), key: asker.key };
    assert_eq!(bench.router.take_wanted(), Some(wanted));
    assert_eq!(bench.router.take_wanted(), None);
}

/// The other router probes one after another, and nothing that could be a service of somebody.
#[test]
fn one_network_does_not_keep_the_other_router_busy() {
    let mut bench = Bench::with(config());
    let other = other().peer_id();
    bench.router.set_other_router(Some(other));
    let via = ReflectReq { via_router: Some(other), ..PLAIN };
    let asked = |bench: &mut Bench, n: u64, address: &str| {
        let mut asker = Asker::connect(bench, &identity(n), address);
        let code = asker.ask(bench, via).0.err();
        assert_eq!(bench.router.take_wanted().is_some(), code.is_none());
        code
    };
    let began = bench.now.at;
    let crowd = (0..200).map(|n| asked(&mut bench, 100 + n, &format!("1.1.1.{}:4000", n + 1)));
    let codes: Vec<_> = crowd.collect();
    assert!(codes.contains(&Some(Code::RateLimited)));
    let most = 40.0 + 10.0 * bench.now.at.since(began).as_secs_f64();
    let granted = codes.iter().filter(|code| code.is_none()).count();
    assert!((40.0..=most).contains(&(granted as f64)), "{granted} of at most {most}");
    assert_eq!(asked(&mut bench, 401, "1.1.2.1:4000"), None);
    assert_eq!(asked(&mut bench, 402, "1.1.2.1:500"), Some(Code::Unauthorized));
}

#[test]
fn nobody_but_the_other_router_names_a_target() {
    let mut bench = Bench::with(config());
    let (other, stranger) = (other(), identity(4));
    let target = multiaddr::encode(addr("3.3.3.3:6000"));
    let key = WgKey([7; 32]);
    let asked = ReflectReq { probe_target: target.as_ref(), probe_key: Some(key), ..PLAIN };

    let mut anonymous = Asker::connect(&mut bench, &other, "2.2.2.2:1");
    assert_eq!(anonymous.refused(&mut bench, asked), Code::Unauthorized, "it has shown nothing");
    let mut known = anonymous.introduced(&mut bench, &other);
    let mut unknown = Asker::connect(&mut bench, &stranger, "2.2.2.2:2");
    unknown = unknown.introduced(&mut bench, &stranger);
    assert_eq!(unknown.refused(&mut bench, asked), Code::Unauthorized);

    assert_eq!(bench.router.table().len(), 1, "nobody serves where the other router asks from");
    known.path.local.socket = 1;
    let (told, probes) = known.ask(&mut bench, asked);
    assert!(told.is_ok());
    let [(path, bytes)] = &probes[..] else { panic!("one probe, not {}", probes.len()) };
    assert_eq!((path.peer, path.local.socket), (addr("3.3.3.3:6000"), 0));
    assert!(probe::filter_check(bytes, 5, &key));

    let keyless = ReflectReq { probe_key: None, ..asked };
    assert_eq!(known.refused(&mut bench, keyless), Code::Invalid);
    let aimless = ReflectReq { probe_target: &[], ..asked };
    assert_eq!(known.refused(&mut bench, aimless), Code::Invalid);
    let garbled = ReflectReq { probe_target: &[1, 2], ..asked };
    assert_eq!(known.refused(&mut bench, garbled), Code::Invalid);
    for forbidden in ["9.9.9.9:6000", "127.0.0.1:6000", "10.0.0.1:6000", "224.0.0.1:9", "3.3.3.3:0"]
    {
        let target = multiaddr::encode(addr(forbidden));
        let asked = ReflectReq { probe_target: target.as_ref(), ..asked };
        assert_eq!(known.refused(&mut bench, asked), Code::Invalid, "{forbidden}");
    }
}

/// A Binding request without attributes.
const BINDING: &[u8; 20] = b"\x00\x01\x00\x00\x21\x12\xA4\x42twelve bytes";

#[test]
fn stun_is_answered_where_it_is_wanted_and_within_its_rate() {
    let path = |address: &str, socket| Path {
        peer: addr(address),
        local: Local { socket, ..Local::default() },
    };
    let mut bench = Bench::with(config());
    assert!(bench.deliver(path("1.1.1.1:1", 0), BINDING).is_empty(), "off by default");

    let mut bench = Bench::with(Config { stun: true, ..config() });
    for socket in [0, 1] {
        let sent = bench.deliver(path("192.0.2.1:32853", socket), BINDING);
        let [(to, answer)] = &sent[..] else { panic!("one answer, not {}", sent.len()) };
        assert_eq!(*to, path("192.0.2.1:32853", socket));
        assert_eq!(answer[..4], [1, 1, 0, 12]);
        assert_eq!(answer[20..], [0, 0x20, 0, 8, 0, 1, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43]);
    }
    let mut answered = 0;
    for _ in 0..100 {
        answered += bench.deliver(path("1.1.1.1:1", 0), BINDING).len();
    }
    assert!((20..=21).contains(&answered), "{answered}");
    assert_eq!(bench.deliver(path("1.1.1.2:1", 0), BINDING).len(), 1);
    let mut long = BINDING.to_vec();
    long.extend([0; 3]);
    assert!(bench.deliver(path("1.1.1.3:1", 0), &long).is_empty());
    let snapshot = bench.router.counters().snapshot();
    let dropped = |drop: Drop| {
        let id = molia_router::counters::layout::Id::Dropped;
        snapshot.value(id, &[drop.label()]).unwrap()
    };
    assert_eq!(dropped(Drop::StunRate), 100 - answered as u64);
    assert_eq!(dropped(Drop::StunMalformed), 1);
    assert!(bench.all_slots_home());
}
