//! What is measured: real shards and floors on loopback, all threads on one core.
//!
//! The load generator shares the core of the servers. Server and generator take
//! turns, each batch is served in one go, and nothing is woken across cores,
//! which on small machines costs more than the datagram and varies more than
//! what is to be measured. Only the CPU time of the server's own thread counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bufpool::Hugepages;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::bucket::Rate;
use crate::identity::Identity;
use crate::ids::WgKey;
use crate::port::{
    Achieved, Engine, EngineChoice, EngineConfig, Socket, SocketConfig, prefer_batches,
};
use crate::router::Router;
use crate::shard::{self, Handle, PortConfig, ShardConfig};
use crate::time::Now;
use crate::tunnel::wireguard::WireGuard;
use crate::{admission, egress, router};

use super::fleet::BURST;
use super::floor::{self, Floor};

/// Receive slots of a server; twice what is posted to the kernel.
const RECEIVE_SLOTS: usize = 64;
/// Nobody reaches this.
const UNLIMITED: Rate = Rate::new(1_000_000_000, 1_000_000_000);

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

/// A running shard whose limits are out of the way.
pub(super) struct Server {
    handle: Option<Handle>,
    pub(super) key: WgKey,
}

impl Server {
    pub(super) fn start(
        cpu: usize,
        engine: EngineChoice,
        offloads: bool,
        router: router::Config,
        prepare: impl FnOnce(Now, &mut Router<WireGuard>) + Send + 'static,
    ) -> Result<Self, String> {
        let identity = Arc::new(Identity::generate(&mut random()?));
        let key = identity.wg_key();
        let port = PortConfig {
            engine,
            sizes: EngineConfig::default(),
            receive_slots: RECEIVE_SLOTS,
            hugepages: Hugepages::Auto,
        };
        let mut cookie_secret = [0; 32];
        random()?.fill_bytes(&mut cookie_secret);
        let config = ShardConfig {
            shard: 0,
            cpu: Some(cpu),
            socket: socket(offloads)?,
            port,
            router,
            identity,
            cookie_secret,
            counters: None,
        };
        let handle = shard::spawn_prepared(config, prepare).map_err(|error| error.to_string())?;
        let server = Self { handle: Some(handle), key };
        // A fallback must not be measured under another name.
        let achieved = server.handle().achieved();
        if !runs(achieved, engine, offloads) {
            return Err(format!("{} does not run as asked for: {achieved:?}", name(engine)));
        }
        Ok(server)
    }

    fn handle(&self) -> &Handle {
        let Some(handle) = &self.handle else { panic!("the handle is taken only by drop") };
        handle
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.handle().local_addr()
    }

    pub(super) fn cpu_ns(&self) -> u64 {
        self.handle().cpu_ns()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop();
            // Whatever ended it was noticed as missing answers.
            let _ = handle.join();
        }
    }
}

/// A floor server on the same kind of port.
pub(super) fn floor(cpu: usize, engine: EngineChoice, offloads: bool) -> Result<Floor, String> {
    Floor::start(floor::Config {
        cpu,
        socket: socket(offloads)?,
        engine,
        sizes: EngineConfig::default(),
        receive_slots: RECEIVE_SLOTS,
    })
}

/// A router that drops nothing for being too fast.
pub(super) fn unlimited() -> router::Config {
    let mut config = router::Config::default();
    config.tunnel.admission = admission::Config {
        cookie_threshold_pps: 1_000_000_000,
        address: UNLIMITED,
        prefix: UNLIMITED,
        ..admission::Config::default()
    };
    config.tunnel.handshakes_per_turn = 64;
    config.tunnel.handshake_queue = 2 * BURST;
    config.egress.limits.peer = egress::Rate { packets_per_s: None, bits_per_s: None };
    config.egress.limits.prefix = egress::Rate { packets_per_s: None, bits_per_s: None };
    config
}

fn socket(offloads: bool) -> Result<Socket, String> {
    let config = SocketConfig {
        rcvbuf_bytes: 8 << 20,
        sndbuf_bytes: 4 << 20,
        gro: offloads,
        gso: offloads,
        ..SocketConfig::new((Ipv4Addr::LOCALHOST, 0).into())
    };
    Socket::bind(&config).map_err(|error| format!("opening a socket: {error}"))
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
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    allowed.iter().map(|core| core.id).max().ok_or_else(|| "no CPU to pin to".into())
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
