//! Files that are not what was written: whatever that is, it is noticed, and none of it is believed.

use peerstore::frame::END;
use peerstore::header::HEADER_BYTES;
use peerstore::storage::sim::SimDisk;
use peerstore::{Epoch, FileHeader, FileKind, OpenError, Recovery, Shard, Store};
use proptest::prelude::*;

use crate::model::Applied;
use crate::owner::{Change, Draw, KEYS, Memory, sealed};
use crate::workload::{CONFIG, DIR, HASH, open};

const LOG: &str = "wal-1.log";

fn header(file: FileKind, epoch: u32) -> FileHeader {
    let shard = Shard::new(0, 1).expect("a shard");
    FileHeader { file, shard, epoch: Epoch::new(epoch), partition_hash: HASH, created_unix_s: 3 }
}

fn changes(count: usize, seed: u64) -> Vec<Change> {
    let mut draw = Draw(seed);
    let change = |number| {
        let len = draw.percent(80).then(|| draw.below(70));
        Change { key: draw.below(KEYS), number, len }
    };
    (0..count as u64).map(change).collect()
}

/// A log of epoch 1 and where its frames end.
fn log(changes: &[Change]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header(FileKind::Log, 1).encode().to_vec();
    let mut ends = Vec::new();
    for change in changes {
        bytes.extend(sealed(1, &change.record()));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// What is read of a directory with these files.
fn read(files: &[(&str, &[u8])]) -> (Recovery, Applied, SimDisk) {
    let disk = SimDisk::new(0);
    let dir = disk.dir(DIR);
    files.iter().for_each(|(name, bytes)| disk.put(DIR, name, bytes));
    let (store, recovery, applied) = open(dir).expect("no content keeps a store from opening");
    assert!(!store.is_broken());
    applied.check().expect("nothing that was not written");
    (recovery, applied, disk)
}

fn read_log(bytes: &[u8]) -> (Recovery, Applied, SimDisk) {
    read(&[(LOG, bytes)])
}

#[test]
fn every_flipped_bit_of_a_log_is_noticed() {
    let changes = changes(7, 1);
    let (mut bytes, ends) = log(&changes);
    // A reserved rest that was not given back is a part of the file too.
    bytes.extend([0; 24]);
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let (recovery, applied, disk) = read_log(&bytes);
        let in_header = at < HEADER_BYTES;
        let whole = if in_header { ends.len() } else { ends.partition_point(|end| *end <= at) };
        assert_eq!(applied.changes(), &changes[..whole], "bit {bit}");
        let in_the_middle = in_header || whole + 1 < ends.len();
        assert_eq!(recovery.corrupt, u32::from(in_the_middle), "bit {bit}");
        assert_eq!(recovery.torn, u32::from(!in_the_middle), "bit {bit}");
        let copy = disk.contents(DIR, "wal.corrupt-1");
        assert_eq!(copy.as_ref(), in_the_middle.then_some(&bytes), "bit {bit}");
        bytes[at] ^= 1 << (bit % 8);
    }
    let (recovery, applied, _) = read_log(&bytes);
    assert_eq!((recovery.corrupt, recovery.torn), (0, 0));
    assert_eq!(applied.changes(), changes);
}

/// Files of a store that made two snapshots, and what it knew at the end.
fn two_snapshots() -> (SimDisk, Memory) {
    let disk = SimDisk::new(0);
    let (mut store, _, _) = open(disk.dir(DIR)).expect("an empty directory");
    let mut memory = [None; KEYS];
    for (index, change) in changes(60, 2).into_iter().enumerate() {
        change.apply(&mut memory);
        crate::owner::append(&mut store, &change.record());
        if index % 20 == 10 && index < 40 {
            crate::owner::snapshot(&mut store, &memory).expect("the disk works");
        }
    }
    assert_eq!(store.status().snapshot, Some(Epoch::new(3)));
    store.close().expect("the disk works");
    (disk, memory)
}

#[test]
fn whatever_happens_to_a_snapshot_the_one_before_it_serves() {
    let (disk, memory) = two_snapshots();
    let name = "snapshot-3.bin";
    let bytes = disk.contents(DIR, name).expect("it was finished");
    let try_with = |with: &[u8], what: &str| {
        let disk = disk.after_crash(0);
        disk.put(DIR, name, with);
        let (store, recovery, applied) = open(disk.dir(DIR)).expect("it opens");
        assert_eq!(recovery.snapshots_damaged, 1, "{what}");
        assert_eq!(recovery.snapshot, Some(Epoch::new(2)), "{what}");
        assert_eq!(applied.memory, memory, "{what}");
        assert!(recovery.is_damaged() && store.wants_snapshot(), "{what}");
        applied.check().expect("nothing that was not written");
    };
    let mut flipped = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        try_with(&flipped, &format!("bit {bit}"));
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in 0..bytes.len() {
        try_with(&bytes[..cut], &format!("cut at {cut}"));
    }
    try_with(&[&bytes[..], &[0]].concat(), "a byte more");
    try_with(&[&bytes[..], &END].concat(), "an end behind the end");
    let seal = &bytes[bytes.len() - 25..];
    try_with(&[&bytes[..], seal].concat(), "sealed twice");
    // A frame is left out, or is there twice.
    let first = HEADER_BYTES + 4 + usize::from(bytes[HEADER_BYTES]) + 4;
    try_with(&[&bytes[..HEADER_BYTES], &bytes[first..]].concat(), "without its first record");
    try_with(&[&bytes[..first], &bytes[HEADER_BYTES..]].concat(), "with its first record twice");
    try_with(&disk.contents(DIR, "snapshot-2.bin").expect("it is kept"), "another epoch's");
    try_with(&disk.contents(DIR, "wal-3.log").expect("it is kept"), "a log");
    disk.make_unreadable(DIR, name);
    let (_, recovery, applied) = open(disk.dir(DIR)).expect("it opens");
    assert_eq!((recovery.snapshots_damaged, applied.memory), (1, memory));
}

#[test]
fn a_log_cut_anywhere_is_torn_and_no_worse() {
    let changes = changes(8, 3);
    let (bytes, ends) = log(&changes);
    for cut in 0..bytes.len() {
        for tail in [0, 700] {
            let file = [&bytes[..cut], &vec![0; tail]].concat();
            let (recovery, applied, _) = read_log(&file);
            // A last byte of zero is not missed where zeros follow.
            let whole = ends.iter().filter(|end| {
                **end <= cut || (tail > 0 && bytes[cut..**end].iter().all(|byte| *byte == 0))
            });
            assert_eq!(applied.changes(), &changes[..whole.count()], "cut at {cut}");
            assert_eq!(recovery.corrupt, 0, "cut at {cut}");
        }
    }
}

#[test]
fn frames_that_are_there_twice_change_nothing() {
    let changes = changes(12, 4);
    let (bytes, ends) = log(&changes);
    let mut memory = [None; KEYS];
    changes.iter().for_each(|change| change.apply(&mut memory));
    for from in 0..ends.len() {
        // A part of the log up to its end, written again.
        let start = if from == 0 { HEADER_BYTES } else { ends[from - 1] };
        let (recovery, applied, _) = read_log(&[&bytes[..], &bytes[start..]].concat());
        assert_eq!(applied.memory, memory);
        assert_eq!((recovery.torn, recovery.corrupt), (0, 0));
    }
}

#[test]
fn leftovers_of_another_epoch_are_no_part_of_a_log() {
    let changes = changes(5, 5);
    let (bytes, _) = log(&changes);
    for epoch in [0, 2, 1 << 16] {
        let tail: Vec<u8> =
            changes.iter().flat_map(|change| sealed(epoch, &change.record())).collect();
        for skip in [0, 1, 30] {
            let (recovery, applied, _) = read_log(&[&bytes[..], &tail[skip..]].concat());
            assert_eq!(applied.changes(), changes);
            assert_eq!((recovery.torn, recovery.corrupt), (1, 0), "not damage: foreign");
        }
    }
}

#[test]
fn sectors_in_each_others_place_are_noticed() {
    let changes = changes(40, 6);
    let (bytes, ends) = log(&changes);
    let sectors = bytes.len() / 512;
    assert!(sectors >= 4);
    for (one, other) in (0..sectors).flat_map(|one| (0..one).map(move |other| (one, other))) {
        let mut swapped = bytes.clone();
        let (low, high) = swapped.split_at_mut(one * 512);
        low[other * 512..][..512].swap_with_slice(&mut high[..512]);
        let (recovery, applied, _) = read_log(&swapped);
        // The first holds the header.
        let whole = ends.partition_point(|end| *end <= other * 512);
        assert_eq!(applied.changes(), &changes[..whole]);
        assert_eq!(recovery.torn + recovery.corrupt, 1);
    }
}

#[test]
fn headers_of_another_kind_epoch_or_place_are_told_apart() {
    let changes = changes(3, 7);
    let (bytes, _) = log(&changes);
    let with = |header: FileHeader| [&header.encode(), &bytes[HEADER_BYTES..]].concat();
    // Another's header on frames that are sealed as the name says.
    for header in [header(FileKind::Snapshot, 1), header(FileKind::Log, 2)] {
        let (recovery, applied, _) = read_log(&with(header));
        assert_eq!((recovery.corrupt, applied.changes()), (1, &changes[..]));
    }
    let refused = |file: &[u8]| {
        let disk = SimDisk::new(0);
        disk.dir(DIR);
        disk.put(DIR, LOG, file);
        let shard = Shard::new(0, 1).expect("a shard");
        let before = disk.contents(DIR, LOG);
        let opened = Store::open(disk.dir(DIR), shard, HASH, CONFIG, 0, |_| panic!("applied"));
        assert_eq!(disk.contents(DIR, LOG), before);
        opened.err()
    };
    let mut other = header(FileKind::Log, 1);
    other.partition_hash += 1;
    assert!(matches!(refused(&with(other)), Some(OpenError::Layout(found)) if found == other));
    other = header(FileKind::Log, 1);
    other.shard = Shard::new(0, 2).expect("a shard");
    assert!(matches!(refused(&with(other)), Some(OpenError::Layout(found)) if found == other));
    let mut future = bytes.clone();
    future[8] = 2;
    let sum = crate::owner::crc32c(&[&future[..60]]).to_le_bytes();
    future[60..64].copy_from_slice(&sum);
    assert!(matches!(refused(&future), Some(OpenError::Version(2))));
}

#[test]
fn a_new_log_is_above_every_name() {
    for (name, next) in [
        ("wal-41.log", 42),
        ("snapshot-6.bin", 7),
        ("wal.corrupt-9", 10),
        ("wal-x.log", 1),
        ("compaction.tmp", 1),
    ] {
        let disk = SimDisk::new(0);
        disk.dir(DIR);
        disk.put(DIR, name, b"anything");
        let (store, recovery, _) = open(disk.dir(DIR)).expect("it opens");
        assert_eq!(store.status().epoch, Epoch::new(next), "{name}");
        assert_eq!(recovery.records, 0);
        assert_eq!(disk.contents(DIR, "compaction.tmp"), None);
    }
    let disk = SimDisk::new(0);
    disk.dir(DIR);
    disk.put(DIR, "wal-4294967295.log", b"");
    let (store, ..) = open(disk.dir(DIR)).expect("it opens");
    assert!(store.is_broken(), "and there is no epoch left to write to");
}

#[test]
fn a_log_that_cannot_be_read_is_counted() {
    let (bytes, _) = log(&changes(3, 8));
    let disk = SimDisk::new(0);
    disk.dir(DIR);
    disk.put(DIR, LOG, &bytes);
    disk.make_unreadable(DIR, LOG);
    let (store, recovery, applied) = open(disk.dir(DIR)).expect("it opens");
    assert_eq!((recovery.unreadable, recovery.records), (1, 0));
    assert!(applied.changes().is_empty() && store.wants_snapshot());
}

proptest! {
    #[test]
    fn no_bytes_keep_a_store_from_opening(
        snapshot in prop::collection::vec(any::<u8>(), 0..400),
        log in prop::collection::vec(any::<u8>(), 0..400),
        headers: [bool; 2],
        small: bool,
    ) {
        let file = |kind, noise: Vec<u8>, whole: bool| {
            let header = header(kind, 1).encode();
            let noise = noise.into_iter().map(|byte| if small { byte % 3 } else { byte });
            header.into_iter().take(if whole { 64 } else { 0 }).chain(noise).collect::<Vec<u8>>()
        };
        let snapshot = file(FileKind::Snapshot, snapshot, headers[0]);
        let log = file(FileKind::Log, log, headers[1]);
        let (recovery, ..) = read(&[("snapshot-1.bin", &snapshot), (LOG, &log)]);
        prop_assert_eq!(recovery.records, 0);
        prop_assert_eq!(recovery.snapshots_damaged, 1);
    }
}
