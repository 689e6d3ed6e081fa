//! The directory of a router's stores: one process at a time, nobody else's, complete after a crash.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};

use peerstore::directory::{OpenError, StoreDir};
use peerstore::storage::{Storage, StoredFile};

use crate::temp::{self, Temp};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").mode() & 0o7777
}

/// The process that an error says is in the way.
fn held(result: Result<StoreDir, OpenError>) -> Option<u32> {
    match result {
        Err(OpenError::Held { pid, .. }) => pid,
        other => panic!("not held: {other:?}"),
    }
}

#[test]
fn a_directory_is_made_for_its_owner_alone() {
    let temp = Temp::new();
    let path = temp.path().join("store");
    let deep = temp.path().join("a/b/store");
    let store = StoreDir::open(&path).unwrap();
    assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
    store.shard(3).unwrap();
    assert_eq!(mode(&path.join("shard-3")), 0o700);
    match StoreDir::open(&deep) {
        Err(OpenError::Io { doing: "make", path, error }) => {
            assert_eq!((path, error.kind()), (deep.clone(), ErrorKind::NotFound));
        }
        other => panic!("{other:?}"),
    }
    assert!(!temp.path().join("a").exists());
    assert_eq!(StoreDir::open_with_parents(&deep).unwrap().path(), deep);
    assert_eq!((mode(&temp.path().join("a")), mode(&deep)), (0o700, 0o700));
    drop(store);
    std::fs::set_permissions(&path, Permissions::from_mode(0o2775)).unwrap();
    StoreDir::open(&path).unwrap();
    assert_eq!(mode(&path), 0o2700);
}

#[test]
fn a_directory_that_is_no_store_keeps_its_mode() {
    let temp = Temp::new();
    let shared = temp.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    std::fs::write(shared.join("somebody's"), "x").unwrap();
    let dir = StoreDir::open(&shared).unwrap();
    assert_eq!(mode(&shared), 0o1777, "others need it");
    // What is ours in it is closed in any case.
    dir.shard(0).unwrap();
    assert_eq!((mode(&shared.join("shard-0")), mode(&shared.join("lock"))), (0o700, 0o600));
}

#[test]
fn shards_come_and_go_with_their_directories() {
    let temp = Temp::new();
    let store = StoreDir::open(temp.path()).unwrap();
    assert_eq!(store.shards().unwrap(), [0_u16; 0]);
    for name in ["shard-", "shard-x", "shard-07", "shard-+7", "shard-65536", "other-1"] {
        std::fs::create_dir(temp.path().join(name)).unwrap();
    }
    std::fs::write(temp.path().join("shard-9"), b"a file").unwrap();
    for id in [10, 2, 65535] {
        store.shard(id).unwrap().create("wal-1.log").unwrap().append(b"x").unwrap();
    }
    assert_eq!(store.shards().unwrap(), [2, 10, 65535]);
    let disk = store.shard(2).unwrap();
    assert_eq!(disk.list().unwrap(), ["wal-1.log"], "it is not made anew");
    assert_eq!(store.remove_shard(2).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    disk.remove("wal-1.log").unwrap();
    store.remove_shard(2).unwrap();
    assert_eq!(store.remove_shard(2).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.shards().unwrap(), [10, 65535]);
    assert!(store.shard(9).is_err());
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let temp = Temp::new();
    let own = Some(std::process::id());
    assert!(matches!(StoreDir::open_read_only(temp.path()), Err(OpenError::NoStore { .. })));
    let missing = temp.path().join("missing");
    assert!(matches!(StoreDir::open_read_only(&missing), Err(OpenError::NoStore { .. })));
    let writer = StoreDir::open(temp.path()).unwrap();
    let disk = writer.shard(1).unwrap();
    assert_eq!(held(StoreDir::open(temp.path())), own);
    assert_eq!(held(StoreDir::open_read_only(temp.path())), own);
    drop(writer);
    assert_eq!(held(StoreDir::open(temp.path())), own, "a shard still writes");
    drop(disk);
    let readers = [(), ()].map(|()| StoreDir::open_read_only(temp.path()).unwrap());
    assert_eq!(held(StoreDir::open(temp.path())), None, "who reads is not known");
    assert_eq!(readers[0].shards().unwrap(), [1]);
    let disk = readers[1].shard(1).unwrap();
    assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(readers[0].shard(2).unwrap_err().kind(), ErrorKind::NotFound);
    let removed = readers[0].remove_shard(1);
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    drop(readers);
    assert_eq!(held(StoreDir::open(temp.path())), None, "a shard is still read");
    drop(disk);
    StoreDir::open(temp.path()).unwrap();
}

#[test]
fn errors_name_the_directory_and_the_process() {
    let temp = Temp::new();
    let path = temp.path().display();
    let store = StoreDir::open(temp.path()).unwrap();
    let error = StoreDir::open(temp.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{path} is in use by process {}", std::process::id()));
    drop(store);
    std::fs::remove_file(temp.path().join("lock")).unwrap();
    let error = StoreDir::open_read_only(temp.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{path} is not the directory of a store: it has no lock file"));
    std::fs::create_dir(temp.path().join("lock")).unwrap();
    let error = StoreDir::open(temp.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot lock {path}: ")), "{error}");
    let text = StoreDir::open(Path::new("/proc/self/stat")).unwrap_err().to_string();
    assert!(text.starts_with("cannot make /proc/self/stat: "), "{text}");
}

/// What the lock file says is asked about, not believed.
#[test]
fn the_name_in_a_lock_file_may_be_anything() {
    let temp = Temp::new();
    drop(StoreDir::open(temp.path()).unwrap());
    let _reader = StoreDir::open_read_only(temp.path()).unwrap();
    for text in ["", "\n", "0\n", "-1\n", "-4\n", "x", "99999999999\n", "2147483647\n", "1 2"] {
        std::fs::write(temp.path().join("lock"), text).unwrap();
        assert_eq!(held(StoreDir::open(temp.path())), None, "{text:?}");
    }
    std::fs::write(temp.path().join("lock"), [0xFF; 5000]).unwrap();
    assert_eq!(held(StoreDir::open(temp.path())), None);
}

/// Another process with the directory open, until its input ends.
struct Other(Child);

impl Other {
    fn new(path: &Path) -> Self {
        let mut command = temp::again(&[], "directory::held_for_another_process");
        command.env(temp::DIR, path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program, again");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let held =
            |line: &Result<String, _>| line.as_ref().is_ok_and(|line| line.ends_with("held"));
        assert!(lines.any(|line| held(&line)), "it says when");
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing by itself; the other process of the next test.
#[test]
fn held_for_another_process() {
    let Some(path) = temp::told() else { return };
    let _store = StoreDir::open(&path).unwrap();
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_second_process_is_refused_until_the_first_is_dead() {
    let temp = Temp::new();
    let mut other = Other::new(temp.path());
    assert_eq!(held(StoreDir::open(temp.path())), Some(other.0.id()));
    assert_eq!(held(StoreDir::open_read_only(temp.path())), Some(other.0.id()));
    other.0.kill().unwrap();
    other.0.wait().unwrap();
    let left = std::fs::read_to_string(temp.path().join("lock")).unwrap();
    assert_eq!(left.trim_end(), other.0.id().to_string(), "it had no time to tidy up");
    let _store = StoreDir::open(temp.path()).unwrap();
    assert_eq!(held(StoreDir::open(temp.path())), Some(std::process::id()));
}
