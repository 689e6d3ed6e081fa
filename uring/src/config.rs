//! Sizes of an engine.

use std::time::Duration;

use crate::achieved::TxMode;
use crate::plan::SEGMENTS_MAX;

/// Bytes after which a turn begins no further round: what a turn brings should
/// still be in cache when it is handled.
pub const TURN_BYTES: u64 = 128 * 1024;

/// Transmits taken while the socket's send buffer is full, beside the batch that it refused: for
/// what has no other place to wait in. Beyond them what is sent is dropped and counted.
pub const TX_RESERVE: usize = 64;

/// Sizes of an engine, both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Receive slots given to the kernel at a time. Few, since each is as large
    /// as a coalesced run and should still be in cache when it is read: 16-32.
    /// Own more: the router holds some for a while.
    pub rx_post: usize,
    /// Most messages one turn brings, in rounds of what is posted. A larger batch
    /// finds more datagrams of one path to send together, but only when so many
    /// are waiting (8 peers by turns: 64 costs 20 % less than 32, 128 another
    /// 12 %); a turn stops early once it brought [`TURN_BYTES`].
    pub rx_batch: usize,
    /// Transmits that wait for each other; the last of them flushes.
    pub tx_batch: usize,
    /// Most datagrams of one coalesced message, 1 to 64.
    pub gso_max_segments: usize,
    /// Submission entries of the ring, rounded up to a power of two; completions get
    /// four times as many, 65,536 at most.
    pub ring_entries: usize,
    /// Time that a wait polls the network card before it sleeps, in whole microseconds; zero for
    /// never. The ring alone can do that.
    pub busy_poll: Duration,
    /// How datagrams leave.
    pub tx: TxMode,
    /// Least bytes of a run that leaves its receive slot without a copy
    /// (`io/zerocopy_min_bytes`), `None` for never; only with [`TxMode::Uring`].
    /// Pays from about 16 KiB on devices that gather, never on loopback.
    pub zero_copy_min_bytes: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            rx_post: 32,
            rx_batch: 64,
            tx_batch: 128,
            gso_max_segments: SEGMENTS_MAX,
            ring_entries: 256,
            busy_poll: Duration::ZERO,
            tx: TxMode::Auto,
            zero_copy_min_bytes: None,
        }
    }
}

impl EngineConfig {
    /// Panics on sizes that no engine could work with.
    pub(crate) fn check(&self) {
        assert!((1..=1024).contains(&self.rx_post), "1 to 1024 slots are posted");
        assert!((1..=4096).contains(&self.rx_batch), "1 to 4096 messages a turn");
        assert!((1..=1024).contains(&self.tx_batch), "1 to 1024 transmits a flush");
        assert!((1..=SEGMENTS_MAX).contains(&self.gso_max_segments), "1 to 64 datagrams a message");
        assert!((1..=32_768).contains(&self.ring_entries), "1 to 32,768 entries of the ring");
    }
}
