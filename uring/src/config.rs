//! Sizes of an engine.

use crate::achieved::TxMode;

/// Sizes of an engine, both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Receive slots given to the kernel at a time. Few, since each is as large
    /// as a coalesced run and should still be in cache when it is read: 16-32.
    /// Own more: the router holds some for a while.
    pub rx_post: usize,
    /// Most messages one turn brings.
    pub rx_batch: usize,
    /// Most transmits that wait for a flush; the next one flushes first.
    pub tx_batch: usize,
    /// How datagrams leave.
    pub tx: TxMode,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { rx_post: 32, rx_batch: 64, tx_batch: 128, tx: TxMode::Auto }
    }
}

impl EngineConfig {
    /// Panics on sizes that no engine could work with.
    pub(crate) fn check(&self) {
        assert!((1..=1024).contains(&self.rx_post), "1 to 1024 slots are posted");
        assert!((1..=4096).contains(&self.rx_batch), "1 to 4096 messages a turn");
        assert!((1..=1024).contains(&self.tx_batch), "1 to 1024 transmits a flush");
    }
}
