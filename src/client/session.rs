//! One WireGuard session with a router, as the initiator; no socket, no clock.
//!
//! The session owns every timer (retries, rekey, keepalives, expiry); an
//! [`Initiator`] owns the cryptography and knows no time. So the simulator runs
//! the same session over its own tunnel, in virtual time.
//!
//! Invariants: at most one handshake is under way; keys are used for sending for
//! less than [`REJECT_AFTER`]; a handshake that is never answered ends after
//! `handshake_patience` with one [`Due::Unanswered`].

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::time::Moment;

/// Keys older than this are renewed as soon as something is sent.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Keys older than this are not used.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Whoever received data answers within this, if only with a keepalive.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// Longest pause between two initiations.
pub const RETRY_MAX: Duration = Duration::from_secs(5);
/// Pause after the first initiation; it doubles up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Most that is added to a pause.
const RETRY_JITTER: Duration = Duration::from_millis(333);
/// Data was sent and nothing at all came back: the router lost the session.
pub const DEAF_AFTER: Duration = Duration::from_secs(15);
/// Keys this old are renewed even if we only receive.
const REKEY_ON_RECEIVE_AFTER: Duration = Duration::from_secs(165);

/// The cryptography of one initiator towards one router.
pub trait Initiator {
    /// Writes an initiation, the first of a handshake or a repetition of it.
    /// `index` (24 bits) names the handshake if it is a new one.
    fn initiate(&mut self, index: u32, out: &mut [u8]) -> Result<usize, Refused>;
    /// Takes one datagram; `out` must be as long as the datagram and 148 at least.
    fn receive<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused>;
    /// Seals `plaintext` (empty for a keepalive); `None` without keys.
    fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize>;
    /// Gives up the handshake that is under way.
    fn abandon(&mut self);
    /// Forgets keys, too old to be used.
    fn expire(&mut self);
}

/// What a datagram of the router was.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'o> {
    /// The handshake is complete: send these bytes at once, they confirm the keys.
    Established(&'o [u8]),
    /// Data.
    Plaintext(&'o [u8]),
    /// Data without content.
    Keepalive,
    /// The router is under load: repeat the initiation, it will carry the cookie.
    Cookie,
}

/// Why a datagram of the router was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a message a router sends.
    #[error("not a WireGuard message from a router")]
    NotForUs,
    /// For a handshake or keys that we do not have.
    #[error("for keys that are not in use")]
    UnknownIndex,
    /// Authentication failed, or it was seen before.
    #[error("does not authenticate")]
    Unauthentic,
    /// The router wants more work than this client does.
    #[error("the router asks for a proof of work of {0} bits")]
    Price(u8),
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<'o> {
    /// Send this.
    Send(&'o [u8]),
    /// The handshake was given up after this many initiations.
    Unanswered(u32),
}

/// The settings of a session.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long to repeat an initiation that is not answered.
    pub handshake_patience: Duration,
    /// Send something at least this often; keeps NAT mappings open.
    pub keepalive: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_patience: Duration::from_secs(90),
            keepalive: Some(Duration::from_secs(20)),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session<I> {
    initiator: I,
    config: Config,
    rng: ChaCha12Rng,
    handshake: Option<Handshake>,
    /// Initiations of the handshake under way, or of the last one that was given up.
    initiations: u32,
    /// When the current keys were made.
    keys_since: Option<Moment>,
    sent_at: Moment,
    /// When the first data was sent that nothing came after.
    unanswered_since: Option<Moment>,
    /// When data came that nothing was sent after.
    unacknowledged_since: Option<Moment>,
}

#[derive(Debug)]
struct Handshake {
    started: Moment,
    retry_at: Moment,
    /// A cookie makes one initiation go out early, not one per reply.
    cookie_used: bool,
}

impl<I: Initiator> Session<I> {
    /// A session that does nothing before [`Session::connect`].
    pub fn new(initiator: I, config: Config, rng: ChaCha12Rng) -> Self {
        Self {
            initiator,
            config,
            rng,
            handshake: None,
            initiations: 0,
            keys_since: None,
            sent_at: Moment::START,
            unanswered_since: None,
            unacknowledged_since: None,
        }
    }

    /// Starts a handshake unless one is under way.
    pub fn connect(&mut self, now: Moment) {
        if self.handshake.is_none() {
            self.handshake = Some(Handshake { started: now, retry_at: now, cookie_used: false });
            self.initiations = 0;
        }
    }

    /// Whether [`Session::seal`] has keys now.
    pub fn is_established(&self, now: Moment) -> bool {
        self.keys_since.is_some_and(|since| now.since(since) < REJECT_AFTER)
    }

    /// Whether a handshake is under way.
    pub fn is_connecting(&self) -> bool {
        self.handshake.is_some()
    }

    /// Initiations sent in the handshake under way, or in the last one that was given up.
    pub const fn initiations(&self) -> u32 {
        self.initiations
    }

    /// Takes a datagram that came from the router's address.
    pub fn receive<'o>(
        &mut self,
        now: Moment,
        datagram: &[u8],
        out: &'o mut [u8],
    ) -> Result<Received<'o>, Refused> {
        let received = self.initiator.receive(datagram, out)?;
        match received {
            Received::Established(_) => {
                (self.handshake, self.initiations) = (None, 0);
                self.keys_since = Some(now);
                self.sent_at = now;
                self.unanswered_since = None;
                self.unacknowledged_since = None;
            }
            Received::Plaintext(_) => {
                self.unanswered_since = None;
                self.unacknowledged_since.get_or_insert(now);
                self.renew_if_older(now, REKEY_ON_RECEIVE_AFTER);
            }
            Received::Keepalive => self.unanswered_since = None,
            Received::Cookie => self.repeat_with_cookie(now),
        }
        Ok(received)
    }

    /// Seals a frame; `None` without usable keys (a handshake is then started).
    pub fn seal(&mut self, now: Moment, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.is_established(now) {
            self.connect(now);
            return None;
        }
        let len = self.initiator.seal(plaintext, out)?;
        self.sent_at = now;
        self.unacknowledged_since = None;
        if !plaintext.is_empty() {
            self.unanswered_since.get_or_insert(now);
        }
        self.renew_if_older(now, REKEY_AFTER);
        Some(len)
    }

    /// What is due, until `None`.
    pub fn poll<'o>(&mut self, now: Moment, out: &'o mut [u8]) -> Option<Due<'o>> {
        if self.keys_since.is_some_and(|since| now.since(since) >= REJECT_AFTER) {
            self.drop_keys(now);
        }
        if self.unanswered_since.is_some_and(|since| now.since(since) >= DEAF_AFTER) {
            // Not again before another 15 s of silence.
            self.unanswered_since = None;
            self.connect(now);
        }
        if let Some(due) = self.poll_handshake(now) {
            return match due {
                Step::Initiate => self.initiate(now, out),
                Step::GiveUp => Some(Due::Unanswered(self.initiations)),
            };
        }
        if now >= self.keepalive_at() {
            let len = self.seal(now, &[], out)?;
            return Some(Due::Send(&out[..len]));
        }
        None
    }

    /// When [`Session::poll`] has something to do next.
    pub fn next_deadline(&self) -> Moment {
        let keys_end = self.keys_since.map_or(Moment::NEVER, |since| since + REJECT_AFTER);
        let deaf = self.unanswered_since.map_or(Moment::NEVER, |since| since + DEAF_AFTER);
        let handshake = self.handshake.as_ref().map_or(Moment::NEVER, |handshake| {
            handshake.retry_at.min(handshake.started + self.config.handshake_patience)
        });
        keys_end.min(deaf).min(handshake).min(self.keepalive_at())
    }

    fn keepalive_at(&self) -> Moment {
        if self.keys_since.is_none() {
            return Moment::NEVER;
        }
        let owed = self.unacknowledged_since.map_or(Moment::NEVER, |since| since + KEEPALIVE_AFTER);
        let regular = self.config.keepalive.map_or(Moment::NEVER, |pause| self.sent_at + pause);
        owed.min(regular)
    }

    fn renew_if_older(&mut self, now: Moment, age: Duration) {
        if self.keys_since.is_some_and(|since| now.since(since) >= age) {
            self.connect(now);
        }
    }

    fn drop_keys(&mut self, now: Moment) {
        self.initiator.expire();
        self.keys_since = None;
        self.unanswered_since = None;
        self.unacknowledged_since = None;
        if self.config.keepalive.is_some() {
            self.connect(now);
        }
    }

    fn repeat_with_cookie(&mut self, now: Moment) {
        if let Some(handshake) = &mut self.handshake
            && !handshake.cookie_used
        {
            handshake.cookie_used = true;
            handshake.retry_at = now;
        }
    }

    fn poll_handshake(&mut self, now: Moment) -> Option<Step> {
        let handshake = self.handshake.as_ref()?;
        if now.since(handshake.started) >= self.config.handshake_patience {
            self.handshake = None;
            self.initiator.abandon();
            return Some(Step::GiveUp);
        }
        (now >= handshake.retry_at).then_some(Step::Initiate)
    }

    fn initiate<'o>(&mut self, now: Moment, out: &'o mut [u8]) -> Option<Due<'o>> {
        let index = self.rng.next_u32() & 0xFF_FFFF;
        let jitter = jitter(&mut self.rng, RETRY_JITTER);
        let handshake = self.handshake.as_mut()?;
        let pause = RETRY_FIRST * (1 << self.initiations.min(8));
        self.initiations += 1;
        handshake.retry_at = now + pause.min(RETRY_MAX) + jitter;
        let len = self.initiator.initiate(index, out).ok()?;
        Some(Due::Send(&out[..len]))
    }
}

enum Step {
    Initiate,
    GiveUp,
}

/// A random part of `most`.
pub(super) fn jitter(rng: &mut ChaCha12Rng, most: Duration) -> Duration {
    let span = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_nanos(rng.next_u64() % span)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
