//! The shape of a shard's relay.

use std::time::Duration;

use crate::partition;

/// A rate and what may be used of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bits of UDP payload a second; `None` is unlimited.
    pub bits_per_s: Option<u64>,
    /// Bytes saved up; one datagram always fits, whatever this says.
    pub burst_bytes: u64,
}

/// Shape of a [`Relay`](super::Relay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The shard it belongs to.
    pub shard: u16,
    /// Bits at the top of a channel's id that name the shard
    /// ([`Partition::shard_bits`](crate::partition::Partition::shard_bits)).
    pub shard_bits: u32,
    /// Channels at a time.
    pub channels_max: usize,
    /// Channels of one peer in this shard.
    pub channels_per_peer: u32,
    /// This shard's share of what the router gives to relaying.
    pub router: Budget,
    /// What the senders of one /24 or /48 have together.
    pub prefix: Budget,
    /// What a sender of reputation 1 has; the factor multiplies the rate.
    pub peer: Budget,
    /// How long a channel lives after its last allocation.
    pub lifetime: Duration,
    /// How long it lives without data.
    pub idle: Duration,
    /// How long data may wait for its budget.
    pub ttl: Duration,
    /// Datagrams that may wait, all channels together.
    pub waiting_max: usize,
    /// Datagrams that may wait in one direction of a channel, at most
    /// [`WAITING_PER_FLOW_MAX`](Self::WAITING_PER_FLOW_MAX).
    pub waiting_per_flow: u32,
}

impl Config {
    /// Most that may wait in one direction of a channel.
    pub const WAITING_PER_FLOW_MAX: u32 = 64;

    pub(super) fn check(&self) {
        let Self { shard, shard_bits, channels_max, .. } = *self;
        assert!(
            shard_bits <= partition::bits(partition::SHARDS_MAX),
            "as many shards as there are"
        );
        assert!(u32::from(shard) >> shard_bits == 0, "a shard is one of those there are");
        assert!(channels_max > 0 && channels_max <= 1 << 24, "slots and sides fit an id's bits");
        assert!(self.waiting_max > 0, "somebody may wait");
        assert!(u32::try_from(self.waiting_max).is_ok_and(|max| max < u32::MAX), "places are u32");
        assert!(
            (1..=Self::WAITING_PER_FLOW_MAX).contains(&self.waiting_per_flow),
            "queues' lengths are told apart by the bits of a word"
        );
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shard: 0,
            shard_bits: 0,
            channels_max: 16_384,
            channels_per_peer: 32,
            router: Budget { bits_per_s: Some(100_000_000), burst_bytes: 1 << 20 },
            prefix: Budget { bits_per_s: Some(1_000_000), burst_bytes: 1 << 20 },
            peer: Budget { bits_per_s: Some(64_000), burst_bytes: 256 << 10 },
            lifetime: Duration::from_secs(3600),
            idle: Duration::from_secs(300),
            ttl: Duration::from_secs(2),
            waiting_max: 4096,
            waiting_per_flow: 32,
        }
    }
}
