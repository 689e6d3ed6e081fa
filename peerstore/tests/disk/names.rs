//! What a crash makes of names: every file keeps one of those it had since the last sync.

use std::collections::BTreeMap;

use peerstore::storage::sim::{Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::storage::{Storage, StoredFile};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

type Name = Option<&'static str>;

/// The names that a file may have after a crash, the one it has now last.
struct Known {
    may_have: Vec<Name>,
    /// Changed since the last sync that failed.
    changed: bool,
}

impl Known {
    fn now(&self) -> Name {
        self.may_have.last().copied().flatten()
    }

    fn becomes(&mut self, name: Name) {
        self.may_have.push(name);
        self.changed = true;
    }
}

/// Every file by its number, which is its content.
struct Model {
    disk: SimDisk,
    dir: SimDir,
    files: Vec<Known>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let dir = disk.dir("shard-0");
        Self { disk, dir, files: Vec::new() }
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.files.iter().position(|file| file.now() == Some(name))
    }

    fn step(&mut self, what: usize, from: &'static str, to: &'static str) {
        match what {
            0 => self.sync(Ok(())),
            1 => self.sync(Err(())),
            2 => {
                let found = self.at(from);
                assert_eq!(self.dir.remove(from).is_ok(), found.is_some());
                found.into_iter().for_each(|file| self.files[file].becomes(None));
            }
            3..=5 => self.rename(from, to),
            _ => self.create(from),
        }
    }

    fn create(&mut self, name: &'static str) {
        let found = self.at(name);
        let created = self.dir.create(name);
        assert_eq!(created.is_ok(), found.is_none());
        if let Ok(mut file) = created {
            let number = u32::try_from(self.files.len()).expect("few files");
            file.append(&number.to_le_bytes()).expect("nothing refuses");
            file.sync().expect("nothing refuses");
            self.files.push(Known { may_have: vec![None, Some(name)], changed: true });
        }
    }

    fn rename(&mut self, from: &'static str, to: &'static str) {
        let (moved, replaced) = (self.at(from), self.at(to));
        assert_eq!(self.dir.rename(from, to).is_ok(), moved.is_some());
        if let Some(moved) = moved.filter(|_| from != to) {
            replaced.into_iter().for_each(|file| self.files[file].becomes(None));
            self.files[moved].becomes(Some(to));
        }
    }

    fn sync(&mut self, outcome: Result<(), ()>) {
        if outcome.is_err() {
            self.disk.refuse_next(Operation::SyncNames, Refusal::Io, Lasting::Once);
        }
        assert_eq!(self.dir.sync().is_ok(), outcome.is_ok());
        for file in &mut self.files {
            if outcome.is_ok() && file.changed {
                file.may_have = vec![file.now()];
            }
            file.changed = false;
        }
    }

    /// After this crash every file has a name that it may have.
    fn check(&self, crash: u64) {
        let found = Self::found(&self.disk.after_crash(crash));
        for (number, file) in self.files.iter().enumerate() {
            let name = found.get(&number).map(String::as_str);
            assert!(file.may_have.contains(&name), "{name:?} of {:?}", file.may_have);
        }
    }

    /// The files of this directory by their number.
    fn found(disk: &SimDisk) -> BTreeMap<usize, String> {
        let mut found = BTreeMap::new();
        for (dir, name, _) in disk.files() {
            let bytes = disk.contents(&dir, &name).expect("a file that was listed");
            let number = u32::from_le_bytes(bytes.try_into().expect("a synced number"));
            let other = found.insert(number as usize, name);
            assert_eq!(other, None, "a file has one name");
        }
        found
    }
}

proptest! {
    #[test]
    fn a_file_keeps_a_name_that_it_had_since_the_last_sync(
        steps in prop::collection::vec(
            (0_usize..10, prop::sample::select(&NAMES[..]), prop::sample::select(&NAMES[..])),
            1..40,
        ),
        seed: u64,
        crashes: [u64; 8],
    ) {
        let mut model = Model::new(seed);
        for (what, from, to) in steps {
            model.step(what, from, to);
        }
        for crash in crashes {
            model.check(crash);
        }
        model.sync(Ok(()));
        let now = Model::found(&model.disk);
        prop_assert_eq!(now.len(), model.files.iter().filter(|file| file.now().is_some()).count());
    }
}

/// A failed sync lost that the first file was renamed; it was renamed since, and that was synced.
#[test]
fn what_a_failed_sync_lost_is_history_once_a_later_change_is_synced() {
    for seed in 0..50 {
        let mut model = Model::new(seed);
        model.create("c");
        model.rename("c", "b");
        model.sync(Err(()));
        model.create("d");
        model.rename("b", "c");
        model.sync(Ok(()));
        model.rename("d", "c");
        (0..20).for_each(|crash| model.check(crash));
    }
}

/// The first file's rename comes to the platter late, because its old name is taken again; its new
/// one has another holder by then, who keeps it.
#[test]
fn a_change_that_comes_late_takes_no_name_from_a_later_one() {
    for seed in 0..50 {
        let mut model = Model::new(seed);
        model.create("b");
        model.create("c");
        model.sync(Ok(()));
        model.rename("b", "a");
        model.sync(Err(()));
        model.rename("c", "a");
        model.create("b");
        (0..20).for_each(|crash| model.check(crash));
    }
}

/// As before, but the later change was synced in between.
#[test]
fn a_change_that_comes_late_takes_no_name_from_a_synced_one() {
    for seed in 0..50 {
        let mut model = Model::new(seed);
        model.create("c");
        model.rename("c", "a");
        model.sync(Err(()));
        model.create("d");
        model.rename("d", "a");
        model.sync(Ok(()));
        model.create("c");
        (0..20).for_each(|crash| model.check(crash));
    }
}

/// The second file went on to another name before a failed sync; it is not left where it went first.
#[test]
fn a_file_that_comes_late_comes_to_where_it_is() {
    for seed in 0..200 {
        let mut model = Model::new(seed);
        model.create("c");
        model.create("b");
        model.sync(Ok(()));
        model.rename("b", "d");
        model.rename("c", "b");
        model.rename("d", "a");
        model.sync(Err(()));
        model.create("d");
        model.sync(Ok(()));
        model.create("c");
        (0..20).for_each(|crash| model.check(crash));
    }
}

/// What a later file took over is not lost with it, however far either got.
#[test]
fn files_that_change_places_are_not_lost() {
    for seed in 0..200 {
        let mut model = Model::new(seed);
        model.create("a");
        model.create("d");
        model.sync(Ok(()));
        model.rename("d", "c");
        model.create("b");
        model.rename("a", "d");
        model.rename("c", "a");
        model.rename("d", "b");
        model.rename("b", "a");
        model.create("c");
        (0..50).for_each(|crash| model.check(crash));
    }
}

#[test]
fn a_rename_happened_or_it_did_not() {
    let disk = SimDisk::new(1);
    let dir = disk.dir("d");
    disk.put("d", "tmp", b"new");
    disk.put("d", "snapshot", b"old");
    dir.rename("tmp", "snapshot").unwrap();
    let image = |seed| {
        let after = disk.after_crash(seed);
        (after.contents("d", "tmp"), after.contents("d", "snapshot"))
    };
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    let possible = [(Some(new.clone()), Some(old)), (None, Some(new))];
    let images: Vec<_> = (0..100).map(image).collect();
    assert!(images.iter().all(|image| possible.contains(image)));
    assert!(possible.iter().all(|image| images.contains(image)));
}
