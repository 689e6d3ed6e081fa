//! A disk that is timed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use peerstore::storage::{Disk, DiskFile, Storage, StoredFile};

use crate::clock::Clock;

/// What was written, and how long each sync took, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Syncs(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    sync_ns: Vec<u64>,
}

impl Syncs {
    /// Bytes written so far, and the syncs in `into`.
    pub(super) fn take(&self, mut into: Histogram<u64>) -> (u64, Histogram<u64>) {
        self.with(|seen| {
            seen.sync_ns.drain(..).for_each(|ns| into.saturating_record(ns));
            (seen.bytes, into)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A directory of files that are timed.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) disk: Disk,
    pub(super) syncs: Syncs,
}

impl Storage for Timed {
    type File = TimedFile;
    type Bytes = <Disk as Storage>::Bytes;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<TimedFile> {
        Ok(TimedFile { file: self.disk.create(name)?, syncs: self.syncs.clone() })
    }

    fn read(&self, name: &str) -> io::Result<Self::Bytes> {
        self.disk.read(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

/// A file whose syncs are timed.
#[derive(Debug)]
pub(super) struct TimedFile {
    file: DiskFile,
    syncs: Syncs,
}

impl StoredFile for TimedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.syncs.with(|seen| seen.bytes += bytes.len() as u64);
        self.file.append(bytes)
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn trim(&mut self) -> io::Result<()> {
        self.file.trim()
    }

    fn sync(&mut self) -> io::Result<()> {
        let clock = Clock::start();
        self.file.sync()?;
        self.syncs.with(|seen| seen.sync_ns.push(clock.moment().as_nanos()));
        Ok(())
    }
}
