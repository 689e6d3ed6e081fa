//! Values made to look like something else, and files made to cost something.

use peerstore::frame::{END, LEN_MAX};
use peerstore::record::{Seal, Value};
use peerstore::storage::sim::SimDisk;
use peerstore::{Epoch, FileHeader, FileKind, Key, Message, Record, Recovery, Shard, Store};

use crate::owner::{append, sealed};
use crate::workload::{CONFIG, DIR, HASH};

/// What is read of a directory, byte by byte.
fn read(disk: &SimDisk) -> (Recovery, Vec<Vec<u8>>) {
    let shard = Shard::new(0, 1).expect("a shard");
    let mut records = Vec::new();
    let keep = |record: Record<'_>| records.push(sealed(0, &record));
    let (_, recovery) = Store::open(disk.dir(DIR), shard, HASH, CONFIG, 0, keep).expect("it opens");
    (recovery, records)
}

fn value(message: &[u8]) -> Record<'_> {
    Record::Value(Value {
        key: Key([7; 32]),
        sequence: 1,
        expires_unix_s: 2,
        message: Message::new(message).expect("within its bound"),
    })
}

/// What somebody who knows the epoch puts into a value.
fn imitations() -> Vec<Vec<u8>> {
    let shard = Shard::new(0, 1).expect("a shard");
    let header = |file| {
        let epoch = Epoch::new(1);
        FileHeader { file, shard, epoch, partition_hash: HASH, created_unix_s: 0 }.encode()
    };
    let forged = sealed(1, &value(b"forged"));
    let seal = sealed(1, &Record::Seal(Seal { records: 0, bytes: 0 }));
    let many = forged.repeat(9);
    vec![
        forged.clone(),
        [&END[..], &forged].concat(),
        [&vec![0; 600][..], &forged].concat(),
        [&header(FileKind::Log)[..], &forged].concat(),
        [&header(FileKind::Snapshot)[..], &forged, &seal].concat(),
        [&many[..], &seal, &[0xFF; 40], &many].concat(),
    ]
}

#[test]
fn what_looks_like_a_frame_is_not_read_as_one() {
    for imitation in imitations() {
        let disk = SimDisk::new(0);
        let shard = Shard::new(0, 1).expect("a shard");
        let (mut store, _) =
            Store::open(disk.dir(DIR), shard, HASH, CONFIG, 0, |_| ()).expect("an empty directory");
        let written = [value(b"before"), value(&imitation), value(b"behind")];
        written.iter().for_each(|record| append(&mut store, record));
        store.close().expect("the disk works");
        let written = written.map(|record| sealed(0, &record));
        let (recovery, records) = read(&disk.after_crash(0));
        assert_eq!(records, written);
        assert_eq!(recovery.torn + recovery.corrupt, 0);
        let whole = disk.contents(DIR, "wal-1.log").expect("it is there");
        let first = 64 + written[0].len();
        for cut in first..whole.len() {
            let torn = disk.after_crash(0);
            torn.put(DIR, "wal-1.log", &whole[..cut]);
            let (recovery, records) = read(&torn);
            assert_eq!(records, written[..1 + usize::from(cut >= first + written[1].len())]);
            assert!(recovery.torn + recovery.corrupt <= 1);
            // The same with the place before the imitation damaged.
            let mut bytes = whole.clone();
            bytes[first..first + 4].fill(0);
            bytes.truncate(cut);
            torn.put(DIR, "wal-1.log", &bytes);
            assert_eq!(read(&torn).1, written[..1]);
        }
    }
}

#[test]
fn a_seal_in_a_log_ends_it() {
    let disk = SimDisk::new(0);
    disk.dir(DIR);
    let shard = Shard::new(0, 1).expect("a shard");
    let epoch = Epoch::new(1);
    let header =
        FileHeader { file: FileKind::Log, shard, epoch, partition_hash: HASH, created_unix_s: 0 };
    let first = sealed(1, &value(b"first"));
    let seal = sealed(1, &Record::Seal(Seal { records: 1, bytes: first.len() as u64 }));
    let bytes = [&header.encode()[..], &first, &seal, &sealed(1, &value(b"behind"))].concat();
    disk.put(DIR, "wal-1.log", &bytes);
    let (recovery, records) = read(&disk);
    assert_eq!((recovery.corrupt, records), (1, vec![sealed(0, &value(b"first"))]));
}

#[test]
fn no_length_asks_for_memory() {
    for len in [1, LEN_MAX, LEN_MAX + 1, 0x7FFF_FFFF, 0xFFFF_FFFF] {
        let disk = SimDisk::new(0);
        disk.dir(DIR);
        let len = u32::try_from(len).expect("32 bits").to_le_bytes();
        disk.put(DIR, "wal-1.log", &[&[0xAA; 64][..], &len, &[1; 40]].concat());
        disk.put(DIR, "snapshot-1.bin", &[&[0xAA; 64][..], &len, &[1; 40]].concat());
        let memory = allocation_counter::measure(|| assert_eq!(read(&disk).0.records, 0));
        assert!(memory.bytes_max < 128 * 1024, "{} bytes", memory.bytes_max);
    }
}

/// Every fourth byte begins a length that would have to be summed up: 7 GiB in all.
#[test]
fn a_log_that_takes_too_long_to_search_counts_as_damaged() {
    let disk = SimDisk::new(0);
    disk.dir(DIR);
    let bytes = [0x00, 0x70, 0x00, 0x00].repeat(256 * 1024);
    disk.put(DIR, "wal-1.log", &bytes);
    let (recovery, records) = read(&disk);
    assert_eq!((recovery.corrupt, records.len()), (1, 0));
    assert_eq!(disk.contents(DIR, "wal.corrupt-1"), Some(bytes));
}
