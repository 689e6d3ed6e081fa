//! Counters: what a shard did, in cells that anybody may read while it works.
//!
//! A shard owns one region of 64-bit cells ([`bufpool::Cells`]), mapped from a file of its own or
//! private. It alone writes, by plain loads and stores; `status` and the metrics endpoint read
//! [`Snapshot`]s of it, also while the shard is busy and after it is gone. One table
//! ([`layout`]) is the source of the cells, of the metrics' names, types, labels and help texts, and
//! of METRICS.md.
//!
//! Invariants:
//! * Every cell belongs to one series; label values are closed sets, never a peer or an address.
//! * Adders take typed values, so nothing a peer sends chooses a cell out of bounds.
//! * A reader of another version refuses the file: its header carries a fingerprint of the table.
//! * Cells are read one by one: a snapshot may catch a turn half published, never half a cell.

pub mod docs;
pub mod labels;
pub mod layout;
pub mod mail;
mod pairs;
mod read;
#[cfg(test)]
mod tests;
pub mod text;

use std::io;
use std::path::Path;
use std::time::Duration;

use bufpool::Cells;
use peerstore::{FaultKind, Recovery};

use crate::drops::Drop;
use crate::egress::{Log2, QueueStats};
use crate::identity;
use crate::net::{Achieved, Feature, Stats};
use crate::overlay::records::{self, Share};
use crate::overlay::{Inserted, Refused};
use crate::time::Now;
use crate::tunnel;
use crate::wire::code::Code;
use crate::wire::kind::{Class, Kind};
use labels::{DECRYPT_DROPS, HANDSHAKE_DROPS};
use layout::{CELLS, COUNT_BUCKETS, HEADER_CELLS, Id, MAGIC};

pub use read::{CountersView, OpenError, Snapshot};

/// Name of a shard's file in the directory for counters.
pub fn file_name(shard: u32) -> String {
    format!("shard-{shard}.counters")
}

/// The one writer of a shard's counters.
#[derive(Debug)]
pub struct Counters {
    cells: Cells,
}

impl Counters {
    /// Counters in a new file that replaces what is at `path`.
    ///
    /// # Errors
    /// Those of creating and mapping the file.
    pub fn create(path: &Path, shard: u32) -> io::Result<Self> {
        Ok(Self::begin(Cells::create(path, CELLS)?, shard))
    }

    /// The counters of a writer that is gone, from zero again, in its file: who reads it goes on, and
    /// finds its header at any time. When it began and last turned holds until the new one does.
    ///
    /// # Errors
    /// Those of mapping the file.
    pub fn take_over(path: &Path, shard: u32) -> io::Result<Self> {
        let cells = Cells::take_over(path, CELLS)?;
        let kept = [Id::Started, Id::Heartbeat].map(Id::cell);
        let counted = (HEADER_CELLS..CELLS).filter(|cell| !kept.contains(cell));
        counted.for_each(|cell| cells.store(cell, 0));
        Ok(Self::begin(cells, shard))
    }

    /// Counters that only this process sees.
    ///
    /// # Errors
    /// That of `mmap(2)`.
    pub fn anonymous(shard: u32) -> io::Result<Self> {
        Ok(Self::begin(Cells::anonymous(CELLS)?, shard))
    }

    fn begin(cells: Cells, shard: u32) -> Self {
        cells.store(1, layout::layout());
        cells.store(2, shard.into());
        cells.store(3, CELLS as u64);
        // Last: a reader that finds the magic finds the rest.
        cells.store(0, MAGIC);
        Self { cells }
    }

    /// What the cells hold now.
    pub fn snapshot(&self) -> Snapshot {
        read::snapshot(|index| self.cells.load(index))
    }

    #[inline]
    fn add(&self, id: Id, series: usize, n: u64) {
        self.cells.add(id.cell() + series, n);
    }

    #[inline]
    fn set(&self, id: Id, series: usize, value: u64) {
        self.cells.store(id.cell() + series, value);
    }

    /// Counts something dropped, in every metric its reason belongs to.
    #[inline]
    pub fn drop(&self, reason: Drop) {
        const HANDSHAKE: [u8; Drop::ALL.len()] = labels::results(&HANDSHAKE_DROPS);
        const DECRYPT: [u8; Drop::ALL.len()] = labels::results(&DECRYPT_DROPS);
        let index = reason as usize;
        self.add(Id::Dropped, index, 1);
        match (HANDSHAKE[index], DECRYPT[index]) {
            (0, 0) => {}
            (0, decrypt) => self.add(Id::Decrypts, decrypt.into(), 1),
            (handshake, _) => self.add(Id::Handshakes, handshake.into(), 1),
        }
    }

    /// Counts datagrams dropped for one reason, which is none of a handshake or of decryption.
    #[inline]
    pub fn dropped(&self, reason: Drop, datagrams: u64) {
        self.add(Id::Dropped, reason as usize, datagrams);
    }

    /// Counts a data message that authenticated.
    #[inline]
    pub fn decrypt_ok(&self) {
        self.add(Id::Decrypts, 0, 1);
    }

    /// Publishes what the sessions count themselves.
    pub fn tunnel(&self, stats: &tunnel::Stats) {
        self.set(Id::Handshakes, 0, stats.handshakes);
        self.set(Id::Moved, 0, stats.moved);
        self.set(Id::CookieReplies, 0, stats.cookies);
        self.set(Id::SessionsEnded, 0, stats.ended);
        self.set(Id::SessionsDisplaced, 0, stats.displaced);
        self.set(Id::Roams, 0, stats.roams);
        self.set(Id::Challenges, 0, stats.challenges);
        self.set(Id::Proofs, 0, stats.proved);
        self.set(Id::Keepalives, 0, stats.keepalives_sent);
        self.set(Id::KeysLost, 0, stats.keys_lost);
    }

    /// Counts a data message for another shard's session.
    #[inline]
    pub fn forwarded_datagram(&self) {
        self.add(Id::Forwarded, 0, 1);
    }

    /// Whether strangers must show a cookie now.
    #[inline]
    pub fn under_load(&self, yes: bool) {
        self.set(Id::UnderLoad, 0, yes.into());
    }

    /// Sessions now and at most.
    #[inline]
    pub fn sessions(&self, live: usize, max: usize) {
        self.set(Id::Sessions, 0, live as u64);
        self.set(Id::SessionsMax, 0, max as u64);
    }

    /// Counts a message received; `None` for a type the protocol does not define.
    #[inline]
    pub fn received(&self, kind: Option<Kind>) {
        self.add(Id::Received, type_index(kind), 1);
    }

    /// Counts a message received and dropped, or whose answer was.
    #[inline]
    pub fn message_dropped(&self, kind: Option<Kind>) {
        self.add(Id::MessageDropped, type_index(kind), 1);
    }

    /// Counts a message sent.
    #[inline]
    pub fn sent(&self, kind: Kind) {
        self.add(Id::Sent, type_index(Some(kind)), 1);
    }

    /// Counts an ERROR answer sent.
    #[inline]
    pub fn error_sent(&self, code: Code) {
        self.add(Id::Errors, code as usize, 1);
    }

    /// Publishes a class's queue. Costs two loads when nothing happened there since.
    #[inline]
    pub fn queue(&self, class: Class, stats: &QueueStats) {
        let at = class as usize;
        let unchanged = |id: Id, value| self.cells.load(id.cell() + at) == value;
        if unchanged(Id::QueueOffered, stats.offered)
            && unchanged(Id::QueueDepth, stats.depth as u64)
            && unchanged(Id::QueueCapacity, stats.capacity as u64)
        {
            return;
        }
        self.set(Id::QueueDepth, at, stats.depth as u64);
        self.set(Id::QueueHighWater, at, stats.high_water as u64);
        self.set(Id::QueueCapacity, at, stats.capacity as u64);
        self.set(Id::QueueOffered, at, stats.offered);
        self.set(Id::QueueEnqueued, at, stats.enqueued);
        self.set(Id::QueueCoalesced, at, stats.coalesced);
        self.set(Id::QueueSent, at, stats.sent);
        self.set(Id::QueueDropped, at * 2, stats.full);
        self.set(Id::QueueDropped, at * 2 + 1, stats.expired);
        self.set(Id::QueuePoliced, at * 2, stats.peer_rate);
        self.set(Id::QueuePoliced, at * 2 + 1, stats.prefix_rate);
        let wait = at * (Log2::BUCKETS + 1);
        for (bucket, &n) in stats.wait.buckets.iter().enumerate() {
            self.set(Id::QueueWait, wait + bucket, n);
        }
        self.set(Id::QueueWait, wait + Log2::BUCKETS, stats.wait.sum_ns);
    }

    /// Counts an identity binding that does not hold.
    #[inline]
    pub fn binding_refused(&self, reason: identity::Refused) {
        self.add(Id::BindingRefused, reason as usize, 1);
    }

    /// Publishes the socket.
    pub fn socket(&self, stats: &Stats) {
        let pairs = [
            (Id::SocketPackets, stats.rx_packets, stats.tx_packets),
            (Id::SocketBytes, stats.rx_bytes, stats.tx_bytes),
            (Id::SocketMessages, stats.rx_messages, stats.tx_messages),
            (Id::SocketBatches, stats.rx_batches, stats.tx_batches),
        ];
        for (id, receive, send) in pairs {
            self.set(id, 0, receive);
            self.set(id, 1, send);
        }
        let errors = stats.rx_errors.iter().chain(stats.tx_errors.iter());
        for (at, (_, n)) in errors.enumerate() {
            self.set(Id::SocketErrors, at, n);
        }
        // Whatever the kernel does not take is lost, for whichever of the reasons above.
        self.set(Id::Dropped, Drop::SendFailed as usize, stats.tx_errors.total());
        self.set(Id::SocketBlocked, 0, stats.tx_blocked);
        self.set(Id::SocketGsoSegments, 0, stats.tx_gso_segments);
        self.set(Id::SocketSyscalls, 0, stats.syscalls);
        self.set(Id::SocketKernelDropped, 0, stats.rx_kernel_drops);
        self.set(Id::SocketTruncated, 0, stats.rx_truncated);
        self.set(Id::SocketNameless, 0, stats.rx_nameless);
        self.set(Id::SocketStarved, 0, stats.rx_starved);
        self.set(Id::SocketRearms, 0, stats.rx_rearms);
        self.set(Id::SocketOverflows, 0, stats.cq_overflows);
        self.set(Id::SocketWakes, 0, stats.wakes);
    }

    /// Bytes of socket buffer that the kernel granted.
    pub fn socket_buffers(&self, receive: u64, send: u64) {
        self.set(Id::SocketBuffer, 0, receive);
        self.set(Id::SocketBuffer, 1, send);
    }

    /// Counts the datagrams that a turn received and sent.
    #[inline]
    pub fn batches(&self, received: u64, sent: u64) {
        for (at, n) in [received, sent].into_iter().enumerate() {
            if n > 0 {
                let first = at * (COUNT_BUCKETS + 1);
                self.add(Id::SocketBatchPackets, first + count_bucket(n), 1);
                self.add(Id::SocketBatchPackets, first + COUNT_BUCKETS, n);
            }
        }
    }

    /// How the shard moves packets now, and what is missing with the reason.
    pub fn port(&self, achieved: &Achieved) {
        for id in [Id::Io, Id::Tx, Id::Missing] {
            (0..id.metric().series()).for_each(|series| self.set(id, series, 0));
        }
        self.set(Id::Io, labels::io_index(achieved.engine), 1);
        self.set(Id::Tx, labels::tx_index(achieved.tx), 1);
        let Achieved { gro, gso, registered_file, registered_buffers, busy_poll, .. } = *achieved;
        let offloads = [gro, gso, registered_file, registered_buffers, busy_poll];
        for (at, on) in offloads.into_iter().enumerate() {
            self.set(Id::Offload, at, on.into());
        }
        for missing in &achieved.missing {
            let reason = labels::missing_index(missing.reason);
            let feature = Feature::ALL.iter().position(|feature| *feature == missing.feature);
            let series = feature.map(|at| at * labels::Axis::Missing.len() + reason);
            series.into_iter().for_each(|series| self.set(Id::Missing, series, 1));
        }
    }

    /// Free and all buffers of the pool for packets and of the one for receiving.
    #[inline]
    pub fn pools(&self, packet: (usize, usize), receive: (usize, usize)) {
        for (at, (free, all)) in [packet, receive].into_iter().enumerate() {
            self.set(Id::PoolFree, at, free as u64);
            self.set(Id::PoolBuffers, at, all as u64);
        }
    }

    /// When the shard started.
    pub fn started(&self, now: Now) {
        self.set(Id::Started, 0, now.unix_ms);
        self.set(Id::Heartbeat, 0, now.unix_ms);
    }

    /// How often the shard panicked and began again.
    pub fn restarts(&self, restarts: u64) {
        self.set(Id::Restarts, 0, restarts);
    }

    /// Counts a turn that began at `now` and was busy for so long.
    #[inline]
    pub fn turn(&self, now: Now, busy: Duration) {
        let ns = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.set(Id::Heartbeat, 0, now.unix_ms);
        self.add(Id::Turns, 0, 1);
        self.add(Id::Busy, 0, ns);
        self.add(Id::Turn, Log2::bucket(ns), 1);
        self.add(Id::Turn, Log2::BUCKETS, ns);
    }

    /// Counts a turn that left datagrams to the next one.
    #[inline]
    pub fn turn_cut(&self) {
        self.add(Id::TurnsCut, 0, 1);
    }

    /// Share of its time that the shard is busy.
    #[inline]
    pub fn load_permille(&self, permille: u32) {
        self.set(Id::Load, 0, permille.into());
    }

    /// Counts what the routing table did with a peer.
    #[inline]
    pub fn inserted(&self, outcome: Inserted) {
        let result = match outcome {
            Inserted::Added => 0,
            Inserted::Updated => 1,
            Inserted::Pinging { .. } => 2,
            Inserted::Waiting => 3,
            Inserted::Refused(Refused::Prefix) => 4,
            Inserted::Refused(Refused::Busy) => 5,
            Inserted::Refused(Refused::Full) => 6,
        };
        self.add(Id::Inserts, result, 1);
    }

    /// Counts a peer that lost its place in the routing table.
    #[inline]
    pub fn evicted(&self) {
        self.add(Id::Evictions, 0, 1);
    }

    /// Counts a restored peer that did not come back.
    pub fn lapsed(&self) {
        self.add(Id::Lapses, 0, 1);
    }

    /// Counts what became of a value or a provider.
    #[inline]
    pub fn written(&self, outcome: records::Outcome) {
        self.add(Id::Written, outcome.index(), 1);
    }

    /// Counts a value or a provider that is not what it says.
    #[inline]
    pub fn write_refused(&self) {
        self.add(Id::WriteRefused, 0, 1);
    }

    /// Values and providers kept now.
    pub fn records(&self, values: Share, providers: Share) {
        self.set(Id::Values, 0, values.entries as u64);
        self.set(Id::ValueBytes, 0, values.bytes as u64);
        self.set(Id::Providers, 0, providers.entries as u64);
        self.set(Id::ProviderBytes, 0, providers.bytes as u64);
    }

    /// Publishes the mailbox.
    pub fn mailbox(&self, stats: &mail::Stats) {
        self.set(Id::MailWakes, 0, stats.wakes);
        self.set(Id::MailAlarms, 0, stats.alarms);
        for (at, class) in stats.classes.iter().enumerate() {
            self.set(Id::MailDepth, at, class.depth as u64);
            self.set(Id::MailHighWater, at, class.high_water as u64);
            self.set(Id::MailOffered, at, class.offered);
            self.set(Id::MailEnqueued, at, class.enqueued);
            self.set(Id::MailCoalesced, at, class.coalesced);
            self.set(Id::MailSent, at, class.sent);
            self.set(Id::MailReceived, at, class.received);
            for (reason, &n) in class.dropped.iter().enumerate() {
                self.set(Id::MailDropped, at * mail::Reason::ALL.len() + reason, n);
            }
        }
    }

    /// Publishes what the store's writer counted, and whether it fails now.
    pub fn store(&self, stats: &peerstore::journal::Stats, failing: Option<FaultKind>) {
        self.set(Id::StoreOpen, 0, 1);
        for (at, kind) in FaultKind::ALL.into_iter().enumerate() {
            self.set(Id::StoreFailing, at, u64::from(failing == Some(kind)));
            self.set(Id::StoreFaults, at, stats.faults[at]);
        }
        self.set(Id::StoreRecords, 0, stats.records_log);
        self.set(Id::StoreRecords, 1, stats.records_snapshot);
        self.set(Id::StoreWritten, 0, stats.bytes_written);
        self.set(Id::StoreSyncs, 0, stats.syncs);
        self.set(Id::StoreSyncSeconds, 0, stats.sync_ns_total);
        self.set(Id::StoreSyncMax, 0, stats.sync_ns_max);
        self.set(Id::StoreDropped, 0, stats.dropped_soft);
        self.set(Id::StoreDropped, 1, stats.dropped_critical);
        self.set(Id::StoreLogBytes, 0, stats.log_bytes);
        self.set(Id::StoreEpoch, 0, stats.epoch);
        self.set(Id::StoreSnapshots, 0, stats.snapshots);
    }

    /// Publishes what the store had at the start, and how many records of it were of use.
    pub fn store_recovery(&self, found: &Recovery, restored: u64) {
        self.set(Id::StoreRecovered, 0, found.records);
        self.set(Id::StoreRestored, 0, restored);
        let damage = [found.torn, found.corrupt, found.unreadable, found.snapshots_damaged];
        for (at, files) in damage.into_iter().enumerate() {
            self.set(Id::StoreDamage, at, files.into());
        }
    }

    /// Peers and buckets of the routing table now.
    #[inline]
    pub fn table(&self, peers: usize, buckets: usize) {
        self.set(Id::Peers, 0, peers as u64);
        self.set(Id::Buckets, 0, buckets as u64);
    }
}

#[inline]
fn type_index(kind: Option<Kind>) -> usize {
    const TYPES: [u8; 256] = labels::types();
    kind.map_or(Kind::ALL.len(), |kind| TYPES[kind as usize].into())
}

/// The bucket of a number of things: the smallest `i` with `n <= 2^i`, or the last.
#[inline]
fn count_bucket(n: u64) -> usize {
    let bucket = if n <= 1 { 0 } else { (n - 1).ilog2() as usize + 1 };
    bucket.min(COUNT_BUCKETS - 1)
}

const _: () = assert!(HEADER_CELLS >= 4, "the header holds four values");
