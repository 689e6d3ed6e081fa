//! Lookups from router to router, over real sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use molia_router::bucket::Rate;
use molia_router::client::link::{Host, Link};
use molia_router::client::lookup::{Contact, End, Goal, Outcome};
use molia_router::client::{Client, Options, OwnedRecord, Swarm};
use molia_router::identity::Identity;
use molia_router::ids::{Key, PeerId};
use molia_router::port::{EngineChoice, Socket, SocketConfig};
use molia_router::router::{Config, RestoredPeer, Router};
use molia_router::shard::{self, PortConfig, Shards};
use molia_router::time::Now;
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::wire::body::{Addrs, Entry, Peer};
use molia_router::wire::{StoreCode, multiaddr};

use super::server::{PATIENCE, eventually, identity};

const HOUR: Duration = Duration::from_secs(3600);

/// Some routers, each of which lists some of the others.
struct Fleet {
    shards: Vec<Shards>,
    contacts: Vec<Contact>,
}

/// Lists a router with another before that one serves.
fn list(router: &mut Router<WireGuard>, now: Now, contact: &Contact) {
    let Contact { peer, key, address } = contact;
    let observed = [multiaddr::encode(*address)];
    let addrs = Addrs::of(&observed);
    let peer = Peer { peer_id: *peer, addrs, rtt_ms: 0, wg_public: *key, flags: 0 };
    let encoded = Entry::encode(&peer).unwrap();
    let restored = RestoredPeer {
        id: peer.peer_id,
        key: peer.wg_public,
        encoded: encoded.as_ref(),
        met_unix_s: now.unix_s() - 3600,
        heard_unix_s: now.unix_s(),
    };
    assert!(router.restore_peer(now, &restored));
}

impl Fleet {
    /// `knows(a, b)`: whether `a` lists `b`.
    fn start(routers: u64, knows: impl Fn(usize, usize) -> bool) -> Self {
        let identities: Vec<Arc<Identity>> =
            (0..routers).map(|n| Arc::new(identity(7000 + n))).collect();
        let bind =
            |_: &_| Socket::bind(&SocketConfig::new("127.0.0.1:0".parse().unwrap())).unwrap();
        let sockets: Vec<Socket> = identities.iter().map(bind).collect();
        let contact = |(who, socket): (&Arc<Identity>, &Socket)| Contact {
            peer: who.peer_id(),
            key: who.wg_key(),
            address: socket.local_addr(),
        };
        let contacts: Vec<Contact> = identities.iter().zip(&sockets).map(contact).collect();
        let all = identities.into_iter().zip(sockets).enumerate();
        let shards = all.map(|(n, (who, socket))| {
            let others = contacts.iter().enumerate().filter(|(other, _)| knows(n, *other));
            start(who, socket, others.map(|(_, contact)| *contact).collect())
        });
        Self { shards: shards.collect(), contacts }
    }

    fn swarm(&self, first: usize) -> Swarm {
        let mut swarm = Swarm::new(None).unwrap();
        swarm.know(self.contacts[first]);
        swarm
    }

    fn store(&self, at: usize, record: &OwnedRecord) {
        let Contact { peer, key, address } = self.contacts[at];
        let link = Link { peer, host: Host::Ip(address.ip()), port: address.port(), key };
        let who = identity(1);
        let mut client = Client::connect(&link, Some(&who), Options::default()).unwrap();
        client.negotiate(Some(&who)).unwrap();
        assert_eq!(client.store(&record.borrowed()).unwrap().code, StoreCode::Ok);
    }

    /// The router closest to a point.
    fn closest(&self, target: &PeerId) -> usize {
        let all = 0..self.contacts.len();
        all.min_by_key(|n| self.contacts[*n].peer.distance(target)).unwrap()
    }

    fn stop(self) {
        self.shards.iter().for_each(Shards::stop);
        self.shards.into_iter().for_each(|shards| shards.join().unwrap());
    }
}

fn start(identity: Arc<Identity>, socket: Socket, others: Vec<Contact>) -> Shards {
    let mut router = Config::default();
    router.tunnel.sessions_max = 256;
    router.egress.sessions_max = 256;
    router.records.stamp_bits = 4;
    router.tunnel.admission.address = Rate::new(10_000, 1000);
    let engine = EngineChoice::Mmsg;
    let config = shard::Config {
        store: None,
        other_router: None,
        sockets: vec![socket],
        alternates: Vec::new(),
        cpus: Vec::new(),
        port: PortConfig { engine, receive_slots: 64, ..PortConfig::default() },
        router,
        turn_budget: Duration::from_millis(1),
        identity,
        cookie_secret: [9; 32],
        counters: Vec::new(),
    };
    let others = Mutex::new(others);
    let prepare = move |now, router: &mut Router<WireGuard>| {
        others.lock().unwrap().iter().for_each(|other| list(router, now, other));
    };
    shard::spawn_prepared(config, prepare).unwrap()
}

/// Looks up until what it comes to is good: a busy machine may take a node for dead that is slow.
fn look_up(
    mut swarm: impl FnMut() -> Swarm,
    goal: Goal,
    good: impl Fn(&Outcome) -> bool,
) -> Outcome {
    let mut last = None;
    eventually("a lookup", || {
        let outcome = swarm().look_up(goal, PATIENCE).unwrap();
        let told = format!("{outcome:?}");
        let good = good(&outcome);
        last = Some(outcome);
        if good { Ok(()) } else { Err(told) }
    });
    last.unwrap()
}

/// Everyone lists the next two, so that the last is as many hops away as it can be.
fn chain(routers: u64) -> Fleet {
    Fleet::start(routers, |a, b| (a + 1..=a + 2).contains(&b))
}

#[test]
fn nodes_and_values_many_hops_away_are_found() {
    let fleet = chain(8);
    let far = fleet.contacts[7];
    let found = |goal, good: &dyn Fn(&Outcome) -> bool| look_up(|| fleet.swarm(0), goal, good);
    found(Goal::Node(far.peer), &|it| {
        it.end == End::Closest
            && it.closest[0] == far
            && it.stats.hops >= 4
            && (it.stats.failed, it.stats.asked) == (0, 8)
    });
    let value: Vec<u8> = (0..3000_u32).map(|n| n.to_be_bytes()[3]).collect();
    for record in [
        OwnedRecord::immutable(value.clone(), HOUR),
        OwnedRecord::named(&identity(1), b"name", value, 5, 0, HOUR),
    ] {
        fleet.store(7, &record);
        let outcome = found(Goal::Value(record.key), &|it| it.end == End::Found);
        assert_eq!((outcome.record, outcome.holders), (Some(record), vec![far.peer]));
    }
    let nothing = found(Goal::Value(Key([9; 32])), &|it| it.stats.answered == 8);
    assert_eq!((nothing.end, nothing.record), (End::Closest, None));
    fleet.stop();
}

#[test]
fn a_walk_goes_around_the_dead_and_the_false() {
    let mut fleet = chain(6);
    let gone = fleet.shards.remove(1);
    gone.stop();
    gone.join().unwrap();
    let target = fleet.contacts[5].peer;
    let good = |it: &Outcome| it.closest[0].peer == target && it.stats.answered == 5;
    look_up(|| fleet.swarm(0), Goal::Node(target), good);

    // Another router's key and address do not make it who it is said to be.
    let stranger = Contact { peer: PeerId([7; 32]), ..fleet.contacts[2] };
    let mut swarm = fleet.swarm(0);
    swarm.know(stranger);
    let outcome = swarm.look_up(Goal::Node(stranger.peer), PATIENCE).unwrap();
    assert!(outcome.closest.iter().all(|it| it.peer != stranger.peer), "{outcome:?}");
    fleet.stop();
}

#[test]
fn where_nobody_is_nobody_answers() {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let who = identity(7100);
    let mut swarm = Swarm::new(None).unwrap();
    swarm.know(Contact { peer: who.peer_id(), key: who.wg_key(), address: nobody });
    let outcome = swarm.look_up(Goal::Node(PeerId([1; 32])), PATIENCE).unwrap();
    assert_eq!((outcome.end, outcome.stats.asked), (End::Deserted, 1));
}

#[test]
fn one_swarm_looks_up_again_and_again() {
    let fleet = Fleet::start(5, |a, b| a != b);
    let mut swarm = fleet.swarm(0);
    for n in 0..10 {
        let target = PeerId([n * 25; 32]);
        let closest = fleet.contacts[fleet.closest(&target)];
        eventually("the closest of all", || {
            let outcome = swarm.look_up(Goal::Node(target), PATIENCE).unwrap();
            let good = outcome.closest.first() == Some(&closest);
            if good { Ok(()) } else { Err(format!("{outcome:?}")) }
        });
    }
    fleet.stop();
}
