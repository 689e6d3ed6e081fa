//! One anonymous mapping that all slots of a pool live in.

use std::io;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions};

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
#[derive(Debug)]
pub struct Arena {
    map: MmapMut,
    huge: bool,
}

impl Arena {
    /// Maps `bytes` (rounded up to whole pages by the kernel). With `prefault`
    /// every page is touched now, so that no packet pays for a page fault.
    ///
    /// # Errors
    /// The error of `mmap(2)`; with [`Hugepages::Auto`] only that of the
    /// fallback to normal pages.
    pub fn map(bytes: usize, hugepages: Hugepages, prefault: bool) -> io::Result<Self> {
        if hugepages != Hugepages::Off {
            match Self::map_with(bytes, Some(HUGEPAGE_BITS), prefault) {
                Err(error) if hugepages == Hugepages::Required => return Err(error),
                Ok(arena) => return Ok(arena),
                Err(_) => {}
            }
        }
        Self::map_with(bytes, None, prefault)
    }

    fn map_with(bytes: usize, huge_bits: Option<u8>, prefault: bool) -> io::Result<Self> {
        let page = 1usize << huge_bits.unwrap_or(12);
        let mut options = MmapOptions::new();
        options.len(bytes.next_multiple_of(page));
        if let Some(bits) = huge_bits {
            options.huge(Some(bits));
        }
        if prefault {
            options.populate();
        }
        Ok(Self { map: options.map_anon()?, huge: huge_bits.is_some() })
    }

    /// First byte of the mapping, aligned to a page.
    pub(crate) fn base(&mut self) -> NonNull<u8> {
        NonNull::from(&mut self.map[..]).cast()
    }

    /// Size in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the mapping is empty; never true for an arena a pool made.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether huge pages back the mapping.
    pub fn huge(&self) -> bool {
        self.huge
    }
}
