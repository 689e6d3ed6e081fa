//! A disk that refuses: nothing is lost, nothing is acknowledged, and it goes on when it can.

use peerstore::storage::sim::{Cut, Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::{FaultKind, Store};

use crate::owner::{Change, KEYS, append, snapshot};
use crate::workload::{DIR, Plan, World, open};

fn change(number: u64) -> Change {
    let key = usize::try_from(number).expect("small") % KEYS;
    Change { key, number, len: Some(40) }
}

fn filled(disk: &SimDisk, changes: u64) -> Store<SimDir> {
    let (mut store, ..) = open(disk.dir(DIR)).expect("an empty directory");
    (0..changes).for_each(|number| append(&mut store, &change(number).record()));
    store
}

/// Each operation of a life is refused, once and for good, and the power goes when it is over.
#[test]
fn whatever_is_refused_nothing_acknowledged_is_lost() {
    for seed in 0..6 {
        let plan = Plan { steps: 60, refusals: false };
        let mut whole = World::new(seed, |dir| dir);
        whole.live(plan).expect("nothing is refused");
        for number in 0..whole.disk.operations() {
            for refusal in Refusal::ALL {
                for lasting in [Lasting::Once, Lasting::UntilHealed] {
                    let mut world = World::new(seed, |dir| dir);
                    world.model.refused();
                    world.disk.refuse_at(number, refusal, lasting);
                    let lived = world.live(plan).and_then(|()| world.crash());
                    lived.unwrap_or_else(|error| {
                        panic!("seed {seed}, {number}, {refusal:?} {lasting:?}: {error}")
                    });
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_is_never_tried_again_on_the_same_pages() {
    let disk = SimDisk::new(3);
    let mut store = filled(&disk, 9);
    store.write().expect("the disk works");
    disk.refuse_next(Operation::Sync, Refusal::Io, Lasting::Once);
    let fault = store.sync().expect_err("it was refused");
    assert_eq!((fault.kind, fault.doing), (FaultKind::Io, "sync the log"));
    assert!(store.is_broken());
    let waits = store.unsynced_bytes();
    let before = disk.operations();
    for _ in 0..3 {
        assert_eq!(store.sync().expect_err("it is broken").kind, FaultKind::Io);
        assert_eq!(store.write().map_err(|fault| fault.kind), Err(FaultKind::Io));
        assert!(store.begin_snapshot(1).is_err());
    }
    assert_eq!(disk.operations(), before, "a broken store leaves the disk alone");
    append(&mut store, &change(9).record());
    store.retry(5).expect("the disk works again");
    assert!(!store.is_broken() && waits > 0);
    assert_eq!((store.unsynced_bytes(), store.status().epoch.number()), (0, 2));
    // The pages of the first log are lost for good; all is in the second.
    for seed in 0..20 {
        let (_, recovery, applied) = open(disk.after_crash(seed).dir(DIR)).expect("it opens");
        assert!(recovery.records >= 10);
        for number in 0..10 {
            assert!(applied.changes().contains(&change(number)));
        }
    }
}

#[test]
fn a_store_opens_on_a_disk_that_is_full() {
    let disk = SimDisk::new(4);
    filled(&disk, 5).close().expect("the disk works");
    disk.refuse_at(disk.operations(), Refusal::NoSpace, Lasting::UntilHealed);
    let (mut store, recovery, _) = open(disk.dir(DIR)).expect("what is there can be read");
    assert_eq!(recovery.records, 5);
    assert!(store.is_broken() && store.status().broken);
    assert_eq!(store.status().last_fault, Some(FaultKind::NoSpace));
    append(&mut store, &change(5).record());
    for _ in 0..3 {
        assert_eq!(store.retry(1).map_err(|fault| fault.kind), Err(FaultKind::NoSpace));
    }
    disk.heal();
    store.retry(1).expect("there is room again");
    drop(store);
    let (_, recovery, _) = open(disk.after_crash(0).dir(DIR)).expect("it opens");
    assert_eq!(recovery.records, 6);
}

#[test]
fn refusals_have_the_names_that_a_metric_gives_them() {
    let kinds = Refusal::ALL.map(|refusal| {
        let disk = SimDisk::new(5);
        let mut store = filled(&disk, 1);
        disk.refuse_next(Operation::Append, refusal, Lasting::Once);
        store.write().expect_err("it was refused").kind
    });
    let wanted = [
        FaultKind::NoSpace,
        FaultKind::Quota,
        FaultKind::ReadOnly,
        FaultKind::Io,
        FaultKind::NoSpace,
    ];
    assert_eq!(kinds, wanted);
    let labels = FaultKind::ALL.map(FaultKind::label);
    assert_eq!(labels, ["no_space", "read_only", "quota", "io"]);
}

#[test]
fn a_snapshot_that_fails_is_given_up_and_wanted_again() {
    let memory = std::array::from_fn(|key| Some((key as u64, 400)));
    let script = |disk: &SimDisk| {
        let mut store = filled(disk, 70);
        store.sync().expect("the disk works");
        assert!(store.wants_snapshot());
        store
    };
    let disk = SimDisk::new(6);
    let mut store = script(&disk);
    let first = disk.operations();
    snapshot(&mut store, &memory).expect("nothing is refused");
    for number in first..disk.operations() {
        let disk = SimDisk::new(6);
        let mut store = script(&disk);
        disk.refuse_at(number, Refusal::Io, Lasting::Once);
        let failed = snapshot(&mut store, &memory).is_err();
        assert!(!store.status().snapshotting);
        if failed {
            if store.is_broken() {
                store.retry(1).expect("only one was refused");
            }
            assert!(store.wants_snapshot(), "operation {number}");
            snapshot(&mut store, &memory).expect("only one was refused");
        }
        assert!(!store.wants_snapshot());
        let left = disk.files();
        assert!(left.iter().all(|(_, name, _)| !name.ends_with(".tmp")), "{left:?}");
    }
}

#[test]
fn a_log_that_breaks_ends_the_snapshot_beside_it() {
    let disk = SimDisk::new(8);
    let mut store = filled(&disk, 3);
    store.begin_snapshot(1).expect("the disk works");
    append(&mut store, &change(3).record());
    disk.refuse_next(Operation::Sync, Refusal::Quota, Lasting::Once);
    assert!(store.sync().is_err() && !store.status().snapshotting);
    assert_eq!(store.finish_snapshot().expect_err("it is broken").kind, FaultKind::Quota);
    store.retry(2).expect("only one was refused");
    let fault = store.finish_snapshot().expect_err("it was given up");
    assert_eq!((fault.doing, fault.kind), ("write a snapshot", FaultKind::Quota));
    assert_eq!(fault.to_string(), "cannot write a snapshot: it was given up");
    // Beginning twice gives up the first.
    store.begin_snapshot(3).expect("the disk works");
    store.begin_snapshot(4).expect("the disk works");
    store.finish_snapshot().expect("the disk works");
    assert_eq!(store.status().snapshot, Some(store.status().epoch));
}

/// A copy of what was damaged is only a copy: without room for it recovery goes on.
#[test]
fn a_copy_that_cannot_be_made_is_counted() {
    let disk = SimDisk::new(7);
    filled(&disk, 5).close().expect("the disk works");
    disk.flip_bit(DIR, "wal-1.log", 8 * 100);
    for number in 0..4 {
        let disk = disk.after_crash(0);
        disk.refuse_at(number, Refusal::Short, Lasting::Once);
        let (store, recovery, _) = open(disk.dir(DIR)).expect("it opens");
        assert_eq!((recovery.corrupt, recovery.not_copied), (1, 1));
        assert_eq!(disk.contents(DIR, "copy.tmp"), None);
        drop(store);
        let (_, recovery, _) = open(disk.dir(DIR)).expect("it opens");
        assert_eq!((recovery.corrupt, recovery.not_copied), (1, 0));
        assert_eq!(disk.contents(DIR, "wal.corrupt-1"), disk.contents(DIR, "wal-1.log"));
    }
    // Cut anywhere in it: the copy is whole, or it is none.
    for (number, cut) in (0..8).flat_map(|number| Cut::ALL.map(|cut| (number, cut))) {
        let disk = disk.after_crash(0);
        disk.cut_at(number, cut);
        let _ = open(disk.dir(DIR));
        let disk = disk.after_crash(number);
        open(disk.dir(DIR)).expect("it opens");
        assert_eq!(disk.contents(DIR, "wal.corrupt-1"), disk.contents(DIR, "wal-1.log"));
    }
}
