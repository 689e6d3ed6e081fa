//! Channels and members: who gets them, where data goes, when they end.

use super::*;

fn allocate(relay: &mut Relay, now: Moment, a: &Member, b: &Member, entropy: u64) -> Allocated {
    relay.allocate(now, a, b, 0, entropy).unwrap()
}

fn sent(relay: &mut Relay, now: Moment, from: &Path, channel: Channel) -> Result<Route, Drop> {
    relay.route(now, from, channel, 100, 1)
}

#[test]
fn memory_is_counted_and_small() {
    let config = Config { channels_max: 100_000, ..Config::default() };
    let [members, _] = Members::bytes(&config);
    let per_channel = (Relay::channel_bytes(&config) + members) / config.channels_max;
    assert!(per_channel <= 256, "{per_channel} bytes: channel, timer, two members");
    assert_eq!(size_of::<channels::Channel>(), 64);
    assert_eq!(size_of::<members::Hot>(), 32);
    let per_channel = Relay::bytes(&config) / config.channels_max;
    assert!(per_channel <= 320, "{per_channel} bytes with the networks and what waits");
}

#[test]
fn a_hundred_thousand_channels_have_ids_of_their_own() {
    let config = Config { channels_max: 100_000, shard: 5, shard_bits: 3, ..config() };
    let mut relay = relay(config);
    let mut ids = std::collections::HashSet::new();
    for n in 0..100_000_u32 {
        let place = member(u16::try_from(n % 65_536).unwrap());
        let [a, b] = [2 * n, 2 * n + 1].map(|n| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            Member { peer: PeerId(id), ..place }
        });
        let made = allocate(&mut relay, at(0), &a, &b, u64::from(n));
        for leg in [made.requester, made.target] {
            assert_eq!(leg.channel.id >> 29, 5, "the shard is on top");
            assert!(ids.insert(leg.channel.id));
        }
    }
    assert_eq!((relay.stats().channels, ids.len()), (100_000, 200_000));
}

#[test]
fn data_goes_to_the_other_leg_and_only_from_ones_own_address() {
    let mut relay = relay(config());
    let (a, b) = (member(1), member(2));
    let made = allocate(&mut relay, at(0), &a, &b, 77);
    assert!(made.new);
    let [to_b, to_a] = [made.requester.channel, made.target.channel];
    let route = sent(&mut relay, at(1), &a.path, to_b).unwrap();
    assert_eq!((route.to, route.channel, route.verdict), (b.path, to_a, Verdict::Send));
    let route = sent(&mut relay, at(1), &b.path, to_a).unwrap();
    assert_eq!((route.to, route.channel), (a.path, to_b));
    assert_eq!(sent(&mut relay, at(1), &b.path, to_b), Err(Drop::RelaySource));
    let elsewhere = Path { local: Local::default(), ..a.path };
    assert!(sent(&mut relay, at(1), &elsewhere, to_b).is_ok(), "only the peer's end is compared");
    let old = Channel { generation: to_b.generation.wrapping_sub(1), ..to_b };
    assert_eq!(sent(&mut relay, at(1), &a.path, old), Err(Drop::RelayChannel));
    let other = Channel { id: to_b.id ^ 1, ..to_b };
    assert_eq!(sent(&mut relay, at(1), &a.path, other), Err(Drop::RelayChannel));
    let stats = relay.stats();
    assert_eq!((stats.forwarded_datagrams, stats.forwarded_bytes), (3, 300));
    assert_eq!((stats.dropped_channel, stats.dropped_source), (2, 1));
}

#[test]
fn a_pair_has_one_channel_and_asking_again_refreshes_it() {
    let mut relay = relay(Config { lifetime: 100 * SECOND, idle: 1000 * SECOND, ..config() });
    let (a, b) = (member(1), member(2));
    let made = allocate(&mut relay, at(0), &a, &b, 1);
    assert!(relay.asked(&a.peer, &b.peer) && !relay.asked(&b.peer, &a.peer));
    let again = allocate(&mut relay, at(60_000), &b, &a, 2);
    assert!(!again.new && relay.asked(&b.peer, &a.peer));
    assert_eq!((again.requester, again.target), (made.target, made.requester));
    assert_eq!(relay.stats().channels, 1);
    assert!(events(&mut relay, at(159_000)).is_empty());
    let [Event::Closed(closed)] = events(&mut relay, at(161_000))[..] else { panic!("over") };
    assert_eq!(closed.reason, CloseReason::Lifetime);
    assert_eq!(closed.legs[0], ClosedLeg { home: a.home, channel: made.requester.channel });
    assert_eq!(closed.legs[1], ClosedLeg { home: b.home, channel: made.target.channel });
    assert_eq!(
        sent(&mut relay, at(161_000), &a.path, made.requester.channel),
        Err(Drop::RelayChannel)
    );
}

#[test]
fn an_idle_channel_ends_and_data_keeps_it() {
    let mut relay = relay(config());
    let (a, b) = (member(1), member(2));
    let made = allocate(&mut relay, at(0), &a, &b, 1);
    for minute in 1..20 {
        let now = at(minute * 60_000);
        assert!(sent(&mut relay, now, &a.path, made.requester.channel).is_ok());
        assert!(events(&mut relay, now).is_empty());
    }
    let deadline = at(19 * 60_000) + 300 * SECOND;
    assert!(events(&mut relay, deadline).is_empty());
    assert!(relay.next_deadline() <= deadline + 100 * MS);
    let [Event::Closed(closed)] = events(&mut relay, deadline + 100 * MS)[..] else { panic!() };
    assert_eq!(closed.reason, CloseReason::Idle);
    assert_eq!(relay.next_deadline(), Moment::NEVER);
    assert_eq!((relay.stats().channels, relay.stats().members), (0, 0));
}

#[test]
fn who_has_a_leg_may_close_it() {
    let mut relay = relay(config());
    let (a, b) = (member(1), member(2));
    let made = allocate(&mut relay, at(0), &a, &b, 1);
    let id = made.target.channel.id;
    assert_eq!(relay.close(id, &a.peer), None, "that is the other one's name for it");
    assert_eq!(relay.close(id, &peer(3)), None);
    let closed = relay.close(id, &b.peer).unwrap();
    assert_eq!((closed.legs[0].home, closed.reason), (b.home, CloseReason::Leg));
    assert_eq!(relay.close(id, &b.peer), None);
    assert!(events(&mut relay, at(1_000_000)).is_empty());
}

#[test]
fn the_end_of_an_identity_ends_its_channels_but_not_for_a_session_left_behind() {
    let mut relay = relay(config());
    let (a, b, c) = (member(1), member(2), member(3));
    let first = allocate(&mut relay, at(0), &a, &b, 1);
    let second = allocate(&mut relay, at(0), &c, &a, 2);
    let newer = Member { home: home(9), ..a };
    assert!(relay.moved(&newer));
    relay.left(&a.peer, a.home);
    assert!(sent(&mut relay, at(1), &a.path, first.requester.channel).is_ok());
    relay.left(&a.peer, newer.home);
    assert_eq!(relay.next_deadline(), Moment::START, "others are to be told");
    for (path, channel) in [(a.path, first.requester.channel), (c.path, second.requester.channel)] {
        assert_eq!(sent(&mut relay, at(1), &path, channel), Err(Drop::RelayChannel));
    }
    // It may come back before anybody was told.
    let back = allocate(&mut relay, at(1), &a, &b, 3);
    assert!(back.new);
    let closed = events(&mut relay, at(1));
    let reason = |event: &Event| match event {
        Event::Closed(closed) => closed.reason,
        Event::Status(_) => panic!("nobody was throttled"),
    };
    assert_eq!(closed.iter().map(reason).collect::<Vec<_>>(), [CloseReason::Identity; 2]);
    assert!(sent(&mut relay, at(1), &a.path, back.requester.channel).is_ok());
    assert_eq!((relay.stats().channels, relay.stats().members), (1, 2));
}

#[test]
fn what_is_full_refuses() {
    let mut relay = relay(Config { channels_max: 3, channels_per_peer: 2, ..config() });
    let refused = |relay: &mut Relay, a: u16, b: u16| {
        relay.allocate(at(0), &member(a), &member(b), 0, 5).err()
    };
    assert_eq!(refused(&mut relay, 1, 1), Some(Refused::SamePeer));
    assert_eq!(refused(&mut relay, 1, 2), None);
    assert_eq!(refused(&mut relay, 1, 3), None);
    assert_eq!(refused(&mut relay, 1, 4), Some(Refused::PeerFull));
    assert_eq!(refused(&mut relay, 4, 1), Some(Refused::PeerFull));
    assert_eq!(refused(&mut relay, 3, 4), None);
    assert_eq!(refused(&mut relay, 5, 6), Some(Refused::ChannelsFull));
    assert_eq!(refused(&mut relay, 2, 1), None, "that one is there");
    assert_eq!((relay.stats().channels, relay.stats().members), (3, 4));
}

/// Eight peers for each channel: names are free. Other networks find a place while they do.
#[test]
fn one_network_does_not_take_all_channels() {
    let mut relay = relay(Config { channels_max: 64, channels_per_peer: 1, ..config() });
    let network = member(7).network;
    let crowd = |n: u16| Member { network, ..member(1000 + n) };
    let target = |n: u16| member(100 + n);
    let ask = |relay: &mut Relay, one: &Member, n: u16| {
        relay.allocate(at(0), one, &target(n), 0, 5).err()
    };
    for n in 0..32 {
        assert_eq!(ask(&mut relay, &crowd(n), n), None, "half of them are anybody's");
    }
    assert_eq!(ask(&mut relay, &crowd(32), 32), Some(Refused::ChannelsFull));
    for n in 33..63 {
        assert_eq!(ask(&mut relay, &member(n), n), None, "peer {n}");
    }
    // It counts where their sessions began, not where they say to be; and what ends makes room.
    assert!(relay.moved(&Member { path: path(8, 1), proven: false, ..crowd(0) }));
    assert_eq!(ask(&mut relay, &crowd(32), 32), Some(Refused::ChannelsFull));
    for n in 1..31 {
        let leg = relay.allocate(at(0), &crowd(n), &target(n), 0, 5).unwrap().requester;
        assert!(relay.close(leg.channel.id, &crowd(n).peer).is_some());
    }
    assert_eq!(ask(&mut relay, &crowd(32), 32), None);
}

#[test]
fn a_slot_used_again_has_another_generation() {
    let mut relay = relay(Config { channels_max: 1, ..config() });
    let (a, b) = (member(1), member(2));
    let mut before = None;
    for _ in 0..4 {
        let made = allocate(&mut relay, at(0), &a, &b, 0x0007_0007);
        let now = [made.requester, made.target].map(|leg| leg.channel);
        if let Some([requester, target]) = before.replace(now) {
            assert_eq!((requester.id, target.id), (now[0].id, now[1].id));
            assert!(requester.generation != now[0].generation);
            assert!(target.generation != now[1].generation);
        }
        let _ = relay.close(now[0].id, &a.peer).unwrap();
    }
}

#[test]
fn an_unproven_address_gets_what_it_sent_and_no_more() {
    let mut relay = relay(config());
    let (a, b) = (member(1), member(2));
    let made = allocate(&mut relay, at(0), &a, &b, 1);
    let [to_b, to_a] = [made.requester.channel, made.target.channel];
    let roamed = Member { path: path(99, 1), proven: false, ..a };
    assert!(relay.moved(&roamed));
    assert_eq!(sent(&mut relay, at(1), &a.path, to_b), Err(Drop::RelaySource));
    assert_eq!(sent(&mut relay, at(1), &b.path, to_a), Err(Drop::Unproven));
    assert!(relay.route(at(1), &roamed.path, to_b, 150, 1).is_ok());
    assert_eq!(sent(&mut relay, at(1), &b.path, to_a).unwrap().to, roamed.path);
    assert_eq!(sent(&mut relay, at(1), &b.path, to_a), Err(Drop::Unproven));
    assert!(relay.route(at(1), &b.path, to_a, 50, 1).is_ok());
    assert!(relay.moved(&Member { proven: true, ..roamed }));
    assert!(sent(&mut relay, at(1), &b.path, to_a).is_ok());
    assert!(relay.moved(&Member { reachable: false, ..roamed }));
    assert_eq!(sent(&mut relay, at(1), &b.path, to_a), Err(Drop::RelayTarget));
    assert!(!relay.moved(&member(3)), "it has no channels");
}

#[test]
fn both_families_and_our_own_addresses_are_kept() {
    let mut relay = relay(config());
    let v6 = |port| Path {
        peer: SocketAddr::from(([0x2001, 0xdb8, 1, 2, 3, 4, 5, 6], port)),
        local: Local { ip: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()), ..Local::default() },
    };
    let (a, b) = (Member { path: v6(1), ..member(1) }, Member { path: v6(65_535), ..member(2) });
    let made = allocate(&mut relay, at(0), &a, &b, 1);
    assert_eq!(sent(&mut relay, at(0), &a.path, made.requester.channel).unwrap().to, b.path);
    assert_eq!(sent(&mut relay, at(0), &b.path, made.target.channel).unwrap().to, a.path);
    assert!(relay.moved(&Member { path: path(7, 7), ..b }));
    assert_eq!(sent(&mut relay, at(0), &a.path, made.requester.channel).unwrap().to, path(7, 7));
}

#[test]
fn who_was_in_a_shard_that_ended_has_no_channels_any_more() {
    let mut relay = relay(config());
    let (a, b, c) = (member(1), member(2), member(4));
    let gone = allocate(&mut relay, at(0), &a, &b, 1);
    let stays = allocate(&mut relay, at(0), &b, &c, 2);
    relay.shard_ended(a.home.shard);
    assert_eq!(sent(&mut relay, at(1), &b.path, gone.target.channel), Err(Drop::RelayChannel));
    assert!(sent(&mut relay, at(1), &b.path, stays.requester.channel).is_ok());
    let [Event::Closed(closed)] = events(&mut relay, at(1))[..] else { panic!("one is over") };
    assert_eq!((closed.reason, relay.stats().channels), (CloseReason::Identity, 1));
}
