//! What a router keeps for peers and hands to the store: when it says so, and what comes back.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod support;

use molia_router::identity::Identity;
use molia_router::ids::Key;
use molia_router::router::{Config, Cursor, Keeping};
use molia_router::signing;
use molia_router::wire::body::{
    AnnounceProviderReq, AnnounceProviderResp, Error, FindValueReq, FindValueResp, Found,
    NegotiateReq, Provider, Record, Stamp, StoreReq, StoreResp, Writer,
};
use molia_router::wire::{Code, Header, Kind, StoreCode};
use peerstore::Epoch;
use peerstore::frame::{self, Frames};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::{Bench, Peer};

const EPOCH: Epoch = Epoch::new(1);
const NEGOTIATE: u32 = 1;

fn bench(keeping: Keeping) -> Bench {
    bench_with(keeping, 0)
}

fn bench_with(keeping: Keeping, stamp_bits: u32) -> Bench {
    let mut config = Config::default();
    (config.tunnel.sessions_max, config.egress.sessions_max) = (64, 64);
    (config.records.stamp_bits, config.records.keeping) = (stamp_bits, keeping);
    config.records.table.providers_per_key = 2;
    let mut bench = Bench::with(config);
    bench.router.store_room(usize::MAX);
    bench
}

fn identity(seed: u64) -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn encoded(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = [0; 1024];
    let mut out = Writer::new(&mut bytes);
    write(&mut out);
    let len = out.len();
    bytes[..len].to_vec()
}

/// Asks for a value to be stored; the datagrams that come at once.
fn store(bench: &mut Bench, peer: &mut Peer, correlation: u32, value: &[u8]) -> Vec<Vec<u8>> {
    store_paid(bench, peer, correlation, value, None)
}

/// The same with a stamp.
fn store_paid(
    bench: &mut Bench,
    peer: &mut Peer,
    correlation: u32,
    value: &[u8],
    stamp: Option<Stamp>,
) -> Vec<Vec<u8>> {
    let record = encoded(|out| {
        let (key, ttl_secs) = (Key::of_value(value), 3600);
        let (sequence, not_before_unix) = (0, 0);
        let (owner_pubkey, signature, salt) = (None, None, &[][..]);
        Record { key, value, sequence, ttl_secs, not_before_unix, owner_pubkey, signature, salt }
            .write(out)
            .unwrap();
    });
    let request = StoreReq { record: &record, stamp, ..StoreReq::default() };
    let header = Header::request(Kind::StoreReq, correlation);
    let sealed = peer.seal(header, |body| request.write(body));
    let sent = bench.deliver(peer.path(), &sealed);
    sent.into_iter().map(|(_, bytes)| bytes).collect()
}

/// What a single datagram, and there is one, says of a STORE.
fn stored(peer: &mut Peer, sent: &[Vec<u8>]) -> Result<StoreCode, (Code, u32)> {
    let [datagram] = sent else { panic!("{} datagrams instead of one", sent.len()) };
    let (header, body) = peer.frame(datagram);
    if header.kind == Kind::Error.id() {
        let error = Error::read(&body).unwrap();
        return Err((error.code, error.retry_after_ms));
    }
    assert_eq!(header.kind, Kind::StoreResp.id());
    Ok(StoreResp::read(&body).unwrap().code)
}

/// What is found under a key: the record, or how many providers.
fn found(bench: &mut Bench, peer: &mut Peer, key: Key) -> (Option<Vec<u8>>, usize) {
    let request = FindValueReq { key, provider_limit: 0 };
    let header = Header::request(Kind::FindValueReq, 99);
    let sealed = peer.seal(header, |body| request.write(body));
    let sent = bench.deliver(peer.path(), &sealed);
    let (_, body) = peer.frame(&sent[0].1);
    let answer = FindValueResp::read(&body).unwrap();
    match answer.value {
        Some(Found::Record(record)) => (Some(record.to_vec()), 0),
        Some(Found::Providers(providers)) => (None, providers.iter().count()),
        None => (None, 0),
    }
}

/// The frames that the store would write for what changed.
fn changes(bench: &mut Bench) -> Vec<u8> {
    let mut log = Vec::new();
    bench.router.take_changes(bench.now, |record| push(&mut log, record));
    log
}

fn push(log: &mut Vec<u8>, record: &peerstore::Record<'_>) {
    let at = log.len();
    log.resize(at + frame::frame_len(record), 0);
    frame::encode(&mut log[at..], EPOCH, record).unwrap();
}

/// How many records of a log still said something.
fn restore(bench: &mut Bench, log: &[u8]) -> usize {
    let now = bench.now;
    Frames::new(log, EPOCH).filter(|frame| bench.router.restore(now, &frame.record)).count()
}

/// What is due, without the keepalives.
fn due(bench: &mut Bench) -> Vec<Vec<u8>> {
    bench.due().into_iter().filter(|datagram| datagram.len() > 32).collect()
}

#[test]
fn without_a_store_a_write_is_acknowledged_at_once_and_nothing_is_noted() {
    let mut bench = bench(Keeping::Memory);
    bench.router.store_room(0);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    let sent = store(&mut bench, &mut peer, 5, b"kept");
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
    assert!(changes(&mut bench).is_empty());
}

#[test]
fn a_strict_store_is_waited_for() {
    let mut bench = bench(Keeping::Strict);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    assert_eq!(Frames::new(&changes(&mut bench), EPOCH).count(), 1, "the binding");
    bench.router.changes_taken(Some(1));
    assert!(store(&mut bench, &mut peer, 5, b"one").is_empty(), "not safe yet");
    assert_eq!(Frames::new(&changes(&mut bench), EPOCH).count(), 1);
    bench.router.changes_taken(Some(2));
    // The same again has nothing to write, and is no safer than the first.
    assert!(store(&mut bench, &mut peer, 6, b"one").is_empty());
    assert!(changes(&mut bench).is_empty());
    bench.router.changes_taken(Some(2));
    assert!(store(&mut bench, &mut peer, 7, b"two").is_empty());
    assert_eq!(Frames::new(&changes(&mut bench), EPOCH).count(), 1);
    bench.router.changes_taken(Some(3));
    bench.router.stored(bench.now, 1);
    assert!(due(&mut bench).is_empty());
    bench.router.stored(bench.now, 2);
    let sent = due(&mut bench);
    let answered: Vec<u32> = sent.iter().map(|datagram| peer.correlation(datagram)).collect();
    assert_eq!(answered, [5, 6]);
    bench.router.stored(bench.now, 3);
    let sent = due(&mut bench);
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
}

#[test]
fn a_repeat_of_what_waits_for_the_store_is_answered_once_and_as_the_first() {
    let mut bench = bench_with(Keeping::Strict, 4);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    changes(&mut bench);
    let (key, router) = (Key::of_value(b"one"), identity(support::ROUTER_SEED).peer_id());
    let epoch = signing::stamp::epoch(bench.now.unix_s());
    let paid = signing::stamp::solve(&key, &router, epoch, 4, 0, 10_000);
    assert!(store_paid(&mut bench, &mut peer, 5, b"one", paid).is_empty());
    changes(&mut bench);
    bench.router.changes_taken(Some(2));
    // Its stamp is spent, on the first.
    assert!(store_paid(&mut bench, &mut peer, 5, b"one", paid).is_empty());
    bench.router.stored(bench.now, 2);
    let sent = due(&mut bench);
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
    // Another request with the same stamp is not a repeat.
    let sent = store_paid(&mut bench, &mut peer, 6, b"one", paid);
    assert_eq!(stored(&mut peer, &sent), Err((Code::StampRequired, 0)));
}

#[test]
fn after_a_slow_sync_answers_leave_in_turns() {
    let mut bench = bench(Keeping::Strict);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    for n in 0..90_u32 {
        assert!(store(&mut bench, &mut peer, 10 + n, &n.to_le_bytes()).is_empty());
        changes(&mut bench);
    }
    bench.router.changes_taken(Some(91));
    bench.router.stored(bench.now, 91);
    assert_eq!(bench.router.queued(), 64, "some at once");
    assert!(bench.router.next_deadline() <= bench.now.at, "and the others as soon as may be");
    let mut answered: Vec<u32> =
        due(&mut bench).iter().map(|datagram| peer.correlation(datagram)).collect();
    answered.extend(due(&mut bench).iter().map(|datagram| peer.correlation(datagram)));
    assert_eq!(answered, (10..100).collect::<Vec<_>>());
}

#[test]
fn what_the_store_did_not_take_is_not_acknowledged() {
    let mut bench = bench(Keeping::Strict);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    changes(&mut bench);
    assert!(store(&mut bench, &mut peer, 5, b"one").is_empty());
    changes(&mut bench);
    bench.router.changes_taken(None);
    bench.router.stored(bench.now, 1);
    let sent = due(&mut bench);
    assert_eq!(stored(&mut peer, &sent), Err((Code::Busy, 1000)));
}

#[test]
fn what_does_not_get_safe_is_not_acknowledged() {
    let mut bench = bench(Keeping::Strict);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    assert!(store(&mut bench, &mut peer, 5, b"one").is_empty());
    changes(&mut bench);
    bench.router.changes_taken(Some(2));
    bench.advance(4_900_000_000);
    assert!(due(&mut bench).is_empty());
    bench.advance(200_000_000);
    let sent = due(&mut bench);
    assert_eq!(stored(&mut peer, &sent), Err((Code::Busy, 1000)));
    // Then the disk is well again, and so is the same request.
    bench.router.stored(bench.now, 2);
    assert!(store(&mut bench, &mut peer, 5, b"one").is_empty());
    bench.router.changes_taken(Some(2));
    bench.router.stored(bench.now, 2);
    let sent = due(&mut bench);
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
}

#[test]
fn a_store_without_room_refuses_what_it_cannot_keep_and_serves_what_it_has() {
    let mut bench = bench(Keeping::Store);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    let sent = store(&mut bench, &mut peer, 5, b"before");
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
    bench.router.store_room(0);
    let sent = store(&mut bench, &mut peer, 6, b"after");
    assert_eq!(stored(&mut peer, &sent), Err((Code::Busy, 1000)));
    assert_eq!(found(&mut bench, &mut peer, Key::of_value(b"after")).0, None);
    assert!(found(&mut bench, &mut peer, Key::of_value(b"before")).0.is_some());
    bench.router.store_room(usize::MAX);
    let sent = store(&mut bench, &mut peer, 6, b"after");
    assert_eq!(stored(&mut peer, &sent), Ok(StoreCode::Ok));
}

/// Announces the peer of `identity` for a key.
fn announce(bench: &mut Bench, identity: &Identity, address: &str, key: Key, expires_in_s: u64) {
    let mut peer = bench.identified(identity, address);
    let expires = bench.now.unix_s() + expires_in_s;
    let public = identity.signing_key().verifying_key().to_bytes();
    let said = Provider {
        peer_id: identity.peer_id(),
        meta: b"meta",
        expires_unix_s: expires,
        sequence: 1,
        owner_pubkey: Some(&public),
        signature: None,
    };
    let signed = signing::sign_provider(identity.signing_key(), &key, &said, &mut Vec::new());
    let provider = Provider { signature: Some(&signed), ..said };
    let request = AnnounceProviderReq { key, provider, stamp: None, admission: &[] };
    let header = Header::request(Kind::AnnounceProviderReq, 8);
    let sealed = peer.seal(header, |body| request.write(body));
    let sent = bench.deliver(peer.path(), &sealed);
    let (header, body) = peer.frame(&sent[0].1);
    assert_eq!(header.kind, Kind::AnnounceProviderResp.id());
    assert_eq!(AnnounceProviderResp::read(&body).unwrap().code, StoreCode::Ok);
}

/// A router with a value, a key of two providers that a third had to leave, and its log.
fn with_history() -> (Bench, Vec<u8>, Key) {
    let mut bench = bench(Keeping::Store);
    let mut peer = bench.identified(&identity(1), "8.1.1.1:4000");
    store(&mut bench, &mut peer, 5, b"kept");
    let topic = Key([7; 32]);
    for (seed, expires_in_s) in [(2, 100), (3, 300), (4, 200)] {
        let address = format!("8.1.{seed}.1:4000");
        announce(&mut bench, &identity(seed), &address, topic, expires_in_s);
    }
    let log = changes(&mut bench);
    (bench, log, topic)
}

fn assert_restored(log: &[u8], topic: Key) -> Bench {
    let mut again = bench(Keeping::Store);
    restore(&mut again, log);
    assert!(changes(&mut again).is_empty(), "what is restored is no change");
    let mut peer = again.identified(&identity(9), "8.9.1.1:4000");
    let (value, _) = found(&mut again, &mut peer, Key::of_value(b"kept"));
    assert_eq!(Record::read(&value.unwrap()).unwrap().value, b"kept");
    assert_eq!(found(&mut again, &mut peer, topic), (None, 2));
    again
}

#[test]
fn a_router_goes_on_from_the_log_of_another() {
    let (_, log, topic) = with_history();
    let mut again = assert_restored(&log, topic);
    // The first provider had to go, and stays away.
    again.advance(150_000_000_000);
    let mut peer = again.identified(&identity(9), "8.9.1.1:4000");
    assert_eq!(found(&mut again, &mut peer, topic), (None, 2));
    // A statement is a statement: twice is once.
    let twice = [log.clone(), log].concat();
    assert_restored(&twice, topic);
}

#[test]
fn a_walk_in_the_smallest_steps_finds_everything() {
    let (bench, log, topic) = with_history();
    let (mut snapshot, mut cursor) = (Vec::new(), Cursor::default());
    while cursor != Cursor::End {
        let mut room = 1;
        cursor = bench.router.walk(bench.now, cursor, |record| {
            let fits = room > 0;
            if fits {
                room -= 1;
                push(&mut snapshot, record);
            }
            fits
        });
    }
    // A value, two providers, four bindings.
    assert_eq!(Frames::new(&snapshot, EPOCH).count(), 7);
    assert_restored(&snapshot, topic);
    // As after a crash in the middle of a compaction.
    assert_restored(&[snapshot, log].concat(), topic);
}

#[test]
fn what_has_expired_meanwhile_is_not_taken_back() {
    let (_, log, topic) = with_history();
    let mut again = bench(Keeping::Store);
    again.advance(250_000_000_000);
    restore(&mut again, &log);
    let mut peer = again.identified(&identity(9), "8.9.1.1:4000");
    assert_eq!(found(&mut again, &mut peer, topic), (None, 1));
    again.advance(60_000_000_000);
    let mut peer = again.identified(&identity(9), "8.9.1.1:4000");
    assert_eq!(found(&mut again, &mut peer, topic), (None, 0));
}

/// Kinds of the records of a log.
fn kinds(log: &[u8]) -> Vec<&'static str> {
    Frames::new(log, EPOCH).map(|frame| frame.record.kind().label()).collect()
}

/// Lets a peer speak every ten seconds, for so long; the frames of what changed meanwhile.
fn speak(bench: &mut Bench, peer: &mut Peer, seconds: u64) -> Vec<u8> {
    let mut log = Vec::new();
    for _ in 0..seconds / 10 {
        bench.advance(10_000_000_000);
        let ping = peer.seal_ping();
        bench.deliver(peer.path(), &ping);
        log.extend(changes(bench));
    }
    log
}

#[test]
fn a_peer_is_recorded_when_it_stayed_for_minutes_and_erased_when_it_left() {
    let mut bench = bench(Keeping::Store);
    let who = identity(1);
    let mut peer = bench.identified(&who, "8.1.1.1:4000");
    assert_eq!(kinds(&changes(&mut bench)), ["binding"]);
    // A key lasts for three minutes, and the peer is asked for a new one in time.
    assert!(speak(&mut bench, &mut peer, 110).is_empty());
    let mut peer = bench.identified(&who, "8.1.1.1:4000");
    let log = speak(&mut bench, &mut peer, 110);
    assert_eq!(kinds(&log), ["peer"], "once");
    let mut snapshot = Vec::new();
    bench.router.walk(bench.now, Cursor::default(), |record| {
        push(&mut snapshot, record);
        true
    });
    assert_eq!(kinds(&snapshot), ["binding", "peer"]);

    for log in [&log, &snapshot] {
        let mut again = self::bench(Keeping::Store);
        again.advance(bench.now.at.as_nanos());
        restore(&mut again, log);
        assert_eq!(again.router.table().len(), 1);
    }

    // It leaves, and takes its record along.
    let mut left = Vec::new();
    for _ in 0..40 {
        bench.advance(10_000_000_000);
        bench.due();
        left.extend(changes(&mut bench));
    }
    assert_eq!(kinds(&left), ["tombstone"]);
    let mut again = self::bench(Keeping::Store);
    again.advance(bench.now.at.as_nanos());
    restore(&mut again, &[log, left].concat());
    assert_eq!(again.router.table().len(), 0);
}

#[test]
fn a_binding_from_before_is_not_verified_again_but_its_signature_is_compared() {
    let (_, log, _) = with_history();
    let mut again = bench(Keeping::Store);
    restore(&mut again, &log);
    let who = identity(1);
    again.identified(&who, "8.1.1.1:4000");
    assert!(changes(&mut again).is_empty(), "nothing new");
    let mut forger = again.peer_with(who.wg_secret().clone(), "8.1.1.1:4000");
    again.connect(&mut forger);
    let mut forged = who.binding(0, u64::from(u32::MAX));
    forged.signature[7] ^= 1;
    let request = NegotiateReq { binding: Some(forged), ..NegotiateReq::default() };
    let header = Header::request(Kind::NegotiateReq, NEGOTIATE);
    let sealed = forger.seal(header, |body| request.write(body));
    let sent = again.deliver(forger.path(), &sealed);
    let (header, body) = forger.frame(&sent[0].1);
    assert_eq!(header.kind, Kind::Error.id());
    assert_eq!(Error::read(&body).unwrap().code, Code::Unauthorized);
}
