//! Crash-safe log of peers and records.
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
//! Over them lies the [`Store`] of a shard: a log, snapshots that make it short, and recovery from
//! whatever a crash or a bad disk left. It lies on a [`storage::Storage`]: the real disk, in the
//! [`directory`] of a router, or one that crashes when a test wants it to. [`journal`] is the way
//! to it from a packet loop that must not wait for a disk, and [`repartition()`] divides what a
//! number of stores hold among another number. [`inspect`] reads all of it and changes nothing.
#![forbid(unsafe_code)]

pub mod directory;
mod fault;
pub mod frame;
pub mod header;
mod ids;
pub mod inspect;
pub mod journal;
mod kind;
mod layout;
mod lock;
mod log;
mod names;
pub mod record;
mod recovery;
mod repartition;
mod snapshot;
pub mod storage;
mod store;

pub use directory::StoreDir;
pub use fault::{Fault, FaultKind};
pub use frame::{Frame, Frames, Reason, Stop};
pub use header::{Epoch, FileHeader, FileKind, HeaderError, Shard};
pub use ids::{Key, Network, PeerId, SigningKey, WgKey};
pub use kind::{Class, Kind, UnknownKind};
pub use layout::{AboveMaximum, Malformed, Message, NoRoom};
pub use record::Record;
pub use recovery::{OpenError, Recovery};
pub use repartition::{Repartition, repartition};
pub use store::{Config, Layout, Store, StoreStatus};
