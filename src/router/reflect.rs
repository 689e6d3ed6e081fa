//! REFLECT: what address a peer is seen at, and probes that tell it what its NAT lets in.
//!
//! A probe goes to the address that the request came from, and only if the session proved it; the
//! other router's goes where that one says, because both were told to help each other. So nobody
//! can aim one at somebody else. Whoever asks for too many is told, and never left to believe
//! that its NAT swallowed what was not sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bucket::{BucketTable, Keyed, Rate, TokenBucket};
use crate::ids::{PeerId, SessionRef, WgKey};
use crate::net::{Local, Outlet, Path, Prefix, target};
use crate::time::{Moment, Now};
use crate::tunnel::{Session, Tunnel};
use crate::wire::body::{ReflectReq, ReflectResp};
use crate::wire::{self, Code, Kind, Multiaddr, multiaddr};

use super::probes::{Probe, ProbedFrom};
use super::rendezvous::SERVICE_PORTS;
use super::{Request, Router};

/// Probes that one session may ask for.
const PROBES: Rate = Rate::new(2, 8);
/// Those that the other router may ask for, on behalf of all its peers.
const PROBES_OF_OTHER: Rate = Rate::new(100, 400);
/// Those by the other router that the sessions of one network may ask for in a shard: it is asked for
/// one after another.
const PROBES_VIA: Rate = Rate::new(10, 40);
/// Networks whose probes are counted apart.
const PROBING_NETWORKS: usize = 1024;
/// Longest wait of a probe in seconds: no NAT has to keep a silent mapping longer (RFC 4787,
/// section 4.3, recommends five minutes).
pub(super) const AFTER_S_MAX: u32 = 300;
/// Probes that may wait to be handed to the other router.
const WANTED_MAX: usize = 64;
/// The alternate port's socket.
const ALTERNATE: u16 = 1;

/// A probe that the other router is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The request's.
    pub nonce: u64,
    /// Where to.
    pub target: SocketAddr,
    /// The WireGuard key of the peer there.
    pub key: WgKey,
}

/// What passes between this shard and the thread that speaks with the other router.
#[derive(Debug, Default)]
pub(super) struct Cooperation {
    /// The other router, while there is a session with it.
    connected: Option<PeerId>,
    wanted: VecDeque<Wanted>,
}

/// What is left of every network's probes by the other router.
pub(super) fn probes_via(keyed: Keyed) -> BucketTable<Prefix> {
    BucketTable::new(PROBING_NETWORKS, PROBES_VIA, keyed)
}

impl<T: Tunnel> Router<T> {
    pub(super) fn reflect(&mut self, now: Now, request: &Request<'_>) {
        if !self.config.reflect {
            return self.refuse(now, request, Code::Unsupported, u32::from(request.header.kind));
        }
        let asked = ReflectReq::read(request.body).ok().filter(|it| it.after_s <= AFTER_S_MAX);
        let Some(asked) = asked else { return self.refuse(now, request, Code::Invalid, 0) };
        let probed = match (asked.probe_target, asked.probe_key) {
            ([], None) => self.probe_asker(now, request, &asked),
            ([], Some(_)) | (_, None) => Err(Code::Invalid),
            (target, Some(key)) => self.probe_for_other(now, request, asked.nonce, target, key),
        };
        if let Err(code) = probed {
            return self.refuse(now, request, code, 0);
        }
        let observed = multiaddr::encode(request.from.path.peer);
        let alternate = self.alternate(&request.from.path.local);
        let answer = ReflectResp {
            nonce: asked.nonce,
            observed: observed.as_ref(),
            alternate: alternate.as_ref().map_or(&[], |it| it.as_ref()),
            other_router: self.cooperation.connected,
        };
        self.answer(now, request, Kind::ReflectResp, |body| answer.write(body));
    }

    /// The alternate port at the address that was asked.
    fn alternate(&self, local: &Local) -> Option<Multiaddr> {
        let asked = local.ip.filter(|ip| !ip.is_unspecified());
        let sole = match &self.config.own[..] {
            [sole] => Some(*sole),
            _ => None,
        };
        let ip = asked.or(sole).filter(|_| self.config.alternate_port > 0)?;
        Some(multiaddr::encode(SocketAddr::new(ip, self.config.alternate_port)))
    }

    /// Sends who asks the probes that it asks for.
    fn probe_asker(
        &mut self,
        now: Now,
        request: &Request<'_>,
        asked: &ReflectReq<'_>,
    ) -> Result<(), Code> {
        let alternate = asked.from_alt_port && self.config.alternate_port > 0;
        let via = asked.via_router.is_some();
        let later = asked.after_s > 0;
        let probes = [alternate, via, later].into_iter().filter(|wanted| *wanted).count() as u64;
        if probes == 0 {
            return Ok(());
        }
        let (session, path) = (request.from.session, request.from.path);
        // A forged or late datagram is no word of where the peer is.
        let proven = |it: &&Session| it.proven() && it.path().peer == path.peer;
        let tenant = self.sessions.session(session).filter(proven).ok_or(Code::Busy)?;
        let key = *tenant.key();
        if target::forbidden(&path.peer, &self.config.own, self.config.allow_private).is_some() {
            return Err(Code::Unauthorized);
        }
        if via && asked.via_router != self.cooperation.connected {
            return Err(Code::NotFound);
        }
        if via && path.peer.port() < SERVICE_PORTS {
            // The other router has but our word for the address, and would refuse.
            return Err(Code::Unauthorized);
        }
        let network = *tenant.network();
        let peer = self.peers.at(session);
        let left = peer.probes_left.get_or_insert_with(|| TokenBucket::full(&PROBES, now.at));
        if !left.take(now.at, &PROBES, probes) {
            return Err(Code::RateLimited);
        }
        // Last, so that nobody uses up what is others' with requests that are refused.
        if via && !self.probes_via.take(now.at, &network, 1) {
            return Err(Code::RateLimited);
        }
        let nonce = asked.nonce;
        let from = |from, path| Probe { path, nonce, key, from };
        let local = Local { socket: ALTERNATE, ..path.local };
        let mut taken = true;
        if alternate {
            taken &= self.probes.send(from(ProbedFrom::Alternate, Path { local, ..path }));
        }
        if later {
            let at = now.at + Duration::from_secs(asked.after_s.into());
            let probe = from(ProbedFrom::Main, path);
            taken &= self.probes.send_at(at, session, &mut peer.probes_waiting, probe);
        }
        if via {
            taken &= self.cooperation.wanted.len() < WANTED_MAX;
            if taken {
                self.cooperation.wanted.push_back(Wanted { nonce, target: path.peer, key });
            }
        }
        if taken { Ok(()) } else { Err(Code::Busy) }
    }

    /// The other router asks for a probe to a peer of its own.
    fn probe_for_other(
        &mut self,
        now: Now,
        request: &Request<'_>,
        nonce: u64,
        target: &[u8],
        key: WgKey,
    ) -> Result<(), Code> {
        let peer = self.peers.at(request.from.session);
        let asks = peer.identity.map(|bound| bound.peer_id);
        if asks.is_none() || asks != self.config.other_router {
            return Err(Code::Unauthorized);
        }
        let target = multiaddr::decode(target).map_err(|_| Code::Invalid)?;
        let service = target.port() < SERVICE_PORTS;
        if service
            || target::forbidden(&target, &self.config.own, self.config.allow_private).is_some()
        {
            // Unauthorized would say that we help that router no more.
            return Err(Code::Invalid);
        }
        let full = || TokenBucket::full(&PROBES_OF_OTHER, now.at);
        if !peer.probes_left.get_or_insert_with(full).take(now.at, &PROBES_OF_OTHER, 1) {
            return Err(Code::RateLimited);
        }
        // From the address that the other router knows us by.
        let local = Local { socket: 0, ..request.from.path.local };
        // A peer of the other family is reached from some other address of ours.
        let same = local.ip.is_some_and(|ip| ip.is_ipv4() == target.is_ipv4());
        let path = Path { peer: target, local: if same { local } else { Local::default() } };
        let sent = self.probes.send(Probe { path, nonce, key, from: ProbedFrom::Other });
        if sent { Ok(()) } else { Err(Code::Busy) }
    }

    /// Makes the probes leave whose time has come.
    pub(super) fn poll_probes(&mut self, now: Now) {
        while let Some(session) = self.probes.due(now.at) {
            if self.sessions.session(session).is_some() {
                let waiting = &mut self.peers.at(session).probes_waiting;
                *waiting = waiting.saturating_sub(1);
            }
        }
    }

    pub(super) fn probes_deadline(&self) -> Moment {
        self.probes.next_deadline()
    }

    /// The session is over, and so is what it asked for.
    pub(super) fn forget_probes(&mut self, session: SessionRef) {
        if std::mem::take(&mut self.peers.at(session).probes_waiting) > 0 {
            self.probes.cancel(session);
        }
    }

    /// Sends the probes that are to leave, as long as there is room.
    pub(super) fn transmit_probes(&mut self, outlet: &mut impl Outlet) {
        while outlet.room() > 0
            && let Some(probe) = self.probes.next()
        {
            let bytes = wire::probe::filter_write(probe.nonce, &probe.key);
            self.outbox.counters.probed(probe.from);
            self.outbox.send_raw(probe.path, &bytes, outlet);
        }
    }

    /// Which router helps this one at the moment: it is named in answers, and gets what peers
    /// [want](Self::take_wanted) of it.
    pub fn set_other_router(&mut self, connected: Option<PeerId>) {
        self.cooperation.connected = connected;
    }

    /// A probe that the other router is to send, until `None`.
    pub fn take_wanted(&mut self) -> Option<Wanted> {
        self.cooperation.wanted.pop_front()
    }
}
