//! The shard around the router under test: a socket's backlog, turns, slots that the kernel keeps.
//!
//! A turn takes what the receive pool has slots for, as runs where one sender's datagrams of
//! one size follow each other, hands it to the router, and lets the router send. Between
//! the two the shard may be interrupted. Where the link is narrow, the socket takes so many
//! datagrams and then none until they have left; what the router does not handle meanwhile
//! waits, in its receive slots.

use std::collections::VecDeque;
use std::sync::Arc;

use bufpool::{Hugepages, Pool, PoolConfig};
use molia_router::counters::Counters;
use molia_router::identity::Identity;
use molia_router::limits::{RX_SLOT_BYTES, SLOT_BYTES, SLOT_HEADROOM};
use molia_router::net::{Datagram, Outlet, Path, Transmit};
use molia_router::router::Router;
use molia_router::time::{Moment, Now};
use molia_router::tunnel::Secrets;
use molia_router::tunnel::plain::Plain;

use super::dice::Dice;
use super::listing::{self, Listed};
use super::saboteur::Saboteur;
use super::scenario::{Host, Scenario};
use super::tally::{self, Handed, Tally};
use super::tap::Tap;
use super::verdict::{Oracle, Violation, ensure};
use super::world::wall;

/// Segments of a run.
const RUN_MAX: usize = 64;

/// One life of the router.
pub(crate) struct Shard {
    router: Router<Plain>,
    host: Host,
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
    parked: Vec<(Moment, Transmit)>,
    pub(crate) tap: Tap,
    handed: Handed,
    last: Option<Tally>,
    checked_at: Moment,
    pub(crate) turned_at: Moment,
    /// Turns in a row in which nothing came and nothing left.
    idle_turns: u32,
}

fn pool(slot_bytes: usize, slots: usize, headroom: usize) -> Pool {
    let config =
        PoolConfig { slot_bytes, slots, headroom, hugepages: Hugepages::Off, prefault: false };
    Pool::new(config).expect("memory for a few slots")
}

impl Shard {
    pub(crate) fn new(scenario: &Scenario, identity: &Arc<Identity>, dice: &mut Dice) -> Self {
        let Scenario { config, host, .. } = scenario;
        let secrets = Secrets { cookies: dice.bytes(), seed: dice.bytes() };
        let slots = usize::try_from(config.tunnel.sessions_max).expect("few sessions");
        let tunnel = Plain::new(identity.wg_key(), slots);
        let tx = pool(SLOT_BYTES, host.tx_slots, SLOT_HEADROOM);
        let counters = Counters::anonymous(0).expect("memory for counters");
        let identity_of = Arc::clone(identity);
        let router = Router::new(config.clone(), identity_of, tunnel, tx, counters, &secrets);
        let lanes = u64::try_from(3 * config.tunnel.handshake_queue).expect("a short queue");
        Self {
            router,
            host: *host,
            rx: pool(RX_SLOT_BYTES, host.rx_slots, 0),
            backlog: VecDeque::new(),
            left: VecDeque::new(),
            room: 0,
            room_at: Moment::START,
            awaited: false,
            parked: Vec::new(),
            tap: Tap::new(identity.wg_key()),
            handed: Handed { datagrams: 0, pending_max: lanes },
            last: None,
            checked_at: Moment::START,
            turned_at: Moment::START,
            idle_turns: 0,
        }
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

    pub(crate) fn deadline(&self) -> Moment {
        self.router.next_deadline()
    }

    pub(crate) fn listing(&self) -> Vec<Listed> {
        listing::of(self.router.table())
    }

    pub(crate) fn bucket_of(&self, id: &molia_router::ids::PeerId) -> usize {
        self.router.table().bucket_of(id)
    }

    /// First half of a turn: what was left, and what came.
    pub(crate) fn begin_turn(&mut self, now: Moment, calm: bool) -> Vec<Datagram> {
        self.parked.retain(|(until, _)| *until > now);
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
        saboteur: &mut Option<Saboteur>,
    ) -> Vec<Transmit> {
        if !self.left.is_empty() {
            self.left.push_back(datagram);
            return Vec::new();
        }
        let came: Vec<Vec<u8>> = segments(&datagram).map(<[u8]>::to_vec).collect();
        let path = datagram.path;
        let datagram = match saboteur {
            Some(saboteur) => saboteur.received(datagram, &self.rx),
            None => Some(datagram),
        };
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        let left = datagram.and_then(|datagram| self.router.receive(now, datagram, &mut wire));
        self.room = wire.room;
        let unhandled = left.as_ref().map_or(0, |left| left.segments().count());
        for segment in &came[..came.len() - unhandled] {
            self.handed.datagrams += 1;
            self.tap.incoming(now.at, &path, segment);
        }
        self.left.extend(left);
        wire.sent
    }

    /// Second half: what is due, and what waits to be sent.
    pub(crate) fn poll(&mut self, now: Now) -> Vec<Transmit> {
        let mut wire = Wire { room: self.room, sent: Vec::new() };
        self.router.poll(now, &mut wire);
        (self.room, self.turned_at) = (wire.room, now.at);
        self.idle_turns = if wire.sent.is_empty() { self.idle_turns + 1 } else { 0 };
        wire.sent
    }

    /// Whether nothing can be handled before there is room.
    pub(crate) fn is_stalled(&self) -> bool {
        self.router.is_stalled(self.room)
    }

    /// When there is room for what waits, told once.
    pub(crate) fn awaited_room(&mut self) -> Option<Moment> {
        let waits = self.room == 0 && self.router.queued() > 0 && !self.awaited;
        self.awaited |= waits;
        waits.then_some(self.room_at)
    }

    /// The kernel keeps the slot of what was sent for a while.
    pub(crate) fn park(&mut self, now: Moment, transmit: Transmit) {
        self.parked.push((now + self.host.parked, transmit));
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
                let next = |(from, bytes): &(Path, Vec<u8>)| {
                    *from == path && !bytes.is_empty() && bytes.len() <= first.len()
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
    pub(crate) fn check_turn(&self, at: Moment) -> Result<(), Violation> {
        let (free, slots) = self.router.buffers();
        let (queued, parked) = (self.router.queued(), self.parked.len());
        ensure(free + queued + parked == slots, Oracle::Buffers, at, || {
            format!("{free} free, {queued} queued and {parked} sent of {slots} slots")
        })?;
        ensure(self.rx.free() + self.left.len() == self.rx.slots(), Oracle::Buffers, at, || {
            let (free, left) = (self.rx.free(), self.left.len());
            format!("{free} of {} receive slots at home, {left} not handled", self.rx.slots())
        })?;
        ensure(self.is_stalled() || self.left.is_empty(), Oracle::Spin, at, || {
            format!("{} slots not handled while there is room", self.left.len())
        })?;
        ensure(self.idle_turns < 1000, Oracle::Spin, at, || {
            format!("a thousand turns for nothing; the next is due {:?}", self.deadline())
        })
    }

    /// Now and then.
    pub(crate) fn check_counters(
        &mut self,
        at: Moment,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        if at.since(self.checked_at) >= tally::INTERVAL {
            self.checked_at = at;
            self.check_all(at, saboteur)?;
        }
        Ok(())
    }

    fn check_all(&mut self, at: Moment, saboteur: &mut Option<Saboteur>) -> Result<(), Violation> {
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
        tally::check(at, &tally, &self.tap.seen, Handed { pending_max, ..self.handed })?;
        ensure(tally.sessions <= tally.sessions_max, Oracle::Capacity, at, || {
            format!("{} sessions in {} slots", tally.sessions, tally.sessions_max)
        })?;
        listing::check_networks(at, &listing)?;
        if let Some(saboteur) = saboteur {
            saboteur.stale_listing(&mut listing);
        }
        listing::check_living(at, &listing, &self.tap)?;
        listing::check_proven(at, &listing, &self.tap)?;
        self.last = Some(tally);
        Ok(())
    }

    /// At the end of the router's life: every slot is at home once the kernel is done.
    pub(crate) fn check_end(
        &mut self,
        at: Moment,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        self.check_all(at, saboteur)?;
        self.parked.clear();
        let (free, slots) = self.router.buffers();
        ensure(free + self.router.queued() == slots, Oracle::Buffers, at, || {
            format!("{free} of {slots} slots came home")
        })
    }

    /// Datagrams the router was given.
    pub(crate) fn handed(&self) -> u64 {
        self.handed.datagrams
    }

    pub(crate) fn tally(&self, at: Moment) -> Tally {
        self.router.publish(wall(at), (self.rx.free(), self.rx.slots()));
        Tally::of(&self.router.counters().snapshot())
    }
}
