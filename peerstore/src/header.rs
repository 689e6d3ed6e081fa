//! The first 64 bytes of a file of the store.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic, `MOLIAWAL` or `MOLIASNP` |
//! | 8..10 | format version |
//! | 10..12 | shard id |
//! | 12..14 | shard count |
//! | 14..36 | reserved, zero |
//! | 36..44 | epoch |
//! | 44..52 | hash of the partition table |
//! | 52..60 | when it was created, unix seconds |
//! | 60..64 | crc32c of the bytes before |
//!
//! Magic, length and checksum stay where they are in every version, so that damage is told from
//! a file of the future.

use crate::layout::{Field, NoRoom, Reader, Writer};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// The format that is written, and the only one that is read.
pub const FORMAT_VERSION: u16 = 1;

const CHECKED_BYTES: usize = HEADER_BYTES - size_of::<u32>();
const RESERVED: [u8; 22] = [0; 22];

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Every change since the snapshot of its epoch.
    Log,
    /// The state at the beginning of its epoch.
    Snapshot,
}

impl FileKind {
    /// How such a file begins.
    pub const fn magic(self) -> [u8; 8] {
        match self {
            Self::Log => *b"MOLIAWAL",
            Self::Snapshot => *b"MOLIASNP",
        }
    }
}

/// Which log of a store. Every compaction begins the next one.
///
/// 32 bits, although its field has 64: two numbers of 32 bits never have the same checksum, so
/// that a frame of one epoch cannot pass in another. One compaction a second uses them up in a
/// hundred and thirty years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch of this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The one after it; `None` after the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// What the checksums of its frames begin with: no other epoch's is the same.
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c(&u64::from(self.0).to_le_bytes())
    }
}

/// A shard among its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    id: u16,
    count: u16,
}

impl Shard {
    /// Shard `id` of `count`; `None` if there is no such shard.
    pub const fn new(id: u16, count: u16) -> Option<Self> {
        if id < count { Some(Self { id, count }) } else { None }
    }

    /// Its number, from 0.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// How many there are.
    pub const fn count(self) -> u16 {
        self.count
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// What it holds.
    pub file: FileKind,
    /// Whose it is.
    pub shard: Shard,
    /// Which one it is.
    pub epoch: Epoch,
    /// Names the division of keys among shards that it was written under.
    pub partition_hash: u64,
    /// When it was begun.
    pub created_unix_s: u64,
}

/// Why bytes are no header, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// There are not [`HEADER_BYTES`] of them.
    Short,
    /// Not a file of a store.
    BadMagic,
    /// Damaged.
    BadChecksum,
    /// Whole, and of another format.
    UnsupportedVersion(u16),
    /// Reserved bytes are in use.
    Reserved,
    /// A shard that is not among its siblings.
    BadShard,
    /// An epoch above 32 bits.
    BadEpoch,
}

impl HeaderError {
    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::BadMagic => "bad_magic",
            Self::BadChecksum => "bad_checksum",
            Self::UnsupportedVersion(_) => "unsupported_version",
            Self::Reserved => "reserved",
            Self::BadShard => "bad_shard",
            Self::BadEpoch => "bad_epoch",
        }
    }
}

impl FileHeader {
    /// The bytes that a file begins with.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let written = self.write(&mut Writer::new(&mut bytes));
        assert!(written.is_ok(), "the fields of a header are {HEADER_BYTES} bytes together");
        let (checked, sum) = bytes.split_at_mut(CHECKED_BYTES);
        sum.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
        bytes
    }

    /// The header that `bytes`, a file or its beginning, begin with.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Short)?;
        let (checked, sum) = header.split_at(CHECKED_BYTES);
        let file = [FileKind::Log, FileKind::Snapshot]
            .into_iter()
            .find(|file| checked.starts_with(&file.magic()))
            .ok_or(HeaderError::BadMagic)?;
        if crc32c::crc32c(checked).to_le_bytes() != *sum {
            return Err(HeaderError::BadChecksum);
        }
        let mut from = Reader::new(checked);
        let _magic: [u8; 8] = read(&mut from)?;
        match read(&mut from)? {
            FORMAT_VERSION => {}
            other => return Err(HeaderError::UnsupportedVersion(other)),
        }
        let shard = Shard::new(read(&mut from)?, read(&mut from)?);
        if read::<[u8; 22]>(&mut from)? != RESERVED {
            return Err(HeaderError::Reserved);
        }
        let epoch = u32::try_from(read::<u64>(&mut from)?);
        Ok(Self {
            file,
            shard: shard.ok_or(HeaderError::BadShard)?,
            epoch: epoch.map(Epoch).map_err(|_| HeaderError::BadEpoch)?,
            partition_hash: read(&mut from)?,
            created_unix_s: read(&mut from)?,
        })
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        self.file.magic().write(to)?;
        FORMAT_VERSION.write(to)?;
        self.shard.id.write(to)?;
        self.shard.count.write(to)?;
        RESERVED.write(to)?;
        u64::from(self.epoch.0).write(to)?;
        self.partition_hash.write(to)?;
        self.created_unix_s.write(to)
    }
}

fn read<'a, T: Field<'a>>(from: &mut Reader<'a>) -> Result<T, HeaderError> {
    T::read(from).map_err(|_| HeaderError::Short)
}
