//! One anonymous mapping that all slots of a pool live in.

use std::io;
use std::ptr::NonNull;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// log2 of the huge page size asked for (2 MiB on x86-64 and arm64).
const HUGEPAGE_BITS: u8 = 21;

/// What to back an arena with (`io/hugepages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Huge pages if the system has them reserved, else normal pages.
    #[default]
    Auto,
    /// Normal pages.
    Off,
    /// 2 MiB pages or an error.
    Required,
}

/// A zero-filled, page-aligned, private mapping of fixed size.
///
/// Held as a raw mapping: no reference to the whole of it is ever made, so that
/// references to its slots never overlap another one.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
    huge: bool,
}

impl Arena {
    /// Maps `bytes`, rounded up to whole pages. With `prefault` every page is
    /// touched now, so that no packet pays for a page fault.
    ///
    /// # Errors
    /// The error of `mmap(2)`; with [`Hugepages::Auto`] only that of the
    /// fallback to normal pages.
    pub fn map(bytes: usize, hugepages: Hugepages, prefault: bool) -> io::Result<Self> {
        match hugepages {
            Hugepages::Off => Self::map_with(bytes, None, prefault),
            Hugepages::Required => Self::map_with(bytes, Some(HUGEPAGE_BITS), prefault),
            Hugepages::Auto => Self::map_with(bytes, Some(HUGEPAGE_BITS), prefault)
                .or_else(|_| Self::map_with(bytes, None, prefault)),
        }
    }

    /// A huge mapping reserves its pages at `mmap(2)`, but under a cgroup's limit
    /// for huge pages the first touch of one too many is a deadly signal. So they
    /// are always touched here, in a way that reports it.
    fn map_with(bytes: usize, huge_bits: Option<u8>, prefault: bool) -> io::Result<Self> {
        let page = 1usize << huge_bits.unwrap_or(12);
        let bytes = bytes.checked_next_multiple_of(page).ok_or(io::ErrorKind::InvalidInput)?;
        let mut options = MmapOptions::new();
        options.len(bytes);
        if let Some(bits) = huge_bits {
            options.huge(Some(bits));
        }
        let huge = huge_bits.is_some();
        if prefault && !huge {
            options.populate();
        }
        let map = options.map_anon()?;
        if huge {
            map.advise(Advice::PopulateWrite)?;
        }
        Ok(Self { map: map.into(), huge })
    }

    /// First byte of the mapping, aligned to a page; valid as long as `self`.
    pub fn base(&self) -> NonNull<u8> {
        NonNull::new(self.map.as_mut_ptr()).unwrap_or(NonNull::dangling())
    }

    /// Size in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the mapping is empty.
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// Whether huge pages back the mapping.
    pub fn huge(&self) -> bool {
        self.huge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_gets_memory_and_rounds_up() {
        let arena = Arena::map(5000, Hugepages::Auto, false).unwrap();
        assert!(arena.len() >= 5000 && arena.len().is_multiple_of(4096));
        assert_eq!(arena.base().as_ptr().addr() % 4096, 0);
        let plain = Arena::map(5000, Hugepages::Off, false).unwrap();
        assert_eq!((plain.len(), plain.huge(), plain.is_empty()), (8192, false, false));
    }

    #[test]
    fn a_size_beyond_the_address_space_is_an_error() {
        assert!(Arena::map(usize::MAX - 5, Hugepages::Auto, false).is_err());
        assert!(Arena::map(usize::MAX / 4, Hugepages::Off, false).is_err());
    }
}
