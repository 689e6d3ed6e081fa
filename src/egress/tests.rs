//! The queues against models that a reader can check by eye.

use bufpool::{Hugepages, Pool, PoolConfig};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const SLOTS: usize = 64;

fn pool() -> Pool {
    Pool::new(PoolConfig {
        slot_bytes: 2048,
        slots: SLOTS,
        headroom: 32,
        hugepages: Hugepages::Off,
        prefault: false,
    })
    .unwrap()
}

fn ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn session(slot: u32) -> SessionRef {
    SessionRef { slot, generation: slot / 2 }
}

/// A frame of `len` bytes (at least 4) that says which it is.
fn frame(pool: &Pool, class: Class, slot: u32, coalesce: Option<u64>, content: u32) -> Outgoing {
    let mut buf = pool.take().unwrap();
    assert!(buf.extend(&content.to_be_bytes()));
    Outgoing { session: session(slot), prefix: Prefix([4; 7]), class, coalesce, buf }
}

fn content(frame: &Outgoing) -> u32 {
    u32::from_be_bytes(frame.buf[..4].try_into().unwrap())
}

fn unlimited(depths: [usize; 3], weights: [u32; 3], ttl_ms: [Option<u64>; 3]) -> Config {
    let class = |at: usize| ClassConfig {
        depth: depths[at],
        weight: weights[at],
        ttl: ttl_ms[at].map(Duration::from_millis),
    };
    Config {
        classes: [class(0), class(1), class(2)],
        limits: Limits { peer: Rate::default(), ..Limits::default() },
        sessions_max: 8,
    }
}

#[derive(Clone, Debug)]
enum Op {
    Offer { class: usize, slot: u32, key: Option<u64> },
    Next,
    Expire,
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let offer = (0..3_usize, 0..4_u32, option::of(0..3_u64));
    let op = prop_oneof![
        4 => offer.prop_map(|(class, slot, key)| Op::Offer { class, slot, key }),
        3 => Just(Op::Next),
        1 => Just(Op::Expire),
        1 => (0..4_u64).prop_map(Op::Wait),
    ];
    vec(op, 0..400)
}

/// One waiting frame of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    slot: u32,
    key: Option<u64>,
    content: u32,
    since_ms: u64,
}

/// Queues as vectors, searched from end to end.
struct Model {
    queues: [Vec<Waiting>; 3],
    credits: [u32; 3],
    depths: [usize; 3],
    weights: [u32; 3],
    ttl_ms: [Option<u64>; 3],
}

impl Model {
    fn offer(&mut self, class: usize, new: Waiting) -> Offered {
        let queue = &mut self.queues[class];
        let same = |w: &&mut Waiting| new.key.is_some() && w.key == new.key && w.slot == new.slot;
        if let Some(old) = queue.iter_mut().find(same) {
            *old = new;
            return Offered::Coalesced;
        }
        if queue.len() == self.depths[class] {
            return Offered::Dropped(Drop::QueueFull);
        }
        queue.push(new);
        Offered::Enqueued
    }

    /// Class, content, and whether it may be sent.
    fn next(&mut self, now_ms: u64) -> Option<(usize, u32, bool)> {
        if self.queues.iter().all(Vec::is_empty) {
            return None;
        }
        let ready = |model: &Self| {
            (0..3).find(|&class| !model.queues[class].is_empty() && model.credits[class] > 0)
        };
        let class = ready(self).or_else(|| {
            self.credits = self.weights;
            ready(self)
        })?;
        let head = self.queues[class].remove(0);
        let in_time = self.ttl_ms[class].is_none_or(|ttl| now_ms - head.since_ms <= ttl);
        if in_time {
            self.credits[class] -= 1;
        }
        Some((class, head.content, in_time))
    }

    /// Class of a head that waited too long.
    fn expire(&mut self, now_ms: u64) -> Option<usize> {
        let stale = |class: &usize| {
            let (head, ttl) = (self.queues[*class].first(), self.ttl_ms[*class]);
            head.zip(ttl).is_some_and(|(head, ttl)| now_ms - head.since_ms > ttl)
        };
        let class = (0..3).find(stale)?;
        self.queues[class].remove(0);
        Some(class)
    }
}

/// `offered = enqueued + coalesced + refused`, `enqueued = sent + expired + waiting`.
fn assert_adds_up(egress: &Egress) {
    for class in Class::ALL {
        let s = egress.stats(class);
        assert_eq!(s.offered, s.enqueued + s.coalesced + s.full + s.peer_rate + s.prefix_rate);
        assert_eq!(s.enqueued, s.sent + s.expired + s.depth as u64);
        assert_eq!(s.wait.buckets.iter().sum::<u64>(), s.sent);
        assert_eq!(s.depth + egress.free(class), s.capacity);
        assert!(s.depth <= s.high_water && s.high_water <= s.capacity);
    }
}

proptest! {
    #[test]
    fn queues_do_as_the_model(
        ops in ops(),
        depths in [1..6_usize, 1..9, 1..12],
        weights in [1..9_u32, 1..5, 1..3],
        ttl_ms in [option::of(0..6_u64), option::of(0..6), option::of(0..6)],
        seed in any::<u64>(),
    ) {
        let pool = pool();
        let mut egress = Egress::new(&unlimited(depths, weights, ttl_ms), seed);
        let queues = [vec![], vec![], vec![]];
        let mut model = Model { queues, credits: weights, depths, weights, ttl_ms };
        let mut now_ms = 0;
        for (number, op) in (0..).zip(ops) {
            match op {
                Op::Offer { class, slot, key } => {
                    let out = frame(&pool, Class::ALL[class], slot, key, number);
                    let new = Waiting { slot, key, content: number, since_ms: now_ms };
                    prop_assert_eq!(egress.offer(ms(now_ms), out), model.offer(class, new));
                }
                Op::Next => {
                    let ours = egress.next(ms(now_ms)).map(|next| match next {
                        Next::Send(frame, class) => (class as usize, Some(content(&frame))),
                        Next::Dropped(class, reason) => {
                            assert_eq!(reason, Drop::Expired);
                            (class as usize, None)
                        }
                    });
                    let models = model.next(now_ms);
                    prop_assert_eq!(ours, models.map(|(c, what, ok)| (c, ok.then_some(what))));
                }
                Op::Expire => {
                    let ours = egress.expire(ms(now_ms)).map(|(class, reason)| {
                        assert_eq!(reason, Drop::Expired);
                        class as usize
                    });
                    prop_assert_eq!(ours, model.expire(now_ms));
                }
                Op::Wait(more) => now_ms += more,
            }
            assert_adds_up(&egress);
            for class in Class::ALL {
                prop_assert_eq!(egress.stats(class).depth, model.queues[class as usize].len());
            }
            // Nothing leaks: every slot is free or waits.
            prop_assert_eq!(pool.free() + egress.len(), SLOTS);
        }
    }

    #[test]
    fn rates_are_leaky_buckets(
        ops in vec((0..3_usize, 0..3_u32, 0..600_usize, 0..200_u64), 0..200),
        pps in option::of(1..50_u64),
        bytes_per_s in option::of(500..4000_u64),
        headroom in 0..100_u32,
    ) {
        let pool = pool();
        let peer = Rate { packets_per_s: pps, bits_per_s: bytes_per_s.map(|b| b * 8) };
        let limits = Limits { peer, control_headroom_percent: headroom, ..Limits::default() };
        let config = Config { limits, ..unlimited([SLOTS; 3], [1; 3], [None; 3]) };
        let mut egress = Egress::new(&config, 7);
        // Per peer, debts in nanoseconds of both rates.
        let mut debts = [[0.0_f64; 2]; 3];
        let ns = |per_s: Option<u64>, units: f64| per_s.map_or(0.0, |r| units * 1e9 / r as f64);
        let largest = [ns(pps, 1.0), ns(bytes_per_s, 2048.0)];
        let mut now_ms = 0;
        for (class, slot, len, wait) in ops {
            now_ms += wait;
            for debt in debts.as_flattened_mut() {
                *debt = (*debt - wait as f64 * 1e6).max(0.0);
            }
            let mut out = frame(&pool, Class::ALL[class], slot, None, 0);
            assert!(out.buf.extend(&[0; 600][..len]));
            let costs = [ns(pps, 1.0), ns(bytes_per_s, (out.buf.len() + WG_OVERHEAD) as f64)];
            let debt = &mut debts[slot as usize];
            let percent = if class == 0 { 100.0 + f64::from(headroom) } else { 100.0 };
            let over = |at: usize| debt[at] + costs[at] - largest[at].max(1e9) * percent / 100.0;
            // Closer to the edge than a microsecond, rounding may fall either way.
            let close = over(0).abs() < 1e3 || over(1).abs() < 1e3;
            let granted = over(0) <= 0.0 && over(1) <= 0.0;
            let outcome = egress.offer(ms(now_ms), out);
            if !close {
                let expected =
                    if granted { Offered::Enqueued } else { Offered::Dropped(Drop::PeerRate) };
                prop_assert_eq!(outcome, expected);
            }
            if outcome == Offered::Enqueued {
                debt[0] += costs[0];
                debt[1] += costs[1];
            }
            while let Some(Next::Send(..)) = egress.next(ms(now_ms)) {}
            assert_adds_up(&egress);
        }
    }
}

#[test]
fn a_backlog_is_served_8_to_4_to_1() {
    let pool = pool();
    let mut egress = Egress::new(&unlimited([SLOTS; 3], [8, 4, 1], [None; 3]), 1);
    let mut number = 0;
    for class in Class::ALL {
        for _ in 0..[32, 16, 8][class as usize] {
            assert_eq!(
                egress.offer(ms(0), frame(&pool, class, 0, None, number)),
                Offered::Enqueued
            );
            number += 1;
        }
    }
    for _round in 0..4 {
        let mut served = [0; 3];
        for _ in 0..13 {
            let Some(Next::Send(_, class)) = egress.next(ms(0)) else { panic!("a backlog") };
            served[class as usize] += 1;
        }
        assert_eq!(served, [8, 4, 1]);
    }
    // Who is alone is served alone.
    let Some(Next::Send(_, class)) = egress.next(ms(0)) else { panic!("hints remain") };
    assert_eq!((class, egress.stats(Class::Hints).depth), (Class::Hints, 3));
}

#[test]
fn what_expired_costs_its_class_no_turn() {
    let pool = pool();
    let mut egress = Egress::new(&unlimited([4; 3], [1, 1, 1], [None, Some(10), Some(10)]), 1);
    let _ = egress.offer(ms(0), frame(&pool, Class::Coordination, 0, None, 1));
    let _ = egress.offer(ms(20), frame(&pool, Class::Coordination, 0, None, 2));
    let _ = egress.offer(ms(20), frame(&pool, Class::Hints, 0, None, 3));
    let outcomes: Vec<_> = std::iter::from_fn(|| egress.next(ms(25)))
        .map(|next| match next {
            Next::Send(frame, _) => Ok(content(&frame)),
            Next::Dropped(class, reason) => Err((class, reason)),
        })
        .collect();
    assert_eq!(outcomes, [Err((Class::Coordination, Drop::Expired)), Ok(2), Ok(3)]);
}

#[test]
fn control_overdraws_when_coordination_may_not() {
    let pool = pool();
    let peer = Rate { packets_per_s: Some(10), bits_per_s: None };
    let limits = Limits { peer, control_headroom_percent: 50, ..Limits::default() };
    let config = Config { limits, ..unlimited([SLOTS; 3], [8, 4, 1], [None; 3]) };
    let mut egress = Egress::new(&config, 1);
    let mut accepted = |class, n| {
        (0..n)
            .filter(|&i| egress.offer(ms(0), frame(&pool, class, 0, None, i)) == Offered::Enqueued)
            .count()
    };
    assert_eq!(accepted(Class::Coordination, 12), 10);
    assert_eq!(accepted(Class::Hints, 3), 0);
    assert_eq!(accepted(Class::Control, 12), 5);
    assert_eq!(egress.stats(Class::Control).peer_rate, 7);
    // Another peer has its own rate.
    assert_eq!(egress.offer(ms(0), frame(&pool, Class::Hints, 1, None, 0)), Offered::Enqueued);
}

#[test]
fn a_prefix_is_one_rate_for_all_its_peers() {
    let pool = pool();
    let prefix = Rate { packets_per_s: Some(10), bits_per_s: None };
    let limits = Limits { peer: Rate::default(), prefix, prefixes: 64, ..Limits::default() };
    let config = Config { limits, ..unlimited([SLOTS; 3], [8, 4, 1], [None; 3]) };
    let mut egress = Egress::new(&config, 1);
    let mut offer = |slot, network: u8| {
        let mut out = frame(&pool, Class::Coordination, slot, None, 0);
        out.prefix = Prefix([4, 10, 0, network, 0, 0, 0]);
        egress.offer(ms(0), out)
    };
    for slot in 0..8 {
        assert_eq!(offer(slot, 1), Offered::Enqueued);
    }
    assert_eq!((offer(0, 1), offer(1, 1)), (Offered::Enqueued, Offered::Enqueued));
    assert_eq!(offer(2, 1), Offered::Dropped(Drop::SendPrefixRate));
    assert_eq!(offer(2, 2), Offered::Enqueued);
}

#[test]
fn a_frame_over_the_prefix_rate_is_not_charged_to_its_peer() {
    let pool = pool();
    let rate = |pps| Rate { packets_per_s: Some(pps), bits_per_s: None };
    let limits = Limits { peer: rate(4), prefix: rate(2), prefixes: 64, ..Limits::default() };
    let config = Config { limits, ..unlimited([SLOTS; 3], [8, 4, 1], [None; 3]) };
    let mut egress = Egress::new(&config, 1);
    let mut offer = |network: u8| {
        let mut out = frame(&pool, Class::Hints, 0, None, 0);
        out.prefix = Prefix([4, 10, 0, network, 0, 0, 0]);
        egress.offer(ms(0), out)
    };
    let outcomes: Vec<_> = [1, 1, 1, 1, 1, 2, 2, 3].map(&mut offer).into();
    let over = Offered::Dropped(Drop::SendPrefixRate);
    let ok = Offered::Enqueued;
    assert_eq!(outcomes, [ok, ok, over, over, over, ok, ok, Offered::Dropped(Drop::PeerRate)]);
}

#[test]
fn what_coalesces_is_not_refused_by_a_full_queue_or_a_rate() {
    let pool = pool();
    let peer = Rate { packets_per_s: Some(1), bits_per_s: None };
    let limits = Limits { peer, ..Limits::default() };
    let config = Config { limits, ..unlimited([1; 3], [8, 4, 1], [None; 3]) };
    let mut egress = Egress::new(&config, 1);
    assert_eq!(egress.offer(ms(0), frame(&pool, Class::Hints, 0, Some(9), 1)), Offered::Enqueued);
    assert!(egress.is_full(Class::Hints) && !egress.is_full(Class::Control));
    assert_eq!(egress.offer(ms(0), frame(&pool, Class::Hints, 0, Some(9), 2)), Offered::Coalesced);
    let Some(Next::Send(sent, Class::Hints)) = egress.next(ms(0)) else { panic!("one waits") };
    assert_eq!(content(&sent), 2);
}

#[test]
fn durations_fall_into_the_bucket_of_their_edge() {
    for (ns, bucket) in [(0, 0), (1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2), (4000, 2)] {
        assert_eq!(Log2::bucket(ns), bucket, "{ns} ns");
    }
    for i in 0..22_u32 {
        assert_eq!(Log2::bucket(1000 << i), i as usize);
        assert_eq!(Log2::bucket((1000 << i) + 1), i as usize + 1);
    }
    assert_eq!(Log2::bucket(u64::MAX), Log2::BUCKETS - 1);
}
