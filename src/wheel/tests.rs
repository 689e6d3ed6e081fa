use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const TICK: u64 = 1 << TICK_SHIFT;
const NONE: [u32; 0] = [];

fn at(ns: u64) -> Moment {
    Moment::from_nanos(ns)
}

fn drain(wheel: &mut Wheel, now: Moment) -> Vec<u32> {
    std::iter::from_fn(|| wheel.pop(now)).collect()
}

#[test]
fn fires_in_order_and_once() {
    let mut wheel = Wheel::new(8);
    for (key, s) in [(0, 10), (1, 1), (2, 180), (3, 1)] {
        wheel.set(key, Moment::START + Duration::from_secs(s));
    }
    assert_eq!(wheel.len(), 4);
    assert_eq!(drain(&mut wheel, Moment::START + Duration::from_millis(999)), NONE);
    assert_eq!(drain(&mut wheel, Moment::START + Duration::from_secs(11)), [1, 3, 0]);
    assert_eq!(drain(&mut wheel, Moment::START + Duration::from_secs(179)), NONE);
    assert_eq!(drain(&mut wheel, Moment::START + Duration::from_secs(181)), [2]);
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_deadline(), Moment::NEVER);
}

#[test]
fn setting_again_moves_and_cancelling_removes() {
    let mut wheel = Wheel::new(2);
    wheel.set(0, at(5 * TICK));
    wheel.set(0, at(9 * TICK));
    wheel.set(1, at(5 * TICK));
    assert!(wheel.cancel(1) && !wheel.cancel(1));
    assert_eq!(drain(&mut wheel, at(8 * TICK)), NONE);
    assert_eq!(drain(&mut wheel, at(9 * TICK)), [0]);
    wheel.set(0, Moment::NEVER);
    assert!(wheel.is_empty());
}

#[test]
fn the_past_fires_at_once() {
    let mut wheel = Wheel::new(1);
    assert_eq!(wheel.pop(at(1000 * TICK)), None);
    wheel.set(0, at(3));
    assert_eq!(wheel.next_deadline(), at(1000 * TICK));
    assert_eq!(wheel.pop(at(1000 * TICK)), Some(0));
}

#[test]
fn waiting_for_the_deadline_always_arrives() {
    let mut wheel = Wheel::new(1);
    for target in
        [1, TICK, TICK + 1, 63 * TICK, 64 * TICK, 65 * TICK + 7, 1 << 40, 1 << 50, u64::MAX >> 1]
    {
        let mut wheel_now = at(0);
        wheel = Wheel::new(1);
        wheel.set(0, at(target));
        let mut wakes = 0;
        while wheel.pop(wheel_now).is_none() {
            assert!(wheel.next_deadline() > wheel_now, "a deadline that has passed would spin");
            wheel_now = wheel.next_deadline();
            wakes += 1;
            assert!(wakes <= LEVELS, "one wake per level at most");
        }
        assert!(wheel_now >= at(target) && wheel_now.as_nanos() - target < TICK);
    }
    assert!(wheel.is_empty());
}

proptest! {
    /// Against an ordered map: same keys, never early, at most a tick late, and the deadline never misleads.
    #[test]
    fn wheel_agrees_with_an_ordered_map(
        steps in prop::collection::vec((0_u8..4, 0_u32..16, 0_u64..40, any::<u64>()), 1..200),
    ) {
        let mut wheel = Wheel::new(16);
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = 0_u64;
        for (act, key, magnitude, random) in steps {
            let span = random % (1 << magnitude).max(1);
            match act {
                0 | 1 => {
                    wheel.set(key, at(now + span));
                    model.insert(key, now + span);
                }
                2 => prop_assert_eq!(wheel.cancel(key), model.remove(&key).is_some()),
                _ => {
                    now += span;
                    for key in drain(&mut wheel, at(now)) {
                        let due = model.remove(&key).expect("only what is set fires");
                        prop_assert!(due <= now, "early by {}", due - now);
                    }
                    prop_assert!(model.values().all(|due| due + TICK > now), "more than a tick late");
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            if let Some(due) = model.values().min() {
                prop_assert!(wheel.next_deadline() < at(due + TICK).max(at(now + 1)));
            }
        }
    }
}
