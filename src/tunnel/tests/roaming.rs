//! Endpoints that move, and what proves them.

use super::world::*;
use super::*;
use crate::wire::{self, body::Ping};

on_both!(
    a_new_address_is_challenged_and_proves_itself,
    an_unproven_address_gets_what_it_gave,
    challenges_are_a_second_apart_and_end,
    coming_back_needs_no_proof_for_a_while,
    a_handshake_proves_its_address,
    a_response_used_from_elsewhere_proves_only_where_it_went,
    keys_agreed_elsewhere_cast_doubt_on_where_their_data_comes_from,
    reordered_data_does_not_move_the_endpoint,
    a_replay_does_not_move_the_endpoint,
    another_local_address_is_no_roam,
);

/// The token of a challenge that the client has heard.
fn token<C: Client>(client: &mut C, sealed: &[u8]) -> u64 {
    let Heard::Frame(frame) = client.hear(sealed) else { panic!("no frame") };
    let frame = wire::open(&frame).unwrap();
    assert_eq!(frame[1], wire::Kind::Ping.id());
    Ping::read(&frame[12..]).unwrap().token
}

/// The correlation that a challenge with this token goes by.
fn low(token: u64) -> u32 {
    u32::try_from(token & 0xffff_ffff).unwrap()
}

fn challenges(due: &[Due]) -> Vec<(&Path, &[u8])> {
    let sent = |due: &Due| matches!(due, Due::Send(_, bytes) if bytes.len() > DATA_OVERHEAD);
    due.iter()
        .filter(|due| sent(due))
        .map(|due| match due {
            Due::Send(path, bytes) => (path, bytes.as_slice()),
            Due::Ended(..) | Due::Move(..) | Due::Dropped(_) | Due::Refused(..) => {
                unreachable!("filtered")
            }
        })
        .collect()
}

fn a_new_address_is_challenged_and_proves_itself<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let moved = client.seal(&frame(40, 1));
    assert_eq!(world.give(&path(2), &moved), Got::Frame(session, frame(40, 1)));
    assert_eq!(*world.sessions.session(session).unwrap().path(), path(2));
    assert!(!world.sessions.session(session).unwrap().proven());
    assert!(world.sessions.next_deadline() <= world.now.at + Duration::from_millis(5));
    let due = world.run(Duration::from_millis(5));
    let [(to, ping)] = challenges(&due)[..] else { panic!("one challenge: {due:?}") };
    assert_eq!(*to, path(2));
    let token = token(&mut client, ping);
    for wrong in [0, 1, token ^ 1, !token] {
        assert!(!world.sessions.proved(world.now, session, low(wrong), wrong));
    }
    let stale = SessionRef { generation: session.generation + 1, ..session };
    assert!(!world.sessions.proved(world.now, stale, low(token), token));
    assert!(!world.sessions.proved(world.now, session, low(token) ^ 1, token), "of another PING");
    assert!(world.sessions.proved(world.now, session, low(token), token));
    assert!(world.sessions.session(session).unwrap().proven());
    assert!(!world.sessions.proved(world.now, session, low(token), token), "once");
    assert_eq!(challenges(&world.run(Duration::from_secs(5))), []);
    let stats = world.sessions.stats();
    assert_eq!((stats.roams, stats.challenges, stats.proved), (1, 1, 1));
}

fn an_unproven_address_gets_what_it_gave<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let moved = client.seal(&frame(68, 1));
    world.give(&path(2), &moved);
    // 100 bytes came: 60 go, 41 do not, 40 do.
    assert!(world.seal(session, &frame(28, 0)).is_ok());
    assert_eq!(world.seal(session, &[0x40; 9]), Err(Drop::Unproven));
    assert!(world.seal(session, &[0x40; 8]).is_ok());
    assert_eq!(world.seal(session, &[]), Err(Drop::Unproven));
    // Relayed data is charged and credited to the same account.
    let account = world.sessions.session_mut(session).unwrap();
    assert_eq!(account.charge(1), Err(Drop::Unproven));
    account.credit(50);
    assert_eq!(account.charge(51), Err(Drop::Unproven));
    assert_eq!(account.charge(50), Ok(()));
    // What comes from elsewhere without moving the endpoint is no credit.
    let more = client.seal(&frame(68, 1));
    let most = client.seal(&frame(68, 1));
    world.give(&path(2), &most);
    world.give(&path(3), &more);
    let account = world.sessions.session_mut(session).unwrap();
    assert_eq!(account.charge(101), Err(Drop::Unproven));
    assert_eq!(account.charge(100), Ok(()));
}

fn challenges_are_a_second_apart_and_end<K: Kind>() {
    let config = Config { keepalive: None, ..roomy() };
    let mut world = World::<K>::new(config);
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    world.give(&path(2), &client.seal(&frame(40, 1)));
    assert_eq!(challenges(&world.run(Duration::from_millis(900))).len(), 1);
    assert_eq!(challenges(&world.run(Duration::from_secs(1))).len(), 1);
    assert_eq!(challenges(&world.run(Duration::from_secs(100))).len(), 1, "three unasked");
    // As long as something comes from there, one a second.
    let mut sent = 0;
    for _ in 0..50 {
        world.give(&path(2), &client.seal(&frame(20, 1)));
        sent += challenges(&world.run(Duration::from_millis(100))).len();
    }
    assert!((4..=6).contains(&sent), "{sent} in five seconds");
    assert!(!world.sessions.session(session).unwrap().proven());
}

fn coming_back_needs_no_proof_for_a_while<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let proven = |world: &World<K>| world.sessions.session(session).unwrap().proven();
    for _ in 0..3 {
        world.give(&path(2), &client.seal(&frame(40, 1)));
        assert!(!proven(&world));
        world.pass(Duration::from_secs(1));
        world.give(&path(1), &client.seal(&frame(40, 1)));
        assert!(proven(&world), "it was left a second ago");
    }
    world.give(&path(2), &client.seal(&frame(40, 1)));
    for _ in 0..2 {
        world.run(Duration::from_secs(90));
        // From somewhere else, so that nothing but time happens to either address.
        world.connect(&mut client, &path(3));
    }
    world.give(&path(1), &client.seal(&frame(40, 1)));
    assert!(!proven(&world), "it was left 180 s ago");
}

fn a_handshake_proves_its_address<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    world.give(&path(2), &client.seal(&frame(40, 1)));
    let first = world.shake(&mut client, &path(3));
    assert_eq!(*world.sessions.session(session).unwrap().path(), path(2), "only data moves it");
    assert_eq!(world.give(&path(3), &first), Got::Nothing);
    let now = world.sessions.session(session).unwrap();
    assert_eq!((*now.path(), now.proven()), (path(3), true));
    assert_eq!(challenges(&world.run(Duration::from_millis(5))), []);
}

fn a_response_used_from_elsewhere_proves_only_where_it_went<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let first = world.shake(&mut client, &path(1));
    world.give(&path(2), &first);
    let session = world.sessions.by_key(&client.key()).unwrap();
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(2), false));
    assert_eq!(world.seal(session, &frame(40, 0)), Err(Drop::Unproven));
    world.give(&path(1), &client.seal(&frame(40, 1)));
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(1), true));
}

/// Who was at an address once, and is not any more, can still send from there.
fn keys_agreed_elsewhere_cast_doubt_on_where_their_data_comes_from<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let first = world.shake(&mut client, &path(3));
    world.give(&path(1), &first);
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(1), false));
    assert_eq!(challenges(&world.run(Duration::from_millis(900))).len(), 1);
    // Nothing but data: where the keys were agreed.
    world.give(&path(3), &client.seal(&frame(40, 1)));
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(3), true));
}

fn reordered_data_does_not_move_the_endpoint<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let late = client.seal(&frame(40, 1));
    let next = client.seal(&frame(40, 2));
    assert_eq!(world.give(&path(2), &next), Got::Frame(session, frame(40, 2)));
    assert_eq!(world.give(&path(1), &late), Got::Frame(session, frame(40, 1)));
    assert_eq!(*world.sessions.session(session).unwrap().path(), path(2));
}

fn a_replay_does_not_move_the_endpoint<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let data = client.seal(&frame(40, 1));
    world.give(&path(1), &data);
    assert_eq!(world.give(&path(2), &data), Got::Dropped(Drop::Replayed));
    let mut forged = client.seal(&frame(40, 1));
    forged[20] ^= 1;
    assert_eq!(world.give(&path(2), &forged), Got::Dropped(Drop::BadTag));
    let mut counter = data.clone();
    counter[8..16].copy_from_slice(&(1_u64 << 63).to_le_bytes());
    assert_eq!(world.give(&path(2), &counter), Got::Dropped(Drop::BadCounter));
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(1), true));
}

fn another_local_address_is_no_roam<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let session = world.connect(&mut client, &path(1));
    let mut here = path(1);
    here.local.ifindex = 7;
    world.give(&here, &client.seal(&frame(40, 1)));
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (here, true));
    assert_eq!(world.sessions.stats().roams, 0);
}
