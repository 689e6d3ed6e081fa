//! The floor: a bare append log.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Sink;
use crate::work::{ID_BYTES, Update};

const NAME: &str = "log";
/// Bytes that are written at once, while a cache holds them; a group may be several.
const BATCH_BYTES: usize = 1024 * 1024;
/// Bytes of a record's length and checksum.
const HEAD_BYTES: usize = 8;

pub struct Floor {
    file: File,
    batch: Vec<u8>,
}

impl Floor {
    pub fn create(dir: &Path) -> Result<Self> {
        let file = File::create_new(dir.join(NAME))?;
        File::open(dir)?.sync_all()?;
        Ok(Self { file, batch: Vec::with_capacity(2 * BATCH_BYTES) })
    }
}

impl Floor {
    fn write(&mut self) -> Result<()> {
        self.file.write_all(&self.batch)?;
        self.batch.clear();
        Ok(())
    }
}

impl Sink for Floor {
    fn put(&mut self, updates: &[Update]) -> Result<()> {
        for update in updates {
            self.batch.extend_from_slice(&u32::try_from(update.len())?.to_le_bytes());
            self.batch.extend_from_slice(&crc32c::crc32c(update).to_le_bytes());
            self.batch.extend_from_slice(update);
        }
        if self.batch.len() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        self.write()?;
        Ok(self.file.sync_data()?)
    }

    fn close(mut self: Box<Self>) -> Result<u64> {
        self.commit().map(|()| 0)
    }
}

pub fn read(dir: &Path, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
    let bytes = std::fs::read(dir.join(NAME))?;
    let mut rest = &bytes[..];
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let [a, b, c, d, sum @ ..] = *head;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d]))?;
        let (update, behind) = behind.split_at_checked(len).context("a record is cut short")?;
        ensure!(crc32c::crc32c(update) == u32::from_le_bytes(sum), "a record is damaged");
        let (id, value) = update.split_at(ID_BYTES);
        each(id, value);
        rest = behind;
    }
    Ok(())
}
