//! The relay against models that a reader can check by eye.

mod budgets;
mod fairness;
mod lives;
mod model;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};

use super::*;
use crate::ids::SessionRef;
use crate::net::Local;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn pool(slots: usize) -> Pool {
    Pool::new(PoolConfig {
        slot_bytes: 2048,
        slots,
        headroom: 0,
        hugepages: Hugepages::Off,
        prefault: false,
    })
    .unwrap()
}

fn at(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn peer(n: u16) -> PeerId {
    let mut id = [0xab; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    PeerId(id)
}

/// Peers of one `subnet` share a /24.
fn path(subnet: u8, host: u8) -> Path {
    let peer = SocketAddr::from((Ipv4Addr::new(198, 51, subnet, host), 7000));
    let ip = Some(Ipv4Addr::new(203, 0, 113, host & 1).into());
    Path { peer, local: Local { ip, ..Local::default() } }
}

fn home(n: u16) -> HomeRef {
    HomeRef { shard: n & 1, session: SessionRef { slot: n.into(), generation: 1 } }
}

/// The proven peer `n`, in a /24 of its own.
fn member(n: u16) -> Member {
    let [high, low] = n.to_be_bytes();
    Member {
        peer: peer(n),
        home: home(n),
        path: path(low, high),
        proven: true,
        proven_at: Moment::START,
        reachable: true,
        factor: 1,
        network: Prefix::of(path(low, high).peer.ip()),
    }
}

const UNLIMITED: Budget = Budget { bits_per_s: None, burst_bytes: 0 };

/// `bytes` a second.
fn budget(bytes: u64, burst_bytes: u64) -> Budget {
    Budget { bits_per_s: Some(8 * bytes), burst_bytes }
}

/// A small relay without limits.
fn config() -> Config {
    Config {
        channels_max: 64,
        channels_per_peer: 8,
        router: UNLIMITED,
        prefix: UNLIMITED,
        peer: UNLIMITED,
        waiting_max: 256,
        ..Config::default()
    }
}

fn relay(config: Config) -> Relay {
    Relay::new(config, [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03])
}

fn data(pool: &Pool, bytes: usize, content: u32) -> Buf {
    let mut buf = pool.take().unwrap();
    let mut datagram = vec![0; bytes.max(4)];
    datagram[..4].copy_from_slice(&content.to_be_bytes());
    assert!(buf.extend(&datagram));
    buf
}

fn content(buf: &Buf) -> u32 {
    u32::from_be_bytes(buf[..4].try_into().unwrap())
}

/// Everything there is to tell.
fn events(relay: &mut Relay, now: Moment) -> Vec<Event> {
    std::iter::from_fn(|| relay.poll(now)).collect()
}
