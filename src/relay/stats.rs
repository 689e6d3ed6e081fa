//! What the relay counts.

use crate::drops::Drop;

/// Since the start; `channels`, `members` and `waiting` are what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Channels.
    pub channels: usize,
    /// Peers that have channels.
    pub members: usize,
    /// Datagrams that wait.
    pub waiting: usize,
    /// Channels that were allocated.
    pub allocated: u64,
    /// Channels that ended.
    pub closed: u64,
    /// Datagrams that went to the other leg.
    pub forwarded_datagrams: u64,
    /// Bytes that did, headers included.
    pub forwarded_bytes: u64,
    /// Datagrams that got a place to wait.
    pub enqueued: u64,
    /// How often a leg was told that it is throttled.
    pub throttled: u64,
    /// Datagrams for no channel, or of another generation, or whose channel ended while they waited.
    pub dropped_channel: u64,
    /// Datagrams from another address than their leg's.
    pub dropped_source: u64,
    /// Datagrams to an address that nothing is relayed to.
    pub dropped_target: u64,
    /// Datagrams to an unproven address that had not sent as much.
    pub dropped_unproven: u64,
    /// Datagrams that waited too long or found no place to.
    pub dropped_budget: u64,
}

impl Stats {
    /// Counts `datagrams` that were dropped for `reason`, one of the relay's.
    pub(super) fn dropped(&mut self, reason: Drop, datagrams: u64) {
        let count = if reason == Drop::RelayChannel {
            &mut self.dropped_channel
        } else if reason == Drop::RelaySource {
            &mut self.dropped_source
        } else if reason == Drop::RelayTarget {
            &mut self.dropped_target
        } else if reason == Drop::Unproven {
            &mut self.dropped_unproven
        } else {
            &mut self.dropped_budget
        };
        *count += datagrams;
    }
}
