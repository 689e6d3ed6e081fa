//! What is measured: real shards and floors on loopback, each on one core with its load.
//!
//! The load generator shares the core of the servers. Server and generator take
//! turns, each batch is served in one go, and nothing is woken across cores,
//! which on small machines costs more than the datagram and varies more than
//! what is to be measured. Only the CPU time of the server's own thread counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use tuning::{Layers, Values};

use crate::config::{Config, Placement};
use crate::identity::Identity;
use crate::ids::WgKey;
use crate::partition::{self, Partition};
use crate::port::{
    Achieved, Engine, EngineChoice, Group, Socket, SocketConfig, Steering, prefer_batches,
};
use crate::router::{self, Router};
use crate::shard::{self, PortConfig, Shards, StoreConfig};
use crate::time::Now;
use crate::tunnel::wireguard::WireGuard;

use super::floor::{self, Floor};

/// What a server of the bench is told beyond the defaults. Every limit is there, is looked at for
/// every datagram, and is never reached.
const SETTINGS: [&str; 8] = [
    "limits/peer_pps=100000000",
    "limits/peer_bps=400000000000",
    "limits/prefix_pps=100000000",
    "limits/prefix_bps=400000000000",
    "admission/address_pps=100000000",
    "admission/address_burst=65536",
    "admission/prefix_pps=100000000",
    "wireguard/cookie_threshold_pps=100000000",
];

/// What a server that relays is told beside them: all of a fast line is for relayed data, and peers
/// on loopback may have it.
const RELAY_SETTINGS: [&str; 6] = [
    "relay/egress_capacity_bps=400000000000",
    "relay/egress_percent=100",
    "relay/prefix_bps=max",
    "relay/peer_bps=max",
    "relay/peer_burst_bytes=1073741824",
    "relay/allow_private=1",
];

/// Engines in the order of the table.
pub(super) const ENGINES: [EngineChoice; 2] = [EngineChoice::IoUring, EngineChoice::Mmsg];

/// Name of an engine in the table.
pub(super) const fn name(engine: EngineChoice) -> &'static str {
    match engine {
        EngineChoice::Auto => "auto",
        EngineChoice::IoUring => "io_uring",
        EngineChoice::Mmsg => "mmsg",
    }
}

/// A running router, of one shard unless told otherwise, whose limits are out of the way.
pub(super) struct Server {
    shards: Option<Shards>,
    pub(super) identity: Arc<Identity>,
    pub(super) key: WgKey,
    pub(super) partition: Partition,
}

/// Where the datagrams of several shards go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// To the shard that they name.
    Home,
    /// To the shard before it, every one of them.
    Neighbour,
}

impl Server {
    pub(super) fn start(
        cpu: usize,
        engine: EngineChoice,
        offloads: bool,
        router: router::Config,
        prepare: impl Fn(Now, &mut Router<WireGuard>) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        Self::launch(
            None,
            vec![cpu],
            vec![socket(offloads, config().socket().dscp)?],
            engine,
            offloads,
            router,
            prepare,
        )
    }

    /// A router with a shard on each of `cpus`.
    pub(super) fn start_sharded(cpus: Vec<usize>, delivery: Delivery) -> Result<Self, String> {
        let mut sockets = group(cpus.len())?;
        if delivery == Delivery::Neighbour {
            // The kernel knows sockets by their order, shards by the one they hold.
            sockets.rotate_left(1);
        }
        Self::launch(None, cpus, sockets, EngineChoice::Auto, true, unlimited(), |_, _| {})
    }

    /// A router that remembers.
    pub(super) fn start_with_store(
        cpu: usize,
        engine: EngineChoice,
        router: router::Config,
        store: StoreConfig,
        prepare: impl Fn(Now, &mut Router<WireGuard>) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let sockets = vec![socket(true, config().socket().dscp)?];
        Self::launch(Some(store), vec![cpu], sockets, engine, true, router, prepare)
    }

    fn launch(
        store: Option<StoreConfig>,
        cpus: Vec<usize>,
        sockets: Vec<Socket>,
        engine: EngineChoice,
        offloads: bool,
        router: router::Config,
        prepare: impl Fn(Now, &mut Router<WireGuard>) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let identity = Arc::new(Identity::generate(&mut random()?));
        let key = identity.wg_key();
        let count = u16::try_from(sockets.len()).unwrap_or(u16::MAX);
        let partition = Partition::new(count, identity.home_seed(), &identity.peer_id());
        let port = PortConfig { engine, ..config().port() };
        let mut cookie_secret = [0; 32];
        random()?.fill_bytes(&mut cookie_secret);
        let config = shard::Config {
            store,
            other_router: None,
            sockets,
            alternates: Vec::new(),
            cpus,
            port,
            router,
            turn_budget: config().settings().turn_budget,
            identity: Arc::clone(&identity),
            cookie_secret,
            counters: Vec::new(),
        };
        let shards = shard::spawn_prepared(config, prepare).map_err(|error| error.to_string())?;
        let server = Self { shards: Some(shards), identity, key, partition };
        // A fallback must not be measured under another name.
        let achieved = server.shards().achieved();
        if !runs(achieved, engine, offloads) {
            return Err(format!("{} does not run as asked for: {achieved:?}", name(engine)));
        }
        Ok(server)
    }

    fn shards(&self) -> &Shards {
        let Some(shards) = &self.shards else { panic!("the shards are taken only by drop") };
        shards
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.shards().local_addr()
    }

    /// CPU time of all its shards.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.shards().cpu_ns()
    }

    /// The engine that all its shards have.
    pub(super) fn engine(&self) -> Engine {
        self.shards().achieved().engine
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.take() {
            shards.stop();
            // Whatever ended it was noticed as missing answers.
            let _ = shards.join();
        }
    }
}

/// A floor server on the same kind of port.
pub(super) fn floor(cpu: usize, engine: EngineChoice, offloads: bool) -> Result<Floor, String> {
    let PortConfig { sizes, receive_slots, .. } = config().port();
    let socket = socket(offloads, 0)?;
    Floor::start(floor::Config { cpu, socket, engine, sizes, receive_slots })
}

/// What `run` would serve with, but for [`SETTINGS`].
fn config() -> Config {
    configured(&SETTINGS)
}

fn configured(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let values = Values::load(&Layers { sets: &sets, ..Layers::default() });
    let values = values.expect("the bench's settings are allowed ones");
    let placement = Placement { count: 1, cpus: Vec::new() };
    Config { values, directory: PathBuf::new(), identity: PathBuf::new(), placement }
}

/// A router that drops nothing for being too fast.
pub(super) fn unlimited() -> router::Config {
    config().router()
}

/// The same, and what is relayed passes it as fast.
pub(super) fn relaying() -> router::Config {
    configured(&[&SETTINGS[..], &RELAY_SETTINGS[..]].concat()).router()
}

fn socket(offloads: bool, dscp: u8) -> Result<Socket, String> {
    let bound = Socket::bind(&SocketConfig { dscp, ..loopback(offloads) });
    bound.map_err(|error| format!("opening a socket: {error}"))
}

/// Sockets of one port, which the kernel steers to.
fn group(shards: usize) -> Result<Vec<Socket>, String> {
    let bits = partition::bits(u16::try_from(shards).unwrap_or(u16::MAX));
    let Group { sockets, steering } = Socket::bind_group(&loopback(true), shards, bits, true)
        .map_err(|error| format!("opening {shards} sockets of one port: {error}"))?;
    match steering {
        Steering::None | Steering::Bpf => Ok(sockets),
        Steering::Hash(reason) => Err(format!("no steering here: {reason}")),
    }
}

fn loopback(offloads: bool) -> SocketConfig {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    SocketConfig { listen, gro: offloads, gso: offloads, ..config().socket() }
}

/// Pins the calling thread and the servers it starts to one CPU, where they take
/// turns: whoever is woken waits until the other one blocks.
pub(super) fn take_turns_on(cpu: usize) -> Result<(), String> {
    pin(cpu)?;
    prefer_batches().map_err(|error| format!("cannot schedule in batches: {error}"))
}

/// Pins the calling thread.
pub(super) fn pin(cpu: usize) -> Result<(), String> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(format!("cannot pin a thread to CPU {cpu}"))
    }
}

/// The last CPU that this process may use: the first one has most of the interrupts.
pub(super) fn last_cpu() -> Result<usize, String> {
    cpus().into_iter().max().ok_or_else(|| "no CPU to pin to".into())
}

/// The CPUs that this process may use.
pub(super) fn cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// A generator of its own seed.
pub(super) fn random() -> Result<ChaCha12Rng, String> {
    let mut seed = [0; 32];
    getrandom::getrandom(&mut seed).map_err(|error| error.to_string())?;
    Ok(ChaCha12Rng::from_seed(seed))
}

/// Whether the port is what was asked for.
fn runs(achieved: &Achieved, engine: EngineChoice, offloads: bool) -> bool {
    let same_engine = match engine {
        EngineChoice::Auto => true,
        EngineChoice::IoUring => achieved.engine == Engine::IoUring,
        EngineChoice::Mmsg => achieved.engine == Engine::Mmsg,
    };
    same_engine && achieved.gro == offloads && achieved.gso == offloads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_of_relaying_is_raised() {
        let sets = [&SETTINGS[..], &RELAY_SETTINGS[..]].concat();
        assert_eq!(configured(&sets).values.differences().len(), sets.len());
    }

    /// What is measured is what runs: the defaults, with the limits raised and none removed.
    #[test]
    fn the_bench_serves_as_a_router_does() {
        let defaults = Config {
            values: Values::default(),
            directory: PathBuf::new(),
            identity: PathBuf::new(),
            placement: Placement { count: 1, cpus: Vec::new() },
        };
        let (ours, theirs) = (config(), &defaults);
        assert_eq!(format!("{:?}", ours.port()), format!("{:?}", theirs.port()));
        assert_eq!(format!("{:?}", ours.socket()), format!("{:?}", theirs.socket()));
        let set = ours.values.differences().len();
        assert_eq!(set, SETTINGS.len(), "each differs from its default");
        let (mut ours, theirs) = (ours.router(), theirs.router());
        for rate in [ours.egress.limits.peer, ours.egress.limits.prefix] {
            assert!(rate.packets_per_s.is_some() && rate.bits_per_s.is_some(), "{rate:?}");
        }
        ours.egress.limits = theirs.egress.limits;
        ours.tunnel.admission = theirs.tunnel.admission;
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
