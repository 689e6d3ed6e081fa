//! An iterative lookup (Kademlia's FIND_NODE and FIND_VALUE) as a state machine: no socket, no clock,
//! no randomness. [`Lookup::poll`] says whom to ask, the answers come in by [`Lookup::answered`].
//!
//! Whom to ask: the closest that nobody asked yet, of the *window*, the [`WANTED`] closest candidates that
//! have not failed and are not late; at most [alpha](Pace) requests are under way. A request past
//! its [timeout](Pace::timeout) is *late*: it counts as under way no more, the next is asked in its place,
//! and its answer is taken still if it comes within [`PATIENCE`] of the question; after that it failed.
//!
//! It ends, whatever comes first,
//! * with [`End::Found`]: at an immutable value; for what changes (a signed value, providers) when [`QUORUM`]
//!   nodes had it, or the whole window answered, or a timeout has passed since the first: of the
//!   versions the highest sequence stays. Every value was verified by who hands it in, as
//!   [`FoundValue`] is; what does not verify is [`Lookup::forged`], and its node failed;
//! * with [`End::Closest`]: everyone in the window has answered, so that all closer peers that were
//!   named failed or are late. While a value is not found, the late are waited for as well;
//! * with [`End::Deserted`]: the window is empty;
//! * with [`End::Budget`]: the time is over, or [`ASKED_MAX`] nodes were asked.
//!
//! Invariants: a node (peer id and key) is asked once; never more than alpha are under way; it ends
//! within the budget. An answer is hearsay: who it names is asked, never believed; see
//! `shortlist` for what one answerer or network can be at most. The order of an answer means nothing.
//!
//! What it does not do: prove that a node is the peer that it is said to be; who asks does that.

mod outcome;
mod pace;
mod shortlist;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::calls::Found;
use super::values::{FoundValue, OwnedProvider, OwnedRecord};
use crate::ids::{Key, PeerId};
use crate::limits::{CLOSER_PEERS_MAX, FIND_NODE_PEERS_MAX};
use crate::time::Moment;
use shortlist::{Shortlist, State, is_fit};

pub use outcome::{End, Outcome, Stats, Unfit};
pub use pace::{ALPHA_MAX, ALPHA_MIN, Pace};
pub use shortlist::{Contact, Families, K, PER_NETWORK, SHARE_MAX};

/// Peers that are to have answered at the end: as many as keep a value.
pub const WANTED: usize = 8;
/// Nodes that are to have shown what may change.
pub const QUORUM: u32 = 3;
/// Nodes that one lookup asks.
pub const ASKED_MAX: u32 = 64;
/// Time of a lookup, unless it is told another.
pub const BUDGET: Duration = Duration::from_secs(2);
/// An answer counts for so long.
pub const PATIENCE: Duration = Duration::from_millis(1200);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The peers closest to an id.
    Node(PeerId),
    /// What a key names.
    Value(Key),
}

impl Goal {
    /// Its place in the XOR space.
    pub const fn target(&self) -> PeerId {
        match self {
            Self::Node(id) => *id,
            Self::Value(key) => key.point(),
        }
    }

    /// Peers that an answer may name.
    pub(super) const fn peers_max(&self) -> usize {
        match self {
            Self::Node(_) => FIND_NODE_PEERS_MAX,
            Self::Value(_) => CLOSER_PEERS_MAX,
        }
    }
}

/// A random id of the `bucket`-th bucket of `ours`: those that share so many bits with it. Whoever looks
/// up one of each now and then knows, and is known by, nodes everywhere, and not neighbours alone; without
/// them a lookup can end among nodes that know of nobody closer.
///
/// # Panics
/// If there is no such bucket.
pub fn bucket_target(ours: &PeerId, bucket: u32, random: [u8; 32]) -> PeerId {
    let mut target = PeerId(random);
    for bit in 0..=bucket {
        let wanted = ours.bit(bit) != (bit == bucket);
        let mask = 0x80 >> (bit % 8);
        let byte = &mut target.0[(bit / 8) as usize];
        *byte = if wanted { *byte | mask } else { *byte & !mask };
    }
    target
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time for all of it.
    pub budget: Duration,
    /// Where we can send to.
    pub families: Families,
    /// What earlier lookups learned of times.
    pub pace: Pace,
    /// Who we are, if we are somebody: nobody is to ask itself.
    pub ourselves: Option<PeerId>,
}

impl Default for Config {
    fn default() -> Self {
        let pace = Pace::default();
        Self { budget: BUDGET, families: Families::BOTH, pace, ourselves: None }
    }
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Ask this node.
    Ask {
        /// Whom.
        contact: Contact,
        /// Whether others named it, and not the caller.
        hearsay: bool,
    },
    /// Its answer will not be taken any more.
    GiveUp(Contact),
}

/// See the module.
#[derive(Debug)]
pub struct Lookup {
    goal: Goal,
    config: Config,
    started: Moment,
    shortlist: Shortlist,
    pace: Pace,
    record: Option<OwnedRecord>,
    providers: Vec<OwnedProvider>,
    holders: Vec<PeerId>,
    /// When the first value that may change is old enough to be the last.
    settled_at: Moment,
    stats: Stats,
    /// Something came since the last poll found nothing to do.
    changed: bool,
    ended: Option<(Moment, End)>,
}

impl Lookup {
    /// A lookup that begins with nodes that the caller knows itself: for them no share holds, the
    /// `K` closest are kept.
    pub fn new(
        now: Moment,
        goal: Goal,
        config: Config,
        known: impl IntoIterator<Item = Contact>,
    ) -> Self {
        let mut shortlist = Shortlist::new(goal.target());
        for contact in known {
            if Some(contact.peer) != config.ourselves {
                // Those that are too far are what the caller need not hear of.
                let _ = shortlist.add(contact, None, 1);
            }
        }
        Self {
            goal,
            config,
            started: now,
            shortlist,
            pace: config.pace.rested(),
            record: None,
            providers: Vec::new(),
            holders: Vec::new(),
            settled_at: Moment::NEVER,
            stats: Stats::default(),
            changed: true,
            ended: None,
        }
    }

    /// What is looked for.
    pub const fn goal(&self) -> Goal {
        self.goal
    }

    /// What was learned of times.
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// What is to be done, until `None`.
    pub fn poll(&mut self, now: Moment) -> Option<Due> {
        if self.ended.is_some() {
            return None;
        }
        self.mark_late(now);
        if let Some(contact) = self.given_up(now) {
            return Some(Due::GiveUp(contact));
        }
        self.ended = self.end(now).map(|end| (now, end));
        if self.ended.is_some() {
            return None;
        }
        let next = self.ask_next(now);
        self.changed = next.is_some();
        next
    }

    /// When [`Lookup::poll`] has something to do, if nothing comes before.
    pub fn next_deadline(&self) -> Moment {
        if self.ended.is_some() {
            return Moment::NEVER;
        }
        let candidates = self.shortlist.iter().map(|it| match it.state {
            State::Asked { slow_at, late_at, .. } => slow_at.min(late_at),
            State::Late(asked) => asked + PATIENCE,
            State::Unasked | State::Answered | State::Failed => Moment::NEVER,
        });
        let first = candidates.min().unwrap_or(Moment::NEVER);
        first.min(self.started + self.config.budget).min(self.settled_at)
    }

    /// Whether [`Lookup::poll`] has somebody to ask now, or something came that it has to weigh.
    pub fn is_hungry(&self) -> bool {
        self.changed
    }

    /// Whether there is nothing more to do but to take the [outcome](Self::into_outcome).
    pub const fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// A node named `peers`: an answer to FIND_NODE, or to FIND_VALUE without a value.
    pub fn answered(&mut self, now: Moment, from: &Contact, peers: &[Found]) {
        let Some((elapsed, hops)) = self.take_answer(now, from) else { return };
        let closer = self.learn(from, hops, peers);
        self.pace.answered(elapsed, closer);
    }

    /// A node answered FIND_VALUE, with what was verified of it.
    pub fn answered_value(&mut self, now: Moment, from: &Contact, found: FoundValue) {
        let Some((elapsed, hops)) = self.take_answer(now, from) else { return };
        let closer = self.learn(from, hops, &found.closer);
        self.pace.answered(elapsed, closer);
        self.stats.forged += u32::from(found.forged > 0);
        if found.record.is_none() && found.providers.is_empty() {
            return;
        }
        self.holders.push(from.peer);
        let fixed = found.record.as_ref().is_some_and(|record| record.owner.is_none());
        self.keep(found);
        if fixed {
            self.ended = Some((now, End::Found));
        } else {
            self.settled_at = self.settled_at.min(now + self.pace.timeout());
        }
    }

    /// A node answered with what is not what its key names.
    pub fn forged(&mut self, from: &Contact) {
        self.stats.forged += 1;
        self.failed(from);
    }

    /// A node that was to be asked was not: who asks knows that it is silent.
    pub fn passed_over(&mut self, contact: &Contact) {
        let Some(it) = self.shortlist.find(&contact.peer, &contact.key) else { return };
        if matches!(it.state, State::Asked { .. }) {
            it.state = State::Failed;
            self.stats.asked -= 1;
            self.stats.passed_over += 1;
            self.changed = true;
        }
    }

    /// A node refused, cannot be reached, or is not who it was said to be.
    pub fn failed(&mut self, from: &Contact) {
        let Some(it) = self.shortlist.find(&from.peer, &from.key) else { return };
        if matches!(it.state, State::Asked { .. } | State::Late(_)) {
            it.state = State::Failed;
            self.stats.failed += 1;
            self.pace.missed();
            self.changed = true;
        }
    }

    /// What it came to so far; all of it once it [is over](Self::is_over).
    pub fn into_outcome(self, now: Moment) -> Outcome {
        let (at, end) = self.ended.unwrap_or((now, End::Budget));
        let answered = self.shortlist.iter().filter(|it| it.state == State::Answered);
        Outcome {
            end,
            closest: answered.map(|it| it.contact).take(K).collect(),
            record: self.record,
            providers: self.providers,
            holders: self.holders,
            elapsed: at.since(self.started),
            stats: self.stats,
        }
    }
}

impl Lookup {
    /// The candidates that are to answer, the closest first.
    fn window(&self) -> impl Iterator<Item = &shortlist::Candidate> {
        let counts =
            |it: &&shortlist::Candidate| !matches!(it.state, State::Late(_) | State::Failed);
        self.shortlist.iter().filter(counts).take(WANTED)
    }

    fn under_way(&self) -> usize {
        self.shortlist.iter().filter(|it| matches!(it.state, State::Asked { .. })).count()
    }

    fn mark_late(&mut self, now: Moment) {
        for it in self.shortlist.iter_mut() {
            let State::Asked { at, slow_at, late_at } = &mut it.state else { continue };
            if *slow_at <= now {
                *slow_at = Moment::NEVER;
                self.pace.missed();
            }
            if *late_at <= now {
                it.state = State::Late(*at);
                self.pace.missed();
            }
        }
    }

    fn given_up(&mut self, now: Moment) -> Option<Contact> {
        let expired = |state| matches!(state, State::Late(asked) if now.since(asked) >= PATIENCE);
        let it = self.shortlist.iter_mut().find(|it| expired(it.state))?;
        it.state = State::Failed;
        self.stats.failed += 1;
        Some(it.contact)
    }

    fn end(&self, now: Moment) -> Option<End> {
        let over = now.since(self.started) >= self.config.budget;
        let all_answered = self.window().all(|it| it.state == State::Answered);
        if !self.holders.is_empty() {
            let quorum = self.holders.len() >= QUORUM as usize;
            let settled = quorum || all_answered || over || self.settled_at <= now;
            return settled.then_some(End::Found);
        }
        let seeks_value = matches!(self.goal, Goal::Value(_));
        let somebody = self.window().next().is_some();
        // Whoever is late may be all there is, or the one that has the value.
        let waits = (seeks_value || !somebody)
            && self.shortlist.iter().any(|it| matches!(it.state, State::Late(_)));
        if over {
            return Some(End::Budget);
        }
        if all_answered && !waits {
            return Some(if somebody { End::Closest } else { End::Deserted });
        }
        let spent = self.stats.asked >= ASKED_MAX && self.under_way() == 0 && !waits;
        spent.then_some(End::Budget)
    }

    fn ask_next(&mut self, now: Moment) -> Option<Due> {
        let under_way = self.under_way();
        if under_way >= self.pace.alpha() || self.stats.asked >= ASKED_MAX {
            return None;
        }
        let next = self.window().find(|it| it.state == State::Unasked)?;
        let (contact, hearsay) = (next.contact, next.hops > 1);
        let (slow_at, late_at) = (now + self.pace.expected(), now + self.pace.timeout());
        let it = self.shortlist.find(&contact.peer, &contact.key)?;
        it.state = State::Asked { at: now, slow_at, late_at };
        self.stats.asked += 1;
        self.stats.parallel = self.stats.parallel.max(u32::try_from(under_way + 1).unwrap_or(0));
        Some(Due::Ask { contact, hearsay })
    }

    /// Time and hops of an answer that is waited for.
    fn take_answer(&mut self, now: Moment, from: &Contact) -> Option<(Duration, u32)> {
        if self.ended.is_some() {
            return None;
        }
        let it = self.shortlist.find(&from.peer, &from.key)?;
        let (asked, late) = match it.state {
            State::Asked { at, .. } => (at, false),
            State::Late(asked) => (asked, true),
            State::Unasked | State::Answered | State::Failed => return None,
        };
        it.state = State::Answered;
        self.changed = true;
        let hops = it.hops;
        self.stats.answered += 1;
        self.stats.late += u32::from(late);
        self.stats.hops = self.stats.hops.max(hops);
        Some((now.since(asked), hops))
    }

    /// Takes in whom an answer names; whether one is closer than all that were known.
    fn learn(&mut self, from: &Contact, hops: u32, peers: &[Found]) -> bool {
        let max = self.goal.peers_max();
        let surplus = peers.len().saturating_sub(max);
        (0..surplus).for_each(|_| self.stats.leave_out(Unfit::TooMany));
        let mut closer = false;
        for found in &peers[..peers.len() - surplus] {
            match self.consider(from, hops + 1, found) {
                Ok(leads) => closer |= leads,
                Err(why) => self.stats.leave_out(why),
            }
        }
        closer
    }

    fn consider(&mut self, from: &Contact, hops: u32, found: &Found) -> Result<bool, Unfit> {
        let Found { peer, key, .. } = *found;
        if Some(peer) == self.config.ourselves || peer == from.peer || key == from.key {
            return Err(Unfit::Ourselves);
        }
        let families = self.config.families;
        let mut addresses = found.addresses.iter();
        let address = addresses.find(|address| is_fit(address, &from.address, families));
        let address = *address.ok_or(Unfit::Unreachable)?;
        self.shortlist.add(Contact { peer, key, address }, Some(from.key), hops)
    }

    fn keep(&mut self, found: FoundValue) {
        if let Some(record) = found.record {
            // An owner's word is more than a digest that happens to be the same.
            let rank = |it: &OwnedRecord| (it.owner.is_some(), it.sequence);
            if self.record.as_ref().is_none_or(|known| rank(known) < rank(&record)) {
                self.record = Some(record);
            }
        }
        for provider in found.providers {
            match self.providers.iter_mut().find(|known| known.peer == provider.peer) {
                Some(known) if known.sequence < provider.sequence => *known = provider,
                Some(_) => {}
                None => self.providers.push(provider),
            }
        }
    }
}
