//! What a channel's shard and the homes of its legs tell each other.
//!
//! Where a leg is may be told late or not at all, for a peer can move with every datagram and
//! must not fill the mail of others: one letter in [`TELL_INTERVAL`], again if it got lost, and once more when
//! the channel's shard says where it believes the leg to be. That a leg is gone is control.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::RngCore;

use crate::ids::{HomeRef, PeerId, SessionRef};
use crate::net::{Path, Prefix, target};
use crate::partition::ShardSet;
use crate::relay::{CloseReason, Closed, Event, Member, Status};
use crate::time::{Moment, Now};
use crate::tunnel::{Session, Tunnel};
use crate::wire::body::{RelayClose, RelayStatus};
use crate::wire::{Class, Code, Header, Kind};

use super::super::records::{Asker, asker};
use super::super::{Mail, Request, Router, Source};
use super::allocate::Grant;

/// Shortest time between two letters about where a session is.
const TELL_INTERVAL: Duration = Duration::from_millis(20);

/// Sessions that moved again too soon to be told of, and when they may be.
pub(in super::super) type Restless = VecDeque<(SessionRef, Moment)>;

/// News of a leg.
#[derive(Clone, Debug)]
pub enum Leg {
    /// To the channel's shard: a peer with channels there is elsewhere, or proved to be.
    Moved(Box<Member>),
    /// To the channel's shard: the peer's session is over.
    Left(PeerId, HomeRef),
    /// To the home of a session that spoke for a peer: another one does, and its legs go there.
    Follow(PeerId, SessionRef, HomeRef),
    /// To that one's home: the peer has channels in these shards, with legs at the former session.
    Inherit(SessionRef, Box<Inheritance>),
    /// To the channel's shard: a peer closes the channel that it calls so.
    Close(Asker, PeerId, u32),
    /// To the home of who did: whether there was one.
    Closed(Asker, u32, bool),
    /// To a leg's home: where its session is believed to be, and, if it is news, that the other
    /// peer has a channel to it.
    Joined(Box<Member>, Option<(PeerId, Grant)>),
    /// To a leg's home: the other peer has a channel to it.
    Offer(SessionRef, PeerId, Grant),
    /// To a leg's home: how it stands.
    Status(SessionRef, RelayStatus),
    /// To a leg's home: its channel is over.
    Ended(SessionRef, u32, CloseReason),
}

/// What a peer's former session leaves to the one that speaks for it now.
#[derive(Clone, Debug)]
pub struct Inheritance {
    peer: PeerId,
    former: HomeRef,
    /// Where its channels are.
    legs: ShardSet,
    /// What its rates are multiplied by.
    factor: u8,
}

impl Leg {
    /// The sender's session that it says the place of.
    pub(in super::super) fn moved(&self) -> Option<SessionRef> {
        match self {
            Self::Moved(member) => Some(member.home.session),
            Self::Left(..)
            | Self::Follow(..)
            | Self::Inherit(..)
            | Self::Close(..)
            | Self::Closed(..)
            | Self::Joined(..)
            | Self::Offer(..)
            | Self::Status(..)
            | Self::Ended(..) => None,
        }
    }

    /// Whether it must not get lost: nobody would say it again.
    pub(in super::super) const fn is_final(&self) -> bool {
        matches!(self, Self::Left(..) | Self::Follow(..) | Self::Inherit(..))
    }
}

impl<T: Tunnel> Router<T> {
    pub(in super::super) fn relay_close(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = RelayClose::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let session = request.from.session;
        let Some(bound) = self.peers.at(session).identity else { return };
        if !self.may_ask_the_relay(now, session) {
            return self.refuse(now, request, Code::RateLimited, 0);
        }
        let shard = self.partition.shard_of_channel(asked.channel);
        match u16::try_from(shard) {
            Ok(shard) if shard < self.partition.shards() => {
                let close = Leg::Close(asker(request), bound.peer_id, asked.channel);
                self.tell_shard(now, shard, close);
            }
            Ok(_) | Err(_) => self.refuse(now, request, Code::NotFound, 0),
        }
    }

    /// News for a leg's home.
    pub(super) fn tell_leg(&mut self, now: Now, home: HomeRef, news: Leg) {
        self.tell_shard(now, home.shard, news);
    }

    pub(in super::super) fn tell_shard(&mut self, now: Now, shard: u16, news: Leg) {
        if shard == self.shard {
            self.told_of_leg(now, shard, news);
        } else {
            self.tray.post(shard, Mail::Leg(news), &[]);
        }
    }

    /// News came, of shard `from`.
    pub(in super::super) fn told_of_leg(&mut self, now: Now, from: u16, news: Leg) {
        match news {
            Leg::Moved(member) => {
                self.relay.moved(&member);
            }
            Leg::Left(peer, home) => self.relay.left(&peer, home),
            Leg::Follow(peer, former, to) => self.hand_legs_over(now, peer, former, to),
            Leg::Inherit(session, left) => self.inherit_legs(now, session, &left),
            Leg::Close(asker, peer, channel) => {
                let closed = self.relay.close(channel, &peer);
                self.tell_shard(now, from, Leg::Closed(asker, channel, closed.is_some()));
                if let Some(Closed { legs: [_, other], reason }) = closed {
                    self.outbox.counters.relay_closed(reason);
                    let ended = Leg::Ended(other.home.session, other.channel.id, reason);
                    self.tell_leg(now, other.home, ended);
                    self.count_lost();
                }
            }
            Leg::Closed(asker, channel, was_there) => {
                let Some(request) = self.request_of(&asker) else { return };
                if !was_there {
                    return self.refuse(now, &request, Code::NotFound, 0);
                }
                let closed = RelayClose { channel, reason: CloseReason::Leg as u32 };
                self.answer(now, &request, Kind::RelayClosed, |body| closed.write(body));
            }
            Leg::Joined(member, offer) => {
                let session = member.home.session;
                self.correct(now, from, &member);
                if let Some((other, grant)) = offer {
                    self.offer_leg(now, session, other, &grant);
                }
            }
            Leg::Offer(session, other, grant) => self.offer_leg(now, session, other, &grant),
            Leg::Status(session, status) => self.tell_status(now, session, &status),
            Leg::Ended(session, channel, reason) => self.tell_end(now, session, channel, reason),
        }
    }

    /// What the relay has to tell by itself.
    pub(in super::super) fn poll_relay(&mut self, now: Now) {
        self.settle_restless(now);
        while let Some(reason) = self.stock.poll(now.at) {
            self.outbox.counters.relay_closed(reason);
        }
        // What is told of its own accord leaves places for answers.
        while self.tray.is_light()
            && !self.crowded()
            && let Some(event) = self.relay.poll(now.at)
        {
            match event {
                Event::Closed(Closed { legs, reason }) => {
                    self.outbox.counters.relay_closed(reason);
                    for leg in legs {
                        let ended = Leg::Ended(leg.home.session, leg.channel.id, reason);
                        self.tell_leg(now, leg.home, ended);
                    }
                }
                Event::Status(status) => {
                    let Status { home, channel, used_bytes, rate_bps, throttled, retry_after } =
                        status;
                    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
                    let channel = channel.id;
                    let status =
                        RelayStatus { channel, used_bytes, rate_bps, throttled, retry_after_ms };
                    self.tell_leg(now, home, Leg::Status(home.session, status));
                }
            }
        }
    }

    /// Tells the shards of its channels where the session is that the last datagram moved or
    /// proved, if it did.
    #[inline]
    pub(in super::super) fn legs_follow(&mut self, now: Now) {
        if let Some(session) = self.sessions.take_moved() {
            self.mapping_lapsed(now, session);
            self.leg_moved(now, session);
        }
    }

    #[cold]
    fn leg_moved(&mut self, now: Now, session: SessionRef) {
        let peer = self.peers.at(session);
        let (legs, identity) = (peer.legs, peer.identity);
        let Some(bound) = identity.filter(|_| !legs.is_empty()) else { return };
        let next = peer.legs_told + TELL_INTERVAL;
        let restless = std::mem::replace(&mut peer.restless, next > now.at);
        let Some(member) = self.member(session, bound.peer_id) else { return };
        if legs.iter().any(|shard| shard == self.shard) {
            self.relay.moved(&member);
        }
        if next <= now.at {
            self.tell_others(now, session, &member);
        } else if !restless {
            self.restless.push_back((session, next));
        }
    }

    fn tell_others(&mut self, now: Now, session: SessionRef, member: &Member) {
        let peer = self.peers.at(session);
        peer.legs_told = now.at;
        for shard in peer.legs.iter().filter(|shard| *shard != self.shard) {
            self.tray.post(shard, Mail::Leg(Leg::Moved(Box::new(*member))), &[]);
        }
    }

    /// A letter about where that session is got lost.
    pub fn leg_unheard(&mut self, now: Now, session: SessionRef) {
        let peer = self.peers.at(session);
        if !std::mem::replace(&mut peer.restless, true) {
            self.restless.push_back((session, now.at + TELL_INTERVAL));
        }
    }

    /// Tells of those that moved again too soon.
    fn settle_restless(&mut self, now: Now) {
        while self.tray.is_light()
            && let Some(&(session, at)) = self.restless.front()
            && at <= now.at
        {
            self.restless.pop_front();
            if self.sessions.session(session).is_none() {
                continue;
            }
            // Another tenant of the slot would not be restless.
            let peer = self.peers.at(session);
            let (was, identity) = (std::mem::take(&mut peer.restless), peer.identity);
            let Some(bound) = identity.filter(|_| was) else { continue };
            if let Some(member) = self.member(session, bound.peer_id) {
                self.tell_others(now, session, &member);
            }
        }
    }

    /// The channel's shard believes a leg to be there.
    pub(super) fn correct(&mut self, now: Now, shard: u16, believed: &Member) {
        let session = believed.home.session;
        if self.sessions.session(session).is_none() {
            let left = Leg::Left(believed.peer, believed.home);
            return self.tell_shard(now, shard, left);
        }
        let bound = self.peers.at(session).identity.is_some_and(|it| it.peer_id == believed.peer);
        let Some(member) = self.member(session, believed.peer).filter(|_| bound) else {
            let left = Leg::Left(believed.peer, believed.home);
            return self.tell_shard(now, shard, left);
        };
        // It is not among them if the identity ended meanwhile and was shown again.
        self.peers.at(session).legs.add(shard);
        if (member.path, member.proven) != (believed.path, believed.proven) {
            self.tell_shard(now, shard, Leg::Moved(Box::new(member)));
        }
    }

    /// A peer speaks by another session now.
    fn hand_legs_over(&mut self, now: Now, peer: PeerId, former: SessionRef, to: HomeRef) {
        let held = self.sessions.session(former).is_some() && {
            let bound = self.peers.at(former).identity;
            bound.is_some_and(|bound| bound.peer_id == peer)
        };
        if !held {
            return;
        }
        let tenant = self.peers.at(former);
        let (legs, factor) = (std::mem::take(&mut tenant.legs), tenant.factor);
        if !legs.is_empty() {
            let former = HomeRef { shard: self.shard, session: former };
            let left = Box::new(Inheritance { peer, former, legs, factor });
            self.tell_shard(now, to.shard, Leg::Inherit(to.session, left));
        }
    }

    /// The legs of a peer's former session become those of one that is here, if it still is.
    fn inherit_legs(&mut self, now: Now, session: SessionRef, left: &Inheritance) {
        let Inheritance { peer, former, legs, factor } = *left;
        let member = self.member(session, peer).filter(|_| {
            let bound = self.peers.at(session).identity;
            bound.is_some_and(|bound| bound.peer_id == peer)
        });
        let member = member.map(|member| {
            let heir = self.peers.at(session);
            heir.legs.add_all(legs);
            heir.factor = heir.factor.max(factor);
            Member { factor: heir.factor, ..member }
        });
        for shard in legs.iter() {
            let news = match member {
                Some(member) => Leg::Moved(Box::new(member)),
                None => Leg::Left(peer, former),
            };
            self.tell_shard(now, shard, news);
        }
    }

    /// A session's identity is over, and with it its channels.
    pub(in super::super) fn legs_leave(&mut self, now: Now, session: SessionRef, peer: PeerId) {
        let legs = std::mem::take(&mut self.peers.at(session).legs);
        let home = HomeRef { shard: self.shard, session };
        for shard in legs.iter() {
            self.tell_shard(now, shard, Leg::Left(peer, home));
        }
    }

    /// Whether anything is relayed to that end of a path.
    pub(super) fn may_relay_to(&self, path: &Path) -> bool {
        let private = self.config.allow_private;
        target::forbidden(&path.peer, &self.config.own, private).is_none()
    }

    /// A session as somebody to send to.
    pub(super) fn source_of(&self, session: SessionRef) -> Option<Source> {
        let path = *self.sessions.session(session).map(Session::path)?;
        Some(Source { session, path, prefix: Prefix::of(path.peer.ip()) })
    }

    fn tell_status(&mut self, now: Now, session: SessionRef, status: &RelayStatus) {
        let Some(to) = self.source_of(session) else { return };
        let header = Header::request(Kind::RelayStatus, self.rng.next_u32());
        let limit = self.peers.at(session).plaintext_limit();
        self.outbox.offer(now, &to, Class::Control, limit, header, |body| status.write(body));
    }

    fn tell_end(&mut self, now: Now, session: SessionRef, channel: u32, reason: CloseReason) {
        let Some(to) = self.source_of(session) else { return };
        let close = RelayClose { channel, reason: reason as u32 };
        let header = Header::request(Kind::RelayClose, self.rng.next_u32());
        let limit = self.peers.at(session).plaintext_limit();
        self.outbox.offer(now, &to, Class::Control, limit, header, |body| close.write(body));
    }
}
