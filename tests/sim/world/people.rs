//! What clients and enemies do in the world, and what clients are due at its end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::ids::PeerId;
use molia_router::net::{Prefix, Scope};
use molia_router::time::Moment;
use molia_router::wire::{multiaddr, proto};

use super::{LAST_ROUND, World};
use crate::honest::{Got, Honest, id_of};
use crate::hostile::Shot;
use crate::listing::{self, Listed};
use crate::network::Event;
use crate::saboteur::Saboteur;
use crate::scenario::{Link, Scenario};
use crate::shard::{Shard, Turn};
use crate::verdict::{Oracle, Violation, ensure};

/// A turn, and whole seconds on both sides.
const IDENTITY_SLACK_S: u64 = 2;

/// So many slots never run out, and every PING leaves.
const SLOTS_FOR_ALL: usize = 128;
/// After this time every shard knows who is listed, and draws only from those.
const TOLD: Duration = Duration::from_millis(1_500);
/// By then every client has a session again.
const SETTLING: Duration = Duration::from_secs(120);

/// What they do.
impl World {
    pub(super) fn deliver(&mut self, addr: SocketAddr, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(n) = self.clients.iter().position(|client| client.addr() == addr) {
            let now = self.wall();
            let client = &mut self.clients[n];
            if client.online {
                client.receive(now, bytes);
                self.attend(n)?;
            }
        } else if let Some(insider) =
            self.hostile.insiders.iter_mut().find(|insider| insider.addr == addr)
            && let Some(shot) = insider.receive(self.now.as_nanos(), bytes)
        {
            self.shoot(shot);
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, n: usize) -> Result<(), Violation> {
        if self.wakes[n] > self.now {
            return Ok(());
        }
        self.wakes[n] = Moment::NEVER;
        self.attend(n)
    }

    /// Sends what client `n` has to send and takes note of what it got.
    pub(super) fn attend(&mut self, n: usize) -> Result<(), Violation> {
        loop {
            let now = self.wall();
            let sent = self.clients[n].transmit(now.at);
            let got = self.clients[n].events(now)?;
            if sent.is_empty() && got.is_empty() {
                break;
            }
            for bytes in sent {
                self.client_sends(n, &bytes);
            }
            for got in got {
                self.got(n, got)?;
            }
        }
        let due = self.clients[n].deadline(self.now).max(self.now + Duration::from_millis(1));
        if due < self.wakes[n] {
            self.wakes[n] = due;
            self.agenda.add(due, Event::Wake(n));
        }
        Ok(())
    }

    fn client_sends(&mut self, n: usize, bytes: &[u8]) {
        let client = &self.clients[n];
        if !client.online {
            return;
        }
        let (from, link) = (client.addr(), client.link);
        let link = if self.calm { link.calm() } else { link };
        self.tell(|| format!("client {n} {from}: {} bytes of type {}", bytes.len(), bytes[0]));
        self.send_to_router(from, &link, bytes);
        if !self.calm
            && let Some(shot) = self.hostile.overhear(from, bytes)
        {
            self.shoot(shot);
        }
    }

    fn got(&mut self, n: usize, got: Got) -> Result<(), Violation> {
        self.tell(|| format!("client {n} got {got:?}"));
        let (asked, peers) = match got {
            Got::Found(asked, peers) => (asked, peers),
            Got::Written { key, sequence, since, kept, stale } => {
                return self.written(n, (key, sequence), since, kept, stale);
            }
            Got::Looked { key, since, record, providers } => {
                return self.looked(&key, since, record, providers);
            }
            Got::Pong | Got::Negotiated | Got::Reflected => return Ok(()),
        };
        for peer in &peers {
            self.check_entry(peer)?;
        }
        let listing = self.group.listing();
        if self.settled.as_ref() == Some(&listing) {
            let client = &mut self.clients[n];
            client.last_found = true;
            let found: Vec<PeerId> = peers.iter().map(id_of).collect();
            let scope = Scope::of(client.addr().ip());
            let chunks = client.takes_chunks();
            // The asker was forgotten for its silence, perhaps, and came back while it asked.
            let own = client.peer_id;
            let others: Vec<_> = listing.iter().filter(|it| it.id != own).cloned().collect();
            let right = [&listing, &others]
                .iter()
                .any(|those| listing::is_right(those, &asked, scope, chunks, &found));
            return ensure(right, Oracle::Answers, self.now, || {
                format!("client {n} asked {asked:?} and was told {found:?} of {listing:?}")
            });
        }
        Ok(())
    }

    /// Whoever is listed exists and was where the entry says.
    fn check_entry(&self, peer: &proto::Peer) -> Result<(), Violation> {
        let id = id_of(peer);
        let insider = self.hostile.insiders.iter().any(|insider| insider.peer_id() == id);
        let true_of = |client: &Honest| {
            let addrs = peer.addrs.iter().map(|addr| multiaddr::decode(&addr.multiaddr));
            client.wg_key.0[..] == peer.wg_public[..]
                && addrs.into_iter().all(|addr| addr.is_ok_and(|addr| client.was_at(&addr)))
        };
        let honest = self.clients.iter().find(|client| client.peer_id == id);
        ensure(insider || honest.is_some_and(true_of), Oracle::Answers, self.now, || {
            format!("told of a peer that is not so: {peer:?}")
        })
    }

    pub(super) fn request(&mut self, n: usize) -> Result<(), Violation> {
        let now = self.wall();
        let mean = self.scenario.tempo.request;
        if self.settled.is_none() {
            self.clients[n].ask(now);
            self.attend(n)?;
        }
        let mean = if self.calm { Duration::from_secs(25) } else { mean };
        self.again(mean, Event::Request(n));
        Ok(())
    }

    pub(super) fn mischief(&mut self) {
        if self.calm {
            return;
        }
        for shot in self.hostile.act(self.now.as_nanos()) {
            self.shoot(shot);
        }
        self.again(self.scenario.tempo.mischief, Event::Mischief);
    }

    pub(super) fn shoot(&mut self, shot: Shot) {
        let Shot { after, from, bytes } = shot;
        let link = Link { delay: self.wild().delay + after, ..self.wild() };
        self.send_to_router(from, &link, &bytes);
    }

    pub(super) fn jump_clock(&mut self) {
        if !self.calm {
            self.skew_ms = i64::try_from(self.dice.below(1_200_000)).expect("minutes") - 600_000;
            self.tell(|| format!("the wall clock is off by {} ms", self.skew_ms));
            self.again(self.scenario.tempo.clock_jump, Event::ClockJumps);
        }
    }

    /// Whoever is listed has an identity that is valid now.
    fn check_identities(&self) -> Result<(), Violation> {
        let late_s = self.saboteur.as_ref().map_or(0, Saboteur::late_s);
        let now_s = self.wall().unix_s() + late_s;
        let stalled = |shard: &Shard| shard.turn == Turn::Stalled;
        if self.group.shards().iter().any(stalled) {
            return Ok(());
        }
        let slack_s = IDENTITY_SLACK_S + self.scenario.hearsay().as_secs();
        let listing = self.group.listing();
        let ended = |listed: &&Listed| {
            let of = self.clients.iter().find(|client| client.peer_id == listed.id);
            of.is_some_and(|client| client.identity_ends_s() + slack_s < now_s)
        };
        let ended = listing.iter().find(ended);
        ensure(ended.is_none(), Oracle::Listing, self.now, || {
            format!("the identity of {ended:?} has ended")
        })
    }

    /// Whoever is listed and lives stays listed, however many newcomers there are.
    fn check_stay(&mut self) -> Result<(), Violation> {
        let settled = self.calm_since.is_some_and(|since| self.now.since(since) >= SETTLING);
        let scarce = self.scenario.host.tx_slots < SLOTS_FOR_ALL;
        if !settled || self.settled.is_some() || self.scenario.mortal || scarce {
            return Ok(());
        }
        let mut listing = self.group.listing();
        if let Some(saboteur) = &mut self.saboteur {
            saboteur.evict(&mut listing);
        }
        let listed: BTreeSet<PeerId> = listing.iter().map(|listed| listed.id).collect();
        let honest = self.clients.iter().map(|client| client.peer_id);
        let living: BTreeSet<PeerId> = honest.filter(|id| listed.contains(id)).collect();
        let gone = self.staying.difference(&living).next();
        ensure(gone.is_none(), Oracle::Listing, self.now, || {
            format!("{gone:?} lives and lost its place in the table")
        })?;
        self.staying = living;
        Ok(())
    }

    pub(super) fn change(&mut self) -> Result<(), Violation> {
        self.check_identities()?;
        self.check_stay()?;
        self.check_kept()?;
        self.again(self.scenario.tempo.change, Event::Change);
        if self.calm {
            return Ok(());
        }
        let n = self.dice.below(self.clients.len());
        match self.dice.below(10) {
            0..=2 => {
                self.tell(|| format!("client {n} restarts"));
                self.clients[n].restart();
            }
            3..=7 => self.rebind(n),
            _ => {
                self.tell(|| format!("client {n} is away"));
                self.clients[n].online = false;
                let times = [1_000..10_000, 20_000..60_000, 200_000..260_000];
                let away = self.dice.pick(&times).clone();
                let back = self.now + self.dice.millis(away);
                self.agenda.add(back, Event::Return(n));
            }
        }
        self.attend(n)
    }

    fn rebind(&mut self, n: usize) {
        let mut addr = self.clients[n].addr();
        addr.set_port(u16::try_from(self.dice.within(1024..60_000)).expect("16 bits"));
        if self.dice.permille(300) {
            addr = self.clients[n].first_addr();
        }
        let theirs = |client: &Honest| client.number != n && client.was_at(&addr);
        let enemy = self.hostile.insiders.iter().any(|insider| insider.addr == addr);
        if !enemy && !self.clients.iter().any(theirs) {
            self.tell(|| format!("client {n} moves to {addr}"));
            self.clients[n].rebind(self.now, addr);
        }
    }
}

/// The liveness phase.
impl World {
    pub(super) fn calm_down(&mut self) {
        self.tell(|| "from here on nothing goes wrong".to_owned());
        self.calm = true;
        self.disk_heals();
        self.calm_since = Some(self.now);
        for client in &mut self.clients {
            client.online = true;
        }
    }

    pub(super) fn last_round(&mut self) {
        if self.settled.is_none() {
            self.clients.iter_mut().for_each(Honest::begin_last_round);
        }
        // The hostile may leave the table until then, nobody else comes or goes.
        self.settled = Some(self.group.listing());
        self.agenda.add(self.now + TOLD, Event::LastQuestions);
    }

    /// Every shard knows by now who was listed when the round began.
    pub(super) fn last_questions(&mut self) -> Result<(), Violation> {
        for n in 0..self.clients.len() {
            let now = self.wall();
            self.clients[n].ask_last(now);
            self.pair_last(n);
            if self.scenario.keep.is_some() {
                self.clients[n].wish_last(now, &mut self.promises);
            }
            self.attend(n)?;
        }
        Ok(())
    }

    pub(super) fn judge(&self) -> Result<(), Violation> {
        let listing = self.group.listing();
        let listed: BTreeSet<PeerId> = listing.iter().map(|listed| listed.id).collect();
        let Scenario { safety, liveness, .. } = &self.scenario;
        let asked = Moment::START + (*safety + *liveness - LAST_ROUND);
        for client in &self.clients {
            let unlisted = self.saboteur.as_ref().is_some_and(|it| it.unlists(client.number));
            let prefix = Prefix::of(client.addr().ip());
            let present = listed.contains(&client.peer_id) && !unlisted;
            let excused = self.group.is_excused(asked, &listing, &client.peer_id, &prefix);
            let keeps = self.scenario.keep.is_some();
            let [meets, carries] = self.pair_dues(client.number);
            let dues = [
                (client.pairs.last_met || !meets, "an introduction"),
                (client.pairs.last_carried || !carries, "relayed data"),
                (client.said.last_stored || !keeps, "a value that is kept"),
                (client.said.last_looked || !keeps, "a value that is found"),
                (client.established(self.now), "a session"),
                (client.negotiated, "an agreement"),
                (client.last_pong, "a PONG"),
                (client.last_found, "a FIND_NODE answer"),
                (present || excused, "a place in the table"),
            ];
            for (paid, due) in dues {
                ensure(paid, Oracle::Liveness, self.now, || {
                    format!("client {} at {} is without {due}", client.number, client.addr())
                })?;
            }
        }
        Ok(())
    }
}
