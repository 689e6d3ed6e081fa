//! What lies in a shard's directory, for whoever wants to look and to change nothing.
//!
//! [`files`] and [`read`] show every file, whatever it is worth; [`state`] is what a store that was
//! opened now would begin with.
//!
//! Invariants:
//! * Nothing is created, renamed or removed, not even what is unfinished or should be set aside.
//! * No content makes it fail or panic; a directory or file that the system does not give back does.

use std::io;

use crate::frame::{Frames, Reason};
use crate::header::{Epoch, FileHeader, FileKind, HEADER_BYTES, HeaderError};
use crate::kind::Kind;
use crate::names::Name;
use crate::record::{Record, Seal};
use crate::recovery::{self, Found, OpenError, Recovery, Verdict};
use crate::repartition;
use crate::storage::{Storage, StoredFile};

/// What a name says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The state at the beginning of its epoch.
    Snapshot,
    /// The changes of its epoch.
    Log,
    /// A copy of a log that was found damaged.
    Copy,
    /// Half of a snapshot or of a copy; of no use to anybody.
    Unfinished,
}

impl Role {
    /// A word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Log => "log",
            Self::Copy => "copy",
            Self::Unfinished => "unfinished",
        }
    }

    /// Whether the state may be made of such files.
    pub const fn is_state(self) -> bool {
        matches!(self, Self::Snapshot | Self::Log)
    }
}

/// A file of a store, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// What it is called.
    pub name: String,
    /// What that says it is.
    pub role: Role,
    /// Of which epoch; `None` for what is unfinished.
    pub epoch: Option<Epoch>,
}

/// Why a file's header is not the one that its name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// It is none.
    Unreadable(HeaderError),
    /// It is another file's.
    Misplaced(FileHeader),
}

impl BadHeader {
    /// A word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.label(),
            Self::Misplaced(_) => "misplaced",
        }
    }
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Whole,
    /// In the middle of what was being written. Nothing is lost that was acknowledged.
    Torn,
    /// Where it was damaged: what is behind may be lost, and if it is a snapshot, all of it.
    Damaged,
}

impl Ending {
    /// A word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Torn => "torn",
            Self::Damaged => "damaged",
        }
    }
}

/// A record and where in its file it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// Offset of its frame.
    pub offset: u64,
    /// Bytes of its frame.
    pub bytes: u64,
    /// What it holds.
    pub record: Record<'a>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of all of it.
    pub bytes: u64,
    /// What it says of itself.
    pub header: Result<FileHeader, BadHeader>,
    /// Its records, a seal not counted, in the order of [`Kind::ALL`].
    pub records: [u64; Kind::ALL.len()],
    /// Offset behind the last good frame; 0 if there is not even a header.
    pub valid_bytes: u64,
    /// Why there is no further frame; `None` behind a seal.
    pub reason: Option<Reason>,
    /// What that means.
    pub ending: Ending,
}

/// The files of a store in a directory, in the order in which they are read.
///
/// # Errors
/// What the system says.
pub fn files<S: Storage>(storage: &S) -> io::Result<Vec<FileName>> {
    let mut files = Vec::new();
    for name in storage.list()? {
        let Some(parsed) = Name::parse(&name) else { continue };
        let role = match parsed {
            Name::Snapshot(_) => Role::Snapshot,
            Name::Log(_) => Role::Log,
            Name::Corrupt(_) => Role::Copy,
            Name::Unfinished => Role::Unfinished,
        };
        files.push((parsed, FileName { name, role, epoch: parsed.epoch() }));
    }
    files.sort_unstable_by_key(|(parsed, _)| (parsed.epoch(), *parsed));
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// Reads a file to its last good frame and hands every record to `each`, those of a snapshot that
/// is not whole too. Of an unfinished file there is nothing to hand out.
///
/// # Errors
/// What the system says.
pub fn read<S: Storage>(
    storage: &S,
    file: &FileName,
    mut each: impl FnMut(Placed<'_>),
) -> io::Result<Report> {
    let bytes = storage.read(&file.name)?;
    let mut report = Report {
        bytes: bytes.len() as u64,
        header: header(&bytes, file),
        records: [0; Kind::ALL.len()],
        valid_bytes: 0,
        reason: None,
        ending: Ending::Torn,
    };
    if report.header.is_ok() {
        report.valid_bytes = HEADER_BYTES as u64;
    }
    let Some(epoch) = file.epoch else { return Ok(report) };
    if let Err(BadHeader::Unreadable(HeaderError::UnsupportedVersion(_))) = report.header {
        report.ending = Ending::Damaged;
        return Ok(report);
    }
    let behind = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut frames = Frames::new(behind, epoch);
    let (mut end, mut seal) = (0, None);
    for frame in frames.by_ref() {
        if let Record::Seal(sealed) = frame.record {
            seal = Some((sealed, frame.end));
            break;
        }
        let (offset, bytes) = (HEADER_BYTES + frame.start, frame.end - frame.start);
        each(Placed { offset: offset as u64, bytes: bytes as u64, record: frame.record });
        report.records[frame.record.kind() as usize - 1] += 1;
        end = frame.end;
    }
    report.reason = frames.stop().map(|stop| stop.reason);
    report.ending = match file.role {
        Role::Snapshot => {
            let records = report.records.iter().sum();
            let wanted = Seal { records, bytes: end as u64 };
            let whole = seal == Some((wanted, behind.len())) && report.header.is_ok();
            if whole { Ending::Whole } else { Ending::Damaged }
        }
        Role::Log | Role::Copy | Role::Unfinished => {
            let header = report.header.ok();
            let found = Found { name: Name::Log(epoch), epoch, header };
            match recovery::verdict(behind, end, report.reason, found) {
                Verdict::Whole => Ending::Whole,
                Verdict::Torn => Ending::Torn,
                Verdict::Corrupt => Ending::Damaged,
            }
        }
    };
    if let (Role::Snapshot, Some((_, sealed))) = (file.role, seal) {
        end = sealed;
    }
    if end > 0 {
        report.valid_bytes = (HEADER_BYTES + end) as u64;
    }
    Ok(report)
}

/// What a store that was opened now would begin with: hands the records that the state is made of
/// to `apply`, in order. Where files of several divisions lie in the directory, those of the oldest
/// come first, as when it is divided anew.
///
/// The report says as many copies could not be made as would have been made.
///
/// # Errors
/// [`OpenError::Io`] and [`OpenError::Version`].
pub fn state<S: Storage>(
    storage: &S,
    mut apply: impl FnMut(Record<'_>),
) -> Result<Recovery, OpenError> {
    let storage = ReadOnly(storage);
    let found = recovery::find(&storage)?;
    let mut recovery = Recovery { newest: recovery::newest(&found), ..Recovery::default() };
    for group in repartition::groups(&[(0, &storage, found)]) {
        recovery::read_state(group.storage, &group.files, &mut recovery, &mut apply)?;
    }
    Ok(recovery)
}

fn header(bytes: &[u8], file: &FileName) -> Result<FileHeader, BadHeader> {
    let header = FileHeader::decode(bytes).map_err(BadHeader::Unreadable)?;
    let kind = match file.role {
        Role::Snapshot => FileKind::Snapshot,
        Role::Log | Role::Copy => FileKind::Log,
        Role::Unfinished => return Ok(header),
    };
    if header.file == kind && Some(header.epoch) == file.epoch {
        Ok(header)
    } else {
        Err(BadHeader::Misplaced(header))
    }
}

/// A storage of which nothing can be changed.
struct ReadOnly<'a, S>(&'a S);

/// A file that nobody writes to.
enum NoFile {}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<S: Storage> Storage for ReadOnly<'_, S> {
    type File = NoFile;
    type Bytes = S::Bytes;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, _: &str) -> io::Result<NoFile> {
        refused()
    }

    fn read(&self, name: &str) -> io::Result<S::Bytes> {
        self.0.read(name)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

impl StoredFile for NoFile {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        match *self {}
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        match *self {}
    }

    fn trim(&mut self) -> io::Result<()> {
        match *self {}
    }

    fn sync(&mut self) -> io::Result<()> {
        match *self {}
    }
}
