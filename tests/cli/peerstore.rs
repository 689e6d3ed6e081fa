//! The tool that looks into a store while no router has it.

use std::fs;
use std::path::{Path, PathBuf};

use molia_router::identity::Identity;
use molia_router::ids::Key;
use molia_router::signing;
use molia_router::wire::body::{self, Writer};
use peerstore::record::{Ban, Binding, Host, Peer, Provider, Subject, Target, Tombstone, Value};
use peerstore::{Config, Message, PeerId, Record, Shard, SigningKey, Store, StoreDir, WgKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value as Json;

use super::place::{Outcome, Place};

const HASH: u64 = 0xABCD;
/// No test is about a time before this one.
const LATE: u64 = u64::MAX / 2;

fn encoded<E: std::fmt::Debug>(write: impl FnOnce(&mut Writer<'_>) -> Result<(), E>) -> Vec<u8> {
    let mut bytes = [0; 1024];
    let mut out = Writer::new(&mut bytes);
    write(&mut out).unwrap();
    let len = out.len();
    bytes[..len].to_vec()
}

fn identity() -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(7))
}

fn host(identity: &Identity) -> Host {
    Host { peer_id: PeerId(identity.peer_id().0), wireguard: WgKey(identity.wg_key().0) }
}

fn value(message: &[u8], key: [u8; 32], sequence: u64, expires_unix_s: u64) -> Record<'_> {
    let message = Message::new(message).unwrap();
    Record::Value(Value { key: peerstore::Key(key), sequence, expires_unix_s, message })
}

fn immutable(key: Key, value: &[u8]) -> body::Record<'_> {
    body::Record {
        key,
        value,
        sequence: 0,
        ttl_secs: 60,
        not_before_unix: 0,
        owner_pubkey: None,
        signature: None,
        salt: b"",
    }
}

/// Writes what a router would have: a true record of every kind that it makes, and some that are
/// replaced, deleted or expired.
fn write_records(store: &mut Store<peerstore::storage::Disk>) {
    let mut append = |record: Record<'_>| store.append(record.kind(), &record.payload());
    let (identity, mut scratch) = (identity(), Vec::new());
    let host = host(&identity);
    let bound = identity.binding(1, LATE);
    append(Record::Binding(Binding {
        host,
        signing: SigningKey(bound.ed25519_public),
        not_before_unix_s: 1,
        not_after_unix_s: LATE,
        signature: bound.signature,
    }));
    let list = [molia_router::wire::multiaddr::encode("192.0.2.7:7743".parse().unwrap())];
    let peer = body::Peer {
        peer_id: identity.peer_id(),
        addrs: body::Addrs::of(&list),
        rtt_ms: 3,
        wg_public: identity.wg_key(),
        flags: 0,
    };
    let message = encoded(|out| peer.write(out));
    let (first_seen_unix_s, last_seen_unix_s) = (5, 6);
    let message = Message::new(&message).unwrap();
    append(Record::Peer(Peer { host, first_seen_unix_s, last_seen_unix_s, message }));
    let value_of = |text: &'static [u8], expires| {
        let key = Key::of_value(text);
        let said = immutable(key, text);
        (encoded(|out| said.write(out)), key.0, expires)
    };
    for (message, key, expires) in [
        value_of(b"kept \x1b[2J", LATE),
        value_of(b"expired", 9),
        value_of(b"deleted", LATE),
        value_of(b"kept \x1b[2J", LATE + 1),
    ] {
        append(value(&message, key, 0, expires));
    }
    let key = peerstore::Key(Key::of_value(b"deleted").0);
    let subject = Subject::Value { key, sequence: 0 };
    append(Record::Tombstone(Tombstone { expires_unix_s: 0, subject }));
    let public = bound.ed25519_public;
    let mut said = body::Provider {
        peer_id: identity.peer_id(),
        meta: b"m\x07",
        expires_unix_s: LATE,
        sequence: 4,
        owner_pubkey: Some(&public),
        signature: None,
    };
    let announced = Key([9; 32]);
    let by_owner = signing::sign_provider(identity.signing_key(), &announced, &said, &mut scratch);
    said.signature = Some(&by_owner);
    let message = encoded(|out| said.write(out));
    append(Record::Provider(Provider {
        key: peerstore::Key(announced.0),
        peer_id: host.peer_id,
        sequence: 4,
        expires_unix_s: LATE,
        message: Message::new(&message).unwrap(),
    }));
    let target = Target::Network(peerstore::Network::new([198, 51, 100, 0].into(), 24).unwrap());
    append(Record::Ban(Ban { expires_unix_s: u64::MAX, cause: 2, target }));
}

fn open(directory: &StoreDir, id: u16, count: u16) -> Store<peerstore::storage::Disk> {
    let (disk, shard) = (directory.shard(id).unwrap(), Shard::new(id, count).unwrap());
    Store::open(disk, shard, HASH, Config::default(), 1, |_| {}).unwrap().0
}

/// A store in `place`, closed; `log` is its log with nine records.
fn store(place: &Place) -> PathBuf {
    let path = place.path("store");
    let directory = StoreDir::open(&path).unwrap();
    let mut store = open(&directory, 0, 1);
    write_records(&mut store);
    store.close().unwrap();
    path
}

fn log(path: &Path) -> PathBuf {
    path.join("shard-0/wal-1.log")
}

fn lines(outcome: Outcome) -> Vec<Json> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file below the store with its bytes.
fn contents(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    place.files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_clean_store_is_shown_and_left_alone() {
    let place = Place::new("store-clean");
    store(&place);
    let before = contents(&place);
    let text = place.run(&["peerstore", "inspect", "store"]).ok().stdout;
    assert!(text.starts_with("store/shard-0\n  wal-1.log"), "{text}");
    assert!(text.contains("(end_of_log); epoch 1, shard 0 of 1, division 000000000000abcd"));
    assert!(text.contains("1 binding, 1 peer, 1 value, 1 provider, 1 ban; of no snapshot"));
    let json = place.run(&["peerstore", "inspect", "store", "--json"]).ok().json();
    let shard = &json["shards"][0];
    let file = &shard["files"][0];
    assert_eq!((&file["name"], &file["ending"]), (&"wal-1.log".into(), &"whole".into()));
    assert_eq!(file["valid_bytes"], file["bytes"]);
    assert_eq!((&file["records"]["value"], &file["epoch"]), (&4.into(), &1.into()));
    assert_eq!(shard["live"]["records"]["value"], 1);
    assert_eq!(shard["live"]["records_read"], 9);
    // One shard's directory may be named, from inside it as well.
    let one = place.run(&["peerstore", "inspect", "store/shard-0", "--json"]).ok().json();
    assert_eq!(one["shards"][0]["files"], shard["files"]);

    let verified = place.run(&["peerstore", "verify", "store"]).ok();
    assert_eq!(verified.stdout, "ok: 9 records in 1 files\n");
    assert!(contents(&place) == before, "looking changes nothing");
}

#[test]
fn what_counts_is_exported() {
    let place = Place::new("store-export");
    store(&place);
    let live = lines(place.run(&["peerstore", "export", "store"]).ok());
    let kinds: Vec<_> = live.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["binding", "peer", "value", "provider", "ban"]);
    assert_eq!(live[1]["addresses"][0], "192.0.2.7:7743");
    assert_eq!(live[1]["peer_id"], identity().peer_id().to_string());
    assert_eq!(live[2]["key"], Key::of_value(b"kept \x1b[2J").to_string());
    assert_eq!((&live[2]["value_base64"], &live[2]["shard"]), (&"a2VwdCAbWzJK".into(), &0.into()));
    assert_eq!(live[2]["expires_unix_s"], LATE + 1, "the newest");
    assert_eq!((&live[3]["meta_base64"], &live[3]["sequence"]), (&"bQc=".into(), &4.into()));
    assert_eq!(live[4]["target"]["network"], "198.51.100.0/24");

    let args = ["peerstore", "export", "store", "--all", "--kind", "value,tombstone"];
    let all = lines(place.run(&args).ok());
    let kinds: Vec<_> = all.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["value", "value", "value", "value", "tombstone"]);
    assert_eq!(all[0]["file"], "wal-1.log");
    assert!(all[0]["offset"].as_u64() < all[1]["offset"].as_u64());

    place.run(&["peerstore", "export", "store", "--out", "all.jsonl"]).ok();
    assert_eq!(fs::read_to_string(place.path("all.jsonl")).unwrap().lines().count(), 5);
    let nowhere = place.run(&["peerstore", "export", "store", "--out", "no/such"]);
    nowhere.fails(73, "no/such: No such file or directory (os error 2)");
    assert_eq!(place.run(&["peerstore", "export", "store", "--kind", "seal"]).code, 64);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let place = Place::new("store-torn");
    let log = log(&store(&place));
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 3]).unwrap();
    let verified = place.run(&["peerstore", "verify", "store"]).ok().stdout;
    assert!(verified.contains("wal-1.log: torn at "), "{verified}");
    assert!(verified.ends_with("ok: 8 records in 1 files\n"), "{verified}");
}

#[test]
fn damage_is_named_with_its_place() {
    let place = Place::new("store-damage");
    let path = store(&place);
    let mut bytes = fs::read(log(&path)).unwrap();
    bytes[70] ^= 1;
    fs::write(log(&path), &bytes).unwrap();
    let before = contents(&place);
    let verified = place.run(&["peerstore", "verify", "store"]);
    verified.fails(65, "store is damaged in 1 places");
    assert_eq!(verified.stdout, "store/shard-0/wal-1.log: damaged at 64 (bad_checksum)\n");
    let json = place.run(&["peerstore", "verify", "store", "--json"]);
    assert_eq!((json.code, &json.json()["ok"]), (65, &false.into()));
    let inspected = place.run(&["peerstore", "inspect", "store", "--json"]).ok().json();
    assert_eq!(inspected["shards"][0]["live"]["damaged"], true);
    let exported = place.run(&["peerstore", "export", "store"]);
    assert_eq!((exported.code, exported.stdout.as_str()), (0, ""));
    assert!(exported.stderr.contains("is damaged: `peerstore verify` says where"));
    assert!(contents(&place) == before, "no copy is put aside");
}

#[test]
fn what_is_whole_and_not_true_is_damage() {
    let place = Place::new("store-untrue");
    let path = store(&place);
    let directory = StoreDir::open(&path).unwrap();
    let mut store = open(&directory, 0, 1);
    let identity = identity();
    let bound = identity.binding(1, LATE);
    let lie = Record::Binding(Binding {
        host: host(&identity),
        signing: SigningKey(bound.ed25519_public),
        not_before_unix_s: 1,
        not_after_unix_s: LATE + 1,
        signature: bound.signature,
    });
    let said = immutable(Key([1; 32]), b"x");
    let message = encoded(|out| said.write(out));
    for record in [lie, value(&message, [1; 32], 0, LATE), value(b"\xff", [2; 32], 0, LATE)] {
        store.append(record.kind(), &record.payload());
    }
    store.close().unwrap();
    drop(directory);
    let verified = place.run(&["peerstore", "verify", "store"]);
    verified.fails(65, "store is damaged in 3 places");
    let wrong: Vec<&str> = verified.stdout.lines().collect();
    assert_eq!(
        wrong[0],
        "store/shard-0/wal-2.log: at 64: a binding is not true: the signature is wrong"
    );
    assert!(wrong[1].ends_with("a value is not true: its key is another record's"));
    assert!(wrong[2].ends_with("a value is not true: its message cannot be read"));
}

#[test]
fn a_compacted_store_says_the_same_and_is_smaller() {
    let place = Place::new("store-compact");
    let path = store(&place);
    let before = lines(place.run(&["peerstore", "export", "store"]).ok());
    let text = place.run(&["peerstore", "compact", "store"]).ok().stdout;
    assert!(text.contains("5 of 9 records count"), "{text}");
    assert!(!log(&path).exists(), "what a snapshot holds is not kept twice over");
    assert_eq!(lines(place.run(&["peerstore", "export", "store"]).ok()), before);
    let verified = place.run(&["peerstore", "verify", "store"]).ok();
    assert_eq!(verified.stdout, "ok: 10 records in 4 files\n", "two snapshots and their logs");
    let inspected = place.run(&["peerstore", "inspect", "store", "--json"]).ok().json();
    let shard = &inspected["shards"][0];
    assert_eq!((&shard["live"]["snapshot"], &shard["live"]["logs"]), (&4.into(), &1.into()));
    assert_eq!(shard["files"][2]["reason"], "sealed");
    place.run(&["peerstore", "compact", "store/shard-0"]).ok();
    assert_eq!(lines(place.run(&["peerstore", "export", "store"]).ok()), before);
}

#[test]
fn another_division_is_not_touched() {
    let place = Place::new("store-foreign");
    let path = store(&place);
    let directory = StoreDir::open(&path).unwrap();
    open(&directory, 1, 2).close().unwrap();
    drop(directory);
    let verified = place.run(&["peerstore", "verify", "store"]);
    verified.fails(65, "store is damaged in 1 places");
    assert!(verified.stdout.contains("several divisions"), "{verified:?}");
    let (theirs, ours) = (path.join("shard-1/wal-1.log"), path.join("shard-0/wal-2.log"));
    fs::copy(&theirs, &ours).unwrap();
    let verified = place.run(&["peerstore", "verify", "store"]);
    assert!(verified.stdout.contains("wal-2.log: damaged header (misplaced)"), "{verified:?}");
    let directory = StoreDir::open(&path).unwrap();
    open(&directory, 1, 2).close().unwrap();
    drop(directory);
    fs::copy(theirs.with_file_name("wal-2.log"), &ours).unwrap();
    let before = contents(&place);
    let verified = place.run(&["peerstore", "verify", "store"]);
    assert!(verified.stdout.contains("shard-0/wal-2.log: belongs to shard 1"), "{verified:?}");
    place.run(&["peerstore", "compact", "store"]).fails(
        65,
        "store/shard-0: files are of another division among shards (a router that is started \
         divides them anew)",
    );
    assert!(contents(&place) == before, "nothing was begun");
}

#[test]
fn a_store_in_use_is_refused() {
    let place = Place::new("store-held");
    let path = store(&place);
    let held = StoreDir::open(&path).unwrap();
    for command in ["inspect", "verify", "compact", "export"] {
        place.run(&["peerstore", command, "store"]).fails(
            69,
            &format!(
                "store is in use by process {} (the tool and a router do not work on a store at \
                 once)",
                std::process::id()
            ),
        );
    }
    drop(held);
    let reading = StoreDir::open_read_only(&path).unwrap();
    place.run(&["peerstore", "inspect", "store"]).ok();
    assert_eq!(place.run(&["peerstore", "compact", "store"]).code, 69);
    drop(reading);
    for command in ["inspect", "compact"] {
        place
            .run(&["peerstore", command, "nowhere"])
            .fails(74, "nowhere is not the directory of a store: it has no lock file");
    }
    assert!(!place.path("nowhere").exists(), "compacting makes no store");
}
