//! RENDEZVOUS: two peers are told of each other, and of one moment to send.

use super::peer::Tally;
use super::reader::Fields;
use super::{Addrs, BodyError, Overflow, Writer, at_most, exactly, exactly_if_present};
use crate::ids::{PeerId, WgKey};
use crate::limits::{CANDIDATES_MAX, CONSENT_BYTES_MAX};

pub use crate::wire::code::{Outcome, RendezvousStatus};

/// Introduce me to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RendezvousReq<'a> {
    /// Whom to reach.
    pub target: PeerId,
    /// Where the asker may be reached.
    pub candidates: Addrs<'a>,
    /// Mapping behaviour of the asker's NAT, see [`Behaviour`](crate::rendezvous::Behaviour).
    pub nat_mapping: u32,
    /// Filtering behaviour, likewise.
    pub nat_filtering: u32,
    /// An encoded [`ConsentToken`](super::ConsentToken) of the target, or nothing.
    pub consent: &'a [u8],
}

impl<'a> RendezvousReq<'a> {
    /// Tag of `candidates`.
    const CANDIDATES: u32 = 2;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut target, mut consent) = (&[][..], &[][..]);
        let (mut nat_mapping, mut nat_filtering) = (0, 0);
        let mut candidates = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => target = value.bytes()?,
                Self::CANDIDATES => candidates.add(value.bytes()?)?,
                3 => nat_mapping = value.uint32()?,
                4 => nat_filtering = value.uint32()?,
                5 => consent = value.bytes()?,
                _ => {}
            }
        }
        candidates.at_most(CANDIDATES_MAX)?;
        Ok(Self {
            target: PeerId(*exactly(target)?),
            candidates: Addrs::read(body, Self::CANDIDATES),
            nat_mapping,
            nat_filtering,
            consent: at_most(consent, CONSENT_BYTES_MAX)?,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.target.0)?;
        self.candidates.write(out, Self::CANDIDATES)?;
        out.uint32(3, self.nat_mapping)?;
        out.uint32(4, self.nat_filtering)?;
        out.bytes(5, self.consent)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RendezvousResp<'a> {
    /// That.
    pub status: RendezvousStatus,
    /// Where the target may be reached.
    pub candidates: Addrs<'a>,
    /// Keys the probes.
    pub attempt_secret: Option<[u8; 32]>,
    /// When the first window opens, in milliseconds after receipt.
    pub fire_after_ms: u32,
    /// Windows.
    pub windows: u32,
    /// Milliseconds of each.
    pub window_ms: u32,
    /// The target's [`ConsentToken`](super::ConsentToken) to be reached through a relay, or nothing.
    pub consent: &'a [u8],
}

impl<'a> RendezvousResp<'a> {
    /// Tag of `candidates`.
    const CANDIDATES: u32 = 2;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut secret = &[][..];
        let mut candidates = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => response.status = RendezvousStatus::of_wire(value.uint32()?),
                Self::CANDIDATES => candidates.add(value.bytes()?)?,
                3 => secret = value.bytes()?,
                4 => response.fire_after_ms = value.uint32()?,
                5 => response.windows = value.uint32()?,
                6 => response.window_ms = value.uint32()?,
                7 => response.consent = value.bytes()?,
                _ => {}
            }
        }
        candidates.at_most(CANDIDATES_MAX)?;
        at_most(response.consent, CONSENT_BYTES_MAX)?;
        response.attempt_secret = exactly_if_present(secret)?.copied();
        response.candidates = Addrs::read(body, Self::CANDIDATES);
        Ok(response)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.status.to_wire())?;
        self.candidates.write(out, Self::CANDIDATES)?;
        out.bytes(3, self.attempt_secret.as_ref().map_or(&[], |secret| secret))?;
        out.uint32(4, self.fire_after_ms)?;
        out.uint32(5, self.windows)?;
        out.uint32(6, self.window_ms)?;
        out.bytes(7, self.consent)
    }
}

/// Somebody wants to reach you.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RendezvousNotify<'a> {
    /// Who.
    pub requester: PeerId,
    /// Its WireGuard key.
    pub wg_public: WgKey,
    /// Where it may be reached.
    pub candidates: Addrs<'a>,
    /// Keys the probes.
    pub attempt_secret: [u8; 32],
    /// When the first window opens, in milliseconds after receipt.
    pub fire_after_ms: u32,
    /// Windows.
    pub windows: u32,
    /// Milliseconds of each.
    pub window_ms: u32,
    /// The consent that it showed, or nothing.
    pub consent: &'a [u8],
}

impl<'a> RendezvousNotify<'a> {
    /// Tag of `candidates`.
    const CANDIDATES: u32 = 3;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut requester, mut wg_public) = (&[][..], &[][..]);
        let (mut secret, mut consent) = (&[][..], &[][..]);
        let (mut fire_after_ms, mut windows, mut window_ms) = (0, 0, 0);
        let mut candidates = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => requester = value.bytes()?,
                2 => wg_public = value.bytes()?,
                Self::CANDIDATES => candidates.add(value.bytes()?)?,
                4 => secret = value.bytes()?,
                5 => fire_after_ms = value.uint32()?,
                6 => windows = value.uint32()?,
                7 => window_ms = value.uint32()?,
                8 => consent = value.bytes()?,
                _ => {}
            }
        }
        candidates.at_most(CANDIDATES_MAX)?;
        Ok(Self {
            requester: PeerId(*exactly(requester)?),
            wg_public: WgKey(*exactly(wg_public)?),
            candidates: Addrs::read(body, Self::CANDIDATES),
            attempt_secret: *exactly(secret)?,
            fire_after_ms,
            windows,
            window_ms,
            consent: at_most(consent, CONSENT_BYTES_MAX)?,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.requester.0)?;
        out.bytes(2, &self.wg_public.0)?;
        self.candidates.write(out, Self::CANDIDATES)?;
        out.bytes(4, &self.attempt_secret)?;
        out.uint32(5, self.fire_after_ms)?;
        out.uint32(6, self.windows)?;
        out.uint32(7, self.window_ms)?;
        out.bytes(8, self.consent)
    }
}

/// The word of who was notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RendezvousAck<'a> {
    /// Whether it takes part.
    pub accept: bool,
    /// Where it may be reached.
    pub candidates: Addrs<'a>,
    /// Mapping behaviour of its NAT.
    pub nat_mapping: u32,
    /// Filtering behaviour of its NAT.
    pub nat_filtering: u32,
    /// Its [`ConsentToken`](super::ConsentToken) to be reached through a relay, or nothing.
    pub consent: &'a [u8],
}

impl<'a> RendezvousAck<'a> {
    /// Tag of `candidates`.
    const CANDIDATES: u32 = 2;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut ack = Self::default();
        let mut candidates = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => ack.accept = value.bool()?,
                Self::CANDIDATES => candidates.add(value.bytes()?)?,
                3 => ack.nat_mapping = value.uint32()?,
                4 => ack.nat_filtering = value.uint32()?,
                5 => ack.consent = value.bytes()?,
                _ => {}
            }
        }
        candidates.at_most(CANDIDATES_MAX)?;
        at_most(ack.consent, CONSENT_BYTES_MAX)?;
        ack.candidates = Addrs::read(body, Self::CANDIDATES);
        Ok(ack)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bool(1, self.accept)?;
        self.candidates.write(out, Self::CANDIDATES)?;
        out.uint32(3, self.nat_mapping)?;
        out.uint32(4, self.nat_filtering)?;
        out.bytes(5, self.consent)
    }
}

/// How it ended, as one side saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RendezvousResult {
    /// The other side.
    pub other: PeerId,
    /// That.
    pub outcome: Outcome,
    /// Round trip of the path found.
    pub rtt_ms: u32,
}

impl RendezvousResult {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let (mut other, mut outcome, mut rtt_ms) = (&[][..], Outcome::Unspecified, 0);
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => other = value.bytes()?,
                2 => outcome = Outcome::of_wire(value.uint32()?),
                3 => rtt_ms = value.uint32()?,
                _ => {}
            }
        }
        Ok(Self { other: PeerId(*exactly(other)?), outcome, rtt_ms })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.other.0)?;
        out.uint32(2, self.outcome.to_wire())?;
        out.uint32(3, self.rtt_ms)
    }
}
