//! What strangers get, and what they cost.

use super::world::*;
use super::*;

on_both!(
    a_bad_mac1_costs_no_curve_work_and_gets_nothing,
    a_repeated_initiation_costs_no_curve_work,
    under_load_a_stock_client_gets_in_by_cookie,
    a_cookie_is_good_at_its_address_only,
    known_addresses_are_spared_under_load,
    handshakes_wait_for_the_next_turn,
    a_full_queue_asks_strangers_for_the_cookie,
    a_full_table_refuses_strangers,
    a_dead_session_makes_room,
    unconfirmed_handshakes_do_not_evict,
    old_initiations_do_not_harm_the_session,
    a_stolen_initiation_is_answered_once,
);

fn a_bad_mac1_costs_no_curve_work_and_gets_nothing<K: Kind>() {
    let mut world = World::<K>::new(Config::default());
    let mut client = world.client(1);
    let good = client.initiate();
    for byte in (0..132).filter(|byte| !(0..4).contains(byte)) {
        let mut bad = good;
        bad[byte] ^= 0x10;
        world.pass(Duration::from_millis(1));
        assert_eq!(world.give(&path(1), &bad), Got::Dropped(Drop::BadMac1), "byte {byte}");
    }
    assert_eq!(world.sessions.engine().curve_operations(), 0);
    assert!(matches!(world.give(&path(1), &good), Got::Reply(_, None)));
    assert!(world.sessions.engine().curve_operations() > 0, "the counter counts");
}

fn a_repeated_initiation_costs_no_curve_work<K: Kind>() {
    let mut world = World::<K>::new(Config::default());
    let mut client = world.client(1);
    let initiation = client.initiate();
    assert!(matches!(world.give(&path(1), &initiation), Got::Reply(_, None)));
    let spent = world.sessions.engine().curve_operations();
    for n in 0..200 {
        world.pass(Duration::from_millis(300));
        let drop = Got::Dropped(Drop::ReplayedInitiation);
        assert_eq!(world.give(&path(n), &initiation), drop);
    }
    assert_eq!(world.sessions.engine().curve_operations(), spent);
    assert_eq!(world.sessions.stats().cookies, 0, "and no cookies for others");
}

/// Every stranger is asked for a cookie.
fn besieged<K: Kind>() -> World<K> {
    let admission = admission::Config { cookie_threshold_pps: 0, ..roomy().admission };
    World::new(Config { admission, ..roomy() })
}

/// Asks, is told to come back with a cookie, and hears it.
fn refused<K: Kind>(world: &mut World<K>, client: &mut K::Client, at: &Path) {
    let initiation = client.initiate();
    let Got::Reply(reply, Some(Drop::NoCookie)) = world.give(at, &initiation) else {
        panic!("no cookie reply");
    };
    assert_eq!(reply.len(), 64);
    assert_eq!(client.hear(&reply), Heard::Cookie);
}

fn under_load_a_stock_client_gets_in_by_cookie<K: Kind>() {
    let mut world = besieged::<K>();
    let mut client = world.client(1);
    refused(&mut world, &mut client, &path(1));
    assert_eq!(world.sessions.engine().curve_operations(), 0);
    // The cookie lasts its epoch and the next one.
    world.pass(Duration::from_secs(60));
    let session = world.connect(&mut client, &path(1));
    let there = client.seal(&frame(40, 1));
    assert_eq!(world.give(&path(1), &there), Got::Frame(session, frame(40, 1)));
    assert_eq!((world.sessions.stats().cookies, world.sessions.len()), (1, 1));
}

fn a_cookie_is_good_at_its_address_only<K: Kind>() {
    let mut world = besieged::<K>();
    let mut client = world.client(1);
    refused(&mut world, &mut client, &path(1));
    let mut other_port = path(1);
    other_port.peer.set_port(1);
    for elsewhere in [path(2), other_port] {
        let initiation = client.initiate();
        let Got::Reply(_, drop) = world.give(&elsewhere, &initiation) else { panic!("no reply") };
        assert_eq!(drop, Some(Drop::NoCookie));
    }
    world.pass(Duration::from_secs(120));
    let initiation = client.initiate();
    let Got::Reply(_, drop) = world.give(&path(1), &initiation) else { panic!("no reply") };
    assert_eq!(drop, Some(Drop::NoCookie), "two epochs later");
    assert_eq!(world.sessions.engine().curve_operations(), 0);
}

fn known_addresses_are_spared_under_load<K: Kind>() {
    let mut world = besieged::<K>();
    let mut client = world.client(1);
    refused(&mut world, &mut client, &path(1));
    world.connect(&mut client, &path(1));
    // A client that lost everything but its address.
    let mut restarted = world.client(2);
    for _ in 0..3 {
        world.run(Duration::from_secs(50));
        world.connect(&mut restarted, &path(1));
    }
    // Known by a session's proof, forgotten four minutes after the last.
    world.run(Duration::from_secs(241));
    let mut late = world.client(3);
    refused(&mut world, &mut late, &path(1));
}

fn handshakes_wait_for_the_next_turn<K: Kind>() {
    let mut world = World::<K>::new(Config { handshakes_per_turn: 2, ..roomy() });
    let mut clients: Vec<_> = (0..5).map(|n| world.client(n)).collect();
    let answers: Vec<_> = (0..)
        .zip(&mut clients)
        .map(|(n, client)| world.give(&path(n), &client.initiate()))
        .collect();
    let direct = answers.iter().filter(|got| matches!(got, Got::Reply(_, None))).count();
    assert_eq!(direct, 2);
    assert!(answers[2..].iter().all(|got| *got == Got::Nothing));
    assert_eq!(world.poll(), [], "the turn has spent its budget");
    assert!(world.sessions.next_deadline() <= world.now.at, "but more is to do");
    world.pass(Duration::from_micros(100));
    let mut later = world.poll();
    assert_eq!(later.len(), 2);
    world.pass(Duration::from_micros(100));
    later.extend(world.poll());
    assert_eq!(later.len(), 3);
    for (n, due) in (2..).zip(later) {
        let Due::Send(to, response) = due else { panic!("{due:?}") };
        assert_eq!(to, path(n));
        let heard = clients[usize::from(n)].hear(&response);
        let Heard::Established(first) = heard else { panic!("{heard:?}") };
        assert_eq!(world.give(&to, &first), Got::Nothing);
    }
    assert!(world.sessions.next_deadline() > world.now.at);
}

fn a_full_queue_asks_strangers_for_the_cookie<K: Kind>() {
    let mut world =
        World::<K>::new(Config { handshakes_per_turn: 1, handshake_queue: 2, ..roomy() });
    let mut clients: Vec<_> = (0..4).map(|n| world.client(n)).collect();
    let mut got: Vec<_> = (0..)
        .zip(&mut clients)
        .map(|(n, client)| world.give(&path(n), &client.initiate()))
        .collect();
    let Some(Got::Reply(cookie, Some(Drop::HandshakeBudget))) = got.pop() else {
        panic!("no cookie: {got:?}");
    };
    assert_eq!(clients[3].hear(&cookie), Heard::Cookie);
    // With the cookie it waits in the lane that is served first.
    assert_eq!(world.give(&path(3), &clients[3].initiate()), Got::Nothing);
    world.pass(Duration::from_micros(100));
    let [Due::Send(to, _)] = world.poll()[..] else { panic!("one response a turn") };
    assert_eq!(to, path(3));
    // That lane has an end too.
    let full: Vec<_> = (0..3).map(|_| world.give(&path(3), &clients[3].initiate())).collect();
    assert_eq!(full, [Got::Nothing, Got::Nothing, Got::Dropped(Drop::HandshakeBudget)]);
}

fn a_full_table_refuses_strangers<K: Kind>() {
    let mut world = World::<K>::new(Config { sessions_max: 2, ..roomy() });
    let mut clients: Vec<_> = (0..3).map(|n| world.client(n)).collect();
    let first = world.connect(&mut clients[0], &path(0));
    world.connect(&mut clients[1], &path(1));
    let third = clients[2].initiate();
    assert_eq!(world.give(&path(2), &third), Got::Dropped(Drop::SessionsFull));
    assert_eq!(world.connect(&mut clients[0], &path(0)), first, "rekeying needs no slot");
    world.sessions.end(first);
    let third = world.connect(&mut clients[2], &path(2));
    assert_eq!((third.slot, third.generation), (first.slot, first.generation + 1));
    assert_eq!(world.seal(first, &frame(40, 0)), Err(Drop::SessionGone));
}

fn a_dead_session_makes_room<K: Kind>() {
    let mut world = World::<K>::new(Config { sessions_max: 2, ..roomy() });
    let mut clients: Vec<_> = (0..4).map(|n| world.client(n)).collect();
    let first = world.connect(&mut clients[0], &path(0));
    world.run(Duration::from_secs(60));
    world.connect(&mut clients[1], &path(1));
    world.run(Duration::from_secs(121));
    // The first one's keys are over; it keeps its slot until somebody needs it.
    assert_eq!(world.sessions.len(), 2);
    let third = world.connect(&mut clients[2], &path(2));
    assert_eq!(third.slot, first.slot);
    assert_eq!(world.poll(), [Due::Ended(first, clients[0].key())]);
    let fourth = clients[3].initiate();
    assert_eq!(world.give(&path(3), &fourth), Got::Dropped(Drop::SessionsFull));
}

fn unconfirmed_handshakes_do_not_evict<K: Kind>() {
    let mut world = World::<K>::new(Config { sessions_max: 8, ..roomy() });
    let mut client = world.client(100);
    let session = world.connect(&mut client, &path(100));
    let mut flood: Vec<_> = (0..20).map(|n| world.client(n)).collect();
    let mut refused = 0;
    for (n, stranger) in (0..).zip(&mut flood) {
        let got = world.give(&path(n), &stranger.initiate());
        // Who shows that it receives at its address could have the place of one of the flood.
        let asked = matches!(got, Got::Reply(_, Some(Drop::SessionsFull)));
        let full = asked || got == Got::Dropped(Drop::SessionsFull);
        assert!(full || matches!(got, Got::Reply(_, None)));
        refused += u32::from(full);
    }
    assert_eq!(refused, 20 - 7);
    let there = client.seal(&frame(40, 1));
    assert_eq!(world.give(&path(100), &there), Got::Frame(session, frame(40, 1)));
    world.run(Duration::from_secs(11));
    assert_eq!(world.sessions.len(), 1, "who does not confirm is gone");
    let mut newcomer = world.client(50);
    world.connect(&mut newcomer, &path(50));
    assert!(world.seal(session, &frame(40, 1)).is_ok());
}

/// Recorded initiations that the memory of repeats has forgotten: they cost a little, and change nothing.
fn old_initiations_do_not_harm_the_session<K: Kind>() {
    let admission = admission::Config { table_entries: 4, ..roomy().admission };
    let mut world = World::<K>::new(Config { admission, ..roomy() });
    let mut client = world.client(1);
    let recorded = client.initiate();
    assert!(matches!(world.give(&path(1), &recorded), Got::Reply(_, None)));
    let session = world.connect(&mut client, &path(1));
    let replay = |world: &mut World<K>| {
        for n in 2..12 {
            let mut other = world.client(n);
            world.give(&path(9), &other.initiate());
        }
        let (_, before) = world.seal(session, &frame(40, 1)).unwrap();
        assert_eq!(world.give(&path(66), &recorded), Got::Dropped(Drop::BadInitiation));
        let (to, after) = world.seal(session, &frame(40, 1)).unwrap();
        assert_eq!((to, &after[4..8]), (path(1), &before[4..8]));
    };
    for round in 0..4 {
        replay(&mut world);
        let there = client.seal(&frame(40, round));
        assert_eq!(world.give(&path(1), &there), Got::Frame(session, frame(40, round)));
        world.run(Duration::from_secs(20));
        replay(&mut world);
        // A rekey soon after a replay is answered at once.
        assert_eq!(world.connect(&mut client, &path(1)), session);
        // One long after it, at the second try at the latest.
        replay(&mut world);
        world.run(Duration::from_secs(100));
        let initiation = client.initiate();
        let answered = world.give(&path(1), &initiation);
        assert!(matches!(answered, Got::Reply(_, None) | Got::Dropped(Drop::BadInitiation)));
        world.run(Duration::from_secs(5));
        assert_eq!(world.connect(&mut client, &path(1)), session);
    }
    assert_eq!(world.sessions.stats().keys_lost, 0);
}

/// Somebody on the way sends the initiation first, from elsewhere: one response goes there, smaller
/// than what came, and the session goes on with the peer's next try.
fn a_stolen_initiation_is_answered_once<K: Kind>() {
    let mut world = World::<K>::roomy();
    let mut client = world.client(1);
    let initiation = client.initiate();
    let Got::Reply(response, None) = world.give(&path(66), &initiation) else { panic!("no reply") };
    assert!(response.len() <= initiation.len());
    assert_eq!(world.give(&path(1), &initiation), Got::Dropped(Drop::ReplayedInitiation));
    let session = world.connect(&mut client, &path(1));
    let tenant = world.sessions.session(session).unwrap();
    assert_eq!((*tenant.path(), tenant.proven()), (path(1), true));
}
