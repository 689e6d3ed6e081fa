//! REFLECT: what address do others see?

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most, exactly_if_present};
use crate::ids::PeerId;
use crate::limits::MULTIADDR_BYTES_MAX;

/// Tell me my address, and perhaps try it from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReflectReq {
    /// Drawn at random; the probe carries it.
    pub nonce: u64,
    /// Send a filter probe from the alternate port.
    pub from_alt_port: bool,
    /// Have this router send a filter probe.
    pub via_router: Option<PeerId>,
}

impl ReflectReq {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut request = Self::default();
        let mut via_router = &[][..];
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => request.nonce = value.uint64()?,
                2 => request.from_alt_port = value.bool()?,
                3 => via_router = value.bytes()?,
                _ => {}
            }
        }
        request.via_router = exactly_if_present(via_router)?.copied().map(PeerId);
        Ok(request)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint64(1, self.nonce)?;
        out.bool(2, self.from_alt_port)?;
        out.bytes(3, self.via_router.as_ref().map_or(&[], |id| &id.0))
    }
}

/// Your address, and who else looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReflectResp<'a> {
    /// The request's.
    pub nonce: u64,
    /// The address that the request came from, as multiaddr.
    pub observed: &'a [u8],
    /// The router's alternate port as multiaddr; empty: there is none.
    pub alternate: &'a [u8],
    /// The router that sends the probe.
    pub other_router: Option<PeerId>,
}

impl<'a> ReflectResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut other_router = &[][..];
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => response.nonce = value.uint64()?,
                2 => response.observed = value.bytes()?,
                3 => response.alternate = value.bytes()?,
                4 => other_router = value.bytes()?,
                _ => {}
            }
        }
        response.other_router = exactly_if_present(other_router)?.copied().map(PeerId);
        at_most(response.observed, MULTIADDR_BYTES_MAX)?;
        at_most(response.alternate, MULTIADDR_BYTES_MAX)?;
        Ok(response)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint64(1, self.nonce)?;
        out.bytes(2, self.observed)?;
        out.bytes(3, self.alternate)?;
        out.bytes(4, self.other_router.as_ref().map_or(&[], |id| &id.0))
    }
}
