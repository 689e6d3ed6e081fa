//! The world: nodes that come and go, keys and their owners, and lookups that are judged.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use molia_router::client::OwnedRecord;
use molia_router::client::crowd::{Event as Came, LookupId, Ticket};
use molia_router::client::lookup::{Contact, Goal, Outcome, WANTED};
use molia_router::ids::Key;
use molia_router::time::{Moment, Now};
use molia_router::wire::Kind;

use super::dice::Dice;
use super::network::{Agenda, Event, Network};
use super::node::{Node, REFRESH, REPUBLISH, TTL};
use super::report::Report;

/// Nodes at a time.
const NODES: usize = 200;
/// Of them, well-known ones, which stay.
const BOOTSTRAPS: usize = 4;
/// Keys at a time.
const KEYS: usize = 120;
/// When the last of the first nodes joins, and when each thing begins.
const GATHERED: Duration = Duration::from_secs(8);
const PUBLISHING: Duration = Duration::from_secs(10);
const CHURNING: Duration = Duration::from_secs(15);
const ASKING: Duration = Duration::from_secs(25);
/// A node leaves and another joins this often: 30 % of 200 a minute.
const CHURN: Duration = Duration::from_millis(1000);
/// Between two lookups.
const ASK: Duration = Duration::from_millis(150);
/// Length of a run: three minutes of churn.
const END_S: u64 = 195;
/// When the world begins, by the wall clock.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// Each so many keys one has values that change.
const MUTABLE: usize = 4;

/// A key, its owner, and what was published of it.
struct Item {
    owner: usize,
    record: OwnedRecord,
    /// Sequence of the last publication that some node confirmed.
    settled: Option<u64>,
    /// Stores under way.
    under_way: BTreeMap<Ticket, u64>,
    /// Until when it has to be found, once its owner has left: until it would have published again.
    until: Moment,
}

/// Why a node looks something up.
enum Purpose {
    Publish(usize),
    /// What must be found, and how new it must be.
    Judged(usize, u64),
}

pub(crate) struct World {
    stamp_bits: u32,
    trace: bool,
    dice: Dice,
    now: Moment,
    end: Moment,
    clock: Rc<Cell<u64>>,
    agenda: Agenda,
    network: Network,
    nodes: Vec<Option<Node>>,
    at: BTreeMap<SocketAddr, usize>,
    bootstraps: Vec<Contact>,
    items: Vec<Item>,
    purposes: BTreeMap<(usize, LookupId), Purpose>,
    hasher: blake3::Hasher,
    report: Report,
}

impl World {
    pub(crate) fn new(seed: u64, stamp_bits: u32, trace: bool) -> Self {
        let mut dice = Dice::of(seed ^ 0x0E71_A7ED);
        let network = Network::new(dice.fork());
        Self {
            stamp_bits,
            trace,
            dice,
            now: Moment::START,
            end: Moment::START + Duration::from_secs(END_S),
            clock: Rc::default(),
            agenda: Agenda::default(),
            network,
            nodes: Vec::new(),
            at: BTreeMap::new(),
            bootstraps: Vec::new(),
            items: Vec::new(),
            purposes: BTreeMap::new(),
            hasher: blake3::Hasher::new(),
            report: Report::default(),
        }
    }

    /// Ends earlier.
    pub(crate) fn until_s(mut self, seconds: u64) -> Self {
        self.end = Moment::START + Duration::from_secs(seconds);
        self
    }

    /// Lives through all of it.
    pub(crate) fn run(mut self) -> Report {
        self.begin();
        while let Some((at, event)) = self.agenda.pop()
            && at < self.end
        {
            self.now = at;
            self.clock.set(at.as_nanos());
            self.happen(event);
        }
        self.report.digest = self.hasher.finalize().to_hex().to_string();
        self.report
    }

    fn begin(&mut self) {
        for _ in 0..BOOTSTRAPS {
            let number = self.join();
            let contact = self.node(number).contact;
            self.bootstraps.push(contact);
        }
        let gathered_us = u64::try_from(GATHERED.as_micros()).unwrap();
        for _ in BOOTSTRAPS..NODES {
            let at = Moment::START + self.dice.micros(0..gathered_us);
            self.agenda.add(at, Event::Join);
        }
        let mut at = Moment::START + CHURNING;
        while at < self.end {
            self.agenda.add(at, Event::Leave);
            self.agenda.add(at + CHURN / 2, Event::Join);
            at = at + CHURN;
        }
        let mut at = Moment::START + ASKING;
        while at < self.end - Duration::from_secs(5) {
            self.agenda.add(at, Event::Ask);
            at = at + ASK;
        }
        self.agenda.add(self.end, Event::End);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
            Event::Wake(number) => self.wake(number),
            Event::Refresh(number) => self.refresh(number),
            Event::Publish(item) => self.publish(item),
            Event::Ask => self.ask(),
            Event::Join => drop(self.join()),
            Event::Leave => self.leave(),
            Event::End => {}
        }
    }

    fn wall(&self) -> Now {
        Now { at: self.now, unix_ms: EPOCH_MS + self.now.as_nanos() / 1_000_000 }
    }

    fn node(&mut self, number: usize) -> &mut Node {
        self.nodes[number].as_mut().unwrap()
    }

    /// A new node, in a network that few others are in.
    fn join(&mut self) -> usize {
        let number = self.nodes.len();
        let address = loop {
            let [b, c, d] = self.dice.bytes();
            let address: SocketAddr = (Ipv4Addr::new(80 + b % 8, b, c, d), 7743).into();
            if !self.at.contains_key(&address) {
                break address;
            }
        };
        let now = self.wall();
        let known = &self.bootstraps;
        let node = Node::new(now, address, &self.clock, self.stamp_bits, known, &mut self.dice);
        self.nodes.push(Some(node));
        self.at.insert(address, number);
        self.report.joined += 1;
        self.agenda.add(self.now, Event::Refresh(number));
        // Only so many first keys; later a node that joins brings one for a key that went.
        if number >= BOOTSTRAPS && self.living_items() < KEYS {
            self.bring(number);
        }
        number
    }

    fn living_items(&self) -> usize {
        self.items.iter().filter(|item| self.nodes[item.owner].is_some()).count()
    }

    /// A node has something to publish.
    fn bring(&mut self, owner: usize) {
        let number = self.items.len();
        let len = 16 + self.dice.below(200);
        let value = self.dice.blob(len);
        let record = if number.is_multiple_of(MUTABLE) {
            let (identity, unix_s) = (self.node(owner).identity.clone(), self.wall().unix_s());
            OwnedRecord::named(&identity, b"", value, 1, unix_s, TTL)
        } else {
            OwnedRecord::immutable(value, TTL)
        };
        let item =
            Item { owner, record, settled: None, under_way: BTreeMap::new(), until: Moment::NEVER };
        self.items.push(item);
        let first = (Moment::START + PUBLISHING).max(self.now + Duration::from_secs(2));
        let spread = self.dice.millis(0..4000);
        self.agenda.add(first + spread, Event::Publish(number));
    }

    /// Somebody goes without a word.
    fn leave(&mut self) {
        let living = |number: &usize| self.nodes[*number].is_some();
        let all: Vec<usize> = (BOOTSTRAPS..self.nodes.len()).filter(living).collect();
        let number = *self.dice.pick(&all);
        let address = self.node(number).contact.address;
        self.at.remove(&address);
        self.nodes[number] = None;
        self.report.left += 1;
        let until = self.now + REPUBLISH;
        self.items
            .iter_mut()
            .filter(|item| item.owner == number)
            .for_each(|item| item.until = until);
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(&number) = self.at.get(&to) else { return };
        self.report.datagrams += 1;
        self.hasher.update(&self.now.as_nanos().to_be_bytes()).update(bytes);
        let now = self.wall();
        let mut sent = Vec::new();
        let send = &mut |to: SocketAddr, bytes: &[u8]| sent.push((to, bytes.to_vec()));
        self.node(number).receive(now, from, bytes, send);
        self.send(number, sent);
        self.attend(number);
    }

    fn wake(&mut self, number: usize) {
        if self.nodes[number].as_ref().is_some_and(|node| node.wake <= self.now) {
            self.attend(number);
        }
    }

    /// Lets a node do what is due, and takes in what came of it.
    fn attend(&mut self, number: usize) {
        let now = self.wall();
        loop {
            let mut sent = Vec::new();
            let send = &mut |to: SocketAddr, bytes: &[u8]| sent.push((to, bytes.to_vec()));
            self.node(number).poll(now, send);
            self.send(number, sent);
            let Some(event) = self.node(number).next_event() else { break };
            self.came(number, event);
        }
        let soonest = self.now + Duration::from_micros(100);
        let node = self.nodes[number].as_mut().unwrap();
        let wake = node.next_deadline().max(soonest);
        if node.wake <= self.now || wake < node.wake {
            node.wake = wake;
            if wake < Moment::NEVER {
                self.agenda.add(wake, Event::Wake(number));
            }
        }
    }

    fn send(&mut self, number: usize, sent: Vec<(SocketAddr, Vec<u8>)>) {
        let from = self.node(number).contact.address;
        for (to, bytes) in sent {
            if let Some(at) = self.network.carry(self.now, from, to) {
                self.agenda.add(at, Event::Datagram { from, to, bytes });
            }
        }
    }

    fn look_up(&mut self, number: usize, goal: Goal, purpose: Purpose) {
        let now = self.now;
        let id = self.node(number).look_up(now, goal);
        self.purposes.insert((number, id), purpose);
        self.attend(number);
    }

    fn refresh(&mut self, number: usize) {
        if self.nodes[number].is_none() {
            return;
        }
        let now = self.now;
        let node = self.node(number);
        let ids = node.refresh(now);
        node.joining = node.joining.or(ids.first().copied());
        self.attend(number);
        let pause = REFRESH + self.dice.millis(0..2000);
        self.agenda.add(self.now + pause, Event::Refresh(number));
    }

    fn publish(&mut self, number: usize) {
        let owner = self.items[number].owner;
        if self.nodes[owner].is_none() {
            return;
        }
        let unix_s = self.wall().unix_s();
        let identity = self.node(owner).identity.clone();
        let item = &mut self.items[number];
        if item.record.owner.is_some() {
            let (sequence, value) = (item.record.sequence + 1, item.record.value.clone());
            item.record = OwnedRecord::named(&identity, b"", value, sequence, unix_s, TTL);
        }
        let key = item.record.key;
        self.look_up(owner, Goal::Node(key.point()), Purpose::Publish(number));
        let pause = REPUBLISH - Duration::from_secs(1) + self.dice.millis(0..1000);
        self.agenda.add(self.now + pause, Event::Publish(number));
    }

    /// A random node looks a key up that it does not own.
    fn ask(&mut self) {
        let now = self.now;
        let wanted = |item: &Item| item.settled.is_some() && item.until > now;
        let wanted = self.items.iter().enumerate().filter(|(_, item)| wanted(item));
        let wanted: Vec<usize> = wanted.map(|(number, _)| number).collect();
        let joined = |number: &usize| self.nodes[*number].as_ref().is_some_and(|node| node.joined);
        let askers: Vec<usize> = (0..self.nodes.len()).filter(joined).collect();
        if wanted.is_empty() || askers.is_empty() {
            return;
        }
        let (item, asker) = (*self.dice.pick(&wanted), *self.dice.pick(&askers));
        let Item { record, settled, .. } = &self.items[item];
        let (key, settled) = (record.key, settled.unwrap());
        self.look_up(asker, Goal::Value(key), Purpose::Judged(item, settled));
    }

    fn came(&mut self, number: usize, event: Came) {
        match event {
            Came::LookedUp(id, outcome) => match self.purposes.remove(&(number, id)) {
                Some(Purpose::Publish(item)) => self.store(number, item, &outcome),
                Some(Purpose::Judged(item, settled)) => self.judge(number, item, settled, &outcome),
                // For its own sake.
                None => {
                    let node = self.node(number);
                    node.joined |= node.joining == Some(id);
                }
            },
            Came::Answered(ticket, _, answer) => {
                let stored = answer.is_ok_and(|answer| answer.kind == Kind::StoreResp);
                let mut items = self.items.iter_mut();
                let item =
                    items.find(|it| it.owner == number && it.under_way.contains_key(&ticket));
                let Some(item) = item else { return };
                let sequence = item.under_way.remove(&ticket);
                if stored {
                    self.report.kept += 1;
                    item.settled = item.settled.max(sequence);
                }
            }
        }
    }

    fn store(&mut self, number: usize, item: usize, outcome: &Outcome) {
        let now = self.wall();
        let record = self.items[item].record.clone();
        for contact in outcome.closest.iter().take(WANTED) {
            let ticket = self.node(number).crowd.store(now, contact, &record).unwrap();
            self.items[item].under_way.insert(ticket, record.sequence);
            self.report.stores += 1;
        }
    }

    fn judge(&mut self, asker: usize, item: usize, settled: u64, outcome: &Outcome) {
        let Item { record, .. } = &self.items[item];
        let found = outcome.record.as_ref().filter(|found| found.value == record.value);
        self.report.asked += u64::from(outcome.stats.asked);
        self.report.failed += u64::from(outcome.stats.failed);
        self.report.hops += u64::from(outcome.stats.hops);
        match found {
            Some(found) => {
                self.report.stale += usize::from(found.sequence + 1 < settled);
                self.report.found.push(outcome.elapsed);
            }
            None => self.report.missed += 1,
        }
        if self.trace && (found.is_none() || outcome.elapsed > Duration::from_secs(1)) {
            let key: Key = record.key;
            let holders = self.report.stores;
            eprintln!(
                "{:?} node {asker} key {key:?} (of {holders}): {:?} after {:?}, {:?}, closest {:?}",
                self.now,
                outcome.end,
                outcome.elapsed,
                outcome.stats,
                outcome.closest.iter().map(|it| it.peer).collect::<Vec<_>>()
            );
        }
    }
}
