//! The mailbox between shards as they know it: in order for each sender, receiver and class, and
//! within that as late, as bunched and as incomplete as the seed says. Control is never lost.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::net::Path;
use molia_router::router::Mail;
use molia_router::time::Moment;
use molia_router::wire::Class;

use super::dice::Dice;
use super::saboteur::Saboteur;
use super::split::Posting;
use super::verdict::{Oracle, Violation, ensure};

/// Letters of each class in a round, as the mailbox has it.
const WEIGHTS: [u32; 3] = [8, 4, 1];

/// Something from one shard to another.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) mail: Mail,
    pub(crate) payload: Vec<u8>,
}

impl Letter {
    fn class(&self) -> Class {
        self.mail.class()
    }

    /// The same datagram on its way from the receiver to the next shard.
    pub(crate) fn passed_on(&self, shards: u16) -> Option<Self> {
        let (path, _) = self.datagram()?;
        let (from, to) = (self.to, (self.to + 1) % shards);
        Some(Self { from, to, mail: Mail::Datagram(path), payload: self.payload.clone() })
    }

    /// The datagram in it, and which way that came.
    pub(crate) fn datagram(&self) -> Option<(Path, &[u8])> {
        match &self.mail {
            Mail::Datagram(path) => Some((*path, &self.payload)),
            Mail::Initiation(moved) => Some((moved.path, &self.payload)),
            Mail::List { .. }
            | Mail::Seek(_)
            | Mail::Notify(..)
            | Mail::Introduced(_)
            | Mail::Allocation(_)
            | Mail::Leg(_)
            | Mail::Seen(..)
            | Mail::Write(_)
            | Mail::Written(_)
            | Mail::Find(_)
            | Mail::Found(_)
            | Mail::Unlisted(_)
            | Mail::Answered(_)
            | Mail::Gone(..)
            | Mail::Ask(..)
            | Mail::Unasked(_)
            | Mail::Snapshot(_)
            | Mail::Lost
            | Mail::Restarted => None,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    at: Moment,
    sequence: u64,
    letter: Letter,
}

/// Letters of one sender, receiver and class.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// When the last one arrives.
    last: Moment,
}

/// All mail of one life of the router.
#[derive(Debug)]
pub(crate) struct Post {
    posting: Posting,
    dice: Dice,
    /// By class, receiver and sender.
    lanes: BTreeMap<(Class, u16, u16), Lane>,
    /// Letters of each class that a receiver takes before it begins a new round.
    credits: BTreeMap<u16, [u32; 3]>,
    sequence: u64,
    posted: u64,
    delivered: u64,
    lost: u64,
    /// Datagrams that sockets took, less those that went on to another shard.
    arrivals: BTreeMap<(SocketAddr, [u8; 32]), u32>,
}

impl Post {
    pub(crate) fn new(posting: Posting, dice: Dice) -> Self {
        Self {
            posting,
            dice,
            lanes: BTreeMap::new(),
            credits: BTreeMap::new(),
            sequence: 0,
            posted: 0,
            delivered: 0,
            lost: 0,
            arrivals: BTreeMap::new(),
        }
    }

    /// A socket takes a datagram.
    pub(crate) fn arrived(&mut self, path: &Path, bytes: &[u8]) {
        *self.arrivals.entry((path.peer, *blake3::hash(bytes).as_bytes())).or_default() += 1;
    }

    /// A letter sets out; when it arrives, if it does.
    pub(crate) fn post(
        &mut self,
        now: Moment,
        letter: Letter,
        calm: bool,
        saboteur: &mut Option<Saboteur>,
    ) -> Result<Option<Moment>, Violation> {
        self.check_once(now, &letter)?;
        self.posted += 1;
        let drops = letter.class() != Class::Control && !calm;
        let dropped = drops && self.dice.permille(self.posting.loss);
        if dropped || saboteur.as_mut().is_some_and(|saboteur| saboteur.shreds(&letter)) {
            self.lost += 1;
            return Ok(None);
        }
        if saboteur.as_mut().is_some_and(Saboteur::mislays) {
            return Ok(None);
        }
        let arrives = now + self.delay(now, calm);
        let lane = self.lanes.entry((letter.class(), letter.to, letter.from)).or_default();
        let at = arrives.max(lane.last);
        lane.last = at;
        self.sequence += 1;
        lane.waiting.push_back(Waiting { at, sequence: self.sequence, letter });
        Ok(Some(at))
    }

    fn delay(&mut self, now: Moment, calm: bool) -> Duration {
        let prompt = self.dice.micros(1..200);
        if calm {
            return prompt;
        }
        let slow_us = u64::try_from(self.posting.slow_max.as_micros()).expect("a short time");
        let slow = self.dice.permille(self.posting.slow);
        let delay = if slow { self.dice.micros(1..slow_us) } else { prompt };
        let Some(batch) = self.posting.batch else { return delay };
        let (at, batch) = ((now + delay).as_nanos(), u64::try_from(batch.as_nanos()));
        Moment::from_nanos(at.next_multiple_of(batch.expect("a short time"))).since(now)
    }

    /// What came by mail, or went on already, goes nowhere.
    fn check_once(&mut self, now: Moment, letter: &Letter) -> Result<(), Violation> {
        let Some((path, bytes)) = letter.datagram() else { return Ok(()) };
        let here = self.arrivals.get_mut(&(path.peer, *blake3::hash(bytes).as_bytes()));
        let once = here.is_some_and(|here| {
            let first = *here > 0;
            *here = here.saturating_sub(1);
            first
        });
        ensure(once, Oracle::Forwards, now, || format!("a datagram went on twice: {letter:?}"))
    }

    /// The next letter that has arrived for a shard: 8 : 4 : 1 among the classes that have some.
    pub(crate) fn next(&mut self, now: Moment, to: u16) -> Option<Letter> {
        let firsts = Class::ALL.map(|class| self.first(now, to, class));
        if firsts.iter().all(Option::is_none) {
            return None;
        }
        let credits = self.credits.entry(to).or_default();
        let has = |class: &usize| firsts[*class].is_some();
        if !(0..3).filter(has).any(|class| credits[class] > 0) {
            *credits = WEIGHTS;
        }
        let class = (0..3).filter(has).find(|class| credits[*class] > 0)?;
        credits[class] -= 1;
        let lane = self.lanes.get_mut(&(Class::ALL[class], to, firsts[class]?))?;
        self.delivered += 1;
        lane.waiting.pop_front().map(|next| next.letter)
    }

    /// The sender of the letter of a class that arrived first for a shard.
    fn first(&self, now: Moment, to: u16, class: Class) -> Option<u16> {
        let lanes = self.lanes.range((class, to, 0)..=(class, to, u16::MAX));
        let firsts = lanes.filter_map(|((_, _, from), lane)| {
            let first = lane.waiting.front().filter(|first| first.at <= now)?;
            Some((first.at, first.sequence, *from))
        });
        firsts.min().map(|(_, _, from)| from)
    }

    /// Whether something has arrived for a shard.
    pub(crate) fn has_mail(&self, now: Moment, to: u16) -> bool {
        Class::ALL.iter().any(|class| self.first(now, to, *class).is_some())
    }

    /// What was posted was delivered, lost, or is under way.
    pub(crate) fn check(&self, at: Moment) -> Result<(), Violation> {
        let waiting: usize = self.lanes.values().map(|lane| lane.waiting.len()).sum();
        let waiting = u64::try_from(waiting).expect("64 bits");
        let Self { posted, delivered, lost, .. } = *self;
        ensure(posted == delivered + lost + waiting, Oracle::Sums, at, || {
            format!("{posted} letters: {delivered} delivered, {lost} lost, {waiting} under way")
        })
    }
}
