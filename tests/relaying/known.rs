//! Peers with an identity, and channels between them.

use std::net::SocketAddr;

use molia_router::identity::Identity;
use molia_router::ids::PeerId;
use molia_router::net::Path;
use molia_router::router::Config;
use molia_router::signing::consent;
use molia_router::wire::body::{
    Error, Overflow, RelayAllocReq, RelayAllocResp, Writer, consent_scope,
};
use molia_router::wire::channel::Channel;
use molia_router::wire::{Code, Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::support::{Bench, Peer};

/// 2026-01-01.
pub(crate) const NOW_S: u64 = 1_767_225_600;

/// A peer with an identity.
pub(crate) struct Known {
    pub(crate) identity: Identity,
    pub(crate) peer: Peer,
}

/// A leg as its peer was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) channel: Channel,
    pub(crate) other: PeerId,
}

impl Leg {
    pub(crate) fn of(body: &[u8]) -> Self {
        let told = RelayAllocResp::read(body).unwrap();
        let generation = u16::try_from(told.generation).unwrap();
        assert_eq!((told.lifetime_s, told.inner_mtu), (3600, 1192));
        Self { channel: Channel { generation, id: told.channel }, other: told.peer }
    }
}

/// What left, with where to.
pub(crate) type Sent = Vec<(SocketAddr, Vec<u8>)>;

pub(crate) fn sent(sent: Vec<(Path, Vec<u8>)>) -> Sent {
    sent.into_iter().map(|(path, bytes)| (path.peer, bytes)).collect()
}

impl Known {
    pub(crate) fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub(crate) fn consent(&self, subject: Option<PeerId>) -> Vec<u8> {
        self.consent_from(NOW_S, subject)
    }

    fn consent_from(&self, unix_s: u64, subject: Option<PeerId>) -> Vec<u8> {
        let scope = consent_scope::RELAY;
        let token = consent::sign(self.identity.signing_key(), subject, scope, unix_s + 600);
        let mut bytes = [0; 256];
        let mut out = Writer::new(&mut bytes);
        token.write(&mut out).unwrap();
        let len = out.len();
        bytes[..len].to_vec()
    }

    /// Sends a request; returns what left because of it.
    pub(crate) fn request(
        &mut self,
        bench: &mut Bench,
        kind: Kind,
        correlation: u32,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Sent {
        let sealed = self.peer.seal(Header::request(kind, correlation), body);
        sent(bench.deliver(self.peer.path(), &sealed))
    }

    pub(crate) fn allocate(&mut self, bench: &mut Bench, other: PeerId, consent: &[u8]) -> Sent {
        let request =
            RelayAllocReq { peer: other, consent, want_bps: 0, channel: 0, stock_wireguard: false };
        self.request(bench, Kind::RelayAllocReq, 77, |body| request.write(body))
    }

    /// The code of an ERROR for this peer.
    pub(crate) fn refusal(&mut self, sent: &Sent) -> Code {
        let [(_, bytes)] = &sent[..] else { panic!("one answer, not {}", sent.len()) };
        let (header, body) = self.peer.frame(bytes);
        assert_eq!(header.kind, Kind::Error.id());
        Error::read(&body).unwrap().code
    }
}

/// Routers of one shard and of three: seeds are such that peers, ids and channels are spread.
pub(crate) fn each_size(test: impl Fn(Bench)) {
    for shards in [1, 3] {
        test(Bench::sharded(config(), shards));
    }
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.tunnel.sessions_max = 1024;
    config.egress.sessions_max = 1024;
    config.relay.channels_max = 64;
    config.own = ["9.9.9.9".parse().unwrap()].into();
    config
}

pub(crate) fn join(bench: &mut Bench, seed: u64, address: &str) -> Known {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1000 + seed));
    let peer = bench.identified(&identity, address);
    Known { identity, peer }
}

/// A tunnel key more for a peer, bound to it since then.
pub(crate) fn join_again(
    bench: &mut Bench,
    who: &Known,
    (seed, unix_s): (u64, u64),
    address: &str,
) -> Known {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(2000 + seed));
    let is_tunnels = |line: &&str| line.starts_with("x25519 ");
    let (old, new) = (who.identity.encode(), identity.encode());
    let kept = old.lines().filter(|line| !is_tunnels(line));
    let lines: Vec<_> = kept.chain(new.lines().filter(is_tunnels)).collect();
    let identity = Identity::decode(&lines.join("\n")).unwrap();
    let peer = bench.identified_since(&identity, address, unix_s);
    Known { identity, peer }
}

/// A channel that `a` asks for and `b` is offered.
pub(crate) fn channel(bench: &mut Bench, a: &mut Known, b: &mut Known) -> (Leg, Leg) {
    let consent = b.consent_from(bench.now.unix_s(), Some(a.id()));
    let told = a.allocate(bench, b.id(), &consent);
    let [(to_one, one), (to_other, other)] = &told[..] else { panic!("two, not {}", told.len()) };
    let (mut answer, mut offer) = (one, other);
    if *to_one != a.peer.path().peer {
        (answer, offer) = (other, one);
        assert_eq!((*to_one, *to_other), (b.peer.path().peer, a.peer.path().peer));
    }
    let (header, body) = a.peer.frame(answer);
    assert_eq!((header.kind, header.correlation), (Kind::RelayAllocResp.id(), 77));
    let leg = Leg::of(&body);
    let (header, body) = b.peer.frame(offer);
    assert_eq!(header.kind, Kind::RelayOffer.id());
    (leg, Leg::of(&body))
}
