//! What waits to be sent: three class queues, served 8 : 4 : 1.
//!
//! A frame is [offered](Egress::offer) in plaintext and [taken](Egress::next) when the port
//! has room; only then does anybody spend cryptography on it, so that what waited too long ends
//! here for the price of a comparison.
//!
//! Invariants:
//! * `offered = enqueued + coalesced + dropped at the offer` (full, or above a rate), and
//!   `enqueued = sent + expired + waiting`, per class and at any time.
//! * Among classes with frames waiting, sends keep the configured weights; a class that is empty
//!   saves nothing up. Within a class, first in, first out.
//! * Rates are policed at the offer, not at the exit: a place in a queue is what a flooding
//!   peer would take from others, so it must not get one. A peer may overdraw its rate by
//!   [`Limits::control_headroom_percent`] with control frames only, so hints and coordination
//!   are shed first.
//! * Nothing allocates after [`Egress::new`], and no loop is longer than the three classes
//!   (or one short hash chain).
//!
//! It does not seal, choose paths or know sockets; a frame whose session ended meanwhile is found
//! out by whoever seals it.

mod queue;
mod shaper;
mod stats;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bufpool::Buf;

use crate::bucket::Keyed;
use crate::drops::Drop;
use crate::ids::SessionRef;
use crate::limits::WG_OVERHEAD;
use crate::net::Prefix;
use crate::time::Moment;
use crate::wire::kind::Class;
use queue::{Placed, Queue};
use shaper::Shaper;

pub use shaper::{Limits, Rate};
pub use stats::{Log2, QueueStats};

/// One class of [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassConfig {
    /// Frames that may wait.
    pub depth: usize,
    /// Share of the sends while several classes have frames waiting; at least 1.
    pub weight: u32,
    /// How long a frame may wait; `None` for ever.
    pub ttl: Option<Duration>,
}

/// Shape of the egress.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// By class, the most urgent first.
    pub classes: [ClassConfig; 3],
    /// Rates per peer and per prefix.
    pub limits: Limits,
    /// Slots of the session table: one bucket each when peers are limited.
    pub sessions_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let class = |depth, weight, ttl_ms: Option<u64>| ClassConfig {
            depth,
            weight,
            ttl: ttl_ms.map(Duration::from_millis),
        };
        Self {
            classes: [class(64, 8, None), class(1024, 4, Some(2000)), class(4096, 1, Some(500))],
            limits: Limits::default(),
            sessions_max: 65_536,
        }
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// Whom it is for.
    pub session: SessionRef,
    /// The network it is charged to: that of the session's address.
    pub prefix: Prefix,
    /// Its queue.
    pub class: Class,
    /// Frames of one class, session and key replace each other: the newer content takes the
    /// waiting one's place in the queue and brings its own age. `None` never coalesces.
    pub coalesce: Option<u64>,
    /// Shim, header and body.
    pub buf: Buf,
}

/// What became of an offer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Enqueued,
    /// It took the place of an older one with its key, whose buffer is recycled.
    Coalesced,
    /// Its buffer is recycled: `QueueFull`, `PeerRate` or `SendPrefixRate`.
    Dropped(Drop),
}

/// What came out.
#[must_use]
#[derive(Debug)]
pub enum Next {
    /// To be sealed and sent.
    Send(Outgoing, Class),
    /// Waited too long; its buffer is recycled.
    Dropped(Class, Drop),
}

/// The queues and what polices them.
#[derive(Debug)]
pub struct Egress {
    queues: [Queue; 3],
    /// Sends each class has left in the current round.
    credits: [u32; 3],
    weights: [u32; 3],
    /// Nanoseconds a frame may wait; `u64::MAX` for ever.
    ttl_ns: [u64; 3],
    shaper: Shaper,
    stats: [QueueStats; 3],
}

impl Egress {
    /// Memory that queues and limits of this configuration take at most.
    pub fn bytes(config: &Config) -> usize {
        let queues: usize = config.classes.iter().map(|class| Queue::bytes(class.depth)).sum();
        queues + Shaper::bytes(&config.limits, config.sessions_max)
    }

    /// Empty queues. `seed` keys the hashes whose inputs strangers choose.
    ///
    /// # Panics
    /// If a depth or weight is zero or a depth is beyond `u32`.
    pub fn new(config: &Config, seed: u64) -> Self {
        let weights = config.classes.map(|class| class.weight);
        assert!(weights.iter().all(|&weight| weight > 0), "a class of weight 0 would starve");
        let keyed = Keyed::new([seed, seed.rotate_left(32)]);
        Self {
            queues: config.classes.map(|class| Queue::new(class.depth, keyed)),
            credits: weights,
            weights,
            ttl_ns: config.classes.map(|class| ttl_ns(class.ttl)),
            shaper: Shaper::new(&config.limits, config.sessions_max, keyed),
            stats: config.classes.map(|class| QueueStats::new(class.depth)),
        }
    }

    /// Puts a frame into its queue, or says why not.
    #[inline]
    pub fn offer(&mut self, now: Moment, frame: Outgoing) -> Offered {
        let class = frame.class as usize;
        let (queue, stats) = (&mut self.queues[class], &mut self.stats[class]);
        stats.offered += 1;
        let frame = match queue.coalesce(now, frame) {
            Placed::Replaced => {
                stats.coalesced += 1;
                return Offered::Coalesced;
            }
            Placed::Not(frame) => frame,
        };
        if queue.free() == 0 {
            stats.full += 1;
            return Offered::Dropped(Drop::QueueFull);
        }
        if let Err(reason) = self.shaper.charge(now, &frame, frame.buf.len() + WG_OVERHEAD) {
            stats.policed(reason);
            return Offered::Dropped(reason);
        }
        queue.push(now, frame);
        stats.enqueued += 1;
        stats.waiting(queue.len());
        Offered::Enqueued
    }

    /// The next frame to send, or the next that waited too long. Call until `None`, or until
    /// the port has no room.
    #[inline]
    pub fn next(&mut self, now: Moment) -> Option<Next> {
        let class = self.turn_of()?;
        let (queue, stats) = (&mut self.queues[class], &mut self.stats[class]);
        let (offered, frame) = queue.pop()?;
        stats.waiting(queue.len());
        let waited_ns = waited_ns(now, offered);
        if waited_ns > self.ttl_ns[class] {
            stats.expired += 1;
            return Some(Next::Dropped(frame.class, Drop::Expired));
        }
        self.credits[class] -= 1;
        stats.sent += 1;
        stats.wait.record(waited_ns);
        let class = frame.class;
        Some(Next::Send(frame, class))
    }

    /// Drops a frame at the head of a queue that waited too long. Call until `None` when nothing
    /// can be sent, so that what is stale takes no place from what is new.
    #[inline]
    pub fn expire(&mut self, now: Moment) -> Option<(Class, Drop)> {
        let stale = |class: &Class| {
            let class = *class as usize;
            let offered = self.queues[class].oldest();
            offered.is_some_and(|offered| waited_ns(now, offered) > self.ttl_ns[class])
        };
        let class = Class::ALL.into_iter().find(stale)?;
        let (queue, stats) = (&mut self.queues[class as usize], &mut self.stats[class as usize]);
        drop(queue.pop());
        stats.waiting(queue.len());
        stats.expired += 1;
        Some((class, Drop::Expired))
    }

    /// The most urgent class that has both a frame and credit; a new round when none has.
    #[inline]
    fn turn_of(&mut self) -> Option<usize> {
        let ready = |queues: &[Queue; 3], credits: &[u32; 3]| {
            (0..3).find(|&class| credits[class] > 0 && queues[class].len() > 0)
        };
        ready(&self.queues, &self.credits).or_else(|| {
            if self.is_empty() {
                return None;
            }
            self.credits = self.weights;
            ready(&self.queues, &self.credits)
        })
    }

    /// Frames that `class` can still take: drain before offering more than this.
    #[inline]
    pub fn free(&self, class: Class) -> usize {
        self.queues[class as usize].free()
    }

    /// Whether `class` would refuse a frame that does not coalesce.
    #[inline]
    pub fn is_full(&self, class: Class) -> bool {
        self.free(class) == 0
    }

    /// Frames waiting in all classes.
    #[inline]
    pub fn len(&self) -> usize {
        self.queues.iter().map(Queue::len).sum()
    }

    /// Whether no frame waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened in a class since the start.
    #[inline]
    pub fn stats(&self, class: Class) -> &QueueStats {
        &self.stats[class as usize]
    }
}

#[inline]
fn waited_ns(now: Moment, offered: Moment) -> u64 {
    now.as_nanos().saturating_sub(offered.as_nanos())
}

fn ttl_ns(ttl: Option<Duration>) -> u64 {
    ttl.map_or(u64::MAX, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX))
}
