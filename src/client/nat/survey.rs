//! Runs the tests of a [`Machine`] over UDP sockets.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use super::super::blocking::{fork, resolve, seeded};
use super::super::error::Error;
use super::super::link::Link;
use super::machine::{Machine, Seen, Test, Via};
use super::report::{Hairpin, Report};
use super::wire::{Told, Wire};
use crate::clock::Clock;
use crate::ids::WgKey;
use crate::time::Moment;
use crate::wire::Code;
use crate::wire::body::ReflectReq;

/// A probe that has not come within this is lost, or was kept out.
const PROBE_WITHIN: Duration = Duration::from_millis(600);
/// Datagrams get lost: what is kept out so often is kept out.
const PROBES: u32 = 3;
/// What the router has no place or rate for now may be asked for again after this.
const PAUSE: Duration = Duration::from_millis(400);
/// So often.
const PATIENT_TRIES: u32 = 8;
/// How much later than it should a probe may come.
const LATE: Duration = Duration::from_millis(1500);

/// What to find out, and with whose help.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The router.
    pub router: Link,
    /// Another one, at another address.
    pub other: Option<Link>,
    /// Longest silence to try, in seconds, at most 300; 0 tries none.
    pub lifetime_s: u32,
    /// How long to try for a handshake.
    pub patience: Duration,
}

/// Finds out what lies between us and the router. Takes some seconds, and as long as several
/// lifetimes if those are asked for.
///
/// # Errors
/// [`Error::Resolve`], [`Error::Socket`], and whatever keeps the router from being asked at all; a
/// single test that fails leaves its answer open.
pub fn classify(plan: &Plan) -> Result<Report, Error> {
    let mut survey = Survey::new(plan)?;
    let mut machine = Machine::new(plan.lifetime_s.min(LIFETIME_S_MAX));
    while let Some(test) = machine.next() {
        match test {
            Test::Mapping => machine.seen(Some(survey.mapping()?)),
            Test::Filtering(via) => machine.probed(via, open(survey.filtering(via))?),
            Test::Hairpin => {
                machine.hairpinned(open(survey.hairpin().map(Some))?.unwrap_or_default());
            }
            Test::Lifetime(silences) => {
                machine.lived(&open(survey.lifetime(&silences).map(Some))?.unwrap_or_default());
            }
        }
    }
    machine.report().ok_or(Error::Malformed { request: crate::wire::Kind::ReflectReq })
}

/// Longest wait that a router grants.
const LIFETIME_S_MAX: u32 = 300;

/// What a test found, or nothing if it failed; a socket that fails fails everything.
fn open<T>(found: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error @ Error::Socket { .. }) => Err(error),
        Err(_) => Ok(None),
        Ok(found) => Ok(found),
    }
}

struct Survey {
    router: (SocketAddr, WgKey),
    other: Option<(SocketAddr, Link)>,
    patience: Duration,
    rng: ChaCha12Rng,
}

impl Survey {
    fn new(plan: &Plan) -> Result<Self, Error> {
        let mut rng = seeded()?;
        let address = first(&plan.router, |_| true)?;
        // What is not at another address of the same family would tell nothing.
        let same = |it: &SocketAddr| it.is_ipv4() == address.is_ipv4() && it.ip() != address.ip();
        let other = match &plan.other {
            Some(link) => Some((first(link, same)?, link.clone())),
            None => None,
        };
        let router = (address, plan.router.key);
        Ok(Self { router, other, patience: plan.patience, rng: fork(&mut rng) })
    }

    /// A socket that speaks to the router alone, and what it is seen at.
    fn alone(&mut self) -> Result<(Wire, Told), Error> {
        let (address, key) = self.router;
        let mut wire = Wire::open(address, self.patience, &mut self.rng)?;
        let lane = wire.add(address, key);
        let told = wire.reflect(lane, self.plain())?;
        Ok((wire, told))
    }

    fn plain(&mut self) -> ReflectReq<'static> {
        ReflectReq { nonce: self.rng.next_u64(), ..ReflectReq::default() }
    }

    fn mapping(&mut self) -> Result<Seen, Error> {
        let (address, key) = self.router;
        let (mut wire, told) = self.alone()?;
        let mut seen = Seen {
            local: wire.local(address)?,
            main: told.observed,
            alternate: None,
            other: None,
            helps: false,
        };
        if let Some(alternate) = told.alternate {
            // The router may not know the address that we know it by.
            let lane = wire.add(SocketAddr::new(address.ip(), alternate.port()), key);
            let plain = self.plain();
            seen.alternate = open(wire.reflect(lane, plain).map(Some))?.map(|it| it.observed);
        }
        if let Some((at, link)) = &self.other {
            let lane = wire.add(*at, link.key);
            let nonce = self.rng.next_u64();
            let asked = ReflectReq { nonce, ..ReflectReq::default() };
            seen.other = open(wire.reflect(lane, asked).map(Some))?.map(|it| it.observed);
            seen.helps = told.other == Some(link.peer);
        }
        Ok(seen)
    }

    /// Whether a probe from elsewhere comes; nothing if it is not sent.
    fn filtering(&mut self, via: Via) -> Result<Option<bool>, Error> {
        let (mut wire, _) = self.alone()?;
        let key = wire.key(0);
        for _ in 0..PROBES {
            let plain = self.plain();
            let asked = match (via, &self.other) {
                (Via::Alternate, _) => ReflectReq { from_alt_port: true, ..plain },
                (Via::Other, Some((_, link))) => {
                    ReflectReq { via_router: Some(link.peer), ..plain }
                }
                (Via::Other, None) => return Ok(None),
            };
            patiently(&mut wire, asked)?;
            if wire.wait(PROBE_WITHIN, |wire| wire.has_probe(&key, plain.nonce))? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// Whether what one socket sends to where another is seen arrives there.
    fn hairpin(&mut self) -> Result<Hairpin, Error> {
        let ((a, at_a), (mut b, at_b)) = (self.alone()?, self.alone()?);
        let mut meet = |invited: bool| -> Result<bool, Error> {
            for _ in 0..PROBES {
                let word = self.rng.next_u64().to_be_bytes();
                // Such a first byte means nothing to anybody.
                let word = [&[0xFF; 8], &word[..]].concat();
                if invited {
                    b.send(at_a.observed, &word);
                }
                a.send(at_b.observed, &word);
                if b.wait(PROBE_WITHIN / 2, |b| b.has(&word))? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if meet(false)? {
            return Ok(Hairpin::Yes);
        }
        Ok(if meet(true)? { Hairpin::Invited } else { Hairpin::No })
    }

    /// Which silences a mapping survives, up to the first that it does not.
    fn lifetime(&mut self, silences: &[u32]) -> Result<Vec<(u32, bool)>, Error> {
        let clock = Clock::start();
        // The sessions live on elsewhere, where the router's keepalives hurt nothing.
        let mut elsewhere = Wire::open(self.router.0, self.patience, &mut self.rng)?;
        let mut silent = Vec::new();
        for &after_s in silences {
            let (mut wire, _) = self.alone()?;
            let key = wire.key(0);
            let nonces = [self.rng.next_u64(), self.rng.next_u64()];
            for nonce in nonces {
                patiently(&mut wire, ReflectReq { nonce, after_s, ..ReflectReq::default() })?;
            }
            wire.hand_over(&mut elsewhere)?;
            let until = clock.moment() + Duration::from_secs(after_s.into()) + LATE;
            silent.push(Silent { after_s, wire, key, nonces, until });
        }
        let mut lived = Vec::new();
        for mut it in silent {
            while !it.has_heard() && clock.moment() < it.until {
                elsewhere.step(Moment::NEVER)?;
                elsewhere.forget_events();
                it.wire.step(Moment::START)?;
            }
            lived.push((it.after_s, it.has_heard()));
            if !it.has_heard() {
                break;
            }
        }
        Ok(lived)
    }
}

/// A socket that waits for a probe.
struct Silent {
    after_s: u32,
    wire: Wire,
    key: WgKey,
    nonces: [u64; 2],
    until: Moment,
}

impl Silent {
    fn has_heard(&self) -> bool {
        self.nonces.iter().any(|nonce| self.wire.has_probe(&self.key, *nonce))
    }
}

/// Asks until the router has a place for it.
fn patiently(wire: &mut Wire, asked: ReflectReq<'_>) -> Result<Told, Error> {
    let mut tries = 1;
    loop {
        match wire.reflect(0, asked) {
            Err(Error::Refused { refusal, .. })
                if tries < PATIENT_TRIES
                    && matches!(refusal.code, Code::Busy | Code::RateLimited) =>
            {
                tries += 1;
                wire.wait(PAUSE, |_| false)?;
            }
            told => return told,
        }
    }
}

/// The first address of a link that is `good`.
fn first(link: &Link, good: impl Fn(&SocketAddr) -> bool) -> Result<SocketAddr, Error> {
    let error = || std::io::ErrorKind::AddrNotAvailable.into();
    let none = || Error::Resolve { host: link.host.clone(), error: error() };
    resolve(link)?.into_iter().find(good).ok_or_else(none)
}
