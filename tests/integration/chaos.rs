//! Everything at once: clients rebind, renew their keys, come and go, while shards panic. When it is
//! quiet again, nothing is left of it but the sessions of those who are there.
//!
//! `MOLIA_CHAOS_SECONDS` for how long (`scripts/chaos` takes a minute), `MOLIA_CHAOS_SEED` for
//! another course of things; what it did is printed.

use std::env;
use std::time::Duration;

use molia_router::client::session::REKEY_AFTER;
use molia_router::counters::layout::Id;
use molia_router::port::EngineChoice;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::fleet::{Ask, Fleet, Member, Tally};
use super::restarts::check_quiet;
use super::server::{PATIENCE, Server, Shape, engines, eventually};

const HOSTS: [&str; 2] = ["127.0.0.1", "::1"];
const CLIENTS: u64 = 50;
const SHARDS: u16 = 3;
const PACE: Duration = Duration::from_millis(20);
/// Between two things that happen to clients, on average.
const INCIDENT: Duration = Duration::from_millis(10);
/// Between two panics, on average.
const PANIC: Duration = Duration::from_millis(400);
/// Requests in a row without an answer after which a client starts anew, as people do.
const TRIES: u64 = 2;

#[test]
fn after_all_kinds_of_trouble_nothing_is_left_behind() {
    let number = |name| env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("MOLIA_CHAOS_SEED").unwrap_or(1);
    let total = Duration::from_secs(number("MOLIA_CHAOS_SECONDS").unwrap_or(6));
    let shapes: Vec<_> = engines().iter().flat_map(|&it| [(it, true), (it, false)]).collect();
    let span = total / u32::try_from(shapes.len()).unwrap();
    for ((engine, steer), seed) in shapes.into_iter().zip(seed..) {
        let mut chaos = Chaos::new(engine, steer, seed);
        chaos.rage(span);
        chaos.calm_down();
    }
}

struct Chaos {
    server: Server,
    fleet: Fleet,
    rng: ChaCha12Rng,
    /// Identities handed out so far.
    born: u64,
    done: Done,
    /// What those who left had asked.
    left: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    panics: u64,
    moves: u64,
    rekeys: u64,
    restarts: u64,
    departures: u64,
}

impl Chaos {
    fn new(engine: EngineChoice, steer: bool, seed: u64) -> Self {
        let shape = Shape { engine, listen: "[::]:0", shards: SHARDS, steer };
        let server = Server::with(shape).unwrap();
        let born = seed << 32;
        let mut fleet = Fleet::connected(&server, &HOSTS, CLIENTS, born);
        fleet.members.iter_mut().for_each(|member| member.pace = Some(PACE));
        let rng = ChaCha12Rng::seed_from_u64(seed);
        let (done, left) = (Done::default(), Tally::default());
        Self { server, fleet, rng, born: born + CLIENTS, done, left }
    }

    fn rage(&mut self, span: Duration) {
        let end = self.fleet.clock.moment() + span;
        let mut next = self.fleet.clock.moment();
        let mut next_panic = next + PANIC;
        while self.fleet.clock.moment() < end {
            self.fleet.go_on(Duration::from_millis(1), |_| {});
            let now = self.fleet.clock.moment();
            if now >= next {
                next = now + self.about(INCIDENT);
                self.incident();
            }
            if now >= next_panic {
                next_panic = now + self.about(PANIC);
                self.done.panics += 1;
                let shard = self.below(SHARDS.into());
                self.server.shards().panic(shard);
            }
            self.start_over_if_unheard();
        }
    }

    /// Something happens to one of the clients.
    fn incident(&mut self) {
        let at = self.below(self.fleet.members.len());
        let dice = self.below(8);
        let member = &mut self.fleet.members[at];
        match dice {
            0..=2 => {
                member.move_away();
                self.done.moves += 1;
            }
            3 | 4 => {
                member.age(REKEY_AFTER + Duration::from_secs(1));
                self.done.rekeys += 1;
            }
            5 | 6 => {
                member.start_over();
                member.ask(Ask::Negotiate);
                self.done.restarts += 1;
            }
            _ => {
                let host = HOSTS[self.below(HOSTS.len())].parse().unwrap();
                let mut newcomer = Member::new(&self.server, host, self.born);
                newcomer.pace = Some(PACE);
                newcomer.ask(Ask::Negotiate);
                self.born += 1;
                self.done.departures += 1;
                let gone = std::mem::replace(&mut self.fleet.members[at], newcomer);
                self.left.asked += gone.tally.asked;
                self.left.answered += gone.tally.answered;
            }
        }
    }

    fn start_over_if_unheard(&mut self) {
        for member in self.fleet.members.iter_mut().filter(|member| member.unheard >= TRIES) {
            member.start_over();
            member.ask(Ask::Negotiate);
            self.done.restarts += 1;
        }
    }

    /// Everybody comes back, and the router is looked at.
    fn calm_down(mut self) {
        let answered: Vec<_> = self.fleet.members.iter().map(|it| it.tally.answered).collect();
        let end = self.fleet.clock.moment() + PATIENCE;
        let is_back = |(member, before): (&Member, &u64)| {
            member.unheard == 0 && member.tally.answered > *before
        };
        while !self.fleet.members.iter().zip(&answered).all(is_back) {
            assert!(self.fleet.clock.moment() < end, "not everybody is answered again");
            self.fleet.go_on(Duration::from_millis(1), |_| {});
            self.start_over_if_unheard();
        }
        self.fleet.members.iter_mut().for_each(|member| member.pace = None);
        self.fleet.go_on_until("nothing is under way", Member::is_quiet);
        self.fleet.ask_all(|_| Ask::Negotiate);
        self.fleet.find_each_other(&self.server);
        // Those who are there have a session at home; those who left still may.
        let (here, ever) = (self.fleet.homes(&self.server), self.ever());
        let mut sessions = Vec::new();
        eventually("sessions are those of clients", || {
            sessions = self.server.each(Id::Sessions, &[]);
            let mut shards = here.iter().zip(&sessions).zip(&ever);
            let right = shards.all(|((here, now), ever)| (here..=ever).contains(&now));
            if right { Ok(()) } else { Err(format!("{sessions:?}: not {here:?} to {ever:?}")) }
        });
        check_quiet(&self.server);
        self.report(&sessions);
        self.end_of_all_sessions();
        self.server.stop();
    }

    /// By home, everybody there ever was.
    fn ever(&self) -> Vec<u64> {
        let host = HOSTS[0].parse().unwrap();
        let first = self.born - CLIENTS - self.done.departures;
        let mut ever = vec![0; SHARDS.into()];
        for seed in first..self.born {
            ever[usize::from(Member::new(&self.server, host, seed).home)] += 1;
        }
        ever
    }

    /// Every shard panics once more: then there are the sessions of those who are there, and no others.
    fn end_of_all_sessions(&mut self) {
        for shard in self.server.numbers() {
            let restarts = |server: &Server| server.counters(shard).value(Id::Restarts, &[]);
            let before = restarts(&self.server);
            self.server.shards().panic(shard.into());
            while restarts(&self.server) == before {
                self.fleet.go_on(Duration::from_millis(1), |_| {});
            }
        }
        for member in &mut self.fleet.members {
            member.start_over();
        }
        self.fleet.ask_all(|_| Ask::Negotiate);
        self.fleet.find_each_other(&self.server);
        self.server.await_each(Id::Sessions, &[], &self.fleet.homes(&self.server));
        check_quiet(&self.server);
    }

    fn report(&self, sessions: &[u64]) {
        let Shape { engine, steer, .. } = self.server.shape;
        let asked = self.left.asked + self.fleet.sum(|tally| tally.asked);
        let answered = self.left.answered + self.fleet.sum(|tally| tally.answered);
        let Done { panics, moves, rekeys, restarts, departures } = self.done;
        println!(
            "{engine:?}, steering {steer}: {panics} panics, {moves} changes of address, {rekeys} \
             rekeys, {restarts} restarts and {departures} departures of clients; {answered} of \
             {asked} requests answered; sessions {sessions:?}, {CLIENTS} clients"
        );
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.rng.next_u64()).unwrap() % n
    }

    /// Half to one and a half of `span`.
    fn about(&mut self, span: Duration) -> Duration {
        let permille = 500 + self.rng.next_u32() % 1000;
        span * permille / 1000
    }
}
