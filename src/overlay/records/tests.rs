//! The records against a model that keeps two lists and adds everything up each time.

use std::cmp::Reverse;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn s(s: u64) -> Moment {
    Moment::from_nanos(s * 1_000_000_000)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn key(n: u8) -> Key {
    Key([n; 32])
}

fn peer(n: u8) -> PeerId {
    PeerId([n; 32])
}

fn net(n: u8) -> Prefix {
    Prefix([4, n, 0, 0, 0, 0, 0])
}

fn share(entries: usize, bytes: usize) -> Share {
    Share { entries, bytes }
}

fn signed(sequence: u64, digest: u8) -> Version {
    Version::Signed { sequence, digest: [digest; 32], tombstone: digest == 0 }
}

fn records(config: Config) -> Records {
    Records::new(config, Keyed::new([3, 5]))
}

/// What both kinds have in common: whom it counts against, until when, and its bytes.
#[derive(Clone, Debug, PartialEq)]
struct Item<W> {
    key: Key,
    what: W,
    payer: Payer,
    expires: Moment,
    encoded: Vec<u8>,
}

/// Items in the order in which they came or were renewed.
struct Model<W> {
    limits: Limits,
    items: Vec<Item<W>>,
}

impl<W: Clone + PartialEq> Model<W> {
    fn new(limits: Limits) -> Self {
        Self { limits, items: vec![] }
    }

    fn used(&self, of: impl Fn(&Payer) -> bool) -> Share {
        let counted = self.items.iter().filter(|item| of(&item.payer));
        share(counted.clone().count(), counted.map(|item| item.encoded.len()).sum())
    }

    fn expire(&mut self, now: Moment) {
        self.items.retain(|item| item.expires > now);
    }

    /// Puts `new` in the place of what is `old`, unless that leaves a share exceeded that has grown.
    fn put(&mut self, new: &Item<W>, old: Option<&Item<W>>) -> Result<(), Why> {
        if new.encoded.len() > self.limits.entry_bytes_max {
            return Err(Why::TooLarge);
        }
        let others = self.items.iter().filter(|item| Some(*item) != old).cloned();
        let mut then = Self { limits: self.limits, items: others.collect() };
        let kept = then.used(|_| true);
        then.items.push(new.clone());
        let Limits { total, peer, network, .. } = self.limits;
        let left = share(total.entries - kept.entries, total.bytes - kept.bytes);
        let network = share(network.entries.min(left.entries), network.bytes.min(left.bytes));
        let grew = |of: &dyn Fn(&Payer) -> bool, most: Share| {
            let (before, after) = (self.used(of), then.used(of));
            let fits = |before, after, most| after <= most || after <= before;
            !fits(before.entries, after.entries, most.entries)
                || !fits(before.bytes, after.bytes, most.bytes)
        };
        if grew(&|_| true, total) {
            return Err(Why::Full);
        }
        if new.payer.peer.is_some() && grew(&|payer| payer.peer == new.payer.peer, peer) {
            return Err(Why::PeerShare);
        }
        let same = |payer: &Payer| payer.network == new.payer.network;
        if new.payer.network.is_some() && grew(&same, network) {
            return Err(Why::NetworkShare);
        }
        *self = then;
        Ok(())
    }
}

impl Model<Version> {
    fn store(&mut self, now: Moment, new: &Item<Version>) -> Outcome {
        self.expire(now);
        if new.expires <= now {
            return Outcome::Rejected(Why::Expired);
        }
        let old = self.items.iter().find(|item| item.key == new.key).cloned();
        let rank = |version| match version {
            Version::Immutable => None,
            Version::Signed { sequence, .. } => Some(sequence),
        };
        let mut kept = Outcome::Stored;
        if let Some(old) = &old {
            let (before, after) = (rank(old.what), rank(new.what));
            match (before, after) {
                (Some(_), None) => return Outcome::Rejected(Why::Owned),
                _ if after < before => return Outcome::Stale,
                _ if after > before => {}
                _ if old.what != new.what => return Outcome::Equivocation,
                _ if new.expires <= old.expires => return Outcome::Unchanged,
                _ => kept = Outcome::Refreshed,
            }
        }
        self.put(new, old.as_ref()).map_or_else(Outcome::Rejected, |()| kept)
    }
}

impl Model<u64> {
    fn announce(&mut self, now: Moment, new: &Item<u64>, per_key: usize) -> Outcome {
        self.expire(now);
        if new.expires <= now {
            return Outcome::Rejected(Why::Expired);
        }
        let of_key = |item: &&Item<u64>| item.key == new.key;
        let mut list: Vec<_> = self.items.iter().filter(of_key).cloned().collect();
        if let Some(old) = list.iter().find(|item| item.payer.peer == new.payer.peer) {
            return match new.what {
                sequence if sequence < old.what => Outcome::Stale,
                sequence if sequence > old.what => {
                    self.put(new, Some(old)).map_or_else(Outcome::Rejected, |()| Outcome::Stored)
                }
                _ if new.encoded == old.encoded => Outcome::Unchanged,
                _ => Outcome::Equivocation,
            };
        }
        if list.len() < per_key {
            return self.put(new, None).map_or_else(Outcome::Rejected, |()| Outcome::Stored);
        }
        list.push(new.clone());
        let places = |of: &Item<u64>| {
            list.iter().filter(|item| item.payer.network == of.payer.network).count()
        };
        // Sorting is stable: of equals the one that came first is first.
        let mut ranked = list.clone();
        ranked.sort_by_key(|item| (Reverse(places(item)), item.expires));
        let out = &ranked[0];
        if out == new {
            return Outcome::Rejected(Why::KeyFull);
        }
        let gone = out.payer.peer.unwrap();
        self.put(new, Some(out)).map_or_else(Outcome::Rejected, |()| Outcome::Displaced(gone))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Store { key: u8, peer: Option<u8>, network: Option<u8>, version: Version, ttl: u64, len: usize },
    Announce { key: u8, peer: u8, network: Option<u8>, sequence: u64, ttl: u64, len: usize },
    Wait(u64),
    Poll,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let version = prop_oneof![
        1 => Just(Version::Immutable),
        3 => (0..4_u64, 0..3_u8).prop_map(|(sequence, digest)| signed(sequence, digest)),
    ];
    let who = || (option::weighted(0.9, 0..4_u8), option::weighted(0.9, 0..4_u8));
    let op = prop_oneof![
        8 => (0..8_u8, who(), version, 0..30_u64, 0..14_usize).prop_map(
            |(key, (peer, network), version, ttl, len)| {
                Op::Store { key, peer, network, version, ttl, len }
            }
        ),
        8 => (0..3_u8, 0..9_u8, who(), 0..4_u64, 0..30_u64, 0..14_usize).prop_map(
            |(key, peer, (_, network), sequence, ttl, len)| {
                Op::Announce { key, peer, network, sequence, ttl, len }
            }
        ),
        2 => (0..12_u64).prop_map(Op::Wait),
        1 => Just(Op::Poll),
    ];
    vec(op, 0..150)
}

fn limits() -> impl Strategy<Value = Limits> {
    let share = |most: usize| (1..most, 1..most * 10).prop_map(|(n, bytes)| share(n, bytes));
    (share(12), share(6), share(9), 8..14_usize).prop_map(|(total, peer, network, entry)| Limits {
        total,
        peer,
        network,
        entry_bytes_max: entry,
    })
}

fn config() -> impl Strategy<Value = Config> {
    (limits(), limits(), 1..5_usize).prop_map(|(values, providers, providers_per_key)| Config {
        values,
        providers,
        providers_per_key,
        ttl_max: secs(25),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_records_do_as_the_model(ops in ops(), config in config()) {
        let mut records = records(config);
        let (mut values, mut providers) = (Model::new(config.values), Model::new(config.providers));
        let mut now = s(0);
        for op in ops {
            match op {
                Op::Store { key: k, peer: p, network, version, ttl, len } => {
                    let payer = Payer { peer: p.map(peer), network: network.map(net) };
                    let (key, encoded) = (key(k), vec![k; len]);
                    let offer = Offer { key, payer, version, ttl: secs(ttl), encoded: encoded.clone().into() };
                    let outcome = records.store(now, &offer);
                    let expires = now + secs(ttl.min(25));
                    let item = Item { key, what: version, payer, expires, encoded };
                    prop_assert_eq!(outcome, values.store(now, &item));
                }
                Op::Announce { key: k, peer: p, network, sequence, ttl, len } => {
                    let network = network.map(net);
                    let (key, encoded, id) = (key(k), vec![p; len], peer(p));
                    let outcome = records.announce(now, &Announcement {
                        key, peer: id, network, sequence, ttl: secs(ttl), encoded: encoded.clone().into(),
                    });
                    let (payer, expires) = (Payer { peer: Some(id), network }, now + secs(ttl.min(25)));
                    let item = Item { key, what: sequence, payer, expires, encoded };
                    let expected = providers.announce(now, &item, config.providers_per_key);
                    prop_assert_eq!(outcome, expected);
                }
                Op::Wait(more) => now = now + secs(more),
                Op::Poll => {
                    let before = records.values().entries + records.providers().entries;
                    let swept = records.poll(now);
                    values.expire(now);
                    providers.expire(now);
                    prop_assert_eq!(before - swept, values.items.len() + providers.items.len());
                    prop_assert_eq!(records.values(), values.used(|_| true));
                    prop_assert_eq!(records.providers(), providers.used(|_| true));
                    let due = values.items.iter().map(|item| item.expires);
                    let due = due.chain(providers.items.iter().map(|item| item.expires)).min();
                    prop_assert_eq!(records.next_deadline(), due.unwrap_or(Moment::NEVER));
                }
            }
            for key in (0..8).map(key) {
                let found = records.find(now, &key);
                let value = values.items.iter().find(|item| item.key == key && item.expires > now);
                let value = value.filter(|item| !matches!(item.what, Version::Signed { tombstone: true, .. }));
                prop_assert_eq!(found.value.map(|value| &**value), value.map(|item| item.encoded.as_slice()));
                let of_key = |item: &&Item<u64>| item.key == key && item.expires > now;
                let listed: Vec<_> = providers.items.iter().filter(of_key).rev().map(|item| &item.encoded[..]).collect();
                prop_assert_eq!(found.providers.map(|one| &**one).collect::<Vec<_>>(), listed);
            }
        }
        records.poll(now);
        values.expire(now);
        providers.expire(now);
        let mut kept: Vec<_> = records.values_from(0).map(|(_, v)| {
            Item { key: v.key, what: v.version, payer: v.payer, expires: v.expires, encoded: v.encoded.to_vec() }
        }).collect();
        kept.sort_by_key(|item| item.key);
        values.items.sort_by_key(|item| item.key);
        prop_assert_eq!(kept, values.items);
        let mut kept: Vec<_> = records.providers_from(0).map(|(_, p)| {
            let payer = Payer { peer: Some(p.peer), network: p.network };
            Item { key: p.key, what: p.sequence, payer, expires: p.expires, encoded: p.encoded.to_vec() }
        }).collect();
        kept.sort_by_key(|item| (item.key, item.payer.peer));
        providers.items.sort_by_key(|item| (item.key, item.payer.peer));
        prop_assert_eq!(kept, providers.items);
    }
}

/// A value that peer `p` of its own network stores for a minute.
fn offer(k: u8, p: u8, version: Version) -> Offer {
    let payer = Payer { peer: Some(peer(p)), network: Some(net(p)) };
    Offer { key: key(k), payer, version, ttl: secs(60), encoded: [7; 100].into() }
}

fn announcement(k: u8, p: u8, network: u8, ttl: u64) -> Announcement {
    let (peer, network) = (peer(p), Some(net(network)));
    Announcement {
        key: key(k),
        peer,
        network,
        sequence: 1,
        ttl: secs(ttl),
        encoded: [7; 100].into(),
    }
}

#[test]
fn two_values_of_one_sequence_are_equivocation_and_the_first_stays() {
    let mut records = records(Config::default());
    assert_eq!(records.store(s(0), &offer(1, 1, signed(5, 1))), Outcome::Stored);
    let other = Offer { encoded: b"other"[..].into(), ..offer(1, 1, signed(5, 2)) };
    assert_eq!(records.store(s(1), &other), Outcome::Equivocation);
    assert_eq!(records.store(s(1), &offer(1, 1, signed(4, 1))), Outcome::Stale);
    assert_eq!(records.store(s(0), &offer(1, 1, signed(5, 1))), Outcome::Unchanged);
    assert_eq!(records.store(s(1), &offer(1, 1, signed(5, 1))), Outcome::Refreshed);
    assert_eq!(records.find(s(1), &key(1)).value.map(|v| &**v), Some(&[7; 100][..]));
}

#[test]
fn a_tombstone_keeps_older_versions_out_until_its_time_is_over() {
    let mut records = records(Config::default());
    assert_eq!(records.store(s(0), &offer(1, 1, signed(5, 1))), Outcome::Stored);
    assert_eq!(records.store(s(0), &offer(1, 1, signed(6, 0))), Outcome::Stored);
    assert_eq!(records.find(s(0), &key(1)).value, None);
    assert_eq!(records.store(s(59), &offer(1, 1, signed(5, 1))), Outcome::Stale);
    assert_eq!(records.values().entries, 1);
    assert_eq!(records.store(s(60), &offer(1, 1, signed(5, 1))), Outcome::Stored);
    assert!(records.find(s(60), &key(1)).value.is_some());
}

#[test]
fn a_value_without_owner_does_not_hold_a_signed_ones_place() {
    let mut records = records(Config::default());
    assert_eq!(records.store(s(0), &offer(1, 1, Version::Immutable)), Outcome::Stored);
    assert_eq!(records.store(s(0), &offer(1, 2, signed(0, 1))), Outcome::Stored);
    let owned = Outcome::Rejected(Why::Owned);
    assert_eq!(records.store(s(0), &offer(1, 1, Version::Immutable)), owned);
}

#[test]
fn who_keeps_a_value_alive_pays_for_it() {
    let mut config = Config::default();
    config.values.peer = share(1, 1000);
    let mut records = records(config);
    assert_eq!(records.store(s(0), &offer(1, 1, Version::Immutable)), Outcome::Stored);
    let full = Outcome::Rejected(Why::PeerShare);
    assert_eq!(records.store(s(0), &offer(2, 1, Version::Immutable)), full);
    // Another peer wants it: the first is free to store something else.
    assert_eq!(records.store(s(1), &offer(1, 2, Version::Immutable)), Outcome::Refreshed);
    assert_eq!(records.store(s(1), &offer(2, 1, Version::Immutable)), Outcome::Stored);
    // Its share is used up now, and so it cannot take the other value back.
    assert_eq!(records.store(s(2), &offer(1, 1, Version::Immutable)), full);
    assert_eq!(records.find(s(60), &key(1)).value.map(|v| &**v), Some(&[7; 100][..]));
}

#[test]
fn networks_that_take_all_they_can_leave_room_for_others() {
    let mut config = Config::default();
    config.values.total.entries = 120;
    config.values.network = share(1000, usize::MAX);
    let mut records = records(config);
    let mut held = [0; 6];
    for k in 0..=255 {
        let network = usize::from(k % 5);
        let outcome = records.store(s(0), &offer(k, k % 5, Version::Immutable));
        held[network] += usize::from(outcome == Outcome::Stored);
    }
    assert_eq!(held, [20, 20, 20, 20, 20, 0], "a sixth each, and a sixth is left");
    assert_eq!(records.store(s(0), &offer(200, 7, Version::Immutable)), Outcome::Stored);
    // What is there can be kept up, though its network would not get as much now.
    assert_eq!(records.store(s(1), &offer(0, 0, Version::Immutable)), Outcome::Refreshed);
}

#[test]
fn the_places_of_a_key_go_to_many_networks() {
    let mut records = records(Config { providers_per_key: 4, ..Config::default() });
    for p in 0..3 {
        assert_eq!(
            records.announce(s(0), &announcement(1, p, 0, 90 + u64::from(p))),
            Outcome::Stored
        );
    }
    assert_eq!(records.announce(s(0), &announcement(1, 3, 3, 10)), Outcome::Stored);
    // One more of the crowd takes another one's place, not that of the lone one that expires sooner.
    let crowd = records.announce(s(0), &announcement(1, 4, 0, 95));
    assert_eq!(crowd, Outcome::Displaced(peer(0)));
    let sooner = records.announce(s(0), &announcement(1, 5, 0, 9));
    assert_eq!(sooner, Outcome::Rejected(Why::KeyFull));
    assert_eq!(records.announce(s(0), &announcement(1, 6, 6, 9)), Outcome::Displaced(peer(1)));
    assert_eq!(records.providers().entries, 4);
    assert_eq!(records.find(s(10), &key(1)).providers.count(), 2);
}

#[test]
fn what_expired_is_swept_in_bounded_steps_and_makes_room_at_once() {
    let mut config = Config { ttl_max: secs(30), ..Config::default() };
    config.values.total.entries = 200;
    let mut records = records(config);
    let at = |k: u8| Payer { peer: Some(peer(k)), network: None };
    for k in 0..200 {
        let offer = Offer { payer: at(k), ..offer(k, k, Version::Immutable) };
        assert_eq!(records.store(s(0), &offer), Outcome::Stored);
    }
    assert_eq!(records.next_deadline(), s(30), "however long it was to be");
    let one_more = Offer { payer: at(250), ..offer(250, 250, Version::Immutable) };
    assert_eq!(records.store(s(29), &one_more), Outcome::Rejected(Why::Full));
    assert_eq!(records.store(s(30), &one_more), Outcome::Stored);
    assert_eq!(records.values().entries, 200 - SWEEP_MAX + 1);
    // Not swept yet and still not there, nor in the way of its successor.
    assert!((0..200).all(|k| records.find(s(30), &key(k)).value.is_none()));
    assert_eq!(records.poll(s(30)), SWEEP_MAX);
    assert_eq!((records.poll(s(30)), records.poll(s(30))), (SWEEP_MAX, 200 - 3 * SWEEP_MAX));
    assert_eq!((records.values().entries, records.next_deadline()), (1, s(60)));
}

#[test]
fn time_left_does_not_jump_with_the_wall_clock() {
    let now = Now { at: s(5), unix_ms: 1_000_250 };
    assert_eq!(left(now, 1_001), Duration::from_millis(750));
    assert_eq!((left(now, 1_000), left(now, 0)), (Duration::ZERO, Duration::ZERO));
    let long = left(now, u64::MAX);
    let mut records = records(Config::default());
    let offer = Offer { ttl: long, ..offer(1, 1, Version::Immutable) };
    assert_eq!(records.store(now.at, &offer), Outcome::Stored);
    assert_eq!(records.next_deadline(), now.at + Config::default().ttl_max);
}

#[test]
fn a_walk_can_be_interrupted() {
    let mut records = records(Config::default());
    for k in 0..10 {
        assert_eq!(records.store(s(0), &offer(k, k, Version::Immutable)), Outcome::Stored);
        assert_eq!(records.announce(s(0), &announcement(k, k, k, 60)), Outcome::Stored);
    }
    let first: Vec<_> = records.values_from(0).take(4).map(|(at, it)| (at, it.key)).collect();
    assert_eq!(first, [0, 1, 2, 3].map(|n| (usize::from(n), key(n))));
    let renewed = Announcement { sequence: 2, ..announcement(7, 7, 7, 60) };
    assert_eq!(records.announce(s(0), &renewed), Outcome::Stored);
    let rest: Vec<_> =
        records.providers_from(4).map(|(at, it)| (at, it.key, it.sequence)).collect();
    let expected = (4..10).map(|n| (usize::from(n), key(n), 1 + u64::from(n == 7)));
    assert_eq!(rest, expected.collect::<Vec<_>>());
}

#[test]
fn the_default_configuration_fits_its_memory() {
    let bytes = Records::bytes(&Config::default());
    assert!(bytes < 80 * MIB, "{bytes}");
}

#[test]
fn what_was_replaced_does_not_come_back_for_want_of_what_replaced_it() {
    let mut records = records(Config::default());
    let old = Offer { ttl: secs(900), ..offer(1, 1, signed(1, 1)) };
    let new = Offer { ttl: secs(0), ..offer(1, 1, signed(2, 0)) };
    assert_eq!(records.store_again(s(0), &old), Outcome::Stored);
    assert_eq!(records.store_again(s(0), &new), Outcome::Rejected(Why::Expired));
    assert!(records.value(&key(1)).is_none());
    // Nothing goes for what is older still.
    assert_eq!(records.store_again(s(0), &old), Outcome::Stored);
    let older = Offer { ttl: secs(0), ..offer(1, 1, signed(0, 1)) };
    assert_eq!(records.store_again(s(0), &older), Outcome::Rejected(Why::Expired));
    assert!(records.value(&key(1)).is_some());

    let (old, new) = (announcement(2, 1, 1, 900), announcement(2, 1, 1, 0));
    let new = Announcement { sequence: old.sequence + 1, ..new };
    assert_eq!(records.put_back(s(0), &old), Outcome::Stored);
    assert_eq!(records.put_back(s(0), &new), Outcome::Rejected(Why::Expired));
    assert!(records.provider(&key(2), &peer(1)).is_none());
}
