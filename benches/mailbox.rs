//! What a message between shards costs: on one thread, and there and back between two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use molia_router::limits::RX_SLOT_BYTES;
use molia_router::port::{AnyPort, EngineChoice, EngineConfig, Port, Socket, SocketConfig};
use molia_router::shard::mailbox::{Config, Mailbox, PAYLOAD_MAX, Posted, mesh};
use molia_router::wire::kind::Class;

/// As large as the router's.
type Mail = [u64; 10];

const MESSAGES: u64 = 64;
const WAIT: Duration = Duration::from_secs(1);

fn socket() -> Socket {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Socket::bind(&SocketConfig::new(listen)).expect("a free port")
}

fn port(socket: Socket) -> AnyPort {
    let pool = Pool::new(PoolConfig {
        slot_bytes: RX_SLOT_BYTES,
        slots: 64,
        headroom: 0,
        hugepages: Hugepages::Off,
        prefault: false,
    });
    let pool = pool.expect("a small mapping");
    AnyPort::open(EngineChoice::Mmsg, socket, EngineConfig::default(), pool).expect("a port")
}

fn pair(sockets: [&Socket; 2]) -> [Mailbox<Mail>; 2] {
    let mailboxes = mesh(&Config::default(), sockets.map(Socket::waker).into());
    mailboxes.try_into().unwrap_or_else(|_| unreachable!("one for each waker"))
}

/// 64 messages posted, flushed, and taken out again.
fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(MESSAGES));
    for (name, len) in [("no bytes", 0), ("148 bytes", 148), ("1472 bytes", 1472)] {
        let [mut from, mut to] = pair([&socket(), &socket()]);
        let payload = [7; PAYLOAD_MAX];
        let mut out = [0; PAYLOAD_MAX];
        group.bench_function(name, |b| {
            b.iter(|| {
                for n in 0..MESSAGES {
                    let posted = from.post(1, Class::Coordination, None, [n; 10], &payload[..len]);
                    assert_eq!(posted, Posted::Enqueued);
                }
                from.flush();
                while let Some(received) = to.next(&mut out) {
                    assert_eq!(received.len, len);
                }
            });
        });
    }
    let mut mailboxes = mesh::<Mail>(&Config::default(), vec![socket().waker(); 8]);
    let mut out = [0; PAYLOAD_MAX];
    group.throughput(Throughput::Elements(1));
    group.bench_function("a turn of 8 shards without mail", |b| {
        b.iter(|| {
            mailboxes[0].flush();
            assert_eq!(mailboxes[0].next(&mut out), None);
        });
    });
    group.bench_function("to sleep among 8 shards and awake", |b| {
        b.iter(|| {
            assert!(mailboxes[0].sleep());
            mailboxes[0].awake();
        });
    });
    group.finish();
}

/// Waits for a message and takes it, in `port` or by looking again and again; none once `ended`.
fn take(
    mailbox: &mut Mailbox<Mail>,
    mut port: Option<&mut AnyPort>,
    ended: &AtomicBool,
) -> Option<Mail> {
    let mut out = [0; PAYLOAD_MAX];
    while !ended.load(Ordering::Relaxed) {
        if let Some(received) = mailbox.next(&mut out) {
            return Some(received.mail);
        }
        match &mut port {
            Some(port) if mailbox.sleep() => {
                port.turn(WAIT, &mut Vec::new()).expect("a socket");
                mailbox.awake();
            }
            _ => std::hint::spin_loop(),
        }
    }
    None
}

/// One message to another thread and one back.
fn round_trip(c: &mut Criterion, name: &str, sleeps: bool) {
    let sockets = [socket(), socket()];
    let [mut near, mut far] = pair([&sockets[0], &sockets[1]]);
    let [near_socket, far_socket] = sockets;
    let ended = AtomicBool::new(false);
    let waker = far_socket.waker();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut port = sleeps.then(|| port(far_socket));
            while let Some(mail) = take(&mut far, port.as_mut(), &ended) {
                let _ = far.post(0, Class::Control, None, mail, &[1; 148]);
                far.flush();
            }
        });
        let mut port = sleeps.then(|| port(near_socket));
        let mut group = c.benchmark_group("mailbox");
        group.bench_function(name, |b| {
            b.iter(|| {
                let _ = near.post(1, Class::Control, None, [1; 10], &[1; 148]);
                near.flush();
                take(&mut near, port.as_mut(), &ended)
            });
        });
        group.finish();
        ended.store(true, Ordering::Relaxed);
        waker.wake();
    });
}

fn two_threads(c: &mut Criterion) {
    round_trip(c, "round trip, both awake", false);
    round_trip(c, "round trip, both asleep", true);
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
