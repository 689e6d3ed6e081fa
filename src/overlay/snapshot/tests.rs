//! Snapshots against a list that is sorted by distance.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::{HomeRef, SessionRef};
use crate::net::Prefix;
use crate::overlay::{Config, Entry, Inserted};

fn ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

/// Ids that crowd: neighbours down to the last bit.
fn id((top, low): (u8, u16)) -> PeerId {
    let mut id = [top & 0x83; 32];
    id[30..].copy_from_slice(&(low & 0x1ff).to_be_bytes());
    PeerId(id)
}

fn entry(id: PeerId) -> Entry {
    let [.., a, b] = id.0;
    Entry {
        id,
        home: HomeRef { shard: 1, session: SessionRef { slot: 0, generation: 0 } },
        prefix: Prefix([6, id.0[0], a, b, 0, 0, 0]),
        scope: Scope::Global,
        met_unix_s: 0,
        encoded: id.0.into_iter().collect(),
    }
}

fn table(ids: &[PeerId]) -> Table {
    let mut table = Table::new(Config { entries_max: 4096, ..Config::default() });
    for &id in ids {
        let _ = table.insert(Moment::START, entry(id));
    }
    table
}

/// Everything `table` has, published and taken.
fn published(table: &mut Table) -> Others {
    let (mut publisher, mut others) = (Publisher::default(), Others::default());
    publisher.changed(ms(0), &table.take_changed());
    while let Some(snapshot) = publisher.publish(ms(0), table) {
        others.replace(snapshot);
    }
    others
}

proptest! {
    #[test]
    fn the_closest_are_found(
        ids in vec(any::<(u8, u16)>().prop_map(id), 0..300),
        target in any::<(u8, u16)>().prop_map(id),
        elsewhere in any::<[u8; 32]>().prop_map(PeerId),
        limit in 0..20_usize,
    ) {
        let mut table = table(&ids);
        let others = published(&mut table);
        prop_assert_eq!(others.len(), table.len());
        prop_assert_eq!(others.is_empty(), table.is_empty());
        for target in [target, elsewhere] {
            let mut expected: Vec<PeerId> = table.iter().map(|entry| entry.id).collect();
            expected.sort_unstable_by_key(|id| id.distance(&target));
            expected.truncate(limit.min(FIND_NODE_PEERS_MAX));
            let found = others.nearest(&target, limit);
            let found: Vec<PeerId> = found.iter().map(|peer| peer.id).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_bucket_is_published_in_time_and_not_more_often(
        changes in vec((0..8_u8, 0..60_u64), 1..100),
    ) {
        let table = table(&[]);
        let mut publisher = Publisher::default();
        let mut now = 0;
        let mut changed_at = [None; 8];
        let mut published_at = [None::<u64>; 8];
        let mut epoch = 0;
        for (bucket, wait) in changes {
            let mut set = BucketSet::EMPTY;
            set.add(bucket);
            publisher.changed(ms(now), &set);
            changed_at[usize::from(bucket)].get_or_insert(now);
            let until = now + wait;
            while publisher.next_deadline() <= ms(until) {
                let at = publisher.next_deadline().as_nanos() / 1_000_000;
                let snapshot = publisher.publish(ms(at), &table).unwrap();
                prop_assert!(snapshot.epoch() > epoch);
                epoch = snapshot.epoch();
                let bucket = usize::from(snapshot.bucket());
                let changed = changed_at[bucket].take().unwrap();
                let rested = published_at[bucket].map_or(0, |last| last + 100);
                prop_assert_eq!(at, rested.max(changed), "at once, and not too often");
                published_at[bucket] = Some(at);
            }
            prop_assert!(publisher.publish(ms(until), &table).is_none());
            now = until;
        }
    }
}

#[test]
fn a_snapshot_holds_until_the_next_one() {
    let [a, b] = [id((1, 1)), id((1, 2))];
    let mut table = table(&[a, b]);
    let mut others = published(&mut table);
    assert!(table.remove(&a));
    let found = |others: &Others| others.nearest(&a, 8).iter().map(|p| p.id).collect::<Vec<_>>();
    assert_eq!(found(&others), [a, b]);
    let mut publisher = Publisher::default();
    publisher.changed(ms(0), &table.take_changed());
    others.replace(publisher.publish(ms(0), &table).unwrap());
    assert_eq!(found(&others), [b]);
    assert_eq!(table.insert(ms(0), entry(b)), Inserted::Updated);
    assert!(table.remove(&b));
    publisher.changed(ms(200), &table.take_changed());
    others.replace(publisher.publish(ms(300), &table).unwrap());
    assert!(others.is_empty() && found(&others).is_empty());
}

#[test]
fn a_table_that_begins_again_publishes_what_it_lost() {
    let (a, b) = (id((1, 1)), id((2, 2)));
    let mut before = table(&[a, b]);
    let mut others = published(&mut before);
    let mut after = table(&[b]);
    let mut publisher = Publisher::default();
    publisher.begin_again(ms(50), &every_bucket());
    publisher.changed(ms(60), &after.take_changed());
    assert_eq!(publisher.next_deadline(), ms(150));
    while let Some(snapshot) = publisher.publish(ms(150), &after) {
        others.replace(snapshot);
    }
    assert_eq!((others.len(), others.nearest(&a, 8)[0].id), (1, b));
}

fn every_bucket() -> BucketSet {
    let mut all = BucketSet::EMPTY;
    (0..=255).for_each(|bucket| all.add(bucket));
    all
}
