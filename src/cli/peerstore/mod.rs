//! `peerstore`: what a router remembers, while it does not run.
//!
//! All but `compact` only read; nothing is changed then, not even what a start would set aside or
//! throw away. A router that runs has its store for itself: the tool is refused it, and it is
//! refused the store while the tool is at work.

use std::io;
use std::path::{Path, PathBuf};

use peerstore::directory::{self, StoreDir};
use peerstore::inspect::{self as files, FileName};
use peerstore::storage::Disk;
use peerstore::{Kind, Recovery};

use super::progress::Progress;
use super::{Exit, Failure};

mod compact;
mod export;
mod inspect;
mod live;
mod records;
mod truth;
mod verify;

/// Look into a store, check it, make it small, or get everything out of it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Verify(verify::Args),
    Compact(compact::Args),
    Export(export::Args),
}

/// Does what was asked.
///
/// # Errors
/// If there is no store, it is in use, or reading or writing it fails; what else a command says.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Compact(args) => compact::run(args),
        Command::Export(args) => export::run(args),
    }
}

/// Which store.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// Directory of the store (what `peerstore/dir` names), or of one shard in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// A store's directory, locked, and those of its shards that were asked for.
struct Opened {
    directory: StoreDir,
    shards: Vec<u16>,
}

/// A shard's directory.
struct ShardDir {
    id: u16,
    path: PathBuf,
    disk: Disk,
    files: Vec<FileName>,
}

impl Target {
    /// Opens it to read.
    fn open(&self) -> Result<Opened, Failure> {
        let (path, shard) = self.place();
        let directory = StoreDir::open_read_only(&path).map_err(|error| refused(&error))?;
        Opened::new(directory, shard)
    }

    /// Opens it to write: only one that is there, since opening would make it.
    fn open_writable(&self) -> Result<Opened, Failure> {
        let (path, shard) = self.place();
        drop(StoreDir::open_read_only(&path).map_err(|error| refused(&error))?);
        let directory = StoreDir::open(&path).map_err(|error| refused(&error))?;
        Opened::new(directory, shard)
    }

    /// The store's directory, and the shard if it is a shard's that was given.
    fn place(&self) -> (PathBuf, Option<u16>) {
        let whole = || (self.dir.clone(), None);
        let Ok(dir) = self.dir.canonicalize() else { return whole() };
        let name = dir.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_prefix("shard-")?.parse().ok());
        match (id, dir.parent()) {
            (Some(id), Some(parent)) if !self.dir.join("lock").exists() => {
                (parent.to_owned(), Some(id))
            }
            (Some(_) | None, _) => whole(),
        }
    }
}

impl Opened {
    fn new(directory: StoreDir, only: Option<u16>) -> Result<Self, Failure> {
        let path = directory.path();
        let mut shards = directory.shards().map_err(|error| Failure::io(path.display(), &error))?;
        shards.retain(|id| only.is_none_or(|only| *id == only));
        Ok(Self { directory, shards })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn shards(&self) -> Result<Vec<ShardDir>, Failure> {
        self.shards.iter().map(|id| self.shard(*id)).collect()
    }

    fn shard(&self, id: u16) -> Result<ShardDir, Failure> {
        let path = self.path().join(format!("shard-{id}"));
        let failed = |error: io::Error| Failure::io(path.display(), &error);
        let disk = self.directory.shard(id).map_err(failed)?;
        let files = files::files(&disk).map_err(failed)?;
        Ok(ShardDir { id, path, disk, files })
    }
}

impl ShardDir {
    /// A file's bytes on the disk; 0 if it cannot be asked.
    fn bytes(&self, file: &FileName) -> u64 {
        self.path.join(&file.name).metadata().map_or(0, |metadata| metadata.len())
    }

    /// Bytes of all its files.
    fn all_bytes(&self) -> u64 {
        self.files.iter().map(|file| self.bytes(file)).sum()
    }

    /// Where `file` lies, for people.
    fn place(&self, file: &FileName) -> String {
        self.path.join(&file.name).display().to_string()
    }

    fn failure(&self, error: &peerstore::OpenError) -> Failure {
        let exit = match error {
            peerstore::OpenError::Io(_) => Exit::Io,
            peerstore::OpenError::Layout(_) | peerstore::OpenError::Version(_) => Exit::Data,
        };
        Failure::new(exit, format_args!("{}: {error}", self.path.display()))
    }

    /// What a router that started now would begin with.
    fn live(&self, unix_s: u64) -> Result<(live::Live, Recovery), Failure> {
        let mut live = live::Live::new(unix_s);
        let recovery = files::state(&self.disk, |record| live.apply(&record));
        Ok((live, recovery.map_err(|error| self.failure(&error))?))
    }
}

fn refused(error: &directory::OpenError) -> Failure {
    match error {
        directory::OpenError::Held { .. } => Failure::new(Exit::Unavailable, error)
            .hint("the tool and a router do not work on a store at once"),
        directory::OpenError::NoStore { .. } => Failure::new(Exit::Io, error),
        directory::OpenError::Io { doing, path, error } => {
            Failure::io(format_args!("cannot {doing} {}", path.display()), error)
        }
    }
}

/// A bar over the bytes of these shards' files.
fn progress(shards: &[ShardDir]) -> Progress {
    Progress::new(shards.iter().map(ShardDir::all_bytes).sum())
}

/// Numbers of records by their kind, as in `2 peer, 1 value`.
fn counts(records: &[u64; Kind::ALL.len()]) -> String {
    let counted = Kind::ALL.iter().zip(records).filter(|(_, count)| **count > 0);
    let counts: Vec<String> = counted.map(|(kind, n)| format!("{n} {}", kind.label())).collect();
    if counts.is_empty() { "no records".into() } else { counts.join(", ") }
}

/// The same as an object.
fn counts_json(records: &[u64; Kind::ALL.len()]) -> serde_json::Value {
    let counted = Kind::ALL.iter().zip(records).filter(|(kind, _)| **kind != Kind::Seal);
    counted.map(|(kind, count)| (kind.label(), *count)).collect()
}
