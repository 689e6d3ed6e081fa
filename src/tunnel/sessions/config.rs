//! What sessions are told at the start, and what they tell of themselves.

use std::time::Duration;

use crate::admission;
use crate::partition::Partition;

/// Limits of the sessions of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Slots.
    pub sessions_max: u32,
    /// This shard's number, in the top bits of every receiver index.
    pub shard: u16,
    /// Which shard a peer has its session in.
    pub partition: Partition,
    /// Silence after which an empty message is sent; `None` for never.
    pub keepalive: Option<Duration>,
    /// Handshakes that one turn answers.
    pub handshakes_per_turn: u32,
    /// Initiations of one [`Standing`](admission::Standing) that wait for the next turns.
    pub handshake_queue: usize,
    /// What strangers must show.
    pub admission: admission::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions_max: 65_536,
            shard: 0,
            partition: Partition::single(),
            keepalive: Some(Duration::from_secs(20)),
            handshakes_per_turn: 1,
            handshake_queue: 64,
            admission: admission::Config::default(),
        }
    }
}

/// What must not be guessed.
#[derive(Clone)]
pub struct Secrets {
    /// Makes cookies; the same in all shards.
    pub cookies: [u8; 32],
    /// Everything that is drawn at random: tokens, nonces, hash keys. Another one for every shard.
    pub seed: [u8; 32],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Handshakes that were answered.
    pub handshakes: u64,
    /// Initiations that were opened here and moved to the peer's home.
    pub moved: u64,
    /// Initiations that were no good after their curve work.
    pub handshakes_failed: u64,
    /// Sessions begun: a key that was not known.
    pub begun: u64,
    /// Sessions ended.
    pub ended: u64,
    /// Those of them that made room for a newcomer from a network with fewer.
    pub displaced: u64,
    /// Keys that were used for the first time.
    pub confirmed: u64,
    /// Cookie replies.
    pub cookies: u64,
    /// Endpoints that moved.
    pub roams: u64,
    /// Path challenges sent.
    pub challenges: u64,
    /// Path challenges answered.
    pub proved: u64,
    /// Keepalives sent.
    pub keepalives_sent: u64,
    /// Keepalives received.
    pub keepalives_received: u64,
    /// Sessions whose engine had no key where there should have been one: it was started anew.
    pub keys_lost: u64,
}
