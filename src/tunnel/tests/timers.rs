//! Keepalives.

use super::world::*;
use super::*;

on_both!(
    data_is_acknowledged_after_ten_seconds,
    what_is_sent_is_acknowledgement_enough,
    keepalives_are_not_acknowledged,
    silence_is_broken_every_interval,
    idle_sessions_are_not_looked_at,
    an_ended_session_sends_nothing,
);

fn quiet<K: Kind>() -> World<K> {
    World::new(Config { keepalive: None, ..roomy() })
}

fn data_is_acknowledged_after_ten_seconds<K: Kind>() {
    let mut world = quiet::<K>();
    let mut client = world.client(1);
    world.connect(&mut client, &path(1));
    world.give(&path(1), &client.seal(&frame(40, 1)));
    world.pass(Duration::from_secs(5));
    // More data does not put it off.
    world.give(&path(1), &client.seal(&frame(40, 1)));
    assert_eq!(world.run(Duration::from_millis(4_990)), []);
    let due = world.run(Duration::from_millis(20));
    let [Due::Send(to, keepalive)] = &due[..] else { panic!("one keepalive: {due:?}") };
    assert_eq!((*to, keepalive.len()), (path(1), DATA_OVERHEAD));
    assert_eq!(client.hear(keepalive), Heard::Keepalive);
    assert_eq!(world.run(Duration::from_secs(100)), []);
    assert_eq!(world.sessions.stats().keepalives_sent, 1);
}

fn what_is_sent_is_acknowledgement_enough<K: Kind>() {
    let mut world = quiet::<K>();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    for _ in 0..5 {
        world.give(&path(1), &client.seal(&frame(40, 1)));
        assert_eq!(world.run(Duration::from_secs(9)), []);
        world.seal(session, &frame(40, 1)).unwrap();
    }
    assert_eq!(world.run(Duration::from_secs(100)), []);
}

fn keepalives_are_not_acknowledged<K: Kind>() {
    let mut world = quiet::<K>();
    let mut client = world.client(1);
    world.connect(&mut client, &path(1));
    assert_eq!(world.give(&path(1), &client.seal(&[])), Got::Nothing);
    assert_eq!(world.run(Duration::from_secs(100)), []);
    assert_eq!(world.sessions.stats().keepalives_received, 2);
}

fn silence_is_broken_every_interval<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let due = world.run(Duration::from_secs(61));
    assert_eq!(due.len(), 3, "one each 20 s: {due:?}");
    // What is sent counts as well.
    world.pass(Duration::from_secs(10));
    world.seal(session, &frame(40, 1)).unwrap();
    assert_eq!(world.run(Duration::from_secs(19)), []);
    assert_eq!(world.run(Duration::from_secs(2)).len(), 1);
}

fn idle_sessions_are_not_looked_at<K: Kind>() {
    let mut world = quiet::<K>();
    let mut clients: Vec<_> = (0..60).map(|n| world.client(n)).collect();
    for client in &mut clients {
        world.connect(client, &path(1));
    }
    // One poll finds nothing to do, and nothing wants to be looked at for minutes.
    assert_eq!(world.poll(), []);
    let mut looks = 0;
    let end = world.now.at + Duration::from_secs(179);
    while world.sessions.next_deadline() < end {
        world.pass(world.sessions.next_deadline().since(world.now.at));
        assert_eq!(world.poll(), []);
        looks += 1;
    }
    assert!(looks < 60, "{looks} looks at 60 idle sessions in three minutes");
}

fn an_ended_session_sends_nothing<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    world.give(&path(2), &client.seal(&frame(40, 1)));
    world.sessions.end(session);
    assert_eq!(world.run(Duration::from_secs(300)), []);
    assert!(world.sessions.session(session).is_none() && world.sessions.is_empty());
    assert!(!world.sessions.proved(world.now, session, 0, 0));
}
