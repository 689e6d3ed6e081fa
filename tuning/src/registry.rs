//! The table of attributes. Adding a line here is all it takes: the directory, the
//! environment, `--set`, `check`, help and ATTRIBUTES.md follow.

use crate::attribute::Applies::{Live, Reserved, Restart};
use crate::attribute::{Attribute, Kind, Scale, Unit, Word};

macro_rules! attributes {
    ($($name:ident $path:literal $kind:expr, $default:literal, $applies:expr, $help:literal;)*) => {
        /// An attribute, as code names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Name {
            $(#[doc = concat!("`", $path, "`: ", $help)] $name,)*
        }

        /// Every attribute, grouped, in the order in which people should read them.
        pub static ATTRIBUTES: &[Attribute] = &[$(Attribute {
            path: $path, kind: $kind, default: $default, applies: $applies, help: $help,
        },)*];
    };
}

impl Name {
    /// Its line in the table.
    pub fn attribute(self) -> &'static Attribute {
        &ATTRIBUTES[self as usize]
    }
}

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Count, min, max, word: None }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Bytes, min, max, word: None }
}

const fn bits(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Bits, min, max, word: None }
}

const fn micros(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Time(Unit::Micros), min, max, word: None }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Time(Unit::Millis), min, max, word: None }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Number { scale: Scale::Time(Unit::Seconds), min, max, word: None }
}

/// The same with `max` for "no limit".
const fn or_max(kind: Kind) -> Kind {
    with_word(kind, Word::Max)
}

/// The same with `auto` for "the router chooses".
const fn or_auto(kind: Kind) -> Kind {
    with_word(kind, Word::Auto)
}

const fn with_word(kind: Kind, word: Word) -> Kind {
    match kind {
        Kind::Number { scale, min, max, .. } => Kind::Number { scale, min, max, word: Some(word) },
        Kind::Flag
        | Kind::Choice(_)
        | Kind::Address { .. }
        | Kind::Cpus
        | Kind::Directory
        | Kind::Link => {
            panic!("only numbers have a word in their place")
        }
    }
}

/// Packet threads at most: their number is part of every receiver index.
const SHARDS_MAX: u64 = 64;
/// Largest packet or handshake rate that can be asked for; more is `max`.
const PPS_MAX: u64 = 100_000_000;
/// Largest bit rate that can be asked for; more is `max`.
const BPS_MAX: u64 = 400_000_000_000;

attributes! {
    IoEngine "io/engine" Kind::Choice(&["auto", "io_uring", "mmsg"]), "auto", Restart,
        "How datagrams go to and from the kernel; auto tries io_uring and falls back to recvmmsg.";
    IoTx "io/tx" Kind::Choice(&["auto", "sendmmsg", "uring"]), "auto", Restart,
        "How the io_uring engine sends: through the ring, or through sendmmsg beside it.";
    IoRingEntries "io/ring_entries" number(64, 32_768), "4096", Restart,
        "Submission entries of the ring; rounded up to a power of two, with 4 completions to each.";
    IoRxBatch "io/rx_batch" number(1, 256), "64", Live,
        "Datagrams (or coalesced runs) taken from the kernel in one turn.";
    IoTxBatch "io/tx_batch" number(1, 256), "64", Live,
        "Datagrams handed to the kernel in one call.";
    IoRxBuffers "io/rx_buffers" number(96, 8192), "128", Restart,
        "Receive buffers of a shard, 68 KiB each: room for a coalesced run.";
    IoHugepages "io/hugepages" Kind::Choice(&["auto", "off", "2M"]), "auto", Restart,
        "Pages behind the buffers; auto takes huge ones if the kernel has any to give.";
    IoZerocopyMinBytes "io/zerocopy_min_bytes" or_max(bytes(1, 65_536)), "max", Restart,
        "Smallest run that the ring sends without a copy, from registered buffers; io/tx = uring only.";
    IoNapiBusyPoll "io/napi_busy_poll_us" micros(0, 10_000), "0", Restart,
        "Time that the ring polls the network card before it sleeps; 0 never polls.";

    UdpListen "udp/listen" Kind::Address { off: false }, "[::]:7743", Restart,
        "Address to serve; the IPv6 address :: serves IPv4 as well.";
    UdpAltPort "udp/alt_port" number(0, 65_535), "7744", Restart,
        "Alternate port, for NAT behaviour tests; 0 is none. Any free one if that of udp/listen is 0.";
    UdpRcvbuf "udp/rcvbuf_bytes" bytes(4096, 1 << 30), "8M", Live,
        "Receive buffer of the socket; net.core.rmem_max may cut it.";
    UdpSndbuf "udp/sndbuf_bytes" bytes(4096, 1 << 30), "4M", Live,
        "Send buffer of the socket; net.core.wmem_max may cut it.";
    UdpGro "udp/gro" Kind::Flag, "1", Live,
        "Let the kernel hand over runs of one sender's datagrams as one.";
    UdpGso "udp/gso" Kind::Flag, "1", Live,
        "Hand over runs of equal datagrams to one peer as one.";
    UdpGsoMaxSegments "udp/gso_max_segments" number(1, 64), "64", Live,
        "Datagrams in the longest such run.";
    UdpDscpControl "udp/dscp_control" number(0, 63), "46", Live,
        "DSCP mark of control messages and handshakes; 46 is expedited forwarding, 0 is none.";

    ShardsCount "shards/count" or_auto(number(1, SHARDS_MAX)), "auto", Restart,
        "Packet threads; auto is one for each CPU the router may use, or of shards/cpus.";
    ShardsCpus "shards/cpus" Kind::Cpus, "auto", Restart,
        "CPUs to pin the packet threads to, in order; auto takes those the router may use.";
    ShardsSteering "shards/steering" Kind::Flag, "1", Restart,
        "Let the kernel deliver datagrams to the shard that they name; 0 leaves it to a hash of the addresses.";
    ShardsTurnBudget "shards/turn_budget_us" micros(50, 100_000), "1000", Live,
        "Time after which a turn of the loop sends what it has; the next one goes on.";

    WireguardKeepalive "wireguard/keepalive_s" seconds(0, 3600), "20", Live,
        "Silence after which the router sends a session a keepalive; 0 never.";
    WireguardSessionsMax "wireguard/sessions_max" number(1, 1 << 20), "65536", Restart,
        "Sessions of a shard; a new peer beyond is not answered.";
    WireguardHandshakeBudget "wireguard/handshake_budget_us" micros(50, 100_000), "250", Live,
        "Time that a turn spends on handshakes; at least one is done.";
    WireguardCookieThreshold "wireguard/cookie_threshold_pps" or_max(number(0, PPS_MAX)), "500", Live,
        "Handshakes a second from strangers above which they are asked for a cookie; max never asks.";

    QosControlDepth "qos/control/depth" number(1, 65_536), "64", Restart,
        "Messages the control queue holds.";
    QosControlWeight "qos/control/weight" number(1, 64), "8", Live,
        "Share of the control queue when several have something to send.";
    QosControlTtl "qos/control/ttl_ms" or_max(millis(1, 600_000)), "max", Live,
        "Longest wait of a control message.";
    QosCoordinationDepth "qos/coordination/depth" number(1, 65_536), "1024", Restart,
        "Messages the coordination queue holds.";
    QosCoordinationWeight "qos/coordination/weight" number(1, 64), "4", Live,
        "Share of the coordination queue.";
    QosCoordinationTtl "qos/coordination/ttl_ms" or_max(millis(1, 600_000)), "2000", Live,
        "Longest wait of a coordination message; later it is dropped unsent.";
    QosHintsDepth "qos/hints/depth" number(1, 65_536), "4096", Restart,
        "Messages the hints queue holds.";
    QosHintsWeight "qos/hints/weight" number(1, 64), "1", Live,
        "Share of the hints queue.";
    QosHintsTtl "qos/hints/ttl_ms" or_max(millis(1, 600_000)), "500", Live,
        "Longest wait of a hint; later it is dropped unsent.";

    AdmissionAddressPps "admission/address_pps" or_max(number(1, PPS_MAX)), "20", Live,
        "Handshakes a second of one address.";
    AdmissionAddressBurst "admission/address_burst" number(1, 65_536), "5", Live,
        "Handshakes of one address at once.";
    AdmissionPrefixPps "admission/prefix_pps" or_max(number(1, PPS_MAX)), "500", Live,
        "Handshakes a second of one network: /24 of IPv4, /48 of IPv6.";
    AdmissionTableEntries "admission/table_entries" number(1024, 1 << 24), "65536", Restart,
        "Addresses and networks whose handshake rates are kept apart.";
    AdmissionPuzzleMode "admission/puzzle_mode" Kind::Choice(&["off", "auto", "fixed"]), "off", Reserved,
        "Whether strangers pay with work under load.";
    AdmissionPuzzleBitsMin "admission/puzzle_bits_min" number(8, 22), "8", Reserved,
        "Least work: leading zero bits.";
    AdmissionPuzzleBitsMax "admission/puzzle_bits_max" number(8, 22), "22", Reserved,
        "Most work.";

    LimitsPeerPps "limits/peer_pps" or_max(number(1, PPS_MAX)), "500", Live,
        "Messages a second sent to one peer.";
    LimitsPeerBps "limits/peer_bps" or_max(bits(16_000, BPS_MAX)), "4M", Live,
        "Bits a second sent to one peer.";
    LimitsPrefixPps "limits/prefix_pps" or_max(number(1, PPS_MAX)), "50000", Live,
        "Messages a second sent to one network: /24 of IPv4, /48 of IPv6.";
    LimitsPrefixBps "limits/prefix_bps" or_max(bits(16_000, BPS_MAX)), "400M", Live,
        "Bits a second sent to one network.";

    ReflectEnabled "reflect/enabled" Kind::Flag, "1", Live,
        "Tell a peer the address it is seen from when it asks.";
    ReflectStun "reflect/stun" Kind::Flag, "0", Restart,
        "Answer plain STUN binding requests, at both ports.";
    ReflectOtherRouter "reflect/other_router" Kind::Link, "off", Restart,
        "Another router, by its link, that sends filter probes for this one and may ask for them if it names this one likewise.";

    RelayCapacity "relay/egress_capacity_bps" bits(1_000_000, BPS_MAX), "1G", Restart,
        "What the machine's line can send, in bits a second; relayed data gets a share of it.";
    RelayPercent "relay/egress_percent" number(0, 100), "10", Restart,
        "That share; 100 for a router that does nothing else, 0 to relay nothing.";
    RelayPrefixBps "relay/prefix_bps" or_max(bits(16_000, BPS_MAX)), "1M", Restart,
        "Bits a second relayed for one network: /24 of IPv4, /48 of IPv6.";
    RelayPeerBps "relay/peer_bps" or_max(bits(16_000, BPS_MAX)), "64k", Restart,
        "Bits a second relayed for one peer, over a long time; a good name is worth up to 16 times as much.";
    RelayPeerBurst "relay/peer_burst_bytes" bytes(4096, 1 << 30), "256k", Restart,
        "Bytes of one peer that are relayed at once after it was quiet.";
    RelayChannelsMax "relay/channels_max" number(1, 1 << 20), "16384", Restart,
        "Relay channels of a shard.";
    RelayChannelsPerPeer "relay/channels_per_peer" number(1, 4096), "32", Restart,
        "Relay channels of one peer.";
    RelayLifetime "relay/lifetime_s" seconds(60, 86_400), "3600", Restart,
        "Life of a channel that nobody asks for again.";
    RelayIdle "relay/idle_s" seconds(10, 86_400), "300", Restart,
        "Silence after which a channel is closed.";
    RelayAllowPrivate "relay/allow_private" Kind::Flag, "0", Restart,
        "Introduce peers at private, loopback and benchmark addresses, and relay to them; for laboratories.";
    RelayStockFirst "relay/stock_port_first" number(0, 65_535), "0", Restart,
        "First UDP port for unmodified WireGuard peers, of which each gets one; 0 is none for them.";
    RelayStockPorts "relay/stock_ports" number(2, 8192), "1000", Restart,
        "Ports for them, shared by all shards.";

    PmtuFloor "pmtu/floor" number(1200, 1472), "1200", Reserved,
        "UDP payload in bytes that every path is trusted to carry.";
    PmtuCeiling "pmtu/ceiling" number(1200, 1472), "1472", Live,
        "Largest UDP payload in bytes that is accepted.";
    PmtuRaise "pmtu/raise_s" seconds(10, 86_400), "600", Reserved,
        "Time between attempts to find a larger path MTU.";

    OverlayRole "overlay/role" Kind::Choice(&["boot", "route", "relay"]), "relay", Restart,
        "What the router does for peers: boot brings them together and keeps nothing for them, route stores values and providers as well, relay forwards data for pairs that cannot reach each other, too.";
    OverlayK "overlay/k" number(20, 20), "20", Restart,
        "Peers of one bucket of the routing table; 20 for all routers.";
    OverlayAlpha "overlay/alpha" number(3, 8), "3", Reserved,
        "Parallel requests of the router's own lookups.";
    OverlayPeersPerPrefix "overlay/peers_per_prefix_per_bucket" number(1, 20), "2", Restart,
        "Peers of one network (/24, /48) in one bucket.";
    OverlayEntriesMax "overlay/entries_max" number(20, 1 << 22), "131072", Restart,
        "Peers in the routing table of a shard.";

    OverlayRecordBytesMax "overlay/record_bytes_max" bytes(256, 16_384), "8k", Restart,
        "Largest record that peers may store.";
    OverlayValuesMax "overlay/values_max" number(1, 1 << 24), "32768", Restart,
        "Values that a shard keeps.";
    OverlayValueBytesMax "overlay/values_bytes" bytes(16_384, 1 << 36), "32M", Restart,
        "Bytes of them.";
    OverlayProvidersMax "overlay/providers_max" number(1, 1 << 24), "65536", Restart,
        "Providers that a shard keeps.";

    StoreDirectory "peerstore/dir" Kind::Directory, "auto", Restart,
        "Directory of the store of peers and records; auto is the system's place for it, or memory alone if that cannot be written; off is memory alone.";
    StoreDurability "peerstore/durability" Kind::Choice(&["async", "group", "strict"]), "group", Restart,
        "When what is stored is safe: async leaves it to the kernel, group syncs now and then, strict answers STORE and ANNOUNCE_PROVIDER only when it is on the disk.";
    StoreSync "peerstore/sync_ms" millis(1, 60_000), "100", Restart,
        "Longest time between two syncs while there is something new; durability = group only.";
    StoreBatchBytes "peerstore/batch_bytes" bytes(64 << 10, 64 << 20), "4M", Restart,
        "Most bytes that one write, and one sync, is about; also what waits for the disk.";
    StoreBatchTime "peerstore/batch_ms" millis(1, 10_000), "50", Restart,
        "Time that changes are gathered before they are written; strict does not wait.";
    StoreCompactLog "peerstore/compact_log_bytes" bytes(1 << 20, 1 << 36), "64M", Restart,
        "Size of the log above which it is replaced by a snapshot of what is left.";
    StoreCompactDead "peerstore/compact_dead_percent" number(1, 100), "50", Restart,
        "Share that logs above 1 MiB have of logs and snapshot together, above which the same is done: so much may be of no more use.";

    StampBits "stamp/bits" number(0, 22), "12", Restart,
        "Work that storing a value or announcing a provider costs: leading zero bits; 0 is none.";

    AdminListen "admin/listen" Kind::Address { off: true }, "127.0.0.1:9743", Restart,
        "Address of /metrics, /healthz, /readyz and /status.json; plain HTTP, so keep it local.";
    DrainGrace "drain/grace_ms" millis(0, 600_000), "10000", Reserved,
        "Time that peers get to leave before the router stops.";
    LogLevel "log/level" Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]), "info", Live,
        "Least severity that is logged.";
    LogFormat "log/format" Kind::Choice(&["auto", "text", "json", "journald"]), "auto", Restart,
        "Form of the log; auto is text on a terminal and JSON otherwise, both on standard error. journald sends to systemd's journal, with fields.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use std::collections::BTreeSet;

    #[test]
    fn paths_are_unique_and_no_path_is_a_directory_of_another() {
        let paths: BTreeSet<&str> = ATTRIBUTES.iter().map(|attribute| attribute.path).collect();
        assert_eq!(paths.len(), ATTRIBUTES.len());
        for path in &paths {
            let inside = format!("{path}/");
            assert!(!paths.iter().any(|other| other.starts_with(&inside)), "{path}");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/_".contains(c);
            assert!(path.contains('/') && path.chars().all(plain), "{path}");
        }
    }

    #[test]
    fn groups_are_together() {
        let groups: Vec<&str> =
            ATTRIBUTES.iter().filter_map(|attribute| attribute.path.split('/').next()).collect();
        let runs = groups.chunk_by(|a, b| a == b).count();
        assert_eq!(runs, groups.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn defaults_are_values_in_range_and_ranges_are_not_empty() {
        for attribute in ATTRIBUTES {
            assert!(attribute.parse(attribute.default).is_ok(), "{}", attribute.path);
            assert!(attribute.help.ends_with('.') && !attribute.help.contains('|'));
            if let Kind::Number { min, max, .. } = attribute.kind {
                assert!(min <= max, "{}", attribute.path);
                assert_eq!(attribute.parse(&min.to_string()), Ok(Value::Number(min)));
                assert_eq!(attribute.parse(&max.to_string()), Ok(Value::Number(max)));
            }
        }
    }

    #[test]
    fn suffixes_of_paths_tell_their_units() {
        for attribute in ATTRIBUTES {
            let named = attribute.path.trim_end_matches("_max");
            let suffix = named.rsplit('_').next().unwrap_or_default();
            let Kind::Number { scale, .. } = attribute.kind else {
                assert!(!["us", "ms", "s", "bytes", "bps"].contains(&suffix));
                continue;
            };
            let unit = match scale {
                Scale::Count => continue,
                Scale::Bytes => "bytes",
                Scale::Bits => "bps",
                Scale::Time(unit) => unit.label(),
            };
            assert_eq!(suffix, unit, "{}", attribute.path);
        }
    }

    #[test]
    fn names_index_the_table() {
        assert_eq!(Name::IoEngine.attribute().path, "io/engine");
        assert_eq!(Name::LogFormat as usize, ATTRIBUTES.len() - 1);
    }
}
