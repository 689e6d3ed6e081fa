//! The overlay as a bootstrap node sees it: who is there and who is close to whom.
//!
//! The [`table`] of live peers that FIND_NODE is answered from, the [`snapshot`]s by which shards
//! know each other's, the [`sample`] of both that half of an answer is drawn from, the [`directory`]
//! of all that are there by name, the [`records`] that peers keep here, and the [`reassembly`] of
//! requests that are larger than a frame.

mod deadlines;
pub mod directory;
pub mod lookup;
pub mod reassembly;
pub mod records;
pub mod sample;
mod slots;
pub mod snapshot;
pub mod table;

pub use directory::{Arrival, Directory, Present};
pub use lookup::{Found, Listing, Viewpoint, answer, closest};
pub use reassembly::Reassembly;
pub use records::Records;
pub use sample::Sample;
pub use snapshot::{Others, Publisher, Snapshot};
pub use table::{
    Closest, Config, Entry, EntryIdx, Inserted, Known, PEER_BYTES_MAX, Refused, Table, TableEvent,
};
