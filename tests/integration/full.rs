//! A disk that is really full: what cannot be kept is refused, everything else goes on.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use molia_router::client::{Client, Error, OwnedRecord};
use molia_router::clock::Clock;
use molia_router::counters::layout::Id;
use molia_router::port::EngineChoice;
use molia_router::wire::{Code, StoreCode};
use peerstore::journal::Durability;

use super::fallback;
use super::keeping::{Folder, check_as, shape, start};
use super::server::{PATIENCE, Server, engines, eventually, identity};
use super::values::{HOUR, found};

/// Set for the test that runs on the small disk: where that is.
const SMALL: &str = "MOLIA_TEST_SMALL_DISK";
const DONE: &str = "done on the small disk";

/// Runs a test of this program again, with a disk of 2 MiB of its own that only it sees. Without the
/// right to mount one nothing is tested, and that is said.
fn on_a_small_disk(test: &str) {
    if fallback::is_run_without_uring() {
        return;
    }
    let folder = Folder::new();
    let path = folder.0.to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=2m tmpfs '{path}'");
    let probe = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: cannot mount a small disk: {probe:?}");
        return;
    }
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SMALL, path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(DONE), "{text}{error}");
}

/// The disk, if this is the run on it.
fn small_disk() -> Option<PathBuf> {
    env::var_os(SMALL).map(PathBuf::from)
}

/// Leaves no room at all.
fn fill_up(file: &Path) {
    let mut file = fs::File::create(file).unwrap();
    let mut step = 1 << 16;
    while step > 0 {
        if file.write_all(&vec![1; step]).is_err() {
            step /= 2;
        }
    }
}

/// Stores values until one is refused; those that were acknowledged.
fn store_until_busy(client: &mut Client, first: usize) -> Vec<OwnedRecord> {
    let mut kept = Vec::new();
    let clock = Clock::start();
    for n in first.. {
        let record = OwnedRecord::immutable(n.to_string().repeat(100).into_bytes(), HOUR);
        match client.store(&record.borrowed()) {
            Ok(written) if written.code == StoreCode::Ok => kept.push(record),
            // Where the answer waits for the disk.
            Err(Error::Timeout { .. }) => {}
            // A session's burst of writes may be over before the disk's failure is known.
            Err(Error::Refused { refusal, .. }) if refusal.code == Code::RateLimited => {
                client.idle(refusal.retry_after.unwrap_or_default()).unwrap();
            }
            Err(Error::Refused { refusal, .. }) => {
                assert_eq!(refusal.code, Code::Busy, "after {}: {refusal}", kept.len());
                assert!(refusal.retry_after.is_some());
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(clock.moment().since(molia_router::time::Moment::START) < PATIENCE);
    }
    kept
}

fn faults(server: &Server) -> u64 {
    server.sum(Id::StoreFaults, &["no_space"])
}

fn fill_and_free(disk: &Path, engine: EngineChoice, durability: Durability) {
    let (store, filler) = (disk.join("store"), disk.join("filler"));
    let server = start(&store, durability, shape(engine, 1));
    let mut client = server.connect_as(&identity(7000));
    let mut kept = Vec::new();
    for n in 0..20 {
        let record = OwnedRecord::immutable(vec![n; 1000], HOUR);
        assert_eq!(client.store(&record.borrowed()).unwrap().code, StoreCode::Ok);
        kept.push(record);
    }
    for round in 1..=2 {
        fill_up(&filler);
        let mut other = server.connect_as(&identity(7000 + round as u64));
        kept.extend(store_until_busy(&mut other, 1000 * round));
        server.await_each(Id::StoreFailing, &["no_space"], &[1]);
        assert!(faults(&server) > 0);
        // What is there is found, and who asks for nothing to be kept is served.
        let mut newcomer = server.connect_as(&identity(7100 + round as u64));
        check_as(&mut newcomer, &kept, &[]);
        for _ in 0..20 {
            newcomer.ping(0).unwrap();
            newcomer.find_node(&identity(1).peer_id(), 0).unwrap();
        }
        let key = molia_router::ids::Key([7; 32]);
        let who = identity(7100 + round as u64);
        let refused = newcomer.announce(&who, &key, b"", HOUR).unwrap_err();
        assert!(matches!(refused, Error::Refused { refusal, .. } if refusal.code == Code::Busy));

        fs::remove_file(&filler).unwrap();
        let record = OwnedRecord::immutable(vec![100 + u8::try_from(round).unwrap(); 1000], HOUR);
        let clock = Clock::start();
        eventually("it keeps again", || match newcomer.store(&record.borrowed()) {
            Ok(written) if written.code == StoreCode::Ok => Ok(()),
            other => Err(format!("{other:?}")),
        });
        println!("{durability:?}: kept again after {:?}", clock.moment());
        server.await_each(Id::StoreFailing, &["no_space"], &[0]);
        kept.push(record);
    }
    let before = faults(&server);
    server.stop();
    let server = start(&store, durability, shape(engine, 1));
    println!("{durability:?}: {} kept, {before} faults", kept.len());
    check_as(&mut server.connect_as(&identity(7200)), &kept, &[]);
    server.stop();
    // It starts on a disk that is full, too, and serves what it has.
    fill_up(&filler);
    let server = start(&store, durability, shape(engine, 1));
    let mut client = server.connect_as(&identity(7201));
    check_as(&mut client, &kept, &[]);
    assert_eq!(store_until_busy(&mut client, 9000), []);
    fs::remove_file(&filler).unwrap();
    let record = OwnedRecord::immutable(vec![200; 1000], HOUR);
    eventually("it keeps again", || match client.store(&record.borrowed()) {
        Ok(written) if written.code == StoreCode::Ok => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(found(&mut client, &record.key).is_some());
    // What cannot be written at the end is an error that says what it is.
    fill_up(&filler);
    store_until_busy(&mut client, 10_000);
    let error = server.end().unwrap_err().to_string();
    assert!(error.starts_with("the store: cannot ") && error.contains("No space left"), "{error}");
    fs::remove_file(&filler).unwrap();
    let server = start(&store, durability, shape(engine, 1));
    check_as(&mut server.connect_as(&identity(7202)), &kept, &[]);
    server.stop();
    fs::remove_dir_all(&store).unwrap();
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_nothing_else() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("full::a_full_disk_refuses_what_it_cannot_keep_and_nothing_else");
    };
    for &engine in engines() {
        for durability in Durability::ALL {
            fill_and_free(&disk, engine, durability);
        }
    }
    println!("{DONE}");
}
