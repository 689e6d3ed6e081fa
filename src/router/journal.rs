//! What the store is to remember, and who waits for that.
//!
//! A router writes nothing. It notes what changed; whoever drives it asks for the records
//! ([`Router::take_changes`]), as for mail, and says how far they are safe ([`Router::stored`]).
//! A note only names what changed, and the record is made of what is there when it is asked for:
//! its bytes are copied once, into the store's ring.
//!
//! Invariants:
//! * What is kept for a peer is noted in the same call; while the store cannot take it, it is not
//!   kept, and the peer is told to come back ([`Code::Busy`](crate::wire::Code::Busy)).
//! * Where it was asked for ([`Keeping::Strict`]), no write is acknowledged before its record, and
//!   all before it, are safe.

use std::collections::VecDeque;
use std::time::Duration;

use peerstore::record::{self as stored, Host, NatBehaviour, Subject};

use crate::ids::{Key, PeerId, WgKey};
use crate::overlay::records::{KeptProvider, KeptValue, Outcome, Version};
use crate::overlay::table::Known;
use crate::rendezvous::{Behaviour, Facts};
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;
use crate::wire::body::{self, IdentityBinding};

use super::records::{Asker, Write, Written};
use super::{Mail, Router, relay};

/// What is done to keep what peers were told is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeping {
    /// Nothing: it is in memory and ends with the process.
    #[default]
    Memory,
    /// It goes to the store, which makes it safe by and by.
    Store,
    /// It is safe before the peer is told so.
    Strict,
}

/// Something that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The value of a key.
    Value(Key),
    /// What a peer announced for a key.
    Provider(Key, PeerId),
    /// It had to go.
    NoProvider(Key, PeerId),
    /// A listed peer is verified.
    Peer(PeerId),
    /// A binding was verified.
    Binding(IdentityBinding),
    /// Something was learnt of the NAT of the peer behind this key.
    Facts(WgKey),
}

/// Notes and waiting answers of one call that there is room for.
const NOTES: usize = 1024;
/// Acknowledgements that wait for the store at a time.
const WAITING_MAX: usize = 4096;
/// Of them, those that one call answers.
const RELEASED_A_CALL: usize = 64;
/// Places that one call of a walk looks at, at most.
const PLACES_A_WALK: usize = 512;
/// How long one waits; then the peer is told to come back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What a record takes beside its message, in bytes, whatever its kind.
const RECORD_BYTES: usize = 256;

/// An acknowledgement that waits.
#[derive(Debug)]
struct Waiting {
    /// Safe once the store is that far; `u64::MAX` until its records were taken.
    position: u64,
    since: Moment,
    asker: Asker,
    written: Written,
    /// The shard whose letter it is, and the letter.
    letter: Option<(u16, Box<Write>)>,
}

#[derive(Debug)]
pub(super) struct Journal {
    keeping: Keeping,
    notes: VecDeque<Note>,
    /// Bytes that the store has room for.
    room: usize,
    /// Everything before this position is safe.
    safe: u64,
    waiting: VecDeque<Waiting>,
}

impl Journal {
    pub(super) fn new(keeping: Keeping) -> Self {
        let (notes, waiting) = match keeping {
            Keeping::Memory => (0, 0),
            Keeping::Store => (NOTES, 0),
            Keeping::Strict => (NOTES, WAITING_MAX),
        };
        Self {
            keeping,
            notes: VecDeque::with_capacity(notes),
            room: 0,
            safe: 0,
            waiting: VecDeque::with_capacity(waiting),
        }
    }

    /// Takes room in the store for a message of so many bytes. Returns whether there was some.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        if self.keeping == Keeping::Memory {
            return true;
        }
        if self.keeping == Keeping::Strict && self.waiting.len() >= WAITING_MAX {
            return false;
        }
        let left = self.room.checked_sub(bytes.saturating_add(RECORD_BYTES));
        left.inspect(|left| self.room = *left).is_some()
    }

    /// Notes a change. Of peers and bindings the store takes what it can: they come again.
    pub(super) fn note(&mut self, note: Note) {
        if self.keeping != Keeping::Memory {
            // A write's message has its room already.
            self.room = self.room.saturating_sub(RECORD_BYTES);
            self.notes.push_back(note);
        }
    }

    /// Whether an answer to the same request waits already.
    fn awaits(&self, repeat: &Waiting) -> bool {
        let from = |waiting: &Waiting| waiting.letter.as_ref().map(|(shard, _)| *shard);
        self.waiting.iter().any(|it| it.asker == repeat.asker && from(it) == from(repeat))
    }

    /// Whether the first of those who wait need not wait any longer.
    fn is_released(&self) -> bool {
        self.waiting.front().is_some_and(|first| first.position <= self.safe)
    }

    fn deadline(&self) -> Moment {
        if self.is_released() {
            return Moment::START;
        }
        self.waiting.front().map_or(Moment::NEVER, |first| first.since + WAIT_MAX)
    }
}

/// Where a walk over everything that is kept goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cursor {
    /// At the beginning.
    #[default]
    Start,
    /// With the value of this number.
    Values(usize),
    /// With the provider of this number.
    Providers(usize),
    /// With the binding of this number.
    Bindings(usize),
    /// With what is known of the NAT of this number.
    Facts(usize),
    /// With the pair of ports of this number.
    Ports(usize),
    /// With the peers below this number.
    Peers(usize),
    /// There is nothing more.
    End,
}

impl<T: Tunnel> Router<T> {
    /// How many bytes the store can take, to be told before each call that may lead to changes; 0
    /// while it is broken. Without a word of it there is no room.
    pub fn store_room(&mut self, bytes: usize) {
        self.journal.room = bytes;
    }

    /// Notes a peer that was just heard of, if there is news of it.
    pub(super) fn note_peer(&mut self, now: Now, id: &PeerId) {
        if self.journal.keeping != Keeping::Memory && self.table.take_news(now, id) {
            self.journal.note(Note::Peer(*id));
        }
    }

    /// Whether [`take_changes`](Self::take_changes) has something to hand over, or somebody waits to
    /// be told of a position.
    #[inline]
    pub fn has_changes(&self) -> bool {
        let unplaced = |last: &Waiting| last.position == u64::MAX;
        !self.journal.notes.is_empty()
            || self.table.has_gone()
            || self.stock.has_changes()
            || self.journal.waiting.back().is_some_and(unplaced)
    }

    /// Hands the record of every change to `put`, oldest first. To be called after whatever else
    /// this router was asked to do; then [`changes_taken`](Self::changes_taken).
    pub fn take_changes(&mut self, now: Now, mut put: impl FnMut(&peerstore::Record<'_>)) {
        let Self { journal, records, table, facts, stock, .. } = self;
        for (id, key) in table.take_gone() {
            put(&no_peer(id, key));
        }
        while let Some(id) = stock.take_change() {
            put(&relay::record(now, stock, id));
        }
        for note in journal.notes.drain(..) {
            let record = match note {
                Note::Value(key) => records.value(&key).and_then(|kept| value(now, &kept)),
                Note::Provider(key, peer) => {
                    records.provider(&key, &peer).and_then(|kept| provider(now, &kept))
                }
                Note::NoProvider(key, peer) => Some(no_provider(key, peer)),
                Note::Peer(id) => table.known(now, &id).and_then(|known| peer(&known)),
                Note::Binding(bound) => Some(binding(&bound)),
                Note::Facts(key) => facts.find(&key).map(|known| path_facts(&known)),
            };
            if let Some(record) = record {
                put(&record);
            }
        }
    }

    /// The records that were taken so far end at `position` of the store; `None` if it did not
    /// take all of them. Then nobody is told that one of them is safe.
    pub fn changes_taken(&mut self, position: Option<u64>) {
        let unplaced = self.journal.waiting.iter_mut().rev();
        for waiting in unplaced.take_while(|waiting| waiting.position == u64::MAX) {
            match position {
                Some(position) => waiting.position = position,
                // As soon as those before it are: they wait in order.
                None => (waiting.position, waiting.written) = (0, Written::Busy),
            }
        }
    }

    /// Everything before `position` is safe. Who waited for that is told, some in each call and the
    /// rest when [`poll`](Self::poll) is due, which is at once: a slow disk lets thousands wait, and
    /// neither queues nor mail have room for all of them.
    pub fn stored(&mut self, now: Now, position: u64) {
        self.journal.safe = position;
        self.poll_journal(now);
    }

    /// What waits longer than that is not going to be safe soon.
    pub(super) fn poll_journal(&mut self, now: Now) {
        for _ in 0..RELEASED_A_CALL {
            if !self.tray.is_light() || self.journal.deadline() > now.at {
                break;
            }
            let safe = self.journal.is_released();
            let Some(mut waiting) = self.journal.waiting.pop_front() else { break };
            if !safe {
                waiting.written = Written::Busy;
            }
            self.release(now, waiting);
        }
    }

    pub(super) fn journal_deadline(&self) -> Moment {
        self.journal.deadline()
    }

    /// Tells a peer of this shard what became of its write, as soon as that may be told.
    pub(super) fn conclude(&mut self, now: Now, asker: Asker, written: Written) {
        self.finish(now, asker, written, None);
    }

    /// The same for a peer of shard `from`, whose letter goes back.
    pub(super) fn conclude_for(&mut self, now: Now, from: u16, write: Box<Write>) {
        self.finish(now, write.asker, write.written, Some((from, write)));
    }

    fn finish(
        &mut self,
        now: Now,
        asker: Asker,
        written: Written,
        letter: Option<(u16, Box<Write>)>,
    ) {
        let waiting = Waiting { position: u64::MAX, since: now.at, asker, written, letter };
        // What was there already may have come a moment ago, and be on its way to the disk.
        let kept = matches!(
            written,
            Written::Done(
                Outcome::Stored | Outcome::Refreshed | Outcome::Unchanged | Outcome::Displaced(_),
                _,
            )
        );
        if self.journal.keeping == Keeping::Strict {
            if kept {
                return self.journal.waiting.push_back(waiting);
            }
            // A repeat, whose stamp the first one spent: that one's answer is still to come.
            if matches!(written, Written::Unpaid(_)) && self.journal.awaits(&waiting) {
                return;
            }
        }
        self.release(now, waiting);
    }

    fn release(&mut self, now: Now, waiting: Waiting) {
        let Waiting { asker, written, letter, .. } = waiting;
        match letter {
            None => self.written(now, &asker, written),
            Some((from, mut write)) => {
                write.written = written;
                self.tray.post(from, Mail::Written(write), &[]);
            }
        }
    }

    /// Hands what is kept to `put`, from `cursor` on, until `put` has no room or enough was looked
    /// at, which need not all be worth keeping; returns where to go on. What changes meanwhile is noted as always: together they are everything.
    pub fn walk(
        &self,
        now: Now,
        cursor: Cursor,
        mut put: impl FnMut(&peerstore::Record<'_>) -> bool,
    ) -> Cursor {
        let mut left = PLACES_A_WALK;
        let mut put = |record: Option<peerstore::Record<'_>>| {
            let goes_on = left > 0 && record.is_none_or(|it| put(&it));
            left = left.saturating_sub(1);
            goes_on
        };
        const DONE: usize = usize::MAX;
        let (values, providers, bindings, facts, ports, peers) = match cursor {
            Cursor::Start => (0, 0, 0, 0, 0, usize::MAX),
            Cursor::Values(at) => (at, 0, 0, 0, 0, usize::MAX),
            Cursor::Providers(at) => (DONE, at, 0, 0, 0, usize::MAX),
            Cursor::Bindings(at) => (DONE, DONE, at, 0, 0, usize::MAX),
            Cursor::Facts(at) => (DONE, DONE, DONE, at, 0, usize::MAX),
            Cursor::Ports(at) => (DONE, DONE, DONE, DONE, at, usize::MAX),
            Cursor::Peers(below) => (DONE, DONE, DONE, DONE, DONE, below),
            Cursor::End => return Cursor::End,
        };
        for (at, kept) in self.records.values_from(values) {
            if !put(value(now, &kept)) {
                return Cursor::Values(at);
            }
        }
        for (at, kept) in self.records.providers_from(providers) {
            if !put(provider(now, &kept)) {
                return Cursor::Providers(at);
            }
        }
        for (at, place) in self.known.places_from(bindings) {
            let holds = place.filter(|bound| bound.not_after_unix_s >= now.unix_s());
            if !put(holds.map(binding)) {
                return Cursor::Bindings(at);
            }
        }
        for (at, place) in self.facts.places_from(facts) {
            if !put(place.map(path_facts)) {
                return Cursor::Facts(at);
            }
        }
        for (at, kept) in self.stock.kept_from(ports) {
            if !put(kept.map(|kept| relay::allocation(now, &kept))) {
                return Cursor::Ports(at);
            }
        }
        for known in self.table.iter_down(now, peers) {
            if !put(known.is_verified().then(|| peer(&known)).flatten()) {
                return Cursor::Peers(known.index + 1);
            }
        }
        Cursor::End
    }
}

/// The second of the wall clock in which `moment` has come.
pub(super) fn unix_s(now: Now, moment: Moment) -> u64 {
    let left_ms = u64::try_from(moment.since(now.at).as_millis()).unwrap_or(u64::MAX);
    now.unix_ms.saturating_add(left_ms).div_ceil(1000)
}

/// `None` for what is longer than the store takes, which is more than is ever kept.
fn value<'a>(now: Now, kept: &KeptValue<'a>) -> Option<peerstore::Record<'a>> {
    let sequence = match kept.version {
        Version::Immutable => 0,
        Version::Signed { sequence, .. } => sequence,
    };
    Some(peerstore::Record::Value(stored::Value {
        key: peerstore::Key(kept.key.0),
        sequence,
        expires_unix_s: unix_s(now, kept.expires),
        message: peerstore::Message::new(kept.encoded).ok()?,
    }))
}

fn provider<'a>(now: Now, kept: &KeptProvider<'a>) -> Option<peerstore::Record<'a>> {
    Some(peerstore::Record::Provider(stored::Provider {
        key: peerstore::Key(kept.key.0),
        peer_id: peerstore::PeerId(kept.peer.0),
        sequence: kept.sequence,
        expires_unix_s: unix_s(now, kept.expires),
        message: peerstore::Message::new(kept.encoded).ok()?,
    }))
}

fn no_provider(key: Key, peer: PeerId) -> peerstore::Record<'static> {
    let (key, peer_id) = (peerstore::Key(key.0), peerstore::PeerId(peer.0));
    // It went for want of a place, and may come again at once, with whatever sequence.
    let subject = Subject::Provider { key, peer_id, sequence: u64::MAX };
    peerstore::Record::Tombstone(stored::Tombstone { expires_unix_s: 0, subject })
}

/// `None` for an entry that is none: whoever made it wrote a key into it.
fn peer<'a>(known: &Known<'a>) -> Option<peerstore::Record<'a>> {
    let encoded: &'a [u8] = &known.entry.encoded;
    let key = body::Peer::read(encoded).ok()?.wg_public;
    Some(peerstore::Record::Peer(stored::Peer {
        host: host(known.entry.id, key),
        first_seen_unix_s: known.entry.met_unix_s,
        last_seen_unix_s: known.heard_unix_s,
        message: peerstore::Message::new(encoded).ok()?,
    }))
}

fn no_peer(id: PeerId, key: WgKey) -> peerstore::Record<'static> {
    let subject = Subject::Host(host(id, key));
    peerstore::Record::Tombstone(stored::Tombstone { expires_unix_s: 0, subject })
}

fn host(id: PeerId, key: WgKey) -> Host {
    Host { peer_id: peerstore::PeerId(id.0), wireguard: peerstore::WgKey(key.0) }
}

fn path_facts(known: &Facts) -> peerstore::Record<'static> {
    let behaviour = |behaviour| match behaviour {
        Behaviour::Unknown => None,
        Behaviour::EndpointIndependent => Some(NatBehaviour::EndpointIndependent),
        Behaviour::AddressDependent => Some(NatBehaviour::AddressDependent),
        Behaviour::AddressAndPortDependent => Some(NatBehaviour::AddressAndPortDependent),
    };
    peerstore::Record::PathFacts(stored::PathFacts {
        host: host(known.peer, known.key),
        observed_unix_s: known.observed_unix_s,
        path_mtu: None,
        mapping: behaviour(known.nat.mapping),
        filtering: behaviour(known.nat.filtering),
        hairpin: None,
        port_preservation: None,
        mapping_lifetime_s: known.lapsed_after_s,
    })
}

fn binding(bound: &IdentityBinding) -> peerstore::Record<'static> {
    let peer_id = PeerId::of_public(&bound.ed25519_public);
    peerstore::Record::Binding(stored::Binding {
        host: host(peer_id, bound.x25519_public),
        signing: peerstore::SigningKey(bound.ed25519_public),
        not_before_unix_s: bound.not_before_unix_s,
        not_after_unix_s: bound.not_after_unix_s,
        signature: bound.signature,
    })
}
