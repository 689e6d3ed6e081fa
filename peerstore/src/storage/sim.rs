//! A disk in memory that loses, tears and refuses what a real one may.
//!
//! Invariants:
//! * What [`Storage`] promises is kept, and no more than that: whatever else a machine might find
//!   after a power cut, some seed finds.
//! * The same seeds, calls and faults give the same errors and the same images.
//!
//! Operations are creating, appending, reserving, trimming, syncing, renaming and removing,
//! numbered from 0 over all directories; listing and reading are none. Not modelled: time, other
//! processes, bytes that go bad by themselves (a test does that: [`SimDisk::flip_bit`] and its like).

mod draw;
mod names;
mod node;
mod world;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use self::world::{Extent, When, World};
use super::{Storage, StoredFile};

/// What a store does to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Storage::create`].
    Create,
    /// [`StoredFile::append`].
    Append,
    /// [`StoredFile::reserve`].
    Reserve,
    /// [`StoredFile::trim`].
    Trim,
    /// [`StoredFile::sync`].
    Sync,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::remove`].
    Remove,
    /// [`Storage::sync`].
    SyncNames,
}

/// When the power goes. Whoever asked for the operation gets an error in any case; that it was
/// done and they heard of it is [`Cut::Before`] the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing of the operation was done.
    Before,
    /// Any part of it was.
    During,
    /// All of it was.
    After,
}

impl Cut {
    /// Every moment.
    pub const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];
}

/// What a disk answers instead of doing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `ENOSPC`.
    NoSpace,
    /// `EDQUOT`.
    Quota,
    /// `EROFS`.
    ReadOnly,
    /// `EIO`.
    Io,
    /// `ENOSPC`, with a beginning of what was appended written.
    Short,
}

impl Refusal {
    /// Every answer.
    pub const ALL: [Self; 5] = [Self::NoSpace, Self::Quota, Self::ReadOnly, Self::Io, Self::Short];

    fn error(self) -> io::Error {
        let errno = match self {
            Self::NoSpace | Self::Short => Errno::NOSPC,
            Self::Quota => Errno::DQUOT,
            Self::ReadOnly => Errno::ROFS,
            Self::Io => Errno::IO,
        };
        errno.into()
    }

    /// Whether a disk in this state refuses the operation: a full one still gives room back.
    const fn concerns(self, operation: Operation) -> bool {
        match self {
            Self::ReadOnly | Self::Io => true,
            Self::NoSpace | Self::Quota | Self::Short => match operation {
                Operation::Create | Operation::Append | Operation::Reserve | Operation::Sync => {
                    true
                }
                Operation::Trim | Operation::Rename | Operation::Remove | Operation::SyncNames => {
                    false
                }
            },
        }
    }
}

/// How long a disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// One operation.
    Once,
    /// That operation and every later one that such a disk refuses, until [`SimDisk::heal`].
    UntilHealed,
}

/// The disk: several directories, each a [`Storage`]. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    /// An empty disk; `seed` decides what operations that fail leave behind.
    pub fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    fn of(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory, which is there from now on if it was not.
    pub fn dir(&self, name: &str) -> SimDir {
        self.world().add_dir(name);
        SimDir { disk: self.clone(), name: name.to_owned() }
    }

    /// Operations asked for so far, which is the number of the next one.
    pub fn operations(&self) -> u64 {
        self.world().log.len() as u64
    }

    /// What was asked for, in order.
    pub fn log(&self) -> Vec<Operation> {
        self.world().log.clone()
    }

    /// Cuts the power at operation `number`; every call fails from there on.
    pub fn cut_at(&self, number: u64, cut: Cut) {
        self.world().cut = Some((number, cut));
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.world().off = true;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.world().off
    }

    /// Refuses operation `number`, whatever it is.
    pub fn refuse_at(&self, number: u64, refusal: Refusal, lasting: Lasting) {
        self.world().plan(When::At(number), refusal, lasting);
    }

    /// Refuses the next operation of this kind.
    pub fn refuse_next(&self, operation: Operation, refusal: Refusal, lasting: Lasting) {
        self.world().plan(When::Next(operation), refusal, lasting);
    }

    /// Refuses nothing any more, and nothing that it was yet to refuse. What was lost stays lost.
    pub fn heal(&self) {
        self.world().heal();
    }

    /// The disk as a machine might find it if the power went now, or when it did: what was synced,
    /// and of the rest what `seed` says. This disk stays as it is, so that one may look at several.
    #[must_use]
    pub fn after_crash(&self, seed: u64) -> Self {
        Self::of(self.world().after_crash(seed))
    }

    /// Bytes that once lay on this disk: reserved room and sectors that were not written may hold
    /// pieces of them after a crash, instead of zeros or random bytes.
    pub fn leave_behind(&self, bytes: &[u8]) {
        self.world().stale.extend_from_slice(bytes);
    }

    /// Every file with its directory and length, in order.
    pub fn files(&self) -> Vec<(String, String, usize)> {
        self.world().files()
    }

    /// All bytes of a file, if it is there.
    pub fn contents(&self, dir: &str, name: &str) -> Option<Vec<u8>> {
        self.world().node(dir, name).ok().map(|node| node.bytes())
    }

    /// Puts a file there, synced, or another content in its place.
    pub fn put(&self, dir: &str, name: &str, bytes: &[u8]) {
        self.world().put(dir, name, bytes);
    }

    /// Turns one bit of a file, bit 0 being the lowest of its first byte.
    ///
    /// # Panics
    /// If there is no such file or bit.
    pub fn flip_bit(&self, dir: &str, name: &str, bit: usize) {
        self.damage(dir, name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }

    /// Cuts a file off behind `len` bytes.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn truncate(&self, dir: &str, name: &str, len: usize) {
        self.damage(dir, name, |bytes| bytes.truncate(len));
    }

    /// Puts `with` at `at` of a file, which grows if need be.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn overwrite(&self, dir: &str, name: &str, at: usize, with: &[u8]) {
        self.damage(dir, name, |bytes| {
            bytes.resize(bytes.len().max(at + with.len()), 0);
            bytes[at..at + with.len()].copy_from_slice(with);
        });
    }

    /// Reading this file fails with `EIO` from now on.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, dir: &str, name: &str) {
        let mut world = self.world();
        world.node(dir, name).expect("a test names a file that is there").unreadable = true;
    }

    fn damage(&self, dir: &str, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        world.node(dir, name).expect("a test names a file that is there").damage(change);
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.operations();
        f.debug_struct("SimDisk").field("operations", &operations).finish_non_exhaustive()
    }
}

/// A directory of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimDir {
    disk: SimDisk,
    name: String,
}

impl Storage for SimDir {
    type File = SimFile;
    type Bytes = Vec<u8>;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut world = self.disk.world();
        world.powered()?;
        Ok(world.names(&self.name).all().map(|(name, _)| name.clone()).collect())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let create = |world: &mut World, _| world.add_node(&self.name, name);
        let node = self.disk.world().run(Operation::Create, create)?;
        Ok(SimFile { disk: self.disk.clone(), node })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut world = self.disk.world();
        world.powered()?;
        let node = world.node(&self.name, name)?;
        if node.unreadable {
            return Err(Errno::IO.into());
        }
        node.sync();
        Ok(node.bytes())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.world().run(Operation::Rename, |world, _| {
            let names = world.names(&self.name);
            let node = names.find(from).ok_or(Errno::NOENT)?;
            if from != to {
                names.change(node, Some(from), Some(to));
            }
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.world().run(Operation::Remove, |world, _| {
            let names = world.names(&self.name);
            let node = names.find(name).ok_or(Errno::NOENT)?;
            names.change(node, Some(name), None);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.world().run(Operation::SyncNames, |world, extent| {
            world.sync_names(&self.name, extent);
            Ok(())
        })
    }
}

/// A file of a [`SimDisk`] that is being written.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    node: usize,
}

impl StoredFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.run(Operation::Append, |world, node, extent| world.append(node, bytes, extent))
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| Errno::FBIG)?;
        self.run(Operation::Reserve, |world, node, _| world.nodes[node].reserve(len))
    }

    fn trim(&mut self) -> io::Result<()> {
        self.run(Operation::Trim, |world, node, _| world.nodes[node].trim())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.run(Operation::Sync, World::sync)
    }
}

impl SimFile {
    fn run(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut World, usize, Extent),
    ) -> io::Result<()> {
        self.disk.world().run(operation, |world, extent| {
            act(world, self.node, extent);
            Ok(())
        })
    }
}
