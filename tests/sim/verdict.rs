//! What a check finds wrong.

use std::fmt;

use molia_router::time::Moment;

/// Which check spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oracle {
    /// A slot of a pool is neither free nor held by whoever may hold it.
    Buffers,
    /// More went to an address than it proved to want.
    Amplification,
    /// Something went where its peer is no more, or not yet.
    Endpoint,
    /// Something went out before it may: without mac1, without confirmation, under old keys.
    Silence,
    /// A datagram or a message was not counted, or counted twice.
    Sums,
    /// Control was dropped while hints were served.
    Priority,
    /// Too many peers of one network in a bucket.
    Networks,
    /// Somebody is listed who is gone, or whose identity has ended.
    Listing,
    /// More sessions than slots.
    Capacity,
    /// A session that is not in its peer's home, or a second one of a peer.
    Home,
    /// A datagram went from shard to shard more than once.
    Forwards,
    /// What left is not what the protocol says.
    Frames,
    /// Relayed data went where it should not, or came out other than it went in.
    Relaying,
    /// More was relayed than a budget allows.
    Budget,
    /// Peers were told what they should not know of each other.
    Introduction,
    /// A channel is there whose peers are not.
    Channels,
    /// An answer nobody asked for.
    Unasked,
    /// A wrong answer.
    Answers,
    /// A value that was promised to last is gone.
    Lasting,
    /// Something is found that nobody stored, or that was replaced by something newer.
    Forged,
    /// A write was taken that the store cannot keep, or a lookup was not answered for its sake.
    Refusal,
    /// The shard is kept busy by nothing.
    Spin,
    /// A client did not get what it is due.
    Liveness,
    /// The same seed went another way.
    Determinism,
}

/// What was found, and when.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) oracle: Oracle,
    pub(crate) at: Moment,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.oracle, self.at, self.what)
    }
}

/// Passes a check or says what is wrong.
pub(crate) fn ensure(
    holds: bool,
    oracle: Oracle,
    at: Moment,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { oracle, at, what: what() }) }
}
