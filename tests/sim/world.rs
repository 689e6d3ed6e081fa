//! The world: one router of some shards, its clients and its enemies, in simulated time.
//!
//! First everything goes wrong that the seed says (the safety phase), then nothing does
//! (the liveness phase), and at its end every honest client must have what it is due.

mod keeping;
mod pairs;
mod people;
mod turns;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use molia_router::drops::Drop;
use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::time::{Moment, Now};

use super::dice::Dice;
use super::group::Group;
use super::honest::{Honest, RouterFacts, Who};
use super::hostile::Hostile;
use super::insider::Insider;
use super::listing::Listed;
use super::network::{Agenda, Event};
use super::promises::Promises;
use super::saboteur::Saboteur;
use super::scenario::{CLIENTS, INSIDERS, PORT, Scenario};
use super::shard::Turn;
use super::vault::Vault;
use super::verdict::Violation;

/// When the world begins, by the wall clock.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// Validity of what mortal clients sign.
const MORTAL_S: u64 = 70;
/// The last round, before the end.
const LAST_ROUND: Duration = Duration::from_secs(20);
/// Between two tries of a client in the last round.
const TRY: Duration = Duration::from_secs(3);
/// Between two comparisons of what the shards believe: while things go wrong, afterwards, and where
/// much changes.
const CENSUS: Duration = Duration::from_secs(1);
const CENSUS_CALM: Duration = Duration::from_millis(500);
const CENSUS_CLOSE: Duration = Duration::from_millis(100);
/// How long much changes after a restart.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How a world went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of everything that left, and when.
    pub(crate) digest: String,
    /// Drops by reason, in the order of [`Drop::ALL`].
    pub(crate) drops: Vec<u64>,
    /// Datagrams the routers took and sent.
    pub(crate) datagrams: [u64; 2],
    /// Times that a promised value was looked for.
    pub(crate) dues: u64,
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
    group: Group,
    clients: Vec<Honest>,
    /// When each client is next looked at.
    wakes: Vec<Moment>,
    hostile: Hostile,
    calm: bool,
    calm_since: Option<Moment>,
    /// When a shard died last.
    died: Moment,
    /// Clients that were listed lately.
    staying: BTreeSet<PeerId>,
    /// Who was listed when the last round began.
    settled: Option<Vec<Listed>>,
    /// What clients stored, if they do, and where it is kept, if it is.
    promises: Promises,
    vault: Option<Vault>,
    /// The process is killed when a shard's store has something to write next; with how many shards
    /// it begins again, if with others.
    kill: Option<Option<u16>>,
    /// What only pairs depend on.
    pair_dice: Dice,
    /// Since when peers with channels are away.
    away: pairs::Away,
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
                let keep = scenario.keep;
                let who = Who { number: n, at, link, life_s, keep };
                Honest::new(who, now, facts.clone(), Rc::clone(&clock), dice.fork())
            })
            .collect();
        let insiders = (0..INSIDERS)
            .map(|n| Insider::new(n, scenario.places[CLIENTS + n].0, facts.key, dice.fork()));
        let insiders = insiders.collect();
        let mut hostile = Hostile::new(dice.fork(), facts.clone(), insiders);
        hostile.victims = clients.iter().map(|client| client.peer_id).collect();
        let keys: Vec<WgKey> = clients.iter().map(|client| client.wg_key).collect();
        let mut group = Group::new(&scenario, &identity, &keys, Moment::START, &mut dice);
        if saboteur.as_ref().is_some_and(Saboteur::overspends) {
            group.tap.expect_little();
        }
        let drops = vec![0; Drop::ALL.len()];
        Self {
            trace,
            now: Moment::START,
            skew_ms: 0,
            agenda: Agenda::default(),
            identity,
            facts,
            group,
            wakes: vec![Moment::NEVER; clients.len()],
            clients,
            hostile,
            calm: false,
            calm_since: None,
            died: Moment::START,
            staying: BTreeSet::new(),
            settled: None,
            promises: keeping::promises(&scenario),
            vault: keeping::vault(&scenario),
            kill: None,
            pair_dice: Dice::of(scenario.seed ^ 0xFA17),
            away: pairs::Away::new(),
            saboteur,
            hasher: blake3::Hasher::new(),
            report: Report { digest: String::new(), drops, datagrams: [0; 2], dues: 0 },
            scenario,
            dice,
        }
    }

    /// Lives through all of it.
    pub(crate) fn run(mut self) -> Result<Report, Violation> {
        self.begin();
        self.open_stores()?;
        loop {
            let (due, shard) = self.group.due(self.now);
            match self.agenda.pop(due) {
                Some((_, Event::End)) => break,
                Some((at, event)) => {
                    self.now = at;
                    self.happen(event)?;
                }
                None => {
                    self.now = due;
                    self.turn_begins(shard)?;
                }
            }
        }
        self.judge()?;
        self.check_kept()?;
        self.report.dues = self.promises.dues();
        for number in 0..self.scenario.split.shards {
            self.group.check_end(number, self.now, &mut self.saboteur)?;
            self.account(number);
        }
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
        self.again(self.scenario.split.restart, Event::ShardRestarts);
        if let Some(last) = self.scenario.split.last_restart {
            let settled = calm + self.scenario.settling();
            self.agenda.add(settled + last, Event::ShardRestarts);
        }
        self.agenda.add(self.now, Event::Census);
        self.begin_keeping();
        self.begin_pairs();
    }

    /// Adds an event after `mean` on average; never if that is zero.
    fn again(&mut self, mean: Duration, event: Event) {
        let mean_us = u64::try_from(mean.as_micros()).expect("a short time");
        if mean_us > 0 {
            let pause = self.dice.micros(0..2 * mean_us);
            self.agenda.add(self.now + pause, event);
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
                if let Some(shard) = self.group.arrive(path, bytes) {
                    self.schedule_turn(shard);
                }
            }
            Event::ToClient(addr, bytes) => self.deliver(addr, &bytes)?,
            // Of a router that had more shards.
            Event::Turn(n)
            | Event::TurnEnds(n)
            | Event::Room(n)
            | Event::Mail(n)
            | Event::Disk(n)
                if n >= self.scenario.split.shards => {}
            Event::Turn(n) if self.group.shard(n).turn == Turn::Scheduled => self.turn_begins(n)?,
            Event::TurnEnds(n) if self.group.shard(n).turn == Turn::Stalled => self.turn_ends(n)?,
            Event::Room(n) | Event::Mail(n) => self.schedule_turn(n),
            // Of a shard that is no more.
            Event::Turn(_) | Event::TurnEnds(_) => {}
            Event::Wake(n) => self.wake(n)?,
            Event::Request(n) => self.request(n)?,
            Event::Wish(n) => self.wish(n)?,
            Event::Disk(n) => self.disk_works(n)?,
            Event::DiskFails => self.disk_fails(),
            Event::DiskHeals => self.disk_heals(),
            Event::MachineEnds => self.machine_ends()?,
            Event::Pair => self.pair()?,
            Event::Conspire => self.conspire(),
            Event::Mischief => self.mischief(),
            Event::Change => self.change()?,
            Event::Return(n) => {
                self.tell(|| format!("client {n} is back"));
                self.clients[n].online = true;
            }
            Event::RouterRestarts => self.restart_router()?,
            Event::ShardRestarts => self.shard_restarts()?,
            Event::Census => self.census()?,
            Event::ClockJumps => self.jump_clock(),
            Event::Calm => self.calm_down(),
            Event::LastRound => self.last_round(),
            Event::LastQuestions => self.last_questions()?,
            Event::End => unreachable!("the loop ends there"),
        }
        Ok(())
    }
}

/// Both clocks at a time.
pub(crate) fn wall(at: Moment) -> Now {
    Now { at, unix_ms: EPOCH_MS + at.as_nanos() / 1_000_000 }
}
