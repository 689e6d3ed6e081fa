//! The disk as a store sees it: one directory of files that only grow.
//!
//! `Disk` is the real one. `sim::SimDisk` keeps everything in memory, remembers what was
//! synced, and loses, tears and refuses what a real one may: it is how crashes are tested.
//!
//! What an implementation owes is little, and a store may rely on nothing else:
//! * Bytes appended are there after a crash once [`StoredFile::sync`] returned `Ok` behind them;
//!   before, any subset of their sectors may be there.
//! * A file's name, and what [`Storage::rename`] and [`Storage::remove`] did, are there after a crash
//!   once [`Storage::sync`] returned `Ok` behind them; before, each may or may not have happened.
//! * What a failed sync was about is lost or not; syncing again says nothing of it.

mod disk;
pub mod sim;

use std::io;
use std::ops::Deref;

pub use self::disk::{Disk, DiskFile};

/// A directory.
pub trait Storage {
    /// A file that is being written.
    type File: StoredFile;
    /// The bytes of a file that is read.
    type Bytes: Deref<Target = [u8]>;

    /// Names of its files, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one of this name; what else the system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// All of a file, which nobody writes to any more, and which lasts from then on as far as the
    /// disk can make it: an earlier process may have been killed with it written and not synced, and
    /// who reads it tells others that it is kept.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none of this name; what else the system says.
    fn read(&self, name: &str) -> io::Result<Self::Bytes>;

    /// Gives a file another name, in the place of what had that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file out.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names last.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being written, from its beginning to its end.
pub trait StoredFile {
    /// Puts bytes behind those that are there.
    ///
    /// # Errors
    /// What the system says; any beginning of `bytes` may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reserves room for the file to have `len` bytes. Those not written read as zeros, if they
    /// are part of the file at all.
    ///
    /// # Errors
    /// What the system says, first of all that there is no room.
    fn reserve(&mut self, len: u64) -> io::Result<()>;

    /// Gives back what was reserved and not written.
    ///
    /// # Errors
    /// What the system says.
    fn trim(&mut self) -> io::Result<()>;

    /// Makes what was appended last (`fdatasync`).
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}
