//! Another number of shards: every record is where it belongs then, whenever the power goes.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use peerstore::record::{
    AllocatedLeg, Allocation, Ban, Binding, Home, Host, PathFacts, Peer, Provider, Score, Subject,
    Target, Tombstone, Value,
};
use peerstore::storage::sim::{Cut, Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::{
    Epoch, Key, Layout, Message, OpenError, PeerId, Record, Repartition, Shard, SigningKey, Store,
    WgKey, repartition,
};

use crate::model::Applied;
use crate::owner::{Change, Draw, KEYS, Memory, append, sealed, snapshot};
use crate::workload::CONFIG;

/// Names a number of shards, as a hash of its table would.
fn layout(shards: u16) -> Layout {
    Layout { shards, partition_hash: u64::from(shards) << 32 | 0xBEEF }
}

fn home(home: Home, shards: u16) -> Option<u16> {
    let byte = match home {
        Home::Peer(key) => key.0[31],
        Home::Key(key) => key.0[0],
        Home::Pair(one, other) => one.0[0] ^ other.0[0],
        Home::EveryShard => return None,
    };
    Some(u16::from(byte) % shards)
}

fn dirs(disk: &SimDisk, count: u16) -> Vec<(u16, SimDir)> {
    (0..count).map(|id| (id, disk.dir(&format!("shard-{id}")))).collect()
}

fn divide(disk: &SimDisk, all: u16, shards: u16) -> Result<Repartition, OpenError> {
    repartition(&dirs(disk, all), layout(shards), 5, |of| home(of, shards))
}

fn open(disk: &SimDisk, id: u16, shards: u16, apply: impl FnMut(Record<'_>)) -> Store<SimDir> {
    let shard = Shard::new(id, shards).expect("a shard");
    let dir = disk.dir(&format!("shard-{id}"));
    let hash = layout(shards).partition_hash;
    let (store, recovery) = Store::open(dir, shard, hash, CONFIG, 1, apply).expect("it opens");
    assert!(!recovery.is_damaged() && !store.is_broken());
    store
}

/// A record of any kind, and a text that it may borrow.
fn drawn<'a>(draw: &mut Draw, text: &'a [u8]) -> Record<'a> {
    let mut id = || {
        let mut id = [0; 32];
        id.chunks_mut(8).for_each(|part| part.copy_from_slice(&draw.next().to_le_bytes()));
        id
    };
    let (key, peer_id, wireguard) = (Key(id()), PeerId(id()), WgKey(id()));
    let (host, signing) = (Host { peer_id, wireguard }, SigningKey(id()));
    let (sequence, expires_unix_s) = (draw.next(), draw.next());
    let text = &text[..draw.below(text.len())];
    match draw.below(12) {
        0 => Record::Binding(Binding {
            host,
            signing,
            not_before_unix_s: sequence,
            not_after_unix_s: expires_unix_s,
            signature: [7; 64],
        }),
        1 => Record::Peer(Peer {
            host,
            first_seen_unix_s: 1,
            last_seen_unix_s: sequence,
            message: Message::new(text).expect("short"),
        }),
        2 => Record::Score(Score { host, last_seen_unix_s: sequence, score: -1 }),
        3 => {
            let message = Message::new(text).expect("short");
            Record::Value(Value { key, sequence, expires_unix_s, message })
        }
        4 => {
            let message = Message::new(text).expect("short");
            Record::Provider(Provider { key, peer_id, sequence, expires_unix_s, message })
        }
        5 => Record::Ban(Ban { expires_unix_s, cause: 1, target: Target::Peer(peer_id) }),
        6 => Record::PathFacts(PathFacts {
            host,
            observed_unix_s: sequence,
            path_mtu: NonZeroU16::new(1400),
            mapping: None,
            filtering: None,
            hairpin: Some(true),
            port_preservation: None,
            mapping_lifetime_s: None,
        }),
        7 => {
            let leg = AllocatedLeg { host, factor: 1, port: 50_000, bound: None };
            let host = Host { peer_id: PeerId([9; 32]), wireguard };
            let other = AllocatedLeg { host, bound: Some(([1, 2, 3, 4], 5).into()), ..leg };
            Record::Allocation(Allocation { expires_unix_s, legs: [leg, other] })
        }
        kind => Record::Tombstone(Tombstone {
            expires_unix_s,
            subject: match kind {
                8 => Subject::Host(host),
                9 => Subject::Allocation(peer_id, PeerId([9; 32])),
                10 => Subject::Provider { key, peer_id, sequence },
                _ => Subject::Ban(Target::WireGuard(wireguard)),
            },
        }),
    }
}

/// What there is of records, the same in whatever file.
type Records = BTreeSet<Vec<u8>>;

/// All records of all shards, each of which is where it belongs, and nowhere else.
fn collect(disk: &SimDisk, shards: u16) -> Records {
    let mut all = Records::new();
    let mut everywhere = vec![Records::new(); shards.into()];
    for id in 0..shards {
        open(disk, id, shards, |record| {
            match home(record.home(), shards) {
                Some(home) => assert_eq!(home, id, "{record:?}"),
                None => {
                    everywhere[usize::from(id)].insert(sealed(0, &record));
                }
            }
            all.insert(sealed(0, &record));
        });
    }
    assert!(everywhere.windows(2).all(|pair| pair[0] == pair[1]));
    all
}

/// A shard's store with random records in a snapshot and two logs.
fn filled(seed: u64, count: usize) -> (SimDisk, Records) {
    let disk = SimDisk::new(seed);
    let mut draw = Draw(seed);
    let text: Vec<u8> = (0..200).map(|_| draw.next().to_le_bytes()[0]).collect();
    let records: Vec<Record<'_>> = (0..count).map(|_| drawn(&mut draw, &text)).collect();
    let mut store = open(&disk, 0, 1, |_| ());
    let (early, late) = records.split_at(count / 2);
    early.iter().for_each(|record| append(&mut store, record));
    store.begin_snapshot(1).expect("the disk works");
    let mut encoder = crate::owner::Encoder::new();
    for record in early {
        let (kind, payload) = encoder.encode(record);
        store.snapshot(kind, payload).expect("the disk works");
    }
    store.finish_snapshot().expect("the disk works");
    late.iter().for_each(|record| append(&mut store, record));
    store.close().expect("the disk works");
    (disk, records.iter().map(|record| sealed(0, record)).collect())
}

#[test]
fn nothing_is_lost_on_the_way_through_other_numbers_of_shards() {
    for seed in 0..5 {
        let (disk, records) = filled(seed, 300);
        for (all, shards, surplus) in
            [(3, 3, &[][..]), (3, 2, &[2][..]), (5, 5, &[]), (5, 1, &[1, 2, 3, 4])]
        {
            let done = divide(&disk, all, shards).expect("the disk works");
            assert!(done.moved && !done.recovery.is_damaged());
            assert_eq!(done.surplus, surplus);
            assert_eq!(collect(&disk.after_crash(seed), shards), records, "{shards} shards");
            let again = divide(&disk, all, shards).expect("the disk works");
            assert_eq!((again.moved, again.written, &again.surplus[..]), (false, 0, surplus));
            // The next division finds logs of this one beside its snapshots.
            assert_eq!(collect(&disk, shards), records);
        }
    }
}

#[test]
fn another_table_for_as_many_shards_is_another_division() {
    let (disk, records) = filled(9, 40);
    let other = Layout { shards: 1, partition_hash: 1 };
    let done = repartition(&dirs(&disk, 1), other, 1, |_| None).expect("the disk works");
    assert!(done.moved);
    let back = divide(&disk, 1, 1).expect("the disk works");
    assert_eq!((back.moved, back.recovery.records), (true, done.written));
    assert_eq!(collect(&disk, 1), records);
}

/// Every operation of a division is the last one, and so is every one of the division after that.
#[test]
fn a_division_can_be_cut_anywhere_and_again() {
    let (mut disk, records) = filled(21, 60);
    for (all, shards) in [(3, 3), (3, 2), (5, 5)] {
        let whole = disk.after_crash(0);
        divide(&whole, all, shards).expect("nothing is cut");
        for (at, cut) in (0..whole.operations()).flat_map(|at| Cut::ALL.map(|cut| (at, cut))) {
            let first = disk.after_crash(0);
            first.cut_at(at, cut);
            assert!(divide(&first, all, shards).is_err());
            let second = first.after_crash(at);
            second.cut_at(at * 7 % whole.operations(), cut);
            let _ = divide(&second, all, shards);
            let third = second.after_crash(at + 1);
            // Somebody changes their mind between the two: it is all still there.
            let turned = third.after_crash(2);
            divide(&turned, all, 4.min(all)).expect("nothing is cut");
            assert_eq!(collect(&turned, 4.min(all)), records, "{shards} shards, {cut:?} {at}");
            divide(&third, all, shards).expect("nothing is cut");
            assert_eq!(collect(&third, shards), records, "{shards} shards, {cut:?} {at}");
        }
        disk = whole;
    }
}

#[test]
fn a_disk_that_refuses_ends_a_division_without_loss() {
    let (disk, records) = filled(22, 40);
    let whole = disk.after_crash(0);
    divide(&whole, 3, 3).expect("nothing is refused");
    for number in 0..whole.operations() {
        for refusal in [Refusal::NoSpace, Refusal::Io, Refusal::Short] {
            let tried = disk.after_crash(0);
            tried.refuse_at(number, refusal, Lasting::Once);
            let _ = divide(&tried, 3, 3);
            let found = tried.after_crash(number);
            divide(&found, 3, 3).expect("nothing is refused");
            assert_eq!(collect(&found, 3), records, "{refusal:?} {number}");
        }
    }
}

/// What was deleted does not come back, whatever part of the old files a crash leaves.
#[test]
fn what_was_revoked_stays_so() {
    let disk = SimDisk::new(23);
    let mut memory: Memory = [None; KEYS];
    let mut store = open(&disk, 0, 1, |_| ());
    let mut number = 0;
    for round in 0..4 {
        // At last half of the keys only: what was deleted of the others is in no log any more.
        for key in (0..KEYS).filter(|key| round < 3 || key % 2 == 0) {
            let len = ((key + round) % 3 > 0).then_some(20);
            let change = Change { key, number, len };
            number += 1;
            change.apply(&mut memory);
            append(&mut store, &change.record());
        }
        if round < 3 {
            snapshot(&mut store, &memory).expect("the disk works");
        }
    }
    store.close().expect("the disk works");
    let whole = disk.after_crash(0);
    divide(&whole, 2, 2).expect("nothing is cut");
    let removals = whole.log().iter().filter(|operation| **operation == Operation::Remove).count();
    assert!(removals > 3, "there is more than one file to remove");
    for (at, cut) in (0..=whole.operations()).flat_map(|at| Cut::ALL.map(|cut| (at, cut))) {
        for seed in 0..4 {
            let tried = disk.after_crash(0);
            tried.cut_at(at, cut);
            let _ = divide(&tried, 2, 2);
            let found = tried.after_crash(seed);
            divide(&found, 2, 2).expect("nothing is cut");
            let mut applied = Applied::default();
            (0..2).for_each(|id| drop(open(&found, id, 2, |record| applied.apply(record))));
            assert_eq!(applied.memory, memory, "{cut:?} {at}");
        }
    }
}

/// Nothing says that the first directories have anything.
#[test]
fn a_directory_of_no_shard_is_taken_in_alone() {
    let record = Change { key: 1, number: 1, len: Some(9) }.record();
    for damaged in [false, true] {
        let disk = SimDisk::new(25);
        let mut store = open(&disk, 1, 2, |_| ());
        append(&mut store, &record);
        store.close().expect("the disk works");
        if damaged {
            disk.flip_bit("shard-1", "wal-1.log", 8 * 20);
        }
        let done = divide(&disk, 2, 1).expect("the disk works");
        assert_eq!((done.moved, done.surplus.is_empty()), (true, damaged));
        assert_eq!(collect(&disk, 1), Records::from([sealed(0, &record)]));
        // A copy that was put aside stays, and is nothing to take in.
        assert!(!divide(&disk, 2, 1).expect("the disk works").moved);
    }
}

#[test]
fn damage_is_counted_and_put_aside_before_its_file_goes() {
    let (disk, records) = filled(24, 60);
    disk.flip_bit("shard-0", "wal-2.log", 8 * 200);
    let damaged = disk.contents("shard-0", "wal-2.log");
    let done = divide(&disk, 2, 2).expect("the disk works");
    assert_eq!(done.recovery.corrupt, 1);
    assert_eq!(disk.contents("shard-0", "wal.corrupt-2"), damaged);
    assert!(collect(&disk, 2).is_subset(&records));
    assert_eq!(open(&disk, 0, 2, |_| ()).status().epoch, Epoch::new(5));
}
