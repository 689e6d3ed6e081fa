//! A disk that is really full, and one that is really read-only.

use std::io::ErrorKind;
use std::process::Command;

use peerstore::directory::StoreDir;
use peerstore::storage::{Storage, StoredFile};

use crate::temp::{self, Temp};

/// Room on the disk.
const BYTES: usize = 1 << 20;

/// Runs one of the tests on a disk of [`BYTES`] of its own, which only it sees. Without the right to
/// mount one nothing is tested, and that is said.
fn on_a_small_disk(test: &str) {
    let temp = Temp::new();
    let path = temp.path().to_str().expect("a path in UTF-8");
    let mount = format!("mount -t tmpfs -o size={BYTES} tmpfs '{path}'");
    let probe = |how: &&str| {
        let output = Command::new("unshare").args([how, "sh", "-c", &mount]).output();
        output.is_ok_and(|output| output.status.success())
    };
    // As root, or as one who may be root among themselves.
    let Some(how) = ["-m", "-rm"].into_iter().find(probe) else {
        eprintln!("SKIPPED {test}: no right to mount a small disk");
        return;
    };
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    let mut command = temp::again(&["unshare", how, "sh", "-c", &script], test);
    let output = command.env(temp::DIR, path).output().expect("what was just run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("done on the small disk"), "{output:?}");
}

#[test]
fn a_full_disk_says_so_and_gives_room_back() {
    let Some(path) = temp::told() else {
        return on_a_small_disk("full::a_full_disk_says_so_and_gives_room_back");
    };
    let store = StoreDir::open(&path).unwrap();
    let disk = store.shard(0).unwrap();
    let mut first = disk.create("wal-1.log").unwrap();
    first.append(&[1; BYTES / 4]).unwrap();
    first.sync().unwrap();
    let error = first.reserve(2 * BYTES as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    first.trim().unwrap();

    let mut second = disk.create("wal-2.log").unwrap();
    let error = second.append(&[2; BYTES]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    second.trim().unwrap();
    let written = disk.read("wal-2.log").unwrap().len();
    assert!(written > 0 && written < BYTES, "a beginning of it: {written}");
    assert!(disk.read("wal-2.log").unwrap().iter().all(|byte| *byte == 2));
    assert_eq!(disk.read("wal-1.log").unwrap().len(), BYTES / 4);

    drop(disk);
    drop(store);
    let store = StoreDir::open(&path).unwrap();
    let disk = store.shard(0).unwrap();
    disk.remove("wal-2.log").unwrap();
    drop(second);
    disk.sync().unwrap();
    first.append(&[1; BYTES / 4]).unwrap();
    println!("done on the small disk");
}

#[test]
fn a_read_only_disk_says_so_and_can_be_read() {
    let Some(path) = temp::told() else {
        return on_a_small_disk("full::a_read_only_disk_says_so_and_can_be_read");
    };
    let store = StoreDir::open(&path).unwrap();
    store.shard(0).unwrap().create("wal-1.log").unwrap().append(b"bytes").unwrap();
    drop(store);
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(&path).status().unwrap();
    assert!(remount.success());
    let refused = StoreDir::open(&path).unwrap_err();
    assert!(refused.to_string().contains("Read-only file system"), "{refused}");
    let store = StoreDir::open_read_only(&path).unwrap();
    assert_eq!(&store.shard(0).unwrap().read("wal-1.log").unwrap()[..], b"bytes");
    println!("done on the small disk");
}
