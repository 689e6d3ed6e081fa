//! A mapped array of 64-bit cells: one writer, any number of readers.
//!
//! Counters live in such a file, so that `status` and the metrics endpoint read
//! them without asking the shard, even while it is busy and after a crash.
//! [`Cells`] is the writer's end, [`CellsView`] the readers': a view has no way
//! to store, since its mapping is read-only.
//!
//! Not a database: nothing is ever synced, and two writers of one file would
//! lose each other's additions.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::align_of;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// The writer's end: cells in a file, or private when there is none. Every `Cells` made its own
/// memory or was told that the one who made it is gone, so there is one writer.
#[derive(Debug)]
pub struct Cells {
    map: Map,
}

/// A reader's end of the cells in a file.
#[derive(Debug)]
pub struct CellsView {
    map: Map,
}

impl Cells {
    /// `len` zeroed cells in a new file at `path` (mode 0644 less the umask).
    ///
    /// A file that is there is replaced in one step: readers who mapped it keep
    /// the old one, and nobody ever sees a file of the wrong size.
    ///
    /// # Errors
    /// Those of creating, sizing, mapping and renaming the file; `InvalidInput` for no cells.
    pub fn create(path: &Path, len: usize) -> io::Result<Self> {
        let bytes = bytes_of(len)?;
        let fresh = beside(path);
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o644).open(&fresh)?;
        file.set_len(u64::try_from(bytes).map_err(io::Error::other)?)?;
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        std::fs::rename(&fresh, path)?;
        Ok(Self { map: Map { map, len } })
    }

    /// The cells of the file that a writer who is gone left at `path`, as it left them: readers who
    /// mapped it go on reading.
    ///
    /// # Errors
    /// Those of opening and mapping the file; `InvalidData` if it does not hold `len` cells.
    pub fn take_over(path: &Path, len: usize) -> io::Result<Self> {
        let bytes = bytes_of(len)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != u64::try_from(bytes).map_err(io::Error::other)? {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { map: Map { map: MmapOptions::new().len(bytes).map_raw(&file)?, len } })
    }

    /// `len` zeroed cells in anonymous memory.
    ///
    /// # Errors
    /// That of `mmap(2)`; `InvalidInput` for no cells.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(bytes_of(len)?)?;
        Ok(Self { map: Map { map: map.into(), len } })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.map.len
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.map.len == 0
    }

    /// Value of cell `index`.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        self.map.cell(index).load(Ordering::Relaxed)
    }

    /// Sets cell `index`.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn store(&self, index: usize, value: u64) {
        self.map.cell(index).store(value, Ordering::Relaxed);
    }

    /// Adds to cell `index` by a plain load and store: right for the one writer
    /// only, and a third of the cost of a locked addition.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn add(&self, index: usize, n: u64) {
        let cell = self.map.cell(index);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

impl CellsView {
    /// Maps the cells of an existing file for reading. Whoever may truncate
    /// that file can crash the reader, so keep it where only the writer writes.
    ///
    /// # Errors
    /// Those of opening and mapping the file; `InvalidData` if it holds no cell.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let len = bytes / size_of::<AtomicU64>();
        if len == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&file)?;
        Ok(Self { map: Map { map, len } })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.map.len
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.map.len == 0
    }

    /// Value of cell `index`.
    ///
    /// # Panics
    /// If there is no such cell.
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        self.map.cell(index).load(Ordering::Relaxed)
    }
}

/// `len` cells at the start of a mapping.
#[derive(Debug)]
struct Map {
    map: MmapRaw,
    len: usize,
}

impl Map {
    #[inline]
    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "no such cell");
        const { assert!(align_of::<AtomicU64>() <= 4096, "a mapping is page-aligned") };
        let cells = self.map.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: inside the mapping, which lives as long as `self`; page-aligned; other processes
        // only ever touch it as atomics of the same size; a view only loads, relaxed, which is
        // sound on read-only memory.
        unsafe { &*cells.wrapping_add(index) }
    }
}

fn bytes_of(len: usize) -> io::Result<usize> {
    let bytes = len.checked_mul(size_of::<AtomicU64>()).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Name of the file while it is being made.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_the_writer_stored_and_outlives_a_restart() {
        let path = std::env::temp_dir().join(format!("molia-cells-{}", std::process::id()));
        let writer = Cells::create(&path, 8).unwrap();
        let reader = CellsView::open(&path).unwrap();
        writer.add(3, 40);
        writer.add(3, 2);
        writer.store(7, u64::MAX);
        assert_eq!((reader.len(), reader.load(3), reader.load(4)), (8, 42, 0));
        let restarted = Cells::create(&path, 4).unwrap();
        assert_eq!((reader.load(3), reader.load(7)), (42, u64::MAX), "the old file stays mapped");
        let later = CellsView::open(&path).unwrap();
        assert_eq!((later.len(), later.load(3), restarted.load(3)), (4, 0, 0));
        restarted.store(3, 5);
        drop(restarted);
        let next = Cells::take_over(&path, 4).unwrap();
        next.add(3, 1);
        assert_eq!(later.load(3), 6, "the same file, as it was left");
        assert_eq!(Cells::take_over(&path, 8).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!beside(&path).exists());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn no_cells_is_an_error_on_either_end() {
        let path = std::env::temp_dir().join(format!("molia-no-cells-{}", std::process::id()));
        assert_eq!(Cells::anonymous(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Cells::create(&path, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(CellsView::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[should_panic(expected = "no such cell")]
    fn the_last_cell_is_the_last() {
        Cells::anonymous(8).unwrap().load(8);
    }
}
