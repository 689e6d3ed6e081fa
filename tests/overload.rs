//! A link that takes less than is offered: what waits, what is dropped, and in which order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use molia_router::counters::Snapshot;
use molia_router::counters::layout::Id;
use molia_router::drops::Drop;
use molia_router::egress::Rate;
use molia_router::net::{Datagram, Outlet, Transmit};
use molia_router::router::Config;
use molia_router::wire::body::Ping;
use molia_router::wire::{Class, Header, Kind};

use support::{Bench, Peer};

const MS: u64 = 1_000_000;

/// An outlet with so much room, and what it took.
#[derive(Default)]
struct Narrow {
    room: usize,
    sent: Vec<Vec<u8>>,
}

impl Outlet for Narrow {
    fn send(&mut self, transmit: Transmit) {
        self.room = self.room.saturating_sub(1);
        self.sent.push(transmit.buf.to_vec());
    }

    fn room(&self) -> usize {
        self.room
    }
}

fn bench(hints_depth: usize) -> (Bench, Peer) {
    let mut config = Config::default();
    config.tunnel.sessions_max = 64;
    config.egress.sessions_max = 64;
    config.egress.classes[Class::Hints as usize].depth = hints_depth;
    config.egress.limits.peer = Rate::default();
    let mut bench = Bench::with(config);
    let mut peer = bench.peer("192.0.2.1:1000");
    bench.connect(&mut peer);
    (bench, peer)
}

/// A PING whose answer travels in `class`.
fn ping(peer: &mut Peer, class: Class, correlation: u32) -> Vec<u8> {
    let header = Header::request(Kind::Ping, correlation).in_class(class);
    peer.seal(header, |body| Ping::default().write(body))
}

fn slot(bench: &mut Bench, peer: &Peer, datagrams: &[Vec<u8>]) -> Datagram {
    let mut buf = bench.receive_slot();
    assert!(datagrams.iter().all(|datagram| buf.extend(datagram)));
    Datagram { path: peer.path(), buf, segment: datagrams[0].len() }
}

fn arrive(bench: &mut Bench, peer: &Peer, datagrams: &[Vec<u8>], out: &mut Narrow) {
    let datagram = slot(bench, peer, datagrams);
    let now = bench.now;
    assert!(bench.router.receive(now, datagram, out).is_none(), "control answers have places");
    bench.router.transmit(now, out);
}

/// Correlations of the answers by class, in the order in which they left.
fn answers(peer: &mut Peer, sent: &[Vec<u8>]) -> [Vec<u32>; 3] {
    let mut answers = [vec![], vec![], vec![]];
    for datagram in sent {
        let correlation = peer.correlation(datagram);
        answers[usize::try_from(correlation >> 16).unwrap()].push(correlation & 0xffff);
    }
    answers
}

fn counters(bench: &Bench) -> Snapshot {
    bench.router.publish(bench.now, (0, 0));
    bench.router.counters().snapshot()
}

#[test]
fn hints_go_first_coordination_waits_and_control_is_never_lost() {
    let (mut bench, mut peer) = bench(32);
    let mut out = Narrow::default();
    let mut asked = [0_u32; 3];
    // A second of almost twice what the link takes.
    for _ in 0..50 {
        bench.advance(20 * MS);
        out.room = 6;
        for class in [1, 2, 2, 0, 2, 1, 2, 0, 1, 0, 1] {
            let correlation = u32::try_from(class << 16).unwrap() | asked[class];
            let datagram = ping(&mut peer, Class::ALL[class], correlation);
            arrive(&mut bench, &peer, &[datagram], &mut out);
            asked[class] += 1;
        }
    }
    assert_eq!(out.sent.len(), 300, "the link is never idle");
    let early = answers(&mut peer, &out.sent);
    assert!(early[0].len() > 145, "control hardly waits: {early:?}");
    assert!(early[1].len() > 2 * early[2].len() && !early[2].is_empty(), "{early:?}");
    // The rest of the second's work, once there is room.
    let mut late = Narrow { room: usize::MAX, ..Narrow::default() };
    bench.router.transmit(bench.now, &mut late);
    let late = answers(&mut peer, &late.sent);
    let all = |class: usize| [&early[class][..], &late[class][..]].concat();
    let whole = |count: u32| (0..count).collect::<Vec<_>>();
    assert!(all(0) == whole(150) && all(1) == whole(200), "all of it, in order");
    assert!(all(2).len() < 100 && all(2).is_sorted(), "{:?}", all(2));
    assert_eq!(bench.router.queued(), 0);

    let counters = counters(&bench);
    let dropped =
        |class: Class, why| counters.value(Id::QueueDropped, &[class.label(), why]).unwrap();
    for why in ["queue_full", "expired"] {
        assert_eq!((dropped(Class::Control, why), dropped(Class::Coordination, why)), (0, 0));
        assert!(dropped(Class::Hints, why) > 0, "{why}");
    }
    let lost = counters.total(Id::Dropped);
    assert_eq!(lost, 200 - u64::try_from(all(2).len()).unwrap());
    assert!(bench.all_slots_home());
}

#[test]
fn coordination_waits_no_longer_than_it_may() {
    let (mut bench, mut peer) = bench(32);
    let mut out = Narrow::default();
    for n in 0..4 {
        let datagram = ping(&mut peer, Class::Coordination, 1 << 16 | n);
        arrive(&mut bench, &peer, &[datagram], &mut out);
        bench.advance(600 * MS);
    }
    out.room = 9;
    bench.router.transmit(bench.now, &mut out);
    assert_eq!(answers(&mut peer, &out.sent)[1], [1, 2, 3]);
    let expired = [Class::Coordination.label(), Drop::Expired.label()];
    assert_eq!(counters(&bench).value(Id::QueueDropped, &expired), Some(1));
}

#[test]
fn a_run_stops_where_its_control_answers_have_no_place() {
    let (mut bench, mut peer) = bench(32);
    let run: Vec<_> = (0..64).map(|n| ping(&mut peer, Class::Control, n)).collect();
    let mut out = Narrow::default();
    let datagram = slot(&mut bench, &peer, &run);
    let now = bench.now;
    let left = bench.router.receive(now, datagram, &mut out).unwrap();
    let handled = 64 - left.segments().count();
    assert!((32..64).contains(&handled) && handled == bench.router.queued());
    assert!(bench.router.is_stalled(0) && !bench.router.is_stalled(1));
    // Nothing has changed, so nothing happens.
    let left = bench.router.receive(now, left, &mut out).unwrap();
    assert_eq!((left.segments().count(), out.sent.len()), (64 - handled, 0));
    // A little room: a little further.
    out.room = 2;
    let left = bench.router.receive(now, left, &mut out).unwrap();
    assert_eq!(left.segments().count(), 64 - handled - 2);
    out.room = usize::MAX;
    assert!(bench.router.receive(now, left, &mut out).is_none());
    bench.router.transmit(now, &mut out);
    assert_eq!(answers(&mut peer, &out.sent)[0], (0..64).collect::<Vec<_>>());
    assert_eq!(counters(&bench).total(Id::Dropped), 0);
    assert!(bench.all_slots_home());
}

#[test]
fn what_is_stale_takes_no_place_from_what_is_new() {
    let (mut bench, mut peer) = bench(4);
    let mut out = Narrow::default();
    for n in 0..12 {
        if n % 4 == 0 {
            bench.advance(501 * MS);
            bench.router.transmit(bench.now, &mut out);
        }
        let datagram = ping(&mut peer, Class::Hints, 2 << 16 | n);
        arrive(&mut bench, &peer, &[datagram], &mut out);
    }
    out.room = 9;
    bench.router.transmit(bench.now, &mut out);
    assert_eq!(answers(&mut peer, &out.sent)[2], [8, 9, 10, 11]);
    assert_eq!(counters(&bench).value(Id::Dropped, &["queue_full"]), Some(0));
}

#[test]
fn a_full_link_keeps_nobody_out() {
    let (mut bench, mut peer) = bench(32);
    let mut out = Narrow::default();
    let hint = ping(&mut peer, Class::Hints, 2 << 16);
    arrive(&mut bench, &peer, &[hint], &mut out);
    let mut newcomer = bench.peer("198.51.100.1:1000");
    let initiation = newcomer.initiation();
    arrive(&mut bench, &newcomer, &[initiation], &mut out);
    let [response] = &out.sent[..] else { panic!("a response, and no hint: {}", out.sent.len()) };
    newcomer.answer(response);
}
