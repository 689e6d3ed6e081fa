//! What is said to be durable is, at any level, whatever the disk does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerstore::journal::{self, Appended, Config, Durability};
use peerstore::storage::sim::{Cut, Lasting, Operation, Refusal, SimDisk};
use proptest::prelude::*;

use crate::support::{
    append, config, found, journal, open, score, small, value, wait_for_all, wait_until,
};

#[test]
fn everything_arrives_in_order_and_once() {
    for durability in Durability::ALL {
        let disk = SimDisk::new(1);
        let mut journal = journal(&disk, config(durability));
        append(&mut journal, 0, 3000, 200);
        assert_eq!(journal.position(), 3000);
        wait_for_all(&journal);
        let stats = journal.stats();
        assert_eq!((stats.records_log, stats.dropped_critical, stats.queued_bytes), (3000, 0, 0));
        assert!(stats.writes > 0 && stats.bytes_written > 3000 * 200, "{stats:?}");
        journal.stop().expect("a disk that works");
        let mut numbers = Vec::new();
        drop(open(&disk, |record| {
            if let peerstore::Record::Value(value) = record {
                numbers.push(value.sequence);
            }
        }));
        assert!(numbers.into_iter().eq(0..3000), "{durability:?}");
    }
}

#[test]
fn the_end_drains_what_nobody_was_told_of() {
    for durability in Durability::ALL {
        let disk = SimDisk::new(2);
        let mut journal = journal(&disk, config(durability));
        for number in 0..100 {
            assert_eq!(journal.append(&value(number, 100)), Appended::Queued);
        }
        journal.stop().expect("a disk that works");
        assert_eq!(found(&disk.after_crash(3)).len(), 100, "{durability:?}");
    }
}

#[test]
fn a_journal_that_is_dropped_ends_as_well() {
    let disk = SimDisk::new(2);
    let mut journal = journal(&disk, config(Durability::Async));
    assert_eq!(journal.append(&value(1, 100)), Appended::Queued);
    drop(journal);
    assert_eq!(found(&disk.after_crash(3)).len(), 1);
}

#[test]
fn without_syncs_records_count_once_they_are_written() {
    let disk = SimDisk::new(4);
    let mut journal = journal(&disk, config(Durability::Async));
    let syncs = || disk.log().iter().filter(|did| **did == Operation::Sync).count();
    let before = syncs();
    append(&mut journal, 0, 50, 100);
    wait_for_all(&journal);
    assert_eq!(syncs(), before);
    drop(journal);
    assert!(syncs() > before);
}

#[test]
fn a_group_is_synced_with_nobody_asking_for_it() {
    let disk = SimDisk::new(4);
    // Only the sync's turn comes.
    let batch_interval = Duration::MAX;
    let mut journal = journal(&disk, Config { batch_interval, ..config(Durability::Group) });
    for round in 0..3 {
        append(&mut journal, round * 10, 10, 100);
        wait_for_all(&journal);
        assert_eq!(found(&disk.after_crash(round)).len() as u64, round * 10 + 10);
    }
}

#[test]
fn who_waits_under_strict_is_told() {
    let disk = SimDisk::new(5);
    let told = Arc::new(AtomicU64::new(0));
    let on_durable = {
        let told = Arc::clone(&told);
        move || {
            told.fetch_add(1, Ordering::Relaxed);
        }
    };
    let config = config(Durability::Strict);
    let mut journal = journal::start(open(&disk, |_| ()), config, on_durable).expect("a thread");
    for number in 0..20 {
        append(&mut journal, number, 1, 50);
        wait_until(|| told.load(Ordering::Relaxed) > number);
        assert_eq!(journal.durable(), number + 1);
        assert_eq!(found(&disk.after_crash(number)).len() as u64, number + 1);
    }
    // A turn without anything new is nothing to tell.
    journal.flush();
    let stats = journal.stats();
    journal.stop().expect("a disk that works");
    assert_eq!(told.load(Ordering::Relaxed), 20);
    assert!(stats.syncs > 20 && stats.sync_ns_max > 0 && stats.stall_ns_max > 0, "{stats:?}");
    assert!(stats.sync_ns_total >= stats.sync_ns_max);
}

#[test]
fn neither_a_record_nor_a_flush_allocates() {
    let disk = SimDisk::new(6);
    let mut journal = journal(&disk, config(Durability::Strict));
    append(&mut journal, 0, 10, 1000);
    let memory = allocation_counter::measure(|| {
        for number in 10..200 {
            let _ = journal.append(&value(number, 2000));
            let _ = journal.append(&score(3));
            journal.flush();
            let _ = (journal.durable(), journal.room(), journal.status(), journal.stats());
        }
        if journal.begin_snapshot() {
            let _ = journal.snapshot(&value(1, 100));
            let _ = journal.finish_snapshot();
        }
    });
    assert_eq!(memory.count_total, 0);
}

#[derive(Clone, Debug)]
enum Act {
    Append { count: u64, len: usize },
    Snapshot,
    Check { seed: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1_u64..40, 0_usize..400).prop_map(|(count, len)| Act::Append { count, len }),
        1 => Just(Act::Snapshot),
        2 => any::<u64>().prop_map(|seed| Act::Check { seed }),
    ];
    prop::collection::vec(act, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whenever the power goes: what was durable before is there, and nothing else than what was queued.
    #[test]
    fn what_is_durable_outlives_the_power(
        acts in acts(),
        strict in any::<bool>(),
        cut in (0_u64..150, prop::sample::select(&Cut::ALL[..])),
        refused in prop::option::of((5_u64..60, prop::sample::select(&Refusal::ALL[..]))),
        seed in any::<u64>(),
    ) {
        let disk = SimDisk::new(seed);
        let durability = if strict { Durability::Strict } else { Durability::Group };
        let intervals = Duration::from_millis(1);
        let config = Config {
            sync_interval: intervals, batch_interval: intervals, ..config(durability)
        };
        let mut journal = journal(&disk, config);
        disk.cut_at(disk.operations() + cut.0, cut.1);
        if let Some((at, refusal)) = refused {
            disk.refuse_at(disk.operations() + at, refusal, Lasting::Once);
        }
        let mut queued = 0;
        for act in acts {
            match act {
                Act::Append { count, len } => {
                    for _ in 0..count {
                        if journal.append(&value(queued, len)) == Appended::Queued {
                            queued += 1;
                        }
                    }
                    journal.flush();
                }
                Act::Snapshot => {
                    // Changes that were dropped or lost are in it, as they are in memory.
                    if journal.begin_snapshot() {
                        for number in 0..queued {
                            let mut lost = 0;
                            while !journal.snapshot(&value(number, 10)) && lost < 50 {
                                journal.flush();
                                lost += 1;
                                std::thread::yield_now();
                            }
                            // Rather no snapshot than one with a hole.
                            prop_assume!(lost < 50);
                        }
                        let _ = journal.finish_snapshot() || journal.finish_snapshot();
                        journal.flush();
                    }
                }
                Act::Check { seed } => {
                    let durable = journal.durable();
                    prop_assert!(durable <= journal.position());
                    let there = found(&disk.after_crash(seed));
                    prop_assert!((0..durable).all(|number| there.contains_key(&number)));
                    prop_assert!(there.keys().all(|number| *number < queued));
                }
            }
        }
        let durable = journal.durable();
        let there = found(&disk.after_crash(seed ^ 1));
        prop_assert!((0..durable).all(|number| there.contains_key(&number)), "{durable}");
        let position = journal.position();
        let stopped = journal.stop();
        let there = found(&disk.after_crash(seed ^ 2));
        if stopped.is_ok() {
            prop_assert!((0..position).all(|number| there.contains_key(&number)), "{position}");
        }
        prop_assert!(there.keys().all(|number| *number < queued));
    }
}

#[test]
fn a_batch_is_written_before_the_next_is_taken() {
    let disk = SimDisk::new(7);
    let mut journal = journal(&disk, config(Durability::Async));
    append(&mut journal, 0, 200, 1000);
    wait_for_all(&journal);
    let batches = 200 * 1000 / (small().batch_bytes as u64 + 2000);
    assert!(journal.stats().writes >= batches, "{:?}", journal.stats());
}
