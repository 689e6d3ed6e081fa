//! The packet path.

use super::channels::{Coarse, Leg, NO_BACKLOG};
use super::{Flow, Relay, Route, Verdict};
use crate::drops::Drop;
use crate::net::{Address, Path};
use crate::time::Moment;
use crate::wire::channel::Channel as Header;

impl Relay {
    /// Where `segments` datagrams of one channel that came together go, and whether at once;
    /// `bytes` are all of theirs.
    ///
    /// # Errors
    /// [`Drop::RelayChannel`], [`Drop::RelaySource`], [`Drop::RelayTarget`], [`Drop::Unproven`]: all of
    /// them are to be dropped.
    #[inline]
    pub fn route(
        &mut self,
        now: Moment,
        from: &Path,
        header: Header,
        bytes: usize,
        segments: usize,
    ) -> Result<Route, Drop> {
        let routed = self.judge(now, from, header, bytes, true);
        match &routed {
            Ok(Route { verdict: Verdict::Send, .. }) => {
                self.stats.forwarded_datagrams += segments as u64;
                self.stats.forwarded_bytes += bytes as u64;
            }
            Ok(Route { verdict: Verdict::Wait, .. }) => {}
            Err(reason) => self.stats.dropped(*reason, segments as u64),
        }
        routed
    }

    /// The same where nothing can be sent at once: all of it is to wait, and nothing is paid.
    ///
    /// # Errors
    /// As [`Relay::route`].
    pub fn route_to_wait(
        &mut self,
        now: Moment,
        from: &Path,
        header: Header,
        bytes: usize,
        segments: usize,
    ) -> Result<Route, Drop> {
        let routed = self.judge(now, from, header, bytes, false);
        routed.inspect_err(|reason| self.stats.dropped(*reason, segments as u64))
    }

    #[inline]
    fn judge(
        &mut self,
        now: Moment,
        from: &Path,
        header: Header,
        bytes: usize,
        at_once: bool,
    ) -> Result<Route, Drop> {
        let leg = self.channels.leg(header.id).ok_or(Drop::RelayChannel)?;
        let channel = self.channels.get_mut(leg.slot());
        if channel.generations[leg.side()] != header.generation {
            return Err(Drop::RelayChannel);
        }
        let [sender, receiver] = [leg, leg.other()].map(|leg| channel.members[leg.side()]);
        let hot = self.members.hot(sender);
        if hot.address != Address::of(&from.peer) {
            return Err(Drop::RelaySource);
        }
        channel.last = Coarse::of(now);
        let bytes32 = u32::try_from(bytes).unwrap_or(u32::MAX);
        if !hot.proven() {
            self.members.credit(sender, bytes32);
        }
        self.receives(receiver, bytes32)?;
        let flow = Flow { leg, generation: header.generation };
        let (to, channel) = (self.members.path(receiver), self.channels.header(leg.other()));
        let verdict = match at_once && self.sends_now(now, leg, bytes) {
            true => Verdict::Send,
            false => Verdict::Wait,
        };
        if verdict == Verdict::Send && !self.members.hot(receiver).proven() {
            self.members.debit(receiver, bytes32);
        }
        Ok(Route { to, channel, flow, verdict })
    }

    /// Whether so much may go to a member.
    #[inline]
    pub(super) fn receives(&self, receiver: u32, bytes: u32) -> Result<(), Drop> {
        let hot = self.members.hot(receiver);
        if !hot.reachable() {
            return Err(Drop::RelayTarget);
        }
        if !hot.proven() && !self.members.allows(receiver, bytes) {
            return Err(Drop::Unproven);
        }
        Ok(())
    }

    /// Pays, if nothing waits that this would overtake and all four budgets can.
    #[inline]
    fn sends_now(&mut self, now: Moment, leg: Leg, bytes: usize) -> bool {
        let channel = self.channels.get_mut(leg.slot());
        let backlog = channel.backlogs[leg.side()];
        if self.waiting.in_turn() || (backlog != NO_BACKLOG && self.waiting.has_data(backlog)) {
            return false;
        }
        let bytes = bytes as u64;
        let charge = self.budgets.charge(now, &self.members, channel, leg, bytes, true);
        let (router, router_ready) = self.budgets.router(now, bytes);
        if charge.ready.max(router_ready) > now {
            return false;
        }
        self.budgets.pay(&mut self.members, channel, leg, &charge, router);
        channel.used += bytes;
        true
    }
}
