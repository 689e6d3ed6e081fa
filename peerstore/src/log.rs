//! The log that is being written, and what of it may have to be written again.
//!
//! Invariants:
//! * A log counts as begun once its header and its name last; only then is anything acknowledged
//!   that is in it.
//! * [`Pending`] holds every frame that is not known to last, written or not. It is given up only
//!   behind a sync that succeeded.

use std::io;

use crate::fault::Fault;
use crate::frame;
use crate::header::{Epoch, FileHeader, FileKind, HEADER_BYTES, Shard};
use crate::kind::Kind;
use crate::names;
use crate::storage::{Storage, StoredFile};

/// What the headers of a store's files say of whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) shard: Shard,
    pub(crate) partition_hash: u64,
}

impl Owner {
    pub(crate) fn header(self, file: FileKind, epoch: Epoch, created_unix_s: u64) -> FileHeader {
        let Self { shard, partition_hash } = self;
        FileHeader { file, shard, epoch, partition_hash, created_unix_s }
    }

    /// Whether the file with this header is one of them.
    pub(crate) fn owns(self, header: &FileHeader) -> bool {
        header.shard == self.shard && header.partition_hash == self.partition_hash
    }
}

/// The frames since the last sync that succeeded: first those that were written, then those that
/// were not.
#[derive(Debug)]
pub(crate) struct Pending {
    frames: Vec<u8>,
    written: usize,
}

impl Pending {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { frames: Vec::with_capacity(bytes), written: 0 }
    }

    pub(crate) fn push(&mut self, epoch: Epoch, kind: Kind, payload: &[u8]) {
        frame::push(&mut self.frames, epoch, kind, payload);
    }

    /// Those that were not written.
    pub(crate) fn staged(&self) -> &[u8] {
        &self.frames[self.written..]
    }

    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whatever there is was handed to the file.
    pub(crate) fn wrote_all(&mut self) {
        self.written = self.frames.len();
    }

    /// Whatever there is lasts.
    pub(crate) fn synced_all(&mut self) {
        assert_eq!(self.written, self.frames.len(), "what was not written cannot last");
        self.frames.clear();
        self.written = 0;
    }

    /// Nothing counts as written: all of it goes to the log of another epoch.
    pub(crate) fn begin_again(&mut self, epoch: Epoch) {
        self.written = 0;
        frame::reseal(&mut self.frames, epoch);
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log<F> {
    file: F,
    epoch: Epoch,
    len: u64,
    reserved: u64,
    reserve_step: u64,
}

impl<F: StoredFile> Log<F> {
    /// A new log with `frames` in it, all of which last, as does its name. What is left of one that
    /// could not be begun is removed, if that works.
    pub(crate) fn begin<S: Storage<File = F>>(
        storage: &S,
        header: &FileHeader,
        frames: &[u8],
        reserve_step: u64,
    ) -> Result<Self, Fault> {
        let name = names::log(header.epoch);
        let file = storage.create(&name).map_err(Fault::of("create a log"))?;
        let mut log = Self { file, epoch: header.epoch, len: 0, reserved: 0, reserve_step };
        match log.fill(header, frames).and_then(|()| storage.sync()) {
            Ok(()) => Ok(log),
            Err(error) => {
                drop(log);
                // It holds nothing that anybody relies on, and is no harm if it stays.
                let _ = storage.remove(&name);
                Err(Fault::of("begin a log")(error))
            }
        }
    }

    /// The header lasts before what is behind it: else a lost first sector would look like damage.
    fn fill(&mut self, header: &FileHeader, frames: &[u8]) -> io::Result<()> {
        self.append(&header.encode())?;
        self.file.sync()?;
        if frames.is_empty() {
            return Ok(());
        }
        self.append(frames)?;
        self.file.sync()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Bytes of all of it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes behind the header.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.len - HEADER_BYTES as u64
    }

    /// Writes `bytes` at once.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = self.len + bytes.len() as u64;
        if len > self.reserved {
            // Room in big steps, so that a sync has no lengths to write. A file without it is only
            // slower, and if there is no room at all, then appending says so.
            self.reserved = len.next_multiple_of(self.reserve_step.max(1));
            let _ = self.file.reserve(self.reserved);
        }
        self.file.append(bytes)?;
        self.len = len;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Gives back the room it does not need. Nothing depends on it.
    pub(crate) fn trim(&mut self) {
        let _ = self.file.trim();
    }
}
