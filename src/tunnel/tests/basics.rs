//! Handshake, confirmation, data, end.

use super::world::*;
use super::*;

on_both!(
    data_flows_both_ways_after_confirmation,
    nothing_is_sent_before_the_first_data,
    shapes_that_are_not_wireguard_are_dropped,
    expiry_frees_the_slot,
    a_session_without_data_ends_soon,
);

fn data_flows_both_ways_after_confirmation<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    assert!(world.sessions.session(session).unwrap().proven());
    for len in [20, 64, 1200] {
        let there = client.seal(&frame(len, 1));
        assert_eq!(there.len(), usize::from(len) + DATA_OVERHEAD);
        assert_eq!(world.give(&path(1), &there), Got::Frame(session, frame(len, 1)));
        assert_eq!(world.give(&path(1), &there), Got::Dropped(Drop::Replayed));
        let (to, back) = world.seal(session, &frame(len, 2)).unwrap();
        assert_eq!(to, path(1));
        assert_eq!(client.hear(&back), Heard::Frame(frame(len, 2)));
    }
    assert_eq!(world.sessions.len(), 1);
}

fn nothing_is_sent_before_the_first_data<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let first = world.shake(&mut client, &path(1));
    let session = world.sessions.by_key(&client.key()).unwrap();
    assert_eq!(world.seal(session, &frame(40, 0)), Err(Drop::Unconfirmed));
    assert_eq!(world.run(Duration::from_secs(9)), []);
    assert_eq!(world.give(&path(1), &first), Got::Nothing);
    assert!(world.seal(session, &frame(40, 0)).is_ok());
}

fn shapes_that_are_not_wireguard_are_dropped<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    world.connect(&mut client, &path(1));
    let initiation = client.initiate();
    let data = client.seal(&frame(40, 0));
    let response = [2; RESPONSE_BYTES];
    for (datagram, drop) in [
        (&[][..], Drop::Empty),
        (&[1], Drop::UnknownType),
        (&[4, 0, 0], Drop::UnknownType),
        (&[4, 0, 0, 1, 0, 0, 0, 0], Drop::UnknownType),
        (&[5; 64], Drop::UnknownType),
        (&initiation[..147], Drop::BadLength),
        (&[&initiation[..], &[0]].concat(), Drop::BadLength),
        (&data[..31], Drop::BadLength),
        (&data[..8], Drop::BadLength),
        (&response, Drop::HandshakeResponse),
        (&[2], Drop::HandshakeResponse),
        (&[3; 64], Drop::CookieReply),
    ] {
        assert_eq!(world.give(&path(1), datagram), Got::Dropped(drop), "{datagram:?}");
    }
}

fn expiry_frees_the_slot<K: Kind>() {
    let config = Config { keepalive: None, ..roomy() };
    let mut world = World::<K>::new(config);
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    assert_eq!(world.run(Duration::from_secs(179)), []);
    assert!(world.seal(session, &frame(40, 0)).is_ok());
    let late = client.seal(&frame(40, 0));
    world.run(Duration::from_secs(1));
    assert_eq!(world.seal(session, &frame(40, 0)), Err(Drop::ExpiredKeys));
    assert_eq!(world.give(&path(1), &late), Got::Dropped(Drop::ExpiredKeys));
    assert_eq!(world.sessions.len(), 1, "its slot waits for it to come back");
    assert_eq!(world.run(Duration::from_secs(31)), [Due::Ended(session, client.key())]);
    assert_eq!(world.sessions.len(), 0);
    assert_eq!(world.seal(session, &frame(40, 0)), Err(Drop::SessionGone));
    assert_eq!(world.give(&path(1), &late), Got::Dropped(Drop::NoSession));
    assert_eq!(world.sessions.next_deadline(), Moment::NEVER);
    let again = world.connect(&mut client, &path(1));
    assert_eq!((again.slot, again.generation), (session.slot, session.generation + 1));
}

fn a_session_without_data_ends_soon<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    world.shake(&mut client, &path(1));
    let session = world.sessions.by_key(&client.key()).unwrap();
    assert_eq!(world.run(Duration::from_secs(9)), []);
    assert_eq!(world.run(Duration::from_secs(2)), [Due::Ended(session, client.key())]);
    assert_eq!(world.sessions.len(), 0);
}
