//! Peers that want to reach each other, in the world.

use std::collections::BTreeMap;

use molia_router::ids::{PeerId, WgKey};
use molia_router::net::Scope;
use molia_router::time::Moment;

use super::World;
use crate::honest::Other;
use crate::network::Event;
use crate::saboteur::Saboteur;
use crate::verdict::{Oracle, Violation, ensure};
use crate::views::PROMPTLY;

/// How long a peer has been away.
pub(super) type Away = BTreeMap<WgKey, Moment>;

impl World {
    pub(super) fn begin_pairs(&mut self) {
        if let Some(pairing) = self.scenario.pairing {
            self.soon(pairing.wish, Event::Pair);
            self.soon(pairing.conspiracy, Event::Conspire);
        }
    }

    /// As `again`, by dice that nothing else depends on.
    fn soon(&mut self, mean: std::time::Duration, event: Event) {
        let mean_us = u64::try_from(mean.as_micros()).expect("a short time");
        let pause = self.pair_dice.micros(0..2 * mean_us);
        self.agenda.add(self.now + pause, event);
    }

    fn other(&self, of: usize, to: usize) -> Other {
        self.clients[of].other(self.clients[to].peer_id, self.wall())
    }

    /// Some client wants something of another one.
    pub(super) fn pair(&mut self) -> Result<(), Violation> {
        let Some(pairing) = self.scenario.pairing.filter(|_| self.settled.is_none()) else {
            return Ok(());
        };
        let n = self.pair_dice.below(self.clients.len());
        // Mostly the same few, so that channels are used.
        let far = self.pair_dice.permille(200);
        let step = if far { 2 + self.pair_dice.below(40) } else { 1 };
        let to = if step == 1 { n ^ 1 } else { (n + step) % self.clients.len() };
        if to != n && self.clients[n].online {
            let other = self.other(to, n);
            let now = self.wall();
            self.clients[n].pair(now, &other);
            self.attend(n)?;
        }
        let mean = if self.calm { pairing.wish * 8 } else { pairing.wish };
        self.soon(mean, Event::Pair);
        Ok(())
    }

    pub(super) fn conspire(&mut self) {
        let Some(pairing) = self.scenario.pairing.filter(|_| !self.calm) else { return };
        let now = self.wall();
        for shot in self.hostile.conspire(now) {
            self.shoot(shot);
        }
        self.soon(pairing.conspiracy, Event::Conspire);
    }

    /// Everybody's neighbour is asked for what the end is judged by.
    pub(super) fn pair_last(&mut self, n: usize) {
        let done = |n: usize| self.clients[n].pairs.last_carried && self.clients[n].pairs.last_met;
        if self.pair_dues(n)[0] && !(done(n) && done(n ^ 1)) {
            let other = self.other(n ^ 1, n);
            let now = self.wall();
            self.clients[n].pair_last(now, &other);
        }
    }

    /// Whether a client is owed introductions, and channels.
    pub(super) fn pair_dues(&self, n: usize) -> [bool; 2] {
        let global = |n: usize| Scope::of(self.clients[n].addr().ip()) == Scope::Global;
        let paired = self.scenario.pairing.is_some();
        // What a mortal said of itself before may overtake what it says now, and ends sooner.
        let lasting = |n: usize| !self.scenario.mortal || !n.is_multiple_of(3);
        let both = |is: &dyn Fn(usize) -> bool| is(n) && is(n ^ 1);
        [paired && both(&global) && both(&lasting); 2]
    }

    /// No shard has a channel of a peer without a session or an identity.
    pub(super) fn check_channels(&mut self, settled: Option<Moment>) -> Result<(), Violation> {
        let Some(settled) = settled else { return Ok(()) };
        let partition = self.group.partition();
        let now_s = self.wall().unix_s();
        let ended = |key: &WgKey| {
            let client = self.clients.iter().find(|client| client.wg_key == *key);
            client.is_some_and(|client| client.identity_ends_s() + 2 < now_s)
        };
        let all = self.saboteur.as_ref().is_some_and(Saboteur::orphans);
        let mut away = Away::new();
        let mut found: Option<(PeerId, PeerId)> = None;
        for ((a, b), keys) in self.group.tap.pairs() {
            for key in [keys.0, keys.1] {
                let home = &self.group.shards()[usize::from(partition.home(&key))];
                let gone = home.router.sessions().by_key(&key).is_none() || ended(&key) || all;
                if !gone {
                    continue;
                }
                let since = self.away.get(&key).copied().unwrap_or(self.now);
                away.insert(key, since);
                let relay =
                    self.group.shards()[usize::from(partition.between(a, b))].router.relay();
                let there = relay.asked(a, b) || relay.asked(b, a);
                if there && self.now.since(since.max(settled).max(self.died)) > 3 * PROMPTLY {
                    found = Some((*a, *b));
                }
            }
        }
        self.away = away;
        ensure(found.is_none(), Oracle::Channels, self.now, || {
            format!("there is a channel of {found:?}, and one of them is gone")
        })
    }
}
