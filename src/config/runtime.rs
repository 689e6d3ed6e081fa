//! The directory of a running router: its counters and a description of itself.
//!
//! A router takes the first place it may write to, and there a subdirectory named
//! after its port; a lock tells routers of the same port (in other network
//! namespaces, on other addresses) apart, and the living from the dead. What a
//! crash left behind is taken over by the next router and readable until then.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::counters;

const LOCK: &str = "lock";
const DESCRIPTION: &str = "router.json";
/// Routers of one port that share a place.
const SAME_PORT_MAX: u32 = 16;
/// Attempts at a lock that somebody may hold for the moment of a look.
const ATTEMPTS: u32 = 50;
/// Longest description that is read.
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// The directory of this router; removed when dropped.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// A router that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its directory.
    pub path: PathBuf,
    /// Whether its process lives.
    pub alive: bool,
    /// What it said of itself.
    pub description: Value,
}

impl RuntimeDir {
    /// Takes a directory for a router on `port` in the first of `places` that allows it.
    ///
    /// # Errors
    /// The last place's error if none does.
    pub fn take(places: &[PathBuf], port: u16) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            match take_in(place, port) {
                Ok(taken) => return Ok(taken),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", place.display()));
                }
            }
        }
        Err(last)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counters of shard `shard`.
    pub fn counters(&self, shard: u16) -> PathBuf {
        counters_in(&self.path, shard.into())
    }

    /// Tells whoever looks what runs here.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn describe(&self, description: &Value) -> io::Result<()> {
        let next = self.path.join(format!(".{DESCRIPTION}"));
        fs::write(&next, format!("{description:#}\n"))?;
        fs::rename(next, self.path.join(DESCRIPTION))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        clear(&self.path);
        let _ = fs::remove_file(self.path.join(LOCK));
        let _ = fs::remove_dir(&self.path);
    }
}

/// Counters of shard `shard` of the router in `directory`.
pub fn counters_in(directory: &Path, shard: u32) -> PathBuf {
    directory.join(counters::file_name(shard))
}

/// The routers in `places`, living ones first.
pub fn find(places: &[PathBuf]) -> Vec<Found> {
    let mut paths: Vec<PathBuf> = places.iter().flat_map(|place| subdirectories(place)).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut found: Vec<Found> = paths.into_iter().filter_map(look).collect();
    found.sort_by_key(|found| !found.alive);
    found
}

fn subdirectories(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().take(1024).flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join(LOCK).is_file()).collect()
}

fn look(path: PathBuf) -> Option<Found> {
    let file = path.join(DESCRIPTION);
    if file.metadata().ok()?.len() > DESCRIPTION_BYTES_MAX {
        return None;
    }
    let description = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let lock = File::open(path.join(LOCK)).ok()?;
    let alive = flock(&lock, FlockOperation::NonBlockingLockShared).is_err();
    Some(Found { path, alive, description })
}

fn take_in(place: &Path, port: u16) -> io::Result<RuntimeDir> {
    prepare(place)?;
    for n in 1..=SAME_PORT_MAX {
        let name = if n == 1 { port.to_string() } else { format!("{port}.{n}") };
        let path = place.join(name);
        // Readable by everybody: counters are no secret, and the place may be private anyway.
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if let Some(lock) = lock(&path)? {
            clear(&path);
            return Ok(RuntimeDir { path, _lock: lock });
        }
    }
    Err(io::Error::other(format!("{SAME_PORT_MAX} routers of port {port} run already")))
}

/// Makes sure of `place` itself: nobody else's, and nobody else may write there.
fn prepare(place: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let metadata = place.symlink_metadata()?;
    let user = rustix::process::geteuid().as_raw();
    // The service manager may link to a private directory; that link is root's.
    let ours = metadata.uid() == user || metadata.uid() == 0;
    if !ours || (metadata.is_dir() && metadata.mode() & 0o022 != 0) {
        return Err(io::Error::other("others may write there"));
    }
    Ok(())
}

/// The lock of `path`, or `None` if another router holds it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let name = path.join(LOCK);
    for _ in 0..ATTEMPTS {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Somebody who looks lets go at once, a router does not.
            std::thread::park_timeout(std::time::Duration::from_millis(1));
            continue;
        }
        // Its holder may have removed it between our two steps: then it locks nothing.
        let same = name.metadata().is_ok_and(|now| {
            file.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (now.dev(), now.ino()))
        });
        if same {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Removes what a router writes there, except the lock.
fn clear(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".counters") || name.ends_with(DESCRIPTION) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("molia-run-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_router_is_found_while_it_lives_and_gone_afterwards() {
        let places = [place("lives")];
        let taken = RuntimeDir::take(&places, 7743).unwrap();
        assert!(find(&places).is_empty(), "it has not said what it is");
        taken.describe(&json!({"pid": 1})).unwrap();
        fs::write(taken.counters(0), "x").unwrap();
        let found = find(&places);
        assert_eq!(found.len(), 1);
        assert!(found[0].alive);
        assert_eq!(found[0].path, places[0].join("7743"));
        assert_eq!(found[0].description["pid"], 1);
        drop(taken);
        assert!(find(&places).is_empty());
        assert_eq!(fs::read_dir(&places[0]).unwrap().count(), 0, "nothing is left");
        fs::remove_dir(&places[0]).unwrap();
    }

    #[test]
    fn routers_of_one_port_do_not_clash() {
        let places = [place("clash")];
        let first = RuntimeDir::take(&places, 7743).unwrap();
        let second = RuntimeDir::take(&places, 7743).unwrap();
        assert_eq!(second.path(), places[0].join("7743.2"));
        drop(first);
        assert_eq!(RuntimeDir::take(&places, 7743).unwrap().path(), places[0].join("7743"));
        drop(second);
        fs::remove_dir_all(&places[0]).unwrap();
    }

    #[test]
    fn what_a_crash_left_is_seen_as_dead_and_taken_over() {
        let places = [place("crash")];
        let path = places[0].join("7743");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(LOCK), "").unwrap();
        fs::write(path.join(DESCRIPTION), "{}").unwrap();
        fs::write(counters_in(&path, 0), "old").unwrap();
        assert!(!find(&places)[0].alive);
        let taken = RuntimeDir::take(&places, 7743).unwrap();
        assert_eq!(taken.path(), path);
        assert!(!counters_in(&path, 0).exists());
        drop(taken);
        fs::remove_dir_all(&places[0]).unwrap();
    }

    #[test]
    fn a_place_that_is_not_to_be_had_is_passed_over() {
        let (missing, open) = (place("missing").join("below"), place("open"));
        fs::create_dir_all(&open).unwrap();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode;
        fs::set_permissions(&open, mode(0o777)).unwrap();
        let good = place("good");
        let taken = RuntimeDir::take(&[missing.clone(), open.clone(), good.clone()], 1).unwrap();
        assert_eq!(taken.path(), good.join("1"));
        drop(taken);
        let error = RuntimeDir::take(&[missing, open.clone()], 1).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: others may write there", open.display()));
        fs::remove_dir(open).unwrap();
        fs::remove_dir(good).unwrap();
    }
}
