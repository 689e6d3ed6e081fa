//! The router's disk through all its lives.

use std::collections::BTreeSet;

use molia_router::ids::{PeerId, WgKey};
use molia_router::partition::Partition;
use molia_router::router::Router;
use molia_router::time::Now;
use molia_router::tunnel::plain::Plain;
use peerstore::record::{Home, Subject};
use peerstore::storage::sim::{Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::{Layout, Record, Shard, Store};

use super::dice::Dice;
use super::keep::Keep;
use super::keeper::Keeper;
use super::saboteur::Saboteur;
use super::verdict::{Oracle, Violation};

pub(crate) struct Vault {
    keep: Keep,
    disk: SimDisk,
    dice: Dice,
    /// Shards there ever were, which have directories.
    shards: u16,
}

impl Vault {
    pub(crate) fn new(keep: Keep, mut dice: Dice) -> Self {
        Self { keep, disk: SimDisk::new(dice.u64()), dice, shards: 0 }
    }

    fn dir(&self, shard: u16) -> SimDir {
        self.disk.dir(&format!("shard-{shard}"))
    }

    /// The disk fails from its next operation of some kind on, or that once.
    pub(crate) fn fail(&mut self) {
        let operations = [
            Operation::Append,
            Operation::Sync,
            Operation::Sync,
            Operation::Create,
            Operation::SyncNames,
            Operation::Rename,
            Operation::Remove,
        ];
        let (operation, refusal) = (*self.dice.pick(&operations), *self.dice.pick(&Refusal::ALL));
        let lasting = *self.dice.pick(&[Lasting::Once, Lasting::UntilHealed, Lasting::UntilHealed]);
        self.disk.refuse_next(operation, refusal, lasting);
    }

    pub(crate) fn break_for_good(&self) {
        self.disk.refuse_next(Operation::Sync, Refusal::Io, Lasting::UntilHealed);
    }

    pub(crate) fn heal(&self) {
        self.disk.heal();
    }

    /// The power went, and is back.
    pub(crate) fn lose_power(&mut self) {
        self.disk = self.disk.after_crash(self.dice.u64());
    }

    /// Divides what there is among the shards of `partition`, as a start of the router does. Now
    /// and then the power goes meanwhile.
    pub(crate) fn divide(&mut self, partition: &Partition, now: Now) -> Result<(), Violation> {
        self.shards = self.shards.max(partition.shards());
        if self.dice.permille(300) {
            let at = self.disk.operations() + self.dice.within(0..30);
            self.disk.cut_at(at, *self.dice.pick(&peerstore::storage::sim::Cut::ALL));
            // It may be through before that.
            let _ = self.divide_once(partition, now);
            self.lose_power();
        }
        if self.divide_once(partition, now).is_ok() {
            return Ok(());
        }
        // Somebody looks after the disk, and starts it again.
        self.heal();
        self.divide_once(partition, now).map_err(|what| Violation {
            oracle: Oracle::Lasting,
            at: now.at,
            what,
        })
    }

    fn divide_once(&self, partition: &Partition, now: Now) -> Result<(), String> {
        let layout = Layout { shards: partition.shards(), partition_hash: partition.hash() };
        let home = |home: Home| match home {
            Home::Peer(key) => Some(partition.home(&WgKey(key.0))),
            Home::Key(key) => Some(partition.owner(&key.0)),
            Home::Pair(a, b) => Some(partition.between(&PeerId(a.0), &PeerId(b.0))),
            Home::EveryShard => None,
        };
        let dirs: Vec<(u16, SimDir)> = (0..self.shards).map(|id| (id, self.dir(id))).collect();
        let divided = peerstore::repartition(&dirs, layout, now.unix_s(), home);
        divided.map(drop).map_err(|error| error.to_string())
    }

    /// Opens a shard's store and hands the router what is in it, but for the peers: nobody here
    /// knows of one that is listed without a session.
    pub(crate) fn open(
        &mut self,
        partition: &Partition,
        number: u16,
        now: Now,
        router: &mut Router<Plain>,
        saboteur: &Option<Saboteur>,
    ) -> Result<Keeper, Violation> {
        let shard = Shard::new(number, partition.shards()).expect("it is one of them");
        let mut forgotten = BTreeSet::new();
        let opened = Store::open(
            self.dir(number),
            shard,
            partition.hash(),
            self.keep.files,
            now.unix_s(),
            |record| {
                let peer = match &record {
                    Record::Peer(_) => true,
                    Record::Tombstone(gone) => matches!(gone.subject, Subject::Host(_)),
                    Record::Value(value) => {
                        let forgets = saboteur.as_ref().is_some_and(Saboteur::forgets);
                        forgets && forgotten.insert(value.key.0)
                    }
                    Record::Binding(_)
                    | Record::Score(_)
                    | Record::Provider(_)
                    | Record::Ban(_)
                    | Record::PathFacts(_)
                    | Record::Allocation(_)
                    | Record::Seal(_) => false,
                };
                if !peer {
                    router.restore(now, &record);
                }
            },
        );
        match opened {
            Ok((store, _)) => Ok(Keeper::new(self.keep, store, now.at, self.dice.fork())),
            Err(error) => {
                let what = format!("shard {number} cannot open its store: {error}");
                Err(Violation { oracle: Oracle::Lasting, at: now.at, what })
            }
        }
    }
}
