//! A journal on a simulated disk, and what it left there.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use peerstore::journal::{self, Appended, Config, Durability, Journal};
use peerstore::record::{Host, PAYLOAD_BYTES_MAX, Score, VALUE_BYTES_MAX, Value};
use peerstore::storage::sim::SimDisk;
use peerstore::{Key, Message, PeerId, Record, Shard, Store, WgKey};

pub(crate) const DIR: &str = "shard-0";
/// The smallest ring there is.
pub(crate) const RING_BYTES: u64 = 4 * (4 + PAYLOAD_BYTES_MAX as u64);

static MESSAGE: [u8; VALUE_BYTES_MAX] = [0xC5; VALUE_BYTES_MAX];

/// Change number `number`, which is critical.
pub(crate) fn value(number: u64, len: usize) -> Record<'static> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    let message = Message::new(&MESSAGE[..len]).expect("within its bound");
    Record::Value(Value { key: Key(key), sequence: number, expires_unix_s: 9, message })
}

/// One that is soft.
pub(crate) fn score(score: i32) -> Record<'static> {
    let host = Host { peer_id: PeerId([1; 32]), wireguard: WgKey([2; 32]) };
    Record::Score(Score { host, last_seen_unix_s: 3, score })
}

pub(crate) fn config(durability: Durability) -> Config {
    Config { durability, ring_bytes: 0, ..Config::default() }
}

pub(crate) fn small() -> peerstore::Config {
    peerstore::Config {
        batch_bytes: 4096,
        reserve_bytes: 1 << 16,
        compact_log_bytes: 1 << 16,
        compact_dead_percent: 50,
        sync_bytes: 1 << 16,
    }
}

pub(crate) fn open(disk: &SimDisk, apply: impl FnMut(Record<'_>)) -> Store<impl DiskDir> {
    let shard = Shard::new(0, 1).expect("the only one");
    let opened = Store::open(disk.dir(DIR), shard, 1, small(), 2, apply);
    opened.expect("a directory that can be read").0
}

/// What a store of these tests is on.
pub(crate) trait DiskDir: peerstore::storage::Storage<File: Send> + Send + 'static {}
impl<S: peerstore::storage::Storage<File: Send> + Send + 'static> DiskDir for S {}

pub(crate) fn journal(disk: &SimDisk, config: Config) -> Journal {
    journal::start(open(disk, |_| ()), config, || ()).expect("a thread")
}

/// How often each change is on the disk, by its number.
pub(crate) fn found(disk: &SimDisk) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    drop(open(disk, |record| {
        if let Record::Value(value) = record {
            *found.entry(value.sequence).or_default() += 1;
        }
    }));
    found
}

/// Queues so many changes from number `from` on, and waits for room if need be.
pub(crate) fn append(journal: &mut Journal, from: u64, count: u64, len: usize) {
    for number in from..from + count {
        wait_until(|| journal.room() >= value(number, len).payload_len());
        assert_eq!(journal.append(&value(number, len)), Appended::Queued);
        if number % 7 == 0 {
            journal.flush();
        }
    }
    journal.flush();
}

/// Gives the writer all the time it needs, and far more than it should.
pub(crate) fn wait_until(mut come: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if come() {
            return;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not come to that");
}

pub(crate) fn wait_for_all(journal: &Journal) {
    wait_until(|| journal.durable() == journal.position());
}
