//! The real disk: a directory of the file system.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bufpool::FileMap;
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Storage, StoredFile};
use crate::lock::Lock;

/// Who may read and write a file: its owner.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A directory that this process has for itself: the bytes read from it rest on that. One of a
/// [`crate::directory::StoreDir`] keeps its lock; for any other, whoever opened it answers.
#[derive(Debug)]
pub struct Disk {
    dir: OwnedFd,
    writable: bool,
    _lock: Option<Arc<Lock>>,
}

impl Disk {
    /// The directory at `path`.
    ///
    /// # Errors
    /// What the system says; `NotADirectory` if it is none, or a link to one.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: open_dir(path)?, writable: true, _lock: None })
    }

    /// The directory at `path`, of which nothing can be changed: whatever would do so fails with
    /// `ReadOnlyFilesystem`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: open_dir(path)?, writable: false, _lock: None })
    }

    /// Held as long as the directory is.
    pub(crate) fn under(self, lock: &Arc<Lock>) -> Self {
        Self { _lock: Some(lock.clone()), ..self }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(Errno::ROFS.into()) }
    }

    /// Opens a file of the directory itself: no link out of it, and no waiting for one to write to
    /// a pipe.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.dir, checked(name)?, flags, FILE_MODE)?.into())
    }

    fn is_file(&self, entry: &rustix::fs::DirEntry) -> io::Result<bool> {
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(&self.dir, entry.file_name(), flags)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        Ok(kind == FileType::RegularFile)
    }
}

/// A directory, not a link to one.
fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The name of a file here, not a path to one elsewhere.
fn checked(name: &str) -> io::Result<&str> {
    let elsewhere = name.is_empty() || name == "." || name == ".." || name.contains('/');
    if elsewhere { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(name) }
}

impl Storage for Disk {
    type File = DiskFile;
    type Bytes = FileMap;

    /// Names that are not UTF-8 are none of ours, and left out.
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            if let (Ok(name), true) = (entry.file_name().to_str(), self.is_file(&entry)?) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        self.check_writable()?;
        let file = self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        Ok(DiskFile { file, written: 0, reserved: 0 })
    }

    fn read(&self, name: &str) -> io::Result<FileMap> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.check_writable().is_ok() {
            // A disk that cannot do it will say so of the next log, too.
            let _ = rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&file));
        }
        FileMap::new(&file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        Ok(rustix::fs::renameat(&self.dir, checked(from)?, &self.dir, checked(to)?)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        Ok(rustix::fs::unlinkat(&self.dir, checked(name)?, AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        self.check_writable()?;
        Ok(rustix::io::retry_on_intr(|| rustix::fs::fsync(&self.dir))?)
    }
}

/// A file of a [`Disk`] that is being written.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    /// Bytes appended, also by calls that failed behind them.
    written: u64,
    /// Length that was asked for.
    reserved: u64,
}

impl StoredFile for DiskFile {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.written += len as u64;
                    bytes = &bytes[len..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A file system that cannot reserve is none that fails: the room is found, or not, when the
    /// bytes come.
    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let have = self.reserved.max(self.written);
        if len <= have {
            return Ok(());
        }
        let reserve =
            || rustix::fs::fallocate(&self.file, FallocateFlags::empty(), have, len - have);
        match rustix::io::retry_on_intr(reserve) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.reserved = len,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        self.file.set_len(self.written)?;
        self.reserved = 0;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
