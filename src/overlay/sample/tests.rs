//! Draws: fair, lazy, and each answer another.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::ids::{HomeRef, SessionRef};
use crate::net::Prefix;
use crate::overlay::{Config, Entry, Inserted, Publisher};

fn ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

/// Asks from everywhere's IPv6.
const ANYWHERE: Viewpoint = Viewpoint { scope: Scope::Loopback, is_v4: false };

/// So many peers, each in a network of its own.
fn peers(n: u32, seed: u64) -> Table {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut table = Table::new(Config { entries_max: 4096, ..Config::default() });
    for number in 0..n {
        let mut id = PeerId([0; 32]);
        rng.fill_bytes(&mut id.0);
        let [a, b, c, d] = number.to_be_bytes();
        let prefix = Prefix([6, a, b, c, d, u8::try_from(seed).unwrap(), 0]);
        let home = HomeRef { shard: 0, session: SessionRef { slot: number, generation: 0 } };
        let (scope, encoded) = (Scope::Global, id.0.into_iter().collect());
        let entry = Entry { id, home, prefix, scope, met_unix_s: 0, encoded };
        assert_eq!(table.insert(ms(0), entry), Inserted::Added);
    }
    table
}

fn published(table: &mut Table) -> Others {
    let (mut publisher, mut others) = (Publisher::default(), Others::default());
    publisher.changed(ms(0), &table.take_changed());
    while let Some(snapshot) = publisher.publish(ms(0), table) {
        others.replace(snapshot);
    }
    others
}

fn ids(sample: &Sample) -> Vec<PeerId> {
    sample.peers.iter().map(|peer| peer.id).collect()
}

/// Pearson's statistic of counts that should be alike, and how far it may be from its mean: six
/// times its deviation. `spread` is what the variance of a count is of its mean.
fn is_even(counts: impl Iterator<Item = u32>, mean: f64, spread: f64) -> bool {
    let parts: Vec<f64> = counts.map(|n| (f64::from(n) - mean).powi(2) / (mean * spread)).collect();
    let freedom = parts.len() as f64 - 1.0;
    let statistic: f64 = parts.iter().sum();
    (statistic - freedom).abs() < 6.0 * (2.0 * freedom).sqrt()
}

#[test]
fn everybody_is_drawn_as_often_wherever_it_is_listed() {
    const ROUNDS: u32 = 3000;
    let (table, mut elsewhere) = (peers(100, 1), peers(300, 2));
    let others = published(&mut elsewhere);
    let all = table.iter().chain(elsewhere.iter()).map(|entry| entry.id);
    let mut drawn: BTreeMap<PeerId, u32> = all.map(|id| (id, 0)).collect();
    let mut first = drawn.clone();
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let mut sample = Sample::default();
    for _ in 0..ROUNDS {
        sample.redraw(&table, &others, &mut rng);
        assert_eq!(sample.peers.len(), SIZE);
        for id in ids(&sample) {
            *drawn.get_mut(&id).unwrap() += 1;
        }
        *first.get_mut(&sample.peers[0].id).unwrap() += 1;
    }
    let chance = SIZE as f64 / 400.0;
    assert!(is_even(drawn.into_values(), f64::from(ROUNDS) * chance, 1.0 - chance));
    assert!(is_even(first.into_values(), f64::from(ROUNDS) / 400.0, 1.0));
}

#[test]
fn numbers_are_different_and_in_range() {
    let mut rng = ChaCha12Rng::seed_from_u64(4);
    for all in [0, 1, 2, SIZE - 1, SIZE, SIZE + 1, 1000] {
        let mut drawn = numbers(all, &mut rng);
        drawn.sort_unstable();
        assert_eq!(drawn.len(), all.min(SIZE));
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(drawn.last().is_none_or(|&last| last < all));
    }
}

#[test]
fn each_answer_goes_on_where_the_last_one_ended() {
    let mut table = peers(200, 1);
    let (others, mut sample) = (Others::default(), Sample::default());
    sample.refresh(ms(0), &table, &others, &mut ChaCha12Rng::seed_from_u64(5));
    let mut told = vec![];
    for _ in 0..SIZE / 8 {
        told.extend(sample.draw(8, ANYWHERE, |_| false).iter().map(|peer| peer.id));
    }
    assert_eq!(told, ids(&sample), "everybody once before anybody twice");
    let again: Vec<_> = sample.draw(3, ANYWHERE, |_| false).iter().map(|peer| peer.id).collect();
    assert_eq!(again, told[..3]);
    // Who is told of otherwise is passed over.
    let others_first = sample.draw(2, ANYWHERE, |id| *id == told[3]);
    assert_eq!(others_first.iter().map(|peer| peer.id).collect::<Vec<_>>(), told[4..6]);
    // Among few as well, the next answer begins elsewhere.
    let few = published(&mut table);
    assert_eq!(few.len(), 200);
    let mut sample = Sample::default();
    sample.redraw(&peers(5, 3), &Others::default(), &mut ChaCha12Rng::seed_from_u64(5));
    let mut firsts: Vec<_> =
        (0..5).map(|_| sample.draw(8, ANYWHERE, |_| false).first().unwrap().id).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[test]
fn a_draw_is_told_of_for_a_second_and_made_when_somebody_asks() {
    let (mut table, others) = (peers(20, 1), Others::default());
    let (mut sample, mut rng) = (Sample::default(), ChaCha12Rng::seed_from_u64(6));
    assert!(sample.draw(8, ANYWHERE, |_| false).is_empty());
    sample.refresh(ms(500), &table, &others, &mut rng);
    let gone = sample.peers[7].id;
    assert!(table.remove(&gone));
    sample.refresh(ms(1499), &table, &others, &mut rng);
    assert!(ids(&sample).contains(&gone));
    sample.refresh(ms(1500), &table, &others, &mut rng);
    assert!(!ids(&sample).contains(&gone) && sample.peers.len() == 19);
    table.remove(&sample.peers[0].id);
    sample.refresh(ms(2499), &table, &others, &mut rng);
    assert_eq!(sample.peers.len(), 19);
}
