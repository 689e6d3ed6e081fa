//! Unmodified WireGuard peers through the relay: a UDP port for each leg instead of a channel header.
//!
//! A pair of peers has two legs, each with a port of this router, which is the Endpoint that the
//! leg's peer is configured with: what comes to a leg's port leaves by the other leg's. The router
//! has no session with these tunnels, and knows who is where only by what they show:
//!
//! * A handshake initiation with a valid mac1 for the *other* side's key makes its source a candidate
//!   of the leg. mac1 takes a public key, no secret: so nothing more goes to a candidate than
//!   came from it, and of that only handshake messages.
//! * The other side's answer to that initiation is one word that the candidate is the leg's peer. It goes to
//!   the candidate; the first data that names the index in it shows that the candidate got it, and
//!   binds the leg to it.
//! * While a bound address is silent, initiations of the other side go to the candidates in turn with it, each to one
//!   address. An answer from there may be anybody's; but only the other side can tell whether it is
//!   genuine, and if so its next data names the index in it, which binds the leg. So two peers get
//!   together that are both unbound. Two strangers do not, where there was a peer before: one of
//!   the two has to be bound, or where its peer's session or bound address is, whatever the port.
//! * Whoever owns both peers knows all these words without receiving any. So an address has to be proven:
//!   the peer's session was there when ports were asked for, or a handshake message shows, by
//!   WireGuard's own mac2, a cookie that this router sent there in the name of the other side. A stock peer
//!   comes again with it after five seconds. After some minutes that is due again, with a handshake
//!   message: peers shake hands every two minutes, a minute before their keys end.
//!
//! * Data from elsewhere that names the index which the bound address named makes a candidate as well: a
//!   peer that sends nothing but keepalives does not notice that its NAT chose another port.
//!
//! Invariants:
//! * Data is taken from a bound address and sent to a bound one.
//! * What is not bound and not proven has got no more bytes than it sent.
//! * Data is sent to an address that was proven in the last ten minutes, by a cookie of two minutes at
//!   most if by one, and from which something came in the last three: who gave it up, or forges it,
//!   can have nothing sent there for longer. A restart counts as both, until the next handshake. The
//!   port of a session's or of the bound address may change without a cookie, as for the permissions
//!   of RFC 8656, which are for an address without its port.
//! * An initiation goes to one address. Who names its index has received it.
//! * What is sent on is paid for by its peer, its network and the router. Over budget it is dropped and does
//!   not wait: congestion control inside the tunnels makes do with that.
//! * Nothing allocates for a datagram; candidates of a leg are few.
//!
//! It never sees sockets: which ports to open and close are [wishes](Stock::take_wish).

mod kept;
mod leg;
mod pairs;
mod ports;
mod route;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::bucket::{BucketTable, Keyed, Meter, Rate};
use crate::ids::{PeerId, WgKey};
use crate::limits::SLOT_BYTES;
use crate::net::{Path, Prefix};
use crate::wheel::Wheel;

use super::{Budget, Config};
use leg::Leg;

pub use kept::{Kept, KeptLeg};
pub use ports::{FIRST_SOCKET, PortWish, Ports};

/// After so long without a word of the bound address, initiations of the other side may go
/// to a candidate. Longer than the 25 s that WireGuard's keepalives are commonly apart.
const STALE: Duration = Duration::from_secs(30);
/// Initiations that a leg takes from elsewhere than its bound address without a cookie, and that all
/// take of one network with one: each makes the other side do curve arithmetic.
const STRANGERS: Rate = Rate::new(5, 10);
/// Lifetimes that a silent pair is kept while there are ports.
const SILENT_LIVES: u32 = 7 * 24;
/// Places of the networks' budgets.
const NETWORKS: usize = 1024;

/// Two peers, the smaller id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairId(PeerId, PeerId);

impl PairId {
    /// The pair of two peers, whichever is named first.
    pub fn of(a: PeerId, b: PeerId) -> Self {
        if a < b { Self(a, b) } else { Self(b, a) }
    }

    /// Both.
    pub const fn peers(&self) -> [PeerId; 2] {
        [self.0, self.1]
    }
}

/// What the router knows and the legs do not.
pub trait Guard {
    /// Whether anything may be sent to an address at all.
    fn allows(&self, to: &SocketAddr) -> bool;
    /// Whether a handshake message carries a cookie that was sent to where it comes from, for that
    /// port.
    fn has_cookie(&mut self, from: &Path, message: &[u8]) -> bool;
    /// Takes bytes from the router's budget, if they are in it; `urgent` ones before what waits.
    fn pay(&mut self, bytes: usize, urgent: bool) -> bool;
}

/// A peer that is to have a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Who it is.
    pub peer: PeerId,
    /// Its tunnel's public key: that of its identity binding.
    pub key: WgKey,
    /// What its rate is multiplied by: 1 to 16.
    pub factor: u8,
}

/// A leg as its peer is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The router's port that it sends to.
    pub port: u16,
    /// Bits a second that it may send for long; `u64::MAX` without a limit.
    pub rate_bps: u64,
    /// Bytes that it may send at once.
    pub burst_bytes: u64,
}

/// What was counted, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pairs.
    pub pairs: usize,
    /// Datagrams that went to the other leg.
    pub forwarded_datagrams: u64,
    /// Bytes that did.
    pub forwarded_bytes: u64,
    /// How often a leg was bound to an address.
    pub bound: u64,
}

/// Who pays for what is sent: a peer, for all its legs.
#[derive(Clone, Copy, Debug)]
struct Owner {
    peer: PeerId,
    legs: u32,
    /// Its bucket.
    at: u64,
}

#[derive(Debug)]
struct Pair {
    id: PairId,
    legs: [Leg; 2],
    /// The network of who asked for it, if that is known.
    network: Option<Prefix>,
    /// When it ends if nothing comes.
    expires: crate::time::Moment,
    /// What was last noted for the store.
    noted: crate::time::Moment,
    /// It is in `changed` already.
    changed: bool,
    /// Sockets that are not open yet.
    opening: u8,
}

/// The pairs of a shard.
#[derive(Debug)]
pub struct Stock {
    config: Config,
    ports: Ports,
    /// By slot.
    pairs: Vec<Option<Pair>>,
    vacant: Vec<u32>,
    by_id: HashMap<PairId, u32, Keyed>,
    /// By socket, from [`FIRST_SOCKET`] on: slot and side.
    by_socket: Box<[Option<(u32, u8)>]>,
    /// Sockets that nobody has, the one that is free for longest first.
    free: VecDeque<u16>,
    owners: Vec<Owner>,
    networks: Option<BucketTable<Prefix>>,
    /// Initiations with a cookie that networks have left.
    strangers: BucketTable<Prefix>,
    /// A timer for each pair: when it is looked at, which may be long before it ends.
    lives: Wheel,
    wishes: VecDeque<PortWish>,
    changed: VecDeque<PairId>,
    stats: Stats,
}

impl Stock {
    /// Memory of a shard's part of the ports.
    pub fn bytes(ports: Ports) -> usize {
        let pairs = ports.pairs();
        let slots = pairs * (size_of::<Option<Pair>>() + 2 * size_of::<Owner>());
        slots + Wheel::bytes(pairs.max(1)) + 2 * BucketTable::<Prefix>::bytes(NETWORKS)
    }

    /// No pairs yet. `ports` are this shard's part; budgets and lifetime are those of its relay.
    pub fn new(config: Config, ports: Ports, mut keyed: impl FnMut() -> Keyed) -> Self {
        let pairs = ports.pairs();
        let networks = config.prefix.bits_per_s.map(|bps| {
            let burst = config.prefix.burst_bytes.max(SLOT_BYTES as u64).min(Rate::BURST_MAX);
            BucketTable::new(NETWORKS, Rate::new(bps / 8, burst), keyed())
        });
        Self {
            config,
            ports,
            pairs: (0..pairs).map(|_| None).collect(),
            vacant: (0..u32::try_from(pairs).unwrap_or(0)).rev().collect(),
            by_id: HashMap::with_capacity_and_hasher(pairs, keyed()),
            by_socket: vec![None; ports.count().into()].into(),
            free: (0..ports.count()).map(|at| FIRST_SOCKET + at).collect(),
            owners: Vec::with_capacity(2 * pairs),
            networks,
            strangers: BucketTable::new(NETWORKS, STRANGERS, keyed()),
            lives: Wheel::new(pairs.max(1)),
            wishes: VecDeque::with_capacity(ports.count().into()),
            changed: VecDeque::with_capacity(pairs),
            stats: Stats::default(),
        }
    }

    /// Whether there are ports at all.
    pub fn is_on(&self) -> bool {
        self.ports.pairs() > 0
    }

    /// What happened since the start, and what there is now.
    pub fn stats(&self) -> Stats {
        Stats { pairs: self.by_id.len(), ..self.stats }
    }

    /// For how long of silence a pair has its ports for sure: never less than a channel's life.
    pub fn lifetime(&self) -> Duration {
        self.config.lifetime.max(self.config.idle)
    }

    /// And for how long while nobody else needs them: its users have no session here to ask again
    /// with, and one of them may be away over a weekend.
    fn kept_for(&self) -> Duration {
        self.lifetime() * SILENT_LIVES
    }
}

fn meter(budget: &Budget, factor: u8) -> Meter {
    let bytes_per_s = budget.bits_per_s.map(|bps| bps.saturating_mul(factor.max(1).into()) / 8);
    Meter::holding(bytes_per_s, budget.burst_bytes.max(SLOT_BYTES as u64))
}
