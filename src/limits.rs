//! Every capacity, with the sum that explains it.

/// Bytes of a normal slot: one datagram of the largest path MTU, with room in front.
pub const SLOT_BYTES: usize = 2048;
/// Headroom of a normal slot: a WireGuard data header, so that sealing could be done in place.
pub const SLOT_HEADROOM: usize = 32;
/// Bytes of a receive slot: a coalesced run of up to 64 KiB with control data in front.
pub const RX_SLOT_BYTES: usize = 68 * 1024;
/// Shim in front of the frame header.
pub const SHIM_BYTES: usize = 4;
/// Frame header.
pub const HEADER_BYTES: usize = 12;
/// Smallest plaintext: what passes BoringTun's check of an IPv4 header.
pub const PLAINTEXT_MIN: usize = 20;
/// Plaintext every path carries: IPv6's 1280 less 40 IP, 8 UDP, 32 WireGuard.
pub const PLAINTEXT_BASE: usize = 1200;
/// WireGuard data header and tag.
pub const WG_OVERHEAD: usize = 32;
/// Peers in one FIND_NODE answer over all chunks.
pub const FIND_NODE_PEERS_MAX: usize = 16;
/// Chunks of one message.
pub const CHUNKS_MAX: usize = 16;

/// Peers in a FIND_NODE answer whose request names no limit.
pub const FIND_NODE_PEERS_DEFAULT: usize = 8;
/// Addresses of a listed peer.
pub const PEER_ADDRS_MAX: usize = 4;
/// A listed peer in wire form: id and WireGuard key 34 each, four ip6 addresses 25 each, round-trip time and flags 6 each.
pub const PEER_ENTRY_BYTES_MAX: usize = 2 * 34 + PEER_ADDRS_MAX * 25 + 2 * 6;
/// Addresses that one side of an introduction may be reached at.
pub const CANDIDATES_MAX: usize = 8;
/// An encoded ConsentToken.
pub const CONSENT_BYTES_MAX: usize = 256;
/// Alternates that a GOAWAY names.
pub const GOAWAY_ALTERNATES_MAX: usize = 8;
/// A multiaddr field.
pub const MULTIADDR_BYTES_MAX: usize = 64;
/// Padding of a PING.
pub const PADDING_BYTES_MAX: usize = 1400;
/// An admission token field.
pub const ADMISSION_BYTES_MAX: usize = 64;
/// The text of an ERROR and of other refusals.
pub const REASON_BYTES_MAX: usize = 128;
/// The owner's name for a record.
pub const SALT_BYTES_MAX: usize = 64;
/// What a provider says about itself.
pub const META_BYTES_MAX: usize = 128;
/// Providers in one frame of a FIND_VALUE answer.
pub const PROVIDERS_PER_CHUNK_MAX: usize = 32;
/// A provider in wire form: id and key 34 each, meta 131, end and sequence 11 each, signature 66.
pub const PROVIDER_BYTES_MAX: usize = 2 * 34 + (3 + META_BYTES_MAX) + 2 * 11 + 66;
/// Peers beside a value, or in its place.
pub const CLOSER_PEERS_MAX: usize = 8;

/// UDP payload of a 1500-byte link over IPv4: the default of `pmtu/ceiling`.
pub const DATAGRAM_BASE_MAX: usize = 1472;

/// Bytes that go with a message between shards: any datagram whose frame is within the ceiling.
pub const MAIL_BYTES_MAX: usize = DATAGRAM_BASE_MAX + WG_OVERHEAD;

const _: () = assert!(SLOT_HEADROOM + WG_OVERHEAD + DATAGRAM_BASE_MAX <= SLOT_BYTES);
/// Places kept free in the control queue while datagrams are handled: more than one can fill.
pub const QUEUE_RESERVE: usize = 8;
/// Slots that are sealed and wait in the port for the end of a batch, and one that is being written.
pub const TX_SLOTS: usize = 1024 + 64;
