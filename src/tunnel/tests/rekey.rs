//! New keys beside old ones, and which is used.

use super::world::*;
use super::*;

on_both!(
    a_rekeyed_session_is_the_same_session,
    the_old_key_is_used_until_the_new_one_is_confirmed,
    late_data_of_an_old_key_changes_nothing,
    an_overwritten_ring_does_not_seal_for_nobody,
    a_key_older_than_the_overwriting_one_does_not_send,
    five_hundred_sessions_survive_rekeys,
);

/// The receiver index of a message of the router names the client's key.
fn key_of(sealed: &[u8]) -> &[u8] {
    &sealed[4..8]
}

fn a_rekeyed_session_is_the_same_session<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    // 300 handshakes, so that the eight bits that count them wrap.
    for _ in 0..300 {
        world.run(Duration::from_secs(120));
        assert_eq!(world.connect(&mut client, &path(1)), session);
        let there = client.seal(&frame(40, 1));
        assert_eq!(world.give(&path(1), &there), Got::Frame(session, frame(40, 1)));
        let (_, back) = world.seal(session, &frame(40, 2)).unwrap();
        assert_eq!(client.hear(&back), Heard::Frame(frame(40, 2)));
    }
    let stats = world.sessions.stats();
    assert_eq!((stats.begun, stats.handshakes, stats.confirmed, stats.ended), (1, 301, 301, 0));
    assert_eq!(stats.keys_lost, 0);
}

fn the_old_key_is_used_until_the_new_one_is_confirmed<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let (_, before) = world.seal(session, &frame(40, 0)).unwrap();
    world.run(Duration::from_secs(100));
    let first = world.shake(&mut client, &path(1));
    let (_, between) = world.seal(session, &frame(40, 1)).unwrap();
    assert_eq!(key_of(&between), key_of(&before));
    assert_eq!(client.hear(&between), Heard::Frame(frame(40, 1)));
    assert_eq!(world.give(&path(1), &first), Got::Nothing);
    let (_, after) = world.seal(session, &frame(40, 2)).unwrap();
    assert_ne!(key_of(&after), key_of(&before));
    assert_eq!(client.hear(&after), Heard::Frame(frame(40, 2)));
    // 80 s later the old key is over, the new one is not.
    world.run(Duration::from_secs(80));
    assert!(world.seal(session, &frame(40, 3)).is_ok());
}

fn late_data_of_an_old_key_changes_nothing<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let late = client.seal(&frame(40, 7));
    world.run(Duration::from_secs(120));
    world.connect(&mut client, &path(1));
    let (_, before) = world.seal(session, &frame(40, 0)).unwrap();
    assert_eq!(world.give(&path(9), &late), Got::Frame(session, frame(40, 7)));
    let (to, after) = world.seal(session, &frame(40, 0)).unwrap();
    assert_eq!(to, path(1), "the endpoint did not move");
    assert_eq!(key_of(&after), key_of(&before), "the key did not change");
    assert!(world.sessions.session(session).unwrap().proven());
    assert_eq!(world.sessions.stats().roams, 0);
}

fn an_overwritten_ring_does_not_seal_for_nobody<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let mut last = Vec::new();
    for unconfirmed in 1..=8 {
        last = world.shake(&mut client, &path(1));
        let sealed = world.seal(session, &frame(40, 0));
        if unconfirmed < 8 {
            assert!(sealed.is_ok(), "the confirmed key is still there");
        } else {
            assert_eq!(sealed, Err(Drop::Unconfirmed), "its place was taken");
        }
    }
    assert_eq!(world.run(Duration::from_secs(1)), []);
    assert_eq!(world.give(&path(1), &last), Got::Nothing);
    let (_, back) = world.seal(session, &frame(40, 2)).unwrap();
    assert_eq!(client.hear(&back), Heard::Frame(frame(40, 2)));
    assert_eq!(world.sessions.stats().keys_lost, 0);
}

fn a_key_older_than_the_overwriting_one_does_not_send<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let first: Vec<_> = (0..8).map(|_| world.shake(&mut client, &path(1))).collect();
    // The seventh arrives: authentic, but the engine would seal under the eighth.
    assert_eq!(world.give(&path(1), &first[6]), Got::Nothing);
    assert_eq!(world.seal(session, &frame(40, 0)), Err(Drop::Unconfirmed));
    assert_eq!(world.give(&path(1), &first[7]), Got::Nothing);
    let (_, back) = world.seal(session, &frame(40, 2)).unwrap();
    assert_eq!(client.hear(&back), Heard::Frame(frame(40, 2)));
    assert_eq!(world.sessions.stats().keys_lost, 0);
}

/// Many sessions, rekeyed out of step, responses lost, data late: none goes deaf.
/// The engine's own clock hardly moves meanwhile, so this is about keys and their order;
/// `tests/clock` turns both clocks.
fn five_hundred_sessions_survive_rekeys<K: Kind>() {
    let config = Config { sessions_max: 512, ..roomy() };
    let mut world = World::<K>::new(config);
    let at = |n: u16| {
        let mut at = path(1);
        at.peer.set_port(n + 1);
        at
    };
    let mut peers: Vec<_> = (0..500_u16)
        .map(|n| {
            let mut client = K::numbered(&world.router, n);
            let session = world.connect(&mut client, &at(n));
            (n, client, session)
        })
        .collect();
    assert_eq!(world.sessions.len(), 500);
    for round in 0..6_u16 {
        for (n, client, session) in &mut peers {
            let path = at(*n);
            if (*n + round) % 50 == 0 {
                assert_eq!(ended(&world.run(Duration::from_secs(10))), 0);
            }
            let late = client.seal(&frame(40, 1));
            if *n % 7 == 0 {
                // The response gets lost; the client tries again.
                let initiation = client.initiate();
                assert!(matches!(world.give(&path, &initiation), Got::Reply(_, None)));
            }
            assert_eq!(world.connect(client, &path), *session);
            assert_eq!(world.give(&path, &late), Got::Frame(*session, frame(40, 1)));
            let there = client.seal(&frame(40, 2));
            assert_eq!(world.give(&path, &there), Got::Frame(*session, frame(40, 2)));
            let (to, back) = world.seal(*session, &frame(40, 3)).unwrap();
            assert_eq!(to, path);
            assert_eq!(client.hear(&back), Heard::Frame(frame(40, 3)), "deaf");
        }
    }
    assert_eq!(world.sessions.stats().keys_lost, 0);
    assert_eq!(world.sessions.stats().ended, 0);
}

fn ended(due: &[Due]) -> usize {
    due.iter().filter(|due| matches!(due, Due::Ended(..))).count()
}
