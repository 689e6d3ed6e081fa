//! All sessions of a shard: who has which slot, what a datagram means for them, what is due.
//!
//! Data finds its session by the slot in its receiver index; only handshakes look
//! a key up. The data path allocates nothing; a session's cryptographic state is
//! allocated when its first handshake succeeds. A slot that is given away is first
//! reported by [`Event::Ended`], in the same turn.
//!
//! It does not parse what it decrypts, and does not queue what cannot be sealed yet.

mod config;
mod due;
mod handshake;
mod networks;
mod newcomers;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::challenge::{self, CHALLENGE_BYTES};
use super::known::Known;
use super::pending::{Pending, Waiting};
use super::session::{Change, Session};
use super::{
    DATA_OVERHEAD, Event, INITIATION_BYTES, Moved, Opened, RESPONSE_BYTES, SCRATCH_MIN, Tunnel,
};
use crate::admission::{Admission, cookie};
use crate::bucket::Keyed;
use crate::drops::Drop;
use crate::ids::{SessionRef, WgKey};
use crate::net::{Address, Path};
use crate::time::{Moment, Now};
use crate::wheel::Wheel;

pub use config::{Config, Secrets, Stats};
use due::Outcome;
use handshake::Answer;
use networks::Networks;

/// Sessions that may be put out of their slot before [`Sessions::poll`] reports them.
const EVICTIONS_MAX: usize = 64;
/// WireGuard's limit on counters, and ours: BoringTun's window computes with them.
const COUNTER_MAX: u64 = 1 << 63;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    session: Option<Session>,
    /// Whether it waits in `dying`.
    listed: bool,
}

/// The sessions of one shard.
#[derive(Debug)]
pub struct Sessions<T> {
    config: Config,
    engine: T,
    admission: Admission,
    known: Known,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots whose keys became too old, to be given away when no other is left.
    dying: VecDeque<u32>,
    evicted: VecDeque<(SessionRef, WgKey)>,
    /// The session whose endpoint the last datagram moved or proved.
    moved: Option<SessionRef>,
    by_key: HashMap<WgKey, u32, Keyed>,
    networks: Networks,
    wheel: Wheel,
    pending: Pending,
    turn: Moment,
    answered: u32,
    /// What the next address to prove itself is asked for.
    token: u64,
    rng: ChaCha12Rng,
    stats: Stats,
}

/// Addresses that are remembered beside so many sessions.
fn known_entries(slots: usize) -> usize {
    (2 * slots).max(64)
}

impl<T: Tunnel> Sessions<T> {
    /// Memory that the tables take before there is any session, the engine's without its states.
    pub fn bytes(config: &Config) -> usize {
        let slots = config.sessions_max as usize;
        let listed = slots * (size_of::<Slot>() + 2 * size_of::<u32>() + size_of::<usize>());
        // A hash map is at most 7/8 full, has a power of two of places and a byte more for each.
        let places = (slots * 8 / 7 + 1).next_power_of_two();
        let by_key = places * (size_of::<(WgKey, u32)>() + 1);
        let evicted = EVICTIONS_MAX * size_of::<(SessionRef, WgKey)>();
        let waiting = Pending::bytes(config.handshake_queue) + evicted;
        let known = Known::bytes(known_entries(slots));
        listed
            + by_key
            + Networks::bytes(slots)
            + waiting
            + known
            + Wheel::bytes(slots)
            + Admission::bytes(&config.admission)
    }

    /// No sessions yet, for the router with this WireGuard public key.
    ///
    /// # Panics
    /// If the slots do not fit into a receiver index beside the shard.
    pub fn new(config: Config, engine: T, public: &WgKey, secrets: &Secrets) -> Self {
        let Config { sessions_max, shard, partition, .. } = config;
        assert!(shard < partition.shards(), "a shard is one of those there are");
        assert!(sessions_max <= partition.slots_max(), "slots fit the bits that the shard leaves");
        let slots = sessions_max as usize;
        let mut rng = ChaCha12Rng::from_seed(secrets.seed);
        let mut keyed = || Keyed::new([rng.next_u64(), rng.next_u64()]);
        let by_key = HashMap::with_capacity_and_hasher(slots, keyed());
        let known = Known::new(known_entries(slots), keyed());
        let networks = Networks::new(slots, keyed());
        let admission_rng = ChaCha12Rng::from_rng(&mut rng).expect("ChaCha never fails");
        Self {
            engine,
            admission: Admission::new(config.admission, &public.0, secrets.cookies, admission_rng),
            known,
            slots: Vec::with_capacity(slots),
            free: Vec::with_capacity(slots),
            dying: VecDeque::with_capacity(slots),
            evicted: VecDeque::with_capacity(EVICTIONS_MAX),
            moved: None,
            by_key,
            networks,
            wheel: Wheel::new(slots),
            pending: Pending::new(config.handshake_queue),
            turn: Moment::START,
            answered: 0,
            token: rng.next_u64(),
            rng,
            stats: Stats::default(),
            config,
        }
    }

    /// Takes a datagram whose first byte is 1, 2, 3 or 4.
    ///
    /// # Panics
    /// If `scratch` is shorter than the datagram less 16 bytes or than [`SCRATCH_MIN`].
    #[inline]
    pub fn receive<'s>(
        &mut self,
        now: Now,
        path: &Path,
        datagram: &[u8],
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        match datagram {
            [4, 0, 0, 0, ..] => self.data(now, path, datagram, scratch),
            [1, 0, 0, 0, ..] => self.initiation(now, path, datagram, scratch),
            [2, ..] => Opened::Dropped(Drop::HandshakeResponse),
            [3, ..] => Opened::Dropped(Drop::CookieReply),
            [] => Opened::Dropped(Drop::Empty),
            [_, ..] => Opened::Dropped(Drop::UnknownType),
        }
    }

    /// Encrypts `frame` for `session` into `out`; returns where to send how many bytes.
    ///
    /// # Errors
    /// [`Drop::SessionGone`]; [`Drop::Unconfirmed`] before the peer's first data under a key,
    /// [`Drop::ExpiredKeys`] after the key's life; [`Drop::Unproven`] beyond what came from an
    /// unproven address.
    ///
    /// # Panics
    /// If `out` is shorter than the frame plus [`DATA_OVERHEAD`] or than [`SCRATCH_MIN`].
    #[inline]
    pub fn seal(
        &mut self,
        now: Now,
        session: SessionRef,
        frame: &[u8],
        out: &mut [u8],
    ) -> Result<(Path, usize), Drop> {
        let tenant = live(&mut self.slots, session).ok_or(Drop::SessionGone)?;
        tenant.ring.sending(now.at)?;
        tenant.charge(frame.len() + DATA_OVERHEAD)?;
        match self.engine.seal(session.slot, frame, out) {
            Ok(len) => {
                tenant.sent(now.at);
                Ok((*tenant.path(), len))
            }
            Err(drop) => {
                tenant.ring.clear();
                self.stats.keys_lost += 1;
                Err(drop)
            }
        }
    }

    /// The next thing that is due; to be asked until `None`, once a turn.
    ///
    /// # Panics
    /// If `scratch` is shorter than [`SCRATCH_MIN`].
    pub fn poll<'s>(&mut self, now: Now, scratch: &'s mut [u8]) -> Option<Event<'s>> {
        if let Some((session, key)) = self.evicted.pop_front() {
            return Some(Event::Ended(session, key));
        }
        if !self.pending.is_empty() && self.may_answer(now.at) {
            let (standing, waiting) = self.pending.pop()?;
            return Some(match self.handshake(now, standing, &waiting, scratch) {
                Ok(Answer::Response(len)) => Event::Send(waiting.path, &scratch[..len]),
                Ok(Answer::Prove(drop)) => {
                    let Waiting { path, initiation, .. } = waiting;
                    Event::Refused(path, self.reply(now, &path, &initiation, scratch), drop)
                }
                Ok(Answer::Move { home, key }) => {
                    let initiation = &mut scratch[..INITIATION_BYTES];
                    initiation.copy_from_slice(&waiting.initiation);
                    Event::Move(Moved { home, key, standing, path: waiting.path }, initiation)
                }
                Err(drop) => Event::Dropped(drop),
            });
        }
        while let Some(slot) = self.wheel.pop(now.at) {
            match self.due(now, slot, scratch) {
                Outcome::Sent(path, len) => return Some(Event::Send(path, &scratch[..len])),
                Outcome::Ended(session, key) => return Some(Event::Ended(session, key)),
                Outcome::Nothing => {}
            }
        }
        None
    }

    /// When to call [`Sessions::poll`] next.
    pub fn next_deadline(&self) -> Moment {
        if self.evicted.is_empty() && self.pending.is_empty() {
            self.wheel.next_deadline()
        } else {
            Moment::START
        }
    }

    /// A PONG from `session` under this correlation echoed `token`; returns whether that proved
    /// its address.
    pub fn proved(&mut self, now: Now, session: SessionRef, correlation: u32, token: u64) -> bool {
        if correlation != challenge::correlation(token) {
            return false;
        }
        let Some(tenant) = live(&mut self.slots, session) else { return false };
        let proved = tenant.answered(now.at, token);
        if proved {
            self.known.add(now.at, &Address::of(&tenant.path().peer));
            self.stats.proved += 1;
            self.moved = Some(session);
        }
        proved
    }

    /// The session whose endpoint the last datagram moved or proved, if it did; to be asked after
    /// each datagram.
    #[inline]
    pub fn take_moved(&mut self) -> Option<SessionRef> {
        self.moved.take()
    }

    /// The session, if it still is.
    pub fn session(&self, session: SessionRef) -> Option<&Session> {
        let slot = self.slots.get(session.slot as usize)?;
        slot.session.as_ref().filter(|_| slot.generation == session.generation)
    }

    /// The session, to account relayed data to it.
    pub fn session_mut(&mut self, session: SessionRef) -> Option<&mut Session> {
        live(&mut self.slots, session)
    }

    /// Sends that session a keepalive after so much silence, if keepalives are sent at all.
    pub fn set_keepalive(&mut self, session: SessionRef, after: Duration) {
        if let Some(tenant) = live(&mut self.slots, session) {
            tenant.set_keepalive(after);
        }
    }

    /// The session of a peer's key.
    pub fn by_key(&self, key: &WgKey) -> Option<SessionRef> {
        let slot = *self.by_key.get(key)?;
        Some(SessionRef { slot, generation: self.slots.get(slot as usize)?.generation })
    }

    /// Every session, by slot; for people, not for the packet path.
    pub fn live(&self) -> impl Iterator<Item = (SessionRef, &Session)> {
        (0..).zip(&self.slots).filter_map(|(slot, place)| {
            let generation = place.generation;
            Some((SessionRef { slot, generation }, place.session.as_ref()?))
        })
    }

    /// Ends a session now. Nothing is sent, no event follows.
    pub fn end(&mut self, session: SessionRef) {
        if live(&mut self.slots, session).is_some() {
            self.vacate(session.slot);
        }
    }

    /// Sessions.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Slots.
    pub fn capacity(&self) -> usize {
        self.config.sessions_max as usize
    }

    /// What happened so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The cryptography.
    pub fn engine(&self) -> &T {
        &self.engine
    }

    /// Whether strangers are asked for cookies.
    pub fn under_load(&self, now: Now) -> bool {
        self.admission.under_load(now.at)
    }

    /// New values for what can change while running: keepalive, budgets, admission's limits.
    pub fn configure(&mut self, config: &Config) {
        self.config.keepalive = config.keepalive;
        self.config.handshakes_per_turn = config.handshakes_per_turn;
        self.config.admission = config.admission;
        self.admission.configure(config.admission);
    }

    // Data.

    #[inline]
    fn data<'s>(
        &mut self,
        now: Now,
        path: &Path,
        datagram: &[u8],
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        let Some((index, counter)) = data_header(datagram) else {
            return Opened::Dropped(Drop::BadLength);
        };
        if counter >= COUNTER_MAX {
            return Opened::Dropped(Drop::BadCounter);
        }
        let (shard, slot) = self.config.partition.session_of(index);
        if shard != u32::from(self.config.shard) {
            return self.elsewhere(shard);
        }
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return Opened::Dropped(Drop::NoSession);
        };
        let Some(tenant) = &mut place.session else { return Opened::Dropped(Drop::NoSession) };
        if let Err(drop) = tenant.ring.receiving(now.at, index) {
            return Opened::Dropped(drop);
        }
        let opened = self.engine.open(slot, datagram, scratch);
        // Authentic, although of no use: it counts for everything but its content.
        if !matches!(opened, Ok(_) | Err(Drop::BadShim)) {
            return Opened::Dropped(opened.err().unwrap_or(Drop::BadTag));
        }
        let change = tenant.authentic(now.at, index, counter, path, datagram.len(), self.token);
        let session = SessionRef { slot, generation: place.generation };
        if change.confirmed.is_some() || change.roamed || !tenant.proven() {
            self.changed(now.at, slot, change);
        }
        match opened {
            Ok(0) => {
                self.stats.keepalives_received += 1;
                Opened::Nothing
            }
            Ok(len) => {
                self.owe(now.at, slot);
                Opened::Frame { session, plaintext: &scratch[..len] }
            }
            Err(drop) => Opened::Dropped(drop),
        }
    }

    /// Data whose index names another shard.
    #[cold]
    fn elsewhere<'s>(&self, shard: u32) -> Opened<'s> {
        match u16::try_from(shard) {
            Ok(shard) if shard < self.config.partition.shards() => Opened::Elsewhere(shard),
            Ok(_) | Err(_) => Opened::Dropped(Drop::NoSession),
        }
    }

    #[inline]
    fn owe(&mut self, now: Moment, slot: u32) {
        let Some(tenant) = &mut self.slots[slot as usize].session else { return };
        if let Some(at) = tenant.owe(now)
            && at < tenant.armed
        {
            tenant.armed = at;
            self.wheel.set(slot, at);
        }
    }

    /// Data confirmed a key, came from another address, or came from one that owes its proof.
    #[cold]
    fn changed(&mut self, now: Moment, slot: u32, change: Change) {
        if let Some(address) = change.confirmed {
            self.known.add(now, &address);
            self.stats.confirmed += 1;
        }
        if change.roamed {
            self.stats.roams += 1;
        }
        if change.roamed || change.doubted {
            self.token = self.rng.next_u64();
        }
        if change.roamed || change.confirmed.is_some() {
            let generation = self.slots[slot as usize].generation;
            self.moved = Some(SessionRef { slot, generation });
        }
        self.arm(now, slot);
    }
}

#[inline]
fn live(slots: &mut [Slot], session: SessionRef) -> Option<&mut Session> {
    let slot = slots.get_mut(session.slot as usize)?;
    slot.session.as_mut().filter(|_| slot.generation == session.generation)
}

/// Receiver index and counter of a data message that is long enough to be one.
#[inline]
fn data_header(datagram: &[u8]) -> Option<(u32, u64)> {
    let (head, rest) = datagram.split_first_chunk::<16>()?;
    let [_, _, _, _, i0, i1, i2, i3, counter @ ..] = *head;
    (rest.len() >= 16)
        .then_some((u32::from_le_bytes([i0, i1, i2, i3]), u64::from_le_bytes(counter)))
}

const _: () = assert!(RESPONSE_BYTES <= SCRATCH_MIN && cookie::REPLY_BYTES <= SCRATCH_MIN);
const _: () = assert!(CHALLENGE_BYTES + DATA_OVERHEAD <= SCRATCH_MIN);
