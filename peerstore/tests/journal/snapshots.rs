//! Snapshots: wanted when it is time, complete when they end, and never in the way of a change.

use peerstore::journal::{Appended, Durability, Journal};
use peerstore::storage::sim::{Lasting, Operation, Refusal, SimDisk};

use crate::support::{RING_BYTES, append, config, found, journal, value, wait_for_all, wait_until};

/// Hands over changes `0..count`, in slices as they go in.
fn hand_over(journal: &mut Journal, count: u64, len: usize) {
    for number in 0..count {
        wait_until(|| {
            let done = journal.snapshot(&value(number, len));
            journal.flush();
            done
        });
    }
}

fn begin(journal: &mut Journal) {
    wait_until(|| journal.begin_snapshot());
    journal.flush();
}

fn finish(journal: &mut Journal) {
    wait_until(|| journal.finish_snapshot());
    journal.flush();
}

/// That so many snapshots have come to their end.
fn wait_for_ends(journal: &Journal, ended: u64) {
    wait_until(|| journal.stats().snapshots + journal.stats().snapshots_failed == ended);
}

#[test]
fn a_long_log_wants_a_snapshot_and_gets_one() {
    for durability in Durability::ALL {
        let disk = SimDisk::new(1);
        let mut journal = journal(&disk, config(durability));
        assert!(!journal.snapshot_wanted());
        let mut queued = 0;
        for round in 1..=3 {
            append(&mut journal, queued, 100, 1000);
            queued += 100;
            wait_until(|| journal.snapshot_wanted());
            begin(&mut journal);
            assert!(!journal.snapshot_wanted(), "it is under way");
            append(&mut journal, queued, 20, 10);
            hand_over(&mut journal, queued, 1000);
            append(&mut journal, queued + 20, 20, 10);
            queued += 40;
            finish(&mut journal);
            wait_for_ends(&journal, round);
            wait_until(|| journal.stats().epoch == 1 + round);
            assert!(!journal.snapshot_wanted(), "it was just had");
        }
        wait_for_all(&journal);
        let stats = journal.stats();
        assert_eq!((stats.snapshots, stats.snapshots_failed), (3, 0));
        assert!(stats.snapshot_bytes > 300 * 1000 && stats.log_bytes < 100_000, "{stats:?}");
        assert_eq!(stats.records_snapshot, 100 + 240 + 380);
        journal.stop().expect("a disk that works");
        assert!(found(&disk.after_crash(2)).into_keys().eq(0..queued));
    }
}

#[test]
fn a_snapshot_leaves_half_of_the_ring_to_changes() {
    let disk = SimDisk::new(2);
    let mut journal = journal(&disk, config(Durability::Group));
    begin(&mut journal);
    disk.refuse_next(Operation::Append, Refusal::Io, Lasting::UntilHealed);
    append(&mut journal, 0, 1, 100);
    wait_until(|| !journal.accepts());
    let mut handed_over = 0;
    while journal.snapshot(&value(handed_over, 400)) {
        handed_over += 1;
    }
    assert!(!journal.finish_snapshot(), "that has to wait as well");
    let used = journal.stats().queued_bytes;
    assert!((RING_BYTES / 2..RING_BYTES / 2 + 600).contains(&used), "{used}");
    assert_eq!(journal.append(&value(1, 400)), Appended::Queued);
    disk.heal();
    hand_over(&mut journal, 10, 100);
    finish(&mut journal);
    wait_for_all(&journal);
    wait_for_ends(&journal, 1);
    // The log failed, and a snapshot does not outlive that.
    assert_eq!(journal.stats().snapshots, 0);
    journal.stop().expect("a disk that works again");
    assert!(found(&disk).into_keys().eq(0..2));
}

#[test]
fn a_snapshot_that_is_begun_again_is_the_only_one() {
    let disk = SimDisk::new(3);
    let mut journal = journal(&disk, config(Durability::Group));
    append(&mut journal, 0, 10, 100);
    begin(&mut journal);
    hand_over(&mut journal, 5, 100);
    begin(&mut journal);
    hand_over(&mut journal, 10, 100);
    finish(&mut journal);
    wait_for_ends(&journal, 2);
    assert_eq!((journal.stats().snapshots, journal.stats().snapshots_failed), (1, 1));
    journal.stop().expect("a disk that works");
    assert!(found(&disk).into_keys().eq(0..10));
}

#[test]
fn a_snapshot_that_fails_is_wanted_again_and_changes_go_on() {
    let disk = SimDisk::new(4);
    let mut journal = journal(&disk, config(Durability::Strict));
    append(&mut journal, 0, 100, 1000);
    wait_until(|| journal.snapshot_wanted());
    wait_for_all(&journal);
    begin(&mut journal);
    disk.refuse_next(Operation::Rename, Refusal::Io, Lasting::Once);
    hand_over(&mut journal, 100, 1000);
    finish(&mut journal);
    wait_for_ends(&journal, 1);
    assert_eq!((journal.stats().snapshots, journal.stats().snapshots_failed), (0, 1));
    assert!(journal.accepts(), "the log does not fail");
    assert_eq!(journal.take_fault().expect("what failed").doing, "name a snapshot");
    append(&mut journal, 100, 10, 10);
    wait_for_all(&journal);
    // With nothing else to do.
    wait_until(|| journal.snapshot_wanted());
    begin(&mut journal);
    hand_over(&mut journal, 110, 10);
    finish(&mut journal);
    wait_for_ends(&journal, 2);
    assert_eq!(journal.stats().snapshots, 1);
    journal.stop().expect("a disk that works");
    assert!(found(&disk.after_crash(5)).into_keys().eq(0..110));
}

#[test]
fn a_snapshot_that_cannot_begin_is_thrown_away() {
    let disk = SimDisk::new(5);
    let mut journal = journal(&disk, config(Durability::Group));
    append(&mut journal, 0, 10, 100);
    wait_for_all(&journal);
    disk.refuse_next(Operation::Create, Refusal::Quota, Lasting::Once);
    begin(&mut journal);
    hand_over(&mut journal, 10, 100);
    finish(&mut journal);
    wait_for_ends(&journal, 1);
    assert_eq!(journal.stats().snapshots_failed, 1);
    append(&mut journal, 10, 1, 100);
    journal.stop().expect("a disk that works");
    assert!(found(&disk).into_keys().eq(0..11));
}

#[test]
fn what_was_synced_before_a_snapshot_failed_is_durable() {
    let disk = SimDisk::new(8);
    let mut journal = journal(&disk, config(Durability::Strict));
    append(&mut journal, 0, 1, 100);
    wait_for_all(&journal);
    disk.refuse_next(Operation::Create, Refusal::NoSpace, Lasting::Once);
    // In one batch: the beginning syncs them, and then fails.
    for number in 1..6 {
        assert_eq!(journal.append(&value(number, 100)), Appended::Queued);
    }
    begin(&mut journal);
    wait_for_all(&journal);
    assert!(journal.accepts());
    assert!(found(&disk.after_crash(9)).into_keys().eq(0..6));
    journal.stop().expect("a disk that works");
}

#[test]
fn the_end_gives_up_a_snapshot_that_is_under_way() {
    let disk = SimDisk::new(6);
    let mut journal = journal(&disk, config(Durability::Group));
    append(&mut journal, 0, 10, 100);
    begin(&mut journal);
    hand_over(&mut journal, 5, 100);
    journal.stop().expect("a disk that works");
    assert!(disk.files().iter().all(|(_, name, _)| name != "compaction.tmp"));
    assert!(found(&disk).into_keys().eq(0..10));
}

#[test]
#[should_panic(expected = "a snapshot begins with its beginning")]
fn a_snapshot_has_to_begin() {
    let disk = SimDisk::new(7);
    let _ = journal(&disk, config(Durability::Group)).snapshot(&value(1, 1));
}
