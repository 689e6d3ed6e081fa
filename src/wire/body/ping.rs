//! PING and PONG.

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most};
use crate::limits::{MULTIADDR_BYTES_MAX, PADDING_BYTES_MAX};

/// Are you there, and where am I?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ping<'a> {
    /// The asker's clock.
    pub now_unix_ms: u64,
    /// Makes the datagram as large as a path-MTU probe wants.
    pub padding: &'a [u8],
    /// Drawn at random where the answer proves an address.
    pub token: u64,
}

impl<'a> Ping<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut ping = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => ping.now_unix_ms = value.uint64()?,
                2 => ping.padding = value.bytes()?,
                3 => ping.token = value.uint64()?,
                _ => {}
            }
        }
        at_most(ping.padding, PADDING_BYTES_MAX)?;
        Ok(ping)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint64(1, self.now_unix_ms)?;
        out.bytes(2, self.padding)?;
        out.uint64(3, self.token)
    }
}

/// Here I am, and there you are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pong<'a> {
    /// The answerer's clock.
    pub now_unix_ms: u64,
    /// The address that the request came from, as multiaddr.
    pub observed: &'a [u8],
    /// How busy the answerer is.
    pub load_permille: u32,
    /// The request's token.
    pub token: u64,
    /// The request's clock.
    pub echo_unix_ms: u64,
}

impl<'a> Pong<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut pong = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => pong.now_unix_ms = value.uint64()?,
                2 => pong.observed = value.bytes()?,
                3 => pong.load_permille = value.uint32()?,
                4 => pong.token = value.uint64()?,
                5 => pong.echo_unix_ms = value.uint64()?,
                _ => {}
            }
        }
        at_most(pong.observed, MULTIADDR_BYTES_MAX)?;
        Ok(pong)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint64(1, self.now_unix_ms)?;
        out.bytes(2, self.observed)?;
        out.uint32(3, self.load_permille)?;
        out.uint64(4, self.token)?;
        out.uint64(5, self.echo_unix_ms)
    }
}
