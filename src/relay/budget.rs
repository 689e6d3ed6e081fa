//! The tree of budgets: router, prefix, peer, channel. What is sent is charged to its sender.

use super::channels::{Channel, Leg};
use super::members::{FACTOR_MAX, Members};
use super::{Budget, Config};
use crate::bucket::Meter;
use crate::limits::SLOT_BYTES;
use crate::time::Moment;

/// What one datagram would make of the buckets of its sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    channel: u64,
    peer: u64,
    prefix: u64,
    /// When all three can pay.
    pub(super) ready: Moment,
}

/// Rates, and the one bucket that is not somebody's.
#[derive(Debug)]
pub(super) struct Budgets {
    router: Meter,
    prefix: Meter,
    /// By factor, less one.
    peers: [Meter; FACTOR_MAX as usize],
    peer: Budget,
    at: u64,
}

impl Budgets {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            router: meter(&config.router, 1),
            prefix: meter(&config.prefix, 1),
            peers: std::array::from_fn(|at| meter(&config.peer, at as u64 + 1)),
            peer: config.peer,
            at: 0,
        }
    }

    /// Other rates from now on; what was used stays used.
    pub(super) fn set(&mut self, config: &Config) {
        *self = Self { at: self.at, ..Self::new(config) };
    }

    /// Bytes that a peer can send at once.
    pub(super) fn burst_bytes(&self) -> u64 {
        self.peer.burst_bytes.max(SLOT_BYTES as u64)
    }

    /// What a byte costs at a rate that was asked for; zero for none.
    pub(super) fn byte_cost(want_bps: u64) -> u64 {
        let want = (want_bps > 0).then_some(want_bps.div_ceil(8));
        Meter::holding(want, 0).unit_cost()
    }

    /// Bits a second of a sender in one channel; `u64::MAX` without a limit.
    pub(super) fn rate_bps(&self, channel: &Channel, factor: u8) -> u64 {
        let peer = self.peer.bits_per_s.map_or(u64::MAX, |bps| bps.saturating_mul(factor.into()));
        let own = Meter::costing(channel.byte_cost, 0).per_s();
        own.map_or(peer, |bytes| peer.min(bytes.saturating_mul(8)))
    }

    /// What a side's next `bytes` would cost its buckets but the router's. `ahead`: after all that
    /// is promised to data that waits.
    #[inline]
    pub(super) fn charge(
        &self,
        now: Moment,
        members: &Members,
        channel: &Channel,
        leg: Leg,
        bytes: u64,
        ahead: bool,
    ) -> Charge {
        let side = leg.side();
        let member = channel.members[side];
        let hot = members.hot(member);
        let prefix = members.prefix(hot.prefix);
        let promised = if ahead { [members.reserved(member), prefix.reserved] } else { [0; 2] };
        let meter = &self.peers[usize::from(hot.factor.clamp(1, FACTOR_MAX) - 1)];
        let peer = meter.after(now, hot.at, bytes);
        let subnet = self.prefix.after(now, prefix.at, bytes);
        let (own, own_ready) = self.own(now, channel, side, bytes);
        let ready = meter.ready(meter.after(now, peer, promised[0].into()));
        let subnet_ready = self.prefix.ready(self.prefix.after(now, subnet, promised[1].into()));
        Charge { channel: own, peer, prefix: subnet, ready: ready.max(subnet_ready).max(own_ready) }
    }

    /// The channel's own bucket, if somebody asked for a rate.
    #[inline]
    fn own(&self, now: Moment, channel: &Channel, side: usize, bytes: u64) -> (u64, Moment) {
        if channel.byte_cost == 0 {
            return (channel.at[side], Moment::START);
        }
        let meter = Meter::costing(channel.byte_cost, self.burst_bytes());
        let after = meter.after(now, channel.at[side], bytes);
        (after, meter.ready(after))
    }

    /// What the router's bucket would be after `bytes` more, and when it can pay them.
    #[inline]
    pub(super) fn router(&self, now: Moment, bytes: u64) -> (u64, Moment) {
        let after = self.router.after(now, self.at, bytes);
        (after, self.router.ready(after))
    }

    /// Pays the router's alone: `after` is what [`Self::router`] said.
    #[inline]
    pub(super) const fn pay_router(&mut self, after: u64) {
        self.at = after;
    }

    /// Pays all four at once.
    #[inline]
    pub(super) fn pay(
        &mut self,
        members: &mut Members,
        channel: &mut Channel,
        leg: Leg,
        charge: &Charge,
        router: u64,
    ) {
        self.at = router;
        channel.at[leg.side()] = charge.channel;
        let hot = members.hot_mut(channel.members[leg.side()]);
        hot.at = charge.peer;
        let prefix = hot.prefix;
        members.prefix_mut(prefix).at = charge.prefix;
    }
}

fn meter(budget: &Budget, factor: u64) -> Meter {
    let bytes_per_s = budget.bits_per_s.map(|bps| bps.saturating_mul(factor) / 8);
    Meter::holding(bytes_per_s, budget.burst_bytes.max(SLOT_BYTES as u64))
}
