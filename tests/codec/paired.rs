//! Introductions, relay channels and consent: the oracle for those messages.

use molia_router::ids::{PeerId, WgKey};
use molia_router::wire::body::{
    Addrs, BodyError, ConsentToken, Outcome, Overflow, RelayAllocReq, RelayAllocResp, RelayClose,
    RelayStatus, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult,
    RendezvousStatus, Writer,
};
use molia_router::wire::proto;
use molia_router::wire::proto::{rendezvous_resp, rendezvous_result};

use super::oracle::{LEAF, Schema, Twin, addrs_allowed, addrs_of, id, multiaddrs, none_or};

fn peer_id(bytes: &[u8]) -> PeerId {
    id(bytes).unwrap()
}

/// Of a code, to the type that prost has for it.
fn code(wire: u32) -> i32 {
    i32::try_from(wire).unwrap()
}

/// A code that prost has, as it is on the wire.
fn wire(code: i32) -> u32 {
    u32::try_from(code).unwrap()
}

impl Twin for proto::RendezvousReq {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        self.target_peer_id.len() == 32
            && addrs_allowed(&self.candidates, 8)
            && self.consent.len() <= 256
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = RendezvousReq::read(body)?;
        Ok(Self {
            target_peer_id: ours.target.0.to_vec(),
            candidates: addrs_of(ours.candidates),
            nat_mapping: ours.nat_mapping,
            nat_filtering: ours.nat_filtering,
            consent: ours.consent.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        RendezvousReq {
            target: peer_id(&self.target_peer_id),
            candidates: Addrs::of(&multiaddrs(&self.candidates)),
            nat_mapping: self.nat_mapping,
            nat_filtering: self.nat_filtering,
            consent: &self.consent,
        }
        .write(out)
    }
}

impl Twin for proto::RendezvousResp {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        addrs_allowed(&self.candidates, 8)
            && none_or(&self.attempt_secret, 32)
            && self.consent.len() <= 256
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = RendezvousResp::read(body)?;
        Ok(Self {
            status: code(ours.status.to_wire()),
            candidates: addrs_of(ours.candidates),
            attempt_secret: ours.attempt_secret.map_or(Vec::new(), |secret| secret.to_vec()),
            fire_after_ms: ours.fire_after_ms,
            windows: ours.windows,
            window_ms: ours.window_ms,
            consent: ours.consent.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        RendezvousResp {
            status: RendezvousStatus::of_wire(wire(self.status)),
            candidates: Addrs::of(&multiaddrs(&self.candidates)),
            attempt_secret: self.attempt_secret[..].try_into().ok(),
            fire_after_ms: self.fire_after_ms,
            windows: self.windows,
            window_ms: self.window_ms,
            consent: &self.consent,
        }
        .write(out)
    }
    /// Statuses that the page does not have say nothing.
    fn blurred(self) -> Self {
        let known = rendezvous_resp::Status::is_valid(self.status);
        Self { status: if known { self.status } else { 0 }, ..self }
    }
}

impl Twin for proto::RendezvousNotify {
    const SCHEMA: Schema = Schema(&[(3, &LEAF)]);
    fn allowed(&self) -> bool {
        let lens = [&self.requester_peer_id, &self.wg_public, &self.attempt_secret].map(Vec::len);
        lens == [32; 3] && addrs_allowed(&self.candidates, 8) && self.consent.len() <= 256
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = RendezvousNotify::read(body)?;
        Ok(Self {
            requester_peer_id: ours.requester.0.to_vec(),
            wg_public: ours.wg_public.0.to_vec(),
            candidates: addrs_of(ours.candidates),
            attempt_secret: ours.attempt_secret.to_vec(),
            fire_after_ms: ours.fire_after_ms,
            windows: ours.windows,
            window_ms: ours.window_ms,
            consent: ours.consent.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        RendezvousNotify {
            requester: peer_id(&self.requester_peer_id),
            wg_public: WgKey(self.wg_public[..].try_into().unwrap()),
            candidates: Addrs::of(&multiaddrs(&self.candidates)),
            attempt_secret: self.attempt_secret[..].try_into().unwrap(),
            fire_after_ms: self.fire_after_ms,
            windows: self.windows,
            window_ms: self.window_ms,
            consent: &self.consent,
        }
        .write(out)
    }
}

impl Twin for proto::RendezvousAck {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        addrs_allowed(&self.candidates, 8) && self.consent.len() <= 256
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = RendezvousAck::read(body)?;
        Ok(Self {
            accept: ours.accept,
            candidates: addrs_of(ours.candidates),
            nat_mapping: ours.nat_mapping,
            nat_filtering: ours.nat_filtering,
            consent: ours.consent.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        RendezvousAck {
            accept: self.accept,
            candidates: Addrs::of(&multiaddrs(&self.candidates)),
            nat_mapping: self.nat_mapping,
            nat_filtering: self.nat_filtering,
            consent: &self.consent,
        }
        .write(out)
    }
}

impl Twin for proto::RendezvousResult {
    fn allowed(&self) -> bool {
        self.other_peer_id.len() == 32
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let RendezvousResult { other, outcome, rtt_ms } = RendezvousResult::read(body)?;
        let outcome = code(outcome.to_wire());
        Ok(Self { other_peer_id: other.0.to_vec(), outcome, rtt_ms })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { ref other_peer_id, outcome, rtt_ms } = self;
        let (other, outcome) = (peer_id(other_peer_id), Outcome::of_wire(wire(outcome)));
        RendezvousResult { other, outcome, rtt_ms }.write(out)
    }
    /// Outcomes that the page does not have say nothing.
    fn blurred(self) -> Self {
        let known = rendezvous_result::Outcome::is_valid(self.outcome);
        Self { outcome: if known { self.outcome } else { 0 }, ..self }
    }
}

impl Twin for proto::RelayAllocReq {
    fn allowed(&self) -> bool {
        self.peer_id.len() == 32 && self.consent.len() <= 256
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let RelayAllocReq { peer, consent, want_bps, channel, stock_wireguard } =
            RelayAllocReq::read(body)?;
        let (peer_id, consent) = (peer.0.to_vec(), consent.to_vec());
        Ok(Self { peer_id, consent, want_bps, channel, stock_wireguard })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { peer_id: ref peer, ref consent, want_bps, channel, stock_wireguard } = self;
        let peer = peer_id(peer);
        RelayAllocReq { peer, consent, want_bps, channel, stock_wireguard }.write(out)
    }
}

impl Twin for proto::RelayAllocResp {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        self.peer_id.len() == 32 && addrs_allowed(&self.relay_addrs, 4)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = RelayAllocResp::read(body)?;
        Ok(Self {
            channel: ours.channel,
            relay_addrs: addrs_of(ours.relay_addrs),
            lifetime_s: ours.lifetime_s,
            idle_timeout_s: ours.idle_timeout_s,
            rate_bps: ours.rate_bps,
            burst_bytes: ours.burst_bytes,
            inner_mtu: ours.inner_mtu,
            peer_id: ours.peer.0.to_vec(),
            generation: ours.generation,
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        RelayAllocResp {
            channel: self.channel,
            relay_addrs: Addrs::of(&multiaddrs(&self.relay_addrs)),
            lifetime_s: self.lifetime_s,
            idle_timeout_s: self.idle_timeout_s,
            rate_bps: self.rate_bps,
            burst_bytes: self.burst_bytes,
            inner_mtu: self.inner_mtu,
            peer: peer_id(&self.peer_id),
            generation: self.generation,
        }
        .write(out)
    }
}

impl Twin for proto::RelayStatus {
    fn allowed(&self) -> bool {
        true
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let RelayStatus { channel, used_bytes, rate_bps, throttled, retry_after_ms } =
            RelayStatus::read(body)?;
        Ok(Self { channel, used_bytes, rate_bps, throttled, retry_after_ms })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { channel, used_bytes, rate_bps, throttled, retry_after_ms } = self;
        RelayStatus { channel, used_bytes, rate_bps, throttled, retry_after_ms }.write(out)
    }
}

impl Twin for proto::RelayClose {
    fn allowed(&self) -> bool {
        true
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let RelayClose { channel, reason } = RelayClose::read(body)?;
        Ok(Self { channel, reason })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { channel, reason } = self;
        RelayClose { channel, reason }.write(out)
    }
}

impl Twin for proto::ConsentToken {
    fn allowed(&self) -> bool {
        self.issuer_pubkey.len() == 32
            && none_or(&self.subject_peer_id, 32)
            && self.signature.len() == 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = ConsentToken::read(body)?;
        Ok(Self {
            issuer_pubkey: ours.issuer_pubkey.to_vec(),
            subject_peer_id: ours.subject.map_or(Vec::new(), |subject| subject.0.to_vec()),
            scope: ours.scope,
            expires_unix_s: ours.expires_unix_s,
            signature: ours.signature.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        ConsentToken {
            issuer_pubkey: self.issuer_pubkey[..].try_into().unwrap(),
            subject: id(&self.subject_peer_id),
            scope: self.scope,
            expires_unix_s: self.expires_unix_s,
            signature: self.signature[..].try_into().unwrap(),
        }
        .write(out)
    }
}
