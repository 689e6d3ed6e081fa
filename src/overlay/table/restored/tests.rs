//! The life of a peer that was restored, and walks past the whole table.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::{HomeRef, PeerId, SessionRef};
use crate::net::{Prefix, Scope};
use crate::overlay::table::{Config, Inserted, K};

/// When the router starts.
const UNIX_S: u64 = 1_000_000;
const DAY_S: u64 = 86_400;

fn now(s: u64) -> Now {
    Now { at: Moment::from_nanos(s * 1_000_000_000), unix_ms: (UNIX_S + s) * 1000 }
}

fn peer(n: u8, session: u32) -> Entry {
    Entry {
        id: PeerId([n; 32]),
        home: HomeRef { shard: 0, session: SessionRef { slot: session, generation: 0 } },
        prefix: Prefix([4, n, 0, 0, 0, 0, 0]),
        scope: Scope::Global,
        met_unix_s: UNIX_S,
        encoded: [n].into_iter().collect(),
    }
}

/// One that was met an hour before the start.
fn known(n: u8) -> Entry {
    Entry { met_unix_s: UNIX_S - 3600, ..peer(n, u32::MAX) }
}

fn table(entries_max: usize) -> Table {
    Table::new(Config { entries_max, ..Config::default() })
}

#[test]
fn only_who_stayed_a_while_and_not_long_ago_is_restored() {
    let mut table = table(100);
    let mut restore = |n, met_unix_s, heard_unix_s| {
        table.restore(now(0), Entry { met_unix_s, ..known(n) }, heard_unix_s)
    };
    assert!(!restore(1, UNIX_S - 200, UNIX_S - 21));
    assert!(restore(1, UNIX_S - 200, UNIX_S - 20));
    assert!(!restore(2, UNIX_S - 2 * DAY_S, UNIX_S - DAY_S - 1));
    assert!(restore(2, UNIX_S - 2 * DAY_S, UNIX_S - DAY_S));
    assert!(!restore(3, UNIX_S, UNIX_S - 500), "heard of before it was met");
    assert!(!restore(1, UNIX_S - 900, UNIX_S), "it is listed");
    assert!(restore(4, UNIX_S, UNIX_S + 500), "the clock was set back");
    let walk: Vec<_> =
        table.iter_down(now(0), 100).map(|it| (it.entry.id.0[0], it.heard_unix_s)).collect();
    assert_eq!(walk, [(4, UNIX_S + 500), (2, UNIX_S - DAY_S), (1, UNIX_S - 20)]);
    assert_eq!(table.iter_down(now(0), 1).next().unwrap().entry.met_unix_s, UNIX_S - 900);
}

#[test]
fn who_does_not_come_back_lapses() {
    let mut table = table(100);
    assert!(table.restore(now(1), known(1), UNIX_S) && table.restore(now(2), known(2), UNIX_S));
    let _ = table.take_changed();
    assert!(!table.seen(&known(1).id, now(5).at), "not without saying by which session");
    assert_eq!(table.next_deadline(), now(901).at);
    assert_eq!((table.poll(now(900).at), table.len()), (None, 2));
    let event = TableEvent::Lapsed { peer: known(1).id };
    assert_eq!((table.poll(now(901).at), table.poll(now(901).at)), (Some(event), None));
    assert!(table.find(&known(1).id).is_none() && table.find(&known(2).id).is_some());
    assert!(table.take_changed().has(1), "the other shards hear of it");
    assert_eq!(table.next_deadline(), now(902).at);
}

#[test]
fn a_session_takes_the_entry_over_in_its_place() {
    let mut table = table(100);
    assert!(table.restore(now(0), known(1), UNIX_S - 7));
    let place = table.find(&known(1).id);
    assert_eq!(table.insert(now(60).at, peer(1, 4)), Inserted::Updated);
    assert_eq!(table.find(&known(1).id), place);
    let entry = Entry { met_unix_s: known(1).met_unix_s, ..peer(1, 4) };
    let walked = table.iter_down(now(70), 1).next().unwrap();
    assert_eq!((walked.entry, walked.heard_unix_s), (&entry, UNIX_S + 60));
    assert!(table.seen(&entry.id, now(80).at));
    assert_eq!((table.poll(now(5000).at), table.next_deadline()), (None, Moment::NEVER));
    assert!(table.session_ended(&entry.id, entry.home) && table.is_empty());
    // Restored again, it has its whole time again.
    assert!(table.restore(now(0), known(1), UNIX_S) && table.remove(&entry.id));
    assert!(table.restore(now(100), known(1), UNIX_S));
    assert_eq!((table.poll(now(999).at), table.len()), (None, 1));
    assert_eq!(table.poll(now(1000).at), Some(TableEvent::Lapsed { peer: entry.id }));
}

#[test]
fn the_restored_take_free_places_and_give_them_first() {
    let mut table = table(K);
    for n in 0..19 {
        assert_eq!(table.insert(now(0).at, peer(n, n.into())), Inserted::Added);
    }
    assert!(table.restore(now(50), known(50), UNIX_S));
    assert!(!table.restore(now(50), known(51), UNIX_S), "nobody is asked to leave for it");
    assert_eq!(table.next_deadline(), now(950).at);
    let asked = Inserted::Pinging { home: known(50).home, peer: known(50).id };
    assert_eq!(table.insert(now(60).at, peer(60, 60)), asked);
    let evicted = TableEvent::Evicted { peer: known(50).id, added: Some(peer(60, 60).id) };
    assert_eq!(table.poll(now(62).at), Some(evicted));
    assert_eq!((table.poll(now(5000).at), table.len()), (None, K));
    // Nor does it come in beside those of its network.
    let mut table = Table::new(Config::default());
    let of_one = |n| Entry { prefix: Prefix([4, 9, 9, 9, 0, 0, 0]), ..known(n) };
    let listed: Vec<_> = (1..4).map(|n| table.restore(now(0), of_one(n), UNIX_S)).collect();
    assert_eq!(listed, [true, true, false]);
}

proptest! {
    /// A walk in slices, with changes between them, sees all who were there from its start to its end.
    #[test]
    fn a_walk_downwards_misses_nobody(
        start in vec(any::<u8>(), 0..60),
        slices in vec((1..8_usize, vec((any::<bool>(), any::<u8>()), 0..6)), 1..40),
    ) {
        let mut table = table(4096);
        for n in start {
            let _ = table.insert(now(0).at, peer(n, 0));
        }
        let mut stayed: BTreeSet<u8> = table.iter().map(|entry| entry.id.0[0]).collect();
        let (mut seen, mut from) = (BTreeSet::new(), table.len());
        for (length, changes) in slices.into_iter().chain([(usize::MAX, vec![])]) {
            for known in table.iter_down(now(1), from).take(length).collect::<Vec<_>>() {
                seen.insert(known.entry.id.0[0]);
                from = known.index;
            }
            for (leaves, n) in changes {
                if leaves {
                    table.remove(&PeerId([n; 32]));
                    stayed.remove(&n);
                } else {
                    let _ = table.insert(now(1).at, peer(n, 1));
                }
            }
        }
        prop_assert!(stayed.is_subset(&seen), "{stayed:?} but {seen:?}");
    }
}
