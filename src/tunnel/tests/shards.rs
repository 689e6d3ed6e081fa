//! Several shards: a peer has one home, wherever its datagrams arrive.

use super::world::*;
use super::*;
use crate::ids::PeerId;
use crate::partition::Partition;

on_both!(
    a_peer_has_one_home_wherever_it_knocks,
    data_names_the_shard_of_its_session,
    two_initiations_at_once_are_one_session,
    what_was_moved_waits_for_its_turn,
    repeats_by_another_shard_cost_the_home_nothing,
);

fn partition(shards: u16) -> Partition {
    Partition::new(shards, [5, 7], &PeerId([0; 32]))
}

/// Every shard of one router.
fn shards<K: Kind>(shards: u16, config: Config) -> Vec<World<K>> {
    let partition = partition(shards);
    (0..shards).map(|shard| World::new(Config { shard, partition, ..config })).collect()
}

/// A client whose home is `home`.
fn living_in<K: Kind>(worlds: &[World<K>], home: u16) -> K::Client {
    let partition = partition(u16::try_from(worlds.len()).unwrap());
    let lives = |client: &K::Client| partition.home(&client.key()) == home;
    (1..).map(|n| worlds[0].client(n)).find(lives).unwrap()
}

fn moved(got: Got) -> Moved {
    let Got::Move(moved) = got else { panic!("not moved: {got:?}") };
    moved
}

fn a_peer_has_one_home_wherever_it_knocks<K: Kind>() {
    let mut worlds = shards::<K>(3, roomy());
    let mut client = living_in(&worlds, 2);
    for arrives in [0, 1, 2, 0] {
        worlds.iter_mut().for_each(|world| world.pass(Duration::from_millis(1)));
        let initiation = client.initiate();
        let got = worlds[arrives].give(&path(1), &initiation);
        let got = if arrives == 2 {
            got
        } else {
            let moved = moved(got);
            let expected = (2, client.key(), path(1));
            assert_eq!((moved.home, moved.key, moved.path), expected);
            worlds[2].adopt(&moved, &initiation)
        };
        let Got::Reply(response, None) = got else { panic!("no response: {got:?}") };
        let Heard::Established(first) = client.hear(&response) else { panic!("not established") };
        assert_eq!(worlds[2].give(&path(1), &first), Got::Nothing);
    }
    assert_eq!(worlds.iter().map(|world| world.sessions.len()).collect::<Vec<_>>(), [0, 0, 1]);
    let stats: Vec<_> =
        worlds.iter().map(|w| (w.sessions.stats().moved, w.sessions.stats().handshakes)).collect();
    assert_eq!(stats, [(2, 0), (1, 0), (0, 4)]);
}

fn data_names_the_shard_of_its_session<K: Kind>() {
    // Three shards take two bits of the index, which could name a fourth one.
    let mut worlds = shards::<K>(3, roomy());
    for home in 0..3 {
        let mut client = living_in(&worlds, home);
        let at = usize::from(home);
        let session = worlds[at].connect(&mut client, &path(1));
        let mut data = client.seal(&frame(40, 1));
        for other in (0..3).filter(|other| *other != at) {
            assert_eq!(worlds[other].give(&path(1), &data), Got::Elsewhere(home));
        }
        assert_eq!(worlds[at].give(&path(1), &data), Got::Frame(session, frame(40, 1)));
        // Little-endian: the index's top byte is the last one.
        data[7] = 0xc0;
        assert_eq!(worlds[at].give(&path(1), &data), Got::Dropped(Drop::NoSession));
    }
}

fn two_initiations_at_once_are_one_session<K: Kind>() {
    let mut worlds = shards::<K>(2, roomy());
    let mut client = living_in(&worlds, 0);
    // As when a NAT rebinds between two tries: each arrives at another shard.
    let first = client.initiate();
    worlds.iter_mut().for_each(|world| world.pass(Duration::from_millis(1)));
    let second = client.initiate();
    let moved = moved(worlds[1].give(&path(2), &second));
    assert!(matches!(worlds[0].adopt(&moved, &second), Got::Reply(_, None)));
    // The older one comes later, by the home itself: its timestamp is behind.
    assert_eq!(worlds[0].give(&path(1), &first), Got::Dropped(Drop::BadInitiation));
    assert_eq!((worlds[0].sessions.len(), worlds[1].sessions.len()), (1, 0));
}

fn what_was_moved_waits_for_its_turn<K: Kind>() {
    let mut worlds = shards::<K>(2, Config { handshakes_per_turn: 1, ..roomy() });
    let mut client = living_in(&worlds, 1);
    let mut others: Vec<_> = (100..102).map(|n| worlds[0].client(n)).collect();
    // Both shards have done their handshake of this turn.
    let busy = others[0].initiate();
    let _ = worlds[0].give(&path(8), &busy);
    let _ = worlds[1].give(&path(9), &others[1].initiate());
    let initiation = client.initiate();
    assert_eq!(worlds[0].give(&path(1), &initiation), Got::Nothing);
    worlds[0].pass(Duration::from_millis(1));
    let due = worlds[0].poll();
    let [Due::Move(moved, bytes)] = &due[..] else { panic!("nothing moves: {due:?}") };
    assert_eq!((moved.home, moved.key, &bytes[..]), (1, client.key(), &initiation[..]));
    assert_eq!(worlds[1].adopt(moved, &initiation), Got::Nothing);
    worlds[1].pass(Duration::from_millis(1));
    let due = worlds[1].poll();
    let [Due::Send(to, response)] = &due[..] else { panic!("no response: {due:?}") };
    assert_eq!(*to, path(1));
    assert!(matches!(client.hear(response), Heard::Established(_)));
}

fn repeats_by_another_shard_cost_the_home_nothing<K: Kind>() {
    let mut worlds = shards::<K>(3, roomy());
    let mut client = living_in(&worlds, 0);
    let initiation = client.initiate();
    let once = moved(worlds[1].give(&path(1), &initiation));
    assert!(matches!(worlds[0].adopt(&once, &initiation), Got::Reply(_, None)));
    let before = worlds[0].sessions.engine().curve_operations();
    // Each shard knows only what it saw itself: the third one opens it, once.
    let again = moved(worlds[2].give(&path(1), &initiation));
    let repeated = Got::Dropped(Drop::ReplayedInitiation);
    assert_eq!(worlds[0].adopt(&again, &initiation), repeated);
    assert_eq!(worlds[0].give(&path(1), &initiation), repeated);
    assert_eq!(worlds[2].give(&path(1), &initiation), repeated);
    assert_eq!(worlds[0].sessions.engine().curve_operations(), before);
}
