//! The packet path.

use super::leg::{Asked, Leg, Receiver};
use super::{FIRST_SOCKET, Guard, Stock, meter};
use crate::admission::cookie;
use crate::drops::Drop;
use crate::net::{Path, Prefix};
use crate::relay::Relay;
use crate::time::Moment;
use crate::wire::channel;

/// Types of WireGuard messages.
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

impl Relay {
    /// Pays for bytes that are not of a channel out of what the router gives to relaying, if
    /// nothing waits for that, or they are urgent.
    #[inline]
    pub fn pay_router(&mut self, now: Moment, bytes: usize, urgent: bool) -> bool {
        let (after, ready) = self.budgets.router(now, bytes as u64);
        let pays = (urgent || !self.waiting.in_turn()) && ready <= now;
        if pays {
            self.budgets.pay_router(after);
        }
        pays
    }
}

impl Stock {
    /// Where `segments` datagrams that came together to one port go: one message, `first`, or a run
    /// of data that begins with it; `bytes` are all of theirs.
    ///
    /// # Errors
    /// Why they are to be dropped; [`Drop::RelayCookie`] is to be answered with a cookie under
    /// [`Self::cookie_key`].
    pub fn route(
        &mut self,
        now: Moment,
        path: &Path,
        (first, bytes, segments): (&[u8], usize, usize),
        guard: &mut impl Guard,
    ) -> Result<Path, Drop> {
        channel::inner(first)?;
        let (slot, side) = self.leg_of(path).ok_or(Drop::RelayChannel)?;
        let sized = u32::try_from(bytes).unwrap_or(u32::MAX);
        let to = match first[0] {
            INITIATION => self.initiation(now, slot, side, path, first, guard)?,
            RESPONSE => self.answer(now, slot, side, path, first, guard)?,
            COOKIE => self.cookie(now, slot, side, path, first)?,
            _ => self.data(now, slot, side, path, (first, sized), guard)?,
        };
        let urgent = first[0] != DATA;
        if !self.charge(now, slot, side, path, (bytes, urgent), guard) {
            return Err(Drop::RelayBudget);
        }
        let kept_for = self.kept_for();
        let pair = self.pair(slot).ok_or(Drop::RelayChannel)?;
        let [leg, other] = both(&mut pair.legs, side);
        if to == Receiver::Bound && !other.may_be_sent_to(now) {
            return Err(Drop::RelayUnbound);
        }
        let to_path = other.path(to).ok_or(Drop::RelayChannel)?;
        other.spend(to, sized);
        if first[0] == RESPONSE
            && let Receiver::Candidate(at) = to
            && let Some(candidate) = other.candidates.get_mut(at)
        {
            candidate.answered = Some((word(first, 4), leg.is_bound_to(path)));
        }
        if first[0] == INITIATION {
            asked(leg, path, Asked { index: word(first, 4), to: to_path.peer });
        }
        if let Some(bound) = leg.bound.as_mut().filter(|bound| bound.path.peer == path.peer) {
            (bound.heard, bound.path.local) = (now, path.local);
            if first[0] == DATA {
                bound.index = Some(word(first, 4));
            }
            pair.expires = now + kept_for;
        }
        self.stats.forwarded_datagrams += segments as u64;
        self.stats.forwarded_bytes += bytes as u64;
        Ok(to_path)
    }

    fn initiation(
        &mut self,
        now: Moment,
        slot: u32,
        side: usize,
        path: &Path,
        message: &[u8],
        guard: &mut impl Guard,
    ) -> Result<Receiver, Drop> {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let Self { pairs, strangers, .. } = self;
        let pair = pairs.get_mut(slot as usize).and_then(Option::as_mut);
        let pair = pair.ok_or(Drop::RelayChannel)?;
        let [leg, other] = both(&mut pair.legs, side);
        if !other.is_meant(message) {
            return Err(Drop::BadMac1);
        }
        if leg.is_bound_to(path) {
            leg.hear_bound(now, proof(leg, now, path, message, guard)?);
        } else {
            if !guard.allows(&path.peer) {
                return Err(Drop::RelayTarget);
            }
            let network = Prefix::of(path.peer.ip());
            let cookie = guard.has_cookie(path, message);
            leg.hear_stranger(now, path, (bytes, cookie), || strangers.take(now, &network, 1))?;
        }
        other.receiver(now, bytes).ok_or(Drop::RelayUnbound)
    }

    fn answer(
        &mut self,
        now: Moment,
        slot: u32,
        side: usize,
        path: &Path,
        message: &[u8],
        guard: &mut impl Guard,
    ) -> Result<Receiver, Drop> {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let pair = self.pair(slot).ok_or(Drop::RelayChannel)?;
        let [leg, other] = both(&mut pair.legs, side);
        if !other.is_meant(message) {
            return Err(Drop::BadMac1);
        }
        let to = other.who_asked(word(message, 8), path).ok_or(Drop::RelaySource)?;
        if !other.affords(now, to, bytes) {
            return Err(Drop::Unproven);
        }
        if leg.is_bound_to(path) {
            leg.hear_bound(now, proof(leg, now, path, message, guard)?);
            return Ok(to);
        }
        let index = word(message, 4);
        leg.hear_claim(now, path, index, |leg| proof(leg, now, path, message, guard))?;
        Ok(to)
    }

    fn cookie(
        &mut self,
        now: Moment,
        slot: u32,
        side: usize,
        path: &Path,
        message: &[u8],
    ) -> Result<Receiver, Drop> {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let pair = self.pair(slot).ok_or(Drop::RelayChannel)?;
        let [leg, other] = both(&mut pair.legs, side);
        match other.who_asked(word(message, 4), path) {
            Some(to) if other.affords(now, to, bytes) => Ok(to),
            Some(_) => Err(Drop::Unproven),
            // It may be about an answer.
            None if other.bound.is_some() && leg.is_answered(path, word(message, 4)) => {
                Ok(Receiver::Bound)
            }
            None => Err(Drop::RelaySource),
        }
    }

    #[inline]
    fn data(
        &mut self,
        now: Moment,
        slot: u32,
        side: usize,
        path: &Path,
        (message, bytes): (&[u8], u32),
        guard: &mut impl Guard,
    ) -> Result<Receiver, Drop> {
        let pair = self.pair(slot).ok_or(Drop::RelayChannel)?;
        let [leg, other] = both(&mut pair.legs, side);
        let index = word(message, 4);
        let courted = other.is_courted();
        let mut moves = if courted { understood(leg, other, now, path, index) } else { 0 };
        if !leg.is_bound_to(path) {
            // The answer went there and nowhere else, and here it comes back.
            let Some((proven, true)) = leg.was_answered(now, path, index) else {
                leg.hear_wanderer(now, path, (index, bytes), guard);
                return Err(Drop::RelaySource);
            };
            leg.bind(now, *path, Some(proven));
            moves += 1;
        }
        let there = other.bound.map(|_| Receiver::Bound).ok_or(Drop::RelayUnbound);
        if moves > 0 {
            self.moved(slot, moves);
        }
        there
    }

    /// Charges what a leg sends to its peer, its network and the router: all of them or none.
    #[inline]
    fn charge(
        &mut self,
        now: Moment,
        slot: u32,
        side: usize,
        path: &Path,
        (bytes, urgent): (usize, bool),
        guard: &mut impl Guard,
    ) -> bool {
        let Some(pair) = self.pairs.get(slot as usize).and_then(Option::as_ref) else {
            return false;
        };
        let leg = &pair.legs[side];
        let peer = meter(&self.config.peer, leg.side.factor);
        let Some(owner) = self.owners.get_mut(leg.owner as usize) else { return false };
        // Strangers spend nothing of the peer's.
        let cost = if leg.is_bound_to(path) { bytes as u64 } else { 0 };
        let after = peer.after(now, owner.at, cost);
        if cost > 0 && peer.ready(after) > now {
            return false;
        }
        let prefix = Prefix::of(path.peer.ip());
        let room = self.networks.as_mut().is_none_or(|networks| {
            let cost = (bytes as u64).min(networks.rate().burst());
            networks.take(now, &prefix, cost)
        });
        if !room || !guard.pay(bytes, urgent) {
            return false;
        }
        owner.at = after;
        true
    }

    /// The key that a cookie for who sent a handshake message is [sealed](cookie::Cookies::reply)
    /// with: that of whom the message is for, since nobody else sends cookies to its sender.
    pub fn cookie_key(&self, path: &Path) -> Option<[u8; 32]> {
        let (slot, side) = self.leg_of(path)?;
        let pair = self.pairs.get(slot as usize)?.as_ref()?;
        Some(cookie::cookie_key(&pair.legs[1 - side].side.key.0))
    }

    /// Whether a leg is bound to where something came from.
    pub fn is_bound_to(&self, path: &Path) -> bool {
        self.leg_of(path).is_some_and(|(slot, side)| {
            let pair = self.pairs.get(slot as usize).and_then(Option::as_ref);
            pair.is_some_and(|pair| pair.legs[side].is_bound_to(path))
        })
    }

    /// The slot and the side whose port this is.
    #[inline]
    fn leg_of(&self, path: &Path) -> Option<(u32, usize)> {
        let at = path.local.socket.checked_sub(FIRST_SOCKET)?;
        let (slot, side) = self.by_socket.get(usize::from(at)).copied().flatten()?;
        Some((slot, usize::from(side)))
    }

    /// So many legs of a pair are bound to another address.
    #[cold]
    fn moved(&mut self, slot: u32, legs: u64) {
        self.stats.bound += legs;
        self.change(slot);
    }
}

/// When the address that a handshake message is from was proven: lately, or by its cookie right now.
fn proof(
    leg: &Leg,
    now: Moment,
    path: &Path,
    message: &[u8],
    guard: &mut impl Guard,
) -> Result<Moment, Drop> {
    let shown = || guard.has_cookie(path, message).then_some(now);
    leg.proven(now, path).or_else(shown).ok_or(Drop::RelayCookie)
}

/// Looks whether data from `path` shows that a candidate of the other leg is its peer: it names the
/// index in what that answered. Then the leg is bound there; how many were bound.
#[cold]
fn understood(leg: &mut Leg, other: &mut Leg, now: Moment, path: &Path, index: u32) -> u64 {
    let Some((there, proven)) = other.claimant(now, index) else { return 0 };
    let here = leg.is_bound_to(path);
    // What data named all along was no secret of the answer.
    if here && leg.bound.is_some_and(|bound| bound.index == Some(index)) {
        return 0;
    }
    // Two strangers understand each other, too: where there was a peer before, one is still there.
    let new = leg.bound.is_none() && other.bound.is_none();
    if !(here || new || leg.knows(path) || other.knows(&there)) {
        return 0;
    }
    if !here {
        let Some((proven, _)) = leg.was_answered(now, path, index) else { return 0 };
        leg.bind(now, *path, Some(proven));
    }
    other.bind(now, there, Some(proven));
    1 + u64::from(!here)
}

/// Remembers an initiation with who sent it.
fn asked(leg: &mut Leg, path: &Path, asked: Asked) {
    match &mut leg.bound {
        Some(bound) if bound.path.peer == path.peer => {
            bound.asked = [Some(asked), bound.asked[0]];
        }
        Some(_) | None => {
            if let Some(at) = leg.candidate(path) {
                leg.candidates[at].asked = Some(asked);
            }
        }
    }
}

#[inline]
fn both(legs: &mut [Leg; 2], side: usize) -> [&mut Leg; 2] {
    let [a, b] = legs;
    if side == 0 { [a, b] } else { [b, a] }
}

/// The index that a message has at `at`; its shape was checked.
#[inline]
fn word(message: &[u8], at: usize) -> u32 {
    let bytes = message.get(at..at + 4).and_then(|it| it.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}
