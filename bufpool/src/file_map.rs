//! The bytes of a file that is only read.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;

use memmap2::{Advice, Mmap, MmapOptions};

/// All of a file, mapped where that can be done safely, else read.
///
/// The file must be one that nobody writes to or shortens while this lives, as in a directory that
/// its one user has locked. A disk that cannot be read is an error here, not a signal later: every
/// page is read now. (Of pages that the system takes back when memory is short and cannot read a
/// second time, there is no such promise; so use it for reading once, soon.)
#[derive(Debug)]
pub struct FileMap(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl FileMap {
    /// The bytes of `file` from its beginning, as many as it has now.
    ///
    /// # Errors
    /// Those of looking at, mapping and reading the file.
    pub fn new(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Self::with_len(file, len)
    }

    fn with_len(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Self::read(file, len);
        }
        // SAFETY: the directory is locked and written by us alone, and a file that is read is never
        // written or shortened again: the bytes stay what they are, and there.
        let map = unsafe { MmapOptions::new().len(len).map(file) };
        // What cannot be mapped may be read. Neither may work: then reading says why, which a
        // kernel before 5.14 and a bad sector do not here.
        match map.and_then(|map| map.advise(Advice::PopulateRead).map(|()| map)) {
            Ok(map) => Ok(Self(Bytes::Mapped(map))),
            Err(_) => Self::read(file, len),
        }
    }

    fn read(mut file: &File, len: usize) -> io::Result<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len)?;
        file.read_to_end(&mut bytes)?;
        Ok(Self(Bytes::Read(bytes)))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(name: &str, content: &[u8], check: impl FnOnce(&File)) {
        let path = std::env::temp_dir().join(format!("molia-map-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        check(&File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn mapped_or_read_the_bytes_are_the_same() {
        let content: Vec<u8> = (0..10_007_u32).flat_map(u32::to_le_bytes).collect();
        with_file("same", &content, |file| {
            let map = FileMap::new(file).unwrap();
            assert_eq!(&map[..], content);
            let read = FileMap::read(file, content.len()).unwrap();
            assert_eq!(&read[..], content);
        });
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        with_file("empty", b"", |file| assert!(FileMap::new(file).unwrap().is_empty()));
    }

    /// Touching a page behind the end of a file is the same signal as one that cannot be read.
    #[test]
    fn a_page_that_cannot_be_had_is_no_signal() {
        with_file("short", b"short", |file| {
            assert_eq!(&FileMap::with_len(file, 1 << 20).unwrap()[..], b"short");
        });
    }

    #[test]
    fn what_cannot_be_mapped_is_read_or_an_error() {
        assert!(FileMap::new(&File::open("/proc/self/stat").unwrap()).unwrap().contains(&b'('));
        assert!(FileMap::new(&File::open("/proc/self").unwrap()).is_err(), "a directory");
    }
}
