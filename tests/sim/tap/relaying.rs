//! What a relay may do with the data that comes to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::ids::{PeerId, WgKey};
use molia_router::limits::SLOT_BYTES;
use molia_router::net::{Path, Prefix};
use molia_router::relay::{Budget, Config};
use molia_router::time::Moment;
use molia_router::wire::body::RelayAllocResp;
use molia_router::wire::channel::{Channel, HEADER_BYTES};
use molia_router::wire::{Header, Kind};

use super::{Tap, Violation};
use crate::verdict::{Oracle, ensure};

/// What rounding may give.
const ROUNDING: f64 = 64.0;
/// Data that waits is gone after its time to live and a turn.
const TURN: Duration = Duration::from_secs(5);

/// A shard is dead for so long before it says that it was.
const DEAD: Duration = Duration::from_secs(1);

/// A channel as one peer calls it.
#[derive(Clone, Copy, Debug)]
struct Leg {
    owner: WgKey,
    other: WgKey,
    /// Not told yet, but seen in use.
    assumed: bool,
}

/// Data that came in.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Moment,
    from: SocketAddr,
    leg: Leg,
}

/// What somebody may send, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    used: f64,
    at: Moment,
}

/// Whose a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Payer {
    Router,
    Prefix([u8; 7]),
    Peer(WgKey),
}

/// All channels.
#[derive(Debug)]
pub(super) struct Relaying {
    config: Config,
    shards: u16,
    legs: BTreeMap<(u32, u16), Leg>,
    /// By what is behind the header.
    arrived: BTreeMap<[u8; 32], VecDeque<Arrival>>,
    /// Where peers are, and since when they are elsewhere.
    places: BTreeMap<WgKey, Vec<(SocketAddr, Moment)>>,
    budgets: BTreeMap<(u16, Payer), Bucket>,
    /// When shards lost what their sessions had proven.
    restarts: BTreeMap<u16, Moment>,
    /// Pairs that ever had a channel.
    pub(super) pairs: BTreeMap<(PeerId, PeerId), (WgKey, WgKey)>,
    pub(super) relayed: u64,
}

impl Relaying {
    pub(super) fn new(config: Config, shards: u16) -> Self {
        Self {
            config,
            shards,
            legs: BTreeMap::new(),
            arrived: BTreeMap::new(),
            places: BTreeMap::new(),
            budgets: BTreeMap::new(),
            restarts: BTreeMap::new(),
            pairs: BTreeMap::new(),
            relayed: 0,
        }
    }

    /// Its channels and budgets are gone; the ids of the next ones are others.
    pub(super) fn shard_restarts(&mut self, now: Moment, shard: u16) {
        self.restarts.insert(shard, now);
        self.budgets.retain(|(of, _), _| *of != shard);
    }

    pub(super) fn moved(&mut self, now: Moment, owner: WgKey, to: SocketAddr) {
        let places = self.places.entry(owner).or_default();
        if let Some(last) = places.last_mut() {
            if last.0 == to {
                return;
            }
            last.1 = now;
        }
        places.push((to, Moment::NEVER));
    }

    /// Whether a shard may believe a peer to be there.
    fn is_at(&self, now: Moment, hearsay: Duration, owner: &WgKey, addr: &SocketAddr) -> bool {
        // One shard knows at once.
        let late = if self.shards > 1 { hearsay } else { Duration::ZERO };
        let lately = |(at, left): &(SocketAddr, Moment)| {
            at == addr && (*left == Moment::NEVER || *left + late >= now)
        };
        self.places.get(owner).is_some_and(|places| places.iter().any(lately))
    }

    /// Whether all places where a shard may believe a peer to be are in the network of `addr`: what
    /// waits is charged to the network where its sender is when it leaves.
    fn is_surely_near(
        &self,
        now: Moment,
        hearsay: Duration,
        owner: &WgKey,
        addr: &SocketAddr,
    ) -> bool {
        let network = |addr: &SocketAddr| Prefix::of(addr.ip());
        self.places.get(owner).is_none_or(|places| {
            let mut believed = places.iter().filter(|(at, _)| self.is_at(now, hearsay, owner, at));
            believed.all(|(at, _)| network(at) == network(addr))
        })
    }

    /// Charges `bytes`; whether that was within the budget.
    fn pay(&mut self, now: Moment, shard: u16, payer: Payer, bytes: usize) -> bool {
        let Budget { bits_per_s, burst_bytes } = match payer {
            Payer::Router => self.config.router,
            Payer::Prefix(_) => self.config.prefix,
            Payer::Peer(_) => self.config.peer,
        };
        let Some(bits_per_s) = bits_per_s else { return true };
        let rate = f64::from(u32::try_from(bits_per_s).expect("a small rate")) / 8.0;
        let burst = burst_bytes.max(SLOT_BYTES as u64);
        let burst = f64::from(u32::try_from(burst).expect("a small burst"));
        let fresh = Bucket { used: 0.0, at: now };
        let bucket = self.budgets.entry((shard, payer)).or_insert(fresh);
        let earned = now.since(bucket.at).as_secs_f64() * rate;
        let bytes = f64::from(u32::try_from(bytes).expect("a datagram"));
        *bucket = Bucket { used: (bucket.used - earned).max(0.0) + bytes, at: now };
        bucket.used <= burst + ROUNDING
    }
}

fn key(header: Channel) -> (u32, u16) {
    (header.id, header.generation)
}

impl Tap {
    /// A frame of the router's that names a channel, or tells of a peer.
    pub(super) fn told(
        &mut self,
        now: Moment,
        owner: WgKey,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Violation> {
        let names =
            [Kind::RelayAllocResp, Kind::RelayOffer].iter().any(|it| it.id() == header.kind);
        if names && let Ok(told) = RelayAllocResp::read(body) {
            return self.named(now, owner, &told);
        }
        self.check_introduction(now, owner, header, body)
    }

    fn named(
        &mut self,
        now: Moment,
        owner: WgKey,
        told: &RelayAllocResp<'_>,
    ) -> Result<(), Violation> {
        let other = self.introducing.key_of(&told.peer);
        let own = self.introducing.id_of(&owner);
        let (Some(other), Some(own)) = (other, own) else {
            let what = format!("{owner:?} is told of a channel to a stranger, {:?}", told.peer);
            return Err(Violation { oracle: Oracle::Relaying, at: now, what });
        };
        let generation = u16::try_from(told.generation).unwrap_or(0);
        let place = (told.channel, generation);
        let leg = Leg { owner, other, assumed: false };
        let before = self.relaying.legs.insert(place, leg);
        let kept = before.filter(|before| before.assumed);
        self.relaying.pairs.insert((own, told.peer), (owner, other));
        let same = kept.is_none_or(|it| (it.owner, it.other) == (owner, other));
        ensure(same, Oracle::Relaying, now, || format!("{kept:?} is {leg:?}"))
    }

    pub(super) fn relayed_in(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) {
        let Ok(header) = Channel::read(datagram) else { return };
        let Some(leg) = self.relaying.legs.get(&key(header)).copied() else { return };
        if !self.relaying.is_at(now, self.hearsay, &leg.owner, &from) {
            return;
        }
        let account = self.account(now, leg.owner, from);
        if !account.proven {
            account.bytes_in += datagram.len();
        }
        let what = *blake3::hash(&datagram[HEADER_BYTES..]).as_bytes();
        let arrivals = self.relaying.arrived.entry(what).or_default();
        arrivals.push_back(Arrival { at: now, from, leg });
    }

    pub(super) fn relayed_out(
        &mut self,
        now: Moment,
        shard: u16,
        path: &Path,
        datagram: &[u8],
    ) -> Result<(), Violation> {
        let bad = |what: String| Violation { oracle: Oracle::Relaying, at: now, what };
        let header = Channel::read(datagram).map_err(|_| bad("no channel data".to_owned()))?;
        let what = *blake3::hash(&datagram[HEADER_BYTES..]).as_bytes();
        let limit = self.relaying.config.ttl + TURN;
        let mut arrival = None;
        if let Some(arrivals) = self.relaying.arrived.get_mut(&what) {
            // Somebody may have sent the same before, and it was dropped.
            arrivals.retain(|arrival| now.since(arrival.at) < limit);
            arrival = arrivals.pop_front();
        }
        let Some(Arrival { from, leg, .. }) = arrival else {
            return Err(bad(format!("data that did not come that way lately, to {}", path.peer)));
        };
        let there = self.relaying.is_at(now, self.hearsay, &leg.other, &path.peer);
        ensure(there, Oracle::Relaying, now, || {
            let places = self.relaying.places.get(&leg.other);
            format!("data of {leg:?} to {}, and it is at {places:?}", path.peer)
        })?;
        let back = Leg { owner: leg.other, other: leg.owner, assumed: true };
        let called = *self.relaying.legs.entry(key(header)).or_insert(back);
        let right = (called.owner, called.other) == (back.owner, back.other);
        ensure(right, Oracle::Relaying, now, || {
            format!("data of {leg:?} came out as {header:?}, which is {called:?}")
        })?;
        self.relaying.relayed += 1;
        let near = self.relaying.is_surely_near(now, self.hearsay, &leg.owner, &from);
        let network = near.then(|| Payer::Prefix(Prefix::of(from.ip()).0));
        for payer in [Payer::Router, Payer::Peer(leg.owner)].into_iter().chain(network) {
            let within = self.relaying.pay(now, shard, payer, datagram.len());
            ensure(within, Oracle::Budget, now, || {
                let bucket = self.relaying.budgets.get(&(shard, payer));
                format!("{payer:?} spent more than it had in shard {shard}: {bucket:?}")
            })?;
        }
        let home = self.partition.home(&leg.other);
        let restarted = self.relaying.restarts.get(&home);
        if restarted.is_some_and(|at| now.since(*at) <= self.hearsay + DEAD)
            && self.was_proven(&leg.other, &path.peer)
        {
            // The channel's shard may not know yet that the session is no more.
            return Ok(());
        }
        self.charge(now, leg.other, path.peer, datagram.len(), false)
    }

    /// Takes budgets for smaller than they are.
    pub(crate) fn expect_little(&mut self) {
        let Config { peer, prefix, router, .. } = &mut self.relaying.config;
        for budget in [peer, prefix, router] {
            budget.bits_per_s = budget.bits_per_s.map(|bits| bits / 4);
            budget.burst_bytes /= 4;
        }
    }

    /// Pairs that ever had a channel, with their keys.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&(PeerId, PeerId), &(WgKey, WgKey))> {
        self.relaying.pairs.iter()
    }
}
