//! Snapshots: a header, every record there is, and a seal that says how much that is.
//!
//! A snapshot is written under another name, and gets its own when it is whole and lasts; so it is
//! damaged or missing, but never cut short. It is read only as a whole: one bad bit, and none of it
//! is believed.

use crate::fault::Fault;
use crate::frame::{self, FRAME_BYTES_MAX, Frames, OVERHEAD_BYTES};
use crate::header::{Epoch, FileHeader, HEADER_BYTES};
use crate::kind::Kind;
use crate::names;
use crate::record::{Record, Seal};
use crate::storage::{Storage, StoredFile};

/// A snapshot that is being written.
#[derive(Debug)]
pub(crate) struct Snapshot<F> {
    file: F,
    epoch: Epoch,
    batch_bytes: usize,
    /// Frames that were not written.
    buffer: Vec<u8>,
    records: u64,
    bytes: u64,
}

/// One that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) epoch: Epoch,
    /// How many records are in it.
    pub(crate) records: u64,
    /// Bytes of their frames.
    pub(crate) bytes: u64,
    /// Bytes that its end took to write.
    pub(crate) written: u64,
}

impl<F: StoredFile> Snapshot<F> {
    /// A new one that uses `buffer`, in the place of one that was given up.
    pub(crate) fn begin<S: Storage<File = F>>(
        storage: &S,
        header: &FileHeader,
        mut buffer: Vec<u8>,
        batch_bytes: usize,
    ) -> Result<Self, Fault> {
        // There is one only if removing it failed before; if it does again, creating will say so.
        let _ = storage.remove(names::COMPACTION);
        let file = storage.create(names::COMPACTION).map_err(Fault::of("create a snapshot"))?;
        buffer.clear();
        buffer.reserve(batch_bytes + FRAME_BYTES_MAX);
        buffer.extend_from_slice(&header.encode());
        Ok(Self { file, epoch: header.epoch, batch_bytes, buffer, records: 0, bytes: 0 })
    }

    /// Adds a record; how many bytes that made it write.
    pub(crate) fn push(&mut self, kind: Kind, payload: &[u8]) -> Result<u64, Fault> {
        frame::push(&mut self.buffer, self.epoch, kind, payload);
        self.pushed(OVERHEAD_BYTES + payload.len())
    }

    /// The same for a frame that is sealed for its epoch.
    pub(crate) fn push_frame(&mut self, frame: &[u8]) -> Result<u64, Fault> {
        self.buffer.extend_from_slice(frame);
        self.pushed(frame.len())
    }

    fn pushed(&mut self, frame_bytes: usize) -> Result<u64, Fault> {
        self.records += 1;
        self.bytes += frame_bytes as u64;
        if self.buffer.len() < self.batch_bytes { Ok(0) } else { self.flush() }
    }

    /// Writes and syncs what was not written. Syncing each batch keeps the last sync short, which
    /// the log has to wait for.
    pub(crate) fn flush(&mut self) -> Result<u64, Fault> {
        let bytes = self.buffer.len() as u64;
        self.file
            .append(&self.buffer)
            .and_then(|()| self.file.sync())
            .map_err(Fault::of("write a snapshot"))?;
        self.buffer.clear();
        Ok(bytes)
    }

    /// Writes the seal, and all of it lasts; how many bytes that took.
    pub(crate) fn seal(&mut self) -> Result<u64, Fault> {
        let seal = Record::Seal(Seal { records: self.records, bytes: self.bytes });
        frame::push_record(&mut self.buffer, self.epoch, &seal);
        self.flush()
    }

    /// Gives a sealed one its name, which lasts once the directory was synced.
    pub(crate) fn name<S: Storage<File = F>>(&self, storage: &S) -> Result<(), Fault> {
        storage
            .rename(names::COMPACTION, &names::snapshot(self.epoch))
            .and_then(|()| storage.sync())
            .map_err(Fault::of("name a snapshot"))
    }

    /// Seals and names it.
    pub(crate) fn finish<S: Storage<File = F>>(&mut self, storage: &S) -> Result<Done, Fault> {
        let written = self.seal()?;
        self.name(storage)?;
        Ok(Done { epoch: self.epoch, records: self.records, bytes: self.bytes, written })
    }

    /// What the next one may use.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// What a snapshot holds, its header apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    frames: &'a [u8],
    epoch: Epoch,
    /// What its seal says, and what is true.
    pub(crate) seal: Seal,
}

impl<'a> Content<'a> {
    /// The content of the file `bytes`, whose header is in order, if every bit of it is.
    pub(crate) fn check(bytes: &'a [u8], epoch: Epoch) -> Option<Self> {
        let behind = bytes.get(HEADER_BYTES..)?;
        let mut frames = Frames::new(behind, epoch);
        let mut records = 0;
        let (at, end, seal) = frames.find_map(|frame| {
            if let Record::Seal(seal) = frame.record {
                return Some((frame.start, frame.end, seal));
            }
            records += 1;
            None
        })?;
        let true_seal = Seal { records, bytes: at as u64 };
        (seal == true_seal && end == behind.len()).then(|| Self {
            frames: &behind[..at],
            epoch,
            seal,
        })
    }

    /// Its records.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        Frames::new(self.frames, self.epoch).map(|frame| frame.record)
    }
}
