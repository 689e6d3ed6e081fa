//! The world: one router, its clients and its enemies, in simulated time.
//!
//! First everything goes wrong that the seed says (the safety phase), then nothing does
//! (the liveness phase), and at its end every honest client must have what it is due.

mod people;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use molia_router::drops::Drop;
use molia_router::identity::Identity;
use molia_router::ids::PeerId;
use molia_router::net::{Local, Path, Transmit};
use molia_router::time::{Moment, Now};
use molia_router::wire::multiaddr;

use super::dice::Dice;
use super::honest::{Honest, RouterFacts, Who};
use super::hostile::Hostile;
use super::insider::Insider;
use super::listing::Listed;
use super::network::{Agenda, Event, carry};
use super::saboteur::{Parcel, Saboteur};
use super::scenario::{CLIENTS, INSIDERS, Link, PORT, Scenario};
use super::shard::Shard;
use super::verdict::Violation;

/// When the world begins, by the wall clock.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// Validity of what mortal clients sign.
const MORTAL_S: u64 = 70;
/// The last round, before the end.
const LAST_ROUND: Duration = Duration::from_secs(20);
/// Between two tries of a client in the last round.
const TRY: Duration = Duration::from_secs(3);
/// A turn takes this long at least.
const TURN_MIN: Duration = Duration::from_micros(50);

/// How a world went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of everything that left, and when.
    pub(crate) digest: String,
    /// Drops by reason, in the order of [`Drop::ALL`].
    pub(crate) drops: Vec<u64>,
    /// Datagrams the routers took and sent.
    pub(crate) datagrams: [u64; 2],
}

/// What the shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Idle,
    Scheduled,
    /// Interrupted between receiving and sending.
    Stalled,
}

pub(crate) struct World {
    scenario: Scenario,
    trace: bool,
    dice: Dice,
    now: Moment,
    /// What the wall clock is off by.
    skew_ms: i64,
    agenda: Agenda,
    identity: Arc<Identity>,
    facts: RouterFacts,
    shard: Shard,
    turn: Turn,
    clients: Vec<Honest>,
    /// When each client is next looked at.
    wakes: Vec<Moment>,
    hostile: Hostile,
    calm: bool,
    calm_since: Option<Moment>,
    /// Clients that were listed lately.
    staying: BTreeSet<PeerId>,
    /// Who was listed when the last round began.
    settled: Option<Vec<Listed>>,
    saboteur: Option<Saboteur>,
    hasher: blake3::Hasher,
    report: Report,
}

impl World {
    pub(crate) fn new(scenario: Scenario, saboteur: Option<Saboteur>, trace: bool) -> Self {
        let mut dice = Dice::of(scenario.seed ^ 0x5EED);
        let identity = Arc::new(Identity::generate(&mut dice.rng()));
        let facts = RouterFacts {
            peer_id: identity.peer_id(),
            key: identity.wg_key(),
            addrs: [([192, 88, 1, 1], PORT).into(), ([0x2a00, 1, 0, 0, 0, 0, 0, 1], PORT).into()],
        };
        let clock = Rc::new(Cell::new(0));
        let now = wall(Moment::START);
        let clients: Vec<Honest> = (0..CLIENTS)
            .map(|n| {
                let (at, link) = scenario.places[n];
                let life_s = (scenario.mortal && n % 3 == 0).then_some(MORTAL_S);
                let who = Who { number: n, at, link, life_s };
                Honest::new(who, now, facts.clone(), Rc::clone(&clock), dice.fork())
            })
            .collect();
        let insiders = (0..INSIDERS)
            .map(|n| Insider::new(n, scenario.places[CLIENTS + n].0, facts.key, dice.fork()));
        let insiders = insiders.collect();
        let hostile = Hostile::new(dice.fork(), facts.clone(), insiders);
        let shard = Shard::new(&scenario, &identity, &mut dice);
        let drops = vec![0; Drop::ALL.len()];
        Self {
            trace,
            now: Moment::START,
            skew_ms: 0,
            agenda: Agenda::default(),
            identity,
            facts,
            shard,
            turn: Turn::Idle,
            wakes: vec![Moment::NEVER; clients.len()],
            clients,
            hostile,
            calm: false,
            calm_since: None,
            staying: BTreeSet::new(),
            settled: None,
            saboteur,
            hasher: blake3::Hasher::new(),
            report: Report { digest: String::new(), drops, datagrams: [0; 2] },
            scenario,
            dice,
        }
    }

    /// Lives through all of it.
    pub(crate) fn run(mut self) -> Result<Report, Violation> {
        self.begin();
        loop {
            let due = self.router_due();
            match self.agenda.pop(due) {
                Some((_, Event::End)) => break,
                Some((at, event)) => {
                    self.now = at;
                    self.happen(event)?;
                }
                None => {
                    self.now = due;
                    self.turn_begins()?;
                }
            }
        }
        self.judge()?;
        self.shard.check_end(self.now, &mut self.saboteur)?;
        self.account();
        self.report.digest = self.hasher.finalize().to_hex().to_string();
        Ok(self.report)
    }

    fn begin(&mut self) {
        let Scenario { tempo, safety, liveness, .. } = &self.scenario;
        let (tempo, calm) = (*tempo, Moment::START + *safety);
        let end = calm + *liveness;
        self.agenda.add(calm, Event::Calm);
        self.agenda.add(end, Event::End);
        let mut at = end - LAST_ROUND;
        while at < end {
            self.agenda.add(at, Event::LastRound);
            at = at + TRY;
        }
        for n in 0..self.clients.len() {
            let first = self.now + self.dice.millis(0..8_000);
            self.agenda.add(first, Event::Request(n));
        }
        self.again(tempo.mischief, Event::Mischief);
        self.again(tempo.change, Event::Change);
        self.again(tempo.router_restart, Event::RouterRestarts);
        self.again(tempo.clock_jump, Event::ClockJumps);
    }

    /// Adds an event after `mean` on average; never if that is zero.
    fn again(&mut self, mean: Duration, event: Event) {
        let mean_us = u64::try_from(mean.as_micros()).expect("a short time");
        if mean_us > 0 {
            let pause = self.dice.micros(0..2 * mean_us);
            self.agenda.add(self.now + pause, event);
        }
    }

    /// When the router wants a turn of its own accord.
    fn router_due(&self) -> Moment {
        match self.turn {
            Turn::Stalled => Moment::NEVER,
            Turn::Idle | Turn::Scheduled => {
                self.shard.deadline().max(self.shard.turned_at + TURN_MIN).max(self.now)
            }
        }
    }

    fn wall(&self) -> Now {
        let Now { at, unix_ms } = wall(self.now);
        Now { at, unix_ms: unix_ms.saturating_add_signed(self.skew_ms) }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>14} {}", format!("{:?}", self.now), what());
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::ToRouter(path, bytes) => {
                if self.shard.arrive(path, bytes) {
                    self.schedule_turn();
                }
            }
            Event::ToClient(addr, bytes) => self.deliver(addr, &bytes)?,
            Event::Turn if self.turn == Turn::Scheduled => self.turn_begins()?,
            Event::TurnEnds if self.turn == Turn::Stalled => self.turn_ends()?,
            Event::Room => self.schedule_turn(),
            // Of a router that is no more.
            Event::Turn | Event::TurnEnds => {}
            Event::Wake(n) => self.wake(n)?,
            Event::Request(n) => self.request(n)?,
            Event::Mischief => self.mischief(),
            Event::Change => self.change()?,
            Event::Return(n) => {
                self.tell(|| format!("client {n} is back"));
                self.clients[n].online = true;
            }
            Event::RouterRestarts => self.restart_router()?,
            Event::ClockJumps => self.jump_clock(),
            Event::Calm => self.calm_down(),
            Event::LastRound => self.last_round()?,
            Event::End => unreachable!("the loop ends there"),
        }
        Ok(())
    }
}

/// The shard's turns.
impl World {
    fn schedule_turn(&mut self) {
        if self.turn == Turn::Idle {
            self.turn = Turn::Scheduled;
            let at = (self.now + self.scenario.host.latency).max(self.shard.turned_at + TURN_MIN);
            self.agenda.add(at, Event::Turn);
        }
    }

    fn turn_begins(&mut self) -> Result<(), Violation> {
        let now = self.wall();
        for datagram in self.shard.begin_turn(now.at, self.calm) {
            let sent = self.shard.drain_narrow(now);
            self.emit(sent)?;
            let sent = self.shard.receive(now, datagram, &mut self.saboteur);
            self.emit(sent)?;
        }
        for parcel in self.saboteur.as_mut().map(Saboteur::retorts).unwrap_or_default() {
            self.leave(&parcel)?;
        }
        if !self.calm && self.dice.permille(self.scenario.host.stalls) {
            self.turn = Turn::Stalled;
            let until = self.now + self.scenario.host.stall;
            self.tell(|| format!("the shard is interrupted until {until:?}"));
            self.agenda.add(until, Event::TurnEnds);
            return Ok(());
        }
        self.turn_ends()
    }

    fn turn_ends(&mut self) -> Result<(), Violation> {
        let sent = self.shard.poll(self.wall());
        self.emit(sent)?;
        self.turn = Turn::Idle;
        if let Some(at) = self.shard.awaited_room() {
            self.agenda.add(at, Event::Room);
        } else if self.shard.backlog() > 0 && !self.shard.is_stalled() {
            self.schedule_turn();
        }
        self.shard.check_turn(self.now)?;
        self.shard.check_counters(self.now, &mut self.saboteur)
    }

    fn emit(&mut self, sent: Vec<Transmit>) -> Result<(), Violation> {
        for transmit in sent {
            let path = transmit.path;
            let parcels = transmit.buf.chunks(transmit.segment.max(1)).map(<[u8]>::to_vec);
            let parcels: Vec<Parcel> = parcels.map(|bytes| Parcel { path, bytes }).collect();
            if self.saboteur.as_mut().is_some_and(Saboteur::keeps) {
                std::mem::forget(transmit);
            } else {
                self.shard.park(self.now, transmit);
            }
            for parcel in parcels {
                self.emit_one(parcel)?;
            }
        }
        Ok(())
    }

    fn emit_one(&mut self, parcel: Parcel) -> Result<(), Violation> {
        let altered = match &mut self.saboteur {
            Some(saboteur) => saboteur.alter(&self.shard.tap, parcel),
            None => Some(parcel),
        };
        let Some(parcel) = altered else { return Ok(()) };
        self.leave(&parcel)?;
        let extra = self.saboteur.as_mut().and_then(|it| it.extra(&self.shard.tap, &parcel));
        match extra {
            Some(bytes) => self.leave(&Parcel { bytes, ..parcel }),
            None => Ok(()),
        }
    }

    /// A datagram is on the wire.
    fn leave(&mut self, parcel: &Parcel) -> Result<(), Violation> {
        let Parcel { path, bytes } = parcel;
        self.tell(|| {
            format!("router -> {}: {} bytes of type {}", path.peer, bytes.len(), bytes[0])
        });
        self.shard.tap.outgoing(self.now, path, bytes)?;
        self.report.datagrams[1] += 1;
        self.hasher.update(&self.now.as_nanos().to_le_bytes());
        self.hasher.update(multiaddr::encode(path.peer).as_ref());
        self.hasher.update(bytes);
        let to = path.peer;
        let reached = self.clients.iter().find(|client| client.addr() == to);
        let link = reached.map_or(self.wild(), |client| client.link);
        let victim = reached.map(|client| client.number);
        if let (Some(saboteur), Some(victim)) = (&mut self.saboteur, victim)
            && saboteur.loses(victim)
        {
            return Ok(());
        }
        let link = if self.calm { link.calm() } else { link };
        let arrival = |bytes| Event::ToClient(to, bytes);
        carry(&mut self.agenda, &mut self.dice, self.now, &link, bytes, arrival);
        Ok(())
    }

    /// The path of whoever is no honest client.
    fn wild(&self) -> Link {
        let delay = Duration::from_millis(5);
        Link { delay, jitter: Duration::ZERO, loss: 0, duplication: 0, corruption: 0 }
    }

    fn send_to_router(&mut self, from: SocketAddr, link: &Link, bytes: &[u8]) {
        let ip = Some(self.facts.addr_for(&from).ip());
        let path =
            Path { peer: from, local: Local { ip, ifindex: 2 + u32::from(from.port() % 2) } };
        let arrival = |bytes| Event::ToRouter(path, bytes);
        carry(&mut self.agenda, &mut self.dice, self.now, link, bytes, arrival);
    }

    fn restart_router(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        self.tell(|| "the router restarts".to_owned());
        if self.turn != Turn::Stalled {
            self.shard.check_end(self.now, &mut self.saboteur)?;
        }
        self.account();
        self.shard = Shard::new(&self.scenario, &self.identity, &mut self.dice);
        self.shard.turned_at = self.now;
        self.turn = Turn::Idle;
        self.again(self.scenario.tempo.router_restart, Event::RouterRestarts);
        Ok(())
    }

    /// Adds what a life of the router counted to the report.
    fn account(&mut self) {
        let tally = self.shard.tally(self.now);
        for (total, drop) in self.report.drops.iter_mut().zip(Drop::ALL) {
            *total += tally.dropped(*drop);
        }
        self.report.datagrams[0] += self.shard.handed();
    }
}

/// Both clocks at a time.
pub(crate) fn wall(at: Moment) -> Now {
    Now { at, unix_ms: EPOCH_MS + at.as_nanos() / 1_000_000 }
}
