//! The router's own counters, and the sums they must make together with what was seen.

use std::time::Duration;

use molia_router::counters::Snapshot;
use molia_router::counters::layout::Id;
use molia_router::drops::Drop;
use molia_router::limits::CHUNKS_MAX;
use molia_router::relay;
use molia_router::time::Moment;
use molia_router::wire::{Class, Kind, Role};

use super::tap::Seen;
use super::verdict::{Oracle, Violation, ensure};
use crate::keys::NOTICES;

/// Reasons that end a datagram before it is a session's.
const DATAGRAM_DROPS: &[Drop] = &[
    Drop::Empty,
    Drop::UnknownType,
    Drop::BadLength,
    Drop::Stun,
    Drop::Probe,
    Drop::RelayShape,
    Drop::RelaySource,
    Drop::PacketBudget,
    Drop::BadMac1,
    Drop::CookieReply,
    Drop::HandshakeResponse,
    Drop::ReplayedInitiation,
    Drop::NoCookie,
    Drop::AddressRate,
    Drop::PrefixRate,
    Drop::BadInitiation,
    Drop::HandshakeBudget,
    Drop::SessionsFull,
    Drop::NoSession,
    Drop::BadCounter,
    Drop::Replayed,
    Drop::BadTag,
];

/// Requests whose answers take a while, or that are not answered.
const SLOW: &[Kind] =
    &[Kind::RendezvousReq, Kind::RendezvousResult, Kind::RelayAllocReq, Kind::RelayClose];

/// Reasons that end a frame between its queue and the wire.
const SEAL_DROPS: &[Drop] = &[Drop::Unconfirmed, Drop::SessionGone, Drop::Unproven];

/// One class's queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueTally {
    pub(crate) offered: u64,
    pub(crate) enqueued: u64,
    pub(crate) coalesced: u64,
    pub(crate) sent: u64,
    pub(crate) full: u64,
    pub(crate) expired: u64,
    pub(crate) peer_rate: u64,
    pub(crate) prefix_rate: u64,
    pub(crate) depth: u64,
}

/// What the counters say.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// In the order of [`Drop::ALL`].
    drops: Vec<u64>,
    relay: relay::Stats,
    pub(crate) queues: [QueueTally; 3],
    pub(crate) handshakes: u64,
    /// Initiations and data that went on to another shard.
    moved: u64,
    forwarded: u64,
    cookies: u64,
    keepalives: u64,
    challenges: u64,
    pub(crate) decrypted: u64,
    /// By type's number; the last is for unknown types.
    received: Vec<(Option<Kind>, u64)>,
    /// As `received`.
    undone: Vec<(Option<Kind>, u64)>,
    sent: Vec<(Kind, u64)>,
    /// Newcomers for whom somebody else is pinged.
    pinging: u64,
    pub(crate) sessions: u64,
    pub(crate) sessions_max: u64,
}

impl Tally {
    pub(crate) fn of(counters: &Snapshot, relay: relay::Stats) -> Self {
        let value = |id, labels: &[&str]| counters.value(id, labels).expect("a known series");
        let queue = |class: Class| {
            let class = class.label();
            QueueTally {
                offered: value(Id::QueueOffered, &[class]),
                enqueued: value(Id::QueueEnqueued, &[class]),
                coalesced: value(Id::QueueCoalesced, &[class]),
                sent: value(Id::QueueSent, &[class]),
                full: value(Id::QueueDropped, &[class, Drop::QueueFull.label()]),
                expired: value(Id::QueueDropped, &[class, Drop::Expired.label()]),
                peer_rate: value(Id::QueuePoliced, &[class, Drop::PeerRate.label()]),
                prefix_rate: value(Id::QueuePoliced, &[class, Drop::SendPrefixRate.label()]),
                depth: value(Id::QueueDepth, &[class]),
            }
        };
        let of_kind = |id, kind: &Kind| value(id, &[kind.name()]);
        let by_type = |id| {
            let known = Kind::ALL.iter().map(|kind| (Some(*kind), of_kind(id, kind)));
            let known: Vec<_> = known.collect();
            let unknown = counters.total(id) - known.iter().map(|(_, n)| n).sum::<u64>();
            known.into_iter().chain([(None, unknown)]).collect()
        };
        Self {
            relay,
            drops: Drop::ALL.iter().map(|drop| value(Id::Dropped, &[drop.label()])).collect(),
            queues: Class::ALL.map(queue),
            handshakes: value(Id::Handshakes, &["ok"]),
            moved: value(Id::Moved, &[]),
            forwarded: value(Id::Forwarded, &[]),
            cookies: value(Id::CookieReplies, &[]),
            keepalives: value(Id::Keepalives, &[]),
            challenges: value(Id::Challenges, &[]),
            decrypted: value(Id::Decrypts, &["ok"]),
            received: by_type(Id::Received),
            undone: by_type(Id::MessageDropped),
            sent: Kind::ALL.iter().map(|kind| (*kind, of_kind(Id::Sent, kind))).collect(),
            pinging: value(Id::Inserts, &["pinging"]),
            sessions: value(Id::Sessions, &[]),
            sessions_max: value(Id::SessionsMax, &[]),
        }
    }

    pub(crate) fn dropped(&self, drop: Drop) -> u64 {
        let at = Drop::ALL.iter().position(|known| *known == drop).expect("all are known");
        self.drops[at]
    }

    /// Adds to a drop counter, for who wants to see it noticed.
    pub(crate) fn tamper(&mut self, drop: Drop, n: u64) {
        let at = Drop::ALL.iter().position(|known| *known == drop).expect("all are known");
        self.drops[at] += n;
    }

    /// Channel data that came to its end in the relay, or waits there.
    fn relayed(&self) -> u64 {
        let relay::Stats { waiting, forwarded_datagrams, .. } = self.relay;
        // Those of its drops that sessions have as well are told apart by its own count.
        let dropped = self.all(&[Drop::RelayChannel, Drop::RelayTarget, Drop::RelayBudget]);
        forwarded_datagrams + waiting as u64 + dropped + self.relay.dropped_unproven
    }

    /// Frames that the router sent of its own accord.
    fn notices(&self) -> u64 {
        let own = |kind: &Kind| NOTICES.contains(kind);
        let sent = self.sent.iter().filter(|(kind, _)| own(kind)).map(|(_, n)| n).sum::<u64>();
        let depth: u64 = self.queues.iter().map(|queue| queue.depth + queue.expired).sum();
        sent + depth + self.all(SEAL_DROPS) - self.relay.dropped_unproven
    }

    fn all(&self, drops: &[Drop]) -> u64 {
        drops.iter().map(|drop| self.dropped(*drop)).sum()
    }
}

/// What the world itself counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handed {
    /// Datagrams given to the router, from its socket and by mail.
    pub(crate) datagrams: u64,
    pub(crate) mailed: u64,
    /// Data and initiations that it posted to other shards.
    pub(crate) forwarded: u64,
    pub(crate) moved: u64,
    /// PINGs that other shards wanted sent.
    pub(crate) asked: u64,
    /// Questions that other shards were asked; they or their answers may be lost.
    pub(crate) lookups: u64,
    /// Initiations that may be waiting for a turn.
    pub(crate) pending_max: u64,
}

/// Holds every sum.
pub(crate) fn check(
    at: Moment,
    tally: &Tally,
    seen: &Seen,
    handed: Handed,
) -> Result<(), Violation> {
    let sum = |holds: bool, what: &str| {
        ensure(holds, Oracle::Sums, at, || format!("{what}: {tally:?} {seen:?} {handed:?}"))
    };
    queues(tally, &sum)?;
    let expired = tally.dropped(Drop::ExpiredKeys);
    let no_buffer = tally.dropped(Drop::NoBuffer);

    // Every datagram ends as a drop, a handshake or authentic data, goes on, or waits.
    let here = tally.all(DATAGRAM_DROPS) + tally.handshakes + tally.decrypted + tally.relayed();
    let ended = here + tally.moved + tally.forwarded;
    let ways = ended.saturating_sub(no_buffer)..=ended + expired + no_buffer + handed.pending_max;
    let came = handed.datagrams + handed.mailed;
    sum(ways.contains(&came), "datagrams and their outcomes differ")?;
    let went = (tally.moved, tally.forwarded);
    sum(went == (handed.moved, handed.forwarded), "what went on is not what was posted")?;

    // Every frame taken from a queue leaves or is dropped on the way.
    let queue_sent: u64 = tally.queues.iter().map(|queue| queue.sent).sum();
    let frames: u64 = seen.frames.values().sum();
    let left = frames + tally.all(SEAL_DROPS) - tally.relay.dropped_unproven;
    let from_queues = left..=left + expired + no_buffer;
    sum(
        from_queues.contains(&(queue_sent + tally.challenges)),
        "frames got lost after their queue",
    )?;

    // So does everything the sessions send of their own accord.
    let made = tally.handshakes + tally.cookies + tally.keepalives + tally.challenges;
    let challenges = seen.frames.get(&Kind::Ping.id()).copied().unwrap_or(0).min(tally.challenges);
    let raw = seen.responses + seen.cookies + seen.keepalives + challenges;
    sum((raw..=raw + no_buffer).contains(&made), "handshakes or keepalives got lost")?;

    messages(tally, seen, handed, &sum)
}

type Sum<'a> = dyn Fn(bool, &str) -> Result<(), Violation> + 'a;

fn queues(tally: &Tally, sum: &Sum<'_>) -> Result<(), Violation> {
    for queue in &tally.queues {
        let refused = queue.full + queue.peer_rate + queue.prefix_rate;
        let offered = queue.enqueued + queue.coalesced + refused;
        sum(queue.offered == offered, "offered is not enqueued, coalesced and refused")?;
        let enqueued = queue.sent + queue.expired + queue.depth;
        sum(queue.enqueued == enqueued, "enqueued is not sent, expired and waiting")?;
    }
    let total = |of: fn(&QueueTally) -> u64| tally.queues.iter().map(of).sum::<u64>();
    let agree = tally.dropped(Drop::QueueFull) == total(|queue| queue.full)
        && tally.dropped(Drop::Expired) == total(|queue| queue.expired)
        && tally.dropped(Drop::PeerRate) == total(|queue| queue.peer_rate)
        && tally.dropped(Drop::SendPrefixRate) == total(|queue| queue.prefix_rate);
    sum(agree, "queues and reasons count drops differently")
}

fn messages(tally: &Tally, seen: &Seen, handed: Handed, sum: &Sum<'_>) -> Result<(), Violation> {
    // What was sent is what left.
    for (kind, counted) in &tally.sent {
        let left = seen.frames.get(&kind.id()).copied().unwrap_or(0);
        let agree = match kind == &Kind::Ping {
            // Path challenges are not counted among them, and are lost without a buffer.
            true => (*counted..=counted + tally.challenges).contains(&left),
            false => *counted == left,
        };
        sum(agree, kind.name())?;
    }
    // Whatever decrypts is a keepalive, a message, or no frame.
    let received: u64 = tally.received.iter().map(|(_, n)| n).sum();
    let no_frame = tally.dropped(Drop::IpPacket) + tally.dropped(Drop::BadShim);
    sum(received + no_frame <= tally.decrypted, "more messages than data")?;
    let more_undone =
        tally.undone.iter().zip(&tally.received).find(|(undone, received)| undone.1 > received.1);
    sum(more_undone.is_none(), "more messages of a type dropped than received")?;
    // Every question is answered, or it is counted that it was not. An answer may be of several
    // frames, and the router asks a little itself.
    let is_question = |kind: &Option<Kind>| {
        kind.is_none_or(|kind| matches!(kind.role(), Role::Request | Role::Notice))
    };
    let questions = |of: &[(Option<Kind>, u64)]| -> u64 {
        of.iter().filter(|(kind, _)| is_question(kind)).map(|(_, n)| n).sum()
    };
    let answered = questions(&tally.received) - questions(&tally.undone);
    let queued: u64 = tally.queues.iter().map(|queue| queue.enqueued + queue.coalesced).sum();
    // Writes come in chunks, of which the last one is answered, or wait for the store.
    let written = |kind| matches!(kind, Some(Kind::StoreReq | Kind::AnnounceProviderReq));
    let writes = tally.received.iter().filter(|(kind, _)| written(*kind));
    let writes: u64 = writes.map(|(_, n)| n).sum();
    let slow = tally.received.iter().filter(|(kind, _)| kind.is_some_and(|it| SLOW.contains(&it)));
    let slow: u64 = slow.map(|(_, n)| n).sum();
    sum(answered <= queued + handed.lookups + writes + slow, "a question went without an answer")?;
    let frames_beyond_one = |kind| match kind {
        Some(Kind::FindNodeReq) => 1,
        Some(Kind::FindValueReq) => CHUNKS_MAX as u64 - 1,
        _ => 0,
    };
    let finds: u64 = tally.received.iter().map(|(kind, n)| frames_beyond_one(*kind) * n).sum();
    let extra = finds + tally.pinging + handed.asked + tally.notices() + slow;
    sum(queued <= answered + extra, "answers that nobody asked for")
}

/// Control frames are not dropped while hints are served.
pub(crate) fn check_priority(at: Moment, before: &Tally, now: &Tally) -> Result<(), Violation> {
    let control = |tally: &Tally| {
        let queue = tally.queues[Class::Control as usize];
        queue.full + queue.expired
    };
    let hints = |tally: &Tally| tally.queues[Class::Hints as usize].sent;
    let inverted = control(now) > control(before) && hints(now) > hints(before);
    ensure(!inverted, Oracle::Priority, at, || {
        format!("{:?}, before {:?}", now.queues, before.queues)
    })
}

/// Where datagrams wait for room, no control frame is lost for want of a place.
pub(crate) fn check_control(at: Moment, tally: &Tally) -> Result<(), Violation> {
    let queue = tally.queues[Class::Control as usize];
    ensure(queue.full == 0, Oracle::Priority, at, || format!("{queue:?}"))
}

/// The shard publishes its counters that often.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
