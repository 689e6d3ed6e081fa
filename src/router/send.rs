//! From a handler's answer to the port: encode, queue, seal.

use bufpool::{Buf, Pool};

use crate::counters::Counters;
use crate::drops::Drop;
use crate::egress::{Egress, Next, Offered, Outgoing};
use crate::limits;
use crate::net::{Outlet, Path, Transmit};
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::{Error, Overflow, Writer};
use crate::wire::{self, Class, Code, Header, Kind};

use super::{Request, Router, Source};

/// Where a plaintext has its type: behind the shim and the version.
const KIND_AT: usize = limits::SHIM_BYTES + 1;

/// When to ask again for what a session may not have that often: signature checks.
const RETRY_AFTER_MS: u32 = 250;
/// When to ask again for what there is no room for now.
const RETRY_BUSY_MS: u32 = 1000;

/// Everything an answer needs on its way into the queues, apart from who asked.
pub(super) struct Outbox {
    pub(super) egress: Egress,
    /// Slots for everything this router writes itself.
    pub(super) pool: Pool,
    pub(super) counters: Counters,
    /// Code point of what control is sent with; everything else has none.
    pub(super) dscp_control: u8,
}

impl Outbox {
    /// Encodes one frame of at most `limit` bytes of plaintext and queues it. Returns whether it
    /// is in a queue now; why not is counted.
    pub(super) fn offer(
        &mut self,
        now: Now,
        to: &Source,
        class: Class,
        limit: usize,
        header: Header,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> bool {
        let Some(mut buf) = self.take() else { return false };
        let Ok(len) = wire::encode(&mut buf.spare_mut()[..limit], header, body) else {
            self.counters.drop(Drop::TooLarge);
            return false;
        };
        buf.grow(len);
        let (session, prefix) = (to.session, to.prefix);
        let outgoing = Outgoing { session, prefix, class, coalesce: None, buf };
        match self.egress.offer(now.at, outgoing) {
            Offered::Enqueued | Offered::Coalesced => true,
            Offered::Dropped(reason) => {
                self.counters.drop(reason);
                false
            }
        }
    }

    fn count_sent(&self, plaintext: &[u8]) {
        if let Some(Ok(kind)) = plaintext.get(KIND_AT).map(|kind| Kind::try_from(*kind)) {
            self.counters.sent(kind);
        }
    }

    pub(super) fn take(&mut self) -> Option<Buf> {
        let buf = self.pool.take();
        if buf.is_none() {
            self.counters.drop(Drop::NoBuffer);
        }
        buf
    }

    /// Sends a datagram that is already sealed: handshake answers, keepalives, challenges. They
    /// are control, room or not: they have no queue, and a link that is full of hints would keep everybody out for good
    /// if they were dropped without it. An outlet has some places beyond its room.
    pub(super) fn send_raw(&mut self, path: Path, bytes: &[u8], outlet: &mut impl Outlet) {
        let Some(mut buf) = self.take() else { return };
        assert!(buf.extend(bytes), "WireGuard's own messages fit a slot");
        let segment = buf.len();
        outlet.send(Transmit { path, buf, segment, dscp: self.dscp_control });
    }

    fn dscp(&self, class: Class) -> u8 {
        if class == Class::Control { self.dscp_control } else { 0 }
    }
}

impl<T: Tunnel> Router<T> {
    /// Answers `request` with one frame of type `kind`.
    pub(super) fn answer(
        &mut self,
        now: Now,
        request: &Request<'_>,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        let header = Header::response(kind, request.header.correlation).in_class(request.class);
        let limit = self.peers.at(request.from.session).plaintext_limit();
        if !self.outbox.offer(now, &request.from, request.class, limit, header, body) {
            self.outbox.counters.message_dropped(request.kind());
        }
    }

    /// Answers `request` with ERROR.
    pub(super) fn refuse(&mut self, now: Now, request: &Request<'_>, code: Code, detail: u32) {
        let retry_after_ms = if code == Code::RateLimited {
            RETRY_AFTER_MS
        } else if code == Code::Busy {
            RETRY_BUSY_MS
        } else {
            0
        };
        let error = Error { code, reason: code.label(), retry_after_ms, detail };
        self.outbox.counters.error_sent(code);
        self.answer(now, request, Kind::Error, |body| error.write(body));
    }

    /// Sends what the queues hold as long as there is room. The rest waits there, where weights,
    /// age and newer content decide what becomes of it.
    pub fn transmit(&mut self, now: Now, outlet: &mut impl Outlet) {
        self.transmit_probes(outlet);
        while outlet.room() > 0 {
            // By turns, so that neither keeps the other from leaving.
            let own = self.send_own(now, outlet);
            let relayed = outlet.room() > 0 && self.send_relayed(now, outlet);
            if !own && !relayed {
                break;
            }
        }
        self.blocked = outlet.room() == 0;
        self.count_lost();
        while let Some((_, reason)) = self.outbox.egress.expire(now.at) {
            self.outbox.counters.drop(reason);
        }
    }

    /// Seals and sends the next frame, or drops one that waited too long. Whether there was one.
    fn send_own(&mut self, now: Now, outlet: &mut impl Outlet) -> bool {
        match self.outbox.egress.next(now.at) {
            Some(Next::Send(outgoing, _)) => match self.seal(now, outgoing) {
                Ok(transmit) => outlet.send(transmit),
                Err(reason) => self.outbox.counters.drop(reason),
            },
            Some(Next::Dropped(_, reason)) => self.outbox.counters.drop(reason),
            None => return false,
        }
        true
    }

    fn seal(&mut self, now: Now, outgoing: Outgoing) -> Result<Transmit, Drop> {
        let Outgoing { session, class, buf: frame, .. } = outgoing;
        let dscp = self.outbox.dscp(class);
        if let Some(mut buf) = self.outbox.pool.take() {
            let (path, len) = self.sessions.seal(now, session, &frame, buf.spare_mut())?;
            self.outbox.count_sent(&frame);
            buf.grow(len);
            return Ok(Transmit { path, buf, segment: len, dscp });
        }
        // The queues hold every slot: the frame's own takes the sealed bytes, one copy later.
        let (path, len) = self.sessions.seal(now, session, &frame, &mut self.scratch)?;
        self.outbox.count_sent(&frame);
        let mut buf = frame;
        buf.set_window(0, 0);
        assert!(buf.extend(&self.scratch[..len]), "a sealed frame fits a slot");
        Ok(Transmit { path, buf, segment: len, dscp })
    }

    /// Whether the most urgent queue could overflow by one more datagram. An empty one could not
    /// be helped.
    pub(super) fn crowded(&self) -> bool {
        let egress = &self.outbox.egress;
        egress.free(Class::Control) < limits::QUEUE_RESERVE
            && egress.stats(Class::Control).depth > 0
    }
}
