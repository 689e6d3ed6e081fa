//! Who takes part, and what each has to do.
//!
//! All promise the same: what was put in before a commit that returned is there after a power cut.
//! Each is used as its documentation says is fastest for that, else as it comes.

mod floor;
mod journal;
mod lsm;
mod redb;
mod store;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use crate::work::Update;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// Lengths, checksums, records, `write` and `fdatasync`: the least there is to do.
    Floor,
    /// The peer store, called directly.
    Store,
    /// The peer store as the router uses it: through a ring, written by a thread.
    Journal,
    /// fjall, a log-structured merge tree.
    Fjall,
    /// redb, a copy-on-write B+ tree.
    Redb,
}

impl Contender {
    pub const ALL: [Self; 5] = [Self::Floor, Self::Store, Self::Journal, Self::Fjall, Self::Redb];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "bare log",
            Self::Store => "peerstore",
            Self::Journal => "peerstore+ring",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
        }
    }

    /// A new one in the empty directory `dir`.
    pub fn create(self, dir: &Path) -> Result<Box<dyn Sink>> {
        Ok(match self {
            Self::Floor => Box::new(floor::Floor::create(dir)?),
            Self::Store => Box::new(store::Direct::create(dir)?),
            Self::Journal => Box::new(journal::Threaded::create(dir)?),
            Self::Fjall => Box::new(lsm::Fjall::create(dir)?),
            Self::Redb => Box::new(redb::Redb::create(dir)?),
        })
    }

    /// Opens what is in `dir` and hands over every peer, as id and the rest.
    pub fn read(self, dir: &Path, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        match self {
            Self::Floor => floor::read(dir, &mut each),
            Self::Store | Self::Journal => store::read(dir, &mut each),
            Self::Fjall => lsm::read(dir, &mut each),
            Self::Redb => redb::read(dir, &mut each),
        }
    }
}

/// Where updates go.
pub trait Sink {
    /// Puts updates in, to be committed with the next commit.
    fn put(&mut self, updates: &[Update]) -> Result<()>;

    /// All that was put in lasts. One that commits by itself, by the same rule, does nothing.
    fn commit(&mut self) -> Result<()>;

    /// Everything lasts and is closed; the longest stall, in nanoseconds, that only it knows of.
    fn close(self: Box<Self>) -> Result<u64>;
}
