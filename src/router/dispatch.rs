//! From a plaintext to the handler of its type: one exhaustive match.

use crate::drops::Drop;
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::{Ping, Pong};
use crate::wire::{self, Class, Code, Kind, KindSet, Refusal, Rules, Verdict};

use super::{Request, Router, Source};

/// What has a handler here; every other type is UNSUPPORTED.
const HANDLED: KindSet = KindSet::of(&[
    Kind::Ping,
    Kind::NegotiateReq,
    Kind::FindNodeReq,
    Kind::FindValueReq,
    Kind::StoreReq,
    Kind::AnnounceProviderReq,
    Kind::ReflectReq,
    Kind::RendezvousReq,
    Kind::RendezvousResult,
    Kind::RelayAllocReq,
    Kind::RelayClose,
    Kind::TraceHint,
    Kind::CacheHint,
]);

impl<T: Tunnel> Router<T> {
    pub(super) fn plaintext(&mut self, now: Now, from: Source, plaintext: &[u8]) {
        let frame = match wire::open(plaintext) {
            Ok(frame) => frame,
            Err(reason) => return self.outbox.counters.drop(reason),
        };
        let (version, header, body) = wire::split(frame);
        let identified = self.identified(now, from.session);
        let rules = Rules { handled: HANDLED, plaintext_max: self.config.plaintext_bytes_max };
        let request = |class| Request { from, class, header, body };
        self.outbox.counters.received(Kind::try_from(header.kind).ok());
        match wire::check(&rules, version, &header, frame.len(), identified) {
            Verdict::Request(kind, class) => {
                self.heard_of(now, from.session);
                self.request(now, kind, &request(class));
            }
            Verdict::Response(kind) => self.response(now, kind, &request(kind.class())),
            Verdict::Refuse(Refusal { code, detail, class }) => {
                self.refuse(now, &request(class), code, detail);
            }
            Verdict::Ignore(reason) => self.drop_message(&request(Class::Hints), reason),
        }
    }

    fn request(&mut self, now: Now, kind: Kind, request: &Request<'_>) {
        match kind {
            Kind::Ping => self.ping(now, request),
            Kind::NegotiateReq => self.negotiate(now, request),
            Kind::FindNodeReq => self.find_node(now, request),
            Kind::FindValueReq => self.find_value(now, request),
            Kind::StoreReq | Kind::AnnounceProviderReq if !self.config.role.stores() => {
                self.refuse(now, request, Code::WrongRole, kind.id().into());
            }
            Kind::StoreReq => self.store(now, request),
            Kind::AnnounceProviderReq => self.announce(now, request),
            Kind::ReflectReq => self.reflect(now, request),
            Kind::RelayAllocReq | Kind::RelayClose if !self.config.role.relays() => {
                self.refuse(now, request, Code::WrongRole, kind.id().into());
            }
            Kind::RelayAllocReq => self.relay_alloc(now, request),
            Kind::RelayClose => self.relay_close(now, request),
            Kind::RendezvousReq => self.rendezvous(now, request),
            Kind::RendezvousResult => self.rendezvous_result(now, request),
            // Hints are never answered, and there is nothing to learn from them yet.
            Kind::TraceHint | Kind::CacheHint => {}
            Kind::Pong
            | Kind::NegotiateResp
            | Kind::FindNodeResp
            | Kind::FindValueResp
            | Kind::StoreResp
            | Kind::AnnounceProviderResp
            | Kind::ReflectResp
            | Kind::ReachReq
            | Kind::ReachResp
            | Kind::RendezvousResp
            | Kind::RendezvousNotify
            | Kind::RendezvousAck
            | Kind::RelayAllocResp
            | Kind::RelayStatus
            | Kind::RelayClosed
            | Kind::RelayOffer
            | Kind::Goaway
            | Kind::Error => unreachable!("`wire::check` lets only served requests pass"),
        }
    }

    fn response(&mut self, now: Now, kind: Kind, response: &Request<'_>) {
        if kind == Kind::RendezvousAck && self.acknowledged(now, response) {
            return self.heard_of(now, response.from.session);
        }
        if kind != Kind::Pong {
            return self.drop_message(response, Drop::UnknownCorrelation);
        }
        let Ok(pong) = Pong::read(response.body) else {
            return self.drop_message(response, Drop::Malformed);
        };
        let session = response.from.session;
        let correlation = response.header.correlation;
        if self.sessions.proved(now, session, correlation, pong.token) {
            self.heard_of(now, session);
            return;
        }
        if !self.liveness_answered(now, session, correlation, pong.token) {
            self.drop_message(response, Drop::UnknownCorrelation);
        }
    }

    fn drop_message(&mut self, message: &Request<'_>, reason: Drop) {
        self.outbox.counters.drop(reason);
        self.outbox.counters.message_dropped(message.kind());
    }

    fn ping(&mut self, now: Now, request: &Request<'_>) {
        let Ok(ping) = Ping::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let observed = wire::multiaddr::encode(request.from.path.peer);
        let pong = Pong {
            now_unix_ms: now.unix_ms,
            observed: observed.as_ref(),
            load_permille: self.load_permille,
            token: ping.token,
            echo_unix_ms: ping.now_unix_ms,
        };
        self.answer(now, request, Kind::Pong, |body| pong.write(body));
    }
}
