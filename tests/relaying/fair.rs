//! Whoever sends too much has less of it relayed, and takes nothing from others.

use std::collections::HashMap;
use std::net::SocketAddr;

use molia_router::drops::Drop;
use molia_router::net::Transmit;
use molia_router::relay::Budget;
use molia_router::router::Config;
use molia_router::wire::Kind;
use molia_router::wire::body::RelayStatus;

use crate::data::{data, path};
use crate::known::{Known, Leg, channel, config, join, join_again};
use crate::support::Bench;

const MS: u64 = 1_000_000;

/// Bytes that arrived at each address while pairs offer `loads` datagrams of 1,000 bytes every 10 ms
/// for ten seconds, in a relay of 8 Mbit/s.
fn arrived(loads: &[u64]) -> Vec<usize> {
    let mut config = config();
    config.relay.router = Budget { bits_per_s: Some(8_000_000), burst_bytes: 32_000 };
    config.relay.peer = Budget { bits_per_s: None, burst_bytes: 1 << 20 };
    config.relay.prefix = Budget { bits_per_s: None, burst_bytes: 1 << 20 };
    let mut bench = Bench::with(config);
    let mut legs = Vec::new();
    let mut targets = Vec::new();
    for seed in (0..loads.len() as u64).map(|n| 10 * n) {
        let (from, to) = (format!("1.1.{seed}.1:4000"), format!("2.2.{seed}.2:5000"));
        let mut a = join(&mut bench, seed, &from);
        let mut b = join(&mut bench, seed + 1, &to);
        legs.push((from, channel(&mut bench, &mut a, &mut b).0));
        targets.push(to.parse::<SocketAddr>().unwrap());
    }
    let mut bytes: HashMap<SocketAddr, usize> = HashMap::new();
    for _ in 0..1000 {
        bench.advance(10 * MS);
        let now = bench.now;
        for ((from, leg), load) in legs.iter().zip(loads) {
            for _ in 0..*load {
                let mut buf = bench.receive_slot();
                assert!(buf.extend(&data(leg, 1000, 1)));
                for sent in bench.arrive(path(from), buf, 1000) {
                    *bytes.entry(sent.path.peer).or_default() += sent.buf.len();
                }
            }
        }
        bench.router.poll(now, &mut |it: Transmit| {
            *bytes.entry(it.path.peer).or_default() += it.buf.len();
        });
    }
    targets.iter().map(|to| bytes.get(to).copied().unwrap_or_default()).collect()
}

#[test]
fn a_greedy_pair_takes_nothing_from_others() {
    // 10 datagrams are what the relay can do in 10 ms; 2 each would be fair.
    let got = arrived(&[100, 1, 2, 2, 2]);
    let offered = |load: usize| load * 1000 * 1000;
    for (modest, load) in got[1..].iter().zip([1, 2, 2, 2]) {
        assert!(*modest * 10 >= offered(load) * 9, "{got:?}");
    }
    let all: usize = got.iter().sum();
    assert!((9_000_000..=10_200_000).contains(&all), "the budget is used up and kept: {got:?}");
}

#[test]
fn greedy_pairs_get_equal_shares() {
    let got = arrived(&[50, 10, 200, 1]);
    let (least, most) = (got[..3].iter().min().unwrap(), got[..3].iter().max().unwrap());
    assert!(*least * 10 >= *most * 9, "{got:?}");
    assert!(got[3] * 10 >= 1000 * 1000 * 9, "{got:?}");
}

/// A peer that is over its own budget is told so before anything of it is dropped.
#[test]
fn throttling_is_announced_before_data_is_dropped() {
    let mut bench = Bench::sharded(narrow(), 3);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let (of_a, _) = channel(&mut bench, &mut a, &mut b);
    assert_eq!(announced(&mut bench, &mut a, &of_a), 64_000);
}

/// Who has been known for an hour has twice the rate, by whichever of its keys.
#[test]
fn a_rate_goes_along_with_the_legs() {
    for shards in [1, 3] {
        let mut bench = Bench::sharded(narrow(), shards);
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        for _ in 0..14 {
            bench.advance(300 * 1000 * MS);
            a = join(&mut bench, 1, "1.1.1.1:4000");
        }
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, _) = channel(&mut bench, &mut a, &mut b);
        let mut a = join_again(&mut bench, &a, (1, 70), "4.4.4.4:4000");
        assert_eq!(announced(&mut bench, &mut a, &of_a), 128_000);
    }
}

fn narrow() -> Config {
    let mut config = config();
    config.relay.peer = Budget { bits_per_s: Some(64_000), burst_bytes: 20_000 };
    config
}

/// Has a peer send until data is dropped; the rate that it was told before.
fn announced(bench: &mut Bench, who: &mut Known, leg: &Leg) -> u64 {
    let mut told = None;
    for _ in 0..400 {
        let mut left = bench.deliver(who.peer.path(), &data(leg, 1000, 1));
        let due = bench.due();
        left.retain(|(to, _)| *to == who.peer.path());
        for bytes in left.into_iter().map(|(_, bytes)| bytes).chain(due) {
            if let Some((header, body)) = who.peer.try_frame(&bytes)
                && header.kind == Kind::RelayStatus.id()
            {
                let status = RelayStatus::read(&body).unwrap();
                assert_eq!(status.channel, leg.channel.id);
                told = status.throttled.then_some(status.rate_bps).or(told);
            }
        }
        if crate::data::dropped(bench, Drop::RelayBudget) > 0 {
            return told.expect("announced before anything is dropped");
        }
    }
    panic!("nothing was dropped")
}
