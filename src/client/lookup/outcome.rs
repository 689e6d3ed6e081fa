//! What a lookup came to.

use std::time::Duration;

use super::shortlist::Contact;
use crate::client::values::{OwnedProvider, OwnedRecord};
use crate::ids::PeerId;

/// Why a peer that an answer named was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// The answer names more peers than answers may.
    TooMany,
    /// It is us, or the answerer itself.
    Ourselves,
    /// No address that we could send to and that means there what it means here.
    Unreachable,
    /// Its answerer has filled as much of the shortlist as one may.
    Share,
    /// Its network has.
    Network,
    /// Farther away than enough others.
    Far,
}

impl Unfit {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::TooMany, Self::Ourselves, Self::Unreachable, Self::Share, Self::Network, Self::Far];

    /// For people and for JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Ourselves => "ourselves",
            Self::Unreachable => "unreachable",
            Self::Share => "answerer_share",
            Self::Network => "network_share",
            Self::Far => "far",
        }
    }
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A verified value, or verified providers.
    Found,
    /// The closest peers that there are have answered.
    Closest,
    /// Nobody is left to ask, and nobody answered.
    Deserted,
    /// The time is over.
    Budget,
}

/// Counts of one lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hops from whom we knew to the farthest that answered.
    pub hops: u32,
    /// Nodes that were asked, each once.
    pub asked: u32,
    /// Of them, those that answered.
    pub answered: u32,
    /// Of these, those that answered after their timeout.
    pub late: u32,
    /// Nodes that refused, could not be reached, or did not answer in time.
    pub failed: u32,
    /// Nodes that were not asked because they were silent lately.
    pub passed_over: u32,
    /// Answers whose value or providers prove to be another's or nobody's.
    pub forged: u32,
    /// Most requests that were under way.
    pub parallel: u32,
    unfit: [u32; Unfit::ALL.len()],
}

impl Stats {
    /// Peers that answers named and that were left out for `why`.
    pub const fn unfit(&self, why: Unfit) -> u32 {
        self.unfit[why as usize]
    }

    pub(super) fn leave_out(&mut self, why: Unfit) {
        self.unfit[why as usize] += 1;
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// The closest peers that answered, the closest first.
    pub closest: Vec<Contact>,
    /// The value; of several versions the newest that was met.
    pub record: Option<OwnedRecord>,
    /// Who has what the key names, each by its own word.
    pub providers: Vec<OwnedProvider>,
    /// Who had the value or the providers, in the order of their answers.
    pub holders: Vec<PeerId>,
    /// From the first question to the end.
    pub elapsed: Duration,
    /// What happened on the way.
    pub stats: Stats,
}
