//! Relaying: the packet path, in the shard that a channel belongs to.
//!
//! Nothing is decrypted and nothing copied: the receive slot in which data came, a whole run of it
//! if the kernel coalesced one, gets another header and goes out again. Only what has to wait for
//! its budget, or came in a run with something else, is copied, into small slots: a receive slot
//! is never held.
//!
//! [`allocate`] makes channels, [`legs`] keeps them where their peers are, [`stock`] does without them.

mod allocate;
mod legs;
mod stock;

use bufpool::Buf;

use crate::drops::Drop;
use crate::limits;
use crate::net::{Datagram, Outlet, Path, Transmit};
use crate::relay::{Flow, Offered, Ready, Route, Verdict};
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;
use crate::wire::Class;
use crate::wire::channel::{self, Channel, HEADER_BYTES};

use super::{Mail, Router};

pub use crate::relay::stock::PortWish;
pub(super) use allocate::Allocation;
pub(super) use legs::{Leg, Restless};
pub(super) use stock::{allocation, record};

/// Code point of relayed data: none, whatever its class is in here.
const DSCP: u8 = 0;

impl<T: Tunnel> Router<T> {
    /// Whether a receive slot is all of one channel of this shard: then it is forwarded as it is,
    /// or dropped.
    #[inline]
    pub(super) fn is_run(&self, datagram: &Datagram) -> bool {
        let Some(head) = datagram.buf.first_chunk::<HEADER_BYTES>() else { return false };
        // Steering looks at the same bits.
        let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        head[..2] == [channel::TYPE, 0]
            && self.partition.shard_of_channel(id) == u32::from(self.shard)
            && datagram.segments().all(|segment| segment.starts_with(head))
    }

    /// Forwards a slot that [is a run](Self::is_run).
    #[inline]
    pub(super) fn forward_run(&mut self, now: Now, datagram: Datagram, outlet: &mut impl Outlet) {
        let Datagram { path, mut buf, segment } = datagram;
        let segment = segment.max(1);
        let datagrams = buf.len().div_ceil(segment);
        let routed = Channel::read(&buf).and_then(|header| {
            let shaped = |segment: &[u8]| channel::inner(&segment[HEADER_BYTES..]);
            buf.chunks(segment).try_for_each(|segment| shaped(segment).map(drop))?;
            self.route(now, &path, header, (buf.len(), datagrams), outlet.room() > 0)
        });
        match routed {
            Ok(Route { to, channel, verdict: Verdict::Send, .. }) => {
                rewrite(&mut buf, segment, channel);
                outlet.send(Transmit { path: to, buf, segment, dscp: DSCP });
            }
            Ok(Route { channel, flow, .. }) => {
                for datagram in buf.chunks(segment) {
                    self.wait_for_budget(now, flow, channel, datagram);
                }
            }
            Err(Drop::RelayShape) if datagrams > 1 => {
                // Some of them may be what they should be.
                for datagram in buf.chunks(segment) {
                    self.forward(now, &path, datagram, outlet);
                }
            }
            Err(reason) => self.outbox.counters.dropped(reason, datagrams as u64),
        }
    }

    /// Forwards one datagram, at the price of a copy: it came in a run with something else, or by
    /// mail.
    pub(super) fn forward(
        &mut self,
        now: Now,
        path: &Path,
        datagram: &[u8],
        outlet: &mut impl Outlet,
    ) {
        let routed = Channel::read(datagram).and_then(|header| {
            channel::inner(&datagram[HEADER_BYTES..])?;
            match self.partition.shard_of_channel(header.id) {
                shard if shard == u32::from(self.shard) => {
                    self.route(now, path, header, (datagram.len(), 1), outlet.room() > 0).map(Ok)
                }
                shard => Ok(Err(shard)),
            }
        });
        match routed {
            Ok(Ok(Route { to, channel, verdict: Verdict::Send, .. })) => {
                let Some(mut buf) = self.copy(datagram) else { return };
                let segment = buf.len();
                rewrite(&mut buf, segment, channel);
                outlet.send(Transmit { path: to, buf, segment, dscp: DSCP });
            }
            Ok(Ok(Route { channel, flow, .. })) => {
                self.wait_for_budget(now, flow, channel, datagram);
            }
            Ok(Err(shard)) => self.pass_on(shard, path, datagram),
            Err(reason) => self.outbox.counters.drop(reason),
        }
    }

    /// Without `room` to send nothing is paid: what waits is charged when it leaves.
    #[inline]
    fn route(
        &mut self,
        now: Now,
        path: &Path,
        header: Channel,
        (bytes, datagrams): (usize, usize),
        room: bool,
    ) -> Result<Route, Drop> {
        match room {
            true => self.relay.route(now.at, path, header, bytes, datagrams),
            false => self.relay.route_to_wait(now.at, path, header, bytes, datagrams),
        }
    }

    /// Channel data that came to the wrong shard: steering is off.
    fn pass_on(&mut self, shard: u32, path: &Path, datagram: &[u8]) {
        match u16::try_from(shard) {
            Ok(shard) if shard >= self.partition.shards() => {
                self.outbox.counters.drop(Drop::RelayChannel);
            }
            Ok(shard) if datagram.len() <= limits::MAIL_BYTES_MAX => {
                self.outbox.counters.forwarded_datagram();
                self.tray.post(shard, Mail::Datagram(*path), datagram);
            }
            Ok(_) | Err(_) => self.outbox.counters.drop(Drop::BadLength),
        }
    }

    fn wait_for_budget(&mut self, now: Now, flow: Flow, channel: Channel, datagram: &[u8]) {
        let class = channel::inner(&datagram[HEADER_BYTES..]).unwrap_or(Class::Coordination);
        let Some(mut buf) = self.copy(datagram) else { return };
        let segment = buf.len();
        rewrite(&mut buf, segment, channel);
        if let Offered::Dropped(reason) = self.relay.enqueue(now.at, flow, class, buf) {
            self.outbox.counters.drop(reason);
        }
        self.count_lost();
    }

    fn copy(&mut self, datagram: &[u8]) -> Option<Buf> {
        let mut buf = self.outbox.take()?;
        if buf.extend(datagram) {
            return Some(buf);
        }
        self.outbox.counters.drop(Drop::BadLength);
        None
    }

    /// Sends the next datagram that waited and is paid for now. Whether there was one.
    #[inline]
    pub(super) fn send_relayed(&mut self, now: Now, outlet: &mut impl Outlet) -> bool {
        let Some(Ready { to, mut buf, channel, .. }) = self.relay.next(now.at) else {
            return false;
        };
        let segment = buf.len();
        rewrite(&mut buf, segment, channel);
        outlet.send(Transmit { path: to, buf, segment, dscp: DSCP });
        true
    }

    /// Counts what waited and was dropped.
    #[inline]
    pub(super) fn count_lost(&mut self) {
        while let Some((reason, datagrams)) = self.relay.take_lost() {
            self.outbox.counters.dropped(reason, datagrams);
        }
    }

    pub(super) fn relay_deadline(&self) -> Moment {
        let restless = self.restless.front().map_or(Moment::NEVER, |(_, at)| *at);
        let relay = match self.blocked {
            true if self.crowded() => Moment::NEVER,
            true => self.relay.poll_deadline(),
            false => self.relay.next_deadline(),
        };
        relay.min(restless).min(self.stock.next_deadline())
    }
}

/// Names the other leg's channel in every datagram of a run.
#[inline]
fn rewrite(buf: &mut Buf, segment: usize, channel: Channel) {
    for datagram in buf.chunks_mut(segment.max(1)) {
        if let Some(head) = datagram.first_chunk_mut::<HEADER_BYTES>() {
            channel.write(head);
        }
    }
}
