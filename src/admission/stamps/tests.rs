//! Each stamp once, whatever the clock does, against a model that never forgets.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::time::Moment;

const ROUTER: PeerId = PeerId([9; 32]);

fn at(unix_s: u64) -> Now {
    Now { at: Moment::START, unix_ms: unix_s * 1000 }
}

fn stamps(per_minute: usize) -> Stamps {
    Stamps::new(ROUTER, per_minute, Keyed::new([1, 2]))
}

fn stamp(epoch: u32, nonce: u64) -> Stamp {
    Stamp { epoch, nonce }
}

#[test]
fn stamps_are_good_for_their_minute_and_the_next() {
    let mut stamps = stamps(10);
    let mut spend =
        |unix_s, epoch| stamps.spend(at(unix_s), &Key([1; 32]), &stamp(epoch, unix_s), 0);
    assert_eq!(spend(6_000, 101), Err(Refused::Outdated));
    assert_eq!((spend(6_000, 100), spend(6_059, 99)), (Ok(()), Ok(())));
    assert_eq!(spend(6_000, 98), Err(Refused::Outdated));
    assert_eq!((spend(6_119, 100), spend(6_120, 100)), (Ok(()), Err(Refused::Outdated)));
}

#[test]
fn what_does_not_pay_leaves_no_trace() {
    let mut stamps = stamps(10);
    let stamp = stamp(100, 1);
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp, 200), Err(Refused::Unpaid));
    assert!(stamps.is_empty());
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp, 0), Ok(()));
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp, 0), Err(Refused::Spent));
    assert_eq!(stamps.spend(at(6_000), &Key([2; 32]), &stamp, 0), Ok(()));
    assert_eq!(stamps.len(), 2);
}

#[test]
fn a_full_memory_refuses_rather_than_forgets() {
    let mut stamps = stamps(3);
    for nonce in 0..3 {
        assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp(100, nonce), 0), Ok(()));
    }
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp(100, 3), 0), Err(Refused::Full));
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp(99, 3), 0), Ok(()));
    for nonce in 0..3 {
        assert_eq!(
            stamps.spend(at(6_060), &Key([1; 32]), &stamp(100, nonce), 0),
            Err(Refused::Spent)
        );
    }
    assert_eq!(stamps.spend(at(6_060), &Key([1; 32]), &stamp(101, 0), 0), Ok(()));
}

#[test]
fn a_clock_that_is_set_back_far_is_believed() {
    let mut stamps = stamps(3);
    assert_eq!(stamps.spend(at(60_000), &Key([1; 32]), &stamp(1_000, 1), 0), Ok(()));
    assert_eq!(stamps.spend(at(59_880), &Key([1; 32]), &stamp(1_000, 1), 0), Err(Refused::Spent));
    assert_eq!(stamps.spend(at(6_000), &Key([1; 32]), &stamp(100, 1), 0), Ok(()));
}

proptest! {
    #[test]
    fn no_stamp_is_taken_twice(
        ops in vec((0..4_u64, 0..3_u32, 0..12_u64, 0..3_u8), 0..400),
        per_minute in 1..30_usize,
    ) {
        let mut stamps = stamps(per_minute);
        let mut spent = BTreeSet::new();
        let mut minute = 100;
        // The clock goes on by up to a minute, and back by up to two now and then.
        for (tick, age, nonce, key) in ops {
            minute += u64::from(tick == 0);
            let back = if tick == 1 { 2 } else { 0 };
            let epoch = u32::try_from(minute).unwrap() + 1 - age;
            let this = (key, epoch, nonce);
            let of_minute = spent.iter().filter(|(_, of, _)| *of == epoch).count();
            let expected = match age {
                1 | 2 if spent.contains(&this) => Err(Refused::Spent),
                1 | 2 if of_minute == per_minute => Err(Refused::Full),
                1 | 2 => Ok(()),
                _ => Err(Refused::Outdated),
            };
            // Only after the newest minute was seen can the clock be seen to go back.
            let probe = stamp(0, 0);
            prop_assert_eq!(stamps.spend(at(minute * 60), &Key([0; 32]), &probe, 0), Err(Refused::Outdated));
            let now = at((minute - back) * 60);
            prop_assert_eq!(stamps.spend(now, &Key([key; 32]), &stamp(epoch, nonce), 0), expected);
            if expected.is_ok() {
                spent.insert(this);
            }
        }
    }
}
