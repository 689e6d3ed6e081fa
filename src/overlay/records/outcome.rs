//! What became of an offer.

use crate::ids::PeerId;

/// What became of a value or an announcement.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept. There was nothing, or something older.
    Stored,
    /// It was there and is kept longer now, as it was offered this time.
    Refreshed,
    /// It was there, and for as long; nothing changed.
    Unchanged,
    /// It is kept in the place of another peer's announcement, which is gone.
    Displaced(PeerId),
    /// Something newer is there and stays.
    Stale,
    /// Something else with the same sequence is there and stays: its owner says two things.
    Equivocation,
    /// It is not kept; what was there before stays.
    Rejected(Why),
}

impl Outcome {
    /// Outcomes, each reason to reject one of its own, in the order of the counters.
    pub const COUNT: usize = 6 + Why::ALL.len();

    /// Position among them.
    pub const fn index(self) -> usize {
        match self {
            Self::Stored => 0,
            Self::Refreshed => 1,
            Self::Unchanged => 2,
            Self::Displaced(_) => 3,
            Self::Stale => 4,
            Self::Equivocation => 5,
            Self::Rejected(why) => 6 + why as usize,
        }
    }

    /// Value of the `result` label at a position.
    ///
    /// # Panics
    /// If there is no such position.
    pub const fn label_at(index: usize) -> &'static str {
        match index {
            0 => "stored",
            1 => "refreshed",
            2 => "unchanged",
            3 => "displaced",
            4 => "stale",
            5 => "equivocation",
            reason => Why::ALL[reason - 6].label(),
        }
    }
}

/// Why an offer was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Longer than any may be.
    TooLarge,
    /// Its time is over.
    Expired,
    /// A value without owner, where one is that somebody signed.
    Owned,
    /// There is no room for it.
    Full,
    /// Its peer has its share.
    PeerShare,
    /// Its network has its share, which is smaller the less is left.
    NetworkShare,
    /// The key has enough providers that are better spread or stay longer.
    KeyFull,
}

impl Why {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::TooLarge,
        Self::Expired,
        Self::Owned,
        Self::Full,
        Self::PeerShare,
        Self::NetworkShare,
        Self::KeyFull,
    ];

    /// Whether there may be room another time.
    pub const fn passes(self) -> bool {
        match self {
            Self::TooLarge | Self::Expired | Self::Owned => false,
            Self::Full | Self::PeerShare | Self::NetworkShare | Self::KeyFull => true,
        }
    }

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Owned => "owned",
            Self::Full => "full",
            Self::PeerShare => "peer_share",
            Self::NetworkShare => "network_share",
            Self::KeyFull => "key_full",
        }
    }
}
