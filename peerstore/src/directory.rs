//! The directory of a router's stores: one directory `shard-<id>` each, and a lock.
//!
//! Invariants:
//! * While a [`StoreDir`] that was opened for writing lives, or a [`Disk`] of it, no other does, in
//!   this process or another; while one for reading lives, none for writing does.
//! * A directory that was handed out is there after a crash: whoever has it was told only after its
//!   parent was synced.
//!
//! What is in the directories is not known here.

use std::fmt;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::lock::{Lock, Refused};
use crate::storage::Disk;

/// Name of the file that is locked.
const LOCK: &str = "lock";
/// What the name of a shard's directory begins with.
const PREFIX: &str = "shard-";

/// The directory, locked as long as this or a [`Disk`] of it lives.
#[derive(Debug)]
pub struct StoreDir {
    path: PathBuf,
    lock: Arc<Lock>,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

/// Why a directory could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Held {
        /// The directory.
        path: PathBuf,
        /// The process that writes to it, if it is known and still there; it is not if the
        /// directory is only being read.
        pid: Option<u32>,
    },
    /// There is no directory to read, or no lock in it.
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// The system says no.
    Io {
        /// What was tried, as in "cannot {doing} {path}".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid: Some(pid) } => {
                write!(f, "{} is in use by process {pid}", path.display())
            }
            Self::Held { path, pid: None } => {
                write!(f, "{} is in use by another process", path.display())
            }
            Self::NoStore { path } => {
                write!(f, "{} is not the directory of a store: it has no lock file", path.display())
            }
            Self::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Held { .. } | Self::NoStore { .. } => None,
        }
    }
}

impl StoreDir {
    /// Opens the directory at `path`, or makes it in a parent that is there. Nobody but its owner
    /// may look into it.
    ///
    /// # Errors
    /// [`OpenError::Held`] if another has it, to write or to read; else what the system says.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        make_dir(path, Parents::Expected).map_err(|error| failed("make", path, error))?;
        Self::open_made(path)
    }

    /// As [`Self::open`]; makes the directory's parents too.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_parents(path: &Path) -> Result<Self, OpenError> {
        make_dir(path, Parents::Made).map_err(|error| failed("make", path, error))?;
        Self::open_made(path)
    }

    fn open_made(path: &Path) -> Result<Self, OpenError> {
        // What is no store yet may be somebody's directory for other things; a new one is closed.
        if path.join(LOCK).exists() {
            close_to_others(path).map_err(|error| failed("restrict", path, error))?;
        }
        let lock = Lock::to_write(&path.join(LOCK)).map_err(|refused| not_locked(path, refused))?;
        Ok(Self { path: path.to_owned(), lock: Arc::new(lock), access: Access::Write })
    }

    /// Opens the directory at `path` to look into it; nothing of it can be changed.
    ///
    /// # Errors
    /// [`OpenError::NoStore`] if there is none, [`OpenError::Held`] if another writes to it; else
    /// what the system says.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let lock = Lock::to_read(&path.join(LOCK)).map_err(|refused| not_locked(path, refused))?;
        Ok(Self { path: path.to_owned(), lock: Arc::new(lock), access: Access::Read })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shards that have a directory, in order.
    ///
    /// # Errors
    /// What the system says.
    pub fn shards(&self) -> io::Result<Vec<u16>> {
        let mut shards = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let shard = entry.file_name().to_str().and_then(shard_of);
            if let (Some(shard), true) = (shard, entry.file_type()?.is_dir()) {
                shards.push(shard);
            }
        }
        shards.sort_unstable();
        Ok(shards)
    }

    /// The directory of a shard, made if it is not there.
    ///
    /// # Errors
    /// What the system says; `NotFound` if it is not there and may not be made.
    pub fn shard(&self, id: u16) -> io::Result<Disk> {
        let path = self.shard_path(id);
        match self.access {
            Access::Read => Ok(Disk::open_read_only(&path)?.under(&self.lock)),
            Access::Write => {
                make_dir(&path, Parents::Expected)?;
                Ok(Disk::open(&path)?.under(&self.lock))
            }
        }
    }

    /// Takes out the directory of a shard, which has to be empty: no file is lost by this.
    ///
    /// # Errors
    /// What the system says; `DirectoryNotEmpty` if a file is left, `NotFound` if it is not there,
    /// `ReadOnlyFilesystem` if this was opened to read.
    pub fn remove_shard(&self, id: u16) -> io::Result<()> {
        if self.access == Access::Read {
            return Err(Errno::ROFS.into());
        }
        std::fs::remove_dir(self.shard_path(id))?;
        sync_dir(&self.path)
    }

    fn shard_path(&self, id: u16) -> PathBuf {
        self.path.join(format!("{PREFIX}{id}"))
    }
}

fn failed(doing: &'static str, path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), error }
}

fn not_locked(path: &Path, refused: Refused) -> OpenError {
    match refused {
        Refused::Held(pid) => OpenError::Held { path: path.to_owned(), pid },
        Refused::Missing => OpenError::NoStore { path: path.to_owned() },
        Refused::Io(error) => failed("lock", path, error),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parents {
    Made,
    Expected,
}

/// Makes a directory, or finds it; either way its name is synced when this returns.
fn make_dir(path: &Path, parents: Parents) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let mut made = create_dir(path);
    if parents == Parents::Made && is(&made, io::ErrorKind::NotFound) {
        make_dir(parent, parents)?;
        made = create_dir(path);
    }
    let synced = sync_dir(parent);
    match made {
        // What was there in a place that we may not look into, we did not make.
        Ok(New::No) if is(&synced, io::ErrorKind::PermissionDenied) => Ok(()),
        Ok(New::No | New::Yes) => synced,
        Err(error) => Err(error),
    }
}

fn is<T>(result: &io::Result<T>, kind: io::ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

enum New {
    Yes,
    No,
}

fn create_dir(path: &Path) -> io::Result<New> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(New::Yes),
        Err(_) if path.is_dir() => Ok(New::No),
        Err(error) => Err(error),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes from others what they may do with our directory. One that belongs to somebody else is
/// theirs to open or close; the files in it are closed in any case.
fn close_to_others(path: &Path) -> io::Result<()> {
    let found = std::fs::metadata(path)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & !0o077))
}

/// The shard of `shard-<id>`, which is written in one way only.
fn shard_of(name: &str) -> Option<u16> {
    let id = name.strip_prefix(PREFIX)?;
    let shard: u16 = id.parse().ok()?;
    (shard.to_string() == id).then_some(shard)
}
