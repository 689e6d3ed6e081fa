use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SEED: Keyed = Keyed::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);

fn at(ns: u64) -> Moment {
    Moment::from_nanos(ns)
}

#[test]
fn burst_then_rate() {
    let rate = Rate::new(20, 5);
    let mut bucket = TokenBucket::full(&rate, Moment::START);
    assert_eq!((0..7).filter(|_| bucket.take(Moment::START, &rate, 1)).count(), 5);
    let later = Moment::START + Duration::from_millis(50);
    assert_eq!(bucket.ready_at(Moment::START, &rate, 1), later);
    assert!(!bucket.take(later - Duration::from_nanos(1), &rate, 1));
    assert!(bucket.take(later, &rate, 1));
    assert!(!bucket.take(later, &rate, 1));
}

#[test]
fn looking_often_loses_nothing() {
    // A rate that does not divide a second: 7 tokens a second, looked at every 3 ns.
    let rate = Rate::new(7, 100);
    let mut bucket = TokenBucket::full(&rate, Moment::START);
    assert!(bucket.take(Moment::START, &rate, 100));
    for ns in (0..300_000).step_by(3) {
        assert!(!bucket.take(at(ns), &rate, 1));
    }
    assert_eq!(bucket.ready_at(at(299_997), &rate, 1), at(142_857_143));
    assert!(bucket.take(at(142_857_143), &rate, 1));
}

#[test]
fn a_rate_of_zero_never_refills() {
    let rate = Rate::new(0, 1);
    let mut bucket = TokenBucket::full(&rate, Moment::START);
    assert!(bucket.take(Moment::START, &rate, 1));
    assert_eq!(bucket.ready_at(at(5), &rate, 1), Moment::NEVER);
    assert!(!bucket.take(Moment::NEVER, &rate, 1));
}

#[test]
#[should_panic(expected = "could never be paid")]
fn a_cost_above_the_burst_is_our_mistake() {
    let rate = Rate::new(1, 1);
    TokenBucket::full(&rate, Moment::START).take(Moment::START, &rate, 2);
}

#[test]
fn the_fullest_bucket_makes_room() {
    let rate = Rate::new(1, 10);
    let mut table = BucketTable::new(WAYS, rate, SEED);
    assert_eq!(table.capacity(), WAYS);
    // One set only: keys 0..4 are 0, 1, 2, 3 tokens short of full.
    for (key, cost) in (0_u32..).zip([9, 8, 7, 1]) {
        assert!(table.take(Moment::START, &key, cost));
    }
    // Key 3 was fullest and goes; the others are still remembered.
    assert!(table.take(Moment::START, &99, 10));
    assert!(!table.take(Moment::START, &0, 2));
    assert!(!table.take(Moment::START, &1, 3));
    assert!(!table.take(Moment::START, &2, 4));
}

#[test]
fn similar_keys_spread_over_the_table() {
    let places = 1024;
    let mut hits = vec![0_u32; places];
    for key in 0..u32::try_from(places * 16).unwrap() {
        hits[SEED.index(&key.to_be_bytes(), places)] += 1;
    }
    let (least, most) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
    assert!(*least >= 2 && *most <= 48, "16 expected everywhere, saw {least}..={most}");
    let other = Keyed::new([1, 2]);
    let same = (0..1024_u32).filter(|key| SEED.index(key, places) == other.index(key, places));
    assert!(same.count() < 16, "the place depends on the seed");
}

proptest! {
    /// Against an exact model: tokens as a fraction over a common denominator.
    #[test]
    fn bucket_agrees_with_exact_arithmetic(
        per_s in 0_u64..5_000_000,
        burst in 1_u64..100_000,
        steps in prop::collection::vec((0_u64..2_000_000_000, 0_u64..1000), 1..60),
    ) {
        let rate = Rate::new(per_s, burst);
        let mut bucket = TokenBucket::full(&rate, Moment::START);
        let (mut level, mut now) = (u128::from(burst) * 1_000_000_000, 0_u64);
        for (pause, cost) in steps {
            let cost = cost % (burst + 1);
            now += pause;
            level = (level + u128::from(pause) * u128::from(per_s)).min(u128::from(burst) * 1_000_000_000);
            let due = u128::from(cost) * 1_000_000_000;
            prop_assert_eq!(u128::from(bucket.tokens(at(now), &rate)), level / 1_000_000_000);
            let paid = bucket.take(at(now), &rate, cost);
            prop_assert_eq!(paid, level >= due);
            if paid {
                level -= due;
            } else {
                let ready = bucket.ready_at(at(now), &rate, cost);
                prop_assert!(ready > at(now));
                if ready != Moment::NEVER {
                    prop_assert!(bucket.tokens(ready, &rate) >= cost);
                    prop_assert!(bucket.tokens(ready - Duration::from_nanos(1), &rate) < cost);
                }
            }
        }
    }

    /// With room for every key the table is a map of buckets.
    #[test]
    fn roomy_table_is_a_map_of_buckets(
        steps in prop::collection::vec((0_u64..100_000_000, 0_u8..12, 1_u64..5), 1..200),
    ) {
        let rate = Rate::new(30, 8);
        let mut table = BucketTable::new(4096, rate, SEED);
        let mut model: HashMap<u8, TokenBucket> = HashMap::new();
        let mut now = 0;
        for (pause, key, cost) in steps {
            now += pause;
            let bucket = model.entry(key).or_insert(TokenBucket::full(&rate, at(now)));
            prop_assert_eq!(table.take(at(now), &key, cost), bucket.take(at(now), &rate, cost));
        }
    }
}
