//! The whole client: in virtual time over a lossy line, and over real sockets.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::fake::{FakeRouter, Fault, Running, identity};
use super::peer::{Event, Peer, Raw};
use super::requests::{Correlation, Requests};
use super::session::{Config, Session};
use super::wireguard::WireGuard;
use super::*;
use crate::ids::PeerId;
use crate::time::{Moment, Now};
use crate::wire::body::{self, Pong};
use crate::wire::code::Code;
use crate::wire::header::{Flags, Header};
use crate::wire::kind::Kind;

/// A client and a router with a line between them that loses and duplicates.
struct Line {
    peer: Peer<WireGuard>,
    router: FakeRouter,
    now: Moment,
    rng: ChaCha12Rng,
    /// Of 256: what the line does to a datagram.
    loss: u8,
    duplication: u8,
    /// What is on its way to the client, with its arrival.
    inbound: Vec<(Moment, Vec<u8>)>,
}

const DELAY: Duration = Duration::from_millis(30);

impl Line {
    fn new(seed: u64, loss: u8, duplication: u8) -> Self {
        let router = FakeRouter::new();
        let address = "192.0.2.1:7743".parse().unwrap();
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut fork = || ChaCha12Rng::seed_from_u64(rng.next_u64());
        let initiator = WireGuard::new(identity(9).wg_secret().clone(), router.identity.wg_key());
        let session = Session::new(initiator, Config::default(), fork());
        let peer = Peer::new(session, Requests::new(fork()), address);
        let now = Moment::from_nanos(1);
        let inbound = Vec::new();
        Self { peer, router, now, rng, loss, duplication, inbound }
    }

    fn copies(&mut self) -> usize {
        let [lost, twice, ..] = self.rng.next_u32().to_le_bytes();
        if lost < self.loss { 0 } else { 1 + usize::from(twice < self.duplication) }
    }

    /// Lets time pass until something happened or `end`.
    fn next_event(&mut self, end: Moment) -> Option<Event> {
        loop {
            while let Some(datagram) = self.peer.poll_transmit(self.now) {
                for _ in 0..self.copies() {
                    let from = "203.0.113.5:4000".parse().unwrap();
                    for reply in self.router.receive(from, &datagram) {
                        for _ in 0..self.copies() {
                            self.inbound.push((self.now + DELAY, reply.clone()));
                        }
                    }
                }
            }
            if let Some(event) = self.peer.poll_event() {
                return Some(event);
            }
            let arrival = self.inbound.iter().map(|(at, _)| *at).min().unwrap_or(Moment::NEVER);
            let next = arrival.min(self.peer.next_deadline(self.now));
            if next > end {
                self.now = end;
                return None;
            }
            self.now = self.now.max(next);
            while let Some(at) = self.inbound.iter().position(|(at, _)| *at <= self.now) {
                let (_, datagram) = self.inbound.remove(at);
                self.deliver(&datagram);
            }
        }
    }

    fn deliver(&mut self, datagram: &[u8]) {
        self.peer.receive(Now { at: self.now, unix_ms: 1_700_000_000_000 }, datagram);
    }

    fn ping(&mut self) -> Correlation {
        self.peer.request(Kind::Ping, |out| body::Ping::default().write(out)).unwrap()
    }

    /// The fate of a request.
    fn outcome(&mut self, of: Correlation) -> bool {
        loop {
            let event = self.next_event(Moment::NEVER).unwrap();
            if matches!(&event, Event::Answer(answer) if answer.correlation == of) {
                return true;
            }
            if event == Event::TimedOut(of) {
                return false;
            }
        }
    }
}

#[test]
fn a_request_brings_up_the_session_by_itself() {
    let mut line = Line::new(1, 0, 0);
    let ping = line.ping();
    assert_eq!(line.next_event(Moment::NEVER), Some(Event::Established));
    let Some(Event::Answer(answer)) = line.next_event(Moment::NEVER) else { panic!() };
    assert_eq!((answer.correlation, answer.elapsed, answer.sends), (ping, DELAY, 1));
    assert_eq!(Pong::read(&answer.bodies[0]).unwrap().load_permille, 7);
}

#[test]
fn a_lossy_line_with_duplicates_delays_but_does_not_confuse() {
    let mut answered = 0;
    for seed in 0..20 {
        let mut line = Line::new(seed, 64, 64);
        for _ in 0..50 {
            let ping = line.ping();
            answered += u32::from(line.outcome(ping));
        }
    }
    // One transmission succeeds with 9/16, one of two with 0.81.
    assert!((750..950).contains(&answered), "{answered} of 1000");
}

#[test]
fn a_long_conversation_survives_its_rekeys() {
    let mut line = Line::new(5, 0, 32);
    let mut renewals = 0;
    for round in 1..=200_u64 {
        let end = Moment::START + Duration::from_secs(5 * round);
        let ping = line.ping();
        assert!(line.outcome(ping), "round {round}");
        while let Some(event) = line.next_event(end) {
            renewals += u32::from(event == Event::Established);
        }
    }
    assert!((7..=9).contains(&renewals), "{renewals} in 1000 s");
}

#[test]
fn a_router_that_restarted_is_found_again() {
    let mut line = Line::new(6, 0, 0);
    let ping = line.ping();
    assert!(line.outcome(ping));
    line.router.restart();
    let lost = line.ping();
    assert!(!line.outcome(lost));
    let end = line.now + Duration::from_secs(17);
    while line.next_event(end).is_some() {}
    let again = line.ping();
    assert!(line.outcome(again), "15 s of silence end in a handshake");
}

#[test]
fn a_router_that_restarted_is_told_again_who_speaks() {
    let mut line = Line::new(8, 0, 0);
    let own = identity(9);
    let binding = Some(own.binding(0, u64::MAX));
    let want = Some(body::Capabilities::default());
    let request = body::NegotiateReq { want, binding, admission: &[] };
    let asked = line.peer.request(Kind::NegotiateReq, |out| request.write(out)).unwrap();
    assert!(line.outcome(asked));
    assert_eq!(line.router.identified.take(), Some(own.peer_id()));
    line.router.restart();
    let lost = line.ping();
    assert!(!line.outcome(lost));
    let end = line.now + Duration::from_secs(17);
    let events: Vec<_> = std::iter::from_fn(|| line.next_event(end)).collect();
    assert_eq!(events, [Event::Established], "nobody asked for more");
    assert_eq!(line.router.identified, Some(own.peer_id()));
}

#[test]
fn without_a_router_every_request_fails() {
    let mut line = Line::new(7, 255, 0);
    line.loss = 255;
    line.rng = ChaCha12Rng::seed_from_u64(0);
    let (one, two) = (line.ping(), line.ping());
    let mut failed = vec![];
    while failed.len() < 2 {
        if let Some(Event::TimedOut(correlation)) = line.next_event(Moment::NEVER) {
            failed.push(correlation);
        }
    }
    failed.sort_by_key(|it| it.0);
    assert_eq!(failed, [one, two]);
    assert!(line.now.since(Moment::START) >= Config::default().handshake_patience);
}

/// A line with a session on it.
fn connected() -> Line {
    let mut line = Line::new(2, 0, 0);
    let ping = line.ping();
    assert!(line.outcome(ping));
    line
}

#[test]
fn the_routers_ping_is_answered_with_its_token() {
    let mut line = connected();
    let ping = body::Ping { token: 0xFEED_F00D, now_unix_ms: 5, padding: &[] };
    let datagram = line.router.push(Header::request(Kind::Ping, 77), |out| ping.write(out));
    line.deliver(&datagram);
    let soon = line.now + DELAY;
    assert_eq!(line.next_event(soon), Some(Event::Pinged));
    let (header, body) = line.router.heard.pop().unwrap();
    assert_eq!(header, Header::response(Kind::Pong, 77));
    let pong = Pong::read(&body).unwrap();
    assert_eq!((pong.token, pong.echo_unix_ms), (0xFEED_F00D, 5));
    assert_eq!(pong.now_unix_ms, 1_700_000_000_000);
}

#[test]
fn a_request_that_a_client_does_not_serve_is_unsupported() {
    let mut line = connected();
    let request = Header::request(Kind::FindNodeReq, 3);
    let datagram = line.router.push(request, |_| Ok(()));
    line.deliver(&datagram);
    assert_eq!(line.next_event(line.now), None);
    let (header, body) = line.router.heard.pop().unwrap();
    assert_eq!((header.kind, header.correlation), (Kind::Error.id(), 3));
    assert_eq!(body::Error::read(&body).unwrap().code, Code::Unsupported);
}

#[test]
fn goaway_is_told_and_strays_are_dropped() {
    let mut line = connected();
    let goaway = body::Goaway { reconnect_in_ms: 50, grace_ms: 900, ..Default::default() };
    let notice = Header::request(Kind::Goaway, 0);
    let datagram = line.router.push(notice, |out| goaway.write(out));
    line.deliver(&datagram);
    let (reconnect_in, grace) = (Duration::from_millis(50), Duration::from_millis(900));
    assert_eq!(line.next_event(line.now), Some(Event::Goaway { reconnect_in, grace }));

    let stray = Header::response(Kind::Pong, 12345);
    let datagram = line.router.push(stray, |_| Ok(()));
    line.deliver(&datagram);
    let unknown = Event::Dropped(crate::drops::Drop::UnknownCorrelation);
    assert_eq!(line.next_event(line.now), Some(unknown));
    assert!(line.router.heard.is_empty(), "neither is answered");
}

#[test]
fn hostile_datagrams_do_no_harm() {
    let mut line = connected();
    let real = line.router.push(Header::response(Kind::Pong, 1), |_| Ok(()));
    for round in 0..20_000_usize {
        let mut datagram = real.clone();
        datagram.resize(line.rng.next_u32() as usize % 2100, round.to_le_bytes()[0]);
        for _ in 0..=round % 3 {
            let at = line.rng.next_u32() as usize;
            if let Some(len) = datagram.len().checked_sub(1) {
                datagram[at % (len + 1)] ^= line.rng.next_u32().to_le_bytes()[0] | 1;
            }
        }
        line.deliver(&datagram);
        let dropped = line.peer.poll_event();
        assert!(matches!(dropped, Some(Event::Dropped(_))), "{dropped:?}");
    }
    let ping = line.ping();
    assert!(line.outcome(ping));
}

const QUICK: Options = Options { patience: Duration::from_millis(300), keepalive: None };

fn connect(fault: Fault) -> (Running, Client) {
    let mut router = FakeRouter::new();
    router.fault = fault;
    let running = Running::start(router);
    let client = Client::connect(&running.link, None, Options::default()).unwrap();
    (running, client)
}

#[test]
fn calls_over_real_sockets() {
    let (running, mut client) = connect(Fault::None);
    let own = client.local_address().unwrap();
    let pong = client.ping(900).unwrap();
    assert_eq!((pong.observed, pong.load_permille, pong.sends), (Some(own), 7, 1));
    assert_eq!(client.reflect().unwrap().observed, own);
    let agreement = client.negotiate(None).unwrap();
    assert_eq!((agreement.max_msg_bytes, agreement.observed), (1300, Some(own)));
    assert_eq!(running.router.lock().unwrap().identified, None, "anonymous");
    assert!(matches!(client.ping(5000), Err(Error::TooLarge { request: Kind::Ping })));
}

#[test]
fn an_identity_is_shown_and_bound_to_the_session() {
    let running = Running::start(FakeRouter::new());
    let me = identity(4);
    let mut client = Client::connect(&running.link, Some(&me), Options::default()).unwrap();
    client.negotiate(Some(&me)).unwrap();
    assert_eq!(client.key(), me.wg_key());
    assert_eq!(running.router.lock().unwrap().identified, Some(me.peer_id()));
}

#[test]
fn found_peers_come_in_one_frame_or_in_chunks() {
    let (_running, mut client) = connect(Fault::None);
    for limit in [1, 8, 16] {
        let found = client.find_node(&PeerId([0; 32]), limit).unwrap();
        let numbers: Vec<u8> = found.iter().map(|found| found.peer.0[0]).collect();
        assert_eq!(numbers, (0..u8::try_from(limit).unwrap()).collect::<Vec<_>>());
        let last = &found[numbers.len() - 1];
        let address = format!("10.0.0.{}:7743", limit - 1).parse().unwrap();
        assert_eq!((last.addresses.as_slice(), last.rtt_ms), (&[address][..], 3));
    }
}

#[test]
fn errors_say_what_went_wrong() {
    let (_running, mut client) = connect(Fault::Busy);
    let Err(Error::Refused { request: Kind::Ping, refusal }) = client.ping(0) else { panic!() };
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Busy, "because"));
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(250)));

    let (_running, mut client) = connect(Fault::Garbage);
    assert!(matches!(client.ping(0), Err(Error::Malformed { request: Kind::Ping })));
    let reflected = client.reflect();
    assert!(matches!(reflected, Err(Error::Malformed { request: Kind::ReflectReq })));

    let (running, mut client) = connect(Fault::Impostor);
    let Err(Error::WrongPeer { expected, found }) = client.negotiate(None) else { panic!() };
    assert_eq!((expected, found), (running.link.peer, identity(2).peer_id()));

    let (_running, mut client) = connect(Fault::Nameless);
    assert!(matches!(client.negotiate(None), Err(Error::NoBinding)));

    let (_running, mut client) = connect(Fault::Mute);
    let muted = client.ping(0);
    assert!(matches!(muted, Err(Error::Timeout { request: Kind::Ping, .. })), "{muted:?}");
}

#[test]
fn a_wrong_key_and_a_closed_port_are_told_apart_as_far_as_possible() {
    let running = Running::start(FakeRouter::new());
    let mut wrong = running.link.clone();
    wrong.key = identity(3).wg_key();
    let Err(Error::NoAnswer(silence)) = Client::connect(&wrong, None, QUICK) else { panic!() };
    assert!(!silence.refused && silence.initiations == 1, "{silence:?}");
    let mut closed = running.link.clone();
    closed.port = free_port();
    let patient = Options { patience: Duration::from_secs(30), ..QUICK };
    let Err(Error::NoAnswer(refused)) = Client::connect(&closed, None, patient) else { panic!() };
    assert!(refused.refused, "{refused:?}");
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn raw_requests_reach_the_router_as_they_are() {
    let (_running, mut client) = connect(Fault::None);
    let header = |kind| Header { kind, flags: Flags::NONE, qos: 0, correlation: 0, stream: 0 };
    let raw = Raw { version: 1, header: header(99), body: b"anything" };
    let answer = client.raw(raw).unwrap();
    let refusal = answer.refusal().unwrap().unwrap();
    assert_eq!((refusal.code, refusal.detail), (Code::Unsupported, 99));
    let future = Raw { version: 2, header: header(Kind::Ping.id()), body: &[] };
    assert_eq!(client.raw(future).unwrap().kind, Kind::Error);
    let ping = Raw { version: 1, header: header(Kind::Ping.id()), body: &[] };
    let pong = client.raw(ping).unwrap();
    assert_eq!((pong.kind, pong.refusal()), (Kind::Pong, None));
}

#[test]
fn a_session_goes_on_from_another_port() {
    let (_running, mut client) = connect(Fault::None);
    let before = client.ping(0).unwrap().observed;
    client.change_address().unwrap();
    client.idle(Duration::from_millis(10)).unwrap();
    let after = client.ping(0).unwrap().observed;
    assert_ne!(before, after);
    assert_eq!(after, Some(client.local_address().unwrap()));
}
