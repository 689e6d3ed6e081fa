//! The requests of the protocol as calls: what they ask and what their answers mean.

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;

use super::blocking::Client;
use super::error::{Error, Refusal};
use super::peer::PLAINTEXT_MAX;
use super::requests::Answer;
use crate::identity::{self, Identity};
use crate::ids::{PeerId, WgKey};
use crate::wire::body::{
    self, Capabilities, FindNodeReq, FindNodeResp, IdentityBinding, NegotiateReq, NegotiateResp,
    Ping, Pong, ReflectReq, ReflectResp, feature,
};
use crate::wire::kind::Kind;
use crate::wire::{header, multiaddr};

/// Capabilities that this client asks for.
const WANTED: u64 =
    feature::STREAMING_CHUNKS | feature::REFLECT | feature::BOOT_ONLY | feature::GOAWAY;
/// A clock that runs ahead of the router's must not make a binding of the future.
const BINDING_BACKDATED_S: u64 = 300;
/// How long a binding of ours holds.
const BINDING_LIFE_S: u64 = 24 * 3600;

/// An answered PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// Round trip.
    pub rtt: Duration,
    /// How often the PING was sent.
    pub sends: u32,
    /// Our address as the router sees it.
    pub observed: Option<SocketAddr>,
    /// How busy the router is.
    pub load_permille: u32,
}

/// What NEGOTIATE agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Capabilities of both sides.
    pub capabilities: u64,
    /// Largest plaintext of both sides.
    pub max_msg_bytes: u32,
    /// Our address as the router sees it.
    pub observed: Option<SocketAddr>,
    /// Price of a write, in bits.
    pub stamp_bits: u32,
    /// Token to present next time.
    pub admission: Vec<u8>,
}

/// A peer of a FIND_NODE answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub peer: PeerId,
    /// Where, the observed address first.
    pub addresses: Vec<SocketAddr>,
    /// Its WireGuard key.
    pub key: WgKey,
    /// Round trip as the router measured it.
    pub rtt_ms: u32,
    /// Bits of [`body::flag`].
    pub flags: u32,
}

/// What REFLECT told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// Our address as the router sees it.
    pub observed: SocketAddr,
    /// The router's alternate port.
    pub alternate: Option<SocketAddr>,
    /// Another router that sends probes on this one's word.
    pub other_router: Option<PeerId>,
    /// Round trip.
    pub rtt: Duration,
}

impl Client {
    /// PING with `padding` bytes of padding.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Refused`], [`Error::Malformed`],
    /// [`Error::NoAnswer`] if the session was lost, [`Error::Socket`].
    pub fn ping(&mut self, padding: usize) -> Result<Pinged, Error> {
        let padding = vec![0; padding];
        let token = self.rng.next_u64();
        let ping = Ping { now_unix_ms: self.clock.now().unix_ms, padding: &padding, token };
        let answer = self.call(Kind::Ping, |out| ping.write(out))?;
        let pong = Pong::read(sole(&answer)).ok().filter(|pong| pong.token == token);
        let pong = pong.ok_or(Error::Malformed { request: Kind::Ping })?;
        Ok(Pinged {
            rtt: answer.elapsed,
            sends: answer.sends,
            observed: multiaddr::decode(pong.observed).ok(),
            load_permille: pong.load_permille,
        })
    }

    /// NEGOTIATE; with an identity the session stops being anonymous. The router
    /// must prove that it is the peer of the link.
    ///
    /// # Errors
    /// As [`Client::ping`]; [`Error::Unproven`], [`Error::WrongPeer`].
    pub fn negotiate(&mut self, identity: Option<&Identity>) -> Result<Agreement, Error> {
        let unix_s = self.clock.now().unix_s();
        let request = greeting(identity.map(|identity| binding(identity, unix_s)));
        let answer = self.call(Kind::NegotiateReq, |out| request.write(out))?;
        let malformed = Error::Malformed { request: Kind::NegotiateReq };
        let response = NegotiateResp::read(sole(&answer)).map_err(|_| malformed)?;
        self.check_router(&response, unix_s)?;
        let agreed = response.agreed.unwrap_or_default();
        let stamp_bits = response.stamp_bits;
        let agreement = Agreement {
            capabilities: agreed.bitmap,
            max_msg_bytes: agreed.max_msg_bytes,
            observed: multiaddr::decode(response.observed).ok(),
            stamp_bits,
            admission: response.admission.to_vec(),
        };
        self.stamp_bits = stamp_bits;
        Ok(agreement)
    }

    fn check_router(&self, response: &NegotiateResp<'_>, unix_s: u64) -> Result<(), Error> {
        let Some(binding) = &response.binding else {
            return Err(Error::NoBinding);
        };
        let found = identity::verify(binding, &self.link.key, unix_s).map_err(Error::Unproven)?;
        if found == self.link.peer {
            Ok(())
        } else {
            Err(Error::WrongPeer { expected: self.link.peer, found })
        }
    }

    /// FIND_NODE: the peers closest to `target` that the router knows.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn find_node(&mut self, target: &PeerId, limit: u32) -> Result<Vec<Found>, Error> {
        let request = FindNodeReq { target_id: *target, limit };
        let answer = self.call(Kind::FindNodeReq, |out| request.write(out))?;
        let mut found = Vec::new();
        for body in &answer.bodies {
            let malformed = |_| Error::Malformed { request: Kind::FindNodeReq };
            let chunk = FindNodeResp::read(body).map_err(malformed)?;
            found.extend(chunk.peers.iter().map(|peer| Found::of(&peer)));
        }
        Ok(found)
    }

    /// REFLECT: our address as the router sees it.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn reflect(&mut self) -> Result<Reflection, Error> {
        let nonce = self.rng.next_u64();
        self.reflect_with(ReflectReq { nonce, ..ReflectReq::default() })
    }

    /// REFLECT with whatever else is asked for.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn reflect_with(&mut self, request: ReflectReq<'_>) -> Result<Reflection, Error> {
        let answer = self.call(Kind::ReflectReq, |out| request.write(out))?;
        let malformed = || Error::Malformed { request: Kind::ReflectReq };
        let response = ReflectResp::read(sole(&answer)).ok().filter(|it| it.nonce == request.nonce);
        let response = response.ok_or_else(malformed)?;
        Ok(Reflection {
            observed: multiaddr::decode(response.observed).map_err(|_| malformed())?,
            alternate: multiaddr::decode(response.alternate).ok(),
            other_router: response.other_router,
            rtt: answer.elapsed,
        })
    }

    /// A request whose ERROR is an error.
    pub(super) fn call(
        &mut self,
        request: Kind,
        body: impl FnOnce(&mut body::Writer<'_>) -> Result<(), body::Overflow>,
    ) -> Result<Answer, Error> {
        self.exchange(request, body)?.unless_refused(request)
    }
}

impl Answer {
    /// The answer to `request`; an error if it is an ERROR.
    pub(super) fn unless_refused(self, request: Kind) -> Result<Self, Error> {
        match self.refusal() {
            None => Ok(self),
            Some(Ok(refusal)) => Err(Error::Refused { request, refusal }),
            Some(Err(_)) => Err(Error::Malformed { request }),
        }
    }

    /// What ERROR says, if this is one.
    pub fn refusal(&self) -> Option<Result<Refusal, body::BodyError>> {
        (self.kind == Kind::Error).then(|| {
            let error = body::Error::read(sole(self))?;
            let pause = u64::from(error.retry_after_ms);
            Ok(Refusal {
                code: error.code,
                reason: error.reason.to_owned(),
                retry_after: (pause > 0).then(|| Duration::from_millis(pause)),
                detail: error.detail,
            })
        })
    }
}

impl Found {
    pub(super) fn of(peer: &body::Peer<'_>) -> Self {
        Self {
            peer: peer.peer_id,
            addresses: peer.addrs.sockets().collect(),
            key: peer.wg_public,
            rtt_ms: peer.rtt_ms,
            flags: peer.flags,
        }
    }
}

/// What we want of a router, and who we are.
pub(super) fn greeting(binding: Option<IdentityBinding>) -> NegotiateReq<'static> {
    let want = Capabilities {
        version: u32::from(header::VERSION),
        bitmap: WANTED,
        max_msg_bytes: u32::try_from(PLAINTEXT_MAX).unwrap_or(u32::MAX),
    };
    NegotiateReq { want: Some(want), binding, admission: &[] }
}

/// A binding of ours from now on.
pub(super) fn binding(identity: &Identity, unix_s: u64) -> IdentityBinding {
    identity.binding(unix_s.saturating_sub(BINDING_BACKDATED_S), unix_s + BINDING_LIFE_S)
}

/// The body of an answer that is never chunked.
pub(super) fn sole(answer: &Answer) -> &[u8] {
    answer.bodies.first().map_or(&[], Vec::as_slice)
}
