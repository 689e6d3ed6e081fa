//! What an engine counts. Plain numbers that only grow, one writer; they survive
//! a change of engine.

use crate::errors::Errors;

/// Counters of one socket and its engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams received, each segment of a coalesced run counted.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Receive slots filled; fewer than datagrams where the kernel coalesced.
    pub rx_messages: u64,
    /// Turns that brought at least one datagram.
    pub rx_batches: u64,
    /// Messages dropped because they did not fit their slot.
    pub rx_truncated: u64,
    /// Messages dropped because no sender could be read from them.
    pub rx_nameless: u64,
    /// Datagrams the kernel dropped because the socket's receive buffer was full
    /// (or whose checksum was wrong), as last reported with a datagram.
    pub rx_kernel_drops: u64,
    /// Times that receiving stopped for want of a free slot.
    pub rx_starved: u64,
    /// Failed receives.
    pub rx_errors: Errors,

    /// Datagrams sent, each segment counted.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Messages handed to the kernel; fewer than datagrams where they were coalesced.
    pub tx_messages: u64,
    /// Flushes that sent something.
    pub tx_batches: u64,
    /// Datagrams that went out as part of a coalesced message.
    pub tx_gso_segments: u64,
    /// Messages that left without a copy.
    pub tx_zero_copy: u64,
    /// Flushes that met a full send buffer.
    pub tx_blocked: u64,
    /// Datagrams dropped, by what the kernel said.
    pub tx_errors: Errors,

    /// System calls of the data path.
    pub syscalls: u64,
    /// Times another thread woke a turn.
    pub wakes: u64,
    /// Times a multishot receive ended and was started again.
    pub rx_rearms: u64,
    /// Times the completion queue overflowed (the kernel kept the rest; nothing is lost).
    pub cq_overflows: u64,
}
