//! Looking changes nothing, and sees what a store that opens the directory sees.

use peerstore::header::HEADER_BYTES;
use peerstore::inspect::{self, BadHeader, Ending, FileName, Report, Role};
use peerstore::storage::sim::SimDisk;
use peerstore::{Epoch, HeaderError, Kind, Reason};

use crate::model::Applied;
use crate::owner::{Change, Draw, KEYS};
use crate::workload::{DIR, open};

/// Files of a store that made two snapshots.
fn disk() -> SimDisk {
    let disk = SimDisk::new(0);
    let (mut store, _, _) = open(disk.dir(DIR)).expect("an empty directory");
    let (mut draw, mut memory) = (Draw(4), [None; KEYS]);
    for number in 0..40 {
        let len = draw.percent(80).then(|| draw.below(70));
        let change = Change { key: draw.below(KEYS), number, len };
        change.apply(&mut memory);
        crate::owner::append(&mut store, &change.record());
        if number == 10 || number == 30 {
            crate::owner::snapshot(&mut store, &memory).expect("the disk works");
        }
    }
    store.close().expect("the disk works");
    disk
}

/// What the file says, and how many records were handed out.
fn read(disk: &SimDisk, name: &str) -> (Report, u64) {
    let dir = disk.dir(DIR);
    let files = inspect::files(&dir).expect("a directory");
    let file = files.iter().find(|file| file.name == name).expect("a file of this name");
    let (mut count, mut end) = (0, HEADER_BYTES as u64);
    let report = inspect::read(&dir, file, |placed| {
        assert_eq!(placed.offset, end, "records lie one behind the other");
        end += placed.bytes;
        count += 1;
    });
    (report.expect("a readable file"), count)
}

#[test]
fn files_come_in_the_order_of_reading() {
    let disk = disk();
    for other in ["wal.corrupt-2", "compaction.tmp", "wal-02.log", "lock"] {
        disk.put(DIR, other, b"?");
    }
    let files = inspect::files(&disk.dir(DIR)).expect("a directory");
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let wanted = [
        "compaction.tmp",
        "snapshot-2.bin",
        "wal-2.log",
        "wal.corrupt-2",
        "snapshot-3.bin",
        "wal-3.log",
    ];
    assert_eq!(names, wanted);
    let epoch = Some(Epoch::new(2));
    assert_eq!(files[3], FileName { name: "wal.corrupt-2".into(), role: Role::Copy, epoch });
    assert_eq!((files[0].role, files[0].epoch), (Role::Unfinished, None));
}

#[test]
fn a_report_says_how_far_a_file_is_good_and_why_no_further() {
    let disk = disk();
    let (whole, count) = read(&disk, "wal-2.log");
    assert_eq!((whole.ending, whole.reason), (Ending::Whole, Some(Reason::EndOfLog)));
    assert_eq!(whole.valid_bytes, whole.bytes);
    assert_eq!((whole.records.iter().sum::<u64>(), count), (20, 20));
    let of = |kind: Kind| whole.records[kind as usize - 1];
    assert_eq!(of(Kind::Value) + of(Kind::Tombstone), 20);
    let header = whole.header.expect("it is whole");
    assert_eq!((header.epoch, header.shard.count()), (Epoch::new(2), 1));

    let (snapshot, count) = read(&disk, "snapshot-3.bin");
    assert_eq!((snapshot.ending, snapshot.reason), (Ending::Whole, None));
    assert_eq!(snapshot.valid_bytes, snapshot.bytes);
    assert_eq!(snapshot.records[Kind::Value as usize - 1], count);

    let bytes = disk.contents(DIR, "wal-2.log").expect("it is there");
    disk.truncate(DIR, "wal-2.log", bytes.len() - 1);
    let (torn, count) = read(&disk, "wal-2.log");
    assert_eq!((torn.ending, torn.reason, count), (Ending::Torn, Some(Reason::Torn), 19));
    assert!(torn.valid_bytes < torn.bytes);

    disk.put(DIR, "wal-2.log", &bytes);
    disk.flip_bit(DIR, "wal-2.log", (HEADER_BYTES + 6) * 8);
    let (damaged, count) = read(&disk, "wal-2.log");
    assert_eq!((damaged.ending, count), (Ending::Damaged, 0));
    assert_eq!((damaged.valid_bytes, damaged.reason), (64, Some(Reason::BadChecksum)));

    disk.flip_bit(DIR, "snapshot-3.bin", 0);
    let (headless, count) = read(&disk, "snapshot-3.bin");
    let header = Err(BadHeader::Unreadable(HeaderError::BadMagic));
    assert_eq!((headless.header, headless.ending), (header, Ending::Damaged));
    assert!(count > 0, "what is behind is shown all the same");

    disk.put(DIR, "wal-7.log", &bytes);
    let (misplaced, count) = read(&disk, "wal-7.log");
    assert!(matches!(misplaced.header, Err(BadHeader::Misplaced(_))), "{misplaced:?}");
    assert_eq!((misplaced.valid_bytes, count), (0, 0));
    disk.make_unreadable(DIR, "wal-7.log");
    let file = inspect::files(&disk.dir(DIR)).expect("a directory").pop().expect("files");
    assert!(inspect::read(&disk.dir(DIR), &file, |_| {}).is_err());
}

#[test]
fn the_state_is_what_a_store_would_begin_with_and_nothing_is_touched() {
    let original = disk();
    for (_, name, len) in original.files() {
        for bit in (0..len * 8).step_by(5) {
            let disk = original.after_crash(0);
            disk.put(DIR, "compaction.tmp", b"half");
            disk.flip_bit(DIR, &name, bit);
            let (files, operations) = (disk.files(), disk.operations());
            let mut seen = Applied::default();
            let looked = inspect::state(&disk.dir(DIR), |record| seen.apply(record));
            let looked = looked.expect("no content is an error");
            assert_eq!((disk.files(), disk.operations()), (files, operations), "{name} bit {bit}");

            let (_, mut recovery, applied) = open(disk.dir(DIR)).expect("it opens");
            assert_eq!(seen.changes(), applied.changes(), "{name} bit {bit}");
            assert_eq!(looked.not_copied, looked.corrupt, "{name} bit {bit}");
            recovery.not_copied = looked.not_copied;
            assert_eq!(looked, recovery, "{name} bit {bit}");
        }
    }
}
