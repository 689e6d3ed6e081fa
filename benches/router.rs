//! A request in, the sealed answer out, without sockets; `tunnel` has the bare cryptography.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use molia_router::ids::PeerId;
use molia_router::net::{Datagram, Transmit};
use molia_router::router::Config;
use molia_router::wire::body::{FindNodeReq, Ping, ReflectReq};
use molia_router::wire::{Header, Kind};

use support::{Bench, Peer};

/// Datagrams of a batch.
const BATCH: u32 = 256;

fn raised() -> Config {
    let mut config = Config::default();
    config.tunnel.sessions_max = 1024;
    config.egress.sessions_max = 1024;
    config.egress.limits.peer = RAISED;
    config.egress.limits.prefix = RAISED;
    config
}

/// Nobody gets there, and yet every frame is charged, as in a router that serves.
const PPS: u64 = 100_000_000;
const BPS: u64 = 400_000_000_000;
const RAISED: molia_router::egress::Rate =
    molia_router::egress::Rate { packets_per_s: Some(PPS), bits_per_s: Some(BPS) };

fn serve(bench: &mut Bench, peer: &Peer, requests: &[Vec<u8>]) {
    let (path, at) = (peer.path(), bench.now);
    for request in requests {
        let mut buf = bench.receive_slot();
        assert!(buf.extend(request));
        let datagram = Datagram { path, segment: buf.len(), buf };
        bench.router.receive(at, datagram, &mut |sent: Transmit| drop(black_box(sent)));
        bench.router.transmit(at, &mut |sent: Transmit| drop(black_box(sent)));
    }
}

fn measure(criterion: &mut Criterion, name: &str, seal: fn(&mut Peer, u32) -> Vec<u8>) {
    let mut bench = Bench::with(raised());
    for n in 0..200 {
        bench.list_peer(n, &format!("198.51.{n}.1:1000"));
    }
    let mut peer = bench.peer("192.0.2.1:1000");
    bench.connect(&mut peer);
    let (bench, peer) = (std::cell::RefCell::new(bench), std::cell::RefCell::new(peer));
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || (0..BATCH).map(|n| seal(&mut peer.borrow_mut(), n)).collect::<Vec<_>>(),
            |requests| serve(&mut bench.borrow_mut(), &peer.borrow(), requests),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn ping(peer: &mut Peer, correlation: u32) -> Vec<u8> {
    let ping = Ping { now_unix_ms: 1, padding: &[], token: 3 };
    peer.seal(Header::request(Kind::Ping, correlation), |body| ping.write(body))
}

fn padded_ping(peer: &mut Peer, correlation: u32) -> Vec<u8> {
    let ping = Ping { now_unix_ms: 1, padding: &[0; 1100], token: 3 };
    peer.seal(Header::request(Kind::Ping, correlation), |body| ping.write(body))
}

fn reflect(peer: &mut Peer, correlation: u32) -> Vec<u8> {
    let reflect = ReflectReq { nonce: 9, ..ReflectReq::default() };
    peer.seal(Header::request(Kind::ReflectReq, correlation), |body| reflect.write(body))
}

fn find_node(peer: &mut Peer, correlation: u32) -> Vec<u8> {
    let target = correlation.wrapping_mul(2_654_435_761).to_be_bytes();
    let target_id = PeerId(std::array::from_fn(|i| target[i % 4]));
    let find = FindNodeReq { target_id, limit: 8 };
    peer.seal(Header::request(Kind::FindNodeReq, correlation), |body| find.write(body))
}

fn benches(criterion: &mut Criterion) {
    measure(criterion, "ping", ping);
    measure(criterion, "ping_1100", padded_ping);
    measure(criterion, "reflect", reflect);
    measure(criterion, "find_node_8", find_node);
}

criterion_group!(group, benches);
criterion_main!(group);
