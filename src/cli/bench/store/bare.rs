//! The floor: lengths, checksums and payloads, one behind the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::{Payload, RECORD_BYTES};

const NAME: &str = "log";
/// Bytes of a record's length and checksum.
const HEAD_BYTES: usize = 8;

/// How often a log is written and synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Records of one write.
    write_records: u64,
    /// Writes of one sync.
    sync_writes: u64,
}

impl Pace {
    /// So many writes and syncs of so many records.
    pub(super) fn of(records: u64, writes: u64, syncs: u64) -> Self {
        let writes = writes.max(1);
        let write_records = records.div_ceil(writes).max(1);
        Self { write_records, sync_writes: (writes / syncs.max(1)).max(1) }
    }
}

/// A log that is written.
pub(super) struct Bare {
    file: File,
    batch: Vec<u8>,
    pace: Pace,
    staged: u64,
    unsynced_writes: u64,
}

impl Bare {
    pub(super) fn create(dir: &Path, pace: Pace) -> io::Result<Self> {
        let file = File::create_new(dir.join(NAME))?;
        let batch = Vec::with_capacity(4 << 20);
        Ok(Self { file, batch, pace, staged: 0, unsynced_writes: 0 })
    }

    pub(super) fn put(&mut self, payloads: &[Payload]) -> io::Result<()> {
        for payload in payloads {
            let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
            self.batch.extend_from_slice(&len.to_le_bytes());
            self.batch.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            self.batch.extend_from_slice(payload);
            self.staged += 1;
            if self.staged >= self.pace.write_records {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.batch)?;
        self.batch.clear();
        self.staged = 0;
        self.unsynced_writes += 1;
        if self.unsynced_writes >= self.pace.sync_writes {
            self.file.sync_data()?;
            self.unsynced_writes = 0;
        }
        Ok(())
    }

    pub(super) fn close(mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_data()
    }
}

/// How many records the log in `dir` has, all of them good.
pub(super) fn read(dir: &Path) -> io::Result<u64> {
    let bytes = fs::read(dir.join(NAME))?;
    let (frames, rest) = bytes.as_chunks::<{ HEAD_BYTES + RECORD_BYTES }>();
    let good = |frame: &[u8; HEAD_BYTES + RECORD_BYTES]| {
        frame[4..8] == crc32c::crc32c(&frame[HEAD_BYTES..]).to_le_bytes()
    };
    let whole = rest.is_empty() && frames.iter().all(good);
    if whole { Ok(frames.len() as u64) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_writes_and_syncs_as_often_as_it_is_told() {
        assert_eq!(Pace::of(1000, 10, 5), Pace { write_records: 100, sync_writes: 2 });
        assert_eq!(Pace::of(1000, 1000, 1000), Pace { write_records: 1, sync_writes: 1 });
        assert_eq!(Pace::of(1000, 3, 0), Pace { write_records: 334, sync_writes: 3 });
        assert_eq!(Pace::of(0, 0, 0), Pace { write_records: 1, sync_writes: 1 });
    }
}
