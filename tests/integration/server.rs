//! A router in this process, on loopback: its shards, and what their counters say.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use molia_router::bucket::Rate;
use molia_router::client::link::{Host, Link};
use molia_router::client::{Client, Options};
use molia_router::clock::Clock;
use molia_router::counters::layout::Id;
use molia_router::counters::{CountersView, Snapshot, file_name};
use molia_router::identity::Identity;
use molia_router::partition::{self, Partition};
use molia_router::port::{
    Achieved, Engine, EngineChoice, Group, Reason, Socket, SocketConfig, Steering,
};
use molia_router::router::{Config, Keeping, Role};
use molia_router::shard::{self, PortConfig, Shards, StartError, StoreConfig};
use peerstore::journal::Durability;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::fallback;

/// How long anything may take that should be there at once: the machine may be busy elsewhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` on the engine that this machine chooses, and on the one that every machine has.
pub(crate) fn on_every_engine(test: impl Fn(&Server)) {
    for engine in [EngineChoice::Auto, EngineChoice::Mmsg] {
        let server = Server::start(engine, "127.0.0.1:0").unwrap();
        test(&server);
        server.stop();
    }
}

/// The same two; one where io_uring is forbidden, since both would be the same.
pub(crate) fn engines() -> &'static [EngineChoice] {
    const ENGINES: [EngineChoice; 2] = [EngineChoice::Auto, EngineChoice::Mmsg];
    if fallback::is_run_without_uring() { &ENGINES[..1] } else { &ENGINES }
}

/// The `n`-th identity of a test.
pub(crate) fn identity(n: u64) -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(n))
}

/// What a router looks like from the outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) engine: EngineChoice,
    pub(crate) listen: &'static str,
    pub(crate) shards: u16,
    /// Whether the kernel gives data to the shard that its index names.
    pub(crate) steer: bool,
}

pub(crate) struct Server {
    shards: Shards,
    pub(crate) link: Link,
    /// The same router at its alternate port.
    pub(crate) alternate: Link,
    pub(crate) shape: Shape,
    pub(crate) partition: Partition,
    counters: Counters,
}

/// The folder with the shards' counter files, for as long as the router is looked at.
struct Counters(PathBuf);

impl Counters {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("molia-integration-{}-{n}", std::process::id());
        let folder = env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, shard: u16) -> PathBuf {
        self.0.join(file_name(shard.into()))
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // What is left in the system's folder for such things hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// A router of one shard.
    pub(crate) fn start(engine: EngineChoice, listen: &'static str) -> Result<Self, StartError> {
        Self::with(Shape { engine, listen, shards: 1, steer: true })
    }

    pub(crate) fn with(shape: Shape) -> Result<Self, StartError> {
        Self::in_role(shape, Role::default())
    }

    pub(crate) fn in_role(shape: Shape, role: Role) -> Result<Self, StartError> {
        Self::made(shape, role, None)
    }

    /// A router that remembers in `store`, which is divided for it.
    pub(crate) fn keeping(shape: Shape, store: StoreConfig) -> Result<Self, StartError> {
        let identity = identity(1);
        let partition = Partition::new(shape.shards, identity.home_seed(), &identity.peer_id());
        shard::divide(&store.directory, &partition, Clock::start().now().unix_s())?;
        Self::made(shape, Role::default(), Some(store))
    }

    /// Two routers at addresses of their own that answer STUN and help each other with reflection, or
    /// one of which thinks so.
    pub(crate) fn pair(engine: EngineChoice, mutual: bool) -> [Self; 2] {
        let shape = |listen| Shape { engine, listen, shards: 2, steer: true };
        let parts = [(1, "127.0.0.1:0"), (2, "127.0.0.2:0")].map(|(n, listen)| {
            let identity = identity(n);
            let shape = shape(listen);
            let sockets = bind(&shape);
            let address = sockets[0].local_addr();
            let (peer, key) = (identity.peer_id(), identity.wg_key());
            let link = Link { peer, host: Host::Ip(address.ip()), port: address.port(), key };
            (shape, identity, sockets, link)
        });
        let links = parts.each_ref().map(|(.., link)| link.clone());
        parts.map(|(shape, identity, sockets, own)| {
            let helped = mutual || own == links[0];
            let other = links.iter().find(|link| **link != own && helped).cloned();
            let router = Config { allow_private: true, stun: true, ..Config::default() };
            Self::of(shape, router, None, identity, sockets, other).unwrap()
        })
    }

    fn made(shape: Shape, role: Role, store: Option<StoreConfig>) -> Result<Self, StartError> {
        let router = Config { role, ..Config::default() };
        Self::of(shape, router, store, identity(1), bind(&shape), None)
    }

    fn of(
        shape: Shape,
        mut router: Config,
        store: Option<StoreConfig>,
        identity: Identity,
        sockets: Vec<Socket>,
        other_router: Option<Link>,
    ) -> Result<Self, StartError> {
        router.records.keeping = match store.as_ref().map(|store| store.journal.durability) {
            None => Keeping::Memory,
            Some(Durability::Strict) => Keeping::Strict,
            Some(Durability::Async | Durability::Group) => Keeping::Store,
        };
        router.tunnel.sessions_max = 1024;
        router.egress.sessions_max = 1024;
        // Every client of a test has the same address.
        router.tunnel.admission.address = Rate::new(10_000, 1000);
        let identity = Arc::new(identity);
        let (peer, key) = (identity.peer_id(), identity.wg_key());
        let partition = Partition::new(shape.shards, identity.home_seed(), &peer);
        let counters = Counters::new();
        let alternates = bind(&shape);
        let alternate = alternates[0].local_addr().port();
        let shards = shard::spawn(shard::Config {
            store,
            other_router,
            sockets,
            alternates,
            cpus: Vec::new(),
            port: PortConfig { engine: shape.engine, receive_slots: 64, ..PortConfig::default() },
            router,
            turn_budget: Duration::from_millis(1),
            identity,
            cookie_secret: [9; 32],
            counters: (0..shape.shards).map(|shard| counters.file(shard)).collect(),
        })?;
        if shape.engine == EngineChoice::Auto && env::var_os("MOLIA_REQUIRE_URING").is_some() {
            let achieved = shards.achieved();
            assert_eq!(achieved.engine, Engine::IoUring, "{:?}", achieved.missing);
        }
        let address = shards.local_addr();
        let link = Link { peer, host: Host::Ip(address.ip()), port: address.port(), key };
        let alternate = Link { port: alternate, ..link.clone() };
        Ok(Self { shards, link, alternate, shape, partition, counters })
    }

    /// The engine and what it lacks.
    pub(crate) fn achieved(&self) -> &Achieved {
        self.shards.achieved()
    }

    /// The threads that serve.
    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> std::ops::Range<u16> {
        0..self.shape.shards
    }

    /// A client that stays anonymous.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.link, None, Options::default()).unwrap()
    }

    /// A client that speaks through the key of `identity` and has shown it.
    pub(crate) fn connect_as(&self, identity: &Identity) -> Client {
        let mut client = Client::connect(&self.link, Some(identity), Options::default()).unwrap();
        client.negotiate(Some(identity)).unwrap();
        client
    }

    /// What a shard counted until now; it may publish the last of it only some milliseconds later.
    pub(crate) fn counters(&self, shard: u16) -> Snapshot {
        CountersView::open(&self.counters.file(shard)).unwrap().snapshot()
    }

    /// A series of every shard.
    pub(crate) fn each(&self, id: Id, labels: &[&str]) -> Vec<u64> {
        self.numbers().map(|shard| self.counters(shard).value(id, labels).unwrap()).collect()
    }

    /// A series of all shards together.
    pub(crate) fn sum(&self, id: Id, labels: &[&str]) -> u64 {
        self.each(id, labels).iter().sum()
    }

    /// Waits until a series of the shards has come to be `expected`, by shard.
    pub(crate) fn await_each(&self, id: Id, labels: &[&str], expected: &[u64]) {
        let what = format!("{} {labels:?} of {:?}", id.metric().name, self.shape);
        eventually(&what, || {
            let is = self.each(id, labels);
            if is == expected { Ok(()) } else { Err(format!("{is:?}, not {expected:?}")) }
        });
    }

    pub(crate) fn stop(self) {
        self.end().unwrap();
    }

    /// Stops it; what the first of the shards to fail says.
    pub(crate) fn end(self) -> std::io::Result<()> {
        assert!(self.shards.are_alive(), "nothing a peer does ends a shard");
        self.shards.stop();
        self.shards.join()
    }
}

fn bind(shape: &Shape) -> Vec<Socket> {
    let (config, shards) = (SocketConfig::new(shape.listen.parse().unwrap()), shape.shards);
    let bits = partition::bits(shards);
    let Group { sockets, steering } =
        Socket::bind_group(&config, shards.into(), bits, shape.steer).unwrap();
    let expected = match (shards, shape.steer) {
        (1, _) => Steering::None,
        (_, true) => Steering::Bpf,
        (_, false) => Steering::Hash(Reason::Disabled),
    };
    assert_eq!(steering, expected);
    sockets
}

/// Asks until the answer is good.
pub(crate) fn eventually(what: &str, mut good: impl FnMut() -> Result<(), String>) {
    let clock = Clock::start();
    let end = clock.moment() + PATIENCE;
    while let Err(so_far) = good() {
        assert!(clock.moment() < end, "{what}: {so_far}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
