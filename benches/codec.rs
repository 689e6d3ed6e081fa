//! What reading and writing frames costs, beside prost on the same bytes.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use molia_router::ids::{PeerId, WgKey};
use molia_router::limits::{FIND_NODE_PEERS_MAX, HEADER_BYTES, PLAINTEXT_BASE, SHIM_BYTES};
use molia_router::wire::body::find_node::{Chunks, FindNodeReq, FindNodeResp, RespWriter};
use molia_router::wire::body::{
    Addrs, Capabilities, Entry, IdentityBinding, NegotiateReq, Peer, Ping, Pong,
};
use molia_router::wire::{
    Header, Kind, Rules, Verdict, check, encode, multiaddr, open, proto, split,
};
use prost::Message;

const BODY_BYTES: usize = PLAINTEXT_BASE - SHIM_BYTES - HEADER_BYTES;
const RULES: Rules = Rules::of_router(&[Kind::Ping, Kind::FindNodeReq], 1440);
const TOKEN: u64 = 0x0123_4567_89AB_CDEF;
const NOW_UNIX_MS: u64 = 1_790_000_000_000;

fn observed() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7743))
}

/// A PING as it leaves the tunnel.
fn ping_plaintext() -> Vec<u8> {
    let mut out = vec![0; PLAINTEXT_BASE];
    let ping = Ping { now_unix_ms: NOW_UNIX_MS, padding: &[], token: TOKEN };
    let len = encode(&mut out, Header::request(Kind::Ping, 1), |out| ping.write(out));
    out.truncate(len.expect("a PING is small"));
    out
}

/// Entries as the routing table keeps them.
fn entries() -> Vec<Entry> {
    let addrs = [multiaddr::encode(observed())];
    let entry = |i: u8| {
        let (peer_id, wg_public) = (PeerId([i; 32]), WgKey([i; 32]));
        let peer = Peer { peer_id, addrs: Addrs::of(&addrs), rtt_ms: 40, wg_public, flags: 1 };
        Entry::encode(&peer).expect("one address fits")
    };
    (0..16).map(entry).collect()
}

/// Plans and writes an answer as a router does; returns the bytes written.
fn answer(entries: &[Entry], out: &mut [u8]) -> usize {
    let slices = || entries.iter().map(AsRef::as_ref);
    let plan = Chunks::plan(slices(), BODY_BYTES).expect("sixteen peers fit");
    let total = u32::try_from(plan.len()).expect("at most sixteen");
    let mut written = 0;
    for (index, range) in (0..).zip(plan.iter()) {
        let header = Header::response(Kind::FindNodeResp, 1).chunk(9, index + 1 < total);
        let frame = encode(out, header, |out| {
            let mut response = RespWriter::new(out);
            entries[range].iter().try_for_each(|entry| response.push(entry.as_ref()))?;
            response.finish_chunk(index, total)
        });
        written += frame.expect("planned to fit");
    }
    written
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let plaintext = ping_plaintext();
    group.bench_function("open, split, check, read PING", |b| {
        b.iter(|| {
            let frame = open(black_box(&plaintext)).expect("a frame");
            let (version, header, body) = split(frame);
            let verdict = check(&RULES, version, &header, frame.len(), false);
            assert!(matches!(verdict, Verdict::Request(Kind::Ping, _)));
            Ping::read(body).map(|ping| ping.token)
        });
    });
    let mut out = vec![0; PLAINTEXT_BASE];
    group.bench_function("write PONG", |b| {
        b.iter(|| {
            let observed = multiaddr::encode(black_box(observed()));
            let pong = Pong {
                now_unix_ms: black_box(NOW_UNIX_MS),
                observed: observed.as_ref(),
                load_permille: black_box(123),
                token: black_box(TOKEN),
                echo_unix_ms: black_box(NOW_UNIX_MS),
            };
            encode(&mut out, Header::response(Kind::Pong, 1), |out| pong.write(out))
        });
    });
}

fn find_node(c: &mut Criterion) {
    let mut group = c.benchmark_group("find_node");
    let entries = entries();
    let request = proto::FindNodeReq { target_id: vec![7; 32], limit: 16 }.encode_to_vec();
    group.bench_function("read request", |b| {
        b.iter(|| FindNodeReq::read(black_box(&request)).map(|request| request.target_id));
    });
    let mut out = vec![0; PLAINTEXT_BASE];
    for count in [8, FIND_NODE_PEERS_MAX] {
        group.bench_function(format!("write answer of {count}"), |b| {
            b.iter(|| answer(black_box(&entries[..count]), &mut out));
        });
    }
    let peers: Vec<_> = entries.iter().map(|e| proto::Peer::decode(e.as_ref())).collect();
    let peers = peers.into_iter().collect::<Result<_, _>>().expect("entries are peers");
    let message = proto::FindNodeResp { peers, chunk_index: 0, total_chunks: 0 };
    read_answer(&mut group, &message);
}

fn read_answer(group: &mut BenchmarkGroup<'_, WallTime>, message: &proto::FindNodeResp) {
    let body = message.encode_to_vec();
    group.bench_function("read answer of 16", |b| {
        b.iter(|| {
            let response = FindNodeResp::read(black_box(&body)).expect("an answer");
            response.peers.iter().map(|peer| peer.rtt_ms).sum::<u32>()
        });
    });
    group.bench_function("read answer of 16, prost", |b| {
        b.iter(|| proto::FindNodeResp::decode(black_box(&body[..])));
    });
    let mut out = Vec::with_capacity(body.len());
    group.bench_function("write answer of 16, prost", |b| {
        b.iter(|| {
            out.clear();
            black_box(message).encode(&mut out)
        });
    });
}

fn negotiate(c: &mut Criterion) {
    let binding = IdentityBinding {
        ed25519_public: [1; 32],
        x25519_public: WgKey([2; 32]),
        not_before_unix_s: 1_790_000_000,
        not_after_unix_s: 1_790_086_400,
        signature: [3; 64],
    };
    let want = Capabilities { version: 1, bitmap: 0x444, max_msg_bytes: 1200 };
    let request = NegotiateReq { want: Some(want), binding: Some(binding), admission: &[] };
    let mut out = vec![0; PLAINTEXT_BASE];
    let write = |out: &mut [u8]| {
        encode(out, Header::request(Kind::NegotiateReq, 1), |out| black_box(&request).write(out))
    };
    let len = write(&mut out).expect("a request is small");
    let (_, _, body) = split(open(&out[..len]).expect("a frame"));
    let body = body.to_vec();
    let mut group = c.benchmark_group("negotiate");
    group.bench_function("read request", |b| b.iter(|| NegotiateReq::read(black_box(&body))));
    group.bench_function("write request", |b| b.iter(|| write(&mut out)));
}

criterion_group!(benches, frames, find_node, negotiate);
criterion_main!(benches);
