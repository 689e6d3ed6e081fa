//! Channels come and go.

use std::time::Duration;

use super::budget::Budgets;
use super::channels::{Coarse, Leg, NO_BACKLOG};
use super::{
    Allocated, Assigned, CloseReason, Closed, ClosedLeg, Event, Member, Refused, Relay, Status,
};
use crate::drops::Drop;
use crate::ids::{HomeRef, PeerId};
use crate::time::Moment;

/// The part of all channels that one network's peers may have when half of them are taken.
pub(super) const NETWORK_SHARE: usize = 16;

impl Relay {
    /// A channel between two peers: the one they have, whose lifetime begins again, or a new one.
    /// `want_bps` is the highest rate it shall have, zero for what the budgets give. `entropy`
    /// is random and used for nothing else.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn allocate(
        &mut self,
        now: Moment,
        requester: &Member,
        target: &Member,
        want_bps: u64,
        entropy: u64,
    ) -> Result<Allocated, Refused> {
        if requester.peer == target.peer {
            return Err(Refused::SamePeer);
        }
        let standing = self.between(&requester.peer, &target.peer);
        let leg = match standing {
            Some(leg) => leg,
            None => self.open([requester, target], entropy)?,
        };
        self.moved(requester);
        self.moved(target);
        self.channels.ask(leg);
        let until = now + self.config.lifetime;
        let channel = self.channels.get_mut(leg.slot());
        channel.byte_cost = Budgets::byte_cost(want_bps);
        channel.refresh(until);
        if standing.is_none() {
            channel.last = Coarse::of(now);
            self.stats.allocated += 1;
        }
        self.watch(leg.slot());
        let (requester, target) = (self.assigned(leg), self.assigned(leg.other()));
        Ok(Allocated { requester, target, new: standing.is_none() })
    }

    /// Whether `peer` itself asked for the channel that it has with `other`: a peer that did consented to it.
    pub fn asked(&self, peer: &PeerId, other: &PeerId) -> bool {
        self.between(peer, other).is_some_and(|leg| self.channels.asked(leg))
    }

    /// A peer with channels has another session, path or standing. Returns whether it is one.
    pub fn moved(&mut self, member: &Member) -> bool {
        let at = self.members.find(&member.peer);
        at.inspect(|at| self.members.update(*at, member)).is_some()
    }

    /// A peer's session ended: unless it has another one here meanwhile, its channels are over,
    /// as [`Relay::poll`] will tell.
    pub fn left(&mut self, peer: &PeerId, home: HomeRef) {
        let Some(at) = self.members.find(peer).filter(|at| self.members.home(*at) == home) else {
            return;
        };
        self.end_all(at);
    }

    /// A shard lost all its sessions: the channels of whoever was there are over.
    pub fn shard_ended(&mut self, shard: u16) {
        for at in self.members.of_shard(shard) {
            self.end_all(at);
        }
    }

    fn end_all(&mut self, member: u32) {
        let mut next = self.members.first(member);
        while let Some(leg) = { self.channels.legs(next).next() } {
            next = self.channels.legs(next).nth(1).map_or(super::names::NIL, |leg| leg.0);
            self.channels.get_mut(leg.slot()).end();
            self.lives.set(leg.slot(), Moment::START);
        }
    }

    /// A peer closes a channel that it calls `id`; `None` if it has no such.
    pub fn close(&mut self, id: u32, by: &PeerId) -> Option<Closed> {
        let leg = self.channels.leg(id)?;
        let member = self.channels.get(leg.slot()).members[leg.side()];
        (self.members.find(by)? == member).then(|| self.remove(leg, CloseReason::Leg))
    }

    /// What somebody has to be told. Call until `None`.
    pub fn poll(&mut self, now: Moment) -> Option<Event> {
        if let Some(status) = self.status(now) {
            return Some(Event::Status(status));
        }
        while let Some(slot) = self.lives.pop(now) {
            if let Some(reason) = self.over(now, slot) {
                return Some(Event::Closed(self.remove(Leg::new(slot, 0), reason)));
            }
            self.watch(slot);
        }
        None
    }

    /// When to call [`Relay::poll`] and [`Relay::next`] again at the latest, if nothing comes before.
    pub fn next_deadline(&self) -> Moment {
        let turn = if self.waiting.in_turn() { self.router_ready } else { Moment::NEVER };
        let tell = if self.waiting.to_tell() { Moment::START } else { Moment::NEVER };
        self.lives.next_deadline().min(self.parked.next_deadline()).min(turn).min(tell)
    }

    /// When to call [`Relay::poll`] while there is no room to send: what waits is not looked at
    /// before there is.
    pub fn poll_deadline(&self) -> Moment {
        let tell = if self.waiting.to_tell() { Moment::START } else { Moment::NEVER };
        self.lives.next_deadline().min(tell)
    }

    /// The first peer's leg of the open channel of two.
    fn between(&self, peer: &PeerId, other: &PeerId) -> Option<Leg> {
        let (peer, other) = (self.members.find(peer)?, self.members.find(other)?);
        let mut legs = self.channels.legs(self.members.first(peer));
        legs.find(|leg| {
            let channel = self.channels.get(leg.slot());
            channel.open() && channel.members[leg.other().side()] == other
        })
    }

    /// A new channel; the first one's leg.
    fn open(&mut self, members: [&Member; 2], entropy: u64) -> Result<Leg, Refused> {
        if self.channels.full() {
            return Err(Refused::ChannelsFull);
        }
        let full = |member: &&Member| {
            let at = self.members.find(&member.peer);
            at.is_some_and(|at| self.members.channels(at) >= self.config.channels_per_peer)
        };
        if members.iter().any(full) {
            return Err(Refused::PeerFull);
        }
        if self.is_crowded(members[0]) {
            return Err(Refused::ChannelsFull);
        }
        let first = self.members.take(members[0]).ok_or(Refused::ChannelsFull)?;
        let Some(second) = self.members.take(members[1]) else {
            self.members.release(first);
            return Err(Refused::ChannelsFull);
        };
        let firsts = [first, second].map(|at| self.members.first(at));
        let slot = self.channels.take([first, second], firsts, entropy);
        let slot = slot.ok_or(Refused::ChannelsFull)?;
        self.members.set_first(first, Leg::new(slot, 0).0);
        self.members.set_first(second, Leg::new(slot, 1).0);
        Ok(Leg::new(slot, 0))
    }

    /// Whether the requester's network has its share, when half of all channels are taken: names cost
    /// nothing, so one network could take them all.
    fn is_crowded(&self, requester: &Member) -> bool {
        let most = self.config.channels_max / NETWORK_SHARE;
        let most = most.max(self.config.channels_per_peer as usize);
        2 * self.channels.len() >= self.config.channels_max
            && self.members.channels_near(requester) >= most
    }

    fn assigned(&self, leg: Leg) -> Assigned {
        Assigned {
            channel: self.channels.header(leg),
            rate_bps: self.rate_bps(leg),
            burst_bytes: self.budgets.burst_bytes(),
        }
    }

    fn rate_bps(&self, leg: Leg) -> u64 {
        let channel = self.channels.get(leg.slot());
        let factor = self.members.hot(channel.members[leg.side()]).factor;
        self.budgets.rate_bps(channel, factor)
    }

    fn idle_at(&self, slot: u32) -> Moment {
        self.channels.get(slot).last.end() + self.config.idle
    }

    /// Sets a channel's timer to when it would end if nothing more came.
    fn watch(&mut self, slot: u32) {
        let at = self.idle_at(slot).min(self.channels.get(slot).expires());
        self.lives.set(slot, at);
    }

    /// Why a channel is over, if it is.
    fn over(&self, now: Moment, slot: u32) -> Option<CloseReason> {
        let channel = self.channels.get(slot);
        if !channel.open() {
            return Some(CloseReason::Identity);
        }
        if channel.expires() <= now {
            return Some(CloseReason::Lifetime);
        }
        (self.idle_at(slot) <= now).then_some(CloseReason::Idle)
    }

    /// Ends a channel; `leg` is told of first.
    fn remove(&mut self, leg: Leg, reason: CloseReason) -> Closed {
        let slot = leg.slot();
        let channel = *self.channels.get(slot);
        let legs = [leg, leg.other()].map(|leg| ClosedLeg {
            home: self.members.home(channel.members[leg.side()]),
            channel: self.channels.header(leg),
        });
        for leg in [leg, leg.other()] {
            let (member, backlog) = (channel.members[leg.side()], channel.backlogs[leg.side()]);
            if backlog != NO_BACKLOG {
                let dropped = self.abandon(backlog);
                self.lose(Drop::RelayChannel, dropped);
            }
            let first = self.channels.unlink(self.members.first(member), leg);
            self.members.set_first(member, first);
            self.members.release(member);
        }
        self.lives.cancel(slot);
        self.channels.free(slot);
        self.stats.closed += 1;
        Closed { legs, reason }
    }

    /// The next leg that is to be told how it stands.
    fn status(&mut self, now: Moment) -> Option<Status> {
        let (leg, throttled, ready) = self.waiting.tell()?;
        let channel = self.channels.get(leg.slot());
        Some(Status {
            home: self.members.home(channel.members[leg.side()]),
            channel: self.channels.header(leg),
            used_bytes: channel.used,
            rate_bps: self.rate_bps(leg),
            throttled,
            retry_after: if throttled { ready.since(now) } else { Duration::ZERO },
        })
    }
}
