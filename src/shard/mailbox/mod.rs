//! Mail between shards: a ring for each sender, receiver and class, and a bell that ends a wait.
//!
//! [`mesh`] makes one [`Mailbox`] for each shard; each is moved to its shard's thread and used by
//! nobody else. A message is a value of the caller's and up to [`PAYLOAD_MAX`] bytes. It goes straight into
//! its ring; without room it waits at the sender, where the rules of its class decide what gives way:
//!
//! | class | waits as | and beyond that |
//! |---|---|---|
//! | control | posted | what waits in the lower classes for that shard is shed and the alarm counted, from the first that has to wait; beyond a long backlog, `ControlFull` |
//! | coordination | posted, a key once: the older stays | the newest is refused |
//! | hints | posted, a key once: the newer takes the older one's place | the oldest goes |
//!
//! Invariants:
//! * First in, first out for each sender, receiver and class; nothing is said across them.
//! * Every message that was posted is in one counter, see [`ClassStats`].
//! * Nothing allocates after [`mesh`], nothing locks, and nobody waits for another shard.
//! * A shard that waits is woken for mail, and for room if it holds mail back; once a wait.
//! * Between two calls a mailbox is consistent: it outlives a shard that panicked, and the next
//!   one goes on with it. Mail that was under way then is delivered to that one.
//!
//! It does not know what a message means, and neither retries nor expires any.

mod backlog;
mod doorbell;
mod inbox;
mod outbox;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic};

use crossbeam_utils::CachePadded;

use crate::limits;
use crate::port::Waker;
use crate::wire::kind::Class;
use backlog::Backlog;
use doorbell::Doorbell;
use inbox::Inbox;
use outbox::Outbox;
use ring::{Inlet, ring};

pub use crate::counters::mail::{ClassStats, Reason, Stats};

/// Bytes that may go with a message.
pub const PAYLOAD_MAX: usize = limits::MAIL_BYTES_MAX;

/// Shape of the mailboxes; everything by class, the most urgent first, and per pair of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Messages in a ring.
    pub depths: [usize; 3],
    /// Bytes that go with the messages in a ring, together; at least [`PAYLOAD_MAX`].
    pub bytes: [usize; 3],
    /// Messages that may wait for a ring. Keys are searched through all of them, so let those of
    /// coordination and hints be short.
    pub backlogs: [usize; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depths: [64, 1024, 4096],
            bytes: [64 * PAYLOAD_MAX, 256 << 10, 64 << 10],
            backlogs: [1024, 256, 256],
        }
    }
}

impl Config {
    /// Mailboxes among so many shards. There is a backlog for each pair of them: where they are
    /// many, each is shorter, for a shard that keeps up needs none.
    pub fn among(shards: usize) -> Self {
        let Self { depths, bytes, backlogs } = Self::default();
        let shorter = |places: usize| (4 * places / shards.max(4)).max(places / 8);
        Self { depths, bytes, backlogs: backlogs.map(shorter) }
    }

    /// Memory that all mailboxes of `shards` shards take at most.
    pub const fn bytes<M>(&self, shards: usize) -> usize {
        let (mut pair, mut class) = (0, 0);
        while class < Class::ALL.len() {
            pair += ring::bytes::<M>(self.depths[class], self.bytes[class]);
            pair += Backlog::<M>::bytes(self.backlogs[class]);
            class += 1;
        }
        pair * shards * shards.saturating_sub(1)
    }
}

/// What became of a message.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is under way, or waits for room.
    Enqueued,
    /// It took the place of an older one with its key.
    Coalesced,
    /// It is gone: `Duplicate`, `QueueFull` or `ControlFull`.
    Dropped(Reason),
}

/// A message from another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<M> {
    /// The shard that posted it.
    pub from: u16,
    /// As it was posted.
    pub class: Class,
    /// The message.
    pub mail: M,
    /// Bytes that came with it.
    pub len: usize,
}

/// One mailbox for each of the shards that `wakers` wake, in their order.
///
/// # Panics
/// If there are more than `u16` can number, or a ring or backlog of `config` can hold nothing.
pub fn mesh<M: Send>(config: &Config, wakers: Vec<Waker>) -> Vec<Mailbox<M>> {
    let shards = wakers.len();
    let numbers = 0..u16::try_from(shards).unwrap_or_else(|_| panic!("{shards} shards"));
    let bells: Arc<[_]> = (0..shards).map(|_| CachePadded::new(Doorbell::new(shards))).collect();
    let mut inlets: Vec<Vec<[Inlet<M>; 3]>> =
        (0..shards).map(|_| Vec::with_capacity(shards)).collect();
    let mut outboxes = Vec::with_capacity(shards);
    for from in 0..shards {
        let others = inlets.iter_mut().enumerate().filter(|(to, _)| *to != from);
        let outbox = |(_, inlets): (usize, &mut Vec<_>)| {
            let rings = [0, 1, 2].map(|class| ring(config.depths[class], config.bytes[class]));
            let [(out0, in0), (out1, in1), (out2, in2)] = rings;
            inlets.push([in0, in1, in2]);
            Outbox::new([out0, out1, out2], config.backlogs)
        };
        outboxes.push(others.map(outbox).collect());
    }
    let each = numbers.zip(outboxes).zip(inlets).map(|((shard, outboxes), inlets)| Mailbox {
        shard,
        bells: Arc::clone(&bells),
        wakers: wakers.clone().into(),
        outboxes,
        inbox: Inbox::new(inlets),
        stats: Stats::default(),
    });
    each.collect()
}

/// The mail of one shard. Other shards are kept in the order of their numbers, without a place for
/// this one.
pub struct Mailbox<M> {
    shard: u16,
    /// Of all shards.
    bells: Arc<[CachePadded<Doorbell>]>,
    wakers: Box<[Waker]>,
    outboxes: Box<[Outbox<M>]>,
    inbox: Inbox<M>,
    stats: Stats,
}

impl<M> Mailbox<M> {
    /// Number of the shard whose mail this is.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Sends `mail` and `payload` to another shard, which learns of it at the next
    /// [`flush`](Self::flush). Messages of one destination, class and `key` are one while they
    /// wait; control has no keys.
    ///
    /// # Panics
    /// If `to` is this shard or none, or the payload above [`PAYLOAD_MAX`].
    #[inline]
    pub fn post(
        &mut self,
        to: u16,
        class: Class,
        key: Option<u64>,
        mail: M,
        payload: &[u8],
    ) -> Posted {
        assert!(to != self.shard, "a shard needs no mail to talk to itself");
        let place = usize::from(if to > self.shard { to - 1 } else { to });
        self.outboxes[place].post(&mut self.stats, class, key, mail, payload)
    }

    /// Sends what waits as far as there is room, and wakes whom mail or room was made for. Once
    /// a turn.
    pub fn flush(&mut self) {
        for place in 0..self.outboxes.len() {
            let to = other(self.shard, place);
            if self.outboxes[place].flush(&mut self.stats) && self.bells[to].mail_came() {
                self.wakers[to].wake();
                self.stats.wakes += 1;
            }
        }
        for place in self.inbox.take_untold() {
            let from = other(self.shard, place);
            if self.bells[from].room_made(self.shard.into()) {
                self.wakers[from].wake();
                self.stats.wakes += 1;
            }
        }
    }

    /// The next message for this shard, with its bytes at the head of `out`.
    #[inline]
    pub fn next(&mut self, out: &mut [u8; PAYLOAD_MAX]) -> Option<Received<M>> {
        let (place, class, mail, len) = self.inbox.next(out)?;
        self.stats.classes[class as usize].received += 1;
        #[expect(clippy::cast_possible_truncation, reason = "`mesh` numbers shards with u16")]
        let from = other(self.shard, place) as u16;
        Some(Received { from, class, mail, len })
    }

    /// The shard is going to wait: flushes, and from now on mail, or room for what waits here, ends the
    /// wait through the shard's waker. False if there is some already: then do not wait, and
    /// nothing is announced.
    #[must_use]
    pub fn sleep(&mut self) -> bool {
        self.flush();
        let bell = &self.bells[usize::from(self.shard)];
        for (place, outbox) in self.outboxes.iter().enumerate() {
            bell.want_room(other(self.shard, place), outbox.holds_back());
        }
        bell.sleep(|| self.inbox.has_mail() || self.outboxes.iter().any(Outbox::can_move))
    }

    /// The wait is over, whatever ended it.
    pub fn awake(&self) {
        self.bells[usize::from(self.shard)].awake();
    }

    /// What was counted since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Messages of a class that are in the rings to this shard now.
    pub fn arrived(&self, class: Class) -> usize {
        self.inbox.len(class)
    }
}

/// Number of the shard at `place` among the others.
#[inline]
const fn other(own: u16, place: usize) -> usize {
    if place < own as usize { place } else { place + 1 }
}
