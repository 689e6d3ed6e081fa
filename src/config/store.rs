//! The store: where it lies and how it is written.

use std::path::{Path, PathBuf};

use tuning::{Directory, Name, Values};

use crate::identity::Identity;
use crate::router::Keeping;

use super::{Surroundings, places};

/// Where the store is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: what is kept is in memory alone.
    Memory,
    /// Nowhere, although it was not forbidden: the system names no place.
    Nowhere,
    /// There if it can be written, else nowhere.
    Default(PathBuf),
    /// There.
    Given(PathBuf),
}

/// Where `identity`'s store lies. The default place has one for each identity, so that two routers
/// on one machine have theirs.
pub(super) fn place(values: &Values, surroundings: &Surroundings, identity: &Identity) -> Place {
    match values.directory(Name::StoreDirectory) {
        Directory::Off => Place::Memory,
        Directory::At(path) => Place::Given(Path::to_owned(path)),
        Directory::Auto => match places::state(surroundings) {
            Some(state) => {
                let whose = identity.peer_id().to_string();
                Place::Default(state.join(&whose[..16]).join("peerstore"))
            }
            None => Place::Nowhere,
        },
    }
}

/// What is promised to peers if there is a store.
pub(super) fn keeping(values: &Values) -> Keeping {
    match values.choice(Name::StoreDurability) {
        "strict" => Keeping::Strict,
        _ => Keeping::Store,
    }
}

/// How the files are written.
pub(super) fn files(values: &Values) -> peerstore::Config {
    peerstore::Config {
        batch_bytes: values.size(Name::StoreBatchBytes),
        sync_bytes: values.size(Name::StoreBatchBytes),
        compact_log_bytes: values.number(Name::StoreCompactLog),
        compact_dead_percent: super::settings::narrow(values, Name::StoreCompactDead),
        ..peerstore::Config::default()
    }
}

/// How changes get there.
pub(super) fn journal(values: &Values) -> peerstore::journal::Config {
    peerstore::journal::Config {
        durability: match values.choice(Name::StoreDurability) {
            "async" => peerstore::journal::Durability::Async,
            "strict" => peerstore::journal::Durability::Strict,
            _ => peerstore::journal::Durability::Group,
        },
        sync_interval: values.time(Name::StoreSync),
        batch_interval: values.time(Name::StoreBatchTime),
        ring_bytes: values.size(Name::StoreBatchBytes),
    }
}
