//! What is kept for clients: their wishes, the shards' stores, and the disk under them.

use std::collections::BTreeMap;
use std::time::Duration;

use molia_router::ids::Key;
use molia_router::router::{Cursor, Keeping};
use molia_router::time::{Moment, Now};
use peerstore::Record;

use super::{World, wall};
use crate::dice::Dice;
use crate::network::Event;
use crate::promises::Promises;
use crate::saboteur::Saboteur;
use crate::scenario::Scenario;
use crate::shard::Turn;
use crate::vault::Vault;
use crate::verdict::{Oracle, Violation, ensure};

/// Between two slices of a snapshot.
const WALK_INTERVAL: Duration = Duration::from_millis(20);
/// How far apart two states of the wall clock are at most.
const JUMP: Duration = Duration::from_secs(1_300);

/// How a router ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With everything written.
    Stopped,
    /// With nothing written any more.
    Killed,
    /// With the machine.
    PowerFailed,
}

pub(super) fn promises(scenario: &Scenario) -> Promises {
    let keeping = scenario.keep.map_or(Keeping::Memory, |keep| keep.keeping);
    let jumps = scenario.tempo.clock_jump > Duration::ZERO;
    Promises::new(keeping, if jumps { JUMP } else { Duration::ZERO })
}

pub(super) fn vault(scenario: &Scenario) -> Option<Vault> {
    let keep = scenario.keep.filter(|keep| keep.has_store())?;
    Some(Vault::new(keep, Dice::of(scenario.seed ^ 0xD15C_D15C)))
}

/// What clients do.
impl World {
    pub(super) fn begin_keeping(&mut self) {
        let Some(keep) = self.scenario.keep else { return };
        for n in 0..self.clients.len() {
            self.again(keep.wish, Event::Wish(n));
        }
        if keep.has_store() {
            self.again(keep.failure, Event::DiskFails);
        }
        self.again(keep.end, Event::MachineEnds);
    }

    pub(super) fn wish(&mut self, n: usize) -> Result<(), Violation> {
        let Some(keep) = self.scenario.keep else { return Ok(()) };
        if self.settled.is_none() {
            let now = self.wall();
            self.clients[n].wish(now, &mut self.promises);
            self.attend(n)?;
        }
        let mean = if self.calm { Duration::from_secs(40) } else { keep.wish };
        self.again(mean, Event::Wish(n));
        Ok(())
    }

    pub(super) fn written(
        &mut self,
        n: usize,
        (key, sequence): (Key, u64),
        since: Moment,
        kept: bool,
        stale: bool,
    ) -> Result<(), Violation> {
        if kept {
            self.promises.acknowledge(self.now, since, &key, sequence);
        }
        let fair = !stale || self.promises.is_superseded(&key, sequence);
        ensure(fair, Oracle::Answers, self.now, || {
            format!("client {n}: {sequence} of {key:?} is stale, and nobody has a newer one")
        })
    }

    pub(super) fn looked(
        &mut self,
        key: &Key,
        since: Moment,
        record: Option<Vec<u8>>,
        providers: Vec<Vec<u8>>,
    ) -> Result<(), Violation> {
        for provider in providers {
            self.promises.check_provider(self.now, key, provider)?;
        }
        self.promises.check_found(self.now, since, key, record.as_deref())
    }

    /// What all routers keep is what clients were promised.
    pub(super) fn check_kept(&mut self) -> Result<(), Violation> {
        if self.scenario.keep.is_none() {
            return Ok(());
        }
        let now = self.wall();
        let partition = self.group.partition();
        let mut kept = BTreeMap::new();
        for (number, shard) in (0..).zip(self.group.shards()) {
            shard.router.walk(now, Cursor::Start, |record| {
                if let Record::Value(value) = record {
                    let key = Key(value.key.0);
                    if partition.owner(&key.0) == number {
                        kept.insert(key, value.message.bytes().to_vec());
                    }
                }
                true
            });
        }
        self.promises.check_kept(self.now, &kept)
    }
}

/// The shards' stores.
impl World {
    pub(super) fn store_begins(&mut self, n: u16, now: Now) {
        let shard = self.group.shard(n);
        if let Some(keeper) = &mut shard.keeper {
            keeper.begin_turn(now, &mut shard.router, &self.saboteur);
        }
    }

    pub(super) fn store_takes(&mut self, n: u16, now: Now) -> Result<(), Violation> {
        let shard = self.group.shard(n);
        match &mut shard.keeper {
            Some(keeper) => keeper.take(now, &mut shard.router),
            None => Ok(()),
        }
    }

    pub(super) fn store_ends(&mut self, n: u16, now: Now) {
        let shard = self.group.shard(n);
        let Some(keeper) = &mut shard.keeper else { return };
        if keeper.end_turn(now, &shard.router) {
            self.agenda.add(now.at + WALK_INTERVAL, Event::Mail(n));
        }
        self.await_disk(n);
    }

    fn await_disk(&mut self, n: u16) {
        let (now, calm) = (self.now, self.calm);
        let keeper = self.group.shard(n).keeper.as_mut();
        if let Some(at) = keeper.and_then(|keeper| keeper.due(now, calm)) {
            self.agenda.add(at, Event::Disk(n));
        }
    }

    pub(super) fn disk_works(&mut self, n: u16) -> Result<(), Violation> {
        let now = self.wall();
        let shard = self.group.shard(n);
        let Some(keeper) = &mut shard.keeper else { return Ok(()) };
        if keeper.has_news()
            && !self.calm
            && let Some(shards) = self.kill.take()
        {
            return self.end_router(End::Killed, shards);
        }
        if keeper.work(now, &self.saboteur) && shard.turn == Turn::Idle {
            self.schedule_turn(n);
        }
        self.await_disk(n);
        Ok(())
    }

    /// A shard ends by a panic: its journal is dropped, and says so to the disk.
    pub(super) fn end_store(&mut self, n: u16) {
        let now = self.wall();
        let keeper = self.group.shard(n).keeper.take();
        let safe = keeper.map_or(Moment::START, |keeper| keeper.stop(now));
        self.lose(n, safe);
    }

    fn lose(&mut self, n: u16, safe: Moment) {
        if safe < Moment::NEVER {
            let partition = self.group.partition();
            self.promises.lose(self.now, safe, |key| partition.owner(&key.0) == n);
        }
    }

    /// All of them end.
    pub(super) fn end_stores(&mut self, end: End) {
        let now = self.wall();
        for n in 0..self.scenario.split.shards {
            match end {
                End::Stopped => self.end_store(n),
                End::Killed | End::PowerFailed => {
                    let keeper = self.group.shard(n).keeper.take();
                    self.lose(n, keeper.map_or(Moment::START, |keeper| keeper.kill(now)));
                }
            }
        }
        if end == End::PowerFailed
            && let Some(vault) = &mut self.vault
        {
            vault.lose_power();
        }
    }

    /// A router begins, with what is on the disk.
    pub(super) fn open_stores(&mut self) -> Result<(), Violation> {
        let (partition, now) = (self.group.partition(), self.wall());
        if let Some(vault) = &mut self.vault {
            vault.divide(&partition, now)?;
        }
        for n in 0..self.scenario.split.shards {
            self.open_store(n)?;
        }
        self.check_kept()
    }

    /// A shard begins. Its first turn may be later.
    pub(super) fn open_store(&mut self, n: u16) -> Result<(), Violation> {
        let Some(vault) = &mut self.vault else { return Ok(()) };
        let shard = self.group.shard(n);
        let at = shard.born;
        let Now { unix_ms, .. } = wall(at);
        let now = Now { at, unix_ms: unix_ms.saturating_add_signed(self.skew_ms) };
        let partition = self.group.partition();
        let router = &mut self.group.shard(n).router;
        let keeper = vault.open(&partition, n, now, router, &self.saboteur)?;
        self.group.shard(n).keeper = Some(keeper);
        Ok(())
    }
}

/// What happens to the disk, and to the machine.
impl World {
    pub(super) fn disk_fails(&mut self) {
        let (Some(keep), false) = (self.scenario.keep, self.calm) else { return };
        self.tell(|| "the disk begins to fail".to_owned());
        if let Some(vault) = &mut self.vault {
            vault.fail();
        }
        let most_us = u64::try_from(keep.failure_max.as_micros()).expect("a short time");
        let heals = self.now + self.dice.micros(0..most_us);
        self.agenda.add(heals, Event::DiskHeals);
        self.again(keep.failure, Event::DiskFails);
    }

    pub(super) fn disk_heals(&mut self) {
        let breaks = self.saboteur.as_ref().is_some_and(Saboteur::breaks);
        match &self.vault {
            Some(vault) if breaks => vault.break_for_good(),
            Some(vault) => {
                vault.heal();
                self.tell(|| "the disk is well".to_owned());
            }
            None => {}
        }
    }

    pub(super) fn machine_ends(&mut self) -> Result<(), Violation> {
        let (Some(keep), false) = (self.scenario.keep, self.calm) else { return Ok(()) };
        let end = match (self.dice.permille(keep.power), self.dice.permille(keep.killed)) {
            (true, _) => End::PowerFailed,
            (false, true) => End::Killed,
            (false, false) => End::Stopped,
        };
        let other = u16::try_from(self.dice.below(4)).expect("few shards") + 1;
        let shards = self.dice.permille(keep.divided).then_some(other);
        if end == End::Killed && self.vault.is_some() {
            self.kill = Some(shards);
        } else {
            self.end_router(end, shards)?;
        }
        self.again(keep.end, Event::MachineEnds);
        Ok(())
    }
}
