//! The simulated disk keeps what it promises, loses what it may, and repeats itself.

use std::io;

use peerstore::storage::sim::{Cut, Lasting, Refusal, SimDir, SimDisk, SimFile};
use peerstore::storage::{Storage, StoredFile};
use proptest::prelude::*;

const DIR: &str = "shard-0";

/// A file under way, and what was promised of it.
struct Written {
    file: SimFile,
    bytes: Vec<u8>,
    synced: usize,
    failed: bool,
}

/// Appends what tells the byte's place, so that any other byte is noticed.
fn pattern(at: usize, len: usize) -> Vec<u8> {
    (at..at + len).map(|at| u8::try_from(at % 251 + 1).expect("at most 251")).collect()
}

impl Written {
    fn new(dir: &SimDir, name: &str) -> io::Result<Self> {
        Ok(Self { file: dir.create(name)?, bytes: Vec::new(), synced: 0, failed: false })
    }

    fn step(&mut self, what: usize, len: usize) -> io::Result<()> {
        match what {
            0 => self.file.reserve(len as u64 * 16)?,
            1 => self.file.trim()?,
            2 | 3 => {
                self.failed = true;
                self.file.sync()?;
                self.failed = false;
                self.synced = self.bytes.len();
            }
            _ => {
                let bytes = pattern(self.bytes.len(), len);
                self.bytes.extend(&bytes);
                self.file.append(&bytes)?;
            }
        }
        Ok(())
    }
}

type Steps = Vec<(usize, usize)>;

fn steps() -> impl Strategy<Value = Steps> {
    prop::collection::vec((0_usize..10, 0_usize..1500), 1..40)
}

fn started(seed: u64) -> (SimDisk, Written) {
    let disk = SimDisk::new(seed);
    let dir = disk.dir(DIR);
    let written = Written::new(&dir, "a").expect("nothing fails yet");
    dir.sync().expect("nothing fails yet");
    (disk, written)
}

fn cut() -> impl Strategy<Value = Cut> {
    prop::sample::select(Cut::ALL.to_vec())
}

proptest! {
    #[test]
    fn what_was_synced_survives_any_cut(
        steps in steps(), at in 2_u64..40, cut in cut(), seed: u64, crash: u64,
    ) {
        let (disk, mut written) = started(seed);
        disk.cut_at(at, cut);
        let done = steps.iter().try_for_each(|(what, len)| written.step(*what, *len));
        prop_assert_eq!(done.is_err(), disk.is_off());
        let found = disk.after_crash(crash).dir(DIR).read("a").unwrap();
        prop_assert!(found.len() >= written.synced);
        prop_assert_eq!(&found[..written.synced], &written.bytes[..written.synced]);
        prop_assert!(disk.dir(DIR).list().is_err() || !disk.is_off());
    }

    #[test]
    fn without_a_cut_nothing_is_lost(steps in steps(), seed: u64, crash: u64) {
        let (disk, mut written) = started(seed);
        steps.iter().try_for_each(|(what, len)| written.step(*what, *len)).unwrap();
        let found = disk.dir(DIR).read("a").unwrap();
        prop_assert_eq!(&found[..written.bytes.len()], &written.bytes[..]);
        prop_assert!(found[written.bytes.len()..].iter().all(|byte| *byte == 0));
        written.file.trim().unwrap();
        written.file.sync().unwrap();
        prop_assert_eq!(disk.after_crash(crash).contents(DIR, "a").unwrap(), written.bytes);
    }

    #[test]
    fn the_same_seeds_find_the_same(steps in steps(), at in 2_u64..40, seed: u64, crash: u64) {
        let image = || {
            let (disk, mut written) = started(seed);
            disk.refuse_at(at, Refusal::Short, Lasting::Once);
            disk.cut_at(at + 3, Cut::During);
            for (what, len) in &steps {
                let _ = written.step(*what, *len);
            }
            let after = disk.after_crash(crash);
            (disk.log(), after.files(), after.contents(DIR, "a"))
        };
        prop_assert_eq!(image(), image());
    }
}
