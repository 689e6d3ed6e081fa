//! Files of a store: whatever a disk gives back.

use peerstore::storage::sim::SimDisk;
use peerstore::{Config, Epoch, FileHeader, FileKind, Frames, Shard, Store, frame, inspect};

const DIR: &str = "shard-0";
const HASH: u64 = 7;
const CONFIG: Config = Config {
    batch_bytes: 4096,
    reserve_bytes: 4096,
    compact_log_bytes: 1 << 20,
    compact_dead_percent: 50,
    sync_bytes: 4096,
};

/// Files of a directory, one behind the other: a byte that says which, two for its length. What a
/// store reads of them was written as it is, an inspection sees the same, and both read again what
/// the store makes of it.
pub fn store(data: &[u8]) {
    let disk = SimDisk::new(0);
    let dir = disk.dir(DIR);
    for (name, bytes) in files(data) {
        disk.put(DIR, &name, &bytes);
    }
    for file in inspect::files(&dir).expect("a directory") {
        let read = inspect::read(&dir, &file, |placed| {
            assert_eq!(placed.bytes, frame::frame_len(&placed.record) as u64);
        });
        let report = read.expect("a file that is there");
        assert!(report.valid_bytes <= report.bytes, "{file:?}: {report:?}");
    }
    let mut seen = Vec::new();
    let looked = inspect::state(&dir, |record| seen.push((record.kind(), record.payload())));
    let shard = Shard::new(0, 1).expect("a shard");
    let mut found = Vec::new();
    let mut check = |record: peerstore::Record<'_>| {
        let mut bytes = vec![0; frame::frame_len(&record)];
        frame::encode(&mut bytes, Epoch::new(1), &record).expect("it has the room it asked for");
        let again = Frames::new(&bytes, Epoch::new(1)).next().expect("a frame").record;
        assert_eq!(again, record, "it is another behind another encoding");
        found.push((record.kind(), record.payload()));
    };
    // What is of another version or division is left alone.
    let Ok((mut store, recovery)) = Store::open(dir.clone(), shard, HASH, CONFIG, 1, &mut check)
    else {
        return;
    };
    assert_eq!((found.len() as u64, recovery.records), (recovery.records, seen.len() as u64));
    assert!(found.len() <= data.len(), "more records than bytes");
    assert_eq!(found, seen, "an inspection saw something else");
    assert!(looked.is_ok());
    if !store.is_broken() {
        store.begin_snapshot(2).expect("the disk works");
        for (kind, payload) in &found {
            store.snapshot(*kind, payload).expect("the disk works");
        }
        store.finish_snapshot().expect("the disk works");
    }
    store.close().expect("the disk works");
    let mut again = Vec::new();
    let opened = Store::open(dir, shard, HASH, CONFIG, 3, |record| {
        again.push((record.kind(), record.payload()));
    });
    assert!(opened.is_ok_and(|(_, recovery)| !recovery.is_damaged()), "a snapshot mends all");
    assert_eq!(again, found, "what was read is not what was kept");
}

/// The files that `data` describes. Most get a header that is right, so that what is behind counts,
/// and some the checksums of their frames too.
fn files(mut data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    while let Some(([which, low, high], rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, behind) = rest.split_at(len);
        data = behind;
        let epoch = Epoch::new(u32::from(which >> 4 & 3) + 1);
        let (file, name) = match which & 1 {
            0 => (FileKind::Log, format!("wal-{}.log", epoch.number())),
            _ => (FileKind::Snapshot, format!("snapshot-{}.bin", epoch.number())),
        };
        let (shard, partition_hash, created_unix_s) = (Shard::new(0, 1), HASH, 1);
        let shard = shard.expect("a shard");
        let header = FileHeader { file, shard, epoch, partition_hash, created_unix_s };
        let mut bytes = if which & 2 == 0 { header.encode().to_vec() } else { Vec::new() };
        if which & 4 == 0 {
            bytes.extend_from_slice(body);
        } else {
            sealed(&mut bytes, body, epoch);
        }
        files.push((name, bytes));
    }
    files
}

/// Frames of pieces of `body`, each a kind, the length of a payload and that: those that are
/// records are sealed; the first that is none is the end.
fn sealed(out: &mut Vec<u8>, mut body: &[u8], epoch: Epoch) {
    let mut count = (0_u64, 0_u64);
    while let Some(([kind, len], rest)) = body.split_first_chunk::<2>() {
        let Some((payload, behind)) = rest.split_at_checked(usize::from(*len)) else { break };
        let Ok(kind) = peerstore::Kind::try_from(*kind) else { break };
        let record = if kind == peerstore::Kind::Seal {
            // One that is true: else no snapshot would ever be whole.
            let (records, bytes) = count;
            peerstore::Record::Seal(peerstore::record::Seal { records, bytes })
        } else {
            let Ok(record) = peerstore::Record::decode(kind, payload) else { break };
            record
        };
        let mut bytes = vec![0; frame::frame_len(&record)];
        frame::encode(&mut bytes, epoch, &record).expect("it has the room it asked for");
        out.extend_from_slice(&bytes);
        count = (count.0 + 1, count.1 + bytes.len() as u64);
        body = behind;
    }
    out.extend_from_slice(body);
}
