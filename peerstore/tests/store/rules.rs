//! What a store says of itself, when it wants what, and what it costs.

use peerstore::record::{Ban, Target};
use peerstore::storage::sim::SimDisk;
use peerstore::{Config, Epoch, PeerId, Record, Shard, Store};

use crate::owner::{Change, Encoder, append, snapshot};
use crate::workload::{DIR, HASH, open};

const ROOMY: Config = Config {
    batch_bytes: 1 << 20,
    reserve_bytes: 1 << 20,
    compact_log_bytes: 8 << 20,
    compact_dead_percent: 50,
    sync_bytes: 1 << 20,
};

fn open_with(disk: &SimDisk, config: Config) -> Store<peerstore::storage::sim::SimDir> {
    let shard = Shard::new(0, 1).expect("a shard");
    let opened = Store::open(disk.dir(DIR), shard, HASH, config, 1, |_| ());
    opened.expect("it opens").0
}

fn fill(store: &mut Store<peerstore::storage::sim::SimDir>, bytes: usize) {
    let record = Change { key: 0, number: 0, len: Some(30_000) }.record();
    for _ in 0..bytes.div_ceil(30_000) {
        append(store, &record);
        store.write().expect("the disk works");
    }
}

#[test]
fn a_snapshot_is_wanted_when_the_logs_are_long() {
    let disk = SimDisk::new(0);
    let mut store = open_with(&disk, Config { compact_dead_percent: 100, ..ROOMY });
    fill(&mut store, 8 << 20);
    assert!(store.status().log_bytes > 8 << 20 && store.wants_snapshot());
    store.begin_snapshot(2).expect("the disk works");
    assert!(!store.wants_snapshot(), "it is under way");
    store.abandon_snapshot();
    assert!(store.wants_snapshot());
    snapshot(&mut store, &[None; 10]).expect("the disk works");
    assert!(!store.wants_snapshot());
    assert_eq!(store.status().log_bytes, 0);
}

#[test]
fn a_snapshot_is_wanted_when_most_is_dead() {
    let disk = SimDisk::new(0);
    let mut store = open_with(&disk, ROOMY);
    fill(&mut store, 900_000);
    assert!(!store.wants_snapshot(), "all of it is dead, and it is little");
    fill(&mut store, 200_000);
    assert!(store.wants_snapshot());
    // A snapshot of 3 MB: logs of less leave less than half of both dead.
    store.begin_snapshot(2).expect("the disk works");
    let mut encoder = Encoder::new();
    for number in 0..100 {
        let record = Change { key: 0, number, len: Some(30_000) }.record();
        let (kind, payload) = encoder.encode(&record);
        store.snapshot(kind, payload).expect("the disk works");
    }
    store.finish_snapshot().expect("the disk works");
    let status = store.status();
    assert_eq!((status.snapshot_records, status.snapshot), (100, Some(Epoch::new(2))));
    fill(&mut store, 2_900_000);
    assert!(!store.wants_snapshot());
    fill(&mut store, 200_000);
    assert!(store.wants_snapshot());
    store.close().expect("the disk works");
    assert!(open_with(&disk, ROOMY).wants_snapshot(), "nor is that forgotten");
}

#[test]
fn a_snapshot_is_wanted_when_there_are_many_logs() {
    let disk = SimDisk::new(0);
    for log in 1..=9 {
        let store = open_with(&disk, ROOMY);
        assert_eq!((store.status().logs, store.wants_snapshot()), (log, log > 8));
    }
}

#[test]
fn what_is_older_than_the_snapshot_before_is_removed() {
    let disk = SimDisk::new(0);
    let mut store = open_with(&disk, ROOMY);
    for _ in 0..4 {
        snapshot(&mut store, &[None; 10]).expect("the disk works");
    }
    let names: Vec<String> = disk.files().into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, ["snapshot-4.bin", "snapshot-5.bin", "wal-4.log", "wal-5.log"]);
}

#[test]
fn bytes_are_counted_where_they_are() {
    let disk = SimDisk::new(0);
    let (mut store, ..) = open(disk.dir(DIR)).expect("an empty directory");
    let record = Change { key: 1, number: 1, len: Some(50) }.record();
    let frame = peerstore::frame::frame_len(&record);
    append(&mut store, &record);
    assert_eq!((store.staged_bytes(), store.unsynced_bytes()), (frame, frame));
    store.write().expect("the disk works");
    assert_eq!((store.staged_bytes(), store.unsynced_bytes()), (0, frame));
    append(&mut store, &record);
    assert_eq!((store.staged_bytes(), store.unsynced_bytes()), (frame, 2 * frame));
    store.sync().expect("the disk works");
    assert_eq!((store.staged_bytes(), store.unsynced_bytes()), (0, 0));
    let status = store.status();
    assert_eq!(status.log_bytes, 2 * frame as u64);
    assert_eq!(status.logical_bytes, 2 * (frame - 9) as u64);
    assert_eq!(status.written_bytes, 2 * frame as u64 + 64);
    // More than may wait for a sync is synced unasked.
    for _ in 0..30 {
        append(&mut store, &record);
        store.write().expect("the disk works");
        assert!(store.unsynced_bytes() <= crate::workload::CONFIG.sync_bytes);
    }
    let before = disk.operations();
    store.sync().expect("the disk works");
    store.sync().expect("the disk works");
    store.write().expect("the disk works");
    assert!(disk.operations() <= before + 1, "nothing is synced twice");
    store.close().expect("the disk works");
    let len = disk.contents(DIR, "wal-1.log").expect("it is there").len();
    assert_eq!(len, 64 + 32 * frame, "the room is given back");
}

#[test]
fn staging_a_record_allocates_nothing() {
    let disk = SimDisk::new(0);
    let mut store = open_with(&disk, ROOMY);
    let mut encoder = Encoder::new();
    let record = Change { key: 1, number: 1, len: Some(300) }.record();
    let (kind, payload) = encoder.encode(&record);
    for round in 0..5 {
        let memory = allocation_counter::measure(|| {
            (0..2000).for_each(|_| store.append(kind, payload));
        });
        assert_eq!(memory.count_total, 0, "round {round}");
        store.write().expect("the disk works");
    }
}

#[test]
fn recovery_allocates_nothing_for_a_record() {
    let cost = |records: u64| {
        let disk = SimDisk::new(0);
        let mut store = open_with(&disk, ROOMY);
        for number in 0..records {
            let peer = PeerId([number.to_le_bytes()[0]; 32]);
            let target = Target::Peer(peer);
            append(&mut store, &Record::Ban(Ban { expires_unix_s: number, cause: 1, target }));
        }
        store.close().expect("the disk works");
        let mut found = 0;
        let shard = Shard::new(0, 1).expect("a shard");
        let memory = allocation_counter::measure(|| {
            let opened = Store::open(disk.dir(DIR), shard, HASH, ROOMY, 1, |_| found += 1);
            drop(opened.expect("it opens"));
        });
        assert_eq!(found, records);
        memory.count_total
    };
    assert_eq!(cost(10), cost(5000));
}

#[test]
#[should_panic(expected = "a log has no end")]
fn a_seal_is_not_appended() {
    let (mut store, ..) = open(SimDisk::new(0).dir(DIR)).expect("an empty directory");
    store.append(peerstore::Kind::Seal, &[0; 16]);
}
