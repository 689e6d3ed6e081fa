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
        let target_fires = target / 2 + u64::from(plan.target_ms(Duration::ZERO));
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
    assert_eq!(
        (attempts.len(), attempts.attempt(one), attempts.attempt(two)),
        (1, None, Some(&"two"))
    );
    assert_eq!(attempts.due(at(250)), None, "the first one has ended");
    assert_eq!(attempts.next_deadline(), at(251));
}

#[test]
fn who_does_not_answer_is_asked_again_until_the_time_is_over() {
    let mut attempts = Attempts::default();
    let asked = attempts.ask(at(0), session(1), 7, "it").unwrap_or_default();
    let mut again = 0;
    for now in (0..2000).step_by(10) {
        while let Some(due) = attempts.due(at(now)) {
            assert_eq!(due, Due::Again(session(1), asked, ms(now)));
            again += 1;
        }
    }
    assert_eq!(again, 7);
    assert_eq!((attempts.due(at(2000)), attempts.due(at(2000))), (Some(Due::Over("it")), None));
    assert!(attempts.is_empty() && attempts.next_deadline() == Moment::NEVER);
}

#[test]
fn a_place_that_is_used_again_is_not_ended_by_its_last_attempt() {
    let mut attempts = Attempts::default();
    let old = attempts.ask(at(0), session(1), 1, 1).unwrap_or_default();
    assert!(attempts.answered(at(1), session(1), old).is_some());
    let new = attempts.ask(at(100), session(1), 2, 2).unwrap_or_default();
    assert_eq!(attempts.due(at(260)), None);
    assert_eq!(attempts.answered(at(2050), session(1), old), None);
    assert_eq!(attempts.answered(at(2050), session(1), new), Some((2, ms(1950))));
}

#[test]
fn no_more_wait_than_there_are_places() {
    let mut attempts = Attempts::default();
    for n in 0..ATTEMPTS_MAX {
        assert!(attempts.ask(at(0), session(1), 0, n).is_ok());
    }
    assert_eq!(attempts.ask(at(0), session(1), 0, 9999), Err(9999));
    let mut gone = 0;
    while let Some(Due::Over(_)) = attempts.due(at(2000)) {
        gone += 1;
    }
    assert_eq!(gone, ATTEMPTS_MAX);
    assert!(attempts.ask(at(3000), session(1), 0, 1).is_ok());
}
