//! Sessions with many nodes at once, and lookups over them; no socket, no clock.
//!
//! Datagrams and `now` go in, datagrams with their destination and [`Event`]s come out, as with one
//! [`Peer`]. Nodes are made when they are asked first. In front of the first request goes a
//! NEGOTIATE: it says who we are, so that the node may list us, and its answer has to prove that the
//! node is the peer that it is said to be; other answers wait for that. Both travel together.
//!
//! Invariants:
//! * A WireGuard key is one node, with one session. Only what comes from its address reaches it.
//! * Nobody's answer counts before its proof.
//! * A node that is silent, an impostor, or too dear is forgotten, with an end to everything that
//!   waits for it; asked again, it begins with a handshake.
//! * At most [`NODES_MAX`] nodes, unless more are being asked.

mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::calls::{Found, binding, greeting};
use super::error::Error;
use super::lookup::{self, Contact, Due, Goal, Lookup, Outcome, Pace};
use super::peer::Peer;
use super::requests::{Answer, Requests};
use super::session::{self, Initiator, Session};
use super::values::{FoundValue, OwnedRecord, solve, store_bodies};
use crate::identity::Identity;
use crate::ids::WgKey;
use crate::time::{Moment, Now};
use crate::wire::body::{FindNodeReq, FindNodeResp, FindValueReq, IdentityBinding, Ping};
use crate::wire::kind::Kind;
use node::{Asker, Node};

pub use node::Failure;

/// Sessions that are kept.
pub const NODES_MAX: usize = 256;
/// A node that did not answer is not asked again for so long because others name it: what they know is
/// older. Who is told of it by the caller is asked all the same if few others are known.
const SHUNNED: Duration = Duration::from_secs(60);
/// Silent nodes that are remembered.
const SILENT_MAX: usize = 1024;
/// A node that answered within this is as good as there, and where a lookup begins.
const FRESH: Duration = Duration::from_secs(60);
/// So long before the end of a binding of ours there is a new one.
const BINDING_RENEWAL_S: u64 = 3600;
/// Of a handshake: a lookup does not wait longer for an answer.
const SESSION: session::Config =
    session::Config { handshake_patience: lookup::PATIENCE, keepalive: None };

/// Names a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(u64);

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Something came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lookup.
    LookedUp(LookupId, Box<Outcome>),
    /// A request.
    Answered(Ticket, Contact, Result<Answer, Failure>),
}

/// Makes the cryptography towards a node.
pub type Dial<I> = Box<dyn FnMut(&Contact) -> I>;

/// See the module.
pub struct Crowd<I> {
    identity: Option<Arc<Identity>>,
    /// What we say of ourselves, and until when.
    binding: Option<IdentityBinding>,
    dial: Dial<I>,
    rng: ChaCha12Rng,
    nodes: BTreeMap<WgKey, Node<I>>,
    lookups: BTreeMap<LookupId, Lookup>,
    /// Since when nodes are silent.
    silent: BTreeMap<WgKey, Moment>,
    /// What lookups learned of times.
    pace: Pace,
    last: u64,
    events: VecDeque<Event>,
}

impl<I> fmt::Debug for Crowd<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd")
            .field("identity", &self.identity)
            .field("nodes", &self.nodes.len())
            .field("lookups", &self.lookups.len())
            .finish_non_exhaustive()
    }
}

impl<I: Initiator> Crowd<I> {
    /// Nobody yet. With an identity every node is told who we are; its WireGuard key is what `dial` has to
    /// speak through then.
    pub fn new(identity: Option<Arc<Identity>>, dial: Dial<I>, rng: ChaCha12Rng) -> Self {
        Self {
            identity,
            binding: None,
            dial,
            rng,
            nodes: BTreeMap::new(),
            lookups: BTreeMap::new(),
            silent: BTreeMap::new(),
            pace: Pace::default(),
            last: 0,
            events: VecDeque::new(),
        }
    }

    /// Starts a lookup at `known` and at the nodes that have answered us lately.
    pub fn look_up(
        &mut self,
        now: Moment,
        goal: Goal,
        config: lookup::Config,
        known: impl IntoIterator<Item = Contact>,
    ) -> LookupId {
        let ourselves = self.identity.as_ref().map(|identity| identity.peer_id());
        let config = lookup::Config { pace: self.pace, ourselves, ..config };
        let mut known: Vec<Contact> = self.fresh(now).chain(known).collect();
        let speaks = |it: &Contact| !self.is_silent(now, &it.key);
        if known.iter().filter(|it| speaks(it)).count() >= lookup::WANTED {
            known.retain(speaks);
        }
        let lookup = Lookup::new(now, goal, config, known);
        let id = LookupId(self.next());
        self.lookups.insert(id, lookup);
        id
    }

    /// Nodes that proved who they are and answered within the last minute.
    pub fn fresh(&self, now: Moment) -> impl Iterator<Item = Contact> {
        let fresh = move |node: &&Node<I>| {
            node.is_proven() && node.answered_at.is_some_and(|at| now.since(at) < FRESH)
        };
        self.nodes.values().filter(fresh).map(|node| node.contact)
    }

    /// Whether a node was asked within the last minute and did not answer.
    pub fn is_silent(&self, now: Moment, key: &WgKey) -> bool {
        self.silent.get(key).is_some_and(|since| now.since(*since) < SHUNNED)
    }

    /// Tells a node that we are there: who we are if it does not know, else with a PING. Nodes list
    /// whom they hear of, and prefer those that they heard of lately.
    ///
    /// # Errors
    /// As [`Crowd::store`].
    pub fn greet(&mut self, now: Now, to: &Contact) -> Result<Ticket, Error> {
        let token = self.rng.next_u64();
        let ticket = Ticket(self.next());
        let ping = Ping { now_unix_ms: now.unix_ms, padding: &[], token };
        let too_large = |_| Error::TooLarge { request: Kind::Ping };
        let node = self.node(now, to).map_err(too_large)?;
        let asker = Asker::Caller(ticket);
        node.ask(now.at, asker, Kind::Ping, |out| ping.write(out)).map_err(too_large)?;
        Ok(ticket)
    }

    /// Asks a node to keep `record`; pays the stamp that it wanted when it proved who it is, which
    /// takes as long as such work takes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::StampPrice`].
    pub fn store(&mut self, now: Now, to: &Contact, record: &OwnedRecord) -> Result<Ticket, Error> {
        let ticket = Ticket(self.next());
        let bits = self.nodes.get(&to.key).map_or(0, |node| node.stamp_bits);
        let stamp = solve(&mut self.rng, &record.key, &to.peer, bits, || now.unix_s())?;
        let request = Kind::StoreReq;
        let too_large = |_| Error::TooLarge { request };
        let bodies = store_bodies(&record.borrowed(), stamp).map_err(too_large)?;
        let node = self.node(now, to).map_err(too_large)?;
        node.ask_chunked(now.at, Asker::Caller(ticket), request, &bodies).map_err(too_large)?;
        Ok(ticket)
    }

    /// Takes a datagram that came from `from`.
    pub fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        // Two keys at one address are rare, and what is not for a session it leaves alone.
        let here = self.nodes.iter_mut().filter(|(_, node)| node.contact.address == from);
        let mut heard = Vec::new();
        for (key, node) in here {
            node.receive(now, datagram);
            heard.push(*key);
        }
        heard.iter().for_each(|key| self.hear(now, key));
    }

    /// The next datagram to send, and where; until `None`.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        loop {
            self.poll_lookups(now);
            let due = self.nodes.iter_mut().find(|(_, node)| node.due <= now.at);
            let (&key, node) = due?;
            let address = node.contact.address;
            let datagram = node.transmit(now.at);
            self.hear(now, &key);
            if let Some(datagram) = datagram {
                return Some((address, datagram));
            }
        }
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Crowd::poll_event`] has something.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// When [`Crowd::poll_transmit`] is to be called next, if no datagram comes before.
    pub fn next_deadline(&self) -> Moment {
        let nodes = self.nodes.values().map(|node| node.due);
        let lookups = self.lookups.values().map(Lookup::next_deadline);
        nodes.chain(lookups).min().unwrap_or(Moment::NEVER)
    }

    /// Nothing can be sent to an address: whoever is there counts as silent.
    pub fn unreachable(&mut self, now: Moment, address: SocketAddr) {
        let there = |node: &&Node<I>| node.contact.address == address;
        let keys: Vec<WgKey> = self.nodes.values().filter(there).map(|it| it.contact.key).collect();
        for key in keys {
            self.note_silence(now, key);
            self.forget(&key, &Failure::Silent);
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl<I: Initiator> Crowd<I> {
    /// The node of a contact, made if there is none, and asked for its proof.
    fn node(
        &mut self,
        now: Now,
        to: &Contact,
    ) -> Result<&mut Node<I>, crate::wire::body::Overflow> {
        // It moved, or somebody lied of where it is: a session that works says where it is.
        let elsewhere = self.nodes.get(&to.key).is_some_and(|node| {
            node.contact.address != to.address && node.is_idle() && !node.is_established(now.at)
        });
        if elsewhere {
            self.nodes.remove(&to.key);
        }
        if !self.nodes.contains_key(&to.key) {
            self.make_room();
            let initiator = (self.dial)(to);
            let [session, requests] = std::array::from_fn(|_| self.fork());
            let session = Session::new(initiator, SESSION, session);
            let peer = Peer::new(session, Requests::new(requests), to.address);
            self.nodes.insert(to.key, Node::new(now.at, *to, peer));
        }
        let binding = self.binding(now);
        let Some(node) = self.nodes.get_mut(&to.key) else {
            unreachable!("it was there or it was made");
        };
        node.introduce(&greeting(binding))?;
        Ok(node)
    }

    fn make_room(&mut self) {
        if self.nodes.len() < NODES_MAX {
            return;
        }
        let idle = self.nodes.values().filter(|node| node.is_idle());
        let oldest = idle.min_by_key(|node| node.used_at).map(|node| node.contact.key);
        if let Some(key) = oldest {
            self.nodes.remove(&key);
        }
    }

    fn fork(&mut self) -> ChaCha12Rng {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        ChaCha12Rng::from_seed(seed)
    }

    fn binding(&mut self, now: Now) -> Option<IdentityBinding> {
        let (identity, unix_s) = (self.identity.as_ref()?, now.unix_s());
        let holds = |it: &IdentityBinding| it.not_after_unix_s > unix_s + BINDING_RENEWAL_S;
        if !self.binding.as_ref().is_some_and(holds) {
            self.binding = Some(binding(identity, unix_s));
        }
        self.binding
    }

    fn poll_lookups(&mut self, now: Now) {
        let due = |(id, lookup): (&LookupId, &Lookup)| {
            (lookup.is_over() || lookup.next_deadline() <= now.at || lookup.is_hungry())
                .then_some(*id)
        };
        let due: Vec<LookupId> = self.lookups.iter().filter_map(due).collect();
        for id in due {
            let Some(mut lookup) = self.lookups.remove(&id) else { continue };
            while let Some(due) = lookup.poll(now.at) {
                match due {
                    Due::Ask { contact, hearsay: true } if self.is_silent(now.at, &contact.key) => {
                        lookup.passed_over(&contact);
                    }
                    Due::Ask { contact, .. } => self.ask(now, id, &mut lookup, &contact),
                    // If it answers still, that finds nobody.
                    Due::GiveUp(contact) => self.note_silence(now.at, contact.key),
                }
            }
            if lookup.is_over() {
                self.pace = lookup.pace();
                let outcome = Box::new(lookup.into_outcome(now.at));
                self.events.push_back(Event::LookedUp(id, outcome));
            } else {
                self.lookups.insert(id, lookup);
            }
        }
    }

    fn ask(&mut self, now: Now, id: LookupId, lookup: &mut Lookup, contact: &Contact) {
        let (goal, asker) = (lookup.goal(), Asker::Lookup(id));
        let asked = self.node(now, contact).and_then(|node| {
            // The same key cannot be two peers.
            if node.contact.peer != contact.peer {
                return Err(crate::wire::body::Overflow);
            }
            match goal {
                Goal::Node(target_id) => {
                    let request = FindNodeReq {
                        target_id,
                        limit: u32::try_from(goal.peers_max()).unwrap_or(0),
                    };
                    node.ask(now.at, asker, Kind::FindNodeReq, |out| request.write(out))
                }
                Goal::Value(key) => {
                    let request = FindValueReq { key, provider_limit: 0 };
                    node.ask(now.at, asker, Kind::FindValueReq, |out| request.write(out))
                }
            }
        });
        if asked.is_err() {
            lookup.failed(contact);
        }
    }

    /// Hands on what a node said.
    fn hear(&mut self, now: Now, key: &WgKey) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        let contact = node.contact;
        let mut said = Vec::new();
        let outcome = node.said(now, &mut said);
        if node.answered_at == Some(now.at) {
            self.silent.remove(key);
        }
        for (asker, answer) in said {
            self.hand_on(now.at, &contact, asker, answer);
        }
        if let Err(failure) = outcome {
            if failure == Failure::Silent {
                self.note_silence(now.at, *key);
            }
            self.forget(key, &failure);
        }
    }

    fn note_silence(&mut self, now: Moment, key: WgKey) {
        if self.silent.len() >= SILENT_MAX {
            self.silent.retain(|_, since| now.since(*since) < SHUNNED);
        }
        if self.silent.len() < SILENT_MAX {
            self.silent.insert(key, now);
        }
    }

    fn forget(&mut self, key: &WgKey, failure: &Failure) {
        let Some(node) = self.nodes.remove(key) else { return };
        let contact = node.contact;
        for asker in node.waiting() {
            self.hand_on(Moment::START, &contact, asker, Err(failure.clone()));
        }
    }

    fn hand_on(
        &mut self,
        now: Moment,
        contact: &Contact,
        asker: Asker,
        answer: Result<Answer, Failure>,
    ) {
        match asker {
            Asker::Caller(ticket) => {
                self.events.push_back(Event::Answered(ticket, *contact, answer));
            }
            Asker::Lookup(id) => {
                let Some(lookup) = self.lookups.get_mut(&id) else { return };
                match answer {
                    Ok(answer) => take_answer(now, lookup, contact, &answer),
                    Err(_) => lookup.failed(contact),
                }
            }
        }
    }
}

fn take_answer(now: Moment, lookup: &mut Lookup, from: &Contact, answer: &Answer) {
    match lookup.goal() {
        Goal::Node(_) => match peers(&answer.bodies) {
            Some(peers) => lookup.answered(now, from, &peers),
            None => lookup.failed(from),
        },
        Goal::Value(key) => match FoundValue::read(&key, &answer.bodies) {
            Ok(found) => lookup.answered_value(now, from, found),
            Err(Error::Forged(_)) => lookup.forged(from),
            Err(_) => lookup.failed(from),
        },
    }
}

/// Whom an answer to FIND_NODE names.
fn peers(bodies: &[Vec<u8>]) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for body in bodies {
        found.extend(FindNodeResp::read(body).ok()?.peers.iter().map(|peer| Found::of(&peer)));
    }
    Some(found)
}

/// Names a node for people.
impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.peer, self.address)
    }
}
