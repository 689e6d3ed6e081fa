//! The routing table's place in the router: who is listed, who is asked, who left.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use arrayvec::ArrayVec;
use rand_core::RngCore;

use crate::ids::{HomeRef, PeerId, SessionRef, WgKey};
use crate::limits::{CHUNKS_MAX, HEADER_BYTES, SHIM_BYTES};
use crate::net::{Prefix, Scope};
use crate::overlay::{self, Arrival, Entry, Inserted, Present, TableEvent, Viewpoint};
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;
use crate::wire::body::find_node::{Chunks, RespWriter, fitting};
use crate::wire::body::{self, Addrs, FindNodeReq, Overflow, Peer, Ping, feature};
use crate::wire::{Class, Code, Header, Kind, multiaddr};

use super::peers::Liveness;
use super::relay::Leg;
use super::{Mail, Request, Router, Source};

/// The table hears of a busy peer this often; the walk of the trie is not free.
const SEEN_INTERVAL: Duration = Duration::from_secs(10);
/// Changes that time brings about in the table in one poll: many restored peers lapse at once.
const TABLE_EVENTS_A_POLL: usize = 256;

/// A peer that was listed by an earlier life of the router.
#[derive(Clone, Copy, Debug)]
pub struct RestoredPeer<'a> {
    /// Who.
    pub id: PeerId,
    /// Its WireGuard key.
    pub key: WgKey,
    /// Its `Peer` message as it was listed.
    pub encoded: &'a [u8],
    /// When it was first heard of, in seconds since 1970.
    pub met_unix_s: u64,
    /// When it was last heard of, in seconds since 1970.
    pub heard_unix_s: u64,
}

impl<T: Tunnel> Router<T> {
    /// Lists the peer behind `session` at the address that it proved to be at. Until a new
    /// address is proven it stays where it was: nobody is to be sent to a forged one.
    pub(super) fn list(&mut self, now: Now, session: SessionRef) {
        let Some(tenant) = self.sessions.session(session).filter(|it| it.proven()) else { return };
        let (at, key) = (tenant.path().peer, *tenant.key());
        let peer = self.peers.at(session);
        let Some(bound) = peer.identity else { return };
        if self.config.other_router == Some(bound.peer_id) {
            // It is seen at the port that it asks from, where it serves nobody.
            return;
        }
        (peer.listed_at, peer.seen_at) = (Some(at), now.at);
        let home = HomeRef { shard: self.shard, session };
        let entry = entry(now, home, at, bound.peer_id, &key);
        let not_before_unix_s = bound.binding.not_before_unix_s;
        let present = Present { home, key, not_before_unix_s };
        let owner = self.partition.owner(&entry.id.0);
        if owner == self.shard {
            return self.enlist(now, entry, present);
        }
        let Entry { id, prefix, scope, encoded, .. } = entry;
        self.tray.post(owner, Mail::List { id, present, prefix, scope }, &encoded);
    }

    /// Lists a peer whose id this shard owns, whosever session it has.
    pub(super) fn enlist(&mut self, now: Now, entry: Entry, present: Present) {
        let id = entry.id;
        if let Arrival::InPlaceOf(former) = self.directory.arrived(id, present) {
            let follow = Leg::Follow(id, former.session, present.home);
            self.tell_shard(now, former.shard, follow);
        }
        let outcome = self.table.insert(now.at, entry);
        self.outbox.counters.inserted(outcome);
        if outcome == Inserted::Updated {
            self.note_peer(now, &id);
        }
        let Inserted::Pinging { home, peer } = outcome else { return };
        if home.shard != self.shard && home.shard < self.partition.shards() {
            self.tray.post(home.shard, Mail::Ask(peer, home.session), &[]);
        } else if !self.ask_liveness(now, home.session) {
            self.table.unasked(&peer);
        }
    }

    /// Lists a peer that is known from before and has no session here, if this shard owns its id
    /// and the table [takes it](overlay::Table::restore). It stays until its place is wanted,
    /// for nobody answers the PING then, or until it had its time to come back; a session takes
    /// the entry over. Whether it was listed; what cannot have been listed never is.
    pub fn restore_peer(&mut self, now: Now, restored: &RestoredPeer<'_>) -> bool {
        let Some(entry) = self.restored(restored) else { return false };
        let listed = self.table.restore(now, entry, restored.heard_unix_s);
        if listed {
            self.outbox.counters.inserted(Inserted::Added);
        }
        listed
    }

    fn restored(&self, restored: &RestoredPeer<'_>) -> Option<Entry> {
        let RestoredPeer { id, key, encoded, met_unix_s, .. } = *restored;
        let peer = Peer::read(encoded).ok()?;
        let right = peer.peer_id == id && peer.wg_public == key;
        if !right || self.partition.owner(&id.0) != self.shard {
            return None;
        }
        let ip = peer.addrs.sockets().next()?.ip();
        let encoded = body::Entry::encode(&peer).ok()?.as_ref().try_into().ok()?;
        let home =
            HomeRef { shard: self.shard, session: SessionRef { slot: u32::MAX, generation: 0 } };
        let (prefix, scope) = (Prefix::of(ip), Scope::of(ip));
        Some(Entry { id, home, prefix, scope, met_unix_s, encoded })
    }

    /// Pings the peer that was silent longest, to see whether it still holds its place. Returns
    /// whether it was asked; a peer whose session is gone counts as asked, and will not answer.
    pub(super) fn ask_liveness(&mut self, now: Now, session: SessionRef) -> bool {
        let Some(path) = self.sessions.session(session).map(|session| *session.path()) else {
            return true;
        };
        let to = Source { session, path, prefix: Prefix::of(path.peer.ip()) };
        let liveness = Liveness { correlation: self.rng.next_u32(), token: self.rng.next_u64() };
        self.peers.at(session).liveness = Some(liveness);
        let ping = Ping { now_unix_ms: now.unix_ms, padding: &[], token: liveness.token };
        let header = Header::request(Kind::Ping, liveness.correlation);
        let limit = self.peers.at(session).plaintext_limit();
        self.outbox.offer(now, &to, Class::Control, limit, header, |body| ping.write(body))
    }

    /// A PONG came. Whether it answers the PING of [`ask_liveness`](Self::ask_liveness).
    pub(super) fn liveness_answered(
        &mut self,
        now: Now,
        session: SessionRef,
        correlation: u32,
        token: u64,
    ) -> bool {
        let asked = &self.peers.at(session).liveness;
        let answers = asked
            .as_ref()
            .is_some_and(|asked| asked.correlation == correlation && asked.token == token);
        // The question stays until the table has heard of it, or it might hear of it too late.
        if answers {
            self.heard_of(now, session);
        }
        answers
    }

    /// Tells the table that the peer behind `session` is alive, now and then, and where it is
    /// now, at once.
    pub(super) fn heard_of(&mut self, now: Now, session: SessionRef) {
        let peer = self.peers.at(session);
        let Some(bound) = peer.identity else { return };
        let at = self.sessions.session(session).map(|session| session.path().peer);
        if peer.listed_at != at {
            self.list(now, session);
        } else if peer.liveness.is_some() || now.at.since(peer.seen_at) >= SEEN_INTERVAL {
            let asked = peer.liveness.take().is_some();
            peer.seen_at = now.at;
            let id = bound.peer_id;
            match self.partition.owner(&id.0) {
                owner if owner == self.shard => {
                    // Whoever found no place may find one now.
                    if self.table.seen(&id, now.at) && self.directory.find(&id).is_some() {
                        self.note_peer(now, &id);
                    } else {
                        self.list(now, session);
                    }
                }
                owner if asked => self.tray.post(owner, Mail::Answered(id), &[]),
                owner => self.tray.post(owner, Mail::Seen(id, session), &[]),
            }
        }
    }

    pub(super) fn session_ended(&mut self, now: Now, session: SessionRef) {
        self.identity_ended(now, session);
        self.forget_probes(session);
    }

    /// Takes the identity from a session and its peer from the table, if it is listed there.
    pub(super) fn identity_ended(&mut self, now: Now, session: SessionRef) {
        let peer = self.peers.at(session);
        peer.listed_at = None;
        let Some(bound) = peer.identity.take() else { return };
        let (id, shard) = (bound.peer_id, self.shard);
        self.legs_leave(now, session, id);
        match self.partition.owner(&id.0) {
            owner if owner == shard => self.departed(&id, HomeRef { shard, session }),
            owner => self.tray.post(owner, Mail::Gone(id, session), &[]),
        }
    }

    /// A peer's session is over, whose id this shard owns.
    pub(super) fn departed(&mut self, id: &PeerId, home: HomeRef) {
        self.directory.left(id, home);
        self.table.session_ended(id, home);
    }

    pub(super) fn poll_overlay(&mut self, now: Now) {
        // What is left is due still, and the next turn's.
        self.records.poll(now.at);
        self.reassembly.poll(now.at);
        for _ in 0..TABLE_EVENTS_A_POLL {
            match self.table.poll(now.at) {
                Some(TableEvent::Evicted { .. }) => self.outbox.counters.evicted(),
                Some(TableEvent::Lapsed { .. }) => self.outbox.counters.lapsed(),
                Some(TableEvent::Added { .. }) => {}
                None => break,
            }
        }
        while self.tray.is_light()
            && let Some(slot) = self.identity_ends.pop(now.at)
        {
            if let Some(session) = self.peers.tenant(slot)
                && self.identified(now, session)
                && let Some(bound) = self.peers.at(session).identity
            {
                // The wall clock was set back meanwhile.
                self.await_end(now, slot, bound.binding.not_after_unix_s);
            }
        }
    }

    pub(super) fn overlay_deadline(&self) -> Moment {
        let own = self.table.next_deadline().min(self.identity_ends.next_deadline());
        own.min(self.records.next_deadline().min(self.reassembly.next_deadline()))
            .min(self.sharing_deadline())
    }

    /// Looks at the identity in `slot` again when it should have ended.
    pub(super) fn await_end(&mut self, now: Now, slot: u32, not_after_unix_s: u64) {
        let left_s = not_after_unix_s.saturating_sub(now.unix_s()).saturating_add(1);
        self.identity_ends.set(slot, now.at + Duration::from_secs(left_s));
    }

    /// Whether the session has a valid identity; one that has run out is taken away.
    pub(super) fn identified(&mut self, now: Now, session: SessionRef) -> bool {
        match self.peers.at(session).identity {
            Some(bound) if bound.binding.not_after_unix_s >= now.unix_s() => true,
            Some(_) => {
                self.identity_ended(now, session);
                false
            }
            None => false,
        }
    }

    /// Answers with the closest peers and others drawn from all, whose addresses mean something to
    /// who is asking: one frame, or as many chunks as it takes if the peer agreed to chunks.
    pub(super) fn find_node(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = FindNodeReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let asker = Viewpoint::of(request.from.path.peer.ip());
        let (target, wanted) = (&asked.target_id, asked.wanted());
        let (table, others, sample) = (&self.table, &self.others, &mut self.sample);
        sample.refresh(now.at, table, others, &mut self.rng);
        let peers = overlay::answer(table, others, sample, target, wanted, asker);
        let peer = self.peers.at(request.from.session);
        let limit = peer.plaintext_limit();
        let room = limit - SHIM_BYTES - HEADER_BYTES;
        let chunked = peer.capabilities & feature::STREAMING_CHUNKS != 0;
        let encoded = peers.iter().map(|found| found.encoded);
        let mut frames = ArrayVec::<Range<usize>, CHUNKS_MAX>::new();
        match Chunks::plan(encoded.clone(), room) {
            Ok(plan) if chunked => frames.extend(plan.iter()),
            Ok(_) | Err(Overflow) => frames.push(0..fitting(encoded, room)),
        }
        let stream = self.rng.next_u32().max(1);
        let plain = Header::response(Kind::FindNodeResp, request.header.correlation)
            .in_class(request.class);
        let total = frames.len();
        let mut queued = true;
        for (index, range) in frames.into_iter().enumerate() {
            let more = index + 1 < total;
            let header = if total > 1 { plain.chunk(stream, more) } else { plain };
            queued &= self.outbox.offer(now, &request.from, request.class, limit, header, |body| {
                let mut answer = RespWriter::new(body);
                for found in &peers[range] {
                    answer.push(found.encoded)?;
                }
                if total == 1 {
                    answer.finish();
                    return Ok(());
                }
                answer.finish_chunk(chunk(index), chunk(total))
            });
        }
        if !queued {
            self.outbox.counters.message_dropped(request.kind());
        }
    }
}

/// A peer as the table lists it.
fn entry(now: Now, home: HomeRef, at: SocketAddr, id: PeerId, key: &WgKey) -> Entry {
    let observed = [multiaddr::encode(at)];
    let peer =
        Peer { peer_id: id, addrs: Addrs::of(&observed), rtt_ms: 0, wg_public: *key, flags: 0 };
    let Ok(encoded) = body::Entry::encode(&peer) else {
        unreachable!("four socket addresses fit, this is one");
    };
    let encoded = ArrayVec::try_from(encoded.as_ref()).unwrap_or_default();
    let (prefix, scope) = (Prefix::of(at.ip()), Scope::of(at.ip()));
    Entry { id, home, prefix, scope, met_unix_s: now.unix_s(), encoded }
}

/// A chunk's number or count on the wire.
pub(super) fn chunk(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
