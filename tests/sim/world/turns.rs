//! The shards' turns, their deaths, and the wire between the router and everybody else.

use std::net::SocketAddr;
use std::time::Duration;

use molia_router::drops::Drop;
use molia_router::net::{Local, Path, Prefix, Transmit};
use molia_router::time::{Moment, Now};
use molia_router::wire::multiaddr;

use super::keeping::End;
use super::{AFTERMATH, CENSUS, CENSUS_CALM, CENSUS_CLOSE, World};
use crate::group::Group;
use crate::network::{Event, carry};
use crate::saboteur::{Parcel, Saboteur};
use crate::scenario::Link;
use crate::shard::Turn;
use crate::verdict::Violation;
use crate::views::{Known, PROMPTLY, Scene};

/// The shard's turns.
impl World {
    pub(super) fn schedule_turn(&mut self, n: u16) {
        let shard = self.group.shard(n);
        if shard.turn == Turn::Idle {
            shard.turn = Turn::Scheduled;
            let at = (self.now + self.scenario.host.latency).max(shard.ready_at());
            self.agenda.add(at, Event::Turn(n));
        }
    }

    pub(super) fn turn_begins(&mut self, n: u16) -> Result<(), Violation> {
        let now = self.wall();
        self.store_begins(n, now);
        let datagrams = self.group.shard(n).begin_turn(now.at, self.calm);
        let sent = self.group.shard(n).drain_narrow(now);
        self.emit(n, sent)?;
        if !self.read_mail(n, now)? {
            return self.restart_shard(n);
        }
        for datagram in datagrams {
            let sent = self.group.shard(n).drain_narrow(now);
            self.emit(n, sent)?;
            if self.group.shard(n).dies() {
                return self.restart_shard(n);
            }
            let sent = self.group.receive(n, now, datagram, &mut self.saboteur);
            self.emit(n, sent)?;
            self.post(n, now)?;
        }
        for parcel in self.saboteur.as_mut().map(Saboteur::retorts).unwrap_or_default() {
            self.leave(n, &parcel)?;
        }
        if !self.calm && self.dice.permille(self.scenario.host.stalls) {
            self.group.shard(n).turn = Turn::Stalled;
            let until = self.now + self.scenario.host.stall;
            self.tell(|| format!("shard {n} is interrupted until {until:?}"));
            self.agenda.add(until, Event::TurnEnds(n));
            return Ok(());
        }
        self.turn_ends(n)
    }

    /// Hands over a turn's share of mail. False if the shard died of it.
    fn read_mail(&mut self, n: u16, now: Now) -> Result<bool, Violation> {
        let most = self.scenario.split.posting.turn_max(self.calm);
        for _ in 0..most {
            let Some(letter) = self.group.next_letter(n, now.at) else { break };
            if self.group.shard(n).dies() {
                return Ok(false);
            }
            self.tell(|| format!("shard {n} is told by {}: {:?}", letter.from, letter.mail));
            let shards = self.scenario.split.shards;
            let again = self.saboteur.as_mut().and_then(|it| it.forwards(&letter, shards));
            if let Some(again) = again {
                self.group.pass_on(now.at, again)?;
            }
            let sent = self.group.deliver(n, now, letter);
            self.emit(n, sent)?;
            self.store_takes(n, now)?;
        }
        Ok(true)
    }

    /// Sends what a shard has to tell others.
    fn post(&mut self, n: u16, now: Now) -> Result<(), Violation> {
        for (at, to) in self.group.post(n, now, self.calm, &mut self.saboteur)? {
            self.agenda.add(at, Event::Mail(to));
        }
        self.store_takes(n, now)
    }

    pub(super) fn turn_ends(&mut self, n: u16) -> Result<(), Violation> {
        let now = self.wall();
        let sent = self.group.shard(n).poll(now);
        self.emit(n, sent)?;
        self.post(n, now)?;
        self.store_ends(n, now);
        let shard = self.group.shard(n);
        shard.turn = Turn::Idle;
        if let Some(at) = shard.awaited_room() {
            self.agenda.add(at, Event::Room(n));
        } else if self.group.is_busy(n, self.now) {
            self.schedule_turn(n);
        }
        self.group.check_turn(n, self.now, &mut self.saboteur)
    }

    fn emit(&mut self, n: u16, sent: Vec<Transmit>) -> Result<(), Violation> {
        for transmit in sent {
            let path = transmit.path;
            let parcels = transmit.buf.chunks(transmit.segment.max(1)).map(<[u8]>::to_vec);
            let parcels: Vec<Parcel> = parcels.map(|bytes| Parcel { path, bytes }).collect();
            if self.saboteur.as_mut().is_some_and(Saboteur::keeps) {
                std::mem::forget(transmit);
            } else {
                self.group.shard(n).park(self.now, transmit);
            }
            for parcel in parcels {
                self.emit_one(n, parcel)?;
            }
        }
        Ok(())
    }

    fn emit_one(&mut self, n: u16, parcel: Parcel) -> Result<(), Violation> {
        let altered = match &mut self.saboteur {
            Some(saboteur) => saboteur.alter(&self.group.tap, parcel),
            None => Some(parcel),
        };
        let Some(parcel) = altered else { return Ok(()) };
        self.leave(n, &parcel)?;
        let extra = self.saboteur.as_mut().and_then(|it| it.extra(&self.group.tap, &parcel));
        match extra {
            Some(bytes) => self.leave(n, &Parcel { bytes, ..parcel }),
            None => Ok(()),
        }
    }

    /// A datagram is on the wire.
    fn leave(&mut self, n: u16, parcel: &Parcel) -> Result<(), Violation> {
        let Parcel { path, bytes } = parcel;
        self.tell(|| {
            format!("shard {n} -> {}: {} bytes of type {}", path.peer, bytes.len(), bytes[0])
        });
        self.group.tap.outgoing(self.now, n, path, bytes)?;
        self.report.datagrams[1] += 1;
        self.hasher.update(&self.now.as_nanos().to_le_bytes());
        self.hasher.update(multiaddr::encode(path.peer).as_ref());
        self.hasher.update(bytes);
        let to = path.peer;
        let reached = self.clients.iter().find(|client| client.addr() == to);
        let link = reached.map_or(self.wild(), |client| client.link);
        let victim = reached.map(|client| client.number);
        if let (Some(saboteur), Some(victim)) = (&mut self.saboteur, victim)
            && (saboteur.loses(victim) || saboteur.mutes(bytes))
        {
            return Ok(());
        }
        let link = if self.calm { link.calm() } else { link };
        let replaced = self.saboteur.as_ref().map(|it| it.replaces(&self.group.tap, bytes));
        let bytes = replaced.as_deref().unwrap_or(bytes);
        let arrival = |bytes| Event::ToClient(to, bytes);
        carry(&mut self.agenda, &mut self.dice, self.now, &link, bytes, arrival);
        Ok(())
    }

    /// The path of whoever is no honest client.
    pub(super) fn wild(&self) -> Link {
        let delay = Duration::from_millis(5);
        Link { delay, jitter: Duration::ZERO, loss: 0, duplication: 0, corruption: 0 }
    }

    pub(super) fn send_to_router(&mut self, from: SocketAddr, link: &Link, bytes: &[u8]) {
        let ip = Some(self.facts.addr_for(&from).ip());
        let path = Path {
            peer: from,
            local: Local { ip, ifindex: 2 + u32::from(from.port() % 2), socket: 0 },
        };
        let arrival = |bytes| Event::ToRouter(path, bytes);
        carry(&mut self.agenda, &mut self.dice, self.now, link, bytes, arrival);
    }
}

/// Deaths.
impl World {
    pub(super) fn restart_router(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        self.end_router(End::Stopped, None)?;
        self.again(self.scenario.tempo.router_restart, Event::RouterRestarts);
        Ok(())
    }

    /// All shards end at once, and as many or so many take their place.
    pub(super) fn end_router(&mut self, end: End, shards: Option<u16>) -> Result<(), Violation> {
        self.tell(|| format!("the router restarts: {end:?}"));
        for n in 0..self.scenario.split.shards {
            self.end_life(n)?;
        }
        self.end_stores(end);
        self.scenario.split.shards = shards.unwrap_or(self.scenario.split.shards);
        let keys: Vec<_> = self.clients.iter().map(|client| client.wg_key).collect();
        let Self { scenario, identity, dice, now, .. } = self;
        self.group = Group::new(scenario, identity, &keys, *now, dice);
        self.open_stores()
    }

    /// A shard panics, now or in the middle of one of its next turns.
    pub(super) fn shard_restarts(&mut self) -> Result<(), Violation> {
        if self.scenario.split.shards == 1 {
            return Ok(());
        }
        let n = u16::try_from(self.dice.below(self.scenario.split.shards.into())).expect("few");
        if !self.calm {
            self.again(self.scenario.split.restart, Event::ShardRestarts);
        }
        let doom = self.dice.below(8);
        if !self.calm && self.dice.permille(500) {
            self.group.shard(n).doom = Some(doom);
            return Ok(());
        }
        self.restart_shard(n)
    }

    fn restart_shard(&mut self, n: u16) -> Result<(), Violation> {
        self.tell(|| format!("shard {n} dies"));
        self.end_life(n)?;
        self.end_store(n);
        self.group.restart_shard(&self.scenario, n, self.now);
        self.open_store(n)?;
        self.died = self.now;
        self.schedule_turn(n);
        Ok(())
    }

    /// A shard is no more: what it counted goes into the report.
    fn end_life(&mut self, n: u16) -> Result<(), Violation> {
        if self.group.shard(n).is_between_turns() {
            self.group.check_end(n, self.now, &mut self.saboteur)?;
        }
        self.account(n);
        Ok(())
    }

    /// Adds what a life of a shard counted to the report.
    pub(super) fn account(&mut self, n: u16) {
        let shard = self.group.shard(n);
        let (tally, handed) = (shard.tally(self.now), shard.handed());
        for (total, drop) in self.report.drops.iter_mut().zip(Drop::ALL) {
            *total += tally.dropped(*drop);
        }
        self.report.datagrams[0] += handed;
    }
}

/// What the shards believe.
impl World {
    pub(super) fn census(&mut self) -> Result<(), Violation> {
        let settled = self.settled_since();
        if settled.is_some() {
            self.group.tap.settle(PROMPTLY);
        }
        let scene = Scene { at: self.now, settled, hearsay: self.scenario.hearsay() };
        let immortal = |number: usize| !self.scenario.mortal || !number.is_multiple_of(3);
        let honest = self.clients.iter().map(|client| Known {
            id: client.peer_id,
            key: client.wg_key,
            prefix: Prefix::of(client.addr().ip()),
            due: immortal(client.number),
        });
        let hostile = self.hostile.insiders.iter().map(|insider| Known {
            id: insider.peer_id(),
            key: insider.wg_key(),
            prefix: Prefix::of(insider.addr.ip()),
            due: false,
        });
        let known: Vec<Known> = honest.chain(hostile).collect();
        self.group.check_census(scene, &known, &mut self.saboteur)?;
        self.check_channels(settled)?;
        let close = settled.is_some_and(|since| self.now.since(since.max(self.died)) < AFTERMATH);
        let pause = match settled {
            _ if close => CENSUS_CLOSE,
            Some(_) => CENSUS_CALM,
            None => CENSUS,
        };
        self.agenda.add(self.now + pause, Event::Census);
        Ok(())
    }

    /// Since when nothing goes wrong, and nothing is under way of what did.
    pub(super) fn settled_since(&self) -> Option<Moment> {
        let settled = self.calm_since? + self.scenario.settling();
        (settled <= self.now).then_some(settled)
    }
}
