//! One session: its endpoint and what proves it, its debts, what is due when.
//!
//! The endpoint moves on authentic data only, and only on the highest counter so
//! far of the newest key in use, so neither a replay nor a packet that was late
//! moves it. An address is proven when a handshake response that went there was
//! used, or when a path challenge that went there was answered; one that was left
//! stays proven for a while, so that a peer coming back owes nothing. Towards an
//! address that is not proven, at most the bytes that came from it are spent.

use std::time::Duration;

use super::ring::Ring;
use crate::drops::Drop;
use crate::ids::WgKey;
use crate::net::{Address, Path, Prefix};
use crate::time::Moment;

/// WireGuard's KEEPALIVE_TIMEOUT: an empty message if nothing else was sent so long after data came.
const PASSIVE_KEEPALIVE: Duration = Duration::from_secs(10);
/// A session without any data ends so long after its last handshake.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// A session whose keys are too old keeps its slot for so long, unless somebody needs it:
/// peers whose keepalive runs into old keys come back within this time and stay who they are.
pub(super) const LINGER: Duration = Duration::from_secs(30);
/// How long an address that was left stays proven, from its proof on.
const LEFT_PROVEN: Duration = Duration::from_secs(180);
/// Another port after less silence says nothing of how long mappings last.
const LAPSE_MIN: Duration = Duration::from_secs(2);
/// Between two challenges of a session.
const CHALLENGE_INTERVAL: Duration = Duration::from_secs(1);
/// Challenges without anything coming from the new address.
const CHALLENGES_UNASKED: u8 = 3;

/// A peer's session, from its first handshake to the end of its last key.
#[derive(Debug)]
pub struct Session {
    path: Path,
    proof: Proof,
    /// Handshake of the newest key that data came under.
    order: u32,
    last_sent: Moment,
    /// When the last authentic data came; [`Moment::START`] before the first.
    heard: Moment,
    /// Since when the peer waits for a sign of life; [`Moment::NEVER`] if it does not.
    owed_since: Moment,
    /// When the timer fires.
    pub(super) armed: Moment,
    pub(super) ring: Ring,
    key: WgKey,
    /// Where it began.
    network: Prefix,
    established: Moment,
    left: [Left; 2],
    next_challenge: Moment,
    /// Smoothed round trip in microseconds; 0 before the first sample.
    srtt_us: u32,
    /// Seconds of silence after which a keepalive goes to this peer; 0 is the same as to all.
    keepalive_s: u8,
    /// Silence after which it came back from another port, until somebody asks.
    lapse: Option<Duration>,
}

/// What is known of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Lately then: by a response that was used, or a challenge that was answered.
    Proven(Moment),
    Unproven {
        /// Bytes that came from there less those that went there.
        allowance: u64,
        token: u64,
        /// Challenges that may still be sent.
        challenges: u8,
    },
}

/// An address that was proven.
#[derive(Clone, Copy, Debug)]
struct Left {
    address: Address,
    proven: Moment,
}

impl Proof {
    /// None yet: the address is asked for `token`.
    const fn asked(token: u64) -> Self {
        Self::Unproven { allowance: 0, token, challenges: CHALLENGES_UNASKED }
    }
}

/// What a timer found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    End,
    /// Its keys have just become too old.
    Linger,
    Challenge(u64),
    Keepalive,
    Nothing,
}

/// What authentic data changed beyond counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The data was the first under its key: the response arrived where it was sent.
    pub(super) confirmed: Option<Address>,
    /// The endpoint has another address now; if it is not proven, the token was used.
    pub(super) roamed: bool,
    /// The address that it has is not proven any more, and the token was used.
    pub(super) doubted: bool,
}

impl Session {
    /// A session whose first handshake came by `path`; `token` is what to challenge it with, should that be needed.
    pub(super) fn new(now: Moment, key: WgKey, path: Path, token: u64) -> Self {
        let nowhere = Left { address: Address([0; 18]), proven: Moment::START };
        Self {
            path,
            proof: Proof::Unproven { allowance: 0, token, challenges: 0 },
            order: 0,
            last_sent: now,
            heard: Moment::START,
            owed_since: Moment::NEVER,
            armed: Moment::NEVER,
            ring: Ring::new(),
            key,
            network: Prefix::of(path.peer.ip()),
            established: now,
            left: [nowhere; 2],
            next_challenge: Moment::START,
            srtt_us: 0,
            keepalive_s: 0,
            lapse: None,
        }
    }

    /// The peer's static key.
    pub fn key(&self) -> &WgKey {
        &self.key
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether that address is proven.
    pub fn proven(&self) -> bool {
        self.proven_at().is_some()
    }

    /// When it was proven last, if it is.
    pub fn proven_at(&self) -> Option<Moment> {
        match self.proof {
            Proof::Proven(at) => Some(at),
            Proof::Unproven { .. } => None,
        }
    }

    /// When its first handshake was.
    pub fn established(&self) -> Moment {
        self.established
    }

    /// The network that its first handshake came from.
    pub fn network(&self) -> &Prefix {
        &self.network
    }

    /// Smoothed round-trip time (RFC 6298), if one was measured: from a handshake's response to
    /// the first data under its key, and whatever else is [sampled](Self::sample_rtt).
    pub fn srtt(&self) -> Option<Duration> {
        (self.srtt_us > 0).then(|| Duration::from_micros(self.srtt_us.into()))
    }

    /// Sends it a keepalive after so much silence, in whole seconds, if keepalives are sent.
    pub(super) fn set_keepalive(&mut self, after: Duration) {
        self.keepalive_s = u8::try_from(after.as_secs()).unwrap_or(u8::MAX);
    }

    /// After how much silence it came back from another port of its address, if it did since the
    /// last time: its NAT had given its mapping up.
    pub fn take_lapse(&mut self) -> Option<Duration> {
        self.lapse.take()
    }

    /// A question was answered after `rtt`.
    pub fn sample_rtt(&mut self, rtt: Duration) {
        let us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.srtt_us = match self.srtt_us {
            0 => us,
            old => old - old / 8 + us / 8,
        }
        .max(1);
    }

    /// When authentic data came last; [`Moment::START`] before the first.
    pub(super) fn heard(&self) -> Moment {
        self.heard
    }

    /// Whether anything can be sealed for it at `now`.
    pub fn usable(&self, now: Moment) -> bool {
        self.ring.sending(now).is_ok()
    }

    /// Accounts `bytes` that go to its endpoint without being sealed for it (relayed data).
    ///
    /// # Errors
    /// [`Drop::Unproven`] if they are more than came from there.
    #[inline]
    pub fn charge(&mut self, bytes: usize) -> Result<(), Drop> {
        match &mut self.proof {
            Proof::Proven(_) => Ok(()),
            Proof::Unproven { allowance, .. } => {
                let left = allowance.checked_sub(bytes as u64).ok_or(Drop::Unproven)?;
                *allowance = left;
                Ok(())
            }
        }
    }

    /// Accounts `bytes` of authentic relayed data that came from its endpoint.
    #[inline]
    pub fn credit(&mut self, bytes: usize) {
        if let Proof::Unproven { allowance, .. } = &mut self.proof {
            *allowance = allowance.saturating_add(bytes as u64);
        }
    }

    /// Something was sealed for it.
    #[inline]
    pub(super) fn sent(&mut self, now: Moment) {
        self.last_sent = now;
        self.owed_since = Moment::NEVER;
    }

    /// A datagram of `bytes` turned out authentic. `token` is the one to challenge a new address with.
    #[inline]
    pub(super) fn authentic(
        &mut self,
        now: Moment,
        index: u32,
        counter: u64,
        path: &Path,
        bytes: usize,
        token: u64,
    ) -> Change {
        // Looked up anew: nothing is borrowed across the decryption.
        let Ok(key) = self.ring.receiving(now, index) else { return Change::default() };
        let (order, answered, made) = (key.order, key.answered, key.established);
        let leads = order > self.order || (order == self.order && counter >= key.next_counter);
        let confirmed = (!key.confirmed()).then_some(answered);
        self.ring.authentic(index, counter);
        let heard = std::mem::replace(&mut self.heard, now);
        let silent = if heard == Moment::START { Duration::ZERO } else { now.since(heard) };
        let (mut roamed, mut doubted) = (false, false);
        if leads {
            self.order = order;
            if self.path != *path {
                let same_host = self.path.peer.ip() == path.peer.ip();
                roamed = self.move_to(now, path, token);
                self.lapse = (roamed && same_host && silent >= LAPSE_MIN).then_some(silent);
            }
        }
        if let Some(address) = confirmed {
            doubted = self.prove(now, &address, token);
            self.sample_rtt(now.since(made));
        }
        if path.peer == self.path.peer {
            self.allow(bytes);
        }
        Change { confirmed, roamed, doubted }
    }

    /// Data that asks for a sign of life came; returns when to look at the session, if that is news.
    #[inline]
    pub(super) fn owe(&mut self, now: Moment) -> Option<Moment> {
        if self.owed_since != Moment::NEVER {
            return None;
        }
        self.owed_since = now;
        Some(now + PASSIVE_KEEPALIVE)
    }

    /// The peer echoed `token`; whether that proved its address.
    pub(super) fn answered(&mut self, now: Moment, token: u64) -> bool {
        let right = matches!(self.proof, Proof::Unproven { token: asked, .. } if asked == token);
        if right {
            self.proof = Proof::Proven(now);
        }
        right
    }

    /// What to do first at `now`, if anything. Whoever asks does it.
    pub(super) fn due(&mut self, now: Moment, keepalive: Option<Duration>) -> Due {
        if self.ends_at() <= now {
            return Due::End;
        }
        if self.ring.sending(now).is_err() {
            let (dies, _) = self.ring.ages();
            return if dies.is_some_and(|at| at <= now) { Due::Linger } else { Due::Nothing };
        }
        if self.challenge_at() <= now {
            return self.challenge(now);
        }
        if self.keepalive_at(keepalive) <= now { Due::Keepalive } else { Due::Nothing }
    }

    /// When to ask [`Session::due`] next.
    pub(super) fn next(&self, now: Moment, keepalive: Option<Duration>) -> Moment {
        if self.ring.sending(now).is_err() {
            return self.ends_at();
        }
        let (dies, _) = self.ring.ages();
        let dies = dies.unwrap_or(Moment::NEVER);
        dies.min(self.ends_at()).min(self.challenge_at()).min(self.keepalive_at(keepalive))
    }

    /// Whether its slot may be given to somebody else.
    pub(super) fn dead(&self, now: Moment) -> bool {
        let (dies, made) = self.ring.ages();
        dies.is_some_and(|dies| dies <= now) && made + CONFIRM_WITHIN <= now
    }

    fn ends_at(&self) -> Moment {
        let (dies, made) = self.ring.ages();
        let unconfirmed = made + CONFIRM_WITHIN;
        dies.map_or(unconfirmed, |dies| (dies + LINGER).max(unconfirmed))
    }

    fn keepalive_at(&self, keepalive: Option<Duration>) -> Moment {
        let own = Duration::from_secs(self.keepalive_s.into());
        let persistent = keepalive.map_or(Moment::NEVER, |of_all| {
            self.last_sent + if own.is_zero() { of_all } else { own }
        });
        persistent.min(self.owed_since + PASSIVE_KEEPALIVE)
    }

    fn challenge_at(&self) -> Moment {
        match self.proof {
            Proof::Unproven { challenges: 1.., .. } => self.next_challenge,
            Proof::Unproven { .. } | Proof::Proven(_) => Moment::NEVER,
        }
    }

    fn challenge(&mut self, now: Moment) -> Due {
        self.next_challenge = now + CHALLENGE_INTERVAL;
        match &mut self.proof {
            Proof::Proven(_) => Due::Nothing,
            Proof::Unproven { token, challenges, .. } => {
                *challenges = challenges.saturating_sub(1);
                Due::Challenge(*token)
            }
        }
    }

    /// Returns whether the address is another one.
    #[cold]
    fn move_to(&mut self, now: Moment, path: &Path, token: u64) -> bool {
        let from = std::mem::replace(&mut self.path, *path);
        if from.peer == path.peer {
            return false;
        }
        if let Proof::Proven(at) = self.proof {
            self.remember(at, Address::of(&from.peer));
        }
        let to = Address::of(&path.peer);
        let here = |left: &&Left| left.address == to && now.since(left.proven) < LEFT_PROVEN;
        let left = self.left.iter().find(here).map(|left| left.proven);
        self.proof = left.map_or(Proof::asked(token), Proof::Proven);
        true
    }

    /// A response that went to `address` was used. Whether that casts doubt on the endpoint: keys
    /// were agreed elsewhere, and data under them has a source that may be forged.
    #[cold]
    fn prove(&mut self, now: Moment, address: &Address, token: u64) -> bool {
        let here = Address::of(&self.path.peer) == *address;
        let doubted = !here && self.proven();
        if here {
            self.proof = Proof::Proven(now);
        } else {
            self.remember(now, *address);
        }
        if doubted {
            self.proof = Proof::asked(token);
        }
        doubted
    }

    fn remember(&mut self, proven: Moment, address: Address) {
        let same = self.left.iter().position(|left| left.address == address);
        let oldest = usize::from(self.left[1].proven < self.left[0].proven);
        self.left[same.unwrap_or(oldest)] = Left { address, proven };
    }

    #[inline]
    fn allow(&mut self, bytes: usize) {
        if let Proof::Unproven { allowance, challenges, .. } = &mut self.proof {
            *allowance = allowance.saturating_add(bytes as u64);
            *challenges = (*challenges).max(1);
        }
    }
}
