//! Reads along on the router's wire and knows what may leave.
//!
//! `Plain` hides nothing, so the tap follows every handshake, key and frame on its own and
//! holds what leaves against the protocol's promises: silence, no amplification, one
//! answer per question, keys not used before they are confirmed nor after their life, no
//! counter twice. Where it cannot know what the router decided (an overwritten key,
//! a replayed counter) it assumes what allows more, never less.

mod helping;
mod introducing;
mod relaying;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use molia_router::ids::WgKey;
use molia_router::net::{Local, Path};
use molia_router::partition::Partition;
use molia_router::relay;
use molia_router::time::Moment;
use molia_router::wire::body::{Ping, Pong};
use molia_router::wire::channel::{self, Channel};
use molia_router::wire::{self, Header, Kind};

use super::frames;
use super::keys::NOTICES;
use super::plain::{self, Hello, Lane};
use super::verdict::{Oracle, Violation, ensure};
use introducing::Introducing;
use relaying::Relaying;

/// WireGuard's REJECT_AFTER_TIME.
const KEY_LIFETIME: Duration = Duration::from_secs(180);
/// A session lasts so long beyond its last key.
const LINGER: Duration = Duration::from_secs(30);
/// And so long after a handshake that is not confirmed.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// A timer is late by a turn at most.
const TURN: Duration = Duration::from_secs(1);
/// An address that was left stays proven so long.
const LEFT_PROVEN: Duration = Duration::from_secs(180);
/// A session's challenges are that far apart at least.
const CHALLENGE_INTERVAL: Duration = Duration::from_secs(1);
/// Where a router ends a key's counters.
const COUNTER_MAX: u64 = 1 << 63;
/// Keys of one peer that a router holds.
const KEYS: u32 = 8;
/// A router answers an initiation in so long or never.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// An initiation that was not answered yet.
#[derive(Debug)]
struct Knock {
    hello: Hello,
    at: Moment,
}

/// A key, named by the receiver index of the client's side.
#[derive(Debug)]
struct Key {
    owner: WgKey,
    to_router: Lane,
    from_router: Lane,
    /// Where the response went.
    answered: SocketAddr,
    established: Moment,
    /// Counts the handshakes of the router's life.
    order: u64,
    confirmed: bool,
    /// Counters that came in.
    seen: BTreeSet<u64>,
}

/// What one peer and one address owe each other.
#[derive(Debug, Default)]
struct Account {
    proven: bool,
    /// Since when the peer is elsewhere.
    left: Option<Moment>,
    /// While unproven.
    bytes_in: usize,
    bytes_out: usize,
    challenged: Option<Moment>,
}

/// Where a peer is: the source of the highest counter under its newest key in use.
#[derive(Debug)]
struct Endpoint {
    addr: SocketAddr,
    /// Handshake and counter that say so.
    told_by: (u64, u64),
    /// Until when the session lasts if nothing more comes.
    lasts: Moment,
}

/// What was seen leaving, for the sums.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) responses: u64,
    pub(crate) cookies: u64,
    pub(crate) keepalives: u64,
    /// Frames by type, path challenges among the PINGs.
    pub(crate) frames: BTreeMap<u8, u64>,
}

/// The tap of one router's life.
pub(crate) struct Tap {
    router: WgKey,
    partition: Partition,
    /// How long others may believe in a session that is no more.
    hearsay: Duration,
    knocks: BTreeMap<(u32, SocketAddr), Vec<Knock>>,
    keys: BTreeMap<u32, Key>,
    /// The client's index of a key by the router's.
    by_router: BTreeMap<u32, u32>,
    accounts: BTreeMap<(WgKey, SocketAddr), Account>,
    endpoints: BTreeMap<WgKey, Endpoint>,
    /// What was ever proven.
    proofs: BTreeSet<(WgKey, SocketAddr)>,
    /// Where a token was sent.
    tokens: BTreeMap<(WgKey, u64), SocketAddr>,
    /// Questions not answered yet, by peer and correlation.
    questions: BTreeMap<(WgKey, u32), u32>,
    /// Our address that each peer's address spoke to last.
    locals: BTreeMap<SocketAddr, Local>,
    /// When each peer's binding was accepted last.
    bound: BTreeMap<WgKey, Moment>,
    handshakes: u64,
    /// By shard, since its last restart.
    pub(crate) seen: Vec<Seen>,
    relaying: Relaying,
    introducing: Introducing,
}

impl Tap {
    pub(crate) fn new(
        router: WgKey,
        partition: Partition,
        hearsay: Duration,
        relay: relay::Config,
    ) -> Self {
        Self {
            relaying: Relaying::new(relay, partition.shards()),
            introducing: Introducing::default(),
            router,
            partition,
            hearsay,
            knocks: BTreeMap::new(),
            keys: BTreeMap::new(),
            by_router: BTreeMap::new(),
            accounts: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            proofs: BTreeSet::new(),
            tokens: BTreeMap::new(),
            questions: BTreeMap::new(),
            locals: BTreeMap::new(),
            bound: BTreeMap::new(),
            handshakes: 0,
            seen: (0..partition.shards()).map(|_| Seen::default()).collect(),
        }
    }

    /// A shard takes a datagram from its socket. Data of another shard's session comes to that
    /// one by mail, and counts from then on.
    pub(crate) fn arrived(&mut self, now: Moment, shard: u16, path: &Path, datagram: &[u8]) {
        self.locals.insert(path.peer, path.local);
        let of_session = plain::header(datagram).map(|(at, _)| self.partition.session_of(at).0);
        let channel = Channel::read(datagram).ok();
        let of_channel = channel.map(|it| self.partition.shard_of_channel(it.id));
        let elsewhere = of_session.or(of_channel).is_some_and(|it| it != u32::from(shard));
        if !elsewhere {
            self.incoming(now, path, datagram);
        }
    }

    /// From here on others believe in what is no more for so long only.
    pub(crate) fn settle(&mut self, hearsay: Duration) {
        self.hearsay = self.hearsay.min(hearsay);
    }

    /// A shard lost all its sessions.
    pub(crate) fn shard_restarts(&mut self, now: Moment, shard: u16) {
        let partition = self.partition;
        let stays = |owner: &WgKey| partition.home(owner) != shard;
        self.seen[usize::from(shard)] = Seen::default();
        self.relaying.shard_restarts(now, shard);
        self.introducing.forget(stays);
        self.keys.retain(|_, key| stays(&key.owner));
        let keys = &self.keys;
        self.by_router.retain(|_, index| keys.contains_key(index));
        self.accounts.retain(|(owner, _), _| stays(owner));
        self.tokens.retain(|(owner, _), _| stays(owner));
        self.questions.retain(|(owner, _), _| stays(owner));
        self.bound.retain(|owner, _| stays(owner));
        for (_, endpoint) in self.endpoints.iter_mut().filter(|(owner, _)| !stays(owner)) {
            endpoint.lasts = endpoint.lasts.min(now);
        }
    }

    /// A datagram is handed to the shard that it is for.
    pub(crate) fn incoming(&mut self, now: Moment, path: &Path, datagram: &[u8]) {
        if let Some(hello) = plain::hello(&self.router, datagram) {
            let knocks = self.knocks.entry((hello.index, path.peer)).or_default();
            knocks.retain(|knock| now.since(knock.at) < HANDSHAKE_PATIENCE);
            knocks.push(Knock { hello, at: now });
        } else if let Some((index, counter)) = plain::header(datagram) {
            self.data_in(now, path.peer, index, counter, datagram);
        } else if datagram.first() == Some(&channel::TYPE) {
            self.relayed_in(now, path.peer, datagram);
        }
    }

    fn data_in(&mut self, now: Moment, from: SocketAddr, index: u32, counter: u64, bytes: &[u8]) {
        let Some(key) = self.by_router.get(&index).and_then(|index| self.keys.get_mut(index))
        else {
            return;
        };
        let fresh = now.since(key.established) < KEY_LIFETIME
            && counter < COUNTER_MAX
            && !key.seen.contains(&counter);
        let Some(content) = key.to_router.open(bytes).filter(|_| fresh) else { return };
        key.seen.insert(counter);
        let (owner, told_by) = (key.owner, (key.order, counter));
        let lasts = now + KEY_LIFETIME + LINGER;
        let endpoint = Endpoint { addr: from, told_by, lasts };
        let endpoint = self.endpoints.entry(owner).or_insert(endpoint);
        endpoint.lasts = lasts;
        let moves = told_by > endpoint.told_by;
        let before = endpoint.addr;
        if moves {
            (endpoint.addr, endpoint.told_by) = (from, told_by);
        }
        self.relaying.moved(now, owner, endpoint.addr);
        let confirms = !std::mem::replace(&mut key.confirmed, true);
        let answered = key.answered;
        if moves && before != from {
            self.account(now, owner, before).left = Some(now);
            self.account(now, owner, from).left = None;
        }
        if confirms {
            self.prove(owner, answered, now);
        }
        let account = self.account(now, owner, from);
        if !account.proven {
            account.bytes_in += bytes.len();
        }
        if let Ok(frame) = wire::open(content) {
            let (_, header, body) = wire::split(frame);
            self.frame_in(now, owner, &header, body);
        }
    }

    fn frame_in(&mut self, now: Moment, owner: WgKey, header: &Header, body: &[u8]) {
        self.introducing.heard(owner, header, body);
        if !header.flags.is_response() {
            *self.questions.entry((owner, header.correlation)).or_default() += 1;
        } else if header.kind == Kind::Pong.id()
            && let Ok(pong) = Pong::read(body)
            && let Some(&addr) = self.tokens.get(&(owner, pong.token))
        {
            self.prove(owner, addr, now);
        }
    }

    fn prove(&mut self, owner: WgKey, addr: SocketAddr, now: Moment) {
        let elsewhere = self.endpoints.get(&owner).is_some_and(|endpoint| endpoint.addr != addr);
        let left = elsewhere.then_some(now);
        self.proofs.insert((owner, addr));
        self.accounts.insert((owner, addr), Account { proven: true, left, ..Account::default() });
    }

    /// The account of a peer and an address as it stands now.
    fn account(&mut self, now: Moment, owner: WgKey, addr: SocketAddr) -> &mut Account {
        let account = self.accounts.entry((owner, addr)).or_default();
        if account.proven && account.left.is_some_and(|left| now.since(left) >= LEFT_PROVEN) {
            *account = Account { left: account.left, ..Account::default() };
        }
        account
    }

    /// A datagram leaves a shard.
    pub(crate) fn outgoing(
        &mut self,
        now: Moment,
        shard: u16,
        path: &Path,
        datagram: &[u8],
    ) -> Result<(), Violation> {
        let asked = self.locals.get(&path.peer) == Some(&path.local);
        ensure(asked, Oracle::Silence, now, || {
            format!(
                "{} bytes from {:?}, which {} never spoke to",
                datagram.len(),
                path.local,
                path.peer
            )
        })?;
        match datagram {
            [2, 0, 0, 0, ..] if datagram.len() == 92 => {
                self.response_out(now, shard, path, datagram)
            }
            [3, 0, 0, 0, ..] if datagram.len() == 64 => self.cookie_out(now, shard, path, datagram),
            [5, 0, ..] if datagram.len() > 8 => self.relayed_out(now, shard, path, datagram),
            [4, 0, 0, 0, ..] if datagram.len() >= plain::DATA_OVERHEAD => {
                self.data_out(now, shard, path, datagram)
            }
            _ => ensure(false, Oracle::Silence, now, || {
                format!("{} bytes that are no message of a router's", datagram.len())
            }),
        }
    }

    /// The initiation that an answer to `path` is for; every one is answered once at most.
    fn answered(
        &mut self,
        now: Moment,
        path: &Path,
        at: usize,
        answer: &[u8],
    ) -> Result<Hello, Violation> {
        let index = u32::from_le_bytes(answer[at..at + 4].try_into().expect("four bytes"));
        let knock = self.knocks.get_mut(&(index, path.peer)).and_then(Vec::pop);
        knock.map(|knock| knock.hello).ok_or_else(|| Violation {
            oracle: Oracle::Silence,
            at: now,
            what: format!("an answer to {} without an initiation with a valid mac1", path.peer),
        })
    }

    fn response_out(
        &mut self,
        now: Moment,
        shard: u16,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.handshakes += 1;
        self.seen[usize::from(shard)].responses += 1;
        let hello = self.answered(now, path, 8, bytes)?;
        let [to_router, from_router] = plain::lanes(&hello, bytes);
        self.check_home(now, shard, &hello.key, to_router.index)?;
        // A new key takes the place of the eighth before it.
        let replaced = |_: &u32, key: &mut Key| {
            key.owner != hello.key || key.to_router.index % KEYS != to_router.index % KEYS
        };
        self.keys.retain(replaced);
        self.by_router.insert(to_router.index, from_router.index);
        if let Some(endpoint) = self.endpoints.get_mut(&hello.key) {
            endpoint.lasts = endpoint.lasts.max(now + CONFIRM_WITHIN);
        }
        let key = Key {
            owner: hello.key,
            to_router,
            from_router,
            answered: path.peer,
            established: now,
            order: self.handshakes,
            confirmed: false,
            seen: BTreeSet::new(),
        };
        self.keys.insert(from_router.index, key);
        Ok(())
    }

    fn cookie_out(
        &mut self,
        now: Moment,
        shard: u16,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.seen[usize::from(shard)].cookies += 1;
        self.answered(now, path, 4, bytes).map(|_| ())
    }

    fn data_out(
        &mut self,
        now: Moment,
        shard: u16,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let (index, counter) = plain::header(bytes).expect("the caller looked");
        let key = self.keys.get_mut(&index).filter(|key| key.confirmed);
        let Some(key) = key else {
            let what = format!("data to {} under a key that it has not confirmed", path.peer);
            return Err(Violation { oracle: Oracle::Silence, at: now, what });
        };
        ensure(now.since(key.established) < KEY_LIFETIME, Oracle::Silence, now, || {
            format!("data to {} under a key of {:?}", path.peer, now.since(key.established))
        })?;
        ensure(counter >= key.from_router.next, Oracle::Silence, now, || {
            format!("counter {counter} a second time to {}", path.peer)
        })?;
        key.from_router.next = counter + 1;
        let Some(content) = key.from_router.open(bytes) else {
            let what = format!("data to {} that does not authenticate", path.peer);
            return Err(Violation { oracle: Oracle::Frames, at: now, what });
        };
        let (owner, index) = (key.owner, key.to_router.index);
        let seen = &mut self.seen[usize::from(shard)];
        let mut challenge = false;
        if content.is_empty() {
            seen.keepalives += 1;
        } else {
            let (header, body) = frames::check(now, content)?;
            *seen.frames.entry(header.kind).or_default() += 1;
            if header.kind == Kind::NegotiateResp.id() {
                self.bound.insert(owner, now);
            }
            challenge = header.kind == Kind::Ping.id();
            match Ping::read(body) {
                Ok(ping) if challenge => {
                    self.tokens.insert((owner, ping.token), path.peer);
                }
                Ok(_) | Err(_) => self.answer_out(now, owner, &header)?,
            }
            self.told(now, owner, &header, body)?;
        }
        self.check_home(now, shard, &owner, index)?;
        self.charge(now, owner, path.peer, bytes.len(), challenge)?;
        let endpoint = self.endpoints.get(&owner).map(|endpoint| endpoint.addr);
        ensure(endpoint == Some(path.peer), Oracle::Endpoint, now, || {
            format!("data to {}, for a peer that is at {endpoint:?}", path.peer)
        })
    }

    /// A session is in the shard that its index and its peer's key name, and speaks from there.
    fn check_home(
        &self,
        now: Moment,
        shard: u16,
        owner: &WgKey,
        index: u32,
    ) -> Result<(), Violation> {
        let named = (self.partition.session_of(index).0, self.partition.home(owner));
        ensure(named == (shard.into(), shard), Oracle::Home, now, || {
            format!("shard {shard} speaks to {owner:?} of {named:?}")
        })
    }

    /// Every answer needs a question; chunks of an answer share theirs.
    fn answer_out(&mut self, now: Moment, owner: WgKey, header: &Header) -> Result<(), Violation> {
        if NOTICES.iter().any(|kind| kind.id() == header.kind) {
            return Ok(());
        }
        let open = self.questions.get_mut(&(owner, header.correlation)).filter(|open| **open > 0);
        let Some(open) = open else {
            let what = format!("a second answer, or one that nobody asked for: {header:?}");
            return Err(Violation { oracle: Oracle::Unasked, at: now, what });
        };
        *open -= u32::from(!header.flags.more_chunks());
        Ok(())
    }

    fn charge(
        &mut self,
        now: Moment,
        owner: WgKey,
        to: SocketAddr,
        bytes: usize,
        ping: bool,
    ) -> Result<(), Violation> {
        let account = self.account(now, owner, to);
        if account.proven {
            return Ok(());
        }
        // What a challenge may do, other PINGs may in its stead. Whether the router spent what
        // came in on it cannot be told from here: it forgets what came before a peer moved.
        if ping && account.challenged.is_none_or(|at| now.since(at) >= CHALLENGE_INTERVAL) {
            account.challenged = Some(now);
            return Ok(());
        }
        account.bytes_out += bytes;
        let Account { bytes_in, bytes_out, .. } = *account;
        ensure(bytes_out <= bytes_in, Oracle::Amplification, now, || {
            format!("{bytes_out} bytes to {to}, which has not proven itself with {bytes_in}")
        })
    }

    /// Whether a peer may still have a session.
    pub(crate) fn may_live(&self, owner: &WgKey, at: Moment) -> bool {
        let lasts = self.endpoints.get(owner).map(|endpoint| endpoint.lasts);
        lasts.is_some_and(|lasts| at < lasts + TURN + self.hearsay)
    }

    /// When a peer's binding was accepted last, if it was.
    pub(crate) fn bound(&self, owner: &WgKey) -> Option<Moment> {
        self.bound.get(owner).copied()
    }

    /// Whether a peer ever proved to be at `addr`.
    pub(crate) fn was_proven(&self, owner: &WgKey, addr: &SocketAddr) -> bool {
        self.proofs.contains(&(*owner, *addr))
    }
}
