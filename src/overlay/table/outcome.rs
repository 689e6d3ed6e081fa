//! What the table says became of a peer.

use crate::ids::{HomeRef, PeerId};

/// What became of an insertion.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the table.
    Added,
    /// It was in the table and has its new session, network and encoding.
    Updated,
    /// Its bucket is full. It waits while the one silent longest is pinged over its session.
    Pinging {
        /// The session to ping.
        home: HomeRef,
        /// The id of that peer.
        peer: PeerId,
    },
    /// It waits already, for the outcome of an earlier ping; what it waits with is renewed.
    Waiting,
    /// It is not in the table.
    Refused(Refused),
}

/// Why a peer was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its network has its share of the bucket. A known peer that moved there lost its place.
    Prefix,
    /// The bucket is full and one of it is being pinged for an earlier newcomer.
    Busy,
    /// The table is full and the peer's bucket is empty: there is nobody to ping.
    Full,
}

impl Refused {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Prefix, Self::Busy, Self::Full];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Busy => "busy",
            Self::Full => "full",
        }
    }
}

/// What time did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// `peer` did not answer its ping and is out; `added`, which waited for that, is in, unless
    /// its network got its share of the bucket meanwhile.
    Evicted {
        /// Who is out.
        peer: PeerId,
        /// Who is in.
        added: Option<PeerId>,
    },
    /// The pinged peer left by itself and `peer`, which waited, is in.
    Added {
        /// Who is in.
        peer: PeerId,
    },
    /// `peer` was restored, did not come back, and is out.
    Lapsed {
        /// Who is out.
        peer: PeerId,
    },
}
