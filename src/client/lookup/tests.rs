//! Static networks, hostile answerers and time, without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::*;
use crate::client::values::OwnedRecord;
use crate::identity::Identity;
use crate::ids::WgKey;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn id(rng: &mut impl RngCore) -> PeerId {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    PeerId(bytes)
}

/// The `n`-th node of a test, in a network of its own.
fn contact(n: u16, peer: PeerId) -> Contact {
    let [high, low] = n.to_be_bytes();
    let mut key = peer.0;
    key.reverse();
    Contact { peer, key: WgKey(key), address: ([80, high, low, 1], 7743).into() }
}

fn found(it: &Contact) -> Found {
    Found { peer: it.peer, addresses: vec![it.address], key: it.key, rtt_ms: 0, flags: 0 }
}

fn asked(due: Option<Due>) -> Contact {
    match due {
        Some(Due::Ask { contact, .. }) => contact,
        other => panic!("{other:?}"),
    }
}

/// Everybody whom there is to ask at `now`.
fn ask_all(lookup: &mut Lookup, now: Moment) -> Vec<Contact> {
    std::iter::from_fn(|| lookup.poll(now)).map(|due| asked(Some(due))).collect()
}

/// What nodes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Names the closest whom it knows.
    Honest,
    /// Says nothing.
    Dead,
    Refuses,
    /// Names sixteen nodes that it makes up, each closer than the last.
    Inventive,
    /// Names itself, us, nobody's addresses, and far too many.
    Confused,
}

struct Net {
    rng: ChaCha12Rng,
    nodes: Vec<(Contact, Manner)>,
    knows: Vec<Vec<usize>>,
    delay_ms: u64,
    invented: u16,
}

impl Net {
    /// Everyone knows its closest neighbours, and `each` of every bucket that has so many.
    fn new(seed: u64, nodes: u16, each: usize, manner: impl Fn(u16) -> Manner) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let nodes: Vec<_> = (0..nodes).map(|n| (contact(n, id(&mut rng)), manner(n))).collect();
        let knows = nodes.iter().map(|(node, _)| {
            let mut all: Vec<usize> = (0..nodes.len()).collect();
            all.sort_by_key(|other| nodes[*other].0.peer.distance(&node.peer));
            let mut known: BTreeSet<usize> = all[1..].iter().copied().take(K).collect();
            let shared = |other: &usize| {
                let distance = nodes[*other].0.peer.distance(&node.peer);
                crate::signing::stamp::leading_zeros(&distance)
            };
            for bucket in 0..16 {
                let mut bucket: Vec<usize> =
                    all.iter().copied().filter(|other| shared(other) == bucket).collect();
                for _ in 0..each.min(bucket.len()) {
                    known.insert(bucket.swap_remove(rng.next_u32() as usize % bucket.len()));
                }
            }
            known.into_iter().collect()
        });
        let knows = knows.collect();
        Self { rng, nodes, knows, delay_ms: 40, invented: 0 }
    }

    fn closest(&self, target: &PeerId, n: usize, which: impl Fn(Manner) -> bool) -> Vec<PeerId> {
        let nodes = self.nodes.iter().filter(|(_, manner)| which(*manner));
        let mut all: Vec<PeerId> = nodes.map(|(it, _)| it.peer).collect();
        all.sort_by_key(|peer| peer.distance(target));
        all.truncate(n);
        all
    }

    fn answer(&mut self, goal: &Goal, to: &Contact) -> Option<Result<Vec<Found>, ()>> {
        let target = goal.target();
        let Some(at) = self.nodes.iter().position(|(it, _)| it == to) else {
            // Made up, and in league with who made it up.
            return Some(Ok(self.invent(&target)));
        };
        match self.nodes[at].1 {
            Manner::Dead => None,
            Manner::Refuses => Some(Err(())),
            Manner::Inventive => Some(Ok(self.invent(&target))),
            Manner::Confused => {
                let nowhere: SocketAddr = ([0, 0, 0, 0], 7743).into();
                let here: SocketAddr = ([10, 0, 0, 1], 7743).into();
                let mut named = vec![found(to); 2];
                for address in [nowhere, here] {
                    let other = contact(0, id(&mut self.rng));
                    named.push(found(&Contact { address, ..other }));
                }
                named.extend((0..30).map(|n| found(&contact(n, id(&mut self.rng)))));
                Some(Ok(named))
            }
            Manner::Honest => {
                let mut known: Vec<&Contact> =
                    self.knows[at].iter().map(|it| &self.nodes[*it].0).collect();
                known.sort_by_key(|it| it.peer.distance(&target));
                let mut named: Vec<Found> =
                    known.into_iter().take(goal.peers_max()).map(found).collect();
                // The order means nothing.
                named.reverse();
                Some(Ok(named))
            }
        }
    }

    fn invent(&mut self, target: &PeerId) -> Vec<Found> {
        let made_up = |n: u16| {
            self.invented += 1;
            let mut peer = *target;
            let [high, low] = self.invented.to_be_bytes();
            (peer.0[29], peer.0[30], peer.0[31]) = (high, low, n.to_be_bytes()[1]);
            found(&contact(30_000 + self.invented, peer))
        };
        (0..16).map(made_up).collect()
    }
}

/// Goes through a lookup, and checks on the way what always holds.
fn walk(net: &mut Net, goal: Goal, start: &[usize], budget: Duration) -> (Outcome, Vec<Contact>) {
    let config = Config { budget, ..Config::default() };
    let known: Vec<Contact> = start.iter().map(|n| net.nodes[*n].0).collect();
    let mut lookup = Lookup::new(at(0), goal, config, known);
    let (mut now, mut arriving, mut all) = (at(0), BTreeMap::new(), Vec::new());
    for number in 0_u64.. {
        assert!(number < 100_000, "it never ends");
        while let Some(due) = lookup.poll(now) {
            let Due::Ask { contact, .. } = due else { continue };
            assert!(!all.contains(&contact), "a node is asked once");
            all.push(contact);
            assert!(lookup.under_way() <= lookup.pace().alpha().min(ALPHA_MAX));
            if let Some(answer) = net.answer(&goal, &contact) {
                let jitter = u64::from(net.rng.next_u32() % 20);
                let n = u64::try_from(all.len()).unwrap();
                arriving.insert((now + ms(net.delay_ms + jitter), n), (contact, answer));
            }
        }
        if lookup.is_over() {
            break;
        }
        let next = arriving.keys().next().map_or(Moment::NEVER, |(at, _)| *at);
        now = next.min(lookup.next_deadline()).max(now);
        if next <= now
            && let Some((_, (contact, answer))) = arriving.pop_first()
        {
            match answer {
                Ok(peers) => lookup.answered(now, &contact, &peers),
                Err(()) => lookup.failed(&contact),
            }
        }
    }
    let outcome = lookup.into_outcome(now);
    assert!(outcome.elapsed <= budget + ms(1), "{:?}", outcome.elapsed);
    assert_eq!(outcome.stats.asked as usize, all.len());
    assert!(outcome.stats.asked <= ASKED_MAX);
    (outcome, all)
}

fn peers(outcome: &Outcome) -> Vec<PeerId> {
    outcome.closest.iter().map(|it| it.peer).collect()
}

proptest! {
    #[test]
    fn a_bucket_shares_so_many_bits(ours in any::<[u8; 32]>(), random in any::<[u8; 32]>(), bucket in 0_u32..256) {
        let distance = bucket_target(&PeerId(ours), bucket, random).distance(&PeerId(ours));
        prop_assert_eq!(crate::signing::stamp::leading_zeros(&distance), bucket);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn in_a_static_network_it_finds_who_is_closest(
        seed in any::<u64>(), nodes in 10_u16..250, target in any::<[u8; 32]>(),
    ) {
        let mut net = Net::new(seed, nodes, 6, |_| Manner::Honest);
        let goal = Goal::Node(PeerId(target));
        let (outcome, _) = walk(&mut net, goal, &[0], Duration::from_secs(20));
        prop_assert_eq!(outcome.end, End::Closest);
        let closest = net.closest(&PeerId(target), WANTED, |_| true);
        let ours = peers(&outcome);
        let expected: Vec<_> = closest.iter().take(WANTED.min(ours.len())).collect();
        prop_assert_eq!(ours.iter().take(expected.len()).collect::<Vec<_>>(), expected);
        prop_assert!(ours.len() >= WANTED.min(usize::from(nodes)));
    }

    #[test]
    fn dead_and_busy_nodes_do_not_hide_the_living(
        seed in any::<u64>(), target in any::<[u8; 32]>(),
    ) {
        let manner = |n| match n % 6 { 1 | 2 => Manner::Dead, 3 => Manner::Refuses, _ => Manner::Honest };
        let mut net = Net::new(seed, 200, 10, manner);
        let goal = Goal::Node(PeerId(target));
        let (outcome, _) = walk(&mut net, goal, &[0, 4, 5, 6, 10, 11], Duration::from_secs(20));
        let living = net.closest(&PeerId(target), 3, |manner| manner == Manner::Honest);
        prop_assert_eq!(&peers(&outcome)[..3], &living[..]);
    }

    #[test]
    fn whatever_nodes_say_it_ends_and_keeps_its_bounds(
        seed in any::<u64>(), target in any::<[u8; 32]>(), manners in prop::collection::vec(0_u8..5, 100),
        delay_ms in 1_u64..2000, value in any::<bool>(),
    ) {
        let manner = |n: u16| match manners[usize::from(n)] {
            0 => Manner::Honest,
            1 => Manner::Dead,
            2 => Manner::Refuses,
            3 => Manner::Inventive,
            _ => Manner::Confused,
        };
        let mut net = Net::new(seed, 100, 6, manner);
        net.delay_ms = delay_ms;
        let goal = if value { Goal::Value(Key(target)) } else { Goal::Node(PeerId(target)) };
        let (outcome, asked) = walk(&mut net, goal, &[0, 1, 2], BUDGET);
        let networks = asked.iter().map(|it| it.address).collect::<BTreeSet<_>>();
        prop_assert!(outcome.closest.len() <= K && networks.len() <= asked.len());
    }
}

/// A lookup that knows the `n` nodes of a test, the closest first, and has asked the first three.
fn begun(n: u16, goal: impl Fn(PeerId) -> Goal) -> (Lookup, Vec<Contact>) {
    let target = PeerId([0; 32]);
    let node = |n: u16| {
        let mut peer = [0; 32];
        peer[..2].copy_from_slice(&(n + 1).to_be_bytes());
        contact(n, PeerId(peer))
    };
    let nodes: Vec<Contact> = (0..n).map(node).collect();
    let mut lookup = Lookup::new(at(0), goal(target), Config::default(), nodes.clone());
    assert_eq!(ask_all(&mut lookup, at(0)), nodes[..3]);
    (lookup, nodes)
}

fn value(lookup_key: impl Fn(PeerId) -> Key) -> impl Fn(PeerId) -> Goal {
    move |target| Goal::Value(lookup_key(target))
}

#[test]
fn who_is_late_makes_room_and_counts_still() {
    let (mut lookup, nodes) = begun(20, Goal::Node);
    assert_eq!(lookup.next_deadline(), at(250));
    let more = ask_all(&mut lookup, at(250));
    assert_eq!(more, nodes[3..6], "three are slow, and six may be under way now");
    assert_eq!(lookup.next_deadline(), at(500));
    let more = ask_all(&mut lookup, at(500));
    assert_eq!(more, nodes[6..11], "three are late, three slow, and eight may be under way now");
    lookup.answered(at(600), &nodes[1], &[]);
    lookup.answered(at(600), &nodes[1], &[]);
    let gone: Vec<Due> = std::iter::from_fn(|| lookup.poll(at(1200))).collect();
    assert!(gone.contains(&Due::GiveUp(nodes[0])) && gone.contains(&Due::GiveUp(nodes[2])));
    assert!(!gone.contains(&Due::GiveUp(nodes[1])));
    lookup.answered(at(1201), &nodes[0], &[]);
    let Stats { answered, late, failed, .. } = lookup.into_outcome(at(1201)).stats;
    assert_eq!((answered, late, failed), (1, 1, 2));
}

#[test]
fn the_budget_ends_it_with_what_there_is() {
    let (mut lookup, nodes) = begun(20, Goal::Node);
    lookup.answered(at(100), &nodes[2], &[]);
    assert_eq!(lookup.poll(at(2000)).map(|_| ()), Some(()), "the first to be given up");
    while lookup.poll(at(2000)).is_some() {}
    assert!(lookup.is_over());
    let outcome = lookup.into_outcome(at(2000));
    assert_eq!((outcome.end, peers(&outcome)), (End::Budget, vec![nodes[2].peer]));
}

#[test]
fn nobody_to_ask_is_deserted() {
    let mut lookup = Lookup::new(at(0), Goal::Node(PeerId([0; 32])), Config::default(), []);
    assert_eq!(lookup.poll(at(0)), None);
    assert_eq!(lookup.into_outcome(at(0)).end, End::Deserted);
}

#[test]
fn one_answerer_brings_half_of_the_list_and_a_network_two() {
    let (mut lookup, nodes) = begun(8, Goal::Node);
    let near = |n: u16| contact(1000 + n, PeerId([u8::try_from(n / 8).unwrap(); 32]));
    let all: Vec<Found> = (8..24).map(|n| near(n * 8)).map(|it| found(&it)).collect();
    lookup.answered(at(10), &nodes[0], &all);
    let listed = lookup.shortlist.iter().filter(|it| it.hops == 2).count();
    assert_eq!(listed, SHARE_MAX);
    assert_eq!(lookup.stats.unfit(Unfit::Share), 6);

    let (mut lookup, nodes) = begun(8, Goal::Node);
    let same = |n: u8| Found {
        addresses: vec![([81, 1, 1, n], 7743).into()],
        ..found(&contact(1, PeerId([n; 32])))
    };
    lookup.answered(at(10), &nodes[0], &[same(9), same(8), same(7), same(10)]);
    let listed = lookup.shortlist.iter().filter(|it| it.hops == 2);
    let listed: Vec<u8> = listed.map(|it| it.contact.peer.0[0]).collect();
    assert_eq!((listed, lookup.stats.unfit(Unfit::Network)), (vec![7, 8], 1), "the closest stay");
}

#[test]
fn what_no_honest_node_says_is_dropped_and_counted() {
    let target = PeerId([0; 32]);
    let us = PeerId([77; 32]);
    let node = contact(1, PeerId([1; 32]));
    let families = Families { v4: true, v6: false };
    let config = Config { ourselves: Some(us), families, ..Config::default() };
    let mut lookup = Lookup::new(at(0), Goal::Node(target), config, [node]);
    assert_eq!(asked(lookup.poll(at(0))), node);
    let named = |n: u8, address: &str| Found {
        addresses: vec![address.parse().unwrap()],
        ..found(&contact(u16::from(n), PeerId([n; 32])))
    };
    let mut peers = vec![
        found(&node),
        found(&contact(2, us)),
        named(3, "10.0.0.1:7743"),
        named(4, "127.0.0.1:7743"),
        named(5, "[2a00:1::1]:7743"),
        named(6, "0.0.0.0:7743"),
        named(7, "224.0.0.1:7743"),
        named(8, "81.0.0.1:0"),
        Found { addresses: Vec::new(), ..named(9, "81.0.0.1:1") },
        named(10, "82.0.0.1:7743"),
    ];
    peers.extend((0..9).map(|n| named(100 + n, "83.0.0.1:7743")));
    lookup.answered(at(10), &node, &peers);
    let unfit = Unfit::ALL.map(|why| lookup.stats.unfit(why));
    assert_eq!(unfit, [3, 2, 7, 0, 4, 0]);
    // A private node may name private ones, and of several addresses the first that will do counts.
    let home = Contact { address: ([192, 168, 1, 1], 7743).into(), ..node };
    let mut lookup = Lookup::new(at(0), Goal::Node(target), config, [home]);
    assert_eq!(asked(lookup.poll(at(0))), home);
    let two = Found {
        addresses: vec!["127.0.0.1:1".parse().unwrap(), "10.0.0.1:7743".parse().unwrap()],
        ..named(3, "10.0.0.1:1")
    };
    lookup.answered(at(10), &home, &[two]);
    assert_eq!(asked(lookup.poll(at(10))).address, ([10, 0, 0, 1], 7743).into());
}

#[test]
fn an_immutable_value_ends_it_at_once() {
    let record = OwnedRecord::immutable(b"value".to_vec(), ms(1000));
    let (mut lookup, nodes) = begun(20, value(|_| Key([0; 32])));
    let found = FoundValue { record: Some(record.clone()), ..FoundValue::default() };
    lookup.answered_value(at(30), &nodes[1], found);
    assert!(lookup.is_over() && lookup.poll(at(30)).is_none());
    let outcome = lookup.into_outcome(at(50));
    assert_eq!((outcome.end, outcome.elapsed), (End::Found, ms(30)));
    assert_eq!((outcome.record, outcome.holders), (Some(record), vec![nodes[1].peer]));
}

fn version(sequence: u64) -> FoundValue {
    let owner = Identity::generate(&mut ChaCha12Rng::seed_from_u64(5));
    let record = OwnedRecord::named(&owner, b"", b"v".to_vec(), sequence, 0, ms(1000));
    FoundValue { record: Some(record), ..FoundValue::default() }
}

fn sequence(lookup: Lookup, now: Moment) -> (End, u64, usize) {
    let outcome = lookup.into_outcome(now);
    (outcome.end, outcome.record.unwrap().sequence, outcome.holders.len())
}

#[test]
fn of_what_may_change_the_newest_of_three_counts() {
    let (mut lookup, nodes) = begun(20, value(|_| Key([0; 32])));
    for (n, it) in [4, 7, 5].into_iter().enumerate() {
        assert!(!lookup.is_over());
        lookup.answered_value(at(30), &nodes[n], version(it));
        ask_all(&mut lookup, at(30));
    }
    assert_eq!(sequence(lookup, at(30)), (End::Found, 7, 3));

    // A node that says nothing does not hold up what another had.
    let (mut lookup, nodes) = begun(20, value(|_| Key([0; 32])));
    lookup.answered_value(at(30), &nodes[0], version(4));
    ask_all(&mut lookup, at(30));
    let settled = lookup.next_deadline();
    assert!(settled <= at(30) + ms(150), "{settled:?}");
    assert!(ask_all(&mut lookup, settled).is_empty() && lookup.is_over());
    assert_eq!(sequence(lookup, settled), (End::Found, 4, 1));
}

#[test]
fn what_does_not_verify_is_a_failure_and_the_walk_goes_on() {
    let (mut lookup, nodes) = begun(20, value(|_| Key([0; 32])));
    lookup.forged(&nodes[0]);
    lookup.failed(&nodes[0]);
    assert_eq!((lookup.stats.forged, lookup.stats.failed), (1, 1));
    assert_eq!(ask_all(&mut lookup, at(1)), nodes[3..5], "in its place, and one more");
}

#[test]
fn a_value_that_a_late_node_may_have_is_waited_for() {
    let (mut lookup, nodes) = begun(3, value(|_| Key([0; 32])));
    lookup.answered_value(at(10), &nodes[1], FoundValue::default());
    assert!(lookup.poll(at(600)).is_none() && !lookup.is_over());
    let record = OwnedRecord::immutable(b"value".to_vec(), ms(1000));
    let found = FoundValue { record: Some(record), ..FoundValue::default() };
    lookup.answered_value(at(900), &nodes[0], found);
    assert_eq!(lookup.into_outcome(at(900)).end, End::Found);
    // Nobody but the living is waited for when nodes are looked for.
    let (mut lookup, nodes) = begun(3, Goal::Node);
    for node in &nodes[1..] {
        lookup.answered(at(10), node, &[]);
    }
    assert!(lookup.poll(at(600)).is_none());
    assert_eq!(lookup.into_outcome(at(600)).end, End::Closest);
}

#[test]
fn who_is_passed_over_was_not_asked() {
    let (mut lookup, nodes) = begun(20, Goal::Node);
    lookup.passed_over(&nodes[0]);
    assert_eq!(ask_all(&mut lookup, at(1)), nodes[3..4]);
    let stats = lookup.into_outcome(at(1)).stats;
    assert_eq!((stats.asked, stats.passed_over, stats.failed), (3, 1, 0));
}
