//! The metrics: one table for the cells, the names, the help texts and METRICS.md.

use super::labels::Axis;
use crate::egress::Log2;

/// How a cell's number becomes the metric's base unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As it is.
    One,
    /// Thousandths: milliseconds, permille.
    Milli,
    /// Nanoseconds.
    Nano,
}

impl Scale {
    /// Decimal places it moves.
    pub const fn places(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Milli => 3,
            Self::Nano => 9,
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows while the shard lives.
    Counter(Scale),
    /// Now.
    Gauge(Scale),
    /// A gauge of 0 or 1 with more combinations of labels than are ever true: zeros are not exposed.
    State,
    /// Durations, as [`Log2`]: cells are its buckets and its sum in nanoseconds.
    Seconds,
    /// Numbers of things by powers of two: cells are [`COUNT_BUCKETS`] buckets and the sum.
    Count,
}

/// Buckets of a [`Type::Count`]: up to 1, 2, 4 .. 4096, and above.
pub const COUNT_BUCKETS: usize = 14;

impl Type {
    /// Name of the type in the exposition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) | Self::State => "gauge",
            Self::Seconds | Self::Count => "histogram",
        }
    }

    /// Cells for one combination of label values.
    pub const fn cells(self) -> usize {
        match self {
            Self::Counter(_) | Self::Gauge(_) | Self::State => 1,
            Self::Seconds => Log2::BUCKETS + 1,
            Self::Count => COUNT_BUCKETS + 1,
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// Labels besides `shard`; the last one's values lie next to each other.
    pub axes: &'static [Axis],
    /// One line for people.
    pub help: &'static str,
}

impl Metric {
    /// Combinations of label values.
    pub const fn series(&self) -> usize {
        let mut series = 1;
        let mut i = 0;
        while i < self.axes.len() {
            series *= self.axes[i].len();
            i += 1;
        }
        series
    }

    const fn cells(&self) -> usize {
        self.series() * self.kind.cells()
    }
}

macro_rules! metrics {
    ($($id:ident = $name:literal $kind:expr, [$($axis:ident),*], $help:literal;)*) => {
        /// A metric by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Id {
            $(#[doc = $help] $id,)*
        }

        impl Id {
            /// Every metric.
            pub const ALL: [Self; [$(Self::$id),*].len()] = [$(Self::$id,)*];
        }

        /// Every metric, in the order of [`Id`], of the cells and of the exposition.
        pub const METRICS: [Metric; [$(Id::$id),*].len()] = [
            $(Metric { name: $name, kind: $kind, axes: &[$(Axis::$axis),*], help: $help },)*
        ];
    };
}

const COUNTER: Type = Type::Counter(Scale::One);
const GAUGE: Type = Type::Gauge(Scale::One);

metrics! {
    // Life.
    Started = "molia_shard_start_timestamp_seconds" Type::Gauge(Scale::Milli), [], "When the shard started.";
    Heartbeat = "molia_shard_heartbeat_timestamp_seconds" Type::Gauge(Scale::Milli), [], "When the shard last began a turn.";
    Restarts = "molia_shard_restarts_total" COUNTER, [], "Times the shard panicked and began again, with empty tables and all its other counters from zero.";
    Busy = "molia_shard_busy_seconds_total" Type::Counter(Scale::Nano), [], "Time in turns, without the waiting.";
    Turns = "molia_shard_turns_total" COUNTER, [], "Turns of the loop.";
    TurnsCut = "molia_shard_turns_cut_total" COUNTER, [], "Turns that left datagrams to the next one: their time was over, or the socket had no room for control answers.";
    Turn = "molia_shard_turn_duration_seconds" Type::Seconds, [], "Length of turns, without the waiting.";
    Load = "molia_shard_load_ratio" Type::Gauge(Scale::Milli), [], "Share of its time that the shard is busy, as it tells its peers.";
    Io = "molia_shard_io" GAUGE, [Io], "1 for how the shard moves packets now.";
    Tx = "molia_shard_tx" GAUGE, [Tx], "1 for how the shard sends packets now.";
    Offload = "molia_shard_offload" GAUGE, [Offload], "1 for what the kernel does for the shard now.";
    Missing = "molia_feature_missing" Type::State, [Feature, Missing], "1 for what is wanted and not to be had, and why; nothing for the rest.";
    // Socket.
    SocketPackets = "molia_socket_packets_total" COUNTER, [Direction], "Datagrams, each segment of a coalesced run counted.";
    SocketBytes = "molia_socket_bytes_total" COUNTER, [Direction], "Bytes of UDP payload.";
    SocketMessages = "molia_socket_messages_total" COUNTER, [Direction], "What crossed the kernel's stack as one: datagrams and coalesced runs (GRO, GSO).";
    SocketBatches = "molia_socket_batches_total" COUNTER, [Direction], "Turns that received or flushes that sent something.";
    SocketBatchPackets = "molia_socket_batch_packets" Type::Count, [Direction], "Datagrams of a turn that had any.";
    SocketBlocked = "molia_socket_send_blocked_total" COUNTER, [], "Flushes that met a full send buffer; what was left waits for room.";
    SocketGsoSegments = "molia_socket_gso_segments_total" COUNTER, [], "Datagrams sent as part of a coalesced run.";
    SocketSyscalls = "molia_socket_syscalls_total" COUNTER, [], "System calls of the data path.";
    SocketKernelDropped = "molia_socket_kernel_dropped_packets_total" COUNTER, [], "Datagrams the kernel dropped because the receive buffer was full (SO_RXQ_OVFL); without those of ports for unmodified WireGuard peers.";
    SocketTruncated = "molia_socket_truncated_packets_total" COUNTER, [], "Receives that did not fit their slot.";
    SocketNameless = "molia_socket_nameless_packets_total" COUNTER, [], "Receives without a readable sender.";
    SocketStarved = "molia_socket_receive_starved_total" COUNTER, [], "Times that receiving stopped for want of a free slot.";
    SocketRearms = "molia_socket_receive_rearmed_total" COUNTER, [], "Times a multishot receive ended and was started again.";
    SocketOverflows = "molia_socket_completion_overflows_total" COUNTER, [], "Times the completion queue overflowed; nothing is lost.";
    SocketWakes = "molia_socket_wakes_total" COUNTER, [], "Times another thread woke a turn.";
    SocketErrors = "molia_socket_errors_total" COUNTER, [Direction, SocketError], "Failed receives, and datagrams the kernel refused to send.";
    SocketBuffer = "molia_socket_buffer_bytes" GAUGE, [Direction], "Socket buffer the kernel granted.";
    // Buffers.
    PoolBuffers = "molia_pool_buffers" GAUGE, [Pool], "Buffers of the pool.";
    PoolFree = "molia_pool_free_buffers" GAUGE, [Pool], "Buffers that nobody holds.";
    // Drops.
    Dropped = "molia_dropped_packets_total" COUNTER, [Reason], "Datagrams and messages dropped, whatever the stage; send_failed is the sum of molia_socket_errors_total for sending.";
    // Queues.
    QueueDepth = "molia_queue_depth" GAUGE, [Class], "Frames waiting.";
    QueueHighWater = "molia_queue_depth_max" GAUGE, [Class], "Most frames that ever waited.";
    QueueCapacity = "molia_queue_capacity" GAUGE, [Class], "Frames that may wait.";
    QueueOffered = "molia_queue_offered_packets_total" COUNTER, [Class], "Frames offered: enqueued, coalesced, policed or dropped as full.";
    QueueEnqueued = "molia_queue_enqueued_packets_total" COUNTER, [Class], "Frames that got a place: sent, expired or waiting.";
    QueueCoalesced = "molia_queue_coalesced_packets_total" COUNTER, [Class], "Frames that took the place of an older one with their key.";
    QueueSent = "molia_queue_sent_packets_total" COUNTER, [Class], "Frames handed on to be sealed and sent.";
    QueueDropped = "molia_queue_dropped_packets_total" COUNTER, [Class, QueueDrop], "Frames dropped for want of a place or after waiting too long.";
    QueuePoliced = "molia_queue_policed_packets_total" COUNTER, [Class, Policed], "Frames refused because their peer or prefix is above its rate: that peer's doing, so not among the drops.";
    QueueWait = "molia_queue_wait_seconds" Type::Seconds, [Class], "How long sent frames waited.";
    // WireGuard.
    Handshakes = "molia_wg_handshakes_total" COUNTER, [Handshake], "Initiations by outcome. Those over a rate or a budget are also in molia_wg_cookie_replies_total if they were answered with a cookie; those that only lacked one under load are there alone.";
    CookieReplies = "molia_wg_cookie_replies_total" COUNTER, [], "Initiations answered with a cookie: those of strangers under load, and those without a cookie whose address or prefix used up its rate or that no longer fit the queue, and those that get a place in a full table only by showing one.";
    UnderLoad = "molia_wg_under_load" GAUGE, [], "1 while strangers must show a cookie.";
    Moved = "molia_wg_handshakes_moved_total" COUNTER, [], "Initiations opened here and handed to the shard that is their peer's home; counted there by outcome.";
    Forwarded = "molia_wg_forwarded_packets_total" COUNTER, [], "Data messages handed to the shard that their session is in: steering is off, or was wrong.";
    Decrypts = "molia_wg_decrypt_packets_total" COUNTER, [Decrypt], "Data messages of known sessions by outcome.";
    Sessions = "molia_wg_sessions" GAUGE, [], "Live sessions.";
    SessionsMax = "molia_wg_sessions_max" GAUGE, [], "Sessions there is room for.";
    SessionsEnded = "molia_wg_sessions_ended_total" COUNTER, [], "Sessions that expired or were closed.";
    SessionsDisplaced = "molia_wg_sessions_displaced_total" COUNTER, [], "Sessions, of those that ended, that made room in a full table for a peer from a network with fewer.";
    Roams = "molia_wg_roams_total" COUNTER, [], "Sessions that moved to another address.";
    Challenges = "molia_wg_path_challenges_total" COUNTER, [], "Challenges sent to unproven addresses.";
    Proofs = "molia_wg_path_proofs_total" COUNTER, [], "Challenges answered.";
    Keepalives = "molia_wg_keepalives_sent_total" COUNTER, [], "Keepalives sent.";
    KeysLost = "molia_wg_keys_lost_total" COUNTER, [], "Sessions begun anew because the key they should have had was gone: a fault of the router, never of a peer.";
    // Messages.
    Received = "molia_message_received_total" COUNTER, [Type], "Messages received, before they are judged.";
    MessageDropped = "molia_message_dropped_total" COUNTER, [Type], "Messages received and dropped, or whose answer was.";
    Sent = "molia_message_sent_total" COUNTER, [Type], "Messages sealed and handed to the port.";
    Errors = "molia_message_errors_sent_total" COUNTER, [Code], "ERROR answers sent.";
    BindingRefused = "molia_binding_refused_total" COUNTER, [Binding], "Identity bindings in NEGOTIATE that do not hold; answered with ERROR unauthorized.";
    // Between shards.
    MailDepth = "molia_mailbox_depth" GAUGE, [Class], "Messages to other shards that wait here for room.";
    MailHighWater = "molia_mailbox_depth_max" GAUGE, [Class], "Most messages that ever waited here.";
    MailOffered = "molia_mailbox_offered_messages_total" COUNTER, [Class], "Messages to other shards: enqueued, coalesced, or refused.";
    MailEnqueued = "molia_mailbox_enqueued_messages_total" COUNTER, [Class], "Messages that were accepted: sent, waiting, evicted or shed.";
    MailCoalesced = "molia_mailbox_coalesced_messages_total" COUNTER, [Class], "Messages that took the place of an older one with their key.";
    MailSent = "molia_mailbox_sent_messages_total" COUNTER, [Class], "Messages handed to other shards.";
    MailReceived = "molia_mailbox_received_messages_total" COUNTER, [Class], "Messages taken from other shards.";
    MailDropped = "molia_mailbox_dropped_messages_total" COUNTER, [Class, MailDrop], "Messages to other shards dropped: refused (duplicate, queue_full, control_full), or later (evicted, shed).";
    MailWakes = "molia_mailbox_wakes_total" COUNTER, [], "Times another shard was woken.";
    MailAlarms = "molia_mailbox_alarms_total" COUNTER, [], "Control messages that had to wait: another shard does not keep up.";
    // Overlay.
    Peers = "molia_overlay_peers" GAUGE, [], "Peers in the routing table.";
    Buckets = "molia_overlay_buckets" GAUGE, [], "Buckets of the routing table.";
    Inserts = "molia_overlay_inserts_total" COUNTER, [Insert], "Peers offered to the routing table by outcome.";
    Evictions = "molia_overlay_evictions_total" COUNTER, [], "Peers that did not answer and lost their place to a newcomer.";
    Lapses = "molia_overlay_lapses_total" COUNTER, [], "Peers listed from before a start that did not come back in time.";
    Written = "molia_records_written_total" COUNTER, [Written], "Values and providers that were checked and offered to the shard that owns their keys, by outcome.";
    WriteRefused = "molia_records_refused_total" COUNTER, [], "Values and providers that are not what they say: key, signature or time.";
    Values = "molia_records_values" GAUGE, [], "Values kept.";
    ValueBytes = "molia_records_value_bytes" GAUGE, [], "Bytes of them.";
    Providers = "molia_records_providers" GAUGE, [], "Providers kept.";
    ProviderBytes = "molia_records_provider_bytes" GAUGE, [], "Bytes of them.";
    // Introductions.
    Introductions = "molia_rendezvous_introductions_total" COUNTER, [Introduction], "Introductions that sessions of this shard asked for, by what became of them.";
    Punches = "molia_rendezvous_results_total" COUNTER, [Punch], "How introductions ended, as one or both sides told.";
    // Relay.
    Channels = "molia_relay_channels" GAUGE, [], "Relay channels of the shard.";
    Members = "molia_relay_members" GAUGE, [], "Peers that have any.";
    Allocations = "molia_relay_allocations_total" COUNTER, [Allocation], "Requests for a channel that reached its shard.";
    ChannelsEnded = "molia_relay_channels_ended_total" COUNTER, [ChannelEnd], "Channels that ended.";
    Relayed = "molia_relay_packets_total" COUNTER, [], "Datagrams sent on to the other leg. Those that were not are in molia_dropped_packets_total.";
    RelayedBytes = "molia_relay_bytes_total" COUNTER, [], "Bytes of them, channel headers included.";
    RelayWaiting = "molia_relay_waiting_packets" GAUGE, [], "Datagrams that wait for a budget or for room.";
    RelayThrottled = "molia_relay_throttled_total" COUNTER, [], "Times that a leg was told to slow down.";
    // Reflection.
    FilterProbes = "molia_filter_probes_total" COUNTER, [Probed], "Filter probes sent: from the main port after the time that a peer asked for, from the alternate port, and for peers of the other router.";
    StunAnswered = "molia_stun_answered_total" COUNTER, [], "STUN Binding requests answered, with an error or the address they came from.";
    StockPairs = "molia_relay_stock_pairs" GAUGE, [], "Pairs of unmodified WireGuard peers that have ports of the shard.";
    StockRelayed = "molia_relay_stock_packets_total" COUNTER, [], "Datagrams sent on from one of their ports by the other.";
    StockRelayedBytes = "molia_relay_stock_bytes_total" COUNTER, [], "Bytes of them.";
    StockBound = "molia_relay_stock_bound_total" COUNTER, [], "Times that a port was bound to another address.";
    // Store.
    StoreOpen = "molia_store_open" GAUGE, [], "1 if there is a store; without one records are in memory alone.";
    StoreFailing = "molia_store_failing" GAUGE, [StoreFault], "1 while the store cannot be written, and why; what it cannot keep is refused as busy.";
    StoreFaults = "molia_store_faults_total" COUNTER, [StoreFault], "Failures of the disk. What could not be written or synced is written again, to a log of its own; a snapshot that failed is made anew.";
    StoreRecords = "molia_store_records_total" COUNTER, [StoreFile], "Records written.";
    StoreWritten = "molia_store_written_bytes_total" COUNTER, [], "Bytes written to logs and snapshots.";
    StoreSyncs = "molia_store_syncs_total" COUNTER, [], "Syncs of the log.";
    StoreSyncSeconds = "molia_store_sync_seconds_total" Type::Counter(Scale::Nano), [], "Time that they took.";
    StoreSyncMax = "molia_store_sync_max_seconds" Type::Gauge(Scale::Nano), [], "The longest one.";
    StoreDropped = "molia_store_dropped_records_total" COUNTER, [StoreClass], "Changes that found no room on their way to the store: soft ones, and critical ones, which a snapshot makes up for.";
    StoreLogBytes = "molia_store_log_bytes" GAUGE, [], "Bytes of the logs that a start would read.";
    StoreEpoch = "molia_store_epoch" GAUGE, [], "Number of the log that is written.";
    StoreSnapshots = "molia_store_snapshots_total" COUNTER, [], "Snapshots that took the place of logs.";
    StoreRecovered = "molia_store_recovered_records" GAUGE, [], "Records that the store had at the start.";
    StoreRestored = "molia_store_restored_records" GAUGE, [], "Those of them that still said something.";
    StoreDamage = "molia_store_damaged_files" GAUGE, [StoreDamage], "Files that were not whole at the start: a torn log is what a crash leaves, everything else is damage.";
}

/// Cells in front of the metrics: magic, layout, shard, number of cells, and space to a cache line.
pub(super) const HEADER_CELLS: usize = 8;
/// First bytes of a counter file.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"moliactr");

/// First cell of each metric.
const OFFSETS: [usize; METRICS.len()] = {
    let mut offsets = [0; METRICS.len()];
    let mut at = HEADER_CELLS;
    let mut i = 0;
    while i < METRICS.len() {
        offsets[i] = at;
        at += METRICS[i].cells();
        i += 1;
    }
    offsets
};

/// Cells in all.
pub const CELLS: usize = OFFSETS[METRICS.len() - 1] + METRICS[METRICS.len() - 1].cells();

impl Id {
    /// The metric's row of the table.
    pub const fn metric(self) -> &'static Metric {
        &METRICS[self as usize]
    }

    /// Its first cell.
    #[inline]
    pub(super) const fn cell(self) -> usize {
        OFFSETS[self as usize]
    }
}

/// A fingerprint of everything a reader relies on: names, types, labels and their values.
pub(super) fn layout() -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut eat = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    };
    for metric in &METRICS {
        eat(metric.name);
        eat(metric.kind.name());
        if let Type::Counter(scale) | Type::Gauge(scale) = metric.kind {
            eat(["", "m", "n"][scale as usize]);
        }
        for axis in metric.axes {
            eat(axis.name());
            (0..axis.len()).for_each(|value| eat(axis.value(value)));
        }
    }
    hash ^ CELLS as u64
}
