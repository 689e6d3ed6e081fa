//! The real disk does what the simulated one does, and keeps others out.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};

use peerstore::storage::sim::SimDisk;
use peerstore::storage::{Disk, Storage, StoredFile};
use proptest::prelude::*;

use crate::temp::Temp;

const NAMES: [&str; 3] = ["wal-1.log", "wal-2.log", "snapshot-1.bin"];

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Append(usize, usize),
    Reserve(usize, u64),
    Trim(usize),
    Sync(usize),
    Close(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncNames,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => name.clone().prop_map(Step::Create),
        4 => (name.clone(), 0_usize..9000).prop_map(|(name, len)| Step::Append(name, len)),
        1 => (name.clone(), 0_u64..20_000).prop_map(|(name, len)| Step::Reserve(name, len)),
        1 => name.clone().prop_map(Step::Trim),
        1 => name.clone().prop_map(Step::Sync),
        1 => name.clone().prop_map(Step::Close),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name.prop_map(Step::Remove),
        1 => Just(Step::SyncNames),
    ]
}

/// A directory with the files that are being written.
struct Writing<S: Storage> {
    storage: S,
    open: BTreeMap<usize, S::File>,
}

/// What a caller sees of it: the outcome of the step, and every file.
type Seen = (Result<(), ErrorKind>, BTreeMap<String, Vec<u8>>);

impl<S: Storage> Writing<S> {
    fn new(storage: S) -> Self {
        Self { storage, open: BTreeMap::new() }
    }

    fn step(&mut self, step: &Step) -> Result<(), ErrorKind> {
        let outcome = match *step {
            Step::Create(name) => self.storage.create(NAMES[name]).map(|file| {
                self.open.insert(name, file);
            }),
            Step::Append(name, len) => {
                let bytes: Vec<u8> = (0_u8..=250).cycle().skip(len % 7).take(len).collect();
                self.write(name, |file| file.append(&bytes))
            }
            Step::Reserve(name, len) => self.write(name, |file| file.reserve(len)),
            Step::Trim(name) => self.write(name, S::File::trim),
            Step::Sync(name) => self.write(name, S::File::sync),
            Step::Close(name) => {
                self.open.remove(&name);
                Ok(())
            }
            Step::Rename(from, to) => self.storage.rename(NAMES[from], NAMES[to]),
            Step::Remove(name) => self.storage.remove(NAMES[name]),
            Step::SyncNames => self.storage.sync(),
        };
        outcome.map_err(|error| error.kind())
    }

    fn write(
        &mut self,
        name: usize,
        act: impl FnOnce(&mut S::File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.open.get_mut(&name).map_or(Ok(()), act)
    }

    /// Lets go of each file's bytes before the next is written.
    fn seen(&mut self, step: &Step) -> Seen {
        let outcome = self.step(step);
        let names = self.storage.list().expect("a directory that is there");
        let bytes = |name: &String| self.storage.read(name).expect("a file that is there").to_vec();
        (outcome, names.iter().map(|name| (name.clone(), bytes(name))).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_real_disk_and_the_simulated_one_are_the_same(
        steps in prop::collection::vec(step(), 1..40),
        seed: u64,
    ) {
        let temp = Temp::new();
        let disk = SimDisk::new(seed);
        let mut real = Writing::new(Disk::open(temp.path()).expect("it is there"));
        let mut simulated = Writing::new(disk.dir("shard-0"));
        for step in &steps {
            prop_assert_eq!(real.seen(step), simulated.seen(step), "{:?}", step);
        }
    }
}

fn mode(temp: &Temp, name: &str) -> u32 {
    std::fs::metadata(temp.path().join(name)).expect("it is there").mode() & 0o7777
}

#[test]
fn files_are_their_owners_and_names_stay_inside() {
    let temp = Temp::new();
    let disk = Disk::open(temp.path()).unwrap();
    disk.create("a").unwrap().append(b"bytes").unwrap();
    assert_eq!(mode(&temp, "a"), 0o600);
    for name in ["", ".", "..", "../b", "c/d", "/e"] {
        assert_eq!(disk.create(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(disk.rename("a", name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        assert!(disk.read(name).is_err() && disk.remove(name).is_err(), "{name}");
    }
    symlink("a", temp.path().join("link")).unwrap();
    std::fs::create_dir(temp.path().join("folder")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, temp.path().join("pipe"), 0o600.into()).unwrap();
    assert_eq!(disk.list().unwrap(), ["a"], "files only");
    for name in ["link", "folder", "pipe", "missing"] {
        assert!(disk.read(name).is_err(), "{name}");
    }
    assert_eq!(&disk.read("a").unwrap()[..], b"bytes");
}

#[test]
fn a_disk_that_is_only_read_is_not_changed() {
    let temp = Temp::new();
    std::fs::write(temp.path().join("a"), b"bytes").unwrap();
    let disk = Disk::open_read_only(temp.path()).unwrap();
    let refused =
        [disk.create("b").map(drop), disk.rename("a", "b"), disk.remove("a"), disk.sync()];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    assert_eq!(disk.list().unwrap(), ["a"]);
    assert_eq!(&disk.read("a").unwrap()[..], b"bytes");
}

#[test]
fn a_disk_is_a_directory() {
    let temp = Temp::new();
    let file = temp.path().join("a");
    std::fs::write(&file, b"").unwrap();
    symlink(temp.path(), temp.path().join("link")).unwrap();
    assert_eq!(Disk::open(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(Disk::open(&temp.path().join("link")).is_err());
    assert_eq!(Disk::open(&temp.path().join("b")).unwrap_err().kind(), ErrorKind::NotFound);
}
