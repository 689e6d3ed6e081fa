use rand_core::SeedableRng;

use super::*;
use crate::client::fake::identity;
use crate::client::pair::packet;

fn pair() -> [Tunnel; 2] {
    let (a, b) = (identity(1), identity(2));
    let tunnel = |of: &crate::identity::Identity, to: &crate::identity::Identity, seed| {
        Tunnel::new(of.wg_secret().clone(), to.wg_key(), ChaCha12Rng::seed_from_u64(seed))
    };
    [tunnel(&a, &b, 1), tunnel(&b, &a, 2)]
}

fn at(ms: u64) -> Moment {
    Moment::START + Duration::from_millis(ms)
}

/// Initiates from the first and answers; the confirmation is returned.
fn shake(now: Moment, [a, b]: &mut [Tunnel; 2]) -> Vec<u8> {
    a.connect(now);
    let initiation = a.poll(now).unwrap();
    let Received::Respond(response) = b.receive(now, &initiation) else { panic!("no response") };
    let Received::Established(Some(confirmation)) = a.receive(now, &response) else {
        panic!("no keys")
    };
    confirmation
}

fn passes(now: Moment, from: &mut Tunnel, to: &mut Tunnel, payload: &[u8]) -> bool {
    let Some(message) = from.seal(now, &packet::data(payload)) else { return false };
    matches!(to.receive(now, &message), Received::Data { .. })
}

#[test]
fn keys_that_were_answered_for_are_used_once_the_other_side_used_them() {
    let mut both = pair();
    let confirmation = shake(at(0), &mut both);
    let [a, b] = &mut both;
    assert!(a.is_established(at(0)) && !b.is_established(at(0)));
    assert_eq!(b.seal(at(0), b""), None);
    assert_eq!(b.receive(at(1), &confirmation), Received::Keepalive { fresh: true });
    assert!(passes(at(2), a, b, b"to") && passes(at(2), b, a, b"and fro"));
}

#[test]
fn what_is_replayed_is_nothing() {
    let [mut a, mut b] = pair();
    a.connect(at(0));
    let initiation = a.poll(at(0)).unwrap();
    assert!(matches!(b.receive(at(0), &initiation), Received::Respond(_)));
    assert_eq!(b.receive(at(1), &initiation), Received::Nothing);
    let [mut stranger, _] = pair();
    stranger.connect(at(0));
    let other = stranger.poll(at(0)).unwrap();
    assert_eq!(a.receive(at(0), &other), Received::Nothing, "an initiation of the key's own side");
    for garbage in [&b""[..], &[4; 3], &[1; 148], &[4, 0, 0, 0], &[2, 0, 0, 0]] {
        assert_eq!(b.receive(at(2), garbage), Received::Nothing);
    }
}

#[test]
fn both_may_initiate_at_once() {
    let [mut a, mut b] = pair();
    let now = at(0);
    a.connect(now);
    b.connect(now);
    let (from_a, from_b) = (a.poll(now).unwrap(), b.poll(now).unwrap());
    let Received::Respond(to_b) = a.receive(now, &from_b) else { panic!("a does not answer") };
    let Received::Respond(to_a) = b.receive(now, &from_a) else { panic!("b does not answer") };
    let Received::Established(Some(of_a)) = a.receive(now, &to_a) else { panic!("a has no keys") };
    let Received::Established(Some(of_b)) = b.receive(now, &to_b) else { panic!("b has no keys") };
    assert_eq!(b.receive(now, &of_a), Received::Keepalive { fresh: true });
    assert_eq!(a.receive(now, &of_b), Received::Keepalive { fresh: true });
    for step in 1..5 {
        assert!(passes(at(step), &mut a, &mut b, b"x") && passes(at(step), &mut b, &mut a, b"y"));
    }
}

#[test]
fn an_unanswered_initiation_is_repeated_less_and_less_often_and_then_given_up() {
    let [mut a, _] = pair();
    a.connect(at(0));
    let mut sent = Vec::new();
    while a.is_connecting() {
        let now = a.next_deadline();
        sent.extend(a.poll(now).map(|_| now));
    }
    let pauses: Vec<_> = sent.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses[0] >= RETRY_FIRST && pauses[0] <= RETRY_FIRST * 11 / 10, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= RETRY_MAX * 11 / 10), "{pauses:?}");
    assert!((15..30).contains(&sent.len()), "{}", sent.len());
    assert_eq!(a.next_deadline(), Moment::NEVER);
}

#[test]
fn keys_are_renewed_while_they_are_used_and_end_when_they_are_not() {
    let mut both = pair();
    let confirmation = shake(at(0), &mut both);
    let [a, b] = &mut both;
    b.receive(at(0), &confirmation);
    assert!(passes(at(119_000), a, b, b"x") && !a.is_connecting());
    assert!(passes(at(121_000), a, b, b"x") && a.is_connecting());
    let initiation = a.poll(at(121_000)).unwrap();
    let Received::Respond(response) = b.receive(at(121_000), &initiation) else { panic!("none") };
    assert!(passes(at(121_010), b, a, b"under the old keys"));
    a.receive(at(121_020), &response);
    assert!(passes(at(121_030), a, b, b"x") && passes(at(121_030), b, a, b"x"));
    b.poll(at(302_000));
    a.poll(at(302_000));
    assert!(!a.is_established(at(302_000)) && !b.is_established(at(302_000)));
}

#[test]
fn received_data_is_acknowledged_within_ten_seconds() {
    let mut both = pair();
    let confirmation = shake(at(0), &mut both);
    let [a, b] = &mut both;
    b.receive(at(0), &confirmation);
    assert!(passes(at(100), a, b, b"x"));
    assert_eq!(b.next_deadline(), at(10_100));
    assert_eq!(b.poll(at(10_099)), None);
    let keepalive = b.poll(at(10_100)).unwrap();
    assert_eq!(a.unanswered_since(), Some(at(100)));
    assert_eq!(a.receive(at(10_100), &keepalive), Received::Keepalive { fresh: false });
    assert_eq!(a.unanswered_since(), None);
}
