//! What a frame costs on its way through the queues, and what counting costs.

use std::hint::black_box;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use molia_router::counters::Counters;
use molia_router::drops::Drop;
use molia_router::egress::{Config, Egress, Limits, Next, Offered, Outgoing, Rate};
use molia_router::ids::SessionRef;
use molia_router::net::Prefix;
use molia_router::time::Moment;
use molia_router::wire::kind::{Class, Kind};

const FRAMES: u8 = 64;

fn pool() -> Pool {
    Pool::new(PoolConfig {
        slot_bytes: 2048,
        slots: 256,
        headroom: 32,
        hugepages: Hugepages::Off,
        prefault: true,
    })
    .expect("a small mapping")
}

fn frames(pool: &Pool, class: impl Fn(u8) -> Class, key: bool) -> Vec<Outgoing> {
    let frame = |n: u8| Outgoing {
        session: SessionRef { slot: u32::from(n) * 37, generation: 1 },
        prefix: Prefix([4, 10, 0, n, 0, 0, 0]),
        class: class(n),
        coalesce: key.then_some(n.into()),
        buf: pool.take().expect("a free slot"),
    };
    (0..FRAMES).map(frame).collect()
}

/// Offers 64 frames and takes them out again.
fn pass(c: &mut Criterion, name: &str, config: Config, class: fn(u8) -> Class, key: bool) {
    let pool = pool();
    let mut egress = Egress::new(&config, 1);
    let mut now = Moment::START;
    let mut group = c.benchmark_group("egress");
    group.throughput(Throughput::Elements(FRAMES.into()));
    group.bench_function(name, |b| {
        b.iter_batched(
            || frames(&pool, class, key),
            |mut frames| {
                now = now + Duration::from_secs(1);
                for frame in frames.drain(..) {
                    assert_eq!(egress.offer(now, frame), Offered::Enqueued);
                }
                while let Some(next) = egress.next(now) {
                    match next {
                        Next::Send(frame, _) => frames.push(frame),
                        Next::Dropped(..) => unreachable!("nothing waits here"),
                    }
                }
                frames
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn egress(c: &mut Criterion) {
    let config = |peer, prefix| Config {
        limits: Limits { peer, prefix, ..Limits::default() },
        ..Config::default()
    };
    let none = Rate::default();
    let some = Rate { packets_per_s: Some(1_000_000), bits_per_s: Some(1_000_000_000) };
    pass(c, "control", config(none, none), |_| Class::Control, false);
    let mixed = |n| Class::ALL[usize::from(n) % 3];
    pass(c, "three classes", config(none, none), mixed, false);
    pass(c, "hints with keys", config(none, none), |_| Class::Hints, true);
    pass(c, "control, peers limited", config(some, none), |_| Class::Control, false);
    pass(c, "control, prefixes too", config(some, some), |_| Class::Control, false);
}

fn counters(c: &mut Criterion) {
    let counters = Counters::anonymous(0).expect("a small mapping");
    let pool = pool();
    let mut egress = Egress::new(&Config::default(), 1);
    let mut stats = || {
        let frame = frames(&pool, |_| Class::Hints, false).remove(0);
        assert_eq!(egress.offer(Moment::START, frame), Offered::Enqueued);
        *egress.stats(Class::Hints)
    };
    let (earlier, later) = (stats(), stats());
    let mut group = c.benchmark_group("counters");
    group.bench_function("drop", |b| b.iter(|| counters.drop(black_box(Drop::BadTag))));
    group.bench_function("received", |b| {
        b.iter(|| counters.received(black_box(Some(Kind::Ping))));
    });
    group.bench_function("queue, nothing new", |b| {
        b.iter(|| counters.queue(Class::Hints, black_box(&later)));
    });
    let mut cycle = [&earlier, &later].into_iter().cycle();
    group.bench_function("queue, something new", |b| {
        b.iter(|| counters.queue(Class::Hints, cycle.next().expect("a cycle never ends")));
    });
    group.finish();
}

criterion_group!(benches, egress, counters);
criterion_main!(benches);
