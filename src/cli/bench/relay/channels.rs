//! The router as the relay: peers with identities, and a channel for every pair.

use std::net::SocketAddr;

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::client::session::{Initiator, Received};
use crate::client::wireguard::WireGuard;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::signing::consent;
use crate::wire::body::{
    Capabilities, ConsentToken, Error, NegotiateReq, Overflow, RelayAllocReq, RelayAllocResp,
    Writer, consent_scope, feature,
};
use crate::wire::channel::Channel;
use crate::wire::header::{Header, VERSION};
use crate::wire::kind::Kind;
use crate::wire::{self};

use super::super::fleet::RETRY;
use super::super::rig::{self, Server};
use super::lane::{self, Lane, Road};
use super::pairs::{End, Pair};

/// Datagrams before a router counts as dead.
const ATTEMPTS: usize = 20;
/// How long what peers sign is good for: longer than any run.
const LIFE_S: u64 = 1500;

/// A router that relays for every pair.
pub(super) struct Channels {
    pub(super) server: Server,
    pub(super) road: Road,
}

impl Channels {
    pub(super) fn open(server: Server, pairs: &mut [Pair]) -> Result<Self, String> {
        let mut rng = rig::random()?;
        let address = server.address();
        let mut lanes = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let mut sender = Peer::join(&mut pair.sender, &server, &mut rng)?;
            let mut receiver = Peer::join(&mut pair.receiver, &server, &mut rng)?;
            let sent = sender.allocate(&receiver)?;
            let came = receiver.offered()?;
            lanes.push(Lane {
                sent: lane::Header::Channel(sent),
                came: lane::Header::Channel(came),
                returns: false,
            });
        }
        Ok(Self { server, road: Road { server: address, lanes, burst: usize::MAX } })
    }
}

/// A session with the router, under an identity.
struct Peer<'e> {
    end: &'e mut End,
    router: SocketAddr,
    wireguard: WireGuard,
    identity: Identity,
    correlation: u32,
    /// What another peer's request gave this one.
    offer: Option<Channel>,
}

impl<'e> Peer<'e> {
    /// Shakes hands and says who it is.
    fn join(end: &'e mut End, server: &Server, rng: &mut ChaCha12Rng) -> Result<Self, String> {
        let identity = Identity::generate(rng);
        let wireguard = WireGuard::new(identity.wg_secret().clone(), server.key);
        let router = server.address();
        let mut peer = Self { end, router, wireguard, identity, correlation: 0, offer: None };
        peer.shake_hands(rng.next_u32())?;
        peer.negotiate()?;
        Ok(peer)
    }

    fn shake_hands(&mut self, index: u32) -> Result<(), String> {
        let mut out = [0; 2048];
        for _ in 0..ATTEMPTS {
            let initiated = self.wireguard.initiate(index, &mut out);
            let len = initiated.map_err(|refused| refused.to_string())?;
            self.end.say(self.router, &out[..len])?;
            for datagram in self.end.hear(self.router, RETRY)? {
                // Late answers to what was repeated are refused, and no harm.
                let received = self.wireguard.receive(&datagram, &mut out);
                if let Ok(Received::Established(confirmation)) = received {
                    return self.end.say(self.router, confirmation);
                }
            }
        }
        Err("the router does not shake hands".into())
    }

    fn negotiate(&mut self) -> Result<(), String> {
        let now_s = unix_s();
        let want = Capabilities {
            version: u32::from(VERSION),
            bitmap: feature::RELAY,
            max_msg_bytes: 1200,
        };
        let binding = self.identity.binding(now_s.saturating_sub(60), now_s + LIFE_S);
        let request =
            NegotiateReq { want: Some(want), binding: Some(binding), ..NegotiateReq::default() };
        self.ask(Kind::NegotiateReq, Kind::NegotiateResp, |out| request.write(out)).map(|_| ())
    }

    /// A channel to `other`, who consents.
    fn allocate(&mut self, other: &Self) -> Result<Channel, String> {
        let (us, them) = (self.identity.peer_id(), other.identity.peer_id());
        let signing = other.identity.signing_key();
        let token = consent::sign(signing, Some(us), consent_scope::RELAY, unix_s() + LIFE_S);
        let consent = encoded(&token)?;
        let request = RelayAllocReq {
            peer: them,
            consent: &consent,
            want_bps: 0,
            channel: 0,
            stock_wireguard: false,
        };
        let body = self.ask(Kind::RelayAllocReq, Kind::RelayAllocResp, |out| request.write(out))?;
        channel(&body)
    }

    /// The channel that it was offered.
    fn offered(&mut self) -> Result<Channel, String> {
        for _ in 0..ATTEMPTS {
            if let Some(channel) = self.offer.take() {
                return Ok(channel);
            }
            for datagram in self.end.hear(self.router, RETRY)? {
                self.open(&datagram, None)?;
            }
        }
        Err("the router offers no channel to the other leg".into())
    }

    /// Asks until it is answered; the body of the answer.
    fn ask(
        &mut self,
        kind: Kind,
        answer: Kind,
        write: impl Fn(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<Vec<u8>, String> {
        self.correlation += 1;
        let (mut clear, mut sealed) = ([0; 1200], [0; 2048]);
        let len = wire::encode(&mut clear, Header::request(kind, self.correlation), write);
        let len = len.map_err(|_| "a request longer than any".to_owned())?;
        for _ in 0..ATTEMPTS {
            let sealed_len = self.wireguard.seal(&clear[..len], &mut sealed);
            let sealed_len = sealed_len.ok_or("a session lost its keys")?;
            self.end.say(self.router, &sealed[..sealed_len])?;
            let mut found = None;
            for datagram in self.end.hear(self.router, RETRY)? {
                found = found.or(self.open(&datagram, Some(answer))?);
            }
            if let Some(body) = found {
                return Ok(body);
            }
        }
        Err(format!("no answer to {}", kind.name()))
    }

    /// Opens what came: the body of the answer that is waited for. Remembers an offer.
    fn open(&mut self, datagram: &[u8], wanted: Option<Kind>) -> Result<Option<Vec<u8>>, String> {
        let mut out = [0; 2048];
        let Ok(Received::Plaintext(plaintext)) = self.wireguard.receive(datagram, &mut out) else {
            return Ok(None);
        };
        let frame = wire::open(plaintext).map_err(|drop| drop.help().to_owned())?;
        let (_, header, body) = wire::split(frame);
        let answers = header.flags.is_response() && header.correlation == self.correlation;
        match Kind::try_from(header.kind) {
            Ok(Kind::RelayOffer) => self.offer = Some(channel(body)?),
            Ok(Kind::Error) if answers && wanted.is_some() => {
                let error = Error::read(body).unwrap_or_default();
                return Err(format!("the router refuses: {:?} {}", error.code, error.reason));
            }
            Ok(kind) if answers && Some(kind) == wanted => return Ok(Some(body.to_vec())),
            Ok(_) | Err(_) => {}
        }
        Ok(None)
    }
}

/// The leg that a RELAY_ALLOC_RESP or RELAY_OFFER speaks of.
fn channel(body: &[u8]) -> Result<Channel, String> {
    let response = RelayAllocResp::read(body).map_err(|error| format!("{error:?} of a relay"))?;
    let generation = u16::try_from(response.generation).map_err(|_| "a generation too large")?;
    Ok(Channel { generation, id: response.channel })
}

fn encoded(token: &ConsentToken) -> Result<Vec<u8>, String> {
    let mut bytes = [0; 256];
    let mut writer = Writer::new(&mut bytes);
    token.write(&mut writer).map_err(|_| "a consent longer than any".to_owned())?;
    let len = writer.len();
    Ok(bytes[..len].to_vec())
}

fn unix_s() -> u64 {
    Clock::start().now().unix_ms / 1000
}
