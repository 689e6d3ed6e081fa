//! Relayed channels of one shard: who may send what to whom, and what has to wait for it.
//!
//! A channel joins two peers. Each has a leg of it, with its own id and generation, and is a
//! [`Member`] here: its session's shard tells where it is and whether that is proven. Data is
//! [routed](Relay::route) by arithmetic and four cache lines: channel, sender, receiver, the
//! sender's prefix. What its sender's budgets or the router's do not allow at once waits, if it
//! is [given to wait](Relay::enqueue), and comes out of [`Relay::next`] when they do.
//!
//! Invariants:
//! * Data goes to the other leg of the channel it came in, at the address last told, and only if it
//!   came from the address last told of its own leg. Towards an address that is not proven go
//!   at most the bytes that came from it.
//! * All four budgets of a datagram (router, prefix, peer, channel) are charged or none. Over any time no
//!   budget gives more than its burst and what its rate earns; a datagram is always within a burst.
//! * Data does not overtake data of its class in its channel, nor data that waits for the same budget.
//!   Those that wait for one budget take turns of equal bytes, whatever they offer.
//! * Throttling is told before anything is dropped for a budget.
//! * Nothing allocates after [`Relay::new`]. What is idle costs nothing; a datagram costs
//!   no timer.
//!
//! It never sees sessions, sockets or what is inside the data.

mod budget;
mod channels;
mod config;
mod control;
mod members;
mod names;
mod route;
mod schedule;
mod scramble;
mod stats;
pub mod stock;
#[cfg(test)]
mod tests;
mod waiting;

use arrayvec::ArrayVec;
use bufpool::Buf;

use crate::bucket::Keyed;
use crate::drops::Drop;
use crate::ids::{HomeRef, PeerId};
use crate::net::{Path, Prefix};
use crate::time::Moment;
use crate::wheel::Wheel;
use crate::wire::channel::Channel;
use crate::wire::kind::Class;
use budget::Budgets;
use channels::{Channels, Leg};
use members::Members;
use scramble::Scramble;
use waiting::Waiting;

pub use config::{Budget, Config};
pub use stats::Stats;

/// A peer as its session's shard knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub peer: PeerId,
    /// Its session.
    pub home: HomeRef,
    /// Where it is. Only `peer` is compared with what data comes by; `local` is what is sent from.
    pub path: Path,
    /// Whether that address is proven.
    pub proven: bool,
    /// When it was, if it is.
    pub proven_at: Moment,
    /// Whether anything may be relayed to that address at all.
    pub reachable: bool,
    /// What its rate is multiplied by: 1 to 16.
    pub factor: u8,
    /// The network that its session began in, which nobody can forge.
    pub network: Prefix,
}

/// A channel as one of its peers is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// What the peer puts in front of its data, and finds in front of the other's.
    pub channel: Channel,
    /// Bits a second that it may send for long; `u64::MAX` without a limit.
    pub rate_bps: u64,
    /// Bytes that it may send at once.
    pub burst_bytes: u64,
}

/// A channel that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// What the peer that asked is told.
    pub requester: Assigned,
    /// What the other one is told.
    pub target: Assigned,
    /// Whether it is a new one, which the target does not know of.
    pub new: bool,
}

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All are in use.
    ChannelsFull,
    /// One of the two has as many as a peer may have.
    PeerFull,
    /// There are no channels of a peer with itself.
    SamePeer,
}

/// A direction of a channel, good for [`Relay::enqueue`] of what was just routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    leg: Leg,
    /// The sender's.
    generation: u16,
}

/// Whether data may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is paid for.
    Send,
    /// Nothing is paid: it has to wait, each datagram by itself.
    Wait,
}

/// Where data goes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The other leg's.
    pub to: Path,
    /// What the other leg calls the channel.
    pub channel: Channel,
    /// What to wait as.
    pub flow: Flow,
    /// Whether it must.
    pub verdict: Verdict,
}

/// What became of data that has to wait.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Enqueued,
    /// Its buffer is recycled: [`Drop::RelayBudget`] or [`Drop::RelayChannel`].
    Dropped(Drop),
}

/// Data that waited and is paid for now.
#[must_use]
#[derive(Debug)]
pub struct Ready {
    /// The other leg's.
    pub to: Path,
    /// What the other leg calls the channel: for whoever did not rewrite the header before.
    pub channel: Channel,
    /// Its class.
    pub class: Class,
    /// As it was given.
    pub buf: Buf,
}

/// Why a channel ended; the numbers are those of RELAY_CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A leg closed it.
    Leg = 1,
    /// No data for too long.
    Idle = 2,
    /// Its lifetime was over.
    Lifetime = 3,
    /// The identity of one of its peers ended.
    Identity = 4,
}

impl CloseReason {
    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Leg => "leg",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Identity => "identity",
        }
    }
}

/// A leg that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLeg {
    /// The session last told of.
    pub home: HomeRef,
    /// What the peer called the channel.
    pub channel: Channel,
}

/// A channel that is no more.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The one that closed it first, else in no order that means anything.
    pub legs: [ClosedLeg; 2],
    /// Why.
    pub reason: CloseReason,
}

/// How a leg stands with its budgets.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The leg's session.
    pub home: HomeRef,
    /// What its peer calls the channel.
    pub channel: Channel,
    /// Bytes that the channel carried, both ways.
    pub used_bytes: u64,
    /// Bits a second that the leg may send for long; `u64::MAX` without a limit.
    pub rate_bps: u64,
    /// Whether its data has to wait.
    pub throttled: bool,
    /// After how long what waits will be sent, as far as the sender's own budgets go.
    pub retry_after: std::time::Duration,
}

/// What somebody has to be told.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both legs, but for who ended it.
    Closed(Closed),
    /// The leg.
    Status(Status),
}

/// The relay of a shard.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    members: Members,
    channels: Channels,
    budgets: Budgets,
    waiting: Waiting,
    /// A timer for each channel: when it is looked at, which may be long before it ends.
    lives: Wheel,
    /// A timer for each backlog that waits for its sender's budgets.
    parked: Wheel,
    /// When the router's budget can pay what is first in turn.
    router_ready: Moment,
    stats: Stats,
    /// Datagrams that were dropped after they had a place, by reason, until somebody asks.
    lost: ArrayVec<(Drop, u64), LOST_REASONS>,
}

/// Reasons to drop what waits: budget, channel, target, unproven.
const LOST_REASONS: usize = 4;

impl Relay {
    /// Memory that a relay of this configuration takes, all of it from the start.
    pub fn bytes(config: &Config) -> usize {
        let [members, networks] = Members::bytes(config);
        let backlogs = Waiting::backlogs(config);
        Self::channel_bytes(config)
            + members
            + networks
            + Waiting::bytes(config)
            + Wheel::bytes(backlogs)
    }

    fn channel_bytes(config: &Config) -> usize {
        Channels::bytes(config.channels_max) + Wheel::bytes(config.channels_max)
    }

    /// No channels yet. `seed` keys the ids, which must not be guessed, and the hashes whose
    /// inputs strangers choose.
    ///
    /// # Panics
    /// If the configuration asks for none or for more than there are names for.
    pub fn new(config: Config, seed: [u64; 2]) -> Self {
        config.check();
        let base = Keyed::new(seed);
        let mut drawn = 0_u64;
        let mut draw = || {
            drawn += 2;
            [base.hash(&drawn), base.hash(&(drawn + 1))]
        };
        let secrets = std::array::from_fn(|_| draw());
        let scramble = Scramble::new(config.shard, config.shard_bits, secrets);
        Self {
            members: Members::new(&config, || Keyed::new(draw())),
            channels: Channels::new(config.channels_max, scramble),
            budgets: Budgets::new(&config),
            waiting: Waiting::new(&config),
            lives: Wheel::new(config.channels_max),
            parked: Wheel::new(Waiting::backlogs(&config)),
            router_ready: Moment::START,
            stats: Stats::default(),
            lost: ArrayVec::new(),
            config,
        }
    }

    /// Other rates, times and shares from now on. What is there keeps the lifetime it was given;
    /// capacities and the shard stay as they are.
    pub fn configure(&mut self, config: &Config) {
        let Config { shard, shard_bits, channels_max, waiting_max, .. } = self.config;
        self.config = Config { shard, shard_bits, channels_max, waiting_max, ..*config };
        self.config.check();
        self.budgets.set(&self.config);
    }

    /// Datagrams that waited and are dropped since the last time, and why; to be asked until `None`.
    #[inline]
    pub fn take_lost(&mut self) -> Option<(Drop, u64)> {
        self.lost.pop()
    }

    fn lose(&mut self, reason: Drop, datagrams: u64) {
        self.stats.dropped(reason, datagrams);
        match self.lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += datagrams,
            None => self.lost.push((reason, datagrams)),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What happened since the start, and what there is now.
    pub fn stats(&self) -> Stats {
        Stats {
            channels: self.channels.len(),
            members: self.members.len(),
            waiting: self.waiting.len(),
            ..self.stats
        }
    }
}
