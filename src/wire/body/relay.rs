//! RELAY: channels between two peers, asked for, offered, throttled and closed.

use super::peer::Tally;
use super::reader::Fields;
use super::{Addrs, BodyError, Overflow, Writer, at_most, exactly};
use crate::ids::PeerId;
use crate::limits::{CONSENT_BYTES_MAX, PEER_ADDRS_MAX};

/// Give me a channel to this peer, or keep the one there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAllocReq<'a> {
    /// The other leg.
    pub peer: PeerId,
    /// An encoded [`ConsentToken`](super::ConsentToken) of that peer; nothing if it has asked
    /// for a channel to us itself.
    pub consent: &'a [u8],
    /// Rate wanted, in bits a second; 0 for whatever is to be had.
    pub want_bps: u64,
    /// The channel to keep, or 0.
    pub channel: u32,
    /// A port for each leg instead of a channel header.
    pub stock_wireguard: bool,
}

impl<'a> RelayAllocReq<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut peer, mut consent) = (&[][..], &[][..]);
        let (mut want_bps, mut channel, mut stock_wireguard) = (0, 0, false);
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => peer = value.bytes()?,
                2 => consent = value.bytes()?,
                3 => want_bps = value.uint64()?,
                4 => channel = value.uint32()?,
                5 => stock_wireguard = value.bool()?,
                _ => {}
            }
        }
        let consent = at_most(consent, CONSENT_BYTES_MAX)?;
        Ok(Self { peer: PeerId(*exactly(peer)?), consent, want_bps, channel, stock_wireguard })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.peer.0)?;
        out.bytes(2, self.consent)?;
        out.uint64(3, self.want_bps)?;
        out.uint32(4, self.channel)?;
        out.bool(5, self.stock_wireguard)
    }
}

/// A leg of a channel: what it is asked for with, and what the other leg is offered (RELAY_OFFER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAllocResp<'a> {
    /// The leg's channel; 0 for a leg that has a port of its own.
    pub channel: u32,
    /// Where the leg sends.
    pub relay_addrs: Addrs<'a>,
    /// Life of the channel, in seconds.
    pub lifetime_s: u32,
    /// Silence after which it is closed, in seconds.
    pub idle_timeout_s: u32,
    /// What the leg may send, in bits a second over a long time.
    pub rate_bps: u64,
    /// What it may send at once, in bytes.
    pub burst_bytes: u64,
    /// Largest packet inside the WireGuard session that is relayed, in bytes.
    pub inner_mtu: u32,
    /// The other leg.
    pub peer: PeerId,
    /// Stands in front of every datagram of the channel.
    pub generation: u32,
}

impl<'a> RelayAllocResp<'a> {
    /// Tag of `relay_addrs`.
    const ADDRS: u32 = 2;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut channel, mut lifetime_s, mut idle_timeout_s) = (0, 0, 0);
        let (mut rate_bps, mut burst_bytes, mut inner_mtu, mut generation) = (0, 0, 0, 0);
        let mut peer = &[][..];
        let mut addrs = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => channel = value.uint32()?,
                Self::ADDRS => addrs.add(value.bytes()?)?,
                3 => lifetime_s = value.uint32()?,
                4 => idle_timeout_s = value.uint32()?,
                5 => rate_bps = value.uint64()?,
                6 => burst_bytes = value.uint64()?,
                7 => inner_mtu = value.uint32()?,
                8 => peer = value.bytes()?,
                9 => generation = value.uint32()?,
                _ => {}
            }
        }
        addrs.at_most(PEER_ADDRS_MAX)?;
        let (peer, relay_addrs) = (PeerId(*exactly(peer)?), Addrs::read(body, Self::ADDRS));
        Ok(Self {
            channel,
            relay_addrs,
            lifetime_s,
            idle_timeout_s,
            rate_bps,
            burst_bytes,
            inner_mtu,
            peer,
            generation,
        })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.channel)?;
        self.relay_addrs.write(out, Self::ADDRS)?;
        out.uint32(3, self.lifetime_s)?;
        out.uint32(4, self.idle_timeout_s)?;
        out.uint64(5, self.rate_bps)?;
        out.uint64(6, self.burst_bytes)?;
        out.uint32(7, self.inner_mtu)?;
        out.bytes(8, &self.peer.0)?;
        out.uint32(9, self.generation)
    }
}

/// What a leg has used, before it is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RelayStatus {
    /// The leg's channel.
    pub channel: u32,
    /// Bytes it sent so far.
    pub used_bytes: u64,
    /// What it may send, in bits a second.
    pub rate_bps: u64,
    /// Whether what it sends has to wait.
    pub throttled: bool,
    /// When its burst is whole again, in milliseconds.
    pub retry_after_ms: u32,
}

impl RelayStatus {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut status = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => status.channel = value.uint32()?,
                2 => status.used_bytes = value.uint64()?,
                3 => status.rate_bps = value.uint64()?,
                4 => status.throttled = value.bool()?,
                5 => status.retry_after_ms = value.uint32()?,
                _ => {}
            }
        }
        Ok(status)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.channel)?;
        out.uint64(2, self.used_bytes)?;
        out.uint64(3, self.rate_bps)?;
        out.bool(4, self.throttled)?;
        out.uint32(5, self.retry_after_ms)
    }
}

/// A channel is of no more use; RELAY_CLOSED has the same body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RelayClose {
    /// The leg's channel.
    pub channel: u32,
    /// Why.
    pub reason: u32,
}

impl RelayClose {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut close = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => close.channel = value.uint32()?,
                2 => close.reason = value.uint32()?,
                _ => {}
            }
        }
        Ok(close)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.channel)?;
        out.uint32(2, self.reason)
    }
}
