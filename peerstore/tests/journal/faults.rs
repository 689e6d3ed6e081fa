//! A disk that fails: it is said, nothing that was queued is lost, and it ends when it is mended.

use peerstore::FaultKind;
use peerstore::journal::{self, Appended, Durability, Journal};
use peerstore::storage::sim::{Lasting, Operation, Refusal, SimDisk};

use crate::support::{
    RING_BYTES, append, config, found, journal, open, score, value, wait_for_all, wait_until,
};

/// A disk that is full, and a journal that found out: change 0 is lost in between.
fn failing(durability: Durability) -> (SimDisk, Journal) {
    let disk = SimDisk::new(1);
    let mut journal = journal(&disk, config(durability));
    assert!(journal.accepts());
    disk.refuse_next(Operation::Append, Refusal::NoSpace, Lasting::UntilHealed);
    append(&mut journal, 0, 1, 100);
    wait_until(|| !journal.accepts());
    (disk, journal)
}

#[test]
fn a_full_disk_is_waited_for() {
    for durability in Durability::ALL {
        let (disk, mut journal) = failing(durability);
        assert_eq!(journal.status(), Some(FaultKind::NoSpace));
        let mut fault = None;
        wait_until(|| {
            fault = fault.take().or_else(|| journal.take_fault());
            fault.is_some()
        });
        assert_eq!(fault.expect("just seen").kind, FaultKind::NoSpace);
        for number in 1..50 {
            assert_eq!(journal.append(&value(number, 100)), Appended::Queued);
        }
        journal.flush();
        // The first retries fail, too.
        wait_until(|| journal.stats().faults[0] > 2);
        assert_eq!((journal.durable(), journal.stats().records_log), (0, 1));
        disk.heal();
        wait_for_all(&journal);
        assert_eq!(journal.status(), None);
        let faults = journal.stats().faults;
        assert_eq!(faults[1..], [0; 3]);
        if durability != Durability::Async {
            assert_eq!(found(&disk.after_crash(2)).len(), 50);
        }
        journal.stop().expect("a disk that works again");
        assert_eq!(found(&disk).len(), 50);
    }
}

#[test]
fn each_kind_of_failure_has_its_name() {
    let kinds = [
        (Refusal::NoSpace, FaultKind::NoSpace),
        (Refusal::Short, FaultKind::NoSpace),
        (Refusal::ReadOnly, FaultKind::ReadOnly),
        (Refusal::Quota, FaultKind::Quota),
        (Refusal::Io, FaultKind::Io),
    ];
    for (refusal, kind) in kinds {
        for operation in [Operation::Append, Operation::Sync] {
            let disk = SimDisk::new(2);
            let mut journal = journal(&disk, config(Durability::Strict));
            disk.refuse_next(operation, refusal, Lasting::Once);
            append(&mut journal, 0, 10, 100);
            wait_for_all(&journal);
            let index = FaultKind::ALL.iter().position(|one| *one == kind).expect("one of them");
            assert_eq!(journal.stats().faults[index], 1, "{refusal:?} at {operation:?}");
            assert_eq!(found(&disk.after_crash(3)).len(), 10);
        }
    }
}

#[test]
fn soft_records_leave_half_of_the_ring_to_critical_ones() {
    let (disk, mut journal) = failing(Durability::Group);
    let mut soft = 0;
    while journal.append(&score(soft)) == Appended::Queued {
        soft += 1;
    }
    let used = journal.stats().queued_bytes;
    assert!((RING_BYTES / 2..RING_BYTES / 2 + 200).contains(&used), "{used}");
    let (mut critical, mut dropped, len) = (1, 1, 500);
    while journal.append(&value(critical, len)) == Appended::Queued {
        critical += 1;
        assert_eq!(journal.append(&score(0)), Appended::Dropped);
        dropped += 1;
    }
    let left = journal.room();
    assert!(left < value(0, len).payload_len());
    assert_eq!(journal.stats().queued_bytes, RING_BYTES - 4 - left as u64);
    // What is shorter still has its place.
    let fixed = value(0, 0).payload_len();
    if left >= fixed {
        assert_eq!(journal.append(&value(critical, left - fixed)), Appended::Queued);
        critical += 1;
    }
    let stats = journal.stats();
    assert_eq!((stats.dropped_critical, stats.dropped_soft), (1, dropped));
    assert_eq!(journal.position(), critical + u64::try_from(soft).expect("counted up"));
    disk.heal();
    wait_for_all(&journal);
    assert_eq!(journal.append(&score(0)), Appended::Queued);
    journal.stop().expect("a disk that works again");
    assert!(found(&disk).into_keys().eq(0..critical));
}

#[test]
fn a_store_that_is_broken_from_the_start_is_mended_as_well() {
    let disk = SimDisk::new(3);
    disk.refuse_next(Operation::Create, Refusal::ReadOnly, Lasting::UntilHealed);
    let mut journal = journal(&disk, config(Durability::Group));
    assert_eq!(journal.status(), Some(FaultKind::ReadOnly));
    assert!(!journal.begin_snapshot(), "not on a disk that fails");
    append(&mut journal, 0, 20, 100);
    disk.heal();
    wait_for_all(&journal);
    assert!(journal.accepts());
    journal.stop().expect("a disk that works again");
    assert_eq!(found(&disk).len(), 20);
}

#[test]
fn an_end_on_a_disk_that_fails_says_so() {
    let (disk, mut journal) = failing(Durability::Group);
    append(&mut journal, 1, 5, 100);
    let fault = journal.stop().expect_err("a full disk");
    assert_eq!(fault.kind, FaultKind::NoSpace);
    assert_eq!(found(&disk.after_crash(1)).len(), 0);
}

#[test]
fn an_end_tries_once_more() {
    let (disk, mut journal) = failing(Durability::Group);
    append(&mut journal, 1, 5, 100);
    disk.heal();
    journal.stop().expect("a disk that works again");
    assert_eq!(found(&disk.after_crash(1)).len(), 6);
}

#[test]
fn a_writer_that_panics_is_noticed() {
    let disk = SimDisk::new(4);
    let on_durable = || panic!("on purpose");
    let config = config(Durability::Strict);
    let mut journal = journal::start(open(&disk, |_| ()), config, on_durable).expect("a thread");
    append(&mut journal, 0, 1, 100);
    wait_until(|| journal.status() == Some(FaultKind::Io));
    assert!(!journal.accepts() && !journal.begin_snapshot() && !journal.snapshot_wanted());
    assert_eq!(journal.append(&value(1, 100)), Appended::Dropped);
    assert_eq!(journal.append(&score(1)), Appended::Dropped);
    journal.flush();
    let stats = journal.stats();
    assert_eq!((stats.dropped_critical, stats.dropped_soft), (1, 1));
    let fault = journal.stop().expect_err("a panic");
    assert_eq!(fault.to_string(), "cannot write to the store: the writer panicked");
}
