//! The directory of a running router: its counters and a description of itself.
//!
//! A router takes the first place it may write to, and there a subdirectory named
//! after its port; a lock tells routers of the same port (in other network
//! namespaces, on other addresses) apart, and the living from the dead. What a
//! crash left behind is taken over by the next router and readable until then.
//! Whoever looks believes only what nobody else could have written: a place, its
//! subdirectories and their files belong to the looker or root, or to whom root
//! gave the place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde_json::Value;

use crate::counters;

const LOCK: &str = "lock";
const DESCRIPTION: &str = "router.json";
/// Routers of one port that share a place.
const SAME_PORT_MAX: u32 = 16;
/// Attempts at a lock that somebody may hold for the moment of a look.
const ATTEMPTS: u32 = 50;
/// More shards than any machine has.
const SHARDS_MAX: u64 = 4096;
/// Longest description that is read.
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// The directory of this router; removed when dropped, except after a crash.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// It stays for whoever wants to know what happened.
    kept: bool,
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

    /// Leaves everything there when dropped: the counters tell what led to a failure.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Tells whoever looks what runs here.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn describe(&self, description: &Value) -> io::Result<()> {
        let next = self.path.join(format!(".{DESCRIPTION}"));
        let mut file = created(&next)?;
        writeln!(file, "{description:#}")?;
        fs::rename(next, self.path.join(DESCRIPTION))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if self.kept || std::thread::panicking() {
            return;
        }
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
    let mut found: Vec<Found> = places.iter().flat_map(|place| look_in(place)).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    found.sort_by_key(|found| !found.alive);
    found
}

/// Whose files are believed.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// Ourselves, root, and the owner of a place that only root can have made.
    owners: [u32; 3],
}

impl Trust {
    /// Whom to believe in `place`, if anybody.
    fn of(place: &Path) -> Option<Self> {
        let user = rustix::process::geteuid().as_raw();
        let ours = Self { owners: [user, 0, 0] };
        let link = place.symlink_metadata().ok()?;
        // The service manager makes the place for the service's user, or links to it: root's
        // directory (`/run`) takes entries from root alone.
        let by_root = place.parent().and_then(|parent| parent.metadata().ok());
        let by_root = by_root.is_some_and(|parent| Self { owners: [0; 3] }.covers(&parent));
        if link.is_symlink() && !by_root && !ours.owners.contains(&link.uid()) {
            return None;
        }
        let directory = place.metadata().ok()?;
        let given = if by_root { directory.uid() } else { 0 };
        let trust = Self { owners: [user, 0, given] };
        (directory.is_dir() && trust.covers(&directory)).then_some(trust)
    }

    /// Whether nobody else owns it or may write to it.
    fn covers(&self, metadata: &fs::Metadata) -> bool {
        self.owners.contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
    }

    /// Opens a regular file; anything else would not be ours, and a pipe would have us wait.
    fn open(&self, path: &Path) -> Option<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && self.covers(&metadata)).then_some(file)
    }
}

fn look_in(place: &Path) -> Vec<Found> {
    let Some(trust) = Trust::of(place) else { return Vec::new() };
    let entries = fs::read_dir(place).into_iter().flatten().take(1024).flatten();
    let named = entries.filter(|entry| {
        // As `take_in` names them.
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
    });
    named.filter_map(|entry| look(trust, entry.path())).collect()
}

fn look(trust: Trust, path: PathBuf) -> Option<Found> {
    let directory = path.symlink_metadata().ok()?;
    if !directory.is_dir() || !trust.covers(&directory) {
        return None;
    }
    let lock = trust.open(&path.join(LOCK))?;
    let mut text = String::new();
    let file = trust.open(&path.join(DESCRIPTION))?;
    file.take(DESCRIPTION_BYTES_MAX).read_to_string(&mut text).ok()?;
    let description: Value = serde_json::from_str(&text).ok()?;
    let shards = description["shards"].as_u64().unwrap_or_default().min(SHARDS_MAX);
    let shards = u32::try_from(shards).unwrap_or_default();
    // They are mapped later, by path; those that are missing are complained about then.
    let counters = (0..shards).map(|shard| counters_in(&path, shard));
    if counters
        .into_iter()
        .any(|file| file.symlink_metadata().is_ok() && trust.open(&file).is_none())
    {
        return None;
    }
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
            return Ok(RuntimeDir { path, kept: false, _lock: lock });
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
        let file = options().truncate(false).open(&name)?;
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

/// A fresh file at `path`.
fn created(path: &Path) -> io::Result<File> {
    options().truncate(true).open(path)
}

/// How our files are made: not the group's to write, whatever the umask, or nobody believes them.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o644);
    options
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

    /// A place with the files of a router that ended.
    fn left_behind(name: &str) -> [PathBuf; 1] {
        let place = place(name);
        let path = place.join("7743");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(LOCK), "").unwrap();
        fs::write(path.join(DESCRIPTION), r#"{"shards":1}"#).unwrap();
        fs::write(counters_in(&path, 0), "old").unwrap();
        for path in [place.clone(), path] {
            chmod(&path, 0o755);
        }
        assert_eq!(find(std::slice::from_ref(&place)).len(), 1);
        [place]
    }

    fn chmod(path: &Path, mode: u32) {
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        fs::set_permissions(path, mode).unwrap();
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let places = left_behind("writable");
        let path = places[0].join("7743");
        let (lock, description) = (path.join(LOCK), path.join(DESCRIPTION));
        let counters = counters_in(&path, 0);
        for (target, mode) in [(&places[0], 0o755), (&path, 0o755), (&lock, 0o644)]
            .into_iter()
            .chain([(&description, 0o644), (&counters, 0o644)])
        {
            for open in [0o020, 0o002] {
                chmod(target, mode | open);
                assert!(find(&places).is_empty(), "{} {open:o}", target.display());
                chmod(target, mode);
                assert_eq!(find(&places).len(), 1);
            }
        }
        fs::remove_dir_all(&places[0]).unwrap();
    }

    #[test]
    fn what_others_own_is_not_believed() {
        let places = left_behind("owned");
        let path = places[0].join("7743");
        let trust = Trust::of(&places[0]).unwrap();
        assert!(trust.covers(&path.metadata().unwrap()));
        let stranger = Trust { owners: [u32::MAX; 3] };
        assert!(!stranger.covers(&path.metadata().unwrap()));
        assert!(look(stranger, path.clone()).is_none());
        // Only root can give files away.
        if rustix::process::geteuid().is_root() {
            for file in [&places[0], &path, &path.join(DESCRIPTION)] {
                std::os::unix::fs::chown(file, Some(65_534), None).unwrap();
                assert!(find(&places).is_empty(), "{}", file.display());
                std::os::unix::fs::chown(file, Some(0), None).unwrap();
            }
        }
        fs::remove_dir_all(&places[0]).unwrap();
    }

    #[test]
    fn a_link_or_a_pipe_is_no_description() {
        let places = left_behind("pipe");
        let description = places[0].join("7743").join(DESCRIPTION);
        let elsewhere = places[0].join("elsewhere");
        fs::rename(&description, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &description).unwrap();
        assert!(find(&places).is_empty());
        for name in [DESCRIPTION, LOCK, "shard-0.counters"] {
            let places = left_behind("pipe");
            let file = places[0].join("7743").join(name);
            fs::remove_file(&file).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
            assert!(made.success());
            let (done, found) = std::sync::mpsc::channel();
            std::thread::spawn(move || done.send(find(&places).len()));
            let found = found.recv_timeout(std::time::Duration::from_secs(30));
            assert_eq!(found, Ok(0), "{name}");
        }
        fs::remove_dir_all(&places[0]).unwrap();
    }

    #[test]
    fn counters_outlive_a_failure_and_a_panic() {
        let places = [place("kept")];
        let start = || {
            let taken = RuntimeDir::take(&places, 7743).unwrap();
            taken.describe(&json!({"pid": 1})).unwrap();
            assert!(!taken.counters(0).exists(), "those of the one before are gone");
            fs::write(taken.counters(0), "x").unwrap();
            taken
        };
        let left = || {
            let found = find(&places);
            found.len() == 1 && !found[0].alive && counters_in(&found[0].path, 0).exists()
        };
        start().keep();
        assert!(left());
        let panicked = std::thread::scope(|scope| {
            let crash = || {
                let _taken = start();
                std::panic::resume_unwind(Box::new(()));
            };
            scope.spawn(crash).join()
        });
        assert!(panicked.is_err() && left());
        drop(start());
        assert!(find(&places).is_empty());
        fs::remove_dir(&places[0]).unwrap();
    }

    #[test]
    fn a_place_that_is_not_to_be_had_is_passed_over() {
        let (missing, open) = (place("missing").join("below"), place("open"));
        fs::create_dir_all(&open).unwrap();
        chmod(&open, 0o777);
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
