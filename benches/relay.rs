//! What the relay asks of a datagram: look-up, source, budgets, and the other leg's header.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use molia_router::ids::{HomeRef, PeerId, SessionRef};
use molia_router::net::{Local, Path, Prefix};
use molia_router::relay::{Budget, Config, Member, Relay, Verdict};
use molia_router::time::Moment;
use molia_router::wire::channel::{Channel, HEADER_BYTES};

const BYTES: usize = 1232;
/// Datagrams that one measurement routes.
const BATCH: usize = 4096;

fn ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + n * 64)
}

fn member(n: u32) -> Member {
    let mut peer = [0x5a; 32];
    peer[..4].copy_from_slice(&n.to_be_bytes());
    let address = SocketAddr::from((ip(n), 7743));
    let ip = Some(Ipv4Addr::new(203, 0, 113, 1).into());
    Member {
        peer: PeerId(peer),
        home: HomeRef { shard: 0, session: SessionRef { slot: n, generation: 1 } },
        path: Path { peer: address, local: Local { ip, ..Local::default() } },
        proven: true,
        proven_at: Moment::START,
        reachable: true,
        factor: 16,
        network: Prefix::of(address.ip()),
    }
}

/// Every limit is looked at and none is reached.
fn config(channels: usize) -> Config {
    let wide = Budget { bits_per_s: Some(1 << 44), burst_bytes: 1 << 30 };
    Config { channels_max: channels, router: wide, prefix: wide, peer: wide, ..Config::default() }
}

/// All channels of a relay, with where their data comes from.
fn fill(relay: &mut Relay, channels: u32) -> Vec<(Ipv4Addr, Channel)> {
    let legs = (0..channels).flat_map(|n| {
        let (a, b) = (member(2 * n), member(2 * n + 1));
        let entropy = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let made = relay.allocate(Moment::START, &a, &b, 0, entropy).expect("a free channel");
        [(ip(2 * n), made.requester.channel), (ip(2 * n + 1), made.target.channel)]
    });
    legs.collect()
}

fn route(c: &mut Criterion, channels: u32) {
    let mut relay =
        Relay::new(config(channels as usize), [0x9e37_79b9_7f4a_7c15, 0x1234_5678_9abc_def1]);
    let legs = fill(&mut relay, channels);
    let mut dice = 1_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).expect("31 bits") % legs.len()
    };
    // Drawn before: what is measured is the relay, not the dice; what comes is never in order.
    // Small, since a datagram that was just received is in the cache.
    let arrivals: Vec<(Ipv4Addr, Channel)> = (0..1 << 18).map(|_| legs[roll()]).collect();
    let mut from = member(0).path;
    let mut datagram = [0; HEADER_BYTES];
    let (mut now, mut at) = (Moment::START, 0);
    let mut group = c.benchmark_group("relay");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(format!("route, {channels} channels"), |b| {
        b.iter(|| {
            now = now + Duration::from_micros(100);
            for (ip, channel) in &arrivals[at..at + BATCH] {
                from.peer.set_ip((*ip).into());
                let route = relay.route(now, &from, *channel, BYTES, 1).expect("an open channel");
                debug_assert_eq!(route.verdict, Verdict::Send);
                route.channel.write(&mut datagram);
                black_box((&datagram, &route.to));
            }
            at = (at + BATCH) % arrivals.len();
        });
    });
    group.finish();
    assert_eq!(relay.stats().dropped_budget, 0);
    println!(
        "{} bytes a channel, {} forwarded",
        Relay::bytes(relay.config()) / channels as usize,
        relay.stats().forwarded_datagrams
    );
}

fn relay(c: &mut Criterion) {
    route(c, 1);
    route(c, 1_000);
    route(c, 100_000);
}

criterion_group!(benches, relay);
criterion_main!(benches);
