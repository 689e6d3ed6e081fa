//! What a session adds to bare BoringTun: opening, sealing, shaking hands.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use molia_router::admission;
use molia_router::bucket::Rate;
use molia_router::ids::SessionRef;
use molia_router::net::{Local, Path};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::tunnel::{Config, Opened, Secrets, Sessions};

const SIZES: [u16; 3] = [64, 256, 1200];

struct Peer {
    tunn: Tunn,
    path: Path,
    session: SessionRef,
}

fn now(ms: u64) -> Now {
    Now { at: Moment::START + Duration::from_millis(ms), unix_ms: 1_700_000_000_000 + ms }
}

fn path(n: u32) -> Path {
    let [_, a, b, c] = n.to_be_bytes();
    Path { peer: SocketAddr::from(([10, a, b, c], 4000)), local: Local::default() }
}

fn router() -> (Sessions<WireGuard>, PublicKey) {
    let admission = admission::Config {
        cookie_threshold_pps: u32::MAX,
        address: Rate::new(1_000_000_000, 1_000_000_000),
        prefix: Rate::new(1_000_000_000, 1_000_000_000),
        initiations_per_turn: u32::MAX,
        ..admission::Config::default()
    };
    let config = Config {
        sessions_max: 4096,
        handshakes_per_turn: u32::MAX,
        admission,
        ..Config::default()
    };
    let engine = WireGuard::new(StaticSecret::from([3; 32]), 4096);
    let public = engine.public();
    let secrets = Secrets { cookies: [1; 32], seed: [2; 32] };
    (Sessions::new(config, engine, &public, &secrets), PublicKey::from(public.0))
}

fn stranger(router: PublicKey, n: u32) -> Tunn {
    let mut secret = [5; 32];
    secret[..4].copy_from_slice(&n.to_le_bytes());
    Tunn::new(StaticSecret::from(secret), router, None, None, n, None)
}

fn sent(made: TunnResult<'_>) -> &[u8] {
    let TunnResult::WriteToNetwork(sent) = made else { panic!("nothing to send: {made:?}") };
    sent
}

fn initiate(tunn: &mut Tunn) -> Vec<u8> {
    let mut out = [0; 256];
    sent(tunn.format_handshake_initiation(&mut out, true)).to_vec()
}

fn connect(sessions: &mut Sessions<WireGuard>, router: PublicKey, n: u32) -> Peer {
    let (mut tunn, path) = (stranger(router, n), path(n));
    let (mut scratch, mut out) = ([0; 2048], [0; 2048]);
    let answer = sessions.receive(now(0), &path, &initiate(&mut tunn), &mut scratch);
    let Opened::Reply { bytes, .. } = answer else { panic!("{answer:?}") };
    let first = sent(tunn.decapsulate(None, bytes, &mut out)).to_vec();
    assert_eq!(sessions.receive(now(0), &path, &first, &mut scratch), Opened::Nothing);
    let (session, _) = sessions.live().last().unwrap();
    Peer { tunn, path, session }
}

fn frame(len: u16) -> Vec<u8> {
    let mut frame = vec![0; usize::from(len)];
    frame[0] = 0x4d;
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    frame
}

fn seal_by(tunn: &mut Tunn, frame: &[u8], out: &mut [u8]) -> usize {
    sent(tunn.encapsulate(frame, out)).len()
}

/// Messages of one peer, opened in order, enough of them that sealing is not measured.
fn opening(
    criterion: &mut Criterion,
    name: &str,
    len: u16,
    mut open: impl FnMut(&[u8]),
    peer: &mut Tunn,
) {
    let (frame, mut out) = (frame(len), [0; 2048]);
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(u64::from(len)));
    group.bench_function(format!("{name}/{len}"), |bencher| {
        bencher.iter_batched_ref(
            || {
                let sealed = seal_by(peer, &frame, &mut out);
                out[..sealed].to_vec()
            },
            |sealed| open(sealed),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn open(criterion: &mut Criterion) {
    for len in SIZES {
        let mut scratch = [0; 2048];
        let (mut initiator, mut responder) = pair();
        opening(
            criterion,
            "bare",
            len,
            |sealed| {
                let opened = responder.decapsulate(None, sealed, &mut scratch);
                assert!(matches!(black_box(opened), TunnResult::WriteToTunnelV4(..)));
            },
            &mut initiator,
        );
        let (mut sessions, public) = router();
        let mut peer = connect(&mut sessions, public, 1);
        let path = peer.path;
        opening(
            criterion,
            "session",
            len,
            |sealed| {
                let opened = sessions.receive(now(1), &path, sealed, &mut scratch);
                assert!(matches!(black_box(opened), Opened::Frame { .. }));
            },
            &mut peer.tunn,
        );
    }
}

fn pair() -> (Tunn, Tunn) {
    let secret = StaticSecret::from([3; 32]);
    let initiator_public = PublicKey::from(&StaticSecret::from({
        let mut secret = [5; 32];
        secret[..4].copy_from_slice(&1_u32.to_le_bytes());
        secret
    }));
    let mut initiator = stranger(PublicKey::from(&secret), 1);
    let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&secret), u64::MAX));
    let mut responder = Tunn::new(secret, initiator_public, None, None, 7, Some(limiter));
    let (mut there, mut back) = ([0; 256], [0; 256]);
    let initiation = initiate(&mut initiator);
    let TunnResult::WriteToNetwork(response) = responder.decapsulate(None, &initiation, &mut back)
    else {
        panic!("no response");
    };
    let TunnResult::WriteToNetwork(first) = initiator.decapsulate(None, response, &mut there)
    else {
        panic!("not established");
    };
    assert!(matches!(responder.decapsulate(None, first, &mut [0; 256]), TunnResult::Done));
    (initiator, responder)
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for len in SIZES {
        let (frame, mut out) = (frame(len), [0; 2048]);
        group.throughput(Throughput::Bytes(u64::from(len)));
        let (_, mut responder) = pair();
        group.bench_function(format!("bare/{len}"), |bencher| {
            bencher.iter(|| seal_by(&mut responder, black_box(&frame), &mut out));
        });
        let (mut sessions, public) = router();
        let peer = connect(&mut sessions, public, 1);
        group.bench_function(format!("session/{len}"), |bencher| {
            bencher
                .iter(|| sessions.seal(now(1), peer.session, black_box(&frame), &mut out).unwrap());
        });
    }
    group.finish();
}

fn handshake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.sample_size(20);
    let (mut initiator, mut responder) = pair();
    let mut scratch = [0; 2048];
    group.bench_function("bare/known", |bencher| {
        bencher.iter_batched_ref(
            || initiate(&mut initiator),
            |initiation| {
                let answer = responder.decapsulate(None, initiation, &mut scratch);
                assert!(matches!(black_box(answer), TunnResult::WriteToNetwork(_)));
            },
            BatchSize::PerIteration,
        );
    });
    let (mut sessions, public) = router();
    let mut peer = connect(&mut sessions, public, 1);
    group.bench_function("session/known", |bencher| {
        bencher.iter_batched_ref(
            || initiate(&mut peer.tunn),
            |initiation| {
                let answer = sessions.receive(now(1), &peer.path, initiation, &mut scratch);
                assert!(matches!(black_box(answer), Opened::Reply { drop: None, .. }));
            },
            BatchSize::PerIteration,
        );
    });
    let (mut sessions, public) = router();
    let n = std::cell::Cell::new(0);
    group.bench_function("session/stranger", |bencher| {
        bencher.iter_batched_ref(
            || {
                n.set(n.get() + 1);
                initiate(&mut stranger(public, n.get()))
            },
            |initiation| {
                let answer = sessions.receive(now(1), &path(n.get()), initiation, &mut scratch);
                assert!(matches!(black_box(answer), Opened::Reply { drop: None, .. }));
                let (begun, _) = sessions.live().last().unwrap();
                sessions.end(begun);
            },
            BatchSize::PerIteration,
        );
    });
    let mut forged = initiate(&mut peer.tunn);
    forged[120] ^= 1;
    group.bench_function("session/bad_mac1", |bencher| {
        bencher.iter(|| {
            sessions.receive(now(1), &path(1), black_box(&forged), &mut scratch) == Opened::Nothing
        });
    });
    group.finish();
}

criterion_group!(benches, open, seal, handshake);
criterion_main!(benches);
