//! Pairs come and go.

use std::net::IpAddr;

use super::leg::Leg;
use super::{FIRST_SOCKET, Granted, Owner, Pair, PairId, PortWish, Side, Stock};
use crate::ids::PeerId;
use crate::net::Prefix;
use crate::relay::control::NETWORK_SHARE;
use crate::relay::{CloseReason, Refused};
use crate::time::Moment;

/// Pairs that a network may have when half of the ports are taken, however few there are.
const NETWORK_PAIRS: usize = 4;

impl Stock {
    /// Ports for two peers: those they have, whose lifetime begins again, or two new ones, which
    /// are good once they are [open](Self::served). Each comes with the address of its session and
    /// when that was proven, if it has one that was. `network` is where the session of who asks began.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn allocate(
        &mut self,
        now: Moment,
        network: Prefix,
        [a, b]: [(Side, Option<(IpAddr, Moment)>); 2],
    ) -> Result<PairId, Refused> {
        let id = PairId::of(a.0.peer, b.0.peer);
        if a.0.peer == b.0.peer {
            return Err(Refused::SamePeer);
        }
        let sides = if a.0.peer < b.0.peer { [a.0, b.0] } else { [b.0, a.0] };
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => self.open(now, id, &sides, network)?,
        };
        let until = now + self.kept_for();
        let Some(pair) = self.pair(slot) else { return Err(Refused::ChannelsFull) };
        pair.expires = until;
        for (side, home) in [a, b] {
            let Some(leg) = pair.legs.iter_mut().find(|leg| leg.side.peer == side.peer) else {
                continue;
            };
            leg.side.factor = side.factor;
            if leg.side.key != side.key {
                leg.rekey(side.key);
            }
            if let Some(home) = home {
                leg.live_at(home);
            }
        }
        self.watch(now, slot);
        self.change(slot);
        Ok(id)
    }

    /// Whether two peers have ports.
    pub fn has(&self, a: &PeerId, b: &PeerId) -> bool {
        self.by_id.contains_key(&PairId::of(*a, *b))
    }

    /// What is known of a peer of a pair.
    pub fn side(&self, id: PairId, peer: &PeerId) -> Option<Side> {
        let pair = self.pairs.get(*self.by_id.get(&id)? as usize)?.as_ref()?;
        pair.legs.iter().map(|leg| leg.side).find(|side| side.peer == *peer)
    }

    /// What a peer of a pair is told, if its ports are open.
    pub fn granted(&self, id: PairId, peer: &PeerId) -> Option<Granted> {
        let pair = self.pairs.get(*self.by_id.get(&id)? as usize)?.as_ref()?;
        let leg = pair.legs.iter().find(|leg| leg.side.peer == *peer)?;
        let bps = self.config.peer.bits_per_s;
        (pair.opening == 0).then(|| Granted {
            port: self.ports.port(leg.socket),
            rate_bps: bps.map_or(u64::MAX, |bps| bps.saturating_mul(leg.side.factor.into())),
            burst_bytes: self.config.peer.burst_bytes,
        })
    }

    /// Takes the next wish for a socket; each is told of by [`Self::served`].
    pub fn take_wish(&mut self) -> Option<PortWish> {
        self.wishes.pop_front()
    }

    /// Whether there is a wish.
    #[inline]
    pub fn has_wishes(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// What became of a wish: without its port a pair ends.
    pub fn served(&mut self, wish: PortWish, done: bool) {
        let PortWish::Open { socket, .. } = wish else { return };
        let at = usize::from(socket - FIRST_SOCKET);
        let Some((slot, side)) = self.by_socket.get(at).copied().flatten() else { return };
        let Some(pair) = self.pair(slot) else { return };
        if done {
            pair.opening &= !(1 << side);
        } else {
            // Nothing is to be closed that was not opened.
            let opening = pair.opening | 1 << side;
            pair.opening = opening;
            self.remove(slot);
        }
    }

    /// Ends what is over; the reason, for each. Call until `None`.
    pub fn poll(&mut self, now: Moment) -> Option<CloseReason> {
        while let Some(slot) = self.lives.pop(now) {
            let Some(pair) = self.pair(slot) else { continue };
            if pair.expires <= now {
                self.remove(slot);
                return Some(CloseReason::Idle);
            }
            if pair.expires > pair.noted {
                self.change(slot);
            }
            self.watch(now, slot);
        }
        None
    }

    /// When to call [`Self::poll`] again at the latest.
    pub fn next_deadline(&self) -> Moment {
        self.lives.next_deadline()
    }

    /// The next pair that is new, gone, or bound otherwise than before.
    pub fn take_change(&mut self) -> Option<PairId> {
        let id = self.changed.pop_front()?;
        if let Some(slot) = self.by_id.get(&id).copied()
            && let Some(pair) = self.pair(slot)
        {
            (pair.changed, pair.noted) = (false, pair.expires);
        }
        Some(id)
    }

    /// Whether there is one.
    #[inline]
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    #[inline]
    pub(super) fn pair(&mut self, slot: u32) -> Option<&mut Pair> {
        self.pairs.get_mut(slot as usize)?.as_mut()
    }

    /// Marks that a pair changed, once.
    pub(super) fn change(&mut self, slot: u32) {
        let Some(pair) = self.pair(slot) else { return };
        if !std::mem::replace(&mut pair.changed, true) {
            let id = pair.id;
            self.changed.push_back(id);
        }
    }

    /// A pair is looked at when it ends, and four times before, if somebody has to know that it goes on.
    pub(super) fn watch(&mut self, now: Moment, slot: u32) {
        let soon = now + self.lifetime() / 4;
        if let Some(expires) = self.pair(slot).map(|pair| pair.expires) {
            self.lives.set(slot, expires.min(soon));
        }
    }

    fn open(
        &mut self,
        now: Moment,
        id: PairId,
        sides: &[Side; 2],
        network: Prefix,
    ) -> Result<u32, Refused> {
        let most = self.config.channels_per_peer;
        let full =
            |side: &Side| self.owners.iter().any(|it| it.peer == side.peer && it.legs >= most);
        if sides.iter().any(full) {
            return Err(Refused::PeerFull);
        }
        if self.is_crowded(network) {
            return Err(Refused::ChannelsFull);
        }
        if self.free.len() < 2 || self.vacant.is_empty() {
            let longest = self.silent_longest(now).ok_or(Refused::ChannelsFull)?;
            self.remove(longest);
        }
        let sockets = [self.free.pop_front(), self.free.pop_front()];
        let [Some(a), Some(b)] = sockets else { return Err(Refused::ChannelsFull) };
        Ok(self.put(now, (id, Some(network)), sides, [a, b]))
    }

    /// The pair that is silent for longest, if for longer than it may be sure of its ports.
    fn silent_longest(&self, now: Moment) -> Option<u32> {
        let sure = now + (self.kept_for() - self.lifetime());
        let silent =
            (0..).zip(&self.pairs).filter_map(|(slot, it)| Some((slot, it.as_ref()?.expires)));
        let over = silent.filter(|(_, expires)| *expires <= sure);
        over.min_by_key(|(_, expires)| *expires).map(|(slot, _)| slot)
    }

    /// Whether a network has its share, when half of all ports are taken: as for channels.
    fn is_crowded(&self, network: Prefix) -> bool {
        let theirs = |pair: &&Pair| pair.network == Some(network);
        let most = (self.pairs.len() / NETWORK_SHARE).max(NETWORK_PAIRS);
        2 * self.by_id.len() >= self.pairs.len()
            && self.pairs.iter().flatten().filter(theirs).count() >= most
    }

    /// Puts a pair into a vacant slot, with sockets that are to be opened.
    pub(super) fn put(
        &mut self,
        now: Moment,
        (id, network): (PairId, Option<Prefix>),
        sides: &[Side; 2],
        sockets: [u16; 2],
    ) -> u32 {
        let slot = self.vacant.pop().unwrap_or_default();
        let legs = [0, 1].map(|at: usize| {
            let owner = self.own(sides[at].peer);
            Leg::new(sides[at], sockets[at], owner, now)
        });
        for (side, socket) in (0..).zip(sockets) {
            self.by_socket[usize::from(socket - FIRST_SOCKET)] = Some((slot, side));
            self.wishes.push_back(PortWish::Open { socket, port: self.ports.port(socket) });
        }
        let (expires, noted) = (now + self.kept_for(), Moment::START);
        let pair = Pair { id, legs, network, expires, noted, changed: false, opening: 0b11 };
        self.pairs[slot as usize] = Some(pair);
        self.by_id.insert(id, slot);
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(pair) = self.pairs.get_mut(slot as usize).and_then(Option::take) else { return };
        self.lives.cancel(slot);
        self.by_id.remove(&pair.id);
        self.vacant.push(slot);
        for (side, leg) in pair.legs.iter().enumerate() {
            self.by_socket[usize::from(leg.socket - FIRST_SOCKET)] = None;
            self.free.push_back(leg.socket);
            if pair.opening >> side & 1 == 0 {
                self.wishes.push_back(PortWish::Close { socket: leg.socket });
            } else {
                let open = |it: &PortWish| matches!(it, PortWish::Open { socket, .. } if *socket == leg.socket);
                self.wishes.retain(|wish| !open(wish));
            }
            if let Some(owner) = self.owners.get_mut(leg.owner as usize) {
                owner.legs -= 1;
            }
        }
        if !pair.changed {
            self.changed.push_back(pair.id);
        }
    }

    /// One leg more for a peer; its place.
    fn own(&mut self, peer: PeerId) -> u32 {
        let known = self.owners.iter().position(|it| it.peer == peer && it.legs > 0);
        let at = known.or_else(|| self.owners.iter().position(|it| it.legs == 0));
        let at = at.unwrap_or_else(|| {
            self.owners.push(Owner { peer, legs: 0, at: 0 });
            self.owners.len() - 1
        });
        if known.is_none() {
            self.owners[at] = Owner { peer, legs: 0, at: 0 };
        }
        self.owners[at].legs += 1;
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}
