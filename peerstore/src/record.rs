//! What the store keeps: one [`Record`] per change.
//!
//! Invariants:
//! * A record states what *is*, never a difference, so that applying it twice is applying it once.
//! * A record names where it belongs ([`Record::home`]), so that a store can be divided among
//!   another number of shards without looking anything up.
//! * Kinds and layouts never change their meaning: a new need is a new kind or a new format version.
//!
//! Session keys, cookies and admission secrets have no kind: they are not kept. Whether a record is
//! true (signatures, sequences, times) is for those who make and apply it.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use crate::ids::{Key, Network, PeerId, SigningKey, WgKey};
use crate::kind::{Class, Kind};
use crate::layout::{Field, Malformed, Message, NoRoom, Reader, Writer, layout};

/// Bytes of a peer's `Peer` message: id and WireGuard key (34 each), four addresses of 64 bytes
/// (68 each), round-trip time and flags (6 each) are 352; the rest is for fields to come.
pub const PEER_BYTES_MAX: usize = 512;
/// Bytes of a `Provider` message: id and owner (34 each), `meta` of 128 bytes (131), expiry and
/// sequence (11 each), signature (66) are 287; the rest is for fields to come.
pub const PROVIDER_BYTES_MAX: usize = 512;
/// Bytes of a `Record` message: more than the sixteen chunks that a record travels in can carry
/// (16 x 1440), four times what routers take by default.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of the longest payload of any kind.
pub const PAYLOAD_BYTES_MAX: usize = {
    let mut longest = 0;
    let mut at = 0;
    while at < Kind::ALL.len() {
        let bytes = Kind::ALL[at].payload_bytes_max();
        longest = if bytes > longest { bytes } else { longest };
        at += 1;
    }
    longest
};

/// A change to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An identity was bound to a WireGuard key.
    Binding(Binding),
    /// A peer is new, or reached otherwise than before.
    Peer(Peer<'a>),
    /// A peer's standing.
    Score(Score),
    /// A value was stored.
    Value(Value<'a>),
    /// A provider was announced.
    Provider(Provider<'a>),
    /// Something is gone.
    Tombstone(Tombstone),
    /// Somebody is not served.
    Ban(Ban),
    /// What was measured on the way to a peer.
    PathFacts(PathFacts),
    /// The end of a snapshot. Nobody who applies records ever sees one.
    Seal(Seal),
    /// Two peers have ports of the router.
    Allocation(Allocation),
}

/// Which shards a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// The home shard of the peer with this WireGuard key.
    Peer(WgKey),
    /// The owner of this key of the overlay.
    Key(Key),
    /// The shard of what is between two peers.
    Pair(PeerId, PeerId),
    /// All of them.
    EveryShard,
}

impl<'a> Record<'a> {
    /// What it is about.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Binding(_) => Kind::Binding,
            Self::Peer(_) => Kind::Peer,
            Self::Score(_) => Kind::Score,
            Self::Value(_) => Kind::Value,
            Self::Provider(_) => Kind::Provider,
            Self::Tombstone(_) => Kind::Tombstone,
            Self::Ban(_) => Kind::Ban,
            Self::PathFacts(_) => Kind::PathFacts,
            Self::Seal(_) => Kind::Seal,
            Self::Allocation(_) => Kind::Allocation,
        }
    }

    /// What happens to it when there is no room.
    pub const fn class(&self) -> Class {
        self.kind().class()
    }

    /// Where it belongs: with whoever holds the state that it is about, who also writes it. A
    /// peer's entry in the routing table is its id's owner's; what was learnt of its sessions is
    /// their home shard's.
    pub const fn home(&self) -> Home {
        match self {
            Self::Binding(binding) => Home::Peer(binding.host.wireguard),
            Self::Peer(peer) => Home::Key(Key(peer.host.peer_id.0)),
            Self::Score(score) => Home::Peer(score.host.wireguard),
            Self::PathFacts(facts) => Home::Peer(facts.host.wireguard),
            Self::Value(value) => Home::Key(value.key),
            Self::Provider(provider) => Home::Key(provider.key),
            Self::Allocation(it) => Home::Pair(it.legs[0].host.peer_id, it.legs[1].host.peer_id),
            Self::Ban(_) | Self::Seal(_) => Home::EveryShard,
            Self::Tombstone(tombstone) => match tombstone.subject {
                Subject::Host(host) => Home::Key(Key(host.peer_id.0)),
                Subject::Value { key, .. } | Subject::Provider { key, .. } => Home::Key(key),
                Subject::Allocation(one, other) => Home::Pair(one, other),
                Subject::Ban(_) => Home::EveryShard,
            },
        }
    }

    /// Bytes of its payload.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Binding(binding) => binding.len(),
            Self::Peer(peer) => peer.len(),
            Self::Score(score) => score.len(),
            Self::Value(value) => value.len(),
            Self::Provider(provider) => provider.len(),
            Self::Tombstone(tombstone) => tombstone.len(),
            Self::Ban(ban) => ban.len(),
            Self::PathFacts(facts) => facts.len(),
            Self::Seal(seal) => seal.len(),
            Self::Allocation(allocation) => allocation.len(),
        }
    }

    /// Its payload: what [`Self::decode`] takes.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = vec![0; self.payload_len()];
        let written = self.write(&mut Writer::new(&mut payload));
        assert!(written.is_ok(), "a payload is as long as it was said to be");
        payload
    }

    /// The record of this kind that `payload` holds, nothing less and nothing more.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(payload);
        let record = match kind {
            Kind::Binding => Self::Binding(Field::read(&mut from)?),
            Kind::Peer => Self::Peer(Field::read(&mut from)?),
            Kind::Score => Self::Score(Field::read(&mut from)?),
            Kind::Value => Self::Value(Field::read(&mut from)?),
            Kind::Provider => Self::Provider(Field::read(&mut from)?),
            Kind::Tombstone => Self::Tombstone(Field::read(&mut from)?),
            Kind::Ban => Self::Ban(Field::read(&mut from)?),
            Kind::PathFacts => Self::PathFacts(Field::read(&mut from)?),
            Kind::Seal => Self::Seal(Field::read(&mut from)?),
            Kind::Allocation => Self::Allocation(Field::read(&mut from)?),
        };
        from.finish().map(|()| record)
    }

    /// Puts the payload behind what `to` holds.
    pub(crate) fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Binding(binding) => binding.write(to),
            Self::Peer(peer) => peer.write(to),
            Self::Score(score) => score.write(to),
            Self::Value(value) => value.write(to),
            Self::Provider(provider) => provider.write(to),
            Self::Tombstone(tombstone) => tombstone.write(to),
            Self::Ban(ban) => ban.write(to),
            Self::PathFacts(facts) => facts.write(to),
            Self::Seal(seal) => seal.write(to),
            Self::Allocation(allocation) => allocation.write(to),
        }
    }
}

layout! {
    /// An identity at one of its WireGuard keys.
    pub struct Host {
        /// Who it is.
        pub peer_id: PeerId,
        /// The key its sessions are under; it decides their home shard.
        pub wireguard: WgKey,
    }

    /// A verified identity binding, so that it is checked once and not per handshake.
    pub struct Binding {
        /// Who is bound to what.
        pub host: Host,
        /// The key that signed it.
        pub signing: SigningKey,
        /// It holds from then on.
        pub not_before_unix_s: u64,
        /// It holds until then.
        pub not_after_unix_s: u64,
        /// What it was signed with: another one over the same is not known to be good.
        pub signature: [u8; 64],
    }

    /// A peer and how it is reached. What changes with every datagram is in [`Score`], so that
    /// this one is written only when it says something new.
    pub struct Peer<'a> {
        /// Who it is.
        pub host: Host,
        /// When it was met.
        pub first_seen_unix_s: u64,
        /// When it was heard of last, as of this record.
        pub last_seen_unix_s: u64,
        /// Its `Peer` message: addresses and flags, as answers list them.
        pub message: Message<'a, PEER_BYTES_MAX>,
    }

    /// How a peer is doing.
    pub struct Score {
        /// Who it is.
        pub host: Host,
        /// When it was heard of last.
        pub last_seen_unix_s: u64,
        /// Its reputation, in the units of who keeps it.
        pub score: i32,
    }

    /// A stored value. One without content is an owner's own tombstone; it is served like any other.
    pub struct Value<'a> {
        /// Where it is stored.
        pub key: Key,
        /// Its owner's count of it; 0 for one that nobody owns.
        pub sequence: u64,
        /// It is kept until then.
        pub expires_unix_s: u64,
        /// Its `Record` message.
        pub message: Message<'a, VALUE_BYTES_MAX>,
    }

    /// A provider of what a key stands for.
    pub struct Provider<'a> {
        /// What it provides.
        pub key: Key,
        /// Who it is.
        pub peer_id: PeerId,
        /// Its own count of its announcements.
        pub sequence: u64,
        /// It is listed until then.
        pub expires_unix_s: u64,
        /// Its `Provider` message.
        pub message: Message<'a, PROVIDER_BYTES_MAX>,
    }

    /// Something was deleted or evicted.
    pub struct Tombstone {
        /// Nothing that would bring the subject back is taken until then; 0 for a plain eviction.
        pub expires_unix_s: u64,
        /// What is gone.
        pub subject: Subject,
    }

    /// Somebody is not served.
    pub struct Ban {
        /// It ends then; `u64::MAX` is never.
        pub expires_unix_s: u64,
        /// Why, in the numbers of who imposed it.
        pub cause: u16,
        /// Who.
        pub target: Target,
    }

    /// What was measured on the way to a host (RFC 4787, RFC 8899).
    pub struct PathFacts {
        /// Whose way.
        pub host: Host,
        /// When.
        pub observed_unix_s: u64,
        /// Bytes of the largest UDP payload that was seen to pass; `None` is not known.
        pub path_mtu: Option<NonZeroU16>,
        /// How its NAT maps.
        pub mapping: Option<NatBehaviour>,
        /// How its NAT filters.
        pub filtering: Option<NatBehaviour>,
        /// Whether two hosts behind its NAT reach each other by their outer addresses.
        pub hairpin: Option<bool>,
        /// Whether its NAT keeps port numbers.
        pub port_preservation: Option<bool>,
        /// How long an idle mapping lasts; `None` is not known.
        pub mapping_lifetime_s: Option<NonZeroU16>,
    }

    /// Ports of the router that two unmodified WireGuard peers use as their endpoints.
    pub struct Allocation {
        /// It ends then, if nothing comes.
        pub expires_unix_s: u64,
        /// Both peers'.
        pub legs: [AllocatedLeg; 2],
    }

    /// The port that one of them uses.
    pub struct AllocatedLeg {
        /// Who it is, and the key of its tunnel.
        pub host: Host,
        /// What its rate is multiplied by.
        pub factor: u8,
        /// The router's port.
        pub port: u16,
        /// Where the peer was last; `None` if that is not known.
        pub bound: Option<SocketAddr>,
    }

    /// The last frame of a snapshot: without it, something is missing.
    pub struct Seal {
        /// How many records are before it.
        pub records: u64,
        /// Bytes of their frames.
        pub bytes: u64,
    }
}

/// What a [`Tombstone`] stands on. Applied to a later sequence than its own it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All that is kept of a host.
    Host(Host),
    /// A value up to this sequence.
    Value {
        /// Where it was stored.
        key: Key,
        /// The last one that is gone.
        sequence: u64,
    },
    /// A provider's announcements up to this sequence.
    Provider {
        /// What it provided.
        key: Key,
        /// Who it is.
        peer_id: PeerId,
        /// The last one that is gone.
        sequence: u64,
    },
    /// A ban: who was banned is served again.
    Ban(Target),
    /// The ports of two peers.
    Allocation(PeerId, PeerId),
}

/// Whom a [`Ban`] hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An identity, whatever keys it has.
    Peer(PeerId),
    /// A WireGuard key, whoever it belongs to.
    WireGuard(WgKey),
    /// Whoever is in a network.
    Network(Network),
}

/// What a NAT's mapping or filtering depends on (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum NatBehaviour {
    /// On neither address nor port of the other side.
    EndpointIndependent = 1,
    /// On its address.
    AddressDependent = 2,
    /// On its address and port.
    AddressAndPortDependent = 3,
}

/// Zero is not known, as in the protocol's enums.
impl Field<'_> for Option<NatBehaviour> {
    const BYTES_MAX: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            0 => Ok(None),
            1 => Ok(Some(NatBehaviour::EndpointIndependent)),
            2 => Ok(Some(NatBehaviour::AddressDependent)),
            3 => Ok(Some(NatBehaviour::AddressAndPortDependent)),
            _ => Err(Malformed::BadValue),
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        self.map_or(0, |behaviour| behaviour as u8).write(to)
    }
}

impl Field<'_> for [AllocatedLeg; 2] {
    const BYTES_MAX: usize = 2 * AllocatedLeg::BYTES_MAX;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok([Field::read(from)?, Field::read(from)?])
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        self.iter().try_for_each(|leg| leg.write(to))
    }
}

/// One byte that says which, then its fields.
impl Field<'_> for Subject {
    const BYTES_MAX: usize = 1 + 32 + 32 + 8;

    fn len(&self) -> usize {
        1 + match self {
            Self::Host(host) => host.len(),
            Self::Value { key, sequence } => key.len() + sequence.len(),
            Self::Provider { key, peer_id, sequence } => key.len() + peer_id.len() + sequence.len(),
            Self::Ban(target) => target.len(),
            Self::Allocation(one, other) => one.len() + other.len(),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            1 => Ok(Self::Host(Field::read(from)?)),
            2 => Ok(Self::Value { key: Field::read(from)?, sequence: Field::read(from)? }),
            3 => Ok(Self::Provider {
                key: Field::read(from)?,
                peer_id: Field::read(from)?,
                sequence: Field::read(from)?,
            }),
            4 => Ok(Self::Ban(Field::read(from)?)),
            5 => Ok(Self::Allocation(Field::read(from)?, Field::read(from)?)),
            _ => Err(Malformed::BadValue),
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Host(host) => {
                1_u8.write(to)?;
                host.write(to)
            }
            Self::Value { key, sequence } => {
                2_u8.write(to)?;
                key.write(to)?;
                sequence.write(to)
            }
            Self::Provider { key, peer_id, sequence } => {
                3_u8.write(to)?;
                key.write(to)?;
                peer_id.write(to)?;
                sequence.write(to)
            }
            Self::Ban(target) => {
                4_u8.write(to)?;
                target.write(to)
            }
            Self::Allocation(one, other) => {
                5_u8.write(to)?;
                one.write(to)?;
                other.write(to)
            }
        }
    }
}

/// One byte that says which, then its name.
impl Field<'_> for Target {
    const BYTES_MAX: usize = 1 + 32;

    fn len(&self) -> usize {
        1 + match self {
            Self::Peer(peer_id) => peer_id.len(),
            Self::WireGuard(key) => key.len(),
            Self::Network(network) => network.len(),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            1 => Ok(Self::Peer(Field::read(from)?)),
            2 => Ok(Self::WireGuard(Field::read(from)?)),
            3 => Ok(Self::Network(Field::read(from)?)),
            _ => Err(Malformed::BadValue),
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Peer(peer_id) => {
                1_u8.write(to)?;
                peer_id.write(to)
            }
            Self::WireGuard(key) => {
                2_u8.write(to)?;
                key.write(to)
            }
            Self::Network(network) => {
                3_u8.write(to)?;
                network.write(to)
            }
        }
    }
}
