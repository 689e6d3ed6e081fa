use std::net::Ipv4Addr;
use std::sync::LazyLock;

use bufpool::{Hugepages, Pool, PoolConfig};
use proptest::prelude::*;

use super::*;
use crate::datagram::Local;

fn pool(slots: usize) -> Pool {
    let hugepages = Hugepages::Off;
    let config = PoolConfig { slot_bytes: 66_048, slots, headroom: 0, hugepages, prefault: false };
    Pool::new(config).unwrap()
}

fn path(peer: u16) -> Path {
    Path { peer: (Ipv4Addr::LOCALHOST, peer).into(), local: Local::default() }
}

/// A transmit whose bytes say the order in which it was queued.
fn transmit(pool: &Pool, peer: u16, len: usize, segment: usize, order: u16) -> Transmit {
    let mut buf = pool.take().unwrap();
    buf.set_window(0, len);
    if let Some(head) = buf.first_chunk_mut() {
        *head = order.to_ne_bytes();
    }
    Transmit { path: path(peer), buf, segment, dscp: 0 }
}

/// Peers whose addresses all hash to the first place.
static CLASHING: LazyLock<Vec<SocketAddr>> = LazyLock::new(|| {
    let all = (0..).map(|ip| SocketAddr::from((Ipv4Addr::from_bits(ip), 7)));
    all.filter(|peer| hash(peer) & 255 == 0).take(200).collect()
});

fn shape(plan: &Plan) -> Vec<(u16, Vec<usize>)> {
    let run = |run: &Run| {
        let peers: Vec<u16> = plan.transmits(*run).map(|t| t.path.peer.port()).collect();
        assert!(peers.windows(2).all(|pair| pair[0] == pair[1]));
        (peers[0], plan.transmits(*run).map(|t| t.buf.len()).collect())
    };
    plan.runs().iter().map(run).collect()
}

fn plan_of(pool: &Pool, segments: usize, sends: &[(u16, usize, usize)]) -> Plan {
    let mut plan = Plan::new(128, segments);
    for (order, (peer, len, segment)) in sends.iter().enumerate() {
        plan.push(transmit(pool, *peer, *len, *segment, u16::try_from(order).unwrap()));
    }
    plan
}

#[test]
fn interleaved_peers_get_a_run_each_and_a_shorter_one_ends_it() {
    let pool = pool(16);
    let sends = [(1, 100, 100), (2, 80, 80), (1, 100, 100), (2, 80, 80), (1, 40, 40), (1, 40, 40)];
    let plan = plan_of(&pool, SEGMENTS_MAX, &sends);
    assert_eq!(shape(&plan), [(1, vec![100, 100, 40]), (2, vec![80, 80]), (1, vec![40])]);
}

#[test]
fn a_larger_one_starts_a_run_and_without_coalescing_all_do() {
    let pool = pool(16);
    let sends = [(1, 100, 100), (1, 101, 101), (1, 101, 101)];
    assert_eq!(shape(&plan_of(&pool, SEGMENTS_MAX, &sends)), [(1, vec![100]), (1, vec![101, 101])]);
    assert_eq!(plan_of(&pool, 1, &sends).runs().len(), 3);
}

#[test]
fn limits_hold_and_ready_runs_join() {
    let pool = pool(80);
    let singles = vec![(1, 1200, 1200); 70];
    let plan = plan_of(&pool, SEGMENTS_MAX, &singles);
    assert_eq!(plan.runs().iter().map(|run| run.transmits).collect::<Vec<_>>(), [54, 16]);
    drop(plan);
    let plan = plan_of(&pool, SEGMENTS_MAX, &vec![(1, 10, 10); 70]);
    assert_eq!(plan.runs().iter().map(|run| run.transmits).collect::<Vec<_>>(), [64, 6]);
    drop(plan);
    let plan = plan_of(&pool, 3, &[(1, 10, 10); 7]);
    assert_eq!(plan.runs().iter().map(|run| run.transmits).collect::<Vec<_>>(), [3, 3, 1]);
    drop(plan);
    // 8 full segments, then 8 with a short last: one message; the next starts anew.
    let plan = plan_of(&pool, SEGMENTS_MAX, &[(1, 800, 100), (1, 750, 100), (1, 100, 100)]);
    assert_eq!(shape(&plan), [(1, vec![800, 750]), (1, vec![100])]);
}

#[test]
fn empty_datagrams_go_alone_and_in_order() {
    let pool = pool(4);
    let plan = plan_of(&pool, SEGMENTS_MAX, &[(1, 0, 0), (1, 50, 50), (1, 0, 0), (1, 50, 50)]);
    assert_eq!(plan.runs().len(), 4, "nothing joins an empty datagram, nothing overtakes it");
}

/// The bytes of each path, in the order in which they would leave.
fn streams<'a>(
    transmits: impl Iterator<Item = &'a Transmit>,
) -> std::collections::BTreeMap<u16, Vec<u8>> {
    let mut streams = std::collections::BTreeMap::<u16, Vec<u8>>::new();
    for one in transmits {
        streams.entry(one.path.peer.port()).or_default().extend_from_slice(&one.buf);
    }
    streams
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn order_holds_per_path_and_every_transmit_leaves_once(
        sends in proptest::collection::vec(
            (0..200u16, prop_oneof![1..5usize, Just(1200), 1..3000usize], 1..5usize), 0..128),
        clashing: bool,
        most in 1..=SEGMENTS_MAX,
    ) {
        let pool = pool(128);
        let mut plan = Plan::new(128, most);
        for _ in 0..2 {
            for (order, (peer, segment, count)) in sends.iter().enumerate() {
                let order = u16::try_from(order).unwrap();
                let mut one = transmit(&pool, *peer, (segment * count).max(2), (*segment).max(2), order);
                if clashing {
                    one.path.peer = CLASHING[usize::from(*peer)];
                }
                plan.push(one);
            }
            let mut last = std::collections::BTreeMap::new();
            let mut seen = 0;
            let runs = plan.runs().to_vec();
            for run in runs {
                let all: Vec<Transmit> = plan.take(run).collect();
                let bytes: usize = all.iter().map(|t| t.buf.len()).sum();
                let datagrams: usize = all.iter().map(Transmit::datagrams).sum();
                prop_assert!(all.len() == 1 || (bytes <= BYTES_MAX && datagrams <= most));
                let segment = all[0].segment;
                let (short, full) = all.split_last().unwrap();
                prop_assert!(full.iter().all(|t| t.segment == segment && t.buf.len() % segment == 0));
                prop_assert!(short.segment == segment || (short.datagrams() == 1 && short.segment < segment));
                for one in all {
                    let order = u16::from_ne_bytes(*one.buf.first_chunk().unwrap());
                    if let Some(before) = last.insert(one.path.peer, order) {
                        prop_assert!(before < order, "{} overtaken", one.path.peer);
                    }
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, sends.len());
            plan.clear();
            prop_assert_eq!(pool.free(), 128);
        }
    }

    #[test]
    fn what_a_full_socket_left_stays_in_order(
        sends in proptest::collection::vec((0..6u16, 2..300usize, 1..5usize), 1..64),
        stops in proptest::collection::vec(any::<[proptest::sample::Index; 3]>(), 1..4),
        most in prop_oneof![Just(1), 2..=64usize],
        later: bool,
    ) {
        let pool = pool(128);
        let mut plan = Plan::new(64, most);
        let mut number = 0;
        let mut offer = |plan: &mut Plan, sends: &[(u16, usize, usize)]| {
            for (peer, segment, count) in sends {
                if plan.is_full() {
                    break;
                }
                plan.push(transmit(&pool, *peer, segment * count, *segment, number));
                number += 1;
            }
        };
        offer(&mut plan, &sends);
        for [run, transmit, segment] in stops {
            if plan.is_empty() {
                break;
            }
            let run = run.index(plan.runs().len());
            let stopped = plan.runs()[run];
            let mut place = Place { run, ..Place::default() };
            place.transmit = transmit.index(stopped.transmits.into());
            let first = plan.transmits(stopped).nth(place.transmit).unwrap();
            place.bytes = first.segment * segment.index(first.datagrams());
            let left = plan.runs()[run..].iter().flat_map(|run| plan.transmits(*run));
            let mut want = streams(left.skip(place.transmit));
            // What left of the first one is in front of its path's bytes.
            want.get_mut(&first.path.peer.port()).unwrap().drain(..place.bytes);
            plan.keep_from(place);
            let left: Vec<Run> = plan.runs().to_vec();
            let left = left.iter().flat_map(|run| plan.transmits(*run));
            prop_assert_eq!(streams(left), want);
            if later {
                offer(&mut plan, &sends[..sends.len() / 3]);
            }
        }
        plan.clear();
        prop_assert_eq!(pool.free(), 128);
    }
}
