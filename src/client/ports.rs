//! Ports of a router for tunnels of unmodified WireGuard.

use std::time::Duration;

use super::blocking::Client;
use super::calls::sole;
use super::error::Error;
use crate::ids::PeerId;
use crate::wire::body::{RelayAllocReq, RelayAllocResp};
use crate::wire::kind::Kind;

/// The port that our end of a tunnel sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortGrant {
    /// At the address by which we reach the router.
    pub port: u16,
    /// Silence after which it is closed.
    pub idle: Duration,
    /// Bits a second that may be sent for long; `u64::MAX` without a limit.
    pub rate_bps: u64,
    /// Bytes that may be sent at once.
    pub burst_bytes: u64,
    /// Largest packet inside the tunnel, in bytes.
    pub inner_mtu: u32,
}

impl Client {
    /// A port for our end of a tunnel with `other`: the one there is, or, with that peer's consent,
    /// a new one. The tunnel has to use the WireGuard key of the identity that was negotiated.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn wireguard_port(&mut self, other: &PeerId, consent: &[u8]) -> Result<PortGrant, Error> {
        let request =
            RelayAllocReq { peer: *other, consent, want_bps: 0, channel: 0, stock_wireguard: true };
        let answer = self.call(Kind::RelayAllocReq, |out| request.write(out))?;
        let malformed = || Error::Malformed { request: Kind::RelayAllocReq };
        let response = RelayAllocResp::read(sole(&answer)).map_err(|_| malformed())?;
        let address = response.relay_addrs.sockets().next().ok_or_else(malformed)?;
        Ok(PortGrant {
            port: address.port(),
            idle: Duration::from_secs(response.idle_timeout_s.into()),
            rate_bps: response.rate_bps,
            burst_bytes: response.burst_bytes,
            inner_mtu: response.inner_mtu,
        })
    }
}
