//! Disks that lie about what lasts: a test of crashes that does not notice them tests nothing.

use std::io;

use peerstore::storage::sim::{SimDir, SimFile};
use peerstore::storage::{Storage, StoredFile};

use crate::crash::lives;

/// What a disk says it did, and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Nothing.
    Honest,
    /// Syncing a log.
    Log,
    /// Syncing a snapshot.
    Snapshot,
    /// Syncing names.
    Names,
    /// Syncing the end of a log that another one takes the place of.
    EndOfLog,
}

#[derive(Debug)]
struct Liar<T> {
    inner: T,
    lie: Lie,
    syncs: u32,
}

impl Storage for Liar<SimDir> {
    type File = Liar<SimFile>;
    type Bytes = Vec<u8>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Liar<SimFile>> {
        let applies = match self.lie {
            Lie::Log | Lie::EndOfLog => name.starts_with("wal-"),
            Lie::Snapshot => name.ends_with(".tmp"),
            Lie::Names | Lie::Honest => false,
        };
        let lie = if applies { self.lie } else { Lie::Honest };
        Ok(Liar { inner: self.inner.create(name)?, lie, syncs: 0 })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        if self.lie == Lie::Names { Ok(()) } else { self.inner.sync() }
    }
}

impl StoredFile for Liar<SimFile> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        self.inner.reserve(len)
    }

    fn trim(&mut self) -> io::Result<()> {
        self.inner.trim()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        // All but the first few, which make a log begin.
        let lies = match self.lie {
            Lie::Honest | Lie::Names => false,
            Lie::Log | Lie::Snapshot => true,
            Lie::EndOfLog => self.syncs > 3,
        };
        if lies { Ok(()) } else { self.inner.sync() }
    }
}

fn caught(lie: Lie, seeds: u64) -> bool {
    (0..seeds).any(|seed| lives(seed, |inner| Liar { inner, lie, syncs: 0 }).is_err())
}

#[test]
fn a_lie_about_any_sync_is_noticed() {
    assert!(!caught(Lie::Honest, 200));
    for lie in [Lie::Log, Lie::Snapshot, Lie::Names, Lie::EndOfLog] {
        assert!(caught(lie, 2000), "{lie:?}");
    }
}
