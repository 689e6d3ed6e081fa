//! A shard around a router under test: a socket's backlog, turns, slots that the kernel keeps.
//!
//! A turn takes what the receive pool has slots for, as runs where one sender's datagrams of
//! one size follow each other, hands it to the router, and lets the router send. Between
//! the two the shard may be interrupted. Where the link is narrow, the socket takes so many
//! datagrams and then none until they have left; what the router does not handle meanwhile
//! waits, in its receive slots.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};
use molia_router::counters::Counters;
use molia_router::identity::Identity;
use molia_router::limits::{RX_SLOT_BYTES, SLOT_BYTES, SLOT_HEADROOM};
use molia_router::net::{Datagram, Outlet, Path, Transmit};
use molia_router::router::{Config, Mail, Router};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::Secrets;
use molia_router::tunnel::plain::Plain;

use super::keeper::Keeper;
use super::listing::{self, Listed};
use super::post::{Letter, Post};
use super::saboteur::Saboteur;
use super::scenario::Host;
use super::tally::{self, Handed, Tally};
use super::tap::Tap;
use super::verdict::{Oracle, Violation, ensure};
use super::world::wall;

/// A turn takes this long at least.
const TURN_MIN: Duration = Duration::from_micros(50);
/// Segments of a run.
const RUN_MAX: usize = 64;

/// What a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Idle,
    Scheduled,
    /// Interrupted between receiving and sending.
    Stalled,
}

/// One life of a shard.
pub(crate) struct Shard {
    number: u16,
    pub(crate) router: Router<Plain>,
    /// Where it remembers, if it does.
    pub(crate) keeper: Option<Keeper>,
    host: Host,
    /// When it begins to take turns.
    pub(crate) born: Moment,
    /// Peers that its table has room for.
    pub(crate) entries_max: usize,
    /// Peers and buckets it had after the last turn, and when a peer left or a bucket split.
    shape: (usize, usize),
    pub(crate) roomier_at: Moment,
    pub(crate) turn: Turn,
    /// Datagrams and letters that it handles before it dies, if it does.
    pub(crate) doom: Option<usize>,
    rx: Pool,
    /// What arrived and was not taken yet.
    backlog: VecDeque<(Path, Vec<u8>)>,
    /// What the router did not handle for want of room.
    left: VecDeque<Datagram>,
    /// What the socket takes until `room_at`, and whether somebody waits for then.
    room: usize,
    room_at: Moment,
    awaited: bool,
    /// What the kernel still reads from, and until when.
    parked: Vec<Parked>,
    handed: Handed,
    last: Option<Tally>,
    checked_at: Moment,
    turned_at: Moment,
    /// Turns in a row in which nothing came and nothing left.
    idle_turns: u32,
}

/// What the kernel still reads.
struct Parked {
    until: Moment,
    /// Keeps the slot.
    _transmit: Transmit,
    /// A receive slot that was relayed as it came.
    received: bool,
}

fn pool(slot_bytes: usize, slots: usize, headroom: usize) -> Pool {
    let config =
        PoolConfig { slot_bytes, slots, headroom, hugepages: Hugepages::Off, prefault: false };
    Pool::new(config).expect("memory for a few slots")
}

impl Shard {
    /// A shard with nobody's session yet, as `config` numbers it.
    pub(crate) fn new(config: Config, host: Host, life: &Life<'_>) -> Self {
        let number = config.tunnel.shard;
        let slots = usize::try_from(config.tunnel.sessions_max).expect("few sessions");
        let tunnel = Plain::new(life.identity.wg_key(), slots);
        // What waits in the relay takes none of the slots that answers need.
        let tx = pool(SLOT_BYTES, host.tx_slots + config.relay.waiting_max, SLOT_HEADROOM);
        let counters = Counters::anonymous(number.into()).expect("memory for counters");
        let lanes = u64::try_from(3 * config.tunnel.handshake_queue).expect("a short queue");
        let identity = Arc::clone(life.identity);
        let entries_max = config.table.entries_max;
        let router = Router::new(config, identity, tunnel, tx, counters, &life.secrets);
        Self {
            number,
            shape: (0, router.table().buckets()),
            router,
            keeper: None,
            host,
            born: life.born,
            entries_max,
            roomier_at: Moment::START,
            turn: Turn::Idle,
            doom: None,
            rx: pool(RX_SLOT_BYTES, host.rx_slots, 0),
            backlog: VecDeque::new(),
            left: VecDeque::new(),
            room: 0,
            room_at: Moment::START,
            awaited: false,
            parked: Vec::new(),
            handed: Handed { pending_max: lanes, ..Handed::default() },
            last: None,
            checked_at: life.born,
            turned_at: life.born,
            idle_turns: 0,
        }
    }

    /// The next life, at the same socket: what the last one knew, and what it had taken, is gone.
    pub(crate) fn succeed(&mut self, config: Config, life: &Life<'_>) {
        let backlog = std::mem::take(&mut self.backlog);
        *self = Self { backlog, ..Self::new(config, self.host, life) };
        self.router.begin_again(wall(life.born));
    }

    /// Whether it dies before it handles anything more.
    pub(crate) fn dies(&mut self) -> bool {
        let dies = self.doom == Some(0);
        self.doom = self.doom.map(|left| left.saturating_sub(1));
        dies
    }

    /// A datagram reaches the socket; whether it is the first to wait.
    pub(crate) fn arrive(&mut self, path: Path, bytes: Vec<u8>) -> bool {
        if self.backlog.len() < self.host.backlog {
            self.backlog.push_back((path, bytes));
        }
        self.backlog.len() == 1
    }

    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Whether its counters say all of what it did.
    pub(crate) fn is_between_turns(&self) -> bool {
        self.turn != Turn::Stalled
    }

    /// When the next turn may begin.
    pub(crate) fn ready_at(&self) -> Moment {
        self.turned_at + TURN_MIN
    }

    pub(crate) fn deadline(&self) -> Moment {
        self.router.next_deadline()
    }

    pub(crate) fn listing(&self) -> Vec<Listed> {
        listing::of(self.number, self.router.table())
    }

    /// First half of a turn: what was left, and what came.
    pub(crate) fn begin_turn(&mut self, now: Moment, calm: bool) -> Vec<Datagram> {
        self.parked.retain(|parked| parked.until > now);
        match self.host.narrow.filter(|_| !calm) {
            None => self.room = usize::MAX,
            Some((room, time)) if self.room_at <= now => {
                (self.room, self.room_at, self.awaited) = (room, now + time, false);
            }
            Some(_) => {}
        }
        let mut datagrams: Vec<Datagram> = self.left.drain(..).collect();
        datagrams.extend(self.take());
        self.idle_turns = if datagrams.is_empty() { self.idle_turns } else { 0 };
        datagrams
    }

    /// On a narrow link, sends what there is room for. The others leave it all to the end of the
    /// turn, so that there is something to choose from.
    pub(crate) fn drain_narrow(&mut self, now: Now) -> Vec<Transmit> {
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        if self.host.narrow.is_some() {
            self.router.transmit(now, &mut wire);
        }
        self.room = wire.room;
        wire.sent
    }

    /// Hands one slot to the router. Returns what left meanwhile.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        datagram: Datagram,
        witness: &mut Witness<'_>,
    ) -> Vec<Transmit> {
        if !self.left.is_empty() {
            self.left.push_back(datagram);
            return Vec::new();
        }
        let came: Vec<Vec<u8>> = segments(&datagram).map(<[u8]>::to_vec).collect();
        let path = datagram.path;
        let datagram = match witness.saboteur {
            Some(saboteur) => saboteur.received(datagram, &self.rx),
            None => Some(datagram),
        };
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        let left = datagram.and_then(|datagram| self.router.receive(now, datagram, &mut wire));
        self.room = wire.room;
        let unhandled = left.as_ref().map_or(0, |left| left.segments().count());
        for segment in &came[..came.len() - unhandled] {
            self.handed.datagrams += 1;
            witness.post.arrived(&path, segment);
            witness.tap.arrived(now.at, self.number, &path, segment);
        }
        self.left.extend(left);
        wire.sent
    }

    /// Hands a letter to the router. Returns what left meanwhile.
    pub(crate) fn deliver(&mut self, now: Now, letter: Letter, tap: &mut Tap) -> Vec<Transmit> {
        let Letter { from, mail, payload, .. } = letter;
        match &mail {
            Mail::Datagram(path) => {
                self.handed.mailed += 1;
                tap.incoming(now.at, path, &payload);
            }
            Mail::Initiation(_) => self.handed.mailed += 1,
            Mail::Ask(..) => self.handed.asked += 1,
            Mail::List { .. }
            | Mail::Seek(_)
            | Mail::Notify(..)
            | Mail::Introduced(_)
            | Mail::Allocation(_)
            | Mail::Leg(_)
            | Mail::Seen(..)
            | Mail::Write(_)
            | Mail::Written(_)
            | Mail::Find(_)
            | Mail::Found(_)
            | Mail::Unlisted(_)
            | Mail::Answered(_)
            | Mail::Gone(..)
            | Mail::Unasked(_)
            | Mail::Snapshot(_)
            | Mail::Lost
            | Mail::Restarted => {}
        }
        self.idle_turns = 0;
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        self.router.deliver(now, from, mail, &payload, &mut wire);
        if self.host.narrow.is_some() {
            self.router.transmit(now, &mut wire);
        }
        self.room = wire.room;
        wire.sent
    }

    /// What the router has to tell other shards.
    pub(crate) fn take_mail(&mut self, now: Now) -> Vec<Letter> {
        let (from, handed) = (self.number, &mut self.handed);
        let mut letters = Vec::new();
        self.router.take_mail(now, |to, mail, payload| {
            handed.forwarded += u64::from(matches!(mail, Mail::Datagram(_)));
            handed.moved += u64::from(matches!(mail, Mail::Initiation(_)));
            handed.lookups += u64::from(matches!(mail, Mail::Find(_) | Mail::Write(_)));
            letters.push(Letter { from, to, mail, payload: payload.to_vec() });
        });
        letters
    }

    /// Second half: what is due, and what waits to be sent.
    pub(crate) fn poll(&mut self, now: Now) -> Vec<Transmit> {
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        self.router.poll(now, &mut wire);
        (self.room, self.turned_at) = (wire.room, now.at);
        let table = self.router.table();
        let (entries, buckets) = std::mem::replace(&mut self.shape, (table.len(), table.buckets()));
        if self.shape.0 < entries || self.shape.1 > buckets {
            self.roomier_at = now.at;
        }
        self.idle_turns = if wire.sent.is_empty() { self.idle_turns + 1 } else { 0 };
        wire.sent
    }

    /// Whether nothing can be handled before there is room.
    pub(crate) fn is_stalled(&self) -> bool {
        self.router.is_stalled(self.room)
    }

    /// When there is room for what waits, told once.
    pub(crate) fn awaited_room(&mut self) -> Option<Moment> {
        let waiting = self.router.queued() + self.router.relay().stats().waiting;
        let waits = self.room == 0 && waiting > 0 && !self.awaited;
        self.awaited |= waits;
        waits.then_some(self.room_at)
    }

    /// The kernel keeps the slot of what was sent for a while.
    pub(crate) fn park(&mut self, now: Moment, mut transmit: Transmit) {
        let bytes = transmit.buf.len() + transmit.buf.spare_mut().len();
        let (until, received) = (now + self.host.parked, bytes > SLOT_BYTES);
        self.parked.push(Parked { until, _transmit: transmit, received });
    }

    /// Fills receive slots from the backlog.
    fn take(&mut self) -> Vec<Datagram> {
        let mut taken = Vec::new();
        while taken.len() < self.host.batch
            && !self.backlog.is_empty()
            && let Some(mut buf) = self.rx.take()
        {
            let (path, first) = self.backlog.pop_front().expect("not empty");
            assert!(buf.extend(&first), "a slot holds a datagram");
            let mut run = 1;
            let mut whole = !first.is_empty() && self.host.gro;
            while whole && run < RUN_MAX {
                let room = buf.spare_mut().len();
                let next = |(from, bytes): &(Path, Vec<u8>)| {
                    *from == path && (1..=first.len().min(room)).contains(&bytes.len())
                };
                if !self.backlog.front().is_some_and(next) {
                    break;
                }
                let (_, bytes) = self.backlog.pop_front().expect("it was looked at");
                assert!(buf.extend(&bytes), "a slot holds a run");
                whole = bytes.len() == first.len();
                run += 1;
            }
            taken.push(Datagram { path, buf, segment: first.len() });
        }
        taken
    }
}

/// What a life begins with.
pub(crate) struct Life<'a> {
    pub(crate) identity: &'a Arc<Identity>,
    pub(crate) secrets: Secrets,
    pub(crate) born: Moment,
}

/// Who watches a datagram being handled.
pub(crate) struct Witness<'a> {
    pub(crate) tap: &'a mut Tap,
    pub(crate) post: &'a mut Post,
    pub(crate) saboteur: &'a mut Option<Saboteur>,
}

/// A socket that takes so much, and a little more of what cannot wait.
struct Wire {
    room: usize,
    sent: Vec<Transmit>,
}

impl Outlet for Wire {
    fn send(&mut self, transmit: Transmit) {
        self.room = self.room.saturating_sub(1);
        self.sent.push(transmit);
    }

    fn room(&self) -> usize {
        self.room
    }
}

/// The datagrams of a slot, an empty one among them.
fn segments(datagram: &Datagram) -> impl Iterator<Item = &[u8]> {
    let empty = datagram.buf.is_empty().then_some(&[][..]);
    empty.into_iter().chain(datagram.segments())
}

/// What is checked.
impl Shard {
    /// After every turn.
    pub(crate) fn check_turn(
        &self,
        at: Moment,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        let (free, slots) = self.router.buffers();
        let (queued, relayed) = (self.router.queued(), self.relayed(saboteur));
        let lent = self.parked.iter().filter(|parked| parked.received).count();
        let parked = self.parked.len() - lent;
        ensure(free + queued + relayed + parked == slots, Oracle::Buffers, at, || {
            format!("{free} free, {queued} queued, {relayed} to relay, {parked} sent of {slots}")
        })?;
        let home = self.rx.free() + self.left.len() + lent;
        ensure(home == self.rx.slots(), Oracle::Buffers, at, || {
            let (free, left) = (self.rx.free(), self.left.len());
            format!("{free} receive slots, {left} not handled, {lent} sent of {}", self.rx.slots())
        })?;
        ensure(self.is_stalled() || self.left.is_empty(), Oracle::Spin, at, || {
            format!("{} slots not handled while there is room", self.left.len())
        })?;
        ensure(self.idle_turns < 1000, Oracle::Spin, at, || {
            format!("a thousand turns for nothing; the next is due {:?}", self.deadline())
        })
    }

    /// Datagrams that wait in the relay.
    fn relayed(&self, saboteur: &mut Option<Saboteur>) -> usize {
        let waiting = self.router.relay().stats().waiting;
        saboteur.as_mut().map_or(waiting, |saboteur| saboteur.waiting(waiting))
    }

    /// Now and then.
    pub(crate) fn check_counters(
        &mut self,
        at: Moment,
        tap: &Tap,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        if at.since(self.checked_at) >= tally::INTERVAL {
            self.checked_at = at;
            self.check_all(at, tap, saboteur)?;
        }
        Ok(())
    }

    fn check_all(
        &mut self,
        at: Moment,
        tap: &Tap,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        let mut tally = self.tally(at);
        let mut listing = self.listing();
        if let Some(saboteur) = saboteur {
            saboteur.tally(&mut tally);
            saboteur.listing(&mut listing);
        }
        if let Some(last) = &self.last {
            tally::check_priority(at, last, &tally)?;
        }
        if self.host.narrow.is_some() {
            tally::check_control(at, &tally)?;
        }
        // A waiting initiation makes the router want another turn at once.
        let waits = self.deadline() <= at;
        let pending_max = if waits { self.handed.pending_max } else { 0 };
        let seen = &tap.seen[usize::from(self.number)];
        tally::check(at, &tally, seen, Handed { pending_max, ..self.handed })?;
        ensure(tally.sessions <= tally.sessions_max, Oracle::Capacity, at, || {
            format!("{} sessions in {} slots", tally.sessions, tally.sessions_max)
        })?;
        listing::check_networks(at, &listing)?;
        if let Some(saboteur) = saboteur {
            saboteur.stale_listing(&mut listing);
        }
        listing::check_living(at, &listing, tap)?;
        listing::check_proven(at, &listing, tap)?;
        self.last = Some(tally);
        Ok(())
    }

    /// At the end of its life: every slot is at home once the kernel is done.
    pub(crate) fn check_end(
        &mut self,
        at: Moment,
        tap: &Tap,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        self.check_all(at, tap, saboteur)?;
        self.parked.clear();
        let (free, slots) = self.router.buffers();
        let queued = self.router.queued() + self.router.relay().stats().waiting;
        ensure(free + queued == slots, Oracle::Buffers, at, || {
            format!("{free} of {slots} slots came home")
        })
    }

    /// Datagrams the router was given.
    pub(crate) fn handed(&self) -> u64 {
        self.handed.datagrams
    }

    pub(crate) fn tally(&self, at: Moment) -> Tally {
        self.router.publish(wall(at), (self.rx.free(), self.rx.slots()));
        Tally::of(&self.router.counters().snapshot(), self.router.relay().stats())
    }
}
