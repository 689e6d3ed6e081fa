//! What is counted of peers that reach each other: introductions, the relay, reflection.

use super::layout::Id;
use super::{Counters, labels};
use crate::relay;
use crate::router::ProbedFrom;
use crate::wire::code::{Outcome, RendezvousStatus};

impl Counters {
    /// Counts an introduction that ended.
    pub fn introduced(&self, status: RendezvousStatus) {
        self.add(Id::Introductions, status as usize, 1);
    }

    /// Counts what a side says of how one ended.
    pub fn punched(&self, outcome: Outcome) {
        self.add(Id::Punches, outcome as usize, 1);
    }

    /// Counts a request for a relay channel: whether it made a new one, if it was granted.
    pub fn allocated(&self, new: Result<bool, relay::Refused>) {
        let series = match new {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => 2,
        };
        self.add(Id::Allocations, series, 1);
    }

    /// Counts a relay channel that ended.
    pub fn relay_closed(&self, reason: relay::CloseReason) {
        self.add(Id::ChannelsEnded, labels::channel_end_index(reason), 1);
    }

    /// Publishes what the relay counts itself.
    pub fn relay(&self, stats: &relay::Stats) {
        self.set(Id::Channels, 0, stats.channels as u64);
        self.set(Id::Members, 0, stats.members as u64);
        self.set(Id::Relayed, 0, stats.forwarded_datagrams);
        self.set(Id::RelayedBytes, 0, stats.forwarded_bytes);
        self.set(Id::RelayWaiting, 0, stats.waiting as u64);
        self.set(Id::RelayThrottled, 0, stats.throttled);
    }

    /// Counts a filter probe sent.
    pub fn probed(&self, from: ProbedFrom) {
        self.add(Id::FilterProbes, from as usize, 1);
    }

    /// Counts an answered STUN request.
    pub fn stun_answered(&self) {
        self.add(Id::StunAnswered, 0, 1);
    }

    /// Publishes what goes through ports of unmodified WireGuard peers.
    pub fn stock(&self, stats: &relay::stock::Stats) {
        self.set(Id::StockPairs, 0, stats.pairs as u64);
        self.set(Id::StockRelayed, 0, stats.forwarded_datagrams);
        self.set(Id::StockRelayedBytes, 0, stats.forwarded_bytes);
        self.set(Id::StockBound, 0, stats.bound);
    }
}
