//! One attempt to punch: the secret that the router gave both sides, the addresses to try, and the
//! windows in which probes go out.
//!
//! A valid probe is answered to the address that it really came from, whenever it comes, and that
//! address is probed too: a peer whose NAT maps by destination is reached only because of that.
//! An answer from an address to the probe that went there proves it in both directions.
//!
//! Probes say nothing of who sent them: both sides have the one secret. Private networks are alike, so
//! that the peer's address in its own may be ours in ours, and somebody on the way can send a probe
//! back. Hence the clock in ours begins anywhere: what comes with a time of it is our own. Its last four bits
//! say which address a probe went to: what was answered elsewhere, or long ago, proves nothing.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use super::step::Origin;
use crate::client::session::jitter;
use crate::time::Moment;
use crate::wire::probe::{self, Punch, PunchKind};

/// Pause between two rounds of probes: 10..50 ms.
const SPACING: Duration = Duration::from_millis(10);
const SPACING_JITTER: Duration = Duration::from_millis(40);
/// Addresses tried: those of the router's list, of its introduction, and those that were heard.
const CANDIDATES_MAX: usize = 16;
/// The part of a probe's clock that says which of them.
const PLACE: u64 = 15;
/// An answer that comes later is none.
const RTT_MAX: Duration = Duration::from_secs(3);
/// An address that was heard is probed at most this often.
const ECHO_PAUSE: Duration = Duration::from_millis(10);
/// One that tunnel messages come from, this often.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Answers that come so long after the windows still count for the outcome.
const GRACE: Duration = Duration::from_millis(500);
/// Probes are answered for so long after the last one.
const KEPT_FOR: Duration = Duration::from_secs(120);
/// Windows that a router may ask for.
const WINDOWS_MAX: u32 = 8;
const WINDOW_MAX: Duration = Duration::from_secs(2);

/// What the router told both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) secret: [u8; 32],
    pub(super) candidates: Vec<(SocketAddr, Origin)>,
    pub(super) opens_at: Moment,
    pub(super) windows: u32,
    pub(super) window: Duration,
}

/// A datagram and where it goes.
pub(super) type Outgoing = (SocketAddr, Vec<u8>);

/// What an incoming probe was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A probe: send these. Whether the address was new.
    Probe(Vec<Outgoing>, bool),
    /// An answer that proves its address, and the round trip.
    Answer(Duration),
    /// An answer from an address that was never probed: this probes it.
    Elsewhere(Outgoing),
    /// Not of this attempt, or of no use.
    Nothing,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A window opens; counts from 1.
    Window(u32),
    /// Probes.
    Send(Vec<Outgoing>),
    /// The windows are over, and so is the time that late answers have.
    Unanswered,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    probed_at: Option<Moment>,
    proven: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Attempt {
    plan: Plan,
    id: [u8; 8],
    candidates: Vec<Candidate>,
    rng: ChaCha12Rng,
    next_at: Moment,
    window: u32,
    over: bool,
    started: Moment,
    /// What the clock in our probes showed at [`Moment::START`], in microseconds, without [`PLACE`].
    epoch_us: u64,
    keep_until: Moment,
}

impl Attempt {
    pub(super) fn new(now: Moment, mut plan: Plan, mut rng: ChaCha12Rng) -> Self {
        plan.windows = plan.windows.min(WINDOWS_MAX);
        plan.window = plan.window.min(WINDOW_MAX);
        let candidate = |address| Candidate { address, probed_at: None, proven: false };
        let candidates = plan.candidates.iter().map(|(address, _)| candidate(*address));
        Self {
            id: probe::attempt_id(&plan.secret),
            candidates: candidates.take(CANDIDATES_MAX).collect(),
            epoch_us: rng.next_u64() & !PLACE,
            rng,
            next_at: plan.opens_at,
            window: 0,
            over: false,
            started: now,
            keep_until: plan.opens_at + KEPT_FOR,
            plan,
        }
    }

    pub(super) const fn secret(&self) -> &[u8; 32] {
        &self.plan.secret
    }

    pub(super) const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// Whether a probe proved an address, or nothing is left to wait for.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Until when it is of use.
    pub(super) const fn keep_until(&self) -> Moment {
        self.keep_until
    }

    /// Another address to try; whether it is new.
    pub(super) fn add(&mut self, address: SocketAddr) -> bool {
        let known = self.candidates.iter().any(|it| it.address == address);
        if known || self.candidates.len() >= CANDIDATES_MAX {
            return false;
        }
        self.candidates.push(Candidate { address, probed_at: None, proven: false });
        true
    }

    /// The first window passed: what comes after punching may be prepared.
    pub(super) fn first_window_ends(&self) -> Moment {
        self.plan.opens_at + self.plan.window
    }

    fn ends(&self) -> Moment {
        self.plan.opens_at + self.plan.window * self.plan.windows
    }

    /// A probe for a path that was proven: it is answered, or the path is dead.
    pub(super) fn probe(&mut self, now: Moment, to: SocketAddr) -> Option<Vec<u8>> {
        self.keep_until = self.keep_until.max(now + KEPT_FOR);
        let place = self.candidates.iter().position(|it| it.address == to)?;
        Some(self.ask(now, place))
    }

    fn ask(&self, now: Moment, place: usize) -> Vec<u8> {
        let clock = (micros(now) & !PLACE) | (place as u64 & PLACE);
        self.write(PunchKind::Probe, self.epoch_us.wrapping_add(clock))
    }

    /// How long ago a probe of ours was sent, by its clock, and to which candidate; `None` of what is
    /// none of ours.
    fn asked_since(&self, now: Moment, clock_us: u64) -> Option<(Duration, u64)> {
        let clock = clock_us.wrapping_sub(self.epoch_us);
        let (sent_us, place) = (clock & !PLACE, clock & PLACE);
        let ours = (micros(self.started) & !PLACE..=micros(now)).contains(&sent_us);
        ours.then(|| (Duration::from_micros(micros(now) - sent_us), place))
    }

    fn write(&self, kind: PunchKind, clock_us: u64) -> Vec<u8> {
        let punch = Punch { kind, attempt: self.id, clock_us };
        probe::punch_write(&punch, &self.plan.secret).to_vec()
    }

    /// Takes a datagram of the probes' type.
    pub(super) fn receive(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) -> Heard {
        let Some(punch) = probe::punch_read(datagram, &self.plan.secret) else {
            return Heard::Nothing;
        };
        let heard = match (punch.kind, self.asked_since(now, punch.clock_us)) {
            (PunchKind::Probe, None) => self.probed(now, from, punch.clock_us),
            (PunchKind::Answer, Some(asked)) => self.answered(now, from, asked),
            (PunchKind::Probe, Some(_)) | (PunchKind::Answer, None) => return Heard::Nothing,
        };
        self.keep_until = self.keep_until.max(now + KEPT_FOR);
        heard
    }

    fn probed(&mut self, now: Moment, from: SocketAddr, clock_us: u64) -> Heard {
        let mut out = vec![(from, self.write(PunchKind::Answer, clock_us))];
        let new = self.add(from);
        // It came through, so ours may now.
        if let Some(probe) = self.echo(now, from, ECHO_PAUSE) {
            out.push(probe);
        }
        Heard::Probe(out, new)
    }

    fn answered(&mut self, now: Moment, from: SocketAddr, (rtt, place): (Duration, u64)) -> Heard {
        if rtt >= RTT_MAX {
            return Heard::Nothing;
        }
        let mut candidates = (0..).zip(&mut self.candidates);
        if let Some((_, candidate)) = candidates.find(|(at, it)| *at == place && it.address == from)
        {
            candidate.proven = true;
            self.over = true;
            return Heard::Answer(rtt);
        }
        self.add(from);
        self.echo(now, from, ECHO_PAUSE).map_or(Heard::Nothing, Heard::Elsewhere)
    }

    /// Something authentic came from there: a probe asks whether it goes the other way too.
    pub(super) fn look_at(&mut self, now: Moment, from: SocketAddr) -> Option<Outgoing> {
        self.add(from);
        self.echo(now, from, LOOK_PAUSE)
    }

    /// A probe to an address that something came from, unless it is proven or was probed just now.
    fn echo(&mut self, now: Moment, to: SocketAddr, pause: Duration) -> Option<Outgoing> {
        let place = self.candidates.iter().position(|it| it.address == to && !it.proven)?;
        let candidate = &mut self.candidates[place];
        if candidate.probed_at.is_some_and(|at| now.since(at) < pause) {
            return None;
        }
        candidate.probed_at = Some(now);
        Some((to, self.ask(now, place)))
    }

    /// What is due, until `None`.
    pub(super) fn poll(&mut self, now: Moment) -> Option<Due> {
        if self.over {
            return None;
        }
        let given_up_at = self.ends() + GRACE;
        if now >= given_up_at {
            self.over = true;
            return Some(Due::Unanswered);
        }
        if now >= self.ends() {
            self.next_at = given_up_at;
        }
        if now < self.next_at {
            return None;
        }
        let since = now.since(self.plan.opens_at).as_nanos();
        let window = since / self.plan.window.as_nanos().max(1) + 1;
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        if window > self.window {
            self.window = window;
            return Some(Due::Window(window));
        }
        self.next_at = now + SPACING + jitter(&mut self.rng, SPACING_JITTER);
        self.candidates.iter_mut().for_each(|candidate| candidate.probed_at = Some(now));
        let probes = self.candidates.iter().enumerate();
        let probes = probes.map(|(place, it)| (it.address, self.ask(now, place)));
        Some(Due::Send(probes.collect()))
    }

    /// When [`Attempt::poll`] has something to do next.
    pub(super) const fn next_deadline(&self) -> Moment {
        if self.over { Moment::NEVER } else { self.next_at }
    }
}

fn micros(at: Moment) -> u64 {
    at.as_nanos() / 1000
}
