//! A laboratory in virtual time: two nodes, their NATs, a router, and a network that loses and delays.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "small numbers, and events that a test does not look at"
)]

pub(super) mod nat;
mod open;
mod router;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::{Endpoint, Event, Options, Path};
use crate::client::fake::identity;
use crate::client::link::{Host, Link};
use crate::client::peer::Peer;
use crate::client::requests::Requests;
use crate::client::session::{Config, Session};
use crate::identity::Identity;
use crate::ids::PeerId;
use crate::time::{Moment, Now};
use crate::wire::probe;
use nat::{Kind, Nat};
use open::Open;
use router::Router;

/// When the laboratory begins, by the wall clock.
const UNIX_S: u64 = 1_700_000_000;
/// One way.
const DELAY: Duration = Duration::from_millis(20);
const JITTER: Duration = Duration::from_millis(5);

/// A datagram on its way: when it arrives, its number, and the rest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight(u64, u64, SocketAddr, SocketAddr, Vec<u8>);

pub(super) struct Node {
    pub(super) endpoint: Endpoint<Open>,
    pub(super) id: PeerId,
    inside: SocketAddr,
    nat: usize,
    pub(super) events: Vec<(Moment, Event)>,
}

impl Node {
    pub(super) fn received(&self) -> Vec<Vec<u8>> {
        let payload = |(_, event): &(Moment, Event)| match event {
            Event::Received(_, payload) => Some(payload.clone()),
            _ => None,
        };
        self.events.iter().filter_map(payload).collect()
    }

    /// When it was connected first, and how.
    pub(super) fn connected(&self) -> Option<(Moment, Path)> {
        self.events.iter().find_map(|(at, event)| match event {
            Event::Connected(_, path) => Some((*at, *path)),
            _ => None,
        })
    }
}

pub(super) struct Lab {
    pub(super) now: Moment,
    pub(super) nodes: Vec<Node>,
    pub(super) nats: Vec<Nat>,
    pub(super) router: Router,
    flights: BinaryHeap<Reverse<Flight>>,
    rng: ChaCha12Rng,
    count: u64,
    /// Datagrams lost, in thousandths.
    pub(super) loss: u64,
    /// Nothing passes but to and from the router.
    pub(super) only_router: bool,
    /// Between the nodes, nothing passes but probes.
    pub(super) only_probes: bool,
}

/// Who two nodes are and where they stand.
pub(super) struct Setup {
    pub(super) kinds: [Kind; 2],
    pub(super) options: [Options; 2],
    pub(super) same_nat: bool,
    pub(super) seed: u64,
}

impl Setup {
    pub(super) fn of(kinds: [Kind; 2], seed: u64) -> Self {
        let options = [Options::default(), Options::default()];
        Self { kinds, options, same_nat: false, seed }
    }
}

impl Lab {
    pub(super) fn new(setup: Setup) -> Self {
        let rng = ChaCha12Rng::seed_from_u64(setup.seed);
        let public = |n: u8| IpAddr::from([203, 0, 113, n]);
        let router = Router::new(SocketAddr::new(public(1), 7743));
        let nats = setup.kinds.iter().zip(10..).map(|(kind, n)| Nat::new(*kind, public(n)));
        let mut lab = Self {
            now: Moment::START,
            nodes: Vec::new(),
            nats: nats.collect(),
            router,
            flights: BinaryHeap::new(),
            rng,
            count: 0,
            loss: 0,
            only_router: false,
            only_probes: false,
        };
        for (at, options) in setup.options.into_iter().enumerate() {
            // Which of the two has the lower id depends on the seed.
            let who = identity(10 + (setup.seed * 2 + at as u64) % 14);
            let nat = if setup.same_nat { 0 } else { at };
            let inside = match setup.kinds[nat] {
                Kind::None | Kind::Firewall => SocketAddr::new(public(10 + nat as u8), 5000),
                _ => SocketAddr::from(([192, 168, 1, 2 + at as u8], 5000)),
            };
            lab.add(Arc::new(who), options, inside, nat);
        }
        lab
    }

    pub(super) fn inside(at: u8) -> SocketAddr {
        SocketAddr::from(([192, 168, 1, 2 + at], 5000))
    }

    fn add(&mut self, who: Arc<Identity>, options: Options, inside: SocketAddr, nat: usize) {
        let mut fork = || ChaCha12Rng::seed_from_u64(self.rng.next_u64());
        let config = Config {
            handshake_patience: Duration::from_secs(5),
            keepalive: Some(Duration::from_secs(20)),
        };
        let session = Session::new(Open::new(who.wg_key()), config, fork());
        let peer = Peer::new(session, Requests::new(fork()), self.router.address);
        let link = Link {
            peer: self.router.identity.peer_id(),
            host: Host::Ip(self.router.address.ip()),
            port: self.router.address.port(),
            key: self.router.identity.wg_key(),
        };
        let id = who.peer_id();
        let endpoint =
            Endpoint::new(self.now, link, self.router.address, peer, (who, options), fork());
        self.nodes.push(Node { endpoint, id, inside, nat, events: Vec::new() });
    }

    /// Both nodes know their router.
    pub(super) fn settle(&mut self) {
        for _ in 0..40 {
            self.run(Duration::from_millis(100));
            if self.nodes.iter().all(|node| node.endpoint.is_ready()) {
                return;
            }
        }
        panic!("the router does not answer");
    }

    /// The first node looks for the second.
    pub(super) fn connect(&mut self) {
        let target = self.nodes[1].id;
        self.nodes[0].endpoint.connect(self.now, target, &[]);
        self.pump(0);
    }

    pub(super) fn send(&mut self, from: usize, payload: &[u8]) {
        let to = self.nodes[1 - from].id;
        self.nodes[from].endpoint.send(self.now, &to, payload).unwrap();
        self.pump(from);
    }

    pub(super) fn path(&self, at: usize) -> Option<Path> {
        self.nodes[at].endpoint.pair(&self.nodes[1 - at].id)?.path()
    }

    /// Runs until both are connected and `wanted` holds, for so long at most; how long it took.
    pub(super) fn until(
        &mut self,
        most: Duration,
        wanted: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let started = self.now;
        while self.now.since(started) < most {
            if wanted(self) {
                return Some(self.now.since(started));
            }
            self.run(Duration::from_millis(10));
        }
        wanted(self).then(|| self.now.since(started))
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        (0..self.nodes.len()).for_each(|at| self.pump(at));
        loop {
            let flight = self.flights.peek().map_or(Moment::NEVER, |it| Moment::from_nanos(it.0.0));
            let nodes = self.nodes.iter().map(|it| it.endpoint.next_deadline(self.now));
            let next =
                nodes.min().unwrap_or(Moment::NEVER).min(flight).min(self.router.next_deadline());
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(Reverse(flight)) = self.flights.peek()
            && flight.0 <= self.now.as_nanos()
        {
            if let Some(Reverse(Flight(_, _, from, to, datagram))) = self.flights.pop() {
                self.arrive(from, to, &datagram);
            }
        }
        self.router.tick(self.now);
        self.dispatch_router();
        for at in 0..self.nodes.len() {
            if self.nodes[at].endpoint.next_deadline(self.now) <= self.now {
                self.pump(at);
                let next = self.nodes[at].endpoint.next_deadline(self.now);
                assert!(next > self.now, "a deadline passed and nothing was done");
            }
        }
    }

    fn clock(&self) -> Now {
        let since = self.now.since(Moment::START).as_millis() as u64;
        Now { at: self.now, unix_ms: UNIX_S * 1000 + since }
    }

    fn pump(&mut self, at: usize) {
        let now = self.clock();
        while let Some(transmit) = self.nodes[at].endpoint.poll_transmit(now) {
            let (inside, nat) = (self.nodes[at].inside, self.nodes[at].nat);
            let local = self.nodes.iter().any(|it| it.nat == nat && it.inside == transmit.to);
            let from = if local { inside } else { self.nats[nat].outward(inside, transmit.to) };
            self.fly(from, transmit.to, transmit.datagram);
        }
        while let Some(event) = self.nodes[at].endpoint.poll_event() {
            self.nodes[at].events.push((self.now, event));
        }
    }

    fn dispatch_router(&mut self) {
        for (to, datagram) in self.router.take() {
            self.fly(self.router.address, to, datagram);
        }
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        let router = self.router.address;
        let between = from != router && to != router;
        let filtered = self.only_probes && datagram.first() != Some(&probe::PUNCH);
        let blocked = between && (self.only_router || filtered);
        if blocked || self.rng.next_u64() % 1000 < self.loss {
            return;
        }
        let jitter = self.rng.next_u64() % JITTER.as_nanos() as u64;
        let at = self.now + DELAY + Duration::from_nanos(jitter);
        self.count += 1;
        self.flights.push(Reverse(Flight(at.as_nanos(), self.count, from, to, datagram)));
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if to == self.router.address {
            self.router.receive(self.now, from, datagram);
            return self.dispatch_router();
        }
        let inside = |it: &Node| it.inside == to && it.inside.ip() == from.ip();
        let local = from.ip().to_string().starts_with("192.168.") || self.nodes.iter().any(inside);
        let at = if local {
            self.nodes.iter().position(|it| it.inside == to)
        } else {
            self.behind(from, to)
        };
        if let Some(at) = at {
            let now = self.clock();
            self.nodes[at].endpoint.receive(now, from, datagram);
            self.pump(at);
        }
    }

    /// The node that a datagram from outside reaches, through its NAT.
    fn behind(&mut self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        let public =
            |node: &Node, nats: &[Nat]| nats[node.nat].address(node.inside).ip() == to.ip();
        let nat = self.nodes.iter().find(|it| public(it, &self.nats))?.nat;
        let inside = self.nats[nat].inward(from, to)?;
        self.nodes.iter().position(|it| it.nat == nat && it.inside == inside)
    }
}
