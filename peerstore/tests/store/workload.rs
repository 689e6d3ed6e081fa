//! A random life on a disk that is cut: what a shard does with its store, in any order.

use peerstore::storage::Storage;
use peerstore::storage::sim::{Cut, Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::{Config, Epoch, Recovery, Shard, Store};

use crate::model::{Applied, Model};
use crate::owner::{Change, Draw, Encoder, KEYS, Memory, sealed};

pub(crate) const DIR: &str = "shard-0";
pub(crate) const HASH: u64 = 0x1234;

/// Everything happens after a few records.
pub(crate) const CONFIG: Config = Config {
    batch_bytes: 700,
    reserve_bytes: 2048,
    compact_log_bytes: 3000,
    compact_dead_percent: 50,
    sync_bytes: 1500,
};

pub(crate) fn open<S: Storage>(storage: S) -> Result<(Store<S>, Recovery, Applied), String> {
    let mut applied = Applied::default();
    let shard = Shard::new(0, 1).expect("a shard");
    Store::open(storage, shard, HASH, CONFIG, 7, |record| applied.apply(record))
        .map(|(store, recovery)| (store, recovery, applied))
        .map_err(|error| error.to_string())
}

/// How wild it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: usize,
    pub(crate) refusals: bool,
}

/// How often what happened: a test of crashes in which nothing happens shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Records that were appended.
    pub(crate) changes: u64,
    /// Snapshots that were finished.
    pub(crate) snapshots: u64,
    /// Logs that were begun because another failed.
    pub(crate) retries: u64,
    /// Processes that died, and left a disk that goes on.
    pub(crate) kills: u64,
    /// Power cuts in the middle of something.
    pub(crate) cuts: u64,
    /// Logs that a power cut tore.
    pub(crate) torn: u64,
    /// Logs that look damaged for what a power cut kept of their ends.
    pub(crate) corrupt: u64,
}

/// A shard, its store and its disk.
pub(crate) struct World<S: Storage, W: Fn(SimDir) -> S> {
    pub(crate) disk: SimDisk,
    wrap: W,
    pub(crate) draw: Draw,
    pub(crate) model: Model,
    pub(crate) tally: Tally,
    memory: Memory,
    store: Option<Store<S>>,
    /// The last snapshot that is known to be finished.
    snapshotted: Option<Epoch>,
    /// The next key of the snapshot.
    cursor: usize,
    /// Changes that no write was asked for.
    staged: usize,
    encoder: Encoder,
}

impl<S: Storage, W: Fn(SimDir) -> S> World<S, W> {
    pub(crate) fn new(seed: u64, wrap: W) -> Self {
        let disk = SimDisk::new(seed);
        // Sectors that were not written may hold what lay there before: another store's log.
        let old = Change { key: 0, number: u64::MAX, len: Some(30) };
        disk.leave_behind(&sealed(u32::MAX, &old.record()).repeat(20));
        Self {
            disk,
            wrap,
            draw: Draw(seed),
            model: Model::new(),
            tally: Tally::default(),
            memory: [None; KEYS],
            store: None,
            snapshotted: None,
            cursor: 0,
            staged: 0,
            encoder: Encoder::new(),
        }
    }

    fn storage(&self) -> S {
        (self.wrap)(self.disk.dir(DIR))
    }

    /// Opens the store and does what the plan says, until the power goes.
    pub(crate) fn live(&mut self, plan: Plan) -> Result<(), String> {
        let Ok((store, recovery, found)) = open(self.storage()) else {
            return if self.disk.is_off() { Ok(()) } else { Err("it does not open".into()) };
        };
        if recovery.snapshots_damaged > 0 {
            return Err(format!("a snapshot has a name and is not whole: {recovery:?}"));
        }
        self.take(store, &found);
        for _ in 0..plan.steps {
            if self.disk.is_off() {
                return Ok(());
            }
            self.step(plan)?;
        }
        self.settle()
    }

    fn take(&mut self, store: Store<S>, found: &Applied) {
        self.memory = found.memory;
        self.store = Some(store);
        self.staged = 0;
    }

    fn store(&mut self) -> &mut Store<S> {
        self.store.as_mut().expect("it is open")
    }

    fn step(&mut self, plan: Plan) -> Result<(), String> {
        if self.store().is_broken() {
            match self.draw.below(4) {
                0 => self.append(),
                1 => return self.kill(),
                2 => self.disk.heal(),
                _ => {}
            }
            self.tally.retries += u64::from(self.store().retry(8).is_ok());
            self.note();
            return Ok(());
        }
        match self.draw.below(100) {
            0..55 => self.append(),
            55..67 => drop(self.store().write()),
            67..75 => drop(self.store().sync()),
            75..92 => self.snapshot(),
            92..94 => return self.kill(),
            94..95 => return self.close(),
            _ if plan.refusals => self.refuse(),
            _ => {}
        }
        self.note();
        Ok(())
    }

    /// What the store says of itself after each step.
    fn note(&mut self) {
        let store = self.store.as_ref().expect("it is open");
        if store.staged_bytes() == 0 {
            self.staged = 0;
        }
        if store.unsynced_bytes() == 0 {
            self.model.acknowledge();
        }
    }

    fn append(&mut self) {
        let len = match self.draw.below(20) {
            0..6 => None,
            6..19 => Some(self.draw.below(60)),
            _ => Some(self.draw.below(1500)),
        };
        let change = self.model.change(self.draw.below(KEYS), len);
        change.apply(&mut self.memory);
        let (kind, payload) = self.encoder.encode(&change.record());
        self.store.as_mut().expect("it is open").append(kind, payload);
        self.staged += 1;
        self.tally.changes += 1;
    }

    fn snapshot(&mut self) {
        if !self.store().status().snapshotting {
            self.cursor = 0;
            drop(self.store().begin_snapshot(9));
            return;
        }
        for _ in 0..4 {
            let store = self.store.as_mut().expect("it is open");
            if self.cursor == KEYS {
                if store.finish_snapshot().is_ok() {
                    self.staged = 0;
                    self.model.snapshot(&self.memory);
                    self.snapshotted = store.status().snapshot;
                    self.tally.snapshots += 1;
                }
                return;
            }
            if let Some((number, len)) = self.memory[self.cursor] {
                let change = Change { key: self.cursor, number, len: Some(len) };
                let (kind, payload) = self.encoder.encode(&change.record());
                if store.snapshot(kind, payload).is_err() {
                    return;
                }
            }
            self.cursor += 1;
        }
    }

    /// The process dies; another one opens what it left.
    fn kill(&mut self) -> Result<(), String> {
        self.store = None;
        let found = match open(self.storage()) {
            Ok((store, _, found)) => {
                self.model.killed(self.staged, &found)?;
                self.snapshotted = store.status().snapshot;
                self.take(store, &found);
                self.tally.kills += 1;
                return Ok(());
            }
            Err(error) => error,
        };
        // Its last changes may be on the disk, or not, as if the power had gone a moment later.
        if self.disk.is_off() { Ok(()) } else { Err(format!("it does not open: {found}")) }
    }

    fn close(&mut self) -> Result<(), String> {
        let store = self.store.take().expect("it is open");
        match store.close() {
            Ok(()) => {
                self.model.acknowledge();
                self.staged = 0;
            }
            Err(_) if self.disk.is_off() => return Ok(()),
            Err(_) => self.model.refused(),
        }
        // After a failure some of what was staged may be there: it counts as written.
        self.staged = 0;
        self.kill()
    }

    fn refuse(&mut self) {
        self.model.refused();
        let refusal = self.draw.of(&Refusal::ALL);
        let lasting = self.draw.of(&[Lasting::Once, Lasting::Once, Lasting::UntilHealed]);
        let kinds = [
            Operation::Append,
            Operation::Sync,
            Operation::Sync,
            Operation::SyncNames,
            Operation::Create,
            Operation::Rename,
            Operation::Remove,
            Operation::Reserve,
        ];
        if self.draw.percent(70) {
            self.disk.refuse_next(self.draw.of(&kinds), refusal, lasting);
        } else {
            let at = self.disk.operations() + self.draw.below(4) as u64;
            self.disk.refuse_at(at, refusal, lasting);
        }
    }

    /// A disk that works again takes everything.
    fn settle(&mut self) -> Result<(), String> {
        if self.disk.is_off() {
            return Ok(());
        }
        self.disk.heal();
        if self.store().retry(10).is_err() && !self.disk.is_off() {
            return Err("a healed disk does not take what waits".into());
        }
        self.note();
        Ok(())
    }

    /// The power goes, if it has not; what is on the disk then is checked.
    pub(crate) fn crash(&mut self) -> Result<Epoch, String> {
        self.store = None;
        self.tally.cuts += u64::from(self.disk.is_off());
        self.disk.cut();
        self.disk = self.disk.after_crash(self.draw.next());
        let after = self.disk.after_crash(0);
        let (store, recovery, found) = open((self.wrap)(after.dir(DIR)))?;
        if store.is_broken() {
            return Err("a disk that works takes no log".into());
        }
        if recovery.snapshots_damaged > 0 {
            return Err(format!("a snapshot has a name and is not whole: {recovery:?}"));
        }
        self.tally.torn += u64::from(recovery.torn);
        self.tally.corrupt += u64::from(recovery.corrupt);
        let snapshotted = recovery.snapshot > self.snapshotted;
        self.snapshotted = recovery.snapshot;
        self.model.cut(&found, snapshotted)?;
        Ok(store.status().epoch)
    }

    pub(crate) fn cut_within(&mut self, operations: usize) {
        let at = self.disk.operations() + self.draw.below(operations) as u64;
        let cut = self.draw.of(&Cut::ALL);
        self.disk.cut_at(at, cut);
    }
}
