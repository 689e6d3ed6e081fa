//! What relaying costs in memory: nothing per datagram, little per channel, nothing per turn for
//! channels that are silent.

use molia_router::net::{Datagram, Transmit};
use molia_router::relay::{Budget, Config, Relay};
use molia_router::router::Router;
use molia_router::tunnel::wireguard::WireGuard;

use crate::data::{data, path};
use crate::known::{channel, config, join};
use crate::support::Bench;

/// Lets a run of three datagrams arrive; how many datagrams left because of it.
fn relay(bench: &mut Bench, from: &str, run: &[u8], segment: usize) -> usize {
    let mut buf = bench.receive_slot();
    assert!(buf.extend(run));
    let datagram = Datagram { path: path(from), buf, segment };
    bench.advance(1_000_000);
    let now = bench.now;
    let mut left = 0;
    let mut outlet = |transmit: Transmit| left += transmit.datagrams();
    assert!(bench.router.receive(now, datagram, &mut outlet).is_none());
    bench.router.transmit(now, &mut outlet);
    if bench.router.next_deadline() <= now.at {
        bench.router.poll(now, &mut outlet);
    }
    left
}

#[test]
fn nothing_is_allocated_per_datagram() {
    const MEASURED: usize = 2000;
    for budget in [None, Some(2_000_000)] {
        let mut config = config();
        config.relay.router.bits_per_s = None;
        config.relay.peer = Budget { bits_per_s: budget, burst_bytes: 100_000 };
        config.relay.prefix.bits_per_s = None;
        let mut bench = Bench::with(config);
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, _) = channel(&mut bench, &mut a, &mut b);
        let run = [data(&of_a, 300, 1), data(&of_a, 300, 2), data(&of_a, 300, 3)].concat();
        let mut mixed = run.clone();
        mixed[300] = 9;
        let mut left = 0;
        let both = |bench: &mut Bench| {
            relay(bench, "1.1.1.1:4000", &run, 300) + relay(bench, "1.1.1.1:4000", &mixed, 300)
        };
        (0..100).for_each(|_| left += both(&mut bench));
        let memory = allocation_counter::measure(|| {
            (0..MEASURED).for_each(|_| left += both(&mut bench));
        });
        assert_eq!(memory.count_total, 0, "{budget:?}: allocations for {left} datagrams");
        let waited = bench.router.relay().stats().enqueued;
        assert_eq!(waited > 1000, budget.is_some(), "{budget:?}: {waited} of {left} waited");
    }
}

/// State per channel, all tables of the relay counted, that of its two peers too.
#[test]
fn a_channel_takes_little_memory() {
    let sized = |channels_max| Relay::bytes(&Config { channels_max, ..Config::default() });
    let each = (sized(200_000) - sized(100_000)) / 100_000;
    assert!(each <= 256, "{each} bytes for a channel and its two members");
    let of_router = |channels_max| {
        let mut config = config();
        config.relay.channels_max = channels_max;
        Router::<WireGuard>::bytes(&config)
    };
    assert!(of_router(200_000) - of_router(100_000) <= 256 * 100_000);
}
