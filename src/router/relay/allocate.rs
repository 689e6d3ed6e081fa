//! RELAY_ALLOC: from the request to both legs.
//!
//! A channel belongs to a shard that follows from its pair of peers. A request is checked where
//! its session lives and then goes, as a letter, from desk to desk: the owners of both ids, who know
//! how long a peer has been around and where its session is; the other peer's home, which knows
//! where that is; the channel's shard; and back. Desks may be in one shard; a letter only ever goes
//! forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;
use rand_core::RngCore;

use crate::bucket::{Rate, TokenBucket};
use crate::ids::{HomeRef, PeerId, SessionRef, WgKey};
use crate::limits;
use crate::net::Path;
use crate::relay::stock::Granted;
use crate::relay::{Allocated, Assigned, Member, Refused};
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;
use crate::wire::body::{Addrs, RelayAllocReq, RelayAllocResp, consent_scope};
use crate::wire::channel::HEADER_BYTES;
use crate::wire::{Class, Code, Header, Kind, Multiaddr, multiaddr};

use super::super::records::{Asker, asker};
use super::super::{Mail, Request, Router};
use super::Leg;

/// Allocations and closings that one session may ask for: each may be a signature check.
pub(super) const ASKED: Rate = Rate::new(8, 64);

/// A request for a channel, on its way.
#[derive(Debug)]
pub struct Allocation {
    pub(super) desk: Desk,
    /// Whom to answer, and the shard that does.
    asker: Asker,
    shard: u16,
    pub(super) requester: Member,
    pub(super) target: Member,
    /// Whether the target's consent came with the request.
    pub(super) consented: bool,
    want_bps: u64,
    /// If it is ports that are wanted: the keys of the requester's and the target's tunnels.
    pub(super) keys: Option<[WgKey; 2]>,
    /// Whether the target has a session here.
    pub(super) present: bool,
    /// Whether the target does not know of it yet.
    pub(super) new: bool,
    /// On the way back.
    pub(super) outcome: Result<Grant, Code>,
}

/// What a leg is told of.
#[derive(Clone, Copy, Debug)]
pub enum Grant {
    /// A channel.
    Channel(Assigned),
    /// A port of its own.
    Port(Granted),
}

/// Where a letter is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Desk {
    /// The owner of the requester's id.
    RequestersOwner,
    /// The owner of the target's.
    TargetsOwner,
    /// The shard of the target's session.
    TargetsHome,
    /// The shard of the channel.
    Channel,
    /// The shard of the requester's session.
    RequestersHome,
}

impl<T: Tunnel> Router<T> {
    pub(in super::super) fn relay_alloc(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = RelayAllocReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let session = request.from.session;
        let Some(bound) = self.peers.at(session).identity else { return };
        if asked.peer == bound.peer_id {
            return self.refuse(now, request, Code::Invalid, 0);
        }
        if asked.stock_wireguard && !self.stock.is_on() {
            return self.refuse(now, request, Code::Unsupported, request.header.kind.into());
        }
        if !self.may_ask_the_relay(now, session) {
            return self.refuse(now, request, Code::RateLimited, 0);
        }
        let (peer, scope) = (bound.peer_id, consent_scope::RELAY);
        let consented = match asked.consent {
            [] => false,
            token => match self.consented(now, token, &asked.peer, &peer, scope) {
                Ok(()) => true,
                // Consents end sooner than channels: one that stands is kept without.
                Err(_) if asked.channel != 0 => false,
                Err(code) => return self.refuse(now, request, code, 0),
            },
        };
        let Some(requester) = self.member(session, bound.peer_id) else { return };
        if !requester.reachable {
            return self.refuse(now, request, Code::Unauthorized, 0);
        }
        let target = Member { peer: asked.peer, reachable: false, ..requester };
        self.pass_allocation(
            now,
            Box::new(Allocation {
                desk: Desk::RequestersOwner,
                asker: asker(request),
                shard: self.shard,
                requester,
                target,
                consented,
                want_bps: asked.want_bps,
                keys: asked.stock_wireguard.then_some([bound.binding.x25519_public; 2]),
                present: false,
                new: false,
                outcome: Err(Code::NotFound),
            }),
        );
    }

    pub(super) fn may_ask_the_relay(&mut self, now: Now, session: SessionRef) -> bool {
        let left = &mut self.peers.at(session).allocations_left;
        let own = left.get_or_insert_with(|| TokenBucket::full(&ASKED, now.at));
        own.take(now.at, &ASKED, 1) && self.network_may_ask(now, session)
    }

    /// Takes a letter from desk to desk, as far as they are in this shard.
    pub(in super::super) fn pass_allocation(&mut self, now: Now, mut letter: Box<Allocation>) {
        loop {
            let shard = match letter.desk {
                Desk::RequestersOwner => self.partition.owner(&letter.requester.peer.0),
                Desk::TargetsOwner => self.partition.owner(&letter.target.peer.0),
                Desk::TargetsHome => letter.target.home.shard,
                Desk::Channel => {
                    self.partition.between(&letter.requester.peer, &letter.target.peer)
                }
                Desk::RequestersHome => letter.shard,
            };
            if shard != self.shard {
                return self.tray.post(shard, Mail::Allocation(letter), &[]);
            }
            if letter.desk == Desk::Channel && letter.keys.is_some() {
                match self.ask_for_ports(now, letter) {
                    Some(refused) => letter = refused,
                    None => return,
                }
                continue;
            }
            letter.desk = match letter.desk {
                Desk::RequestersOwner if self.speaks_no_more(&letter.requester) => {
                    letter.outcome = Err(Code::Unauthorized);
                    Desk::RequestersHome
                }
                Desk::RequestersOwner => {
                    letter.requester.factor = self.standing(now, &letter.requester.peer);
                    Desk::TargetsOwner
                }
                Desk::TargetsOwner => self.find_leg(now, &mut letter),
                Desk::TargetsHome => self.join(&mut letter),
                Desk::Channel => self.open_channel(now, &mut letter),
                Desk::RequestersHome => return self.allocated(now, &letter),
            };
        }
    }

    /// Whether another session than this one speaks for a peer: one with a newer binding.
    fn speaks_no_more(&self, requester: &Member) -> bool {
        self.directory.find(&requester.peer).is_some_and(|it| it.home != requester.home)
    }

    /// What a peer's rates are multiplied by: for how long it has been around, as far as the
    /// routing table knows, which the store remembers. A name that is a month old is not thrown away lightly.
    fn standing(&self, now: Now, peer: &PeerId) -> u8 {
        const HOUR_S: u64 = 3600;
        let Some(at) = self.table.find(peer) else { return 1 };
        let (entry, _) = self.table.entry(at);
        match now.unix_s().saturating_sub(entry.met_unix_s) / HOUR_S {
            0 => 1,
            1..24 => 2,
            24..168 => 4,
            168..720 => 8,
            _ => 16,
        }
    }

    fn find_leg(&mut self, now: Now, letter: &mut Allocation) -> Desk {
        let Some(present) = self.directory.find(&letter.target.peer) else {
            // Ports outlive sessions.
            let ports = letter.keys.is_some();
            return if ports { Desk::Channel } else { Desk::RequestersHome };
        };
        letter.target.home = present.home;
        letter.target.factor = self.standing(now, &letter.target.peer);
        Desk::TargetsHome
    }

    /// Says where the target is, and remembers to tell the channel's shard when it moves.
    fn join(&mut self, letter: &mut Allocation) -> Desk {
        let (session, peer) = (letter.target.home.session, letter.target.peer);
        if self.sessions.session(session).is_none() {
            return Desk::RequestersHome;
        }
        let bound = self.peers.at(session).identity.filter(|bound| bound.peer_id == peer);
        let (Some(member), Some(bound)) = (self.member(session, peer), bound) else {
            return Desk::RequestersHome;
        };
        letter.present = true;
        if let Some([_, key]) = &mut letter.keys {
            *key = bound.binding.x25519_public;
        }
        if !member.reachable {
            letter.outcome = Err(Code::Unauthorized);
            return Desk::RequestersHome;
        }
        self.peers.at(session).factor = letter.target.factor;
        letter.target = Member { factor: letter.target.factor, ..member };
        Desk::Channel
    }

    /// Whether one of two peers consented to what they have together.
    pub(super) fn channel_stands(&self, one: &PeerId, other: &PeerId) -> bool {
        self.relay.asked(one, other) || self.relay.asked(other, one)
    }

    fn open_channel(&mut self, now: Now, letter: &mut Allocation) -> Desk {
        let Allocation { requester, target, want_bps, .. } = &*letter;
        if !letter.consented && !self.channel_stands(&requester.peer, &target.peer) {
            letter.outcome = Err(Code::Unauthorized);
            return Desk::RequestersHome;
        }
        let entropy = self.rng.next_u64();
        let allocated = self.relay.allocate(now.at, requester, target, *want_bps, entropy);
        self.outbox.counters.allocated(allocated.map(|it| it.new));
        letter.outcome = match allocated {
            Ok(Allocated { requester: leg, target: offered, new }) => {
                let offer = new.then_some((requester.peer, Grant::Channel(offered)));
                self.tell_leg(now, target.home, Leg::Joined(Box::new(*target), offer));
                Ok(Grant::Channel(leg))
            }
            Err(Refused::ChannelsFull) => Err(Code::Busy),
            Err(Refused::PeerFull) => Err(Code::BudgetExhausted),
            Err(Refused::SamePeer) => Err(Code::Invalid),
        };
        Desk::RequestersHome
    }

    /// Answers the requester; and if it moved meanwhile, tells the channel's shard again.
    fn allocated(&mut self, now: Now, letter: &Allocation) {
        let (requester, target) = (&letter.requester, letter.target.peer);
        let shard = self.partition.between(&requester.peer, &target);
        let session = letter.asker.session;
        if self.sessions.session(session).is_some() {
            self.peers.at(session).factor = requester.factor;
        }
        if letter.outcome.is_ok() {
            self.correct(now, shard, requester);
        }
        let Some(request) = self.request_of(&letter.asker) else { return };
        match letter.outcome {
            Ok(grant) => {
                let addrs = self.relay_addrs(&request.from.path, &grant);
                let answer = self.leg(&addrs, target, &grant);
                self.answer(now, &request, Kind::RelayAllocResp, |body| answer.write(body));
            }
            Err(code) => self.refuse(now, &request, code, 0),
        }
    }

    /// Offers a channel to the leg that did not ask for it.
    pub(super) fn offer_leg(
        &mut self,
        now: Now,
        session: SessionRef,
        other: PeerId,
        grant: &Grant,
    ) {
        let Some(to) = self.source_of(session) else { return };
        let addrs = self.relay_addrs(&to.path, grant);
        let offer = self.leg(&addrs, other, grant);
        let header = Header::request(Kind::RelayOffer, self.rng.next_u32());
        let limit = self.peers.at(session).plaintext_limit();
        self.outbox.offer(now, &to, Class::Control, limit, header, |body| offer.write(body));
    }

    fn leg<'a>(&self, addrs: &'a [Multiaddr], other: PeerId, grant: &Grant) -> RelayAllocResp<'a> {
        let assigned = match grant {
            Grant::Channel(assigned) => assigned,
            Grant::Port(granted) => return self.port_leg(addrs, other, granted),
        };
        let config = self.relay.config();
        let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        RelayAllocResp {
            channel: assigned.channel.id,
            relay_addrs: Addrs::of(addrs),
            lifetime_s: seconds(config.lifetime),
            idle_timeout_s: seconds(config.idle),
            rate_bps: assigned.rate_bps,
            burst_bytes: assigned.burst_bytes,
            inner_mtu: INNER_MTU,
            peer: other,
            generation: assigned.channel.generation.into(),
        }
    }

    /// Where a leg sends: to the address that its session knows this router by, if that is told
    /// with what it sends.
    fn relay_addrs(&self, path: &Path, grant: &Grant) -> ArrayVec<Multiaddr, 1> {
        let port = match grant {
            Grant::Port(granted) => granted.port,
            Grant::Channel(_) if path.local.socket == 0 => self.config.port,
            Grant::Channel(_) => self.config.alternate_port,
        };
        let known = path.local.ip.filter(|ip| !ip.is_unspecified() && port > 0);
        // A port of one's own has to be told all the same: it is at the address that is known.
        let anywhere = || match path.peer {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let known = known.or_else(|| matches!(grant, Grant::Port(_)).then(anywhere));
        known.map(|ip| multiaddr::encode((ip, port).into())).into_iter().collect()
    }

    /// The peer behind a session as the relay is told of it.
    pub(super) fn member(&self, session: SessionRef, peer: PeerId) -> Option<Member> {
        let tenant = self.sessions.session(session)?;
        let path = *tenant.path();
        Some(Member {
            peer,
            home: HomeRef { shard: self.shard, session },
            path,
            proven: tenant.proven(),
            proven_at: tenant.proven_at().unwrap_or(Moment::START),
            reachable: self.may_relay_to(&path),
            factor: self.peers.factor(session),
            network: *tenant.network(),
        })
    }
}

/// Largest packet inside a relayed WireGuard session: a data message around it and the channel's
/// header fit what every path carries. WireGuard pads to 16 bytes, but not beyond its MTU.
const INNER_MTU: u32 = {
    let bytes = limits::PLAINTEXT_BASE - HEADER_BYTES;
    assert!(bytes <= u16::MAX as usize);
    #[expect(clippy::cast_possible_truncation, reason = "asserted")]
    let mtu = bytes as u32;
    mtu
};
