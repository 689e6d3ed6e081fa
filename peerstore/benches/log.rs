//! What a change costs a store on a real disk, by durability, and how long it takes to read all of
//! it again.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use peerstore::journal::{self, Appended, Config, Durability, Journal};
use peerstore::record::{Host, PEER_BYTES_MAX, Peer};
use peerstore::storage::Disk;
use peerstore::{Message, PeerId, Record, Shard, Store, WgKey};

/// Changes between two flushes, as of a turn of a busy loop.
const TURN: u64 = 64;
/// Changes that an iteration is.
const CHANGES: u64 = 16 * TURN;
/// Bytes of a peer's message with two addresses.
const MESSAGE_BYTES: usize = 216;
const PARTITION_HASH: u64 = 1;

static MESSAGE: [u8; MESSAGE_BYTES] = [0xC5; MESSAGE_BYTES];

fn peer(number: u64) -> Record<'static> {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let message = Message::<PEER_BYTES_MAX>::new(&MESSAGE).expect("within its bound");
    Record::Peer(Peer {
        host: Host { peer_id: PeerId(id), wireguard: WgKey(id) },
        first_seen_unix_s: 1,
        last_seen_unix_s: number,
        message,
    })
}

/// Beside what is built, so that it is a disk and not memory; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("log-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn store(&self) -> Store<Disk> {
        store(Disk::open(&self.0).expect("a directory")).0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store and how many records were read.
fn store(disk: Disk) -> (Store<Disk>, u64) {
    let (shard, config) = (Shard::new(0, 1).expect("the only one"), peerstore::Config::default());
    let mut records = 0;
    let opened = Store::open(disk, shard, PARTITION_HASH, config, 2, |_| records += 1);
    (opened.expect("a directory that can be read").0, records)
}

fn start(folder: &Folder, durability: Durability) -> Journal {
    let config = Config { durability, ..Config::default() };
    journal::start(folder.store(), config, || ()).expect("a thread")
}

/// Queues changes as fast as the writer makes room, and waits until it took the last one.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn queue(journal: &mut Journal, changes: u64) -> Duration {
    let started = Instant::now();
    for number in 0..changes {
        let change = peer(number);
        while journal.append(&change) == Appended::Dropped {
            journal.flush();
            thread::yield_now();
        }
        if number % TURN == 0 {
            journal.flush();
        }
    }
    journal.flush();
    while journal.stats().queued_bytes > 0 {
        thread::yield_now();
    }
    started.elapsed()
}

/// Changes a second that go through, once the ring is full.
fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("changes");
    group.throughput(Throughput::Elements(CHANGES));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for durability in Durability::ALL {
        group.bench_function(durability.label(), |b| {
            b.iter_custom(|iterations| {
                let folder = Folder::new(durability.label());
                let mut journal = start(&folder, durability);
                let took = queue(&mut journal, iterations * CHANGES);
                journal.stop().expect("a disk that works");
                took
            });
        });
    }
    group.finish();
}

/// What one change costs the loop that queues it while there is room.
fn append(c: &mut Criterion) {
    let folder = Folder::new("append");
    let mut journal = start(&folder, Durability::Async);
    let change = peer(1);
    c.bench_function("append and flush", |b| {
        b.iter(|| {
            let appended = journal.append(&change);
            journal.flush();
            appended
        });
    });
    journal.stop().expect("a disk that works");
}

/// From a log, and from a snapshot.
fn recovery(c: &mut Criterion) {
    // As criterion decides it.
    let arguments = |wanted| std::env::args().any(|argument| argument == wanted);
    let only_tested = arguments("--test") || !arguments("--bench");
    let peers = if only_tested { 1000 } else { 100_000 };
    let mut group = c.benchmark_group("recovery");
    group.throughput(Throughput::Elements(peers)).sample_size(10);
    for snapshot in [false, true] {
        let name = if snapshot { "snapshot" } else { "log" };
        let folder = Folder::new(name);
        fill(&folder, peers, snapshot);
        group.bench_function(BenchmarkId::new(name, peers), |b| {
            b.iter(|| {
                // Nothing is begun there, so that it is the same each time.
                let disk = Disk::open_read_only(&folder.0).expect("a directory");
                assert_eq!(store(disk).1, peers);
            });
        });
    }
    group.finish();
}

fn fill(folder: &Folder, peers: u64, snapshot: bool) {
    let mut journal = start(folder, Durability::Async);
    if snapshot {
        assert!(journal.begin_snapshot(), "there is room");
        for number in 0..peers {
            while !journal.snapshot(&peer(number)) {
                journal.flush();
                thread::yield_now();
            }
        }
        while !journal.finish_snapshot() {
            thread::yield_now();
        }
        journal.flush();
        while journal.stats().snapshots == 0 {
            thread::yield_now();
        }
    } else {
        queue(&mut journal, peers);
    }
    journal.stop().expect("a disk that works");
}

criterion_group!(benches, changes, append, recovery);
criterion_main!(benches);
