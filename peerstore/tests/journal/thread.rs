//! The thread: it has a name, yields to others, and sleeps when there is nothing to do.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use peerstore::journal::{self, Durability, Journal};
use peerstore::storage::sim::SimDisk;
use peerstore::{Shard, Store};

use crate::support::{append, config, small, wait_for_all, wait_until};

/// A journal whose thread has a name that no other test's has.
fn journal(shard: u16, durability: Durability) -> Journal {
    let shard = Shard::new(shard, 2000).expect("one of them");
    let disk = SimDisk::new(1);
    let (store, _) =
        Store::open(disk.dir("shard"), shard, 1, small(), 2, |_| ()).expect("an empty disk");
    journal::start(store, config(durability), || ()).expect("a thread")
}

fn task(name: &str) -> Option<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").expect("of this process");
    tasks.map(|task| task.expect("a task").path()).find(|task| {
        // One that ends meanwhile is none.
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// How often it went to sleep by itself.
fn sleeps(task: &std::path::Path) -> u64 {
    let status = fs::read_to_string(task.join("status")).expect("a thread that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

#[test]
fn an_idle_writer_does_not_wake_up() {
    for (shard, durability) in (1001..).zip(Durability::ALL) {
        let mut journal = journal(shard, durability);
        append(&mut journal, 0, 100, 100);
        wait_for_all(&journal);
        let task = task(&format!("store-{shard}")).expect("a thread of this name");
        // Whatever timer it had would ring several times meanwhile, each time that it is asked.
        wait_until(|| {
            let before = sleeps(&task);
            thread::park_timeout(Duration::from_millis(300));
            sleeps(&task) == before
        });
        // And it is not asleep for ever.
        append(&mut journal, 100, 1, 100);
        wait_for_all(&journal);
    }
}

#[test]
fn the_thread_is_gone_when_the_journal_is() {
    let journal = journal(1101, Durability::Group);
    wait_until(|| task("store-1101").is_some());
    journal.stop().expect("a disk that works");
    // Joined is not yet gone from the list.
    wait_until(|| task("store-1101").is_none());
}
