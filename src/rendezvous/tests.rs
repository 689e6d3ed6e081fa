//! Attempts end once, and both sides are told the same moment.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn session(slot: u32) -> SessionRef {
    SessionRef { slot, generation: 1 }
}

#[test]
fn both_fire_at_one_moment() {
    for (requester, target) in [(40, 200), (200, 40), (1, 1), (900, 900), (4000, 10)] {
        let plan = schedule(Some(ms(requester)), Some(ms(target)));
        let (requester, target) = (requester.min(1000), target.min(1000));
        // The notice arrives after half a round trip; the answer is here after a whole one.
        let target_fires = target / 2 + u64::from(plan.target_ms());
        let requester_fires = target + requester / 2 + u64::from(plan.requester_ms(ms(target)));
        assert!(target_fires.abs_diff(requester_fires) <= 1, "{requester} {target}");
        assert!(plan.requester_ms(ms(target)) >= 19, "nobody has to fire before it knows");
    }
    let plan = schedule(None, None);
    assert_eq!(plan.requester_ms(ms(1900)), 0, "late, and at once");
}

#[test]
fn an_attempt_is_answered_once_and_by_who_was_asked() {
    let mut attempts = Attempts::default();
    let one = attempts.ask(at(0), session(1), 7, "one").unwrap_or_default();
    let two = attempts.ask(at(1), session(2), 7, "two").unwrap_or_default();
    assert_ne!(one, two);
    assert_eq!(attempts.answered(at(5), session(2), one), None);
    assert_eq!(attempts.answered(at(5), session(1), one ^ 1 << 31), None);
    assert_eq!(attempts.answered(at(5), session(1), one), Some(("one", ms(5))));
    assert_eq!(attempts.answered(at(6), session(1), one), None);
    assert_eq!((attempts.len(), attempts.next_deadline()), (1, at(2000)));
    assert_eq!(attempts.expired(at(2000)), None, "the first one has ended");
    assert_eq!(attempts.next_deadline(), at(2001));
    assert_eq!((attempts.expired(at(2001)), attempts.expired(at(2001))), (Some("two"), None));
    assert!(attempts.is_empty() && attempts.next_deadline() == Moment::NEVER);
}

#[test]
fn a_place_that_is_used_again_is_not_ended_by_its_last_attempt() {
    let mut attempts = Attempts::default();
    let old = attempts.ask(at(0), session(1), 1, 1).unwrap_or_default();
    assert!(attempts.answered(at(1), session(1), old).is_some());
    let new = attempts.ask(at(1000), session(1), 2, 2).unwrap_or_default();
    assert_eq!(attempts.expired(at(2500)), None);
    assert_eq!(attempts.answered(at(2500), session(1), old), None);
    assert_eq!(attempts.answered(at(2500), session(1), new), Some((2, ms(1500))));
}

#[test]
fn no_more_wait_than_there_are_places() {
    let mut attempts = Attempts::default();
    for n in 0..ATTEMPTS_MAX {
        assert!(attempts.ask(at(0), session(1), 0, n).is_ok());
    }
    assert_eq!(attempts.ask(at(0), session(1), 0, 9999), Err(9999));
    let mut gone = 0;
    while attempts.expired(at(2000)).is_some() {
        gone += 1;
    }
    assert_eq!(gone, ATTEMPTS_MAX);
    assert!(attempts.ask(at(3000), session(1), 0, 1).is_ok());
}
