//! Crash-safe log of peers and records: what it is made of.
//!
//! The log outlives the process, so its bytes are a contract: [`Record`] says what is kept and in
//! which layout, [`frame`] how records lie one after the other and how damage is noticed, and
//! [`header`] how a file begins. Integers are little-endian throughout.
//!
//! Invariants:
//! * Any bytes can be read: nothing panics, and no length is believed before its bound was checked.
//! * There is one encoding of a record: bytes that decode encode to the same bytes again.
//! * Reading allocates nothing; what varies in length is borrowed from the bytes read.
//!
//! Writing to disk, syncing, compaction and recovery are not here.
#![forbid(unsafe_code)]

pub mod frame;
pub mod header;
mod ids;
mod kind;
mod layout;
pub mod record;
pub mod storage;

pub use frame::{Frame, Frames, Reason, Stop};
pub use header::{Epoch, FileHeader, FileKind, HeaderError, Shard};
pub use ids::{Key, Network, PeerId, SigningKey, WgKey};
pub use kind::{Class, Kind, UnknownKind};
pub use layout::{AboveMaximum, Malformed, Message, NoRoom};
pub use record::Record;
