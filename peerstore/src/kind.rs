//! What records are about: the type byte of a frame, and what may be said of a record by it alone.

use crate::layout::Field;
use crate::record::{
    Allocation, Ban, Binding, PathFacts, Peer, Provider, Score, Seal, Tombstone, Value,
};

/// What the store does with a record when it cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Never lost silently: who asked for it is refused instead.
    Critical,
    /// Dropped first, and counted: it will be learnt again.
    Soft,
}

/// What a record is about; the byte that says so in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// [`Binding`]
    Binding = 1,
    /// [`Peer`]
    Peer = 2,
    /// [`Score`]
    Score = 3,
    /// [`Value`]
    Value = 4,
    /// [`Provider`]
    Provider = 5,
    /// [`Tombstone`]
    Tombstone = 6,
    /// [`Ban`]
    Ban = 7,
    /// [`PathFacts`]
    PathFacts = 8,
    /// [`Seal`]: the end of a snapshot, and no change to anything.
    Seal = 9,
    /// [`Allocation`]
    Allocation = 10,
}

impl Kind {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 10] = [
        Self::Binding,
        Self::Peer,
        Self::Score,
        Self::Value,
        Self::Provider,
        Self::Tombstone,
        Self::Ban,
        Self::PathFacts,
        Self::Seal,
        Self::Allocation,
    ];

    /// Value of the `kind` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::Peer => "peer",
            Self::Score => "score",
            Self::Value => "value",
            Self::Provider => "provider",
            Self::Tombstone => "tombstone",
            Self::Ban => "ban",
            Self::PathFacts => "path_facts",
            Self::Seal => "seal",
            Self::Allocation => "allocation",
        }
    }

    /// What happens to records of this kind when there is no room.
    pub const fn class(self) -> Class {
        match self {
            Self::Binding
            | Self::Peer
            | Self::Value
            | Self::Provider
            | Self::Tombstone
            | Self::Ban
            | Self::Seal
            | Self::Allocation => Class::Critical,
            Self::Score | Self::PathFacts => Class::Soft,
        }
    }

    /// Bytes of the longest payload of this kind.
    pub const fn payload_bytes_max(self) -> usize {
        match self {
            Self::Binding => Binding::BYTES_MAX,
            Self::Peer => Peer::BYTES_MAX,
            Self::Score => Score::BYTES_MAX,
            Self::Value => Value::BYTES_MAX,
            Self::Provider => Provider::BYTES_MAX,
            Self::Tombstone => Tombstone::BYTES_MAX,
            Self::Ban => Ban::BYTES_MAX,
            Self::PathFacts => PathFacts::BYTES_MAX,
            Self::Seal => Seal::BYTES_MAX,
            Self::Allocation => Allocation::BYTES_MAX,
        }
    }
}

/// The byte is no kind's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind(pub u8);

impl TryFrom<u8> for Kind {
    type Error = UnknownKind;

    fn try_from(byte: u8) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(UnknownKind(byte))
    }
}
