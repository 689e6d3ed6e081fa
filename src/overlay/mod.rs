//! The overlay as a bootstrap node sees it: who is there and who is close to whom.
//!
//! One part so far: the [`table`] of live peers that FIND_NODE is answered from.

pub mod table;

pub use table::{
    Closest, Config, Entry, EntryIdx, Inserted, PEER_BYTES_MAX, Refused, Table, TableEvent,
};
