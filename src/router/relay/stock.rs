//! Unmodified WireGuard peers: from a request to two ports, and what goes through them.
//!
//! The router opens no sockets. It wishes for them ([`Router::serve_ports`]), and the request waits
//! for its ports as long as it takes whoever drives the router to try.

use std::net::SocketAddr;

use bufpool::Buf;
use peerstore::record::{AllocatedLeg, Allocation as Stored, Host, Subject, Tombstone};

use crate::admission::cookie::{Cookies, Place};
use crate::drops::Drop;
use crate::ids::{PeerId, WgKey};
use crate::net::{Datagram, Outlet, Path, Transmit, target};
use crate::overlay::records::left;
use crate::relay::stock::{Granted, Guard, Kept, KeptLeg, PairId, PortWish, Side, Stock};
use crate::relay::{Member, Refused, Relay};
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::{Addrs, RelayAllocResp};
use crate::wire::{Code, Multiaddr, channel};

use super::super::journal::unix_s;
use super::super::{Config, Router};
use super::allocate::{Allocation, Desk, Grant};
use super::{DSCP, Leg};

/// Largest packet inside a tunnel through two ports: a data message of 1232 bytes, which is
/// what every path carries, has 32 around it.
const INNER_MTU: u32 = 1200;
/// Type of WireGuard's data messages.
const DATA: u8 = 4;
/// Cookies that a turn sends to strangers, and to who is bound: each is some hashing, which strangers can ask for.
const COOKIES_PER_TURN: u32 = 32;
/// Price of the cookies: unmodified peers pay none.
const FREE: u8 = 0;

impl<T: Tunnel> Router<T> {
    /// Gives two peers ports. The letter comes back if it is refused, else it waits for them.
    pub(super) fn ask_for_ports(
        &mut self,
        now: Now,
        mut letter: Box<Allocation>,
    ) -> Option<Box<Allocation>> {
        letter.desk = Desk::RequestersHome;
        let (one, other) = (letter.requester, letter.target);
        let stands = self.stock.has(&one.peer, &other.peer);
        if !letter.consented && !stands && !self.channel_stands(&one.peer, &other.peer) {
            letter.outcome = Err(Code::Unauthorized);
            return Some(letter);
        }
        let [key, other_key] = letter.keys?;
        let side = |of: &Member, key| {
            let home = of.proven.then(|| (of.path.peer.ip(), of.proven_at));
            (Side { peer: of.peer, key, factor: of.factor }, home)
        };
        let told = side(&other, other_key);
        let known = self.stock.side(PairId::of(one.peer, other.peer), &other.peer);
        // Without a session of the target, nothing is known of it but what it was before.
        let known = known.map(|known| (known, None));
        let Some(other_side) = letter.present.then_some(told).or(known) else {
            letter.outcome = Err(Code::NotFound);
            return Some(letter);
        };
        let sides = [side(&one, key), other_side];
        letter.new = !stands;
        let allocated = match self.journal.reserve(0) {
            true => self.stock.allocate(now.at, one.network, sides),
            false => Err(Refused::ChannelsFull),
        };
        self.outbox.counters.allocated(allocated.map(|_| letter.new));
        match allocated {
            Ok(_) => {
                self.opening.push(letter);
                return None;
            }
            Err(Refused::ChannelsFull) => letter.outcome = Err(Code::Busy),
            Err(Refused::PeerFull) => letter.outcome = Err(Code::BudgetExhausted),
            Err(Refused::SamePeer) => letter.outcome = Err(Code::Invalid),
        }
        Some(letter)
    }

    /// Whether [`serve_ports`](Self::serve_ports) has something to do.
    #[inline]
    pub fn wants_ports(&self) -> bool {
        self.stock.has_wishes() || !self.opening.is_empty()
    }

    /// Hands every wish for a socket to `serve`, which says whether it was done, and answers who
    /// waited for that. To be called after whatever else this router was asked to do.
    pub fn serve_ports(&mut self, now: Now, mut serve: impl FnMut(PortWish) -> bool) {
        while let Some(wish) = self.stock.take_wish() {
            let done = serve(wish);
            self.stock.served(wish, done);
        }
        for letter in std::mem::take(&mut self.opening) {
            self.opened_ports(now, letter);
        }
    }

    fn opened_ports(&mut self, now: Now, mut letter: Box<Allocation>) {
        let (requester, target) = (letter.requester.peer, letter.target.peer);
        let id = PairId::of(requester, target);
        let granted = [requester, target].map(|peer| self.stock.granted(id, &peer));
        letter.outcome = match granted {
            [Some(granted), Some(offered)] => {
                if letter.new {
                    let home = letter.target.home;
                    let offer = Leg::Offer(home.session, requester, Grant::Port(offered));
                    self.tell_leg(now, home, offer);
                }
                Ok(Grant::Port(granted))
            }
            _ => Err(Code::Busy),
        };
        self.pass_allocation(now, letter);
    }

    /// What a leg with a port of its own is told.
    pub(super) fn port_leg<'a>(
        &self,
        addrs: &'a [Multiaddr],
        other: PeerId,
        granted: &Granted,
    ) -> RelayAllocResp<'a> {
        let lifetime_s = u32::try_from(self.stock.lifetime().as_secs()).unwrap_or(u32::MAX);
        RelayAllocResp {
            channel: 0,
            relay_addrs: Addrs::of(addrs),
            lifetime_s,
            idle_timeout_s: lifetime_s,
            rate_bps: granted.rate_bps,
            burst_bytes: granted.burst_bytes,
            inner_mtu: INNER_MTU,
            peer: other,
            generation: 0,
        }
    }

    /// Sends on what came to a port: a run of data as it is, in its own slot, anything else one by one.
    pub(in super::super) fn through_port(
        &mut self,
        now: Now,
        datagram: Datagram,
        outlet: &mut impl Outlet,
    ) {
        let Datagram { path, buf, segment } = datagram;
        let segment = segment.clamp(1, buf.len());
        let datagrams = buf.len().div_ceil(segment);
        let is_data = |one: &[u8]| one[0] == DATA && channel::inner(one).is_ok();
        if datagrams == 1 || buf.chunks(segment).all(is_data) {
            let all = (&buf[..segment], buf.len(), datagrams);
            match self.port_route(now, &path, all) {
                Ok(to) => return outlet.send(Transmit { path: to, buf, segment, dscp: DSCP }),
                // Some of them may be within it.
                Err(Drop::RelayBudget) if datagrams > 1 => {}
                Err(reason) => {
                    for one in buf.chunks(segment) {
                        self.turned_away(now, &path, one, reason, outlet);
                    }
                    return;
                }
            }
        }
        self.through_port_singly(now, &path, &buf, segment, outlet);
    }

    #[cold]
    fn through_port_singly(
        &mut self,
        now: Now,
        path: &Path,
        buf: &Buf,
        segment: usize,
        outlet: &mut impl Outlet,
    ) {
        for one in buf.chunks(segment) {
            match self.port_route(now, path, (one, one.len(), 1)) {
                Ok(to) => {
                    let Some(buf) = self.copy(one) else { continue };
                    let segment = buf.len();
                    outlet.send(Transmit { path: to, buf, segment, dscp: DSCP });
                }
                Err(reason) => self.turned_away(now, path, one, reason, outlet),
            }
        }
    }

    /// Counts a datagram that goes nowhere, and asks for the cookie that it should have had.
    #[cold]
    fn turned_away(
        &mut self,
        now: Now,
        path: &Path,
        one: &[u8],
        reason: Drop,
        outlet: &mut impl Outlet,
    ) {
        self.outbox.counters.drop(reason);
        if reason != Drop::RelayCookie {
            return;
        }
        if self.cookies_sent.0 != now.at {
            self.cookies_sent = (now.at, [0; 2]);
        }
        // Strangers leave those that are bound theirs.
        let sent = &mut self.cookies_sent.1[usize::from(self.stock.is_bound_to(path))];
        let at = Place::Port(self.shard, path.local.socket);
        if *sent < COOKIES_PER_TURN
            && let Some(key) = self.stock.cookie_key(path)
            && let Some(reply) =
                self.cookies.reply(now, (&path.peer, at), one, &key, FREE, &mut self.rng)
        {
            *sent += 1;
            self.outbox.send_raw(*path, &reply, outlet);
        }
    }

    #[inline]
    fn port_route(
        &mut self,
        now: Now,
        path: &Path,
        all: (&[u8], usize, usize),
    ) -> Result<Path, Drop> {
        let Self { stock, relay, config, cookies, shard, .. } = self;
        stock.route(now.at, path, all, &mut Door { now, shard: *shard, relay, config, cookies })
    }

    /// Takes back a pair that had ports before a restart.
    pub(in super::super) fn restore_allocation(&mut self, now: Now, stored: &Stored) -> bool {
        let legs = stored.legs.map(|leg| KeptLeg {
            side: Side {
                peer: PeerId(leg.host.peer_id.0),
                key: WgKey(leg.host.wireguard.0),
                factor: leg.factor,
            },
            port: leg.port,
            bound: leg.bound,
        });
        let expires = now.at + left(now, stored.expires_unix_s);
        let config = &self.config;
        let between = self.partition.between(&legs[0].side.peer, &legs[1].side.peer);
        between == self.shard
            && self.stock.put_back(now.at, &Kept { legs, expires }, |to| {
                target::forbidden(to, &config.own, config.allow_private).is_none()
            })
    }

    /// Forgets one that is gone since.
    pub(in super::super) fn forget_allocation(&mut self, one: PeerId, other: PeerId) -> bool {
        self.stock.take_back(PairId::of(one, other))
    }
}

/// What the ports ask the router.
struct Door<'a> {
    now: Now,
    shard: u16,
    relay: &'a mut Relay,
    config: &'a Config,
    cookies: &'a mut Cookies,
}

impl Guard for Door<'_> {
    #[inline]
    fn allows(&self, to: &SocketAddr) -> bool {
        target::forbidden(to, &self.config.own, self.config.allow_private).is_none()
    }

    fn has_cookie(&mut self, from: &Path, message: &[u8]) -> bool {
        let at = Place::Port(self.shard, from.local.socket);
        self.cookies.shown(self.now, &from.peer, at, message).is_some()
    }

    #[inline]
    fn pay(&mut self, bytes: usize, urgent: bool) -> bool {
        self.relay.pay_router(self.now.at, bytes, urgent)
    }
}

/// What is to be kept of a pair: that it is gone, or how it is.
pub(in super::super) fn record(now: Now, stock: &Stock, id: PairId) -> peerstore::Record<'static> {
    match stock.kept(id) {
        Some(kept) => allocation(now, &kept),
        None => {
            let [one, other] = id.peers().map(|peer| peerstore::PeerId(peer.0));
            let subject = Subject::Allocation(one, other);
            peerstore::Record::Tombstone(Tombstone { expires_unix_s: 0, subject })
        }
    }
}

/// A pair that is there.
pub(in super::super) fn allocation(now: Now, kept: &Kept) -> peerstore::Record<'static> {
    let legs = kept.legs.map(|leg| AllocatedLeg {
        host: Host {
            peer_id: peerstore::PeerId(leg.side.peer.0),
            wireguard: peerstore::WgKey(leg.side.key.0),
        },
        factor: leg.side.factor,
        port: leg.port,
        bound: leg.bound,
    });
    peerstore::Record::Allocation(Stored { expires_unix_s: unix_s(now, kept.expires), legs })
}
