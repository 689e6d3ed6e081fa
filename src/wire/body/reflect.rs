//! REFLECT: what address do others see?

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most, exactly_if_present};
use crate::ids::{PeerId, WgKey};
use crate::limits::MULTIADDR_BYTES_MAX;

/// Tell me my address, and perhaps try it from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReflectReq<'a> {
    /// Drawn at random; the probe carries it.
    pub nonce: u64,
    /// Send a filter probe from the alternate port.
    pub from_alt_port: bool,
    /// Have this router send a filter probe.
    pub via_router: Option<PeerId>,
    /// Between routers: where to send the filter probe, as multiaddr; empty: nowhere else.
    pub probe_target: &'a [u8],
    /// Between routers: the WireGuard key of the peer that it is for.
    pub probe_key: Option<WgKey>,
    /// Send a filter probe from the port that was asked after so many seconds; 0: none.
    pub after_s: u32,
}

impl<'a> ReflectReq<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut request = Self::default();
        let mut via_router = &[][..];
        let mut probe_key = &[][..];
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => request.nonce = value.uint64()?,
                2 => request.from_alt_port = value.bool()?,
                3 => via_router = value.bytes()?,
                4 => request.probe_target = value.bytes()?,
                5 => probe_key = value.bytes()?,
                6 => request.after_s = value.uint32()?,
                _ => {}
            }
        }
        request.via_router = exactly_if_present(via_router)?.copied().map(PeerId);
        request.probe_key = exactly_if_present(probe_key)?.copied().map(WgKey);
        at_most(request.probe_target, MULTIADDR_BYTES_MAX)?;
        Ok(request)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint64(1, self.nonce)?;
        out.bool(2, self.from_alt_port)?;
        out.bytes(3, self.via_router.as_ref().map_or(&[], |id| &id.0))?;
        out.bytes(4, self.probe_target)?;
        out.bytes(5, self.probe_key.as_ref().map_or(&[], |key| &key.0))?;
        out.uint32(6, self.after_s)
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
    /// The router that can be asked to send probes too.
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
