//! A mapped array of 64-bit cells: one writer, any number of readers.
//!
//! Counters live in such a file, so that `status` and the metrics endpoint read
//! them without asking the shard, even while it is busy and after a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::align_of;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// Cells shared through a file, or private when there is none.
#[derive(Debug)]
pub struct Cells {
    map: MmapRaw,
    len: usize,
}

impl Cells {
    /// `len` zeroed cells in a new file at `path`, which is replaced if it exists (mode 0644).
    ///
    /// # Errors
    /// Those of creating, sizing and mapping the file.
    pub fn create(path: &Path, len: usize) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let bytes = len * size_of::<AtomicU64>();
        file.set_len(u64::try_from(bytes).map_err(io::Error::other)?)?;
        Ok(Self { map: MmapOptions::new().len(bytes).map_raw(&file)?, len })
    }

    /// `len` zeroed cells in anonymous memory.
    ///
    /// # Errors
    /// That of `mmap(2)`.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len * size_of::<AtomicU64>())?;
        Ok(Self { map: map.into(), len })
    }

    /// The cells of an existing file, for reading.
    ///
    /// # Errors
    /// Those of opening and mapping the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(&File::open(path)?)?;
        let len = map.len() / size_of::<AtomicU64>();
        Ok(Self { map, len })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "no such cell");
        const { assert!(align_of::<AtomicU64>() <= 4096, "a mapping is page-aligned") };
        let cells = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: inside the mapping, which lives as long as `self`; page-aligned; other processes
        // only ever touch it as atomics of the same size.
        unsafe { &*cells.wrapping_add(index) }
    }

    /// Value of cell `index`.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        self.cell(index).load(Ordering::Relaxed)
    }

    /// Sets cell `index`. Only the one writer calls this, on cells it created.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn store(&self, index: usize, value: u64) {
        self.cell(index).store(value, Ordering::Relaxed);
    }

    /// Adds to cell `index` by a plain load and store: right for the one writer
    /// only, and a third of the cost of a locked addition.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn add(&self, index: usize, n: u64) {
        let cell = self.cell(index);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_the_writer_stored() {
        let path = std::env::temp_dir().join(format!("molia-cells-{}", std::process::id()));
        let writer = Cells::create(&path, 8).unwrap();
        let reader = Cells::open(&path).unwrap();
        writer.add(3, 40);
        writer.add(3, 2);
        assert_eq!((reader.len(), reader.load(3), reader.load(4)), (8, 42, 0));
        std::fs::remove_file(&path).unwrap();
    }
}
