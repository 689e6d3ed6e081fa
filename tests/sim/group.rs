//! One life of the router: all its shards, the mail between them, and who reads along.

use std::net::SocketAddr;
use std::sync::Arc;

use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::net::{Datagram, Path, Transmit};
use molia_router::partition::Partition;
use molia_router::time::{Moment, Now};
use molia_router::tunnel::Secrets;

use super::dice::Dice;
use super::listing::{self, Listed};
use super::post::{Letter, Post};
use super::saboteur::Saboteur;
use super::scenario::Scenario;
use super::shard::{Life, Shard, Turn, Witness};
use super::split::Split;
use super::tap::Tap;
use super::verdict::Violation;
use super::views::{Known, Scene, Views, check_homes};

/// All shards.
pub(crate) struct Group {
    shards: Vec<Shard>,
    pub(crate) tap: Tap,
    post: Post,
    partition: Partition,
    split: Split,
    views: Views,
    /// Most honest peers that have one home.
    residents: usize,
    identity: Arc<Identity>,
    cookies: [u8; 32],
    dice: Dice,
}

impl Group {
    /// A router that knows nobody; `honest` are the keys of those who are to have room in it.
    pub(crate) fn new(
        scenario: &Scenario,
        identity: &Arc<Identity>,
        honest: &[WgKey],
        born: Moment,
        dice: &mut Dice,
    ) -> Self {
        let split = scenario.split;
        let partition = split.partition(&identity.peer_id());
        let mut homes = vec![0; usize::from(split.shards)];
        honest.iter().for_each(|key| homes[usize::from(partition.home(key))] += 1);
        let mut group = Self {
            shards: Vec::new(),
            tap: Tap::new(identity.wg_key(), partition, scenario.hearsay(), scenario.config.relay),
            post: Post::new(split.posting, dice.fork()),
            partition,
            split,
            views: Views::default(),
            residents: homes.into_iter().max().unwrap_or(0),
            identity: Arc::clone(identity),
            cookies: dice.bytes(),
            dice: dice.fork(),
        };
        for number in 0..split.shards {
            let config = scenario.config_of(number, partition, group.residents);
            let secrets = group.secrets();
            let life = Life { identity, secrets, born };
            group.shards.push(Shard::new(config, scenario.host, &life));
        }
        group
    }

    /// What a shard of this router must not have guessed.
    fn secrets(&mut self) -> Secrets {
        Secrets { cookies: self.cookies, seed: self.dice.bytes() }
    }

    /// A shard panics, and the next one takes its place after a while.
    pub(crate) fn restart_shard(&mut self, scenario: &Scenario, number: u16, now: Moment) {
        let secrets = self.secrets();
        let identity = Arc::clone(&self.identity);
        let life = Life { identity: &identity, secrets, born: now + self.split.rest };
        let config = scenario.config_of(number, self.partition, self.residents);
        self.shard(number).succeed(config, &life);
        self.tap.shard_restarts(now, number);
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(crate) fn shard(&mut self, number: u16) -> &mut Shard {
        &mut self.shards[usize::from(number)]
    }

    /// A datagram reaches the router; the shard that was waiting for it.
    pub(crate) fn arrive(&mut self, path: Path, bytes: Vec<u8>) -> Option<u16> {
        let from: SocketAddr = path.peer;
        let number = self.split.socket(&mut self.dice, &from, &bytes);
        self.shard(number).arrive(path, bytes).then_some(number)
    }

    /// Which shard wants a turn of its own accord first, and when.
    pub(crate) fn due(&self, now: Moment) -> (Moment, u16) {
        let due = |shard: &Shard| match shard.turn {
            Turn::Stalled => Moment::NEVER,
            Turn::Idle | Turn::Scheduled => shard.deadline().max(shard.ready_at()).max(now),
        };
        let all = self.shards.iter().map(due).zip(0..);
        all.min().unwrap_or((Moment::NEVER, 0))
    }

    /// Hands one slot to a shard. Returns what left meanwhile.
    pub(crate) fn receive(
        &mut self,
        number: u16,
        now: Now,
        datagram: Datagram,
        saboteur: &mut Option<Saboteur>,
    ) -> Vec<Transmit> {
        let Self { shards, tap, post, .. } = self;
        let mut witness = Witness { tap, post, saboteur };
        shards[usize::from(number)].receive(now, datagram, &mut witness)
    }

    /// Sends a shard's mail. Returns when which shard has some.
    pub(crate) fn post(
        &mut self,
        number: u16,
        now: Now,
        calm: bool,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<Vec<(Moment, u16)>, Violation> {
        let mut arrivals = Vec::new();
        for letter in self.shard(number).take_mail(now) {
            let to = letter.to;
            let at = self.post.post(now.at, letter, calm, saboteur)?;
            arrivals.extend(at.map(|at| (at, to)));
        }
        Ok(arrivals)
    }

    /// The next letter that a shard can handle now.
    pub(crate) fn next_letter(&mut self, number: u16, now: Moment) -> Option<Letter> {
        let stalled = self.shards[usize::from(number)].is_stalled();
        if stalled { None } else { self.post.next(now, number) }
    }

    /// Somebody who should not passes a letter on.
    pub(crate) fn pass_on(&mut self, now: Moment, letter: Letter) -> Result<(), Violation> {
        self.post.post(now, letter, true, &mut None).map(|_| ())
    }

    /// Hands a letter to a shard. Returns what left meanwhile.
    pub(crate) fn deliver(&mut self, number: u16, now: Now, letter: Letter) -> Vec<Transmit> {
        let Self { shards, tap, .. } = self;
        shards[usize::from(number)].deliver(now, letter, tap)
    }

    /// Whether there is something to handle at once.
    pub(crate) fn is_busy(&self, number: u16, now: Moment) -> bool {
        let shard = &self.shards[usize::from(number)];
        let waits = shard.backlog() > 0 || self.post.has_mail(now, number);
        waits && !shard.is_stalled()
    }

    /// Everybody in the tables.
    pub(crate) fn listing(&self) -> Vec<Listed> {
        self.shards.iter().flat_map(Shard::listing).collect()
    }

    /// Whether a peer that asked for a place since then has a reason not to be in the table.
    pub(crate) fn is_excused(
        &self,
        since: Moment,
        listing: &[Listed],
        id: &PeerId,
        prefix: &molia_router::net::Prefix,
    ) -> bool {
        let owner = self.partition.owner(&id.0);
        let shard = &self.shards[usize::from(owner)];
        let table = shard.router.table();
        // There may be room now that there was not when it asked.
        let full = table.len() >= shard.entries_max || shard.roomier_at >= since;
        full || listing::is_crowded_out(listing, (owner, table.bucket_of(id)), prefix)
    }

    /// Compares what the shards believe.
    pub(crate) fn check_census(
        &mut self,
        scene: Scene,
        known: &[Known],
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        let Self { shards, tap, post, partition, views, .. } = self;
        check_homes(scene.at, shards, partition, saboteur)?;
        views.check_views(scene, shards, partition, known)?;
        views.check_due(scene, shards, partition, known, tap)?;
        post.check(scene.at)
    }

    /// After every turn.
    pub(crate) fn check_turn(
        &mut self,
        number: u16,
        at: Moment,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        let Self { shards, tap, .. } = self;
        let shard = &mut shards[usize::from(number)];
        shard.check_turn(at, saboteur)?;
        shard.check_counters(at, tap, saboteur)
    }

    /// At the end of a shard's life.
    pub(crate) fn check_end(
        &mut self,
        number: u16,
        at: Moment,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<(), Violation> {
        let Self { shards, tap, .. } = self;
        shards[usize::from(number)].check_end(at, tap, saboteur)
    }
}
