//! A full table: who gets a place in it, and who has to go.

use std::net::SocketAddr;

use super::world::*;
use super::*;
use crate::net::Local;

on_both!(
    a_crowd_makes_room_for_other_networks,
    the_silent_ones_go_first,
    a_fair_share_is_kept,
    no_place_without_a_cookie,
    a_cookie_is_asked_for_later_too,
    moving_away_hides_nobody,
    forgeries_in_a_networks_name_do_not_lock_it_out,
);

/// Host `host` of a network that has a number of its own: the crowd's, loopback, private, global.
fn at(network: u8, host: u8) -> Path {
    let port = 40_000 + u16::from(host);
    let peer = match network % 4 {
        0 => SocketAddr::from(([10, 0, network, host], port)),
        1 => SocketAddr::from(([127, 0, network, host], port)),
        2 => SocketAddr::from(([198, 51, network, host], port)),
        _ => SocketAddr::from(([0x2001, 0xdb8, network.into(), 1, 0, 0, 0, u16::from(host)], port)),
    };
    Path { peer, local: Local::default() }
}

const CROWD: u8 = 0;

/// A table of so many places, all of them taken by clients of one network.
fn crowded<K: Kind>(places: u8) -> (World<K>, Vec<K::Client>) {
    let mut world = World::<K>::new(Config { sessions_max: places.into(), ..roomy() });
    let mut crowd: Vec<_> = (0..places).map(|n| world.client(n.into())).collect();
    for (host, client) in (0..).zip(&mut crowd) {
        world.connect(client, &at(CROWD, host));
    }
    assert_eq!(world.sessions.len(), usize::from(places));
    (world, crowd)
}

/// Asks for a place, shows the cookie that it is asked for, and gets in.
fn squeeze<K: Kind>(world: &mut World<K>, client: &mut K::Client, path: &Path) -> SessionRef {
    world.pass(Duration::from_millis(1));
    let initiation = client.initiate();
    let Got::Reply(cookie, Some(Drop::SessionsFull)) = world.give(path, &initiation) else {
        panic!("no cookie for {path:?}");
    };
    assert_eq!(client.hear(&cookie), Heard::Cookie);
    world.connect(client, path)
}

/// Asks in vain, with a cookie or without.
fn refused<K: Kind>(world: &mut World<K>, client: &mut K::Client, path: &Path) {
    let initiation = client.initiate();
    assert_eq!(world.give(path, &initiation), Got::Dropped(Drop::SessionsFull));
}

fn ended(due: Vec<Due>) -> Vec<WgKey> {
    due.into_iter()
        .map(|due| match due {
            Due::Ended(_, key) => key,
            other @ (Due::Send(..) | Due::Move(..) | Due::Refused(..) | Due::Dropped(_)) => {
                panic!("{other:?}")
            }
        })
        .collect()
}

fn a_crowd_makes_room_for_other_networks<K: Kind>() {
    let (mut world, crowd) = crowded::<K>(64);
    let mut more = world.client(64);
    refused(&mut world, &mut more, &at(CROWD, 64));
    let mut gone = Vec::new();
    let mut newcomers = Vec::new();
    for network in 1..=50 {
        let mut client = world.client(100 + u16::from(network));
        let session = squeeze(&mut world, &mut client, &at(network, 1));
        gone.extend(ended(world.poll()));
        newcomers.push((client, session));
    }
    assert_eq!((world.sessions.len(), world.sessions.stats().displaced), (64, 50));
    gone.sort_unstable_by_key(|key| key.0);
    gone.dedup();
    assert_eq!(gone.len(), 50, "each went once");
    assert!(gone.iter().all(|key| crowd.iter().any(|client| client.key() == *key)));
    for (network, (client, session)) in (1..).zip(&mut newcomers) {
        let there = client.seal(&frame(40, network));
        let got = Got::Frame(*session, frame(40, network));
        assert_eq!(world.give(&at(network, 1), &there), got);
        assert!(world.seal(*session, &frame(40, network)).is_ok());
    }
    // The crowd has the rest, and takes nothing back.
    let left = crowd.iter().filter(|client| world.sessions.by_key(&client.key()).is_some());
    assert_eq!(left.count(), 14);
    let mut more = world.client(65);
    refused(&mut world, &mut more, &at(CROWD, 65));
}

fn the_silent_ones_go_first<K: Kind>() {
    let (mut world, mut crowd) = crowded::<K>(4);
    // The last one comes anew, and does not confirm.
    let last = world.sessions.by_key(&crowd[3].key()).unwrap();
    world.sessions.end(last);
    world.shake(&mut crowd[3], &at(CROWD, 3));
    for host in [1, 0, 2] {
        world.pass(Duration::from_secs(1));
        let sign_of_life = crowd[usize::from(host)].seal(&[]);
        assert_eq!(world.give(&at(CROWD, host), &sign_of_life), Got::Nothing);
    }
    for (network, goes) in [(1, 3), (2, 1), (3, 0)] {
        let mut client = world.client(100 + u16::from(network));
        squeeze(&mut world, &mut client, &at(network, 1));
        assert_eq!(ended(world.poll()), [crowd[goes].key()]);
    }
}

fn a_fair_share_is_kept<K: Kind>() {
    let (mut world, _crowd) = crowded::<K>(8);
    for (n, network) in (100..).zip([1, 1, 2, 1, 2]) {
        let mut client = world.client(n);
        squeeze(&mut world, &mut client, &at(network, u8::try_from(n).unwrap()));
    }
    // Three, three and two: nobody has two more than another.
    for network in [CROWD, 1, 2] {
        let mut client = world.client(200 + u16::from(network));
        refused(&mut world, &mut client, &at(network, 200));
    }
    // A network that has none has a claim, to as many as it takes.
    for (n, network) in (300..).zip([3, 3, 4, 5]) {
        let mut client = world.client(n);
        squeeze(&mut world, &mut client, &at(network, u8::try_from(n - 200).unwrap()));
    }
    let mut client = world.client(400);
    refused(&mut world, &mut client, &at(3, 200));
}

/// Forged initiations from everywhere put nobody out, and neither do addresses known to be good.
fn no_place_without_a_cookie<K: Kind>() {
    let (mut world, mut crowd) = crowded::<K>(8);
    let mut visitor = world.client(100);
    let session = squeeze(&mut world, &mut visitor, &at(1, 1));
    world.sessions.end(session);
    world.connect(&mut crowd[0], &at(CROWD, 0));
    world.poll();
    let before: Vec<_> = world.sessions.live().map(|(session, _)| session).collect();
    for n in 0..40 {
        let mut forged = world.client(200 + u16::from(n));
        let from = if n == 0 { at(1, 1) } else { at(50 + n, 1) };
        let got = world.give(&from, &forged.initiate());
        assert!(matches!(got, Got::Reply(_, Some(Drop::SessionsFull))), "{got:?}");
    }
    assert_eq!(world.poll(), []);
    let after: Vec<_> = world.sessions.live().map(|(session, _)| session).collect();
    assert_eq!((after, world.sessions.stats().displaced), (before, 1));
}

fn a_cookie_is_asked_for_later_too<K: Kind>() {
    let (mut world, _crowd) = crowded::<K>(4);
    let config = Config { sessions_max: 4, handshakes_per_turn: 1, ..roomy() };
    world.sessions.configure(&config);
    let mut clients = [100, 101].map(|n| world.client(n));
    world.pass(Duration::from_millis(1));
    let first = world.give(&at(1, 1), &clients[0].initiate());
    assert!(matches!(first, Got::Reply(_, Some(Drop::SessionsFull))));
    assert_eq!(world.give(&at(2, 1), &clients[1].initiate()), Got::Nothing);
    world.pass(Duration::from_millis(1));
    let [Due::Refused(to, cookie, Drop::SessionsFull)] = &world.poll()[..] else {
        panic!("no cookie")
    };
    assert_eq!((*to, clients[1].hear(cookie)), (at(2, 1), Heard::Cookie));
    world.connect(&mut clients[1], &at(2, 1));
}

/// Data can be sent from a forged address before that is proven: it counts where it began.
fn moving_away_hides_nobody<K: Kind>() {
    let (mut world, mut crowd) = crowded::<K>(8);
    for (network, client) in (50..).zip(&mut crowd) {
        let data = client.seal(&frame(40, 1));
        assert!(matches!(world.give(&at(network, 1), &data), Got::Frame(..)));
    }
    assert_eq!(world.sessions.stats().roams, 8);
    for (n, network) in (100..).zip([50, 51, 1]) {
        let mut client = world.client(n);
        squeeze(&mut world, &mut client, &at(network, 9));
    }
    assert_eq!(world.sessions.stats().displaced, 3);
}

fn forgeries_in_a_networks_name_do_not_lock_it_out<K: Kind>() {
    let mut world = World::<K>::new(Config { sessions_max: 8, ..roomy() });
    let mut there = world.client(100);
    let session = world.connect(&mut there, &at(CROWD, 100));
    for host in 0..7 {
        // Nobody at these addresses asked, so nothing goes on.
        let mut forged = world.client(host.into());
        let _ = world.give(&at(CROWD, host), &forged.initiate());
    }
    assert_eq!(world.sessions.len(), 8);
    for host in 50..53 {
        let mut newcomer = world.client(host.into());
        squeeze(&mut world, &mut newcomer, &at(CROWD, host));
        assert_eq!(world.poll().len(), 1, "one of the forgeries ended");
    }
    assert!(world.sessions.session(session).is_some(), "who confirmed stays");
}
