//! What a router remembers: over its end, over a shard's panic, and in the files themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use molia_router::client::{Client, Error, OwnedRecord};
use molia_router::counters::layout::Id;
use molia_router::ids::Key;
use molia_router::shard::StoreConfig;
use molia_router::wire::{Code, StoreCode};
use peerstore::journal::{self, Durability};
use peerstore::storage::Disk;
use peerstore::{FileHeader, Record, Recovery, Store, StoreDir};

use super::server::{Server, Shape, engines, eventually, identity};
use super::values::{HOUR, found, one_of_each_home, store, value_of};

/// A directory that is gone when a test is over.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("molia-keeping-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// One in it for a store.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What the files of `store` are at this moment, in a directory of its own.
    fn copy(&self, store: &Path) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let to = self.0.join(format!("copy-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        for shard in fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()) {
            if shard.is_dir() {
                let to = to.join(shard.file_name().unwrap());
                fs::create_dir_all(&to).unwrap();
                for file in fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path()) {
                    // What is no longer needed may go at any time.
                    let copied = fs::copy(&file, to.join(file.file_name().unwrap()));
                    assert!(copied.is_ok() || !file.exists(), "{copied:?}");
                }
            }
        }
        to
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's folder for such things hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How `durability` is kept in `path`, which nobody else has.
pub(crate) fn config(path: &Path, durability: Durability) -> StoreConfig {
    StoreConfig {
        directory: Arc::new(StoreDir::open(path).unwrap()),
        files: peerstore::Config::default(),
        journal: journal::Config { durability, ..journal::Config::default() },
    }
}

pub(crate) fn start(path: &Path, durability: Durability, shape: Shape) -> Server {
    Server::keeping(shape, config(path, durability)).unwrap()
}

/// The names of a shard's files that begin so, in order.
pub(crate) fn files(shard: &Path, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    let mut all: Vec<_> = all.filter(name).collect();
    all.sort();
    all
}

/// What is in a store that nobody writes: values and providers by key, and how many bindings.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) values: BTreeMap<Key, Vec<u8>>,
    providers: BTreeMap<Key, usize>,
    bindings: usize,
    damaged: bool,
}

impl Contents {
    /// Opens it as its shards would.
    pub(crate) fn read(path: &Path) -> Self {
        let mut contents = Self::default();
        for shard in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if shard.is_dir() {
                contents.damaged |= contents.add(&shard).is_damaged();
            }
        }
        contents
    }

    fn add(&mut self, shard: &Path) -> Recovery {
        let mut any = files(shard, "wal-");
        any.extend(files(shard, "snapshot-"));
        // One that was being made may have no header yet.
        let header = any.iter().find_map(|file| FileHeader::decode(&fs::read(file).unwrap()).ok());
        let Some(header) = header else { return Recovery::default() };
        let disk = Disk::open(shard).unwrap();
        let files = peerstore::Config::default();
        let apply = |record: Record<'_>| self.apply(&record);
        let (_, recovery) =
            Store::open(disk, header.shard, header.partition_hash, files, 0, apply).unwrap();
        recovery
    }

    fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Value(value) => {
                self.values.insert(Key(value.key.0), value.message.bytes().to_vec());
            }
            Record::Provider(provider) => {
                *self.providers.entry(Key(provider.key.0)).or_default() += 1;
            }
            Record::Binding(_) => self.bindings += 1,
            Record::Peer(_)
            | Record::Score(_)
            | Record::Tombstone(_)
            | Record::Ban(_)
            | Record::PathFacts(_)
            | Record::Allocation(_)
            | Record::Seal(_) => {}
        }
    }
}

/// Has a client of each shard store `rounds` values at each owner, and announce a key there.
fn fill(server: &Server, rounds: usize) -> (Vec<OwnedRecord>, Vec<Key>) {
    let (mut records, mut keys) = (Vec::new(), Vec::new());
    for (who, client) in &mut one_of_each_home(server) {
        for owner in server.numbers() {
            for _ in 0..rounds {
                let value = value_of(server, owner, 40 + records.len());
                let record = OwnedRecord::immutable(value, HOUR);
                assert_eq!(store(client, &record), StoreCode::Ok);
                records.push(record);
            }
            let key = Key::of_value(&value_of(server, owner, 800 + keys.len()));
            assert_eq!(client.announce(who, &key, b"meta", HOUR).unwrap().code, StoreCode::Ok);
            keys.push(key);
        }
    }
    (records, keys)
}

/// Everybody finds all of it.
fn check(server: &Server, (records, keys): &(Vec<OwnedRecord>, Vec<Key>)) {
    for (_, client) in &mut one_of_each_home(server) {
        check_as(client, records, keys);
    }
}

pub(crate) fn check_as(client: &mut Client, records: &[OwnedRecord], keys: &[Key]) {
    for record in records {
        let is = found(client, &record.key).expect("what was acknowledged");
        assert_eq!((&is.value, is.owner, is.sequence), (&record.value, record.owner, 0));
    }
    for key in keys {
        let providers = client.find_value(key, 0).unwrap().providers;
        assert_eq!(providers.len(), 1, "{key:?}");
        assert_eq!(providers[0].meta, b"meta");
    }
}

pub(crate) fn shape(engine: molia_router::port::EngineChoice, shards: u16) -> Shape {
    Shape { engine, listen: "127.0.0.1:0", shards, steer: true }
}

#[test]
fn everything_is_there_after_a_restart_with_whatever_number_of_shards() {
    for &engine in engines() {
        for shards in [&[1, 1, 2][..], &[2, 2, 3, 1], &[3, 3, 1, 2]] {
            let folder = Folder::new();
            let mut kept = None;
            for &shards in shards {
                let server = start(&folder.store(), Durability::Group, shape(engine, shards));
                let kept = kept.get_or_insert_with(|| fill(&server, 2));
                check(&server, kept);
                assert_eq!(server.each(Id::StoreOpen, &[]), vec![1; shards.into()]);
                assert_eq!(server.sum(Id::StoreDamage, &["torn"]), 0);
                server.stop();
            }
            let dirs = files(&folder.store(), "shard-");
            let last = usize::from(shards[shards.len() - 1]);
            assert_eq!(dirs.len(), last, "directories of no shard are removed");
            let contents = Contents::read(&folder.store());
            let (records, keys) = kept.unwrap();
            assert_eq!((contents.values.len(), contents.damaged), (records.len(), false));
            assert!(keys.iter().all(|key| contents.providers.contains_key(key)));
            // Those of all homes that there ever were.
            assert!(contents.bindings >= usize::from(*shards.iter().max().unwrap()));
        }
    }
}

#[test]
fn a_shard_that_panics_has_its_values_again() {
    const SICK: u16 = 1;
    for &engine in engines() {
        for durability in Durability::ALL {
            let folder = Folder::new();
            let server = start(&folder.store(), durability, shape(engine, 3));
            let kept = fill(&server, 3);
            let mut other = one_of_each_home(&server);
            let values = [9; 3];
            server.await_each(Id::Values, &[], &values);
            for restarts in 1..=3 {
                server.shards().panic(SICK.into());
                server.await_each(Id::Restarts, &[], &[0, restarts, 0]);
                server.await_each(Id::Values, &[], &values);
                let (_, other) = &mut other[2];
                check_as(other, &kept.0, &kept.1);
            }
            check(&server, &kept);
            assert_eq!(server.counters(SICK).value(Id::StoreOpen, &[]), Some(1));
            server.stop();
        }
    }
}

#[test]
fn a_shard_whose_store_is_gone_serves_and_keeps_nothing() {
    const SICK: u16 = 1;
    for &engine in engines() {
        let folder = Folder::new();
        let server = start(&folder.store(), Durability::Group, shape(engine, 2));
        let kept = fill(&server, 1);
        let shard = folder.store().join("shard-1");
        fs::rename(&shard, folder.store().join("away")).unwrap();
        fs::write(&shard, "no directory").unwrap();
        server.shards().panic(SICK.into());
        server.await_each(Id::Restarts, &[], &[0, 1]);
        server.await_each(Id::StoreOpen, &[], &[1, 0]);
        let mut client = server.connect_as(&identity(5000));
        let record = OwnedRecord::immutable(value_of(&server, SICK, 99), HOUR);
        let refused = client.store(&record.borrowed()).unwrap_err();
        let Error::Refused { refusal, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, Code::Busy);
        for record in &kept.0 {
            let there = server.partition.owner(&record.key.0) != SICK;
            assert_eq!(found(&mut client, &record.key).is_some(), there);
        }
        // What it had is there once its directory is.
        fs::remove_file(&shard).unwrap();
        fs::rename(folder.store().join("away"), &shard).unwrap();
        server.shards().panic(SICK.into());
        server.await_each(Id::StoreOpen, &[], &[1, 1]);
        check(&server, &kept);
        server.stop();
    }
}

#[test]
fn what_a_strict_store_acknowledged_is_in_its_files() {
    for &engine in engines() {
        let folder = Folder::new();
        let server = start(&folder.store(), Durability::Strict, shape(engine, 2));
        let mut clients = one_of_each_home(&server);
        let mut acknowledged = BTreeMap::new();
        for n in 0..6 {
            let (who, client) = &mut clients[n % 2];
            let owner = u16::from(n % 4 > 1);
            let record = OwnedRecord::immutable(value_of(&server, owner, 40 + n), HOUR);
            assert_eq!(store(client, &record), StoreCode::Ok);
            let contents = Contents::read(&folder.copy(&folder.store()));
            acknowledged.insert(record.key, record.value.clone());
            let kept: Vec<_> = contents.values.keys().collect();
            assert_eq!(kept, acknowledged.keys().collect::<Vec<_>>());
            let key = Key([u8::try_from(n).unwrap(); 32]);
            assert_eq!(client.announce(who, &key, b"", HOUR).unwrap().code, StoreCode::Ok);
            let contents = Contents::read(&folder.copy(&folder.store()));
            assert!(contents.providers.contains_key(&key) && !contents.damaged);
        }
        server.stop();
    }
}

#[test]
fn a_log_that_was_damaged_is_set_aside_and_the_rest_is_served() {
    for &engine in engines() {
        let folder = Folder::new();
        let server = start(&folder.store(), Durability::Group, shape(engine, 1));
        let (records, keys) = fill(&server, 20);
        server.stop();
        let shard = folder.store().join("shard-0");
        let [log] = &files(&shard, "wal-")[..] else { panic!("one log") };
        let mut bytes = fs::read(log).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 3].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(log, &bytes).unwrap();

        let server = start(&folder.store(), Durability::Group, shape(engine, 1));
        assert_eq!(server.sum(Id::StoreDamage, &["corrupt"]), 1);
        let [copy] = &files(&shard, "wal.corrupt-")[..] else { panic!("one copy") };
        assert_eq!(fs::read(copy).unwrap(), bytes);
        let mut client = server.connect_as(&identity(5000));
        let there: Vec<_> =
            records.iter().map(|it| found(&mut client, &it.key).is_some()).collect();
        let before = there.iter().take_while(|there| **there).count();
        assert!((5..15).contains(&before) && !there[before..].contains(&true), "{there:?}");
        // It works as ever, and the damage is behind it once a snapshot is made.
        for record in &records[before..] {
            assert_eq!(store(&mut client, record), StoreCode::Ok);
        }
        eventually("a snapshot", || match server.sum(Id::StoreSnapshots, &[]) {
            0 => Err("none".into()),
            _ => Ok(()),
        });
        server.stop();
        let server = start(&folder.store(), Durability::Group, shape(engine, 1));
        assert_eq!(server.sum(Id::StoreDamage, &["corrupt"]), 0);
        check_as(&mut server.connect_as(&identity(5000)), &records, &keys[1..]);
        server.stop();
    }
}

#[test]
fn a_log_that_is_long_is_replaced_while_peers_store() {
    for &engine in engines() {
        let folder = Folder::new();
        let mut store_config = config(&folder.store(), Durability::Group);
        store_config.files.compact_log_bytes = 64 << 10;
        let server = Server::keeping(shape(engine, 1), store_config).unwrap();
        let (mut records, mut last) = (Vec::new(), 0);
        // Each of them some times the log's size.
        for n in 5000_u64.. {
            let mut client = server.connect_as(&identity(n));
            for at in 0..50 {
                let record = OwnedRecord::immutable(format!("{n} {at} ").repeat(500).into(), HOUR);
                assert_eq!(store(&mut client, &record), StoreCode::Ok);
                records.push(record);
            }
            let shot = server.sum(Id::StoreSnapshots, &[]);
            if shot > last {
                last = shot;
                let shard = folder.store().join("shard-0");
                // The one before is removed after the new one is counted.
                eventually("two at most", || match files(&shard, "snapshot-") {
                    kept if kept.len() <= 2 => Ok(()),
                    kept => Err(format!("{kept:?}")),
                });
            }
            if shot >= 4 || records.len() >= 1000 {
                break;
            }
        }
        assert!(last >= 4, "{last} snapshots of {} values", records.len());
        // As a kill would leave it, but for what is not written yet.
        let contents = Contents::read(&folder.copy(&folder.store()));
        assert!(!contents.damaged);
        server.stop();
        let shard = folder.store().join("shard-0");
        assert!(files(&shard, "wal-").len() <= 3, "{:?}", files(&shard, ""));
        let contents = Contents::read(&folder.copy(&folder.store()));
        assert_eq!((contents.values.len(), contents.damaged), (records.len(), false));
        let server = start(&folder.store(), Durability::Group, shape(engine, 1));
        check_as(&mut server.connect_as(&identity(1)), &records, &[]);
        server.stop();
    }
}
