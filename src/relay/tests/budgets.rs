//! Budgets, and what waits for them.

use super::*;

/// A relay, a channel between peers 1 and 2, and a pool.
struct One {
    relay: Relay,
    pool: Pool,
    a: Member,
    made: Allocated,
}

fn one(config: Config, want_bps: u64, factor: u8) -> One {
    let (mut relay, a) = (relay(config), Member { factor, ..member(1) });
    let made = relay.allocate(at(0), &a, &member(2), want_bps, 1).unwrap();
    One { relay, pool: pool(512), a, made }
}

impl One {
    fn route(&mut self, now: Moment, bytes: usize) -> Route {
        self.relay.route(now, &self.a.path, self.made.requester.channel, bytes, 1).unwrap()
    }

    /// Sends or lets wait.
    fn send(&mut self, now: Moment, class: Class, bytes: usize, content: u32) -> Option<Offered> {
        let route = self.route(now, bytes);
        let waits = route.verdict == Verdict::Wait;
        waits.then(|| self.relay.enqueue(now, route.flow, class, data(&self.pool, bytes, content)))
    }

    fn next(&mut self, now: Moment) -> Option<u32> {
        self.relay.next(now).map(|ready| content(&ready.buf))
    }
}

#[test]
fn a_burst_goes_at_once_and_then_the_rate() {
    for (which, config) in [
        ("router", Config { router: budget(1000, 5000), ..config() }),
        ("prefix", Config { prefix: budget(1000, 5000), ..config() }),
        ("peer", Config { peer: budget(1000, 5000), ..config() }),
    ] {
        let mut one = one(config, 0, 1);
        for n in 0..5 {
            assert_eq!(one.send(at(0), Class::Coordination, 1000, n), None, "{which}");
        }
        for n in 0..3 {
            assert_eq!(one.send(at(0), Class::Coordination, 500, n), Some(Offered::Enqueued));
        }
        assert_eq!(one.next(at(0)), None);
        let deadline = one.relay.next_deadline();
        assert!(deadline <= at(505), "{which}: {deadline:?}");
        let _ = events(&mut one.relay, at(0));
        let times: Vec<(u64, u32)> =
            (0..2000).filter_map(|ms| Some((ms, one.next(at(ms))?))).collect();
        let late = |n: usize, due: u64| {
            times[n].1 == u32::try_from(n).unwrap() && (due..due + 6).contains(&times[n].0)
        };
        assert!(
            times.len() == 3 && late(0, 500) && late(1, 1000) && late(2, 1500),
            "{which}: {times:?}"
        );
    }
}

#[test]
fn a_wish_below_the_rate_holds_and_the_factor_multiplies() {
    let peer = budget(1000, 4000);
    let config = Config { ttl: 10 * SECOND, peer, ..config() };
    let mut wished = one(config, 8 * 500, 1);
    assert_eq!((wished.made.requester.rate_bps, wished.made.requester.burst_bytes), (4000, 4000));
    let mut famous = one(config, 0, 16);
    assert_eq!((famous.made.requester.rate_bps, famous.made.target.rate_bps), (128_000, 8000));
    for (one, after) in [(&mut wished, 2000), (&mut famous, 63)] {
        assert_eq!(one.send(at(0), Class::Coordination, 2000, 0), None);
        assert_eq!(one.send(at(0), Class::Coordination, 2000, 0), None);
        assert_eq!(one.send(at(0), Class::Coordination, 1000, 0), Some(Offered::Enqueued));
        assert_eq!(one.next(at(after - 1)), None);
        assert_eq!(one.next(at(after + 5)), Some(0));
    }
}

#[test]
fn a_datagram_above_a_burst_still_goes() {
    let mut one =
        one(Config { peer: budget(1000, 10), router: budget(1000, 10), ..config() }, 0, 1);
    assert_eq!(one.send(at(0), Class::Coordination, 2048, 0), None);
    assert_eq!(one.send(at(0), Class::Coordination, 1500, 1), Some(Offered::Enqueued));
    assert_eq!(one.next(at(1510)), Some(1));
    // A run that is larger waits as the datagrams that it is.
    assert_eq!(one.route(at(60_000), 4096).verdict, Verdict::Wait);
}

#[test]
fn control_goes_first_and_nothing_overtakes_its_own_class() {
    let mut one = one(Config { peer: budget(10_000, 2048), ..config() }, 0, 1);
    assert_eq!(one.send(at(0), Class::Coordination, 2048, 0), None);
    for n in 1..4 {
        assert_eq!(one.send(at(0), Class::Coordination, 1000, n), Some(Offered::Enqueued));
    }
    assert_eq!(one.send(at(0), Class::Control, 100, 9), Some(Offered::Enqueued));
    // It could be paid for by now, but others wait.
    assert_eq!(one.send(at(10), Class::Coordination, 10, 4), Some(Offered::Enqueued));
    let order: Vec<u32> = (0..1000).filter_map(|ms| one.next(at(ms))).collect();
    assert_eq!(order, [9, 1, 2, 3, 4]);
}

#[test]
fn what_waits_too_long_is_dropped_and_gives_back_what_it_was_promised() {
    let mut one = one(Config { peer: budget(100, 2048), ttl: SECOND, ..config() }, 0, 1);
    assert_eq!(one.send(at(0), Class::Coordination, 2048, 0), None);
    for n in 1..4 {
        assert_eq!(one.send(at(0), Class::Coordination, 1000, n), Some(Offered::Enqueued));
    }
    assert_eq!(one.next(at(900)), None);
    assert!(one.relay.next_deadline() <= at(1005));
    assert_eq!((one.next(at(1010)), one.pool.free()), (None, 512));
    let stats = one.relay.stats();
    assert_eq!((stats.dropped_budget, stats.waiting), (3, 0));
    // 2048 bytes less the 101 that were earned are owed, nothing else.
    assert_eq!(one.send(at(1011), Class::Coordination, 101, 5), None);
}

#[test]
fn throttling_is_told_before_anything_is_dropped_and_once_a_second() {
    let config = Config { peer: budget(1000, 2048), waiting_per_flow: 2, ..config() };
    let mut one = one(config, 0, 1);
    let mut told = Vec::new();
    for ms in 0..10_000 {
        // Twice the rate for four seconds.
        if ms < 4000 && ms % 500 == 0 {
            let _ = one.send(at(ms), Class::Coordination, 1000, 0);
        }
        for event in events(&mut one.relay, at(ms)) {
            let Event::Status(status) = event else { panic!("no channel ends") };
            if told.is_empty() {
                assert_eq!(one.relay.stats().dropped_budget, 0);
                assert!(status.retry_after > Duration::ZERO && status.retry_after < SECOND);
            }
            assert_eq!((status.home, status.rate_bps), (one.a.home, 8000));
            told.push((ms, status.throttled));
        }
        let _ = one.next(at(ms));
    }
    assert!(one.relay.stats().dropped_budget > 0);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1 && !told[1].1 && told[1].0 > 4000);
    assert!(one.relay.next_deadline() > at(10_000), "nothing is left to do");
}

#[test]
fn the_longest_queue_pays_for_the_last_place() {
    let mut relay = relay(Config { router: budget(1000, 2048), waiting_max: 8, ..config() });
    let pool = pool(16);
    let mut flows = Vec::new();
    for n in 0..3 {
        let (a, b) = (member(2 * n), member(2 * n + 1));
        let made = relay.allocate(at(0), &a, &b, 0, 1).unwrap();
        let first = relay.route(at(0), &a.path, made.requester.channel, 2048, 1).unwrap();
        flows.push(first.flow);
    }
    let offer = |relay: &mut Relay, flow: usize, content: u32| {
        relay.enqueue(at(0), flows[flow], Class::Coordination, data(&pool, 100, content))
    };
    for n in 0..8 {
        assert_eq!(offer(&mut relay, 0, n), Offered::Enqueued);
    }
    assert_eq!(offer(&mut relay, 0, 8), Offered::Dropped(Drop::RelayBudget));
    for n in 0..4 {
        assert_eq!(offer(&mut relay, 1, 100 + n), Offered::Enqueued);
    }
    assert_eq!(offer(&mut relay, 1, 104), Offered::Dropped(Drop::RelayBudget));
    assert_eq!(offer(&mut relay, 2, 200), Offered::Enqueued);
    assert_eq!(relay.stats().waiting, 8);
    let waits = std::iter::from_fn(|| relay.next(at(2000))).map(|ready| content(&ready.buf));
    let mut waits: Vec<u32> = waits.collect();
    waits.sort_unstable();
    assert_eq!(waits.len(), 8);
    assert!(waits.contains(&200) && waits.iter().filter(|n| **n < 100).count() >= 3, "{waits:?}");
}

#[test]
fn who_leaves_and_comes_back_still_owes() {
    let mut one = one(Config { peer: budget(1000, 4000), ..config() }, 0, 1);
    assert_eq!(one.send(at(0), Class::Coordination, 2000, 0), None);
    assert_eq!(one.send(at(0), Class::Coordination, 2000, 0), None);
    let _ = one.relay.close(one.made.requester.channel.id, &one.a.peer).unwrap();
    one.made = one.relay.allocate(at(0), &one.a, &member(2), 0, 1).unwrap();
    assert_eq!(one.send(at(0), Class::Coordination, 1000, 0), Some(Offered::Enqueued));
    let _ = one.relay.close(one.made.requester.channel.id, &one.a.peer).unwrap();
    assert_eq!((one.relay.stats().waiting, one.pool.free()), (0, 512));
    assert_eq!(one.relay.stats().dropped_channel, 1);
}

#[test]
fn nobody_overtakes_what_waits_for_the_router() {
    let mut one = one(Config { router: budget(1000, 2048), ..config() }, 0, 1);
    let (c, d) = (member(3), member(4));
    let other = one.relay.allocate(at(0), &c, &d, 0, 1).unwrap();
    assert_eq!(one.send(at(0), Class::Coordination, 2048, 0), None);
    assert_eq!(one.send(at(0), Class::Coordination, 1500, 1), Some(Offered::Enqueued));
    let verdict = |relay: &mut Relay, now: u64| {
        relay.route(at(now), &c.path, other.requester.channel, 100, 1).unwrap().verdict
    };
    // The router could pay a hundred bytes, but fifteen hundred were here first.
    assert_eq!(verdict(&mut one.relay, 1000), Verdict::Wait);
    assert_eq!(one.next(at(1500)), Some(1));
    assert_eq!(verdict(&mut one.relay, 1600), Verdict::Send);
}

#[test]
fn what_waited_and_is_dropped_is_told_once() {
    let mut one = one(Config { peer: budget(100, 2048), ttl: SECOND, ..config() }, 0, 1);
    assert_eq!(one.send(at(0), Class::Coordination, 2048, 0), None);
    for n in 1..3 {
        assert_eq!(one.send(at(0), Class::Coordination, 1000, n), Some(Offered::Enqueued));
    }
    assert_eq!((one.relay.take_lost(), one.next(at(1010))), (None, None));
    assert_eq!(one.relay.take_lost(), Some((Drop::RelayBudget, 2)));
    assert_eq!(one.relay.take_lost(), None);
    assert_eq!(one.send(at(1010), Class::Coordination, 2000, 4), Some(Offered::Enqueued));
    let _ = one.relay.close(one.made.requester.channel.id, &one.a.peer).unwrap();
    assert_eq!(one.relay.take_lost(), Some((Drop::RelayChannel, 1)));
    assert_eq!(one.relay.take_lost(), None);
}

#[test]
fn what_cannot_be_sent_at_once_is_paid_when_it_is() {
    let mut one = one(Config { peer: budget(1000, 2048), ..config() }, 0, 1);
    let (from, channel) = (one.a.path, one.made.requester.channel);
    let route = one.relay.route_to_wait(at(0), &from, channel, 2000, 1).unwrap();
    assert_eq!((route.verdict, one.relay.stats().forwarded_datagrams), (Verdict::Wait, 0));
    let waits = data(&one.pool, 2000, 7);
    assert_eq!(one.relay.enqueue(at(0), route.flow, Class::Coordination, waits), Offered::Enqueued);
    assert_eq!((one.next(at(0)), one.relay.stats().forwarded_datagrams), (Some(7), 1));
}

#[test]
fn who_cannot_send_is_not_woken_for_what_waits() {
    let mut one = one(Config { peer: budget(1000, 2048), ..config() }, 0, 1);
    let (from, channel) = (one.a.path, one.made.requester.channel);
    let route = one.relay.route_to_wait(at(0), &from, channel, 500, 1).unwrap();
    let waits = data(&one.pool, 500, 7);
    assert_eq!(one.relay.enqueue(at(0), route.flow, Class::Coordination, waits), Offered::Enqueued);
    let _ = events(&mut one.relay, at(0));
    assert!(one.relay.next_deadline() <= at(0) && one.relay.poll_deadline() > at(1000));
}
