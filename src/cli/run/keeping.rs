//! The store that a router remembers in: found, locked, and divided among its shards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peerstore::{StoreDir, directory};

use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::config::{Config, Place, Surroundings};
use crate::identity::Identity;
use crate::partition::Partition;
use crate::shard::{StoreConfig, divide};

/// What a router remembers in.
#[derive(Default)]
pub(super) struct Keeping {
    /// `None` is memory alone.
    pub(super) store: Option<StoreConfig>,
    /// Why it is not what one would expect.
    pub(super) warning: Option<String>,
    /// What was made for it.
    pub(super) made: Made,
}

/// The directories that were made for a store, taken back with all that is in them unless the
/// router comes to serve: a start that fails leaves nothing behind.
#[derive(Default)]
pub(super) struct Made {
    /// The store's own first, then its parents. Empty if the store was there before.
    directories: Vec<PathBuf>,
    /// Its lock, held until that is done.
    _lock: Option<Arc<StoreDir>>,
}

impl Made {
    /// The router serves.
    pub(super) fn keep(mut self) {
        self.directories.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some((store, parents)) = self.directories.split_first() else { return };
        // What cannot be taken back stays; it fails already, and for another reason.
        let _ = fs::remove_dir_all(store);
        // A parent that others use by now is not empty.
        parents.iter().all(|parent| fs::remove_dir(parent).is_ok());
    }
}

const OFF: &str = "peerstore/dir=off keeps records in memory alone";

/// What has to be made for a store at `path`: that, and its parents.
fn missing(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().take_while(|directory| !directory.exists());
    missing.map(Path::to_owned).collect()
}

/// Opens the store that the settings ask for. Only a default place that cannot be had is done
/// without, and said so: whoever names one relies on it.
pub(super) fn open(
    config: &Config,
    surroundings: &Surroundings,
    identity: &Identity,
) -> Result<Keeping, Failure> {
    let (path, given) = match config.store_place(surroundings, identity) {
        Place::Memory => return Ok(Keeping::default()),
        Place::Nowhere => {
            let warning = "neither XDG_STATE_HOME nor HOME is set: records are in memory alone \
                           (peerstore/dir names a place)";
            return Ok(Keeping { warning: Some(warning.into()), ..Keeping::default() });
        }
        Place::Default(path) => (path, false),
        Place::Given(path) => (path, true),
    };
    let missing = missing(&path);
    let opened = if given { StoreDir::open(&path) } else { StoreDir::open_with_parents(&path) };
    let (directory, made) = match opened {
        // Only who holds the lock may say that it was made here: another start may be under way.
        Ok(directory) => {
            let directory = Arc::new(directory);
            let lock = Some(Arc::clone(&directory));
            (directory, Made { directories: missing, _lock: lock })
        }
        Err(error @ directory::OpenError::Held { .. }) => {
            let failure = Failure::new(Exit::Unavailable, format_args!("peerstore/dir: {error}"));
            return Err(failure.hint("each router needs one of its own"));
        }
        Err(error) if given => {
            let failure = Failure::new(Exit::CannotCreate, format_args!("peerstore/dir: {error}"));
            return Err(failure.hint(OFF));
        }
        Err(error) => {
            let warning =
                format!("records are in memory alone: {error} (peerstore/dir names another place)");
            return Ok(Keeping { warning: Some(warning), ..Keeping::default() });
        }
    };
    let partition =
        Partition::new(config.placement.count, identity.home_seed(), &identity.peer_id());
    divide(&directory, &partition, Clock::start().now().unix_s()).map_err(|error| {
        let message = format!("peerstore/dir = {}: {error}", path.display());
        Failure::new(Exit::Io, message).hint(OFF)
    })?;
    let (files, journal) = config.store();
    let store = StoreConfig { directory, files, journal };
    Ok(Keeping { store: Some(store), warning: None, made })
}
