//! Turns: who of those that wait is next.
//!
//! A backlog's turn is a quantum of bytes. They are *promised* to it from its sender's budgets
//! (peer and prefix) as soon as it may have a turn, which fixes when those can pay and puts
//! whoever comes later for the same budgets behind it: since each backlog has one turn promised
//! at a time, all that wait for one budget take turns of equal bytes. Then it
//! parks until they can pay, and queues for the router's budget, which again serves turn by turn. What is
//! paid at last is charged to all four at once; only then is it known to be in order.

use std::time::Duration;

use bufpool::Buf;

use super::channels::{Leg, NO_BACKLOG};
use super::waiting::{BOTH, QUANTUM, State};
use super::{Flow, Offered, Ready, Relay};
use crate::drops::Drop;
use crate::limits::SLOT_BYTES;
use crate::time::Moment;
use crate::wire::kind::Class;

/// Between two things that a leg is told of its budgets.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What keeps a datagram.
enum Kept {
    /// The sender's budgets, until then.
    Sender(Moment),
    /// The router's budget, until then.
    Router(Moment),
    /// Nothing ever will let it go.
    Never(Drop),
}

impl Relay {
    /// Lets a datagram wait that was just [routed](Self::route) and may not go at once. If there is
    /// no place, one is taken from who has most.
    pub fn enqueue(&mut self, now: Moment, flow: Flow, class: Class, buf: Buf) -> Offered {
        let Flow { leg, generation } = flow;
        let channel = self.channels.get(leg.slot());
        if !channel.open() || channel.generations[leg.side()] != generation {
            self.stats.dropped(Drop::RelayChannel, 1);
            return Offered::Dropped(Drop::RelayChannel);
        }
        let refused = Offered::Dropped(Drop::RelayBudget);
        // More than a burst may hold could never be paid.
        let backlog = if buf.len() > SLOT_BYTES { None } else { self.backlog(leg) };
        let Some(at) = backlog else {
            self.stats.dropped(Drop::RelayBudget, 1);
            return refused;
        };
        self.announce(now, at, true);
        if !self.make_room(now, at, class) {
            self.stats.dropped(Drop::RelayBudget, 1);
            return refused;
        }
        let first = self.waiting.get(at).len == 0;
        self.waiting.push(now, at, class, buf);
        self.stats.enqueued += 1;
        if first && self.waiting.get(at).state != State::InTurn {
            self.plan(now, at);
        }
        Offered::Enqueued
    }

    /// The next datagram that waited and that all its budgets have paid for. Call until `None`, or
    /// until there is no room to send.
    pub fn next(&mut self, now: Moment) -> Option<Ready> {
        self.wake(now);
        while let Some(at) = self.waiting.first() {
            self.drop_stale(now, at);
            let backlog = *self.waiting.get(at);
            let Some((class, bytes)) = self.waiting.head(at) else {
                self.rest(now, at);
                continue;
            };
            if bytes > backlog.granted {
                // Its turn is over.
                self.plan(now, at);
                continue;
            }
            match self.pay(now, backlog.leg, bytes) {
                Ok(()) => {
                    self.waiting.get_mut(at).granted -= bytes;
                    let buf = self.waiting.pop(at, class)?;
                    if !self.waiting.has_data(at) {
                        self.rest(now, at);
                    }
                    return Some(self.deliver(backlog.leg, class, buf));
                }
                Err(Kept::Router(until)) => {
                    self.router_ready = until;
                    return None;
                }
                Err(Kept::Sender(until)) => {
                    self.waiting.get_mut(at).ready = until;
                    self.park(at);
                }
                Err(Kept::Never(reason)) => {
                    drop(self.waiting.pop(at, class));
                    self.lose(reason, 1);
                }
            }
        }
        None
    }

    fn deliver(&mut self, leg: Leg, class: Class, buf: Buf) -> Ready {
        self.stats.forwarded_datagrams += 1;
        self.stats.forwarded_bytes += buf.len() as u64;
        let to = self.channels.get(leg.slot()).members[leg.other().side()];
        Ready { to: self.members.path(to), channel: self.channels.header(leg.other()), class, buf }
    }

    /// Charges what was promised, or nothing.
    fn pay(&mut self, now: Moment, leg: Leg, bytes: u32) -> Result<(), Kept> {
        let channel = self.channels.get(leg.slot());
        if !channel.open() {
            return Err(Kept::Never(Drop::RelayChannel));
        }
        let [sender, receiver] = [leg, leg.other()].map(|leg| channel.members[leg.side()]);
        self.receives(receiver, bytes).map_err(Kept::Never)?;
        let channel = self.channels.get_mut(leg.slot());
        let charge = self.budgets.charge(now, &self.members, channel, leg, bytes.into(), false);
        if charge.ready > now {
            return Err(Kept::Sender(charge.ready));
        }
        let (router, ready) = self.budgets.router(now, bytes.into());
        if ready > now {
            return Err(Kept::Router(ready));
        }
        self.budgets.pay(&mut self.members, channel, leg, &charge, router);
        channel.used += u64::from(bytes);
        self.members.unreserve(sender, bytes);
        if !self.members.hot(receiver).proven() {
            self.members.debit(receiver, bytes);
        }
        Ok(())
    }

    /// The backlog of a leg; one that has been quiet for longest is given up for it if need be.
    fn backlog(&mut self, leg: Leg) -> Option<u16> {
        let there = self.channels.get(leg.slot()).backlogs[leg.side()];
        if there != NO_BACKLOG {
            return Some(there);
        }
        let at = match self.waiting.open(leg) {
            Some(at) => at,
            None => {
                let quietest = self.waiting.quietest()?;
                self.forget(quietest);
                self.waiting.open(leg)?
            }
        };
        self.channels.get_mut(leg.slot()).backlogs[leg.side()] = at;
        Some(at)
    }

    /// Whether there is a place for one more of a class, perhaps at the expense of another.
    fn make_room(&mut self, now: Moment, at: u16, class: Class) -> bool {
        self.drop_stale(now, at);
        let own = self.waiting.get(at).len;
        if own < self.config.waiting_per_flow {
            if !self.waiting.full() {
                return true;
            }
            let longest = self.waiting.longest();
            if let Some(longest) = longest.filter(|longest| self.waiting.get(*longest).len > own) {
                self.evict(longest);
                return true;
            }
        }
        // It has most itself. What is urgent goes before what is not.
        let instead =
            class == Class::Control && self.waiting.offered(at, Class::Coordination).is_some();
        if instead {
            self.evict(at);
        }
        instead
    }

    /// Drops the oldest of a backlog's less urgent datagrams.
    fn evict(&mut self, at: u16) {
        let mut dropped = BOTH.into_iter().rev().find_map(|class| self.waiting.pop(at, class));
        if dropped.take().is_some() {
            self.lose(Drop::RelayBudget, 1);
        }
    }

    /// Drops what waited too long.
    fn drop_stale(&mut self, now: Moment, at: u16) {
        for class in BOTH {
            while let Some(offered) = self.waiting.offered(at, class)
                && offered + self.config.ttl < now
            {
                drop(self.waiting.pop(at, class));
                self.lose(Drop::RelayBudget, 1);
            }
        }
    }

    /// Promises a backlog its next turn, which begins when its first datagram can be paid.
    fn plan(&mut self, now: Moment, at: u16) {
        let backlog = self.waiting.get(at);
        let (leg, granted) = (backlog.leg, backlog.granted);
        let deficit = backlog.deficit.saturating_add(QUANTUM).min(QUANTUM);
        let (bytes, deficit) = self.waiting.batch(at, deficit);
        let head = self.waiting.head(at).map_or(0, |(_, bytes)| bytes).saturating_sub(granted);
        let channel = self.channels.get(leg.slot());
        let charge = self.budgets.charge(now, &self.members, channel, leg, head.into(), true);
        let more = bytes.saturating_sub(granted);
        self.members.reserve(channel.members[leg.side()], more);
        let backlog = self.waiting.get_mut(at);
        (backlog.deficit, backlog.granted) = (deficit, granted + more);
        backlog.ready = charge.ready.max(now);
        match charge.ready <= now {
            true => self.queue(now, at),
            false => self.park(at),
        }
    }

    /// Behind all others that are in turn.
    fn queue(&mut self, now: Moment, at: u16) {
        self.parked.cancel(at.into());
        if !self.waiting.in_turn() {
            self.router_ready = now;
        }
        self.waiting.put_in_turn(at);
    }

    /// Until its sender's budgets can pay, or until its oldest datagram is too old.
    fn park(&mut self, at: u16) {
        self.waiting.put(at, State::Parked);
        let offered = BOTH.into_iter().filter_map(|class| self.waiting.offered(at, class)).min();
        let stale = offered
            .map_or(Moment::NEVER, |offered| offered + self.config.ttl + Duration::from_nanos(1));
        self.parked.set(at.into(), self.waiting.get(at).ready.min(stale));
    }

    /// Nothing of it waits any more: what was promised is taken back.
    fn rest(&mut self, now: Moment, at: u16) {
        self.refund(at);
        self.waiting.put(at, State::Quiet);
        self.parked.set(at.into(), now + TELL_INTERVAL);
    }

    fn refund(&mut self, at: u16) {
        let backlog = self.waiting.get_mut(at);
        backlog.deficit = backlog.deficit.min(0);
        let (leg, granted) = (backlog.leg, std::mem::take(&mut backlog.granted));
        let sender = self.channels.get(leg.slot()).members[leg.side()];
        self.members.unreserve(sender, granted);
    }

    /// Looks at the backlogs whose time has come.
    fn wake(&mut self, now: Moment) {
        while let Some(key) = self.parked.pop(now) {
            let at = u16::try_from(key).unwrap_or(u16::MAX);
            if self.waiting.get(at).state == State::Quiet {
                self.hush(now, at);
                continue;
            }
            self.drop_stale(now, at);
            if !self.waiting.has_data(at) {
                self.rest(now, at);
            } else if self.waiting.get(at).ready <= now {
                self.queue(now, at);
            } else {
                self.park(at);
            }
        }
    }

    /// A backlog has been quiet: its sender is told so, and after that it is given up.
    fn hush(&mut self, now: Moment, at: u16) {
        if self.waiting.get(at).throttled {
            self.announce(now, at, false);
            self.parked.set(at.into(), now + TELL_INTERVAL);
        } else {
            self.forget(at);
        }
    }

    /// Tells a sender how it stands, unless it knows or was told something just now.
    fn announce(&mut self, now: Moment, at: u16, throttled: bool) {
        let backlog = self.waiting.get_mut(at);
        if backlog.throttled == throttled || now < backlog.tell_after {
            return;
        }
        backlog.throttled = throttled;
        backlog.tell_after = now + TELL_INTERVAL;
        self.stats.throttled += u64::from(throttled);
        self.waiting.announce(at);
    }

    /// Gives up a backlog that is without data.
    fn forget(&mut self, at: u16) {
        let leg = self.waiting.get(at).leg;
        self.parked.cancel(at.into());
        self.channels.get_mut(leg.slot()).backlogs[leg.side()] = NO_BACKLOG;
        self.waiting.free(at);
    }

    /// Gives up a backlog with all that waits in it; how many that were.
    pub(super) fn abandon(&mut self, at: u16) -> u64 {
        let mut dropped = 0;
        for class in BOTH {
            while self.waiting.pop(at, class).is_some() {
                dropped += 1;
            }
        }
        self.refund(at);
        self.forget(at);
        dropped
    }
}
