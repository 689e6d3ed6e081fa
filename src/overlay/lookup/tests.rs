//! Answers against the list of all peers, sorted.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::ids::{HomeRef, SessionRef};
use crate::overlay::{Config, Entry, Publisher};
use crate::time::Moment;

#[derive(Clone, Debug)]
struct Someone {
    id: PeerId,
    prefix: Prefix,
    scope: Scope,
}

/// Few networks, both families, every scope.
fn someone() -> impl Strategy<Value = Someone> {
    (any::<u16>(), 0..24_u8).prop_map(|(short, network)| {
        let [high, low] = short.to_be_bytes();
        let mut id = [high; 32];
        id[31] = low;
        let family = if network % 3 == 0 { 4 } else { 6 };
        let scope = match network % 8 {
            0 => Scope::Loopback,
            1 => Scope::Private,
            _ => Scope::Global,
        };
        Someone { id: PeerId(id), prefix: Prefix([family, network, 0, 0, 0, 0, 0]), scope }
    })
}

fn viewpoint() -> impl Strategy<Value = Viewpoint> {
    let scope = prop_oneof![Just(Scope::Loopback), Just(Scope::Private), Just(Scope::Global)];
    (scope, any::<bool>()).prop_map(|(scope, is_v4)| Viewpoint { scope, is_v4 })
}

/// Half of them here, half in another shard.
fn listed(people: &[Someone]) -> (Table, Others) {
    let config = Config { per_prefix: 20, ..Config::default() };
    let mut tables = [Table::new(config), Table::new(config)];
    for Someone { id, prefix, scope } in people.iter().cloned() {
        let home = HomeRef { shard: 0, session: SessionRef { slot: 0, generation: 0 } };
        let encoded = id.0.into_iter().collect();
        let entry = Entry { id, home, prefix, scope, met_unix_s: 0, encoded };
        let _ = tables[usize::from(id.0[0] & 1)].insert(Moment::START, entry);
    }
    let [here, mut there] = tables;
    let (mut publisher, mut others) = (Publisher::default(), Others::default());
    publisher.changed(Moment::START, &there.take_changed());
    while let Some(snapshot) = publisher.publish(Moment::START, &there) {
        others.replace(snapshot);
    }
    (here, others)
}

/// What is wrong with `found`, if the sample is everybody in `people`.
fn wrong(
    people: &BTreeMap<PeerId, Someone>,
    target: &PeerId,
    limit: usize,
    asker: Viewpoint,
    found: &[PeerId],
) -> Option<&'static str> {
    let limit = limit.min(FIND_NODE_PEERS_MAX);
    let visible = |id: &&PeerId| people[*id].scope >= asker.scope;
    let mut by_distance: Vec<&PeerId> = people.keys().collect();
    by_distance.sort_by_key(|id| id.distance(target));
    // The closest 16 of all are looked at for those that mean something to who asks.
    let near: Vec<&PeerId> =
        by_distance.into_iter().take(FIND_NODE_PEERS_MAX).filter(visible).take(limit).collect();
    let closest = found.iter().zip(&near).take_while(|(found, near)| found == *near).count();
    let drawn: Vec<&Someone> = found[closest..].iter().map(|id| &people[id]).collect();
    let same = |a: &Someone, b: &Someone| a.scope == Scope::Global && a.prefix == b.prefix;
    let twice = |n: usize| drawn[..n].iter().any(|other| same(drawn[n], other));
    let own = |peer: &Someone| peer.prefix.is_v4() == asker.is_v4;
    let global: Vec<&Someone> =
        drawn.iter().copied().filter(|peer| peer.scope == Scope::Global).collect();
    // Behind that some may be drawn that happen to be the next closest.
    let half = limit.div_ceil(2).min(near.len());
    let mut left =
        people.values().filter(|peer| peer.scope >= asker.scope && !found.contains(&peer.id));
    let crowded = |peer: &Someone| drawn.iter().any(|other| same(peer, other));
    let by_chance = |peer: &Someone| found[half..closest].iter().any(|id| same(peer, &people[id]));
    let missed = left.any(|peer| !crowded(peer) && !by_chance(peer));
    let mut ids = found.to_vec();
    ids.sort_unstable();
    ids.dedup();
    match () {
        () if ids.len() < found.len() => Some("somebody twice"),
        () if !found.iter().all(|id| visible(&id)) => Some("an address of no use"),
        () if closest < half => Some("not the closest first"),
        () if drawn.len() > closest || drawn.len() > limit / 2 => Some("more drawn than closest"),
        () if (0..drawn.len()).any(twice) => Some("two drawn of a network"),
        () if !global.iter().skip_while(|peer| own(peer)).all(|peer| !own(peer)) => {
            Some("the other family first")
        }
        () if found.len() > limit || found.len() < near.len() => Some("too many or too few"),
        () if found.len() < limit && drawn.len() < closest && missed => Some("somebody left out"),
        () => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn answers_are_composed_by_the_rules(
        people in vec(someone(), 0..100),
        targets in vec(any::<[u8; 32]>(), 1..6),
        limit in 0..20_usize,
        asker in viewpoint(),
        seed in any::<u64>(),
    ) {
        let (table, others) = listed(&people);
        let listed_ids: Vec<PeerId> = table.iter().map(|entry| entry.id)
            .chain((0..).map_while(|n| others.nth(n)).map(|peer| peer.id)).collect();
        let people: BTreeMap<PeerId, Someone> = people.into_iter()
            .filter(|one| listed_ids.contains(&one.id))
            // Who was inserted twice is where it was last.
            .map(|one| (one.id, one)).collect();
        let mut sample = Sample::default();
        sample.refresh(Moment::START, &table, &others, &mut ChaCha12Rng::seed_from_u64(seed));
        for target in targets.into_iter().map(PeerId) {
            let answer = answer(&table, &others, &mut sample, &target, limit, asker);
            let found: Vec<PeerId> = answer.iter().map(|found| *found.id).collect();
            prop_assert!(answer.iter().all(|found| found.encoded == found.id.0));
            let wrong = wrong(&people, &target, limit, asker, &found);
            prop_assert_eq!(wrong, None, "{:?} of {:?}", found, people);
        }
    }
}

/// A peer in a network of its own.
fn global(n: u8, family: u8) -> Someone {
    let prefix = Prefix([family, n, 0, 0, 0, 0, 0]);
    Someone { id: PeerId([n; 32]), prefix, scope: Scope::Global }
}

#[test]
fn half_of_an_answer_is_drawn_and_what_can_be_used_comes_first() {
    let people: Vec<_> = (0..60).map(|n| global(n, if n % 4 == 0 { 4 } else { 6 })).collect();
    let (table, others) = listed(&people);
    let mut sample = Sample::default();
    sample.refresh(Moment::START, &table, &others, &mut ChaCha12Rng::seed_from_u64(1));
    let asker = Viewpoint::of("9.9.9.9".parse().unwrap());
    let mut drawn = vec![];
    for _ in 0..30 {
        let answer = answer(&table, &others, &mut sample, &PeerId([0; 32]), 9, asker);
        let found: Vec<u8> = answer.iter().map(|found| found.id.0[0]).collect();
        assert_eq!(found[..5], [0, 1, 2, 3, 4]);
        assert_eq!(found.len(), 9);
        assert!(found[5..].iter().all(|n| n % 4 == 0), "{found:?}");
        drawn.extend_from_slice(&found[5..]);
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, (8..60).step_by(4).collect::<Vec<u8>>(), "all have their turn");
}

#[test]
fn who_owns_one_network_is_drawn_once() {
    let one_network = |n| Someone { prefix: Prefix([6, 1, 0, 0, 0, 0, 0]), ..global(n, 6) };
    let people: Vec<_> = (0..60).map(one_network).collect();
    let (table, others) = listed(&people);
    let mut sample = Sample::default();
    sample.refresh(Moment::START, &table, &others, &mut ChaCha12Rng::seed_from_u64(1));
    let asker = Viewpoint::of("2600::1".parse().unwrap());
    let answer = answer(&table, &others, &mut sample, &PeerId([0; 32]), 8, asker);
    let found: Vec<u8> = answer.iter().map(|found| found.id.0[0]).collect();
    let seventh = found[6];
    assert_eq!((&found[..6], seventh, found.len()), (&[0, 1, 2, 3, 4, 5][..], 6, 8));
}
