//! `kill -9` at the start and under load, time and again: what was acknowledged is there, and nothing that nobody
//! wrote. The kernel outlives the router here; what a power cut takes is the simulation's to show.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use molia_router::client::link::Link;
use molia_router::client::{Client, Error, Options, OwnedRecord};
use molia_router::clock::Clock;
use molia_router::identity::Identity;
use molia_router::ids::Key;
use molia_router::partition::Partition;
use molia_router::shard;
use molia_router::wire::StoreCode;
use molia_router::wire::body;
use peerstore::{Record, Shard, Store, StoreDir};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::place::Place;
use super::running::Router;

const HOUR: Duration = Duration::from_secs(3600);
const WRITERS: u64 = 4;
/// Rounds on one store; then a new one, so that what is compared stays small.
const ROUNDS_A_STORE: u64 = 20;
/// Those of a run that nobody set (`MOLIA_KILLS`).
const ROUNDS: u64 = 10;

/// What one store's clients asked for, over all its rounds.
#[derive(Default)]
struct Asked {
    /// Digests of values that were, or may have been, stored.
    tried: Mutex<HashSet<Key>>,
    acknowledged: Mutex<HashSet<Key>>,
    /// By name: the newest sequence that was acknowledged, and that was tried.
    names: Mutex<BTreeMap<Key, (u64, u64)>>,
}

/// What a store's files say: values by key, with their sequences. They may be in the middle of being
/// divided anew; here they are, for one shard.
fn contents(store: &Path, copy: &Path) -> BTreeMap<Key, (Key, u64)> {
    for shard in fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()) {
        if shard.is_dir() {
            let to = copy.join(shard.file_name().unwrap());
            fs::create_dir_all(&to).unwrap();
            for file in fs::read_dir(&shard).unwrap().map(|entry| entry.unwrap().path()) {
                fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let mut found = BTreeMap::new();
    let directory = StoreDir::open(copy).unwrap();
    let one = Partition::single();
    let divided = shard::divide(&directory, &one, 0).unwrap();
    assert!(!divided.recovery.is_damaged(), "a kill damages nothing: {divided:?}");
    let apply = |record: Record<'_>| {
        if let Record::Value(value) = record {
            let record = body::Record::read(value.message.bytes()).unwrap();
            let digest = Key::of_value(record.value);
            found.insert(Key(value.key.0), (digest, value.sequence));
        }
    };
    let (disk, whose) = (directory.shard(0).unwrap(), Shard::new(0, 1).unwrap());
    let config = peerstore::Config::default();
    let (opened, recovery) = Store::open(disk, whose, one.hash(), config, 0, apply).unwrap();
    assert!(!recovery.is_damaged() && recovery.torn == 0, "{recovery:?}");
    drop((opened, directory));
    fs::remove_dir_all(copy).unwrap();
    found
}

impl Asked {
    /// Compares with what is there.
    fn check(&self, found: &BTreeMap<Key, (Key, u64)>) {
        let (tried, acknowledged) = (self.tried.lock().unwrap(), self.acknowledged.lock().unwrap());
        let lost = acknowledged.iter().filter(|key| !found.contains_key(key)).count();
        assert_eq!(lost, 0, "of {} that were acknowledged", acknowledged.len());
        for (key, (digest, sequence)) in found {
            assert!(tried.contains(digest), "{key:?} has what nobody wrote");
            if let Some((acknowledged, tried)) = self.names.lock().unwrap().get(key) {
                assert!((acknowledged..=tried).contains(&sequence), "{key:?}: {sequence}");
            }
        }
        for (key, (acknowledged, _)) in self.names.lock().unwrap().iter() {
            assert!(*acknowledged == 0 || found.contains_key(key), "a name is gone");
        }
    }

    /// Writes until it is told to stop, or nobody answers any more.
    fn write(&self, link: &Link, rng: &mut ChaCha20Rng, stop: &AtomicBool, count: &AtomicU64) {
        let who = Identity::generate(rng);
        let options = Options { patience: Duration::from_secs(1), ..Options::default() };
        let Ok(mut client) = Client::connect(link, Some(&who), options) else { return };
        if client.negotiate(Some(&who)).is_err() {
            return;
        }
        for sequence in 1.. {
            let mut value = vec![0; 16 + usize::try_from(rng.next_u32() % 6000).unwrap()];
            rng.fill_bytes(&mut value);
            let named = sequence % 4 == 0;
            let record = if named {
                let now = Clock::start().now().unix_s();
                OwnedRecord::named(&who, b"name", value, sequence, now, HOUR)
            } else {
                OwnedRecord::immutable(value, HOUR)
            };
            self.tried.lock().unwrap().insert(Key::of_value(&record.value));
            if named {
                self.names.lock().unwrap().entry(record.key).or_default().1 = sequence;
            }
            let written = client.store(&record.borrowed());
            if stop.load(Ordering::Relaxed) && written.is_err() {
                return;
            }
            if written.is_ok_and(|written| written.code == StoreCode::Ok) {
                count.fetch_add(1, Ordering::Relaxed);
                if named {
                    self.names.lock().unwrap().entry(record.key).or_default().0 = sequence;
                } else {
                    self.acknowledged.lock().unwrap().insert(record.key);
                }
            } else {
                // Too fast for one session, perhaps: another one goes on.
                return;
            }
        }
    }
}

/// What a router is started with: another number of shards each time, so that every start divides
/// what is there anew.
fn settings(store: &Path, round: u64) -> Vec<String> {
    let dir = format!("peerstore/dir={}", store.display());
    let shards = format!("shards/count={}", 1 + round % 3);
    let fixed = [
        "peerstore/durability=strict",
        "peerstore/compact_log_bytes=1M",
        "stamp/bits=0",
        // Whatever is acknowledged finds a place, in a single shard, too.
        "overlay/values_bytes=512M",
        "overlay/values_max=1048576",
        "admin/listen=off",
    ];
    let all = fixed.map(str::to_owned).into_iter().chain([dir, shards]);
    all.flat_map(|set| ["--set".to_owned(), set]).collect()
}

fn start(place: &Place, store: &Path, round: u64) -> Router {
    let settings = settings(store, round);
    Router::start(place, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Kills a router that is just about to start, wherever it is then.
fn kill_at_start(place: &Place, store: &Path, round: u64, rng: &mut ChaCha20Rng) {
    let settings = settings(store, round);
    let mut args = vec!["run", "--config", "config", "--set", "udp/listen=127.0.0.1:0"];
    args.extend(settings.iter().map(String::as_str));
    let mut command = place.command(&args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::park_timeout(Duration::from_micros(u64::from(rng.next_u32() % 120_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Has clients write for a while and kills the router meanwhile; how many writes it acknowledged.
fn round(place: &Place, store: &Path, asked: &Arc<Asked>, seed: u64) -> u64 {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    kill_at_start(place, store, seed + 1, &mut rng);
    let router = start(place, store, seed);
    let link: Link = router.line("link").parse().unwrap();
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (link, asked) = (link.clone(), Arc::clone(asked));
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                let mut rng = ChaCha20Rng::seed_from_u64(seed * WRITERS + writer + (1 << 32));
                while !stop.load(Ordering::Relaxed) {
                    asked.write(&link, &mut rng, &stop, &count);
                }
            })
        })
        .collect();
    // Not before something was kept, so that each round says something.
    while count.load(Ordering::Relaxed) < 20 {
        thread::park_timeout(Duration::from_millis(1));
    }
    thread::park_timeout(Duration::from_micros(u64::from(rng.next_u32() % 500_000)));
    router.signal("-KILL");
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    count.load(Ordering::Relaxed)
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let rounds = std::env::var("MOLIA_KILLS").map_or(ROUNDS, |text| text.parse().unwrap());
    let first_seed = std::env::var("MOLIA_KILLS_SEED").map_or(1, |text| text.parse().unwrap());
    let place = Place::new("kills");
    let (mut asked, mut acknowledged) = (Arc::new(Asked::default()), 0);
    for round_number in 0..rounds {
        let store = place.path(&format!("store-{}", round_number / ROUNDS_A_STORE));
        if round_number % ROUNDS_A_STORE == 0 && round_number > 0 {
            asked = Arc::default();
            let last = place.path(&format!("store-{}", round_number / ROUNDS_A_STORE - 1));
            fs::remove_dir_all(last).unwrap();
        }
        acknowledged += round(&place, &store, &asked, first_seed + round_number);
        asked.check(&contents(&store, &place.path("copy")));
        // A router finds the same, as far as a few say.
        if round_number % 5 == 0 {
            let router = start(&place, &store, round_number);
            let link: Link = router.line("link").parse().unwrap();
            let mut client = Client::connect(&link, None, Options::default()).unwrap();
            client.negotiate(None).unwrap();
            let some: Vec<Key> = asked.acknowledged.lock().unwrap().iter().copied().collect();
            for key in some.iter().take(50) {
                // A busy machine may be slower than a client waits.
                let ask = || client.find_value(key, 0);
                let mut answers = std::iter::repeat_with(ask).take(20);
                let answer = answers.find(|it| !matches!(it, Err(Error::Timeout { .. })));
                assert!(answer.unwrap().unwrap().record.is_some(), "{key:?}");
            }
        }
    }
    println!(
        "{rounds} kills under load, and as many at the start, {acknowledged} values acknowledged, 0 lost, \
         none that nobody wrote"
    );
}
