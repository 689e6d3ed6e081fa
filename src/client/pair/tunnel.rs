//! The tunnel of a pair: WireGuard in both roles over stock BoringTun; no socket, no clock.
//!
//! It knows nothing of paths: messages come in from wherever, and go out to wherever the pair sends
//! at the moment; so a change of path loses nothing and needs no handshake.
//!
//! Every handshake has a `Tunn` of its own, as in [`wireguard`](crate::client::wireguard), so that
//! BoringTun's timers and its ring of keys are never used. One more, the gate, sees every initiation
//! first: it holds the last timestamp, which makes a replayed initiation cost a look and nothing else.
//! Keys that we answered for are used once the other side has used them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::client::peer::DATAGRAM_BYTES_MAX;
use crate::client::session::{KEEPALIVE_AFTER, REJECT_AFTER, REKEY_AFTER, jitter};
use crate::ids::WgKey;
use crate::time::Moment;

/// Pause after the first initiation; it doubles up to [`RETRY_MAX`]. Shorter than WireGuard's: paths
/// are tried one after the other, and somebody waits.
const RETRY_FIRST: Duration = Duration::from_millis(300);
/// Longest pause between two initiations.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Shortest pause, whoever is in a hurry.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// A handshake is given up after this.
const PATIENCE: Duration = Duration::from_secs(90);
/// Whoever did not initiate renews keys this old: the other side should have.
const RENEW_AFTER: Duration = Duration::from_secs(150);
/// Data was sent, and nothing came back for so long.
pub(super) const DEAF_AFTER: Duration = Duration::from_secs(15);
/// Handshakes that we answered and that were not used yet.
const UNCONFIRMED_MAX: usize = 3;

const INITIATION_BYTES: usize = 148;
const RESPONSE_BYTES: usize = 92;
const DATA_BYTES_MIN: usize = 32;
/// Counters from here on would overflow BoringTun's window.
const COUNTER_END: u64 = 1 << 63;

/// What a message of the other side was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// There are new keys, and we may send; with what to answer at once, if anything.
    Established(Option<Vec<u8>>),
    /// An initiation: answer with this.
    Respond(Vec<u8>),
    /// Data, and whether new keys were used for the first time.
    Data { plaintext: Vec<u8>, fresh: bool },
    /// Data without content.
    Keepalive { fresh: bool },
    /// Not for us, not authentic, or seen before.
    Nothing,
}

/// See the module.
pub(super) struct Tunnel {
    secret: StaticSecret,
    theirs: WgKey,
    limiter: Arc<RateLimiter>,
    rng: ChaCha12Rng,
    gate: Box<Tunn>,
    pending: Option<Pending>,
    unconfirmed: Vec<Keys>,
    current: Option<Keys>,
    /// What is still on its way under the keys before.
    previous: Option<Keys>,
    /// When the first data was sent since something came last.
    unanswered_since: Option<Moment>,
    /// When the first data came since something was sent last.
    unacknowledged_since: Option<Moment>,
    sent_at: Moment,
}

struct Pending {
    tunn: Box<Tunn>,
    index: u32,
    started: Moment,
    sent_at: Option<Moment>,
    retry_at: Moment,
    tries: u32,
}

struct Keys {
    tunn: Box<Tunn>,
    index: u32,
    since: Moment,
    initiator: bool,
}

impl Tunnel {
    /// A tunnel to the holder of `theirs` that does nothing before it is asked to.
    pub(super) fn new(secret: StaticSecret, theirs: WgKey, rng: ChaCha12Rng) -> Self {
        let public = PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
        let gate = tunn(&secret, theirs, &limiter, 0);
        Self {
            secret,
            theirs,
            limiter,
            rng,
            gate,
            pending: None,
            unconfirmed: Vec::new(),
            current: None,
            previous: None,
            unanswered_since: None,
            unacknowledged_since: None,
            sent_at: Moment::START,
        }
    }

    /// The other side's key.
    pub(super) const fn theirs(&self) -> WgKey {
        self.theirs
    }

    /// Whether there are keys to send with.
    pub(super) fn is_established(&self, now: Moment) -> bool {
        self.current.as_ref().is_some_and(|keys| keys.usable(now))
    }

    /// Whether we have initiated and wait.
    pub(super) const fn is_connecting(&self) -> bool {
        self.pending.is_some()
    }

    /// When the first data was sent since something came last.
    pub(super) const fn unanswered_since(&self) -> Option<Moment> {
        self.unanswered_since
    }

    /// Messages go another way: what the former one did not answer says nothing of this one.
    pub(super) const fn rerouted(&mut self) {
        self.unanswered_since = None;
    }

    /// Starts a handshake; one that is under way is repeated soon: there may be a new path.
    pub(super) fn connect(&mut self, now: Moment) {
        if let Some(pending) = &mut self.pending {
            let soon = pending.sent_at.map_or(now, |sent| sent + RETRY_MIN);
            pending.retry_at = pending.retry_at.min(soon.max(now));
            return;
        }
        let index = self.index();
        let tunn = tunn(&self.secret, self.theirs, &self.limiter, index);
        self.pending =
            Some(Pending { tunn, index, started: now, sent_at: None, retry_at: now, tries: 0 });
    }

    /// Whether a message with a receiver index is for this tunnel.
    pub(super) fn owns(&self, message: &[u8]) -> bool {
        let Some(index) = receiver(message) else { return false };
        let pending = self.pending.as_ref().is_some_and(|pending| pending.index == index);
        pending || self.keys().any(|keys| keys.index == index)
    }

    fn keys(&self) -> impl Iterator<Item = &Keys> {
        self.current.iter().chain(&self.previous).chain(&self.unconfirmed)
    }

    /// Takes a message, from wherever.
    pub(super) fn receive(&mut self, now: Moment, message: &[u8]) -> Received {
        match (message.first_chunk(), message.len()) {
            (Some([1, 0, 0, 0]), INITIATION_BYTES) => self.initiation(now, message),
            (Some([2, 0, 0, 0]), RESPONSE_BYTES) => self.response(now, message),
            (Some([4, 0, 0, 0]), DATA_BYTES_MIN..=DATAGRAM_BYTES_MAX) => self.data(now, message),
            _ => Received::Nothing,
        }
    }

    fn initiation(&mut self, now: Moment, message: &[u8]) -> Received {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        // Authentic, and later than every one before?
        if !matches!(self.gate.decapsulate(None, message, &mut out), TunnResult::WriteToNetwork(_))
        {
            return Received::Nothing;
        }
        let index = self.index();
        let mut tunn = tunn(&self.secret, self.theirs, &self.limiter, index);
        let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, message, &mut out) else {
            return Received::Nothing;
        };
        let response = response.to_vec();
        if self.unconfirmed.len() >= UNCONFIRMED_MAX {
            self.unconfirmed.remove(0);
        }
        self.unconfirmed.push(Keys { tunn, index, since: now, initiator: false });
        Received::Respond(response)
    }

    fn response(&mut self, now: Moment, message: &[u8]) -> Received {
        let receiver = word(message, 8) >> 8;
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.index == receiver)
        else {
            return Received::Nothing;
        };
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let answered = pending.tunn.decapsulate(None, message, &mut out);
        let TunnResult::WriteToNetwork(confirmation) = answered else { return Received::Nothing };
        let confirmation = confirmation.to_vec();
        if let Some(Pending { tunn, index, .. }) = self.pending.take() {
            self.take(Keys { tunn, index, since: now, initiator: true });
        }
        self.heard();
        self.sent_at = now;
        Received::Established(Some(confirmation))
    }

    fn data(&mut self, now: Moment, message: &[u8]) -> Received {
        let Some(index) = receiver(message).filter(|_| counter(message) < COUNTER_END) else {
            return Received::Nothing;
        };
        let fresh = self.unconfirmed.iter().position(|keys| keys.index == index);
        let known = self.current.iter_mut().chain(&mut self.previous).chain(&mut self.unconfirmed);
        let mut known = known.filter(|keys| keys.index == index && keys.usable(now));
        let Some(keys) = known.next() else { return Received::Nothing };
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let plaintext = match keys.tunn.decapsulate(None, message, &mut out) {
            TunnResult::WriteToTunnelV4(plaintext, _)
            | TunnResult::WriteToTunnelV6(plaintext, _) => Some(plaintext.to_vec()),
            TunnResult::Done => None,
            TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => return Received::Nothing,
        };
        if let Some(at) = fresh {
            // What we initiated meanwhile is not needed.
            self.pending = None;
            let keys = self.unconfirmed.remove(at);
            self.take(keys);
        }
        self.heard();
        let fresh = fresh.is_some();
        let Some(plaintext) = plaintext else { return Received::Keepalive { fresh } };
        self.unacknowledged_since.get_or_insert(now);
        Received::Data { plaintext, fresh }
    }

    fn heard(&mut self) {
        self.unanswered_since = None;
    }

    fn take(&mut self, keys: Keys) {
        self.previous = self.current.replace(keys);
        self.unacknowledged_since = None;
    }

    /// Seals a plaintext, empty for a keepalive; `None` without keys.
    pub(super) fn seal(&mut self, now: Moment, plaintext: &[u8]) -> Option<Vec<u8>> {
        let keys = self.current.as_mut().filter(|keys| keys.usable(now))?;
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let TunnResult::WriteToNetwork(message) = keys.tunn.encapsulate(plaintext, &mut out) else {
            return None;
        };
        let message = message.to_vec();
        let limit = if keys.initiator { REKEY_AFTER } else { RENEW_AFTER };
        let old = now.since(keys.since) >= limit;
        self.sent_at = now;
        self.unacknowledged_since = None;
        if !plaintext.is_empty() {
            self.unanswered_since.get_or_insert(now);
        }
        if old && self.pending.is_none() {
            self.connect(now);
        }
        Some(message)
    }

    /// The next message that is due by itself, until `None`.
    pub(super) fn poll(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.expire(now);
        if let Some(message) = self.initiate(now) {
            return Some(message);
        }
        let owed = self.unacknowledged_since.is_some_and(|since| now >= since + KEEPALIVE_AFTER);
        if owed { self.seal(now, &[]) } else { None }
    }

    /// When [`Tunnel::poll`] has something to do next.
    pub(super) fn next_deadline(&self) -> Moment {
        let initiate = self.pending.as_ref().map(|pending| pending.retry_at);
        let owed = self.unacknowledged_since.map(|since| since + KEEPALIVE_AFTER);
        let expire = self.current.as_ref().map(|keys| keys.since + REJECT_AFTER);
        [initiate, owed, expire].into_iter().flatten().min().unwrap_or(Moment::NEVER)
    }

    /// Since when nothing has gone out.
    pub(super) const fn sent_at(&self) -> Moment {
        self.sent_at
    }

    fn expire(&mut self, now: Moment) {
        self.unconfirmed.retain(|keys| keys.usable(now));
        self.previous.take_if(|keys| !keys.usable(now));
        if self.current.take_if(|keys| !keys.usable(now)).is_some() {
            self.unacknowledged_since = None;
            self.unanswered_since = None;
        }
        self.pending.take_if(|pending| now.since(pending.started) >= PATIENCE);
    }

    fn initiate(&mut self, now: Moment) -> Option<Vec<u8>> {
        let pending = self.pending.as_mut().filter(|pending| now >= pending.retry_at)?;
        let pause = RETRY_FIRST.saturating_mul(1 << pending.tries.min(8)).min(RETRY_MAX);
        pending.tries += 1;
        pending.sent_at = Some(now);
        pending.retry_at = now + pause + jitter(&mut self.rng, pause / 10);
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let TunnResult::WriteToNetwork(message) =
            pending.tunn.format_handshake_initiation(&mut out, true)
        else {
            return None;
        };
        self.sent_at = now;
        Some(message.to_vec())
    }

    /// An index, 24 bits, that no keys of ours have.
    fn index(&mut self) -> u32 {
        let drawn = self.rng.next_u32();
        let free = |index: &u32| {
            let pending = self.pending.as_ref().is_some_and(|pending| pending.index == *index);
            *index != 0 && !pending && self.keys().all(|keys| keys.index != *index)
        };
        let mut tries = (0..8).map(|step| drawn.wrapping_add(step) & 0xFF_FFFF);
        tries.find(free).unwrap_or(1)
    }
}

impl Keys {
    fn usable(&self, now: Moment) -> bool {
        now.since(self.since) < REJECT_AFTER
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("theirs", &self.theirs)
            .field("connecting", &self.pending.is_some())
            .field("keys", &self.current.is_some())
            .finish_non_exhaustive()
    }
}

fn tunn(secret: &StaticSecret, theirs: WgKey, limiter: &Arc<RateLimiter>, index: u32) -> Box<Tunn> {
    let (secret, theirs) = (secret.clone(), PublicKey::from(theirs.0));
    Box::new(Tunn::new(secret, theirs, None, None, index, Some(Arc::clone(limiter))))
}

/// The 24 bits of the receiver index that name keys, of a response or of data.
fn receiver(message: &[u8]) -> Option<u32> {
    match (message.first(), message.len()) {
        (Some(2), RESPONSE_BYTES) => Some(word(message, 8) >> 8),
        (Some(4), DATA_BYTES_MIN..) => Some(word(message, 4) >> 8),
        _ => None,
    }
}

fn counter(message: &[u8]) -> u64 {
    u64::from(word(message, 8)) | u64::from(word(message, 12)) << 32
}

fn word(message: &[u8], at: usize) -> u32 {
    let bytes = message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default())
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
