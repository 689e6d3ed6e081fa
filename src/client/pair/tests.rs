//! Two nodes in the laboratory: every pair of NATs, loss, the way from the relay to a direct path
//! and back, and what goes wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "events that a test does not look at")]

use std::time::Duration;

use super::lab::nat::Kind;
use super::lab::{Lab, Setup};
use super::{Event, Options, Path, Policy, Reason, Step};
use crate::client::fake::identity;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn lab(kinds: [Kind; 2], seed: u64) -> Lab {
    let mut lab = Lab::new(Setup::of(kinds, seed));
    lab.settle();
    lab
}

fn lab_with(kinds: [Kind; 2], options: [Options; 2]) -> Lab {
    let mut lab = Lab::new(Setup { options, ..Setup::of(kinds, 1) });
    lab.settle();
    lab
}

fn is_connected(lab: &Lab) -> bool {
    (0..2).all(|at| lab.nodes[at].connected().is_some())
}

fn is_direct(lab: &Lab) -> bool {
    (0..2).all(|at| matches!(lab.path(at), Some(Path::Direct(_))))
}

fn story(lab: &Lab) -> String {
    let of = |at: usize| {
        let pair = lab.nodes[at].endpoint.pair(&lab.nodes[1 - at].id);
        let steps = pair.into_iter().flat_map(|pair| pair.log().iter());
        let lines: Vec<String> = steps.map(|(at, step)| format!("{at:?} {step}")).collect();
        lines.join("\n")
    };
    format!("{}\n--\n{}", of(0), of(1))
}

/// Connects a pair; whether it got what it should, and in time.
fn connects(kinds: [Kind; 2], seed: u64, loss: u64) -> Result<(), String> {
    let mut lab = Lab::new(Setup::of(kinds, seed));
    lab.settle();
    lab.loss = loss;
    lab.connect();
    let connected = lab.until(ms(3000), is_connected);
    let told = |what: &str| format!("{kinds:?} seed {seed}: {what}\n{}", story(&lab));
    connected.ok_or_else(|| told("not connected within 3 s"))?;
    let direct = is_direct(&lab);
    match kinds[0].reaches(kinds[1]) {
        Some(true) if !direct => Err(told("not direct")),
        Some(false) if direct => Err(told("direct, although that cannot be")),
        Some(_) | None => Ok(()),
    }
}

#[test]
fn every_pair_of_nats_connects_as_well_as_it_can() {
    for (a, b) in Kind::ALL.iter().flat_map(|a| Kind::ALL.iter().map(move |b| (*a, *b))) {
        connects([a, b], 3, 0).unwrap();
    }
}

#[test]
fn two_percent_loss_changes_next_to_nothing() {
    let mut failed = Vec::new();
    let mut runs = 0;
    for (a, b) in Kind::ALL.iter().flat_map(|a| Kind::ALL.iter().map(move |b| (*a, *b))) {
        for seed in 0..4 {
            runs += 1;
            failed.extend(connects([a, b], 100 + seed, 20).err());
        }
    }
    assert!(failed.len() * 100 <= runs, "{} of {runs}: {}", failed.len(), failed.join("\n\n"));
}

#[test]
fn the_story_has_a_reason_for_every_turn() {
    let mut lab = lab([Kind::Symmetric, Kind::PortRestr], 1);
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
    let pair = lab.nodes[0].endpoint.pair(&lab.nodes[1].id).unwrap();
    let labels: Vec<&str> = pair.log().iter().map(|(_, step)| step.label()).collect();
    for wanted in [
        "seen_at",
        "asked",
        "listed",
        "introduced",
        "candidate",
        "window_open",
        "relay_asked",
        "relay_open",
        "initiated",
        "established",
        "proven",
        "switched",
    ] {
        assert!(labels.contains(&wanted), "{wanted} in {labels:?}");
    }
    let why = |step: &Step| matches!(step, Step::RelayAsked(Reason::FirstWindowPassed));
    assert!(pair.log().first(why).is_some());
}

#[test]
fn known_nats_go_to_the_relay_at_once() {
    let facts =
        |nat_mapping, nat_filtering| Options { nat_mapping, nat_filtering, ..Options::default() };
    let mut lab = lab_with([Kind::Symmetric, Kind::PortRestr], [facts(3, 3), facts(1, 3)]);
    lab.connect();
    let took = lab.until(ms(3000), is_connected).unwrap();
    assert!(took < ms(350), "{took:?}");
    assert_eq!(lab.path(0), Some(Path::Relay));
    let pair = lab.nodes[0].endpoint.pair(&lab.nodes[1].id).unwrap();
    let why = |step: &Step| matches!(step, Step::RelayAsked(Reason::UnreachableNats));
    assert!(pair.log().first(why).is_some());
}

/// Sends numbered datagrams both ways, one every 10 ms.
fn chatter(lab: &mut Lab, numbers: std::ops::Range<u32>) {
    for number in numbers {
        lab.send(0, &number.to_be_bytes());
        lab.send(1, &number.to_be_bytes());
        lab.run(ms(10));
    }
}

fn missing(lab: &Lab, at: usize, numbers: std::ops::Range<u32>) -> usize {
    let got = lab.nodes[at].received();
    numbers.filter(|number| !got.contains(&number.to_be_bytes().to_vec())).count()
}

#[test]
fn the_way_from_the_relay_to_a_direct_path_loses_nothing() {
    let mut lab = lab([Kind::PortRestr, Kind::PortRestr], 5);
    lab.only_router = true;
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
    chatter(&mut lab, 0..200);
    assert_eq!(lab.path(0), Some(Path::Relay));
    lab.only_router = false;
    chatter(&mut lab, 200..1000);
    assert!(is_direct(&lab), "{}", story(&lab));
    let relayed = lab.router.relayed;
    chatter(&mut lab, 1000..3000);
    lab.run(ms(100));
    assert_eq!(lab.router.relayed, relayed, "nothing goes over the relay any more");
    assert_eq!(lab.router.channels(), 0, "the channel was given back");
    for at in 0..2 {
        assert_eq!(missing(&lab, at, 0..3000), 0, "{}", story(&lab));
        assert_eq!(lab.nodes[at].received().len(), 3000, "nothing came twice");
    }
}

#[test]
fn a_path_that_dies_leaves_the_relay_and_comes_back() {
    let mut lab = lab([Kind::PortRestr, Kind::FullCone], 6);
    lab.connect();
    lab.until(ms(3000), is_direct).unwrap();
    chatter(&mut lab, 0..100);
    lab.only_router = true;
    chatter(&mut lab, 100..700);
    assert_eq!(
        (lab.path(0), lab.path(1)),
        (Some(Path::Relay), Some(Path::Relay)),
        "{}",
        story(&lab)
    );
    chatter(&mut lab, 700..900);
    lab.only_router = false;
    chatter(&mut lab, 900..2500);
    lab.run(ms(100));
    assert!(is_direct(&lab), "{}", story(&lab));
    for at in 0..2 {
        assert_eq!(missing(&lab, at, 0..100), 0);
        assert_eq!(missing(&lab, at, 700..2500), 0, "{}", story(&lab));
    }
}

#[test]
fn a_nat_that_forgets_is_punched_again() {
    let mut lab = lab([Kind::PortRestr, Kind::PortRestr], 7);
    lab.connect();
    lab.until(ms(3000), is_direct).unwrap();
    lab.run(ms(5000));
    lab.nats[0].reboot();
    chatter(&mut lab, 0..1500);
    lab.run(ms(100));
    assert!(is_direct(&lab), "{}", story(&lab));
    for at in 0..2 {
        assert_eq!(missing(&lab, at, 1000..1500), 0, "{}", story(&lab));
    }
}

#[test]
fn a_channel_that_the_router_closes_is_replaced() {
    let mut lab = lab([Kind::Symmetric, Kind::Symmetric], 8);
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
    chatter(&mut lab, 0..10);
    lab.run(ms(100));
    lab.router.close_all(3);
    lab.run(ms(1000));
    chatter(&mut lab, 10..100);
    lab.run(ms(100));
    for at in 0..2 {
        assert_eq!(missing(&lab, at, 0..100), 0, "{}", story(&lab));
    }
}

#[test]
fn an_idle_connection_lives_for_hours() {
    for kinds in [[Kind::PortRestr, Kind::PortRestr], [Kind::Symmetric, Kind::PortRestr]] {
        let mut lab = lab(kinds, 9);
        lab.loss = 5;
        lab.connect();
        lab.until(ms(3000), is_connected).unwrap();
        for hour in 0..2_u32 {
            lab.run(Duration::from_secs(3600));
            lab.loss = 0;
            lab.run(ms(3000));
            lab.send(1, &hour.to_be_bytes());
            lab.run(ms(3000));
            lab.loss = 5;
            assert_eq!(missing(&lab, 0, 0..hour + 1), 0, "{kinds:?} {}", story(&lab));
        }
    }
}

#[test]
fn two_behind_one_nat_meet_in_their_own_network() {
    let own = |at| Options { addresses: vec![Lab::inside(at)], ..Options::default() };
    let kinds = [Kind::Symmetric, Kind::Symmetric];
    let setup = Setup { options: [own(0), own(1)], same_nat: true, ..Setup::of(kinds, 2) };
    let mut lab = Lab::new(setup);
    lab.settle();
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
    assert_eq!(lab.path(0), Some(Path::Direct(Lab::inside(1))), "{}", story(&lab));
}

#[test]
fn nobody_meets_themselves() {
    // Private networks are alike: the peer's address in its own is ours in ours.
    let own = || Options { addresses: vec![Lab::inside(0)], ..Options::default() };
    for kinds in [[Kind::PortRestr, Kind::Linux], [Kind::Symmetric, Kind::PortRestr]] {
        for options in [[Options::default(), own()], [own(), own()]] {
            let mut lab = lab_with(kinds, options);
            lab.connect();
            let connected = lab.until(ms(3000), is_connected);
            assert!(connected.is_some(), "{kinds:?}: {}", story(&lab));
            assert_ne!(lab.path(0), Some(Path::Direct(Lab::inside(0))), "{}", story(&lab));
        }
    }
}

fn is_relayed(lab: &Lab) -> bool {
    (0..2).all(|at| lab.path(at) == Some(Path::Relay))
}

#[test]
fn where_wireguard_is_filtered_the_relay_carries_it() {
    for (kinds, seed) in [([Kind::AddrRestr, Kind::Linux], 1), ([Kind::None, Kind::None], 2)] {
        let mut lab = lab(kinds, seed);
        lab.only_probes = true;
        lab.connect();
        lab.until(ms(9000), is_connected).unwrap_or_else(|| panic!("{}", story(&lab)));
        lab.until(ms(5000), is_relayed).unwrap_or_else(|| panic!("{}", story(&lab)));
        // Time and again there is a direct path, and is not used.
        for number in 0..2000_u32 {
            lab.send(0, &number.to_be_bytes());
            lab.send(1, &number.to_be_bytes());
            lab.run(ms(100));
        }
        lab.run(ms(500));
        assert_eq!((missing(&lab, 0, 0..2000), missing(&lab, 1, 0..2000)), (0, 0));
        assert!(is_relayed(&lab), "{}", story(&lab));
        lab.only_probes = false;
        lab.until(Duration::from_secs(120), is_direct).unwrap_or_else(|| panic!("{}", story(&lab)));
    }
}

#[test]
fn a_datagram_that_is_lost_ends_no_path() {
    let mut lab = lab([Kind::PortRestr, Kind::Linux], 3);
    lab.connect();
    lab.until(ms(3000), |lab| is_connected(lab) && is_direct(lab)).unwrap();
    lab.run(Duration::from_secs(20));
    let path = lab.path(0);
    for _ in 0..5 {
        lab.loss = 1000;
        lab.send(0, b"lost");
        lab.loss = 0;
        lab.run(Duration::from_secs(20));
    }
    let mute = |at: usize| {
        let pair = lab.nodes[at].endpoint.pair(&lab.nodes[1 - at].id).unwrap();
        pair.log().first(|step| matches!(step, Step::PathMute(_)))
    };
    assert_eq!((mute(0), mute(1), lab.path(0)), (None, None, path), "{}", story(&lab));
}

#[test]
fn a_filter_that_comes_later_moves_a_pair_to_the_relay() {
    let mut lab = lab([Kind::PortRestr, Kind::Linux], 3);
    lab.connect();
    lab.until(ms(3000), |lab| is_connected(lab) && is_direct(lab)).unwrap();
    lab.only_probes = true;
    chatter(&mut lab, 0..2500);
    assert!(is_relayed(&lab), "{}", story(&lab));
    chatter(&mut lab, 2500..3000);
    lab.run(ms(500));
    assert_eq!((missing(&lab, 0, 2500..3000), missing(&lab, 1, 2500..3000)), (0, 0));
}

fn failure(lab: &mut Lab, peer: crate::ids::PeerId) -> Option<Reason> {
    lab.nodes[0].endpoint.connect(lab.now, peer, &[]);
    lab.run(Duration::from_secs(12));
    lab.nodes[0].events.iter().find_map(|(_, event)| match event {
        Event::Failed(it, why) if *it == peer => Some(*why),
        _ => None,
    })
}

#[test]
fn whoever_is_not_let_in_is_told_why() {
    let kinds = [Kind::None, Kind::None];
    let nobody = Options { policy: Policy::Nobody, ..Options::default() };
    let mut lab = lab_with(kinds, [Options::default(), nobody]);
    let peer = lab.nodes[1].id;
    assert_eq!(failure(&mut lab, peer), Some(Reason::Declined));
    assert_eq!(failure(&mut lab, identity(77).peer_id()), Some(Reason::NoSuchPeer));

    let us = lab.nodes[0].id;
    let only = |peers| Options { policy: Policy::Only(peers), ..Options::default() };
    let mut lab = lab_with(kinds, [Options::default(), only(vec![us])]);
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
}

#[test]
fn what_is_switched_off_is_not_used() {
    let no_relay = || Options { relay: false, ..Options::default() };
    let mut lab = lab_with([Kind::Symmetric, Kind::PortRestr], [no_relay(), Options::default()]);
    let peer = lab.nodes[1].id;
    assert_eq!(failure(&mut lab, peer), Some(Reason::NoProbeAnswered));
    assert_eq!(lab.router.channels(), 0);

    let relay_only = || Options { punch: false, ..Options::default() };
    let mut lab = lab_with([Kind::None, Kind::None], [relay_only(), Options::default()]);
    lab.connect();
    lab.until(ms(3000), is_connected).unwrap();
    lab.run(Duration::from_secs(60));
    assert_eq!((lab.path(0), lab.path(1)), (Some(Path::Relay), Some(Path::Relay)));
}

#[test]
fn a_router_that_lies_about_a_key_gains_nothing() {
    let mut lab = lab([Kind::None, Kind::None], 1);
    lab.router.lie = Some(lab.nodes[0].endpoint.me.identity.wg_key());
    let peer = lab.nodes[1].id;
    assert!(failure(&mut lab, peer).is_some());
    assert!(lab.nodes.iter().all(|node| node.connected().is_none()));
}
