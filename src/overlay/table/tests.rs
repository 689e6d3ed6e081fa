//! The table against a model that keeps buckets as lists and sorts everything by distance.

use proptest::collection::vec;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::trie::buckets_max;
use super::*;
use crate::ids::SessionRef;

fn s(s: u64) -> Moment {
    Moment::from_nanos(s * 1_000_000_000)
}

/// Ids that crowd: most share their first bits, some their first eight bytes.
fn id(short: u16) -> PeerId {
    let [high, low] = short.to_be_bytes();
    let mut id = [0; 32];
    id[0] = if low & 3 == 0 { high } else { 0 };
    id[1] = high << 4 | low >> 4;
    id[31] = low;
    PeerId(id)
}

fn home(slot: u32, generation: u32) -> HomeRef {
    HomeRef { shard: 0, session: SessionRef { slot, generation } }
}

fn entry(id: PeerId, network: u8, version: u32) -> Entry {
    Entry {
        id,
        home: home(u32::from(id.0[31]), version),
        prefix: Prefix([4, network, 0, 0, 0, 0, 0]),
        // A network of number 30 or above is somebody's own.
        scope: if network < 30 { Scope::Global } else { Scope::Private },
        met_unix_s: 0,
        encoded: version.to_be_bytes().into_iter().chain(id.0).collect(),
    }
}

/// A bucket of the model: whose ids begin with the first `depth` bits of `stem`.
struct List {
    stem: u64,
    depth: u32,
    peers: Vec<(Entry, Moment)>,
}

impl List {
    fn covers(&self, id: &PeerId) -> bool {
        (bucket::head(id) ^ self.stem).leading_zeros() >= self.depth
    }
}

struct Waiting {
    newcomer: Entry,
    seen: Moment,
    incumbent: Option<PeerId>,
    deadline: Moment,
}

struct Model {
    config: Config,
    lists: Vec<List>,
    waiting: Vec<Waiting>,
}

impl Model {
    fn new(config: Config) -> Self {
        let lists = vec![List { stem: 0, depth: 0, peers: vec![] }];
        Self { config, lists, waiting: vec![] }
    }

    fn len(&self) -> usize {
        self.lists.iter().map(|list| list.peers.len()).sum()
    }

    fn list(&mut self, id: &PeerId) -> &mut List {
        self.lists.iter_mut().find(|list| list.covers(id)).unwrap()
    }

    fn split_for(&mut self, id: &PeerId) {
        let table_full = self.len() == self.config.entries_max;
        let enough = self.lists.len() == buckets_max(self.config.entries_max);
        let at = self.lists.iter().position(|list| list.covers(id)).unwrap();
        let List { stem, depth, .. } = self.lists[at];
        if table_full || enough || depth == 48 || self.lists[at].peers.len() < 20 {
            return;
        }
        let peers = self.lists.remove(at).peers;
        for stem in [stem, stem | 1 << (63 - depth)] {
            let mut list = List { stem, depth: depth + 1, peers: vec![] };
            list.peers = peers.iter().filter(|(peer, _)| list.covers(&peer.id)).cloned().collect();
            self.lists.push(list);
        }
        self.split_for(id);
    }

    fn share(&mut self, entry: &Entry) -> usize {
        if entry.scope == Scope::Private {
            return 0;
        }
        let others = |peer: &&(Entry, Moment)| {
            peer.0.prefix == entry.prefix && peer.0.scope == entry.scope && peer.0.id != entry.id
        };
        self.list(&entry.id).peers.iter().filter(others).count()
    }

    fn insert(&mut self, now: Moment, entry: Entry) -> Inserted {
        let known = self.list(&entry.id).peers.iter().position(|(peer, _)| peer.id == entry.id);
        if let Some(at) = known {
            self.waiting.retain(|w| w.incumbent != Some(entry.id));
            if self.share(&entry) >= self.config.per_prefix {
                self.list(&entry.id).peers.remove(at);
                return Inserted::Refused(Refused::Prefix);
            }
            let id = entry.id;
            self.list(&id).peers[at] = (entry, now);
            return Inserted::Updated;
        }
        if let Some(waiting) = self.waiting.iter_mut().find(|w| w.newcomer.id == entry.id) {
            (waiting.newcomer, waiting.seen) = (entry, now);
            return Inserted::Waiting;
        }
        self.split_for(&entry.id);
        if self.share(&entry) >= self.config.per_prefix {
            return Inserted::Refused(Refused::Prefix);
        }
        if self.list(&entry.id).peers.len() < 20 && self.len() < self.config.entries_max {
            let id = entry.id;
            self.list(&id).peers.push((entry, now));
            return Inserted::Added;
        }
        let mut peers = self.list(&entry.id).peers.clone();
        peers.sort_by_key(|(peer, seen)| (*seen, peer.id));
        let Some((silent, _)) = peers.first() else { return Inserted::Refused(Refused::Full) };
        let incumbents: Vec<_> = self.waiting.iter().filter_map(|w| w.incumbent).collect();
        if peers.iter().any(|(peer, _)| incumbents.contains(&peer.id)) {
            return Inserted::Refused(Refused::Busy);
        }
        let deadline = now + self.config.ping_timeout;
        let incumbent = Some(silent.id);
        self.waiting.push(Waiting { newcomer: entry, seen: now, incumbent, deadline });
        Inserted::Pinging { home: silent.home, peer: silent.id }
    }

    fn seen(&mut self, id: &PeerId, now: Moment) -> bool {
        let peer = self.list(id).peers.iter_mut().find(|(peer, _)| peer.id == *id);
        let known = peer.map(|(_, seen)| *seen = now).is_some();
        self.waiting.retain(|w| w.incumbent != Some(*id));
        known
    }

    fn remove(&mut self, id: &PeerId) -> bool {
        let before = self.len();
        self.list(id).peers.retain(|(peer, _)| peer.id != *id);
        self.waiting.retain(|w| w.newcomer.id != *id);
        if let Some(at) = self.waiting.iter().position(|w| w.incumbent == Some(*id)) {
            let freed = self.waiting.remove(at);
            let freed = Waiting { incumbent: None, deadline: Moment::START, ..freed };
            self.waiting.insert(0, freed);
        }
        self.len() < before
    }

    fn poll(&mut self, now: Moment) -> Option<TableEvent> {
        while !self.waiting.is_empty() && self.waiting[0].deadline <= now {
            let Waiting { newcomer, seen, incumbent, .. } = self.waiting.remove(0);
            if let Some(out) = incumbent {
                self.list(&out).peers.retain(|(peer, _)| peer.id != out);
            }
            self.split_for(&newcomer.id);
            let id = newcomer.id;
            let room = self.share(&newcomer) < self.config.per_prefix
                && self.list(&id).peers.len() < 20
                && self.len() < self.config.entries_max;
            if room {
                self.list(&id).peers.push((newcomer, seen));
            }
            match (incumbent, room.then_some(id)) {
                (Some(peer), added) => return Some(TableEvent::Evicted { peer, added }),
                (None, Some(peer)) => return Some(TableEvent::Added { peer }),
                (None, None) => {}
            }
        }
        None
    }

    fn closest(&self, target: &PeerId, limit: usize) -> Vec<PeerId> {
        let all = self.lists.iter().flat_map(|list| &list.peers);
        let mut ids: Vec<_> = all.map(|(peer, _)| peer.id).collect();
        ids.sort_by_key(|id| id.distance(target));
        ids.truncate(limit);
        ids
    }
}

fn closest(table: &Table, target: &PeerId, limit: usize) -> Vec<PeerId> {
    let mut out = Closest::new();
    table.closest(target, limit, &mut out);
    out.iter().map(|&at| table.entry(at).0.id).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u8),
    Seen(u16),
    Remove(u16),
    Poll,
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        12 => (0..2048_u16, 0..32_u8).prop_map(|(id, network)| Op::Insert(id, network)),
        2 => (0..2048_u16).prop_map(Op::Seen),
        2 => (0..2048_u16).prop_map(Op::Remove),
        2 => Just(Op::Poll),
        1 => (0..2_u64).prop_map(Op::Wait),
    ];
    vec(op, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_table_does_as_the_model(
        ops in ops(),
        entries_max in 1..150_usize,
        per_prefix in 1..20_usize,
        target in any::<u16>(),
    ) {
        let config = Config { entries_max, per_prefix, ping_timeout: Duration::from_secs(1) };
        let (mut table, mut model) = (Table::new(config), Model::new(config));
        let mut now = s(0);
        for (version, op) in (0..).zip(ops) {
            match op {
                Op::Insert(short, network) => {
                    let entry = entry(id(short), network, version);
                    prop_assert_eq!(table.insert(now, entry.clone()), model.insert(now, entry));
                }
                Op::Seen(short) => {
                    prop_assert_eq!(table.seen(&id(short), now), model.seen(&id(short), now));
                }
                Op::Remove(short) => {
                    prop_assert_eq!(table.remove(&id(short)), model.remove(&id(short)));
                }
                Op::Poll => prop_assert_eq!(table.poll(now), model.poll(now)),
                Op::Wait(more) => now = now + Duration::from_secs(more),
            }
            prop_assert_eq!((table.len(), table.buckets()), (model.len(), model.lists.len()));
        }
        for limit in [1, 8, 16] {
            let target = id(target);
            prop_assert_eq!(closest(&table, &target, limit), model.closest(&target, limit));
        }
        for (peer, seen) in model.lists.iter().flat_map(|list| &list.peers) {
            let at = table.find(&peer.id).unwrap();
            prop_assert_eq!(table.entry(at), (peer, *seen));
            prop_assert_eq!(table.encoded(at), peer.encoded.as_slice());
        }
    }
}

fn random(rng: &mut ChaCha12Rng) -> PeerId {
    let mut id = [0; 32];
    rng.fill_bytes(&mut id);
    PeerId(id)
}

/// A table of `n` random peers, each in a network of its own, and their ids.
fn crowd(n: usize, rng: &mut ChaCha12Rng) -> (Table, Vec<PeerId>) {
    let mut table = Table::new(Config { entries_max: n, ..Config::default() });
    let ids: Vec<_> = (0..n).map(|_| random(rng)).collect();
    for (&id, number) in ids.iter().zip(0_u32..) {
        let [a, b, c, d] = number.to_be_bytes();
        let peer = Entry { prefix: Prefix([6, a, b, c, d, 0, 0]), ..entry(id, 0, number) };
        assert_eq!(table.insert(s(0), peer), Inserted::Added);
    }
    (table, ids)
}

#[test]
fn closest_is_exact_among_many() {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let (table, mut ids) = crowd(8_000, &mut rng);
    assert!(table.buckets() > 400, "every full bucket splits");
    for round in 0..20 {
        let target = if round % 2 == 0 { random(&mut rng) } else { ids[round * 31] };
        ids.sort_by_key(|id| id.distance(&target));
        for limit in [0, 1, 7, 8, 16, 99] {
            assert_eq!(closest(&table, &target, limit), ids[..limit.min(16)]);
        }
    }
}

#[test]
fn ids_ground_to_share_their_first_bits_get_one_bucket() {
    let mut table = Table::new(Config::default());
    let ground = |last: u8, network: u8| {
        let mut id = [0xAB; 32];
        id[31] = last;
        entry(PeerId(id), network, 0)
    };
    for last in 0..20 {
        assert_eq!(table.insert(s(0), ground(last, last)), Inserted::Added);
    }
    let more = table.insert(s(1), ground(20, 20));
    assert!(matches!(more, Inserted::Pinging { .. }), "{more:?}");
    assert_eq!(table.buckets(), DEPTH_MAX + 1);
    // Equal in everything that is compared first, still in exact order.
    let nearest = closest(&table, &ground(5, 0).id, 4);
    assert_eq!(nearest, [5, 4, 7, 6].map(|last| ground(last, 0).id));
}

/// A full bucket that cannot split, its peers seen at 0 s, 1 s, 2 s ..; and a newcomer.
fn full() -> (Table, impl Fn(u8) -> Entry) {
    let peer = |n: u8| entry(PeerId([n; 32]), n, n.into());
    let mut table = Table::new(Config { entries_max: K, ..Config::default() });
    for n in 0..20 {
        assert_eq!(table.insert(s(n.into()), peer(n)), Inserted::Added);
    }
    (table, peer)
}

#[test]
fn who_answers_its_ping_stays() {
    let (mut table, peer) = full();
    assert!(table.seen(&peer(0).id, s(20)));
    let Entry { id: silent, home, .. } = peer(1);
    let outcome = table.insert(s(30), peer(30));
    assert_eq!(outcome, Inserted::Pinging { home, peer: silent });
    assert_eq!(table.insert(s(30), peer(31)), Inserted::Refused(Refused::Busy));
    assert_eq!(table.insert(s(30), peer(30)), Inserted::Waiting);
    assert_eq!((table.next_deadline(), table.poll(s(31))), (s(32), None));
    assert!(table.seen(&silent, s(31)));
    assert_eq!((table.poll(s(99)), table.next_deadline()), (None, Moment::NEVER));
    assert!(table.find(&silent).is_some() && table.find(&peer(30).id).is_none());
}

#[test]
fn who_does_not_answer_gives_its_place_to_the_newcomer() {
    let (mut table, peer) = full();
    assert!(matches!(table.insert(s(30), peer(30)), Inserted::Pinging { .. }));
    let added = Some(peer(30).id);
    assert_eq!(table.poll(s(32)), Some(TableEvent::Evicted { peer: peer(0).id, added }));
    assert_eq!((table.poll(s(32)), table.len()), (None, K));
    assert!(table.find(&peer(0).id).is_none() && table.find(&peer(30).id).is_some());
}

#[test]
fn who_leaves_while_being_pinged_makes_room_at_once() {
    let (mut table, peer) = full();
    assert!(matches!(table.insert(s(30), peer(30)), Inserted::Pinging { .. }));
    assert!(table.remove(&peer(0).id));
    assert_eq!(table.poll(s(30)), Some(TableEvent::Added { peer: peer(30).id }));
}

#[test]
fn a_newcomer_that_leaves_costs_nobody_its_place() {
    let (mut table, peer) = full();
    assert!(matches!(table.insert(s(30), peer(30)), Inserted::Pinging { .. }));
    assert!(!table.remove(&peer(30).id), "it was not in yet");
    assert_eq!((table.poll(s(99)), table.len()), (None, K));
    let again = table.insert(s(99), peer(31));
    assert!(matches!(again, Inserted::Pinging { .. }), "the bucket is not busy: {again:?}");
}

#[test]
fn only_the_session_that_ended_takes_its_peer_along() {
    let (mut table, peer) = full();
    let waiting = peer(30);
    assert!(matches!(table.insert(s(30), waiting.clone()), Inserted::Pinging { .. }));
    let other = home(99, 9);
    assert!(!table.session_ended(&peer(7).id, other) && table.find(&peer(7).id).is_some());
    assert!(table.session_ended(&peer(7).id, peer(7).home) && table.find(&peer(7).id).is_none());
    assert_eq!(table.insert(s(31), peer(7)), Inserted::Added);
    assert!(!table.session_ended(&waiting.id, other), "a newer session waits");
    assert_eq!(table.insert(s(31), waiting.clone()), Inserted::Waiting);
    assert!(!table.session_ended(&waiting.id, waiting.home), "it was not listed");
    assert_eq!((table.next_deadline(), table.poll(s(99))), (Moment::NEVER, None));
}

#[test]
fn a_network_has_two_places_in_a_bucket() {
    let mut table = Table::new(Config::default());
    let peer = |n: u8, network| entry(PeerId([n; 32]), network, 0);
    let mut insert = |n, network| table.insert(s(0), peer(n, network));
    assert_eq!((insert(1, 7), insert(2, 7)), (Inserted::Added, Inserted::Added));
    assert_eq!(insert(3, 7), Inserted::Refused(Refused::Prefix));
    assert_eq!((insert(3, 8), insert(1, 7)), (Inserted::Added, Inserted::Updated));
    // Moving into a network that has its share costs the place: the old address is not true any more.
    assert_eq!(insert(3, 7), Inserted::Refused(Refused::Prefix));
    assert!(table.find(&PeerId([3; 32])).is_none());
    assert_eq!(table.len(), 2);
}

#[test]
fn uniform_draws_reach_every_peer() {
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    let (mut table, ids) = crowd(100, &mut rng);
    assert!(ids[..50].iter().all(|id| table.remove(id)));
    let mut drawn: Vec<_> =
        (0..).map_while(|n| table.nth(n)).map(|at| table.entry(at).0.id).collect();
    let mut left = ids[50..].to_vec();
    drawn.sort_unstable();
    left.sort_unstable();
    assert_eq!(drawn, left);
    assert_eq!(table.iter().count(), 50);
}

#[test]
fn a_shard_that_ended_takes_its_peers_along() {
    let (mut table, peer) = full();
    let of = |shard, n| {
        let there = peer(n);
        Entry { home: HomeRef { shard, ..there.home }, ..there }
    };
    for n in 0..6 {
        assert_eq!(table.insert(s(20), of(1, n)), Inserted::Updated);
    }
    assert!(matches!(table.insert(s(30), of(1, 30)), Inserted::Pinging { .. }));
    let _ = table.take_changed();
    table.shard_ended(1);
    assert_eq!((table.len(), table.next_deadline()), (K - 6, Moment::NEVER));
    assert!((0..6).all(|n| table.find(&peer(n).id).is_none()));
    let changed = table.take_changed();
    assert!((0..6).all(|n| changed.has(peer(n).id.0[0])));
    // Who was pinged for a newcomer of that shard is not waited for any more.
    let (mut table, peer) = full();
    let newcomer = Entry { home: HomeRef { shard: 1, ..peer(30).home }, ..peer(30) };
    assert!(matches!(table.insert(s(30), newcomer), Inserted::Pinging { .. }));
    table.shard_ended(1);
    assert_eq!((table.poll(s(99)), table.len()), (None, K));
}

#[test]
fn prefix_buckets_hold_what_begins_so_and_tell_of_changes() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let (mut table, ids) = crowd(2000, &mut rng);
    let in_bucket = |table: &Table, top| {
        let mut found = vec![];
        table.each_in(top, |entry| found.push(entry.id));
        found.sort_unstable();
        found
    };
    for top in 0..=255 {
        let mut expected: Vec<_> =
            ids.iter().copied().filter(|id| id.0[0] == top && table.find(id).is_some()).collect();
        expected.sort_unstable();
        assert_eq!(in_bucket(&table, top), expected);
    }
    let all = table.take_changed();
    assert!(ids.iter().all(|id| all.has(id.0[0])));
    assert!(table.take_changed().is_empty());
    assert!(table.seen(&ids[0], s(5)) && table.take_changed().is_empty(), "nothing that is told");
    assert!(table.remove(&ids[0]));
    assert_eq!(table.take_changed().iter().collect::<Vec<_>>(), [ids[0].0[0]]);
}
