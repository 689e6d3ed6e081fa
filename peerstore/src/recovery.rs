//! What a directory holds, read back.
//!
//! The state is the newest snapshot that is whole, and of every log from its epoch on, in order, the
//! frames before the first that is not good. What lies behind that one decides what it was. Zeros:
//! the log was not trimmed. Anything else: it was being written when the power went, and was not
//! acknowledged. But if a frame of the same log is there, it was damaged later: what is lost may have
//! been acknowledged, so that a copy is put aside and somebody is told.
//!
//! Invariants:
//! * No content makes recovery fail, panic or allocate more than a file name.
//! * No record is applied that was not written, nor any of a snapshot that is not whole.
//! * A value that looks like frames is at most taken for damage behind a torn end; it is never read
//!   as what it looks like.

use std::error::Error;
use std::fmt;

use crate::fault::{Fault, is_medium};
use crate::frame::{self, Frames, Reason};
use crate::header::{Epoch, FileHeader, FileKind, HEADER_BYTES, HeaderError};
use crate::log::Owner;
use crate::names::{self, Name};
use crate::record::Record;
use crate::snapshot::Content;
use crate::storage::{Storage, StoredFile};

/// Bytes that are summed up, at most, in the search for a frame behind damage. A log that was made to
/// take longer counts as damaged.
const SCAN_BYTES: u64 = 1 << 30;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were applied.
    pub records: u64,
    /// Bytes of the files that were read.
    pub bytes: u64,
    /// The snapshot that the state is made of.
    pub snapshot: Option<Epoch>,
    /// Records in it.
    pub snapshot_records: u64,
    /// Bytes of their frames.
    pub snapshot_bytes: u64,
    /// Snapshots that are newer and not whole.
    pub snapshots_damaged: u32,
    /// Logs that the state is made of.
    pub logs: u32,
    /// Bytes of the good frames in them.
    pub log_bytes: u64,
    /// Logs among them that end in the middle of what was being written, or before it began.
    pub torn: u32,
    /// Logs among them that were damaged in the middle.
    pub corrupt: u32,
    /// Logs among them that the disk does not give back.
    pub unreadable: u32,
    /// Damaged logs that no copy could be made of.
    pub not_copied: u32,
    /// The newest epoch in a file's name.
    pub newest: Option<Epoch>,
}

impl Recovery {
    /// Whether something is lost that may have been acknowledged, or a snapshot had to take the
    /// place of another.
    pub const fn is_damaged(&self) -> bool {
        self.snapshots_damaged + self.corrupt + self.unreadable > 0
    }
}

/// Why a directory was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// It cannot be read.
    Io(Fault),
    /// It holds a file of another division among shards, or of another shard: it has to be divided
    /// anew ([`repartition`](crate::repartition())) before it is opened.
    Layout(FileHeader),
    /// It holds a file of another version of the format, which must not be removed for a newer one.
    Version(u16),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(fault) => fault.fmt(f),
            Self::Layout(FileHeader { shard, partition_hash, .. }) => write!(
                f,
                "a file is of shard {} of {}, division {partition_hash:016x}",
                shard.id(),
                shard.count()
            ),
            Self::Version(version) => write!(f, "a file is of format version {version}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(fault) => Some(fault),
            Self::Layout(_) | Self::Version(_) => None,
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Io(fault)
    }
}

/// A file of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) name: Name,
    pub(crate) epoch: Epoch,
    /// Its header; `None` if that is damaged.
    pub(crate) header: Option<FileHeader>,
}

impl Found {
    /// Whether it is, or once was, a part of the state.
    pub(crate) fn is_state(&self) -> bool {
        matches!(self.name, Name::Snapshot(_) | Name::Log(_))
    }
}

/// Reads a shard's directory for its owner.
pub(crate) fn recover<S: Storage>(
    storage: &S,
    owner: Owner,
    mut apply: impl FnMut(Record<'_>),
) -> Result<Recovery, OpenError> {
    let files = find(storage)?;
    let foreign = files.iter().filter_map(|file| file.header).find(|header| !owner.owns(header));
    if let Some(header) = foreign {
        return Err(OpenError::Layout(header));
    }
    let mut recovery = Recovery { newest: newest(&files), ..Recovery::default() };
    read_state(storage, &files, &mut recovery, &mut apply)?;
    Ok(recovery)
}

/// The files of a store in a directory, in order; what is unfinished is removed, if that works.
pub(crate) fn find<S: Storage>(storage: &S) -> Result<Vec<Found>, OpenError> {
    let mut files = Vec::new();
    for file in storage.list().map_err(Fault::of("list a directory"))? {
        let Some(name) = Name::parse(&file) else { continue };
        let Some(epoch) = name.epoch() else {
            let _ = storage.remove(&file);
            continue;
        };
        let header = match name {
            Name::Log(_) => header(storage, &file, FileKind::Log, epoch)?,
            Name::Snapshot(_) => header(storage, &file, FileKind::Snapshot, epoch)?,
            Name::Corrupt(_) | Name::Unfinished => None,
        };
        files.push(Found { name, epoch, header });
    }
    files.sort_unstable_by_key(|file| (file.epoch, file.name));
    Ok(files)
}

/// The newest epoch of any of them.
pub(crate) fn newest(files: &[Found]) -> Option<Epoch> {
    files.iter().map(|file| file.epoch).max()
}

/// The header that the name promises; `None` if it is another or damaged.
fn header<S: Storage>(
    storage: &S,
    name: &str,
    file: FileKind,
    epoch: Epoch,
) -> Result<Option<FileHeader>, OpenError> {
    let Some(bytes) = read(storage, name)? else { return Ok(None) };
    match FileHeader::decode(&bytes) {
        Ok(header) => Ok((header.file == file && header.epoch == epoch).then_some(header)),
        Err(HeaderError::UnsupportedVersion(version)) => Err(OpenError::Version(version)),
        Err(
            HeaderError::Short
            | HeaderError::BadMagic
            | HeaderError::BadChecksum
            | HeaderError::Reserved
            | HeaderError::BadShard
            | HeaderError::BadEpoch,
        ) => Ok(None),
    }
}

/// A file's bytes; `None` if the disk does not give them back.
fn read<S: Storage>(storage: &S, name: &str) -> Result<Option<S::Bytes>, OpenError> {
    match storage.read(name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_medium(&error) => Ok(None),
        Err(error) => Err(Fault::of("read a file")(error).into()),
    }
}

/// Applies the state that `files`, in order, are: of one owner, or damaged.
pub(crate) fn read_state<S: Storage>(
    storage: &S,
    files: &[Found],
    recovery: &mut Recovery,
    apply: &mut impl FnMut(Record<'_>),
) -> Result<(), OpenError> {
    let mut from = None;
    for file in files.iter().rev() {
        if let Name::Snapshot(epoch) = file.name {
            if read_snapshot(storage, *file, recovery, apply)? {
                from = Some(epoch);
                break;
            }
            recovery.snapshots_damaged += 1;
        }
    }
    for file in files.iter().filter(|file| from.is_none_or(|from| file.epoch >= from)) {
        if let Name::Log(_) = file.name {
            let copied = files.iter().any(|copy| copy.name == Name::Corrupt(file.epoch));
            read_log(storage, *file, copied, recovery, apply)?;
        }
    }
    Ok(())
}

/// Applies a snapshot; false, and nothing was applied, if it is not whole.
fn read_snapshot<S: Storage>(
    storage: &S,
    file: Found,
    recovery: &mut Recovery,
    apply: &mut impl FnMut(Record<'_>),
) -> Result<bool, OpenError> {
    if file.header.is_none() {
        return Ok(false);
    }
    let Some(bytes) = read(storage, &names::snapshot(file.epoch))? else { return Ok(false) };
    let Some(content) = Content::check(&bytes, file.epoch) else { return Ok(false) };
    content.records().for_each(apply);
    recovery.snapshot = Some(file.epoch);
    recovery.snapshot_records = content.seal.records;
    recovery.snapshot_bytes = content.seal.bytes;
    recovery.records += content.seal.records;
    recovery.bytes += bytes.len() as u64;
    Ok(true)
}

/// Applies what is good of a log. Where its header is damaged its name says the epoch, and that
/// its frames are sealed for.
fn read_log<S: Storage>(
    storage: &S,
    file: Found,
    copied: bool,
    recovery: &mut Recovery,
    apply: &mut impl FnMut(Record<'_>),
) -> Result<(), OpenError> {
    recovery.logs += 1;
    let Some(bytes) = read(storage, &names::log(file.epoch))? else {
        recovery.unreadable += 1;
        return Ok(());
    };
    recovery.bytes += bytes.len() as u64;
    let behind = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut good_bytes = 0;
    let mut frames = Frames::new(behind, file.epoch);
    for frame in frames.by_ref() {
        if let Record::Seal(_) = frame.record {
            break;
        }
        apply(frame.record);
        recovery.records += 1;
        good_bytes = frame.end;
    }
    recovery.log_bytes += good_bytes as u64;
    let reason = frames.stop().map(|stop| stop.reason);
    match verdict(behind, good_bytes, reason, file) {
        Verdict::Whole => {}
        Verdict::Torn => recovery.torn += 1,
        Verdict::Corrupt => {
            recovery.corrupt += 1;
            if !copied && !set_aside(storage, file.epoch, &bytes) {
                recovery.not_copied += 1;
            }
        }
    }
    Ok(())
}

/// What a log's end is.
pub(crate) enum Verdict {
    Whole,
    Torn,
    Corrupt,
}

/// Why there was no good frame at `end`; no reason is a seal, which no log has.
pub(crate) fn verdict(behind: &[u8], end: usize, reason: Option<Reason>, file: Found) -> Verdict {
    match reason {
        None | Some(Reason::UnknownType(_) | Reason::Malformed(..)) => return Verdict::Corrupt,
        Some(Reason::EndOfLog | Reason::Torn | Reason::BadChecksum | Reason::TooLong) => {}
    }
    // Nothing is written behind a header before that lasts: it was damaged later.
    if file.header.is_none() && end > 0 {
        return Verdict::Corrupt;
    }
    let rest = &behind[end..];
    if frame::is_zero(rest) {
        return if file.header.is_some() { Verdict::Whole } else { Verdict::Torn };
    }
    let mut budget = SCAN_BYTES;
    let torn = (0..rest.len())
        .all(|at| frame::is_sealed(&rest[at..], file.epoch, &mut budget) == Some(false));
    if torn { Verdict::Torn } else { Verdict::Corrupt }
}

/// Keeps a copy of a damaged log; whether that worked.
fn set_aside<S: Storage>(storage: &S, epoch: Epoch, bytes: &[u8]) -> bool {
    let copied = storage.create(names::COPY).and_then(|mut copy| {
        copy.append(bytes)?;
        copy.sync()?;
        storage.rename(names::COPY, &names::corrupt(epoch))
    });
    if copied.is_err() {
        let _ = storage.remove(names::COPY);
    }
    copied.is_ok()
}
