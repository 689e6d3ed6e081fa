//! What a router is told at the start.

use std::net::IpAddr;
use std::sync::Arc;

use crate::egress;
use crate::ids::PeerId;
use crate::limits;
use crate::overlay::reassembly;
use crate::overlay::records as kept;
use crate::overlay::table;
use crate::relay::{self, stock};
use crate::tunnel;

use super::{Keeping, Role};

/// Settings of a router, validated and in the units the loop uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sessions, their timers and the admission in front of them.
    pub tunnel: tunnel::Config,
    /// Send queues and rate limits.
    pub egress: egress::Config,
    /// The routing table.
    pub table: table::Config,
    /// Values and providers.
    pub records: RecordsConfig,
    /// What it does for peers (`overlay/role`).
    pub role: Role,
    /// Answer REFLECT (`reflect/enabled`).
    pub reflect: bool,
    /// Answer plain STUN (`reflect/stun`).
    pub stun: bool,
    /// The router that sends filter probes for this one, and may ask for them
    /// (`reflect/other_router`).
    pub other_router: Option<PeerId>,
    /// Largest plaintext accepted, in bytes (`pmtu/ceiling` less WireGuard's overhead).
    pub plaintext_bytes_max: usize,
    /// Code point that control is sent with, 0 to 63 (`udp/dscp_control`).
    pub dscp_control: u8,
    /// The alternate port (`udp/alt_port`), 0 if there is none; filled in with the one that is bound.
    pub alternate_port: u16,
    /// Addresses of this host, which nobody is introduced at and nothing is relayed to.
    pub own: Arc<[IpAddr]>,
    /// The port it is reached at, 0 if that is not known; filled in with the one that is bound.
    pub port: u16,
    /// Channels between pairs of peers; of a router of several shards what belongs to each.
    pub relay: relay::Config,
    /// Ports for unmodified WireGuard peers (`relay/stock_*`), which shards share; none without them.
    pub stock: stock::Ports,
    /// Whether peers may be told of private, loopback and benchmark addresses, and have data
    /// relayed to them (`relay/allow_private`); for laboratories.
    pub allow_private: bool,
}

/// What is kept for peers, and what it costs them.
#[derive(Clone, Copy, Debug)]
pub struct RecordsConfig {
    /// How much.
    pub table: kept::Config,
    /// Largest record, in bytes of its message (`overlay/record_bytes_max`).
    pub record_bytes_max: usize,
    /// Leading zero bits of the stamp that a write takes; 0 asks for none (`stamp/bits`).
    pub stamp_bits: u32,
    /// What is done to keep it beyond the process (`peerstore/*`).
    pub keeping: Keeping,
}

impl RecordsConfig {
    pub(super) fn reassembly(&self) -> reassembly::Config {
        reassembly::Config { bytes_max: self.record_bytes_max, ..reassembly::Config::default() }
    }
}

impl Default for RecordsConfig {
    fn default() -> Self {
        let table = kept::Config::default();
        let record_bytes_max = table.values.entry_bytes_max;
        Self { table, record_bytes_max, stamp_bits: 12, keeping: Keeping::default() }
    }
}

/// The code point of what has to be early or is of no use (RFC 3246).
const EXPEDITED_FORWARDING: u8 = 46;

impl Default for Config {
    fn default() -> Self {
        Self {
            tunnel: tunnel::Config::default(),
            egress: egress::Config::default(),
            table: table::Config::default(),
            records: RecordsConfig::default(),
            role: Role::default(),
            reflect: true,
            stun: false,
            other_router: None,
            plaintext_bytes_max: limits::DATAGRAM_BASE_MAX - limits::WG_OVERHEAD,
            dscp_control: EXPEDITED_FORWARDING,
            alternate_port: 0,
            own: Arc::from([]),
            port: 0,
            relay: relay::Config::default(),
            stock: stock::Ports::NONE,
            allow_private: false,
        }
    }
}

impl Config {
    /// The relay of the shard that the sessions are configured for.
    pub(super) fn relay_of_shard(&self) -> relay::Config {
        let tunnel::Config { shard, partition, .. } = self.tunnel;
        relay::Config { shard, shard_bits: partition.shard_bits(), ..self.relay }
    }

    /// The ports of that shard.
    pub(super) fn ports_of_shard(&self) -> stock::Ports {
        let tunnel::Config { shard, partition, .. } = self.tunnel;
        self.stock.of_shard(shard, partition.shards())
    }

    /// Slots that the queues, a turn's replies and the port's unsent batch can hold together.
    pub fn slots(&self) -> usize {
        let queued: usize = self.egress.classes.iter().map(|class| class.depth).sum();
        queued + self.relay.waiting_max + limits::TX_SLOTS
    }
}
