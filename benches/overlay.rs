//! What a look-up in a full routing table costs.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use molia_router::ids::{HomeRef, PeerId, SessionRef};
use molia_router::net::{Prefix, Scope};
use molia_router::overlay::{Closest, Config, Entry, Inserted, Table};
use molia_router::time::Moment;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

const PEERS: u32 = 100_000;
const TARGETS: usize = 4096;

fn id(rng: &mut ChaCha12Rng) -> PeerId {
    let mut id = [0; 32];
    rng.fill_bytes(&mut id);
    PeerId(id)
}

fn entry(id: PeerId, n: u32) -> Entry {
    let [a, b, c, d] = n.to_be_bytes();
    Entry {
        id,
        home: HomeRef { shard: 0, session: SessionRef { slot: n, generation: 1 } },
        prefix: Prefix([6, a, b, c, d, 0, 0]),
        scope: Scope::Global,
        met_unix_s: 0,
        encoded: [0x5A; 100].into_iter().collect(),
    }
}

/// A table of random peers, their ids, and ids to look for that are not in it.
fn full() -> (Table, Vec<PeerId>, Vec<PeerId>) {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut table = Table::new(Config::default());
    let ids: Vec<_> = (0..PEERS).map(|_| id(&mut rng)).collect();
    for (n, &id) in (0..).zip(&ids) {
        assert_eq!(table.insert(Moment::START, entry(id, n)), Inserted::Added);
    }
    let targets = (0..TARGETS).map(|_| id(&mut rng)).collect();
    (table, ids, targets)
}

fn overlay(c: &mut Criterion) {
    let (mut table, ids, targets) = full();
    let mut group = c.benchmark_group("overlay, 100,000 peers");
    let mut found = Closest::new();
    for limit in [8, 16] {
        let mut cycle = targets.iter().cycle();
        group.bench_function(format!("closest {limit}"), |b| {
            b.iter(|| {
                let target = cycle.next().expect("a cycle never ends");
                table.closest(target, limit, &mut found);
                black_box(&found).len()
            });
        });
        let mut answer = Vec::with_capacity(4096);
        group.bench_function(format!("closest {limit} and copy"), |b| {
            b.iter(|| {
                let target = cycle.next().expect("a cycle never ends");
                table.closest(target, limit, &mut found);
                answer.clear();
                found.iter().for_each(|&at| answer.extend_from_slice(table.encoded(at)));
                black_box(&answer).len()
            });
        });
    }
    let mut cycle = ids.iter().cycle();
    group.bench_function("seen", |b| {
        b.iter(|| table.seen(cycle.next().expect("a cycle never ends"), Moment::START));
    });
    let mut cycle = (0..).zip(&ids).cycle();
    group.bench_function("remove and insert", |b| {
        b.iter_batched(
            || cycle.next().expect("a cycle never ends"),
            |(n, id)| {
                assert!(table.remove(id));
                table.insert(Moment::START, entry(*id, n % PEERS))
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, overlay);
criterion_main!(benches);
