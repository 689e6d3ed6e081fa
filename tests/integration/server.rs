//! A shard in this process, on loopback.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use molia_router::bucket::Rate;
use molia_router::client::link::{Host, Link};
use molia_router::client::{Client, Options};
use molia_router::identity::Identity;
use molia_router::port::{Achieved, Engine, EngineChoice, Socket, SocketConfig};
use molia_router::router::Config;
use molia_router::shard::{self, PortConfig, Shards, StartError};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Runs `test` on the engine that this machine chooses, and on the one that every machine has.
pub(crate) fn on_every_engine(test: impl Fn(&Server)) {
    for engine in [EngineChoice::Auto, EngineChoice::Mmsg] {
        let server = Server::start(engine, "127.0.0.1:0").unwrap();
        if engine == EngineChoice::Auto && env::var_os("MOLIA_REQUIRE_URING").is_some() {
            let achieved = server.achieved();
            assert_eq!(achieved.engine, Engine::IoUring, "{:?}", achieved.missing);
        }
        test(&server);
        server.stop();
    }
}

/// The `n`-th identity of a test.
pub(crate) fn identity(n: u64) -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(n))
}

pub(crate) struct Server {
    shards: Shards,
    pub(crate) link: Link,
}

impl Server {
    pub(crate) fn start(engine: EngineChoice, listen: &str) -> Result<Self, StartError> {
        let mut router = Config::default();
        router.tunnel.sessions_max = 1024;
        router.egress.sessions_max = 1024;
        // Every client of a test has the same address.
        router.tunnel.admission.address = Rate::new(10_000, 1000);
        let identity = Arc::new(identity(1));
        let (peer, key) = (identity.peer_id(), identity.wg_key());
        let shards = shard::spawn(shard::Config {
            sockets: vec![Socket::bind(&SocketConfig::new(listen.parse().unwrap())).unwrap()],
            cpus: Vec::new(),
            port: PortConfig { engine, receive_slots: 64, ..PortConfig::default() },
            router,
            turn_budget: Duration::from_millis(1),
            identity,
            cookie_secret: [9; 32],
            counters: Vec::new(),
        })?;
        let address = shards.local_addr();
        let link = Link { peer, host: Host::Ip(address.ip()), port: address.port(), key };
        Ok(Self { shards, link })
    }

    /// The engine and what it lacks.
    pub(crate) fn achieved(&self) -> &Achieved {
        self.shards.achieved()
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

    pub(crate) fn stop(self) {
        assert!(self.shards.are_alive(), "nothing a peer does ends a shard");
        self.shards.stop();
        self.shards.join().unwrap();
    }
}
