//! What the mailbox of a shard counts about itself.

use crate::wire::kind::Class;

macro_rules! reasons {
    ($($variant:ident $label:literal $help:literal,)*) => {
        /// Why a message was dropped, one variant per counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $help] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `reason` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One line for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

reasons! {
    // At the post: it was never accepted.
    Duplicate "duplicate" "coordination whose key waits already",
    QueueFull "queue_full" "coordination for a shard that takes no more",
    ControlFull "control_full" "control beyond a backlog that is made for any burst: the shard has stopped",
    // Later, to make room for others.
    Evicted "evicted" "the oldest hint, for the newest one",
    Shed "shed" "hints and coordination that waited when control had to wait for the same shard",
}

impl Reason {
    /// Whether the message had been accepted before.
    pub const fn after_post(self) -> bool {
        matches!(self, Self::Evicted | Self::Shed)
    }
}

/// Counters of one class since the start.
///
/// At any time `offered = enqueued + coalesced + refused` and `enqueued = sent + lost + depth`; over
/// all mailboxes of a mesh, `sent = received + what is in the rings`
/// ([`Mailbox::arrived`](crate::shard::mailbox::Mailbox::arrived)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Messages posted.
    pub offered: u64,
    /// Accepted: into the ring, or to wait for it.
    pub enqueued: u64,
    /// Took the place of an older one.
    pub coalesced: u64,
    /// Dropped, by [`Reason`].
    pub dropped: [u64; Reason::ALL.len()],
    /// Put into a ring.
    pub sent: u64,
    /// Taken out of a ring by this shard.
    pub received: u64,
    /// Messages waiting here now, for all shards together.
    pub depth: usize,
    /// Most messages that ever waited.
    pub high_water: usize,
}

impl ClassStats {
    /// Messages dropped for this reason.
    pub const fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Messages that were not accepted.
    pub fn refused(&self) -> u64 {
        self.sum(false)
    }

    /// Messages that were dropped after they had been accepted.
    pub fn lost(&self) -> u64 {
        self.sum(true)
    }

    fn sum(&self, after_post: bool) -> u64 {
        let reasons = Reason::ALL.iter().filter(|reason| reason.after_post() == after_post);
        reasons.map(|reason| self.dropped(*reason)).sum()
    }

    pub(crate) fn waits(&mut self) {
        self.depth += 1;
        self.high_water = self.high_water.max(self.depth);
    }

    pub(crate) fn lose(&mut self, reason: Reason) {
        self.depth -= 1;
        self.dropped[reason as usize] += 1;
    }
}

/// Counters of one mailbox since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By class, the most urgent first.
    pub classes: [ClassStats; 3],
    /// Other shards that this one woke.
    pub wakes: u64,
    /// Control messages that had to wait because their ring was full: a shard does not keep up.
    pub alarms: u64,
}

impl Stats {
    /// The counters of a class.
    pub const fn class(&self, class: Class) -> &ClassStats {
        &self.classes[class as usize]
    }
}
