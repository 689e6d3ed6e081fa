//! What shards tell each other, and what a router does with what it is told.
//!
//! A router never waits for another shard. What it has to tell lies in its tray until whoever
//! drives it takes it away ([`Router::take_mail`]), and what comes is handled like a datagram
//! ([`Router::deliver`]). Nothing is ever passed on twice: what came by mail and turns out to
//! belong to a third shard is dropped, so that mail cannot run in circles.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::drops::Drop;
use crate::ids::{HomeRef, PeerId, SessionRef};
use crate::limits;
use crate::net::{Outlet, Path, Prefix, Scope};
use crate::overlay::{Entry, Present, Snapshot};
use crate::time::Now;
use crate::tunnel::{Initiation, Moved, Opened, Tunnel};
use crate::wire::{Class, channel};

use super::Router;
use super::records::Write;
use super::relay::{Allocation, Leg};
use super::rendezvous::Introduction;
use super::values::Lookup;

/// One message from shard to shard. The payload that some have travels beside it.
#[derive(Debug)]
pub enum Mail {
    /// A datagram, the payload, for one of the receiver's sessions: steering was wrong or is off.
    Datagram(Path),
    /// An initiation, the payload, whose peer is at home in the receiver.
    Initiation(Moved),
    /// A session of the sender proved to be this peer, whose id the receiver owns. The payload is
    /// its `Peer` message.
    List {
        /// Who.
        id: PeerId,
        /// The sender's session.
        present: Present,
        /// The network of its address.
        prefix: Prefix,
        /// How far its address means the same thing.
        scope: Scope,
    },
    /// The peer behind the sender's session is alive.
    Seen(PeerId, SessionRef),
    /// That peer is not listed; if it should be, say so again.
    Unlisted(SessionRef),
    /// The peer answered the PING that [`Mail::Ask`] was about.
    Answered(PeerId),
    /// The peer's session ended, or its identity did.
    Gone(PeerId, SessionRef),
    /// Another peer would like this one's place: ping it.
    Ask(PeerId, SessionRef),
    /// The PING could not be sent.
    Unasked(PeerId),
    /// A write that was checked, of a key that the receiver owns.
    Write(Box<Write>),
    /// It, with what became of it.
    Written(Box<Write>),
    /// A lookup of a key that the receiver owns.
    Find(Box<Lookup>),
    /// It, with what was found.
    Found(Box<Lookup>),
    /// An introduction to a peer whose id the receiver owns.
    Seek(Box<Introduction>),
    /// It, for the receiver's session that speaks for the peer.
    Notify(SessionRef, Box<Introduction>),
    /// It, with what came of it, for who asked.
    Introduced(Box<Introduction>),
    /// A request for a relay channel, on its way.
    Allocation(Box<Allocation>),
    /// News of a leg of one.
    Leg(Leg),
    /// One prefix bucket of the sender's table.
    Snapshot(Arc<Snapshot>),
    /// What the sender said got lost: forget what it told of its peers, and tell it what it has to know.
    Lost,
    /// The sender lost all it had and begins anew.
    Restarted,
}

impl Mail {
    /// The class that it travels in between shards. Only what a peer repeats by itself, or what
    /// the next one makes up for, may get lost.
    pub fn class(&self) -> Class {
        match self {
            Self::Datagram(_)
            | Self::Initiation(_)
            | Self::Write(_)
            | Self::Written(_)
            | Self::Find(_)
            | Self::Found(_)
            | Self::Seek(_)
            | Self::Notify(..)
            | Self::Introduced(_)
            | Self::Allocation(_) => Class::Coordination,
            Self::Leg(news) if !news.is_final() => Class::Coordination,
            Self::Seen(..) | Self::Unlisted(_) => Class::Hints,
            Self::List { .. }
            | Self::Leg(_)
            | Self::Answered(_)
            | Self::Gone(..)
            | Self::Ask(..)
            | Self::Unasked(_)
            | Self::Snapshot(_)
            | Self::Lost
            | Self::Restarted => Class::Control,
        }
    }

    /// The sender's session that it says the place of: if it gets lost, the sender has to know.
    pub fn moved_leg(&self) -> Option<SessionRef> {
        match self {
            Self::Leg(news) => news.moved(),
            Self::Datagram(_)
            | Self::Initiation(_)
            | Self::List { .. }
            | Self::Seen(..)
            | Self::Unlisted(_)
            | Self::Answered(_)
            | Self::Gone(..)
            | Self::Ask(..)
            | Self::Unasked(_)
            | Self::Write(_)
            | Self::Written(_)
            | Self::Find(_)
            | Self::Found(_)
            | Self::Seek(_)
            | Self::Notify(..)
            | Self::Introduced(_)
            | Self::Allocation(_)
            | Self::Snapshot(_)
            | Self::Lost
            | Self::Restarted => None,
        }
    }

    /// What makes an older message of the same class and key needless.
    pub fn key(&self) -> Option<u64> {
        match self {
            Self::Seen(id, _) => id.0.first_chunk().map(|head| u64::from_be_bytes(*head)),
            Self::Unlisted(session) => Some(u64::from(session.slot)),
            Self::Datagram(_)
            | Self::Initiation(_)
            | Self::Write(_)
            | Self::Written(_)
            | Self::Find(_)
            | Self::Found(_)
            | Self::Seek(_)
            | Self::Notify(..)
            | Self::Introduced(_)
            | Self::Allocation(_)
            | Self::Leg(_)
            | Self::List { .. }
            | Self::Answered(_)
            | Self::Gone(..)
            | Self::Ask(..)
            | Self::Unasked(_)
            | Self::Snapshot(_)
            | Self::Lost
            | Self::Restarted => None,
        }
    }
}

/// Mail that waits to be taken away.
#[derive(Debug)]
pub(super) struct Tray {
    letters: VecDeque<Letter>,
    /// Payloads, back to back.
    payloads: Vec<u8>,
}

#[derive(Debug)]
struct Letter {
    to: u16,
    mail: Mail,
    payload_bytes: usize,
}

/// Letters with which a poll stops and leaves the rest to the next one.
const POLL_LETTERS: usize = 512;
/// Those, snapshots for all other shards, and what a full receive slot leads to, with room to spare.
const LETTERS_MAX: usize = 8192;
/// A slot full of datagrams that belong elsewhere, and as much again.
const PAYLOADS_MAX: usize = 2 * limits::RX_SLOT_BYTES;

impl Tray {
    pub(super) fn new(shards: u16) -> Self {
        // A single shard has nobody to write to.
        let many = usize::from(shards > 1);
        Self {
            letters: VecDeque::with_capacity(many * LETTERS_MAX),
            payloads: Vec::with_capacity(many * PAYLOADS_MAX),
        }
    }

    /// Adds a letter.
    ///
    /// # Panics
    /// If nobody takes the mail away.
    pub(super) fn post(&mut self, to: u16, mail: Mail, payload: &[u8]) {
        let room =
            self.letters.len() < LETTERS_MAX && self.payloads.len() + payload.len() <= PAYLOADS_MAX;
        assert!(room, "whoever drives a router takes its mail away after each call");
        self.payloads.extend_from_slice(payload);
        self.letters.push_back(Letter { to, mail, payload_bytes: payload.len() });
    }

    /// Whether a poll may go on.
    pub(super) fn is_light(&self) -> bool {
        self.letters.len() < POLL_LETTERS
    }
}

impl<T: Tunnel> Router<T> {
    /// Hands every letter that waits, oldest first, to `post`: the shard it is for, the message,
    /// and its payload of at most [`limits::MAIL_BYTES_MAX`] bytes. To be called after whatever
    /// else this router was asked to do.
    pub fn take_mail(&mut self, now: Now, mut post: impl FnMut(u16, Mail, &[u8])) {
        self.note_changes(now);
        let Tray { letters, payloads } = &mut self.tray;
        let mut rest = &payloads[..];
        for Letter { to, mail, payload_bytes } in letters.drain(..) {
            let (payload, behind) = rest.split_at(payload_bytes);
            rest = behind;
            post(to, mail, payload);
        }
        payloads.clear();
    }

    /// Takes what shard `from` sent; to be asked only while the router is not
    /// [stalled](Self::is_stalled).
    pub fn deliver(
        &mut self,
        now: Now,
        from: u16,
        mail: Mail,
        payload: &[u8],
        outlet: &mut impl Outlet,
    ) {
        if self.crowded() {
            self.transmit(now, outlet);
        }
        match mail {
            Mail::Datagram(path) if payload.first() == Some(&channel::TYPE) => {
                self.forward(now, &path, payload, outlet);
            }
            Mail::Datagram(path) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let opened = self.sessions.receive(now, &path, payload, &mut scratch);
                if matches!(opened, Opened::Elsewhere(_)) {
                    self.outbox.counters.drop(Drop::NoSession);
                } else {
                    self.opened(now, &path, payload, opened, outlet);
                }
                self.scratch = scratch;
                self.legs_follow(now);
            }
            Mail::Initiation(moved) => self.adopt(now, &moved, payload, outlet),
            Mail::List { id, present, prefix, scope } => {
                let Ok(encoded) = payload.try_into() else { return };
                let (home, met_unix_s) = (present.home, now.unix_s());
                self.enlist(now, Entry { id, home, prefix, scope, met_unix_s, encoded }, present);
            }
            Mail::Seen(id, session) => {
                if self.table.seen(&id, now.at) && self.directory.find(&id).is_some() {
                    self.note_peer(now, &id);
                } else {
                    self.tray.post(from, Mail::Unlisted(session), &[]);
                }
            }
            Mail::Unlisted(session) => self.list(now, session),
            Mail::Answered(id) => {
                self.table.seen(&id, now.at);
            }
            Mail::Gone(id, session) => self.departed(&id, HomeRef { shard: from, session }),
            Mail::Ask(id, session) => {
                if !self.ask_liveness(now, session) {
                    self.tray.post(from, Mail::Unasked(id), &[]);
                }
            }
            Mail::Unasked(id) => self.table.unasked(&id),
            Mail::Write(mut write) => {
                write.written = self.keep(now, &mut write);
                self.conclude_for(now, from, write);
            }
            Mail::Written(write) => {
                self.written(now, &write.asker, write.written);
                self.letters.put_write(write);
            }
            Mail::Find(mut lookup) => {
                self.look_up(now, &mut lookup);
                self.tray.post(from, Mail::Found(lookup), &[]);
            }
            Mail::Found(lookup) => self.answer_value(now, lookup),
            Mail::Seek(introduction) => self.find_target(now, introduction),
            Mail::Notify(session, introduction) => self.notify(now, session, introduction),
            Mail::Introduced(introduction) => self.conclude_introduction(now, *introduction),
            Mail::Allocation(letter) => self.pass_allocation(now, letter),
            Mail::Leg(news) => self.told_of_leg(now, from, news),
            Mail::Snapshot(snapshot) => self.others.replace(snapshot),
            Mail::Lost => self.forget_peers_of(now, from),
            Mail::Restarted => self.begin_again_with(now, from),
        }
    }

    fn adopt(&mut self, now: Now, moved: &Moved, payload: &[u8], outlet: &mut impl Outlet) {
        let Ok(initiation) = <&Initiation>::try_from(payload) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let opened = self.sessions.adopt(now, moved, initiation, &mut scratch);
        self.opened(now, &moved.path, payload, opened, outlet);
        self.scratch = scratch;
    }

    /// Tells every other shard.
    pub(super) fn post_all(&mut self, mail: impl Fn() -> Mail) {
        for to in (0..self.partition.shards()).filter(|to| *to != self.shard) {
            self.tray.post(to, mail(), &[]);
        }
    }
}

const _: () = assert!(limits::DATAGRAM_BASE_MAX <= limits::MAIL_BYTES_MAX);
