//! The bounded sets of label values. Never a peer, never an address.

use peerstore::FaultKind;

use super::mail;
use crate::drops::Drop;
use crate::identity;
use crate::net::{Engine, ErrorKind, Feature, Reason, TxMode};
use crate::overlay::records::Outcome;
use crate::relay::CloseReason;
use crate::router::ProbedFrom;
use crate::wire::code::{self, Code, RendezvousStatus};
use crate::wire::kind::{Class, Kind};

/// A label whose values are known when the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Traffic classes.
    Class,
    /// Every reason to drop something.
    Reason,
    /// Reasons for which a frame that deserved a place in a queue was dropped.
    QueueDrop,
    /// Rates that keep a frame out of a queue.
    Policed,
    /// Message types, and one value for all that the protocol does not define.
    Type,
    /// Codes of ERROR.
    Code,
    /// What became of an initiation.
    Handshake,
    /// What became of a data message of a known session.
    Decrypt,
    /// Received or sent.
    Direction,
    /// Why an identity binding is refused.
    Binding,
    /// What a socket refuses.
    SocketError,
    /// What became of a value or a provider.
    Written,
    /// Why a message between shards was dropped.
    MailDrop,
    /// Kinds of buffers.
    Pool,
    /// What the table did with a peer.
    Insert,
    /// How packets are moved.
    Io,
    /// How packets are sent.
    Tx,
    /// What the kernel does for us.
    Offload,
    /// What an engine would like to use.
    Feature,
    /// Why it does not.
    Missing,
    /// What became of an introduction.
    Introduction,
    /// How it ended, as a side saw it.
    Punch,
    /// What a request for a relay channel led to.
    Allocation,
    /// Why a relay channel ended.
    ChannelEnd,
    /// Where a filter probe is sent from.
    Probed,
    /// What a disk refuses.
    StoreFault,
    /// Where the store writes.
    StoreFile,
    /// How much a change matters.
    StoreClass,
    /// What may be wrong with a file of the store.
    StoreDamage,
}

/// Results of a handshake other than "ok", in the order of the label's values.
pub(super) const HANDSHAKE_DROPS: [Drop; 8] = [
    Drop::PacketBudget,
    Drop::BadMac1,
    Drop::ReplayedInitiation,
    Drop::AddressRate,
    Drop::PrefixRate,
    Drop::BadInitiation,
    Drop::HandshakeBudget,
    Drop::SessionsFull,
];
/// Results of a decryption other than "ok", in the order of the label's values.
pub(super) const DECRYPT_DROPS: [Drop; 4] =
    [Drop::BadTag, Drop::Replayed, Drop::ExpiredKeys, Drop::BadCounter];
pub(super) const QUEUE_DROPS: [Drop; 2] = [Drop::QueueFull, Drop::Expired];
pub(super) const POLICED: [Drop; 2] = [Drop::PeerRate, Drop::SendPrefixRate];

const DIRECTIONS: [&str; 2] = ["receive", "send"];
const POOLS: [&str; 2] = ["packet", "receive"];
const INSERTS: [&str; 7] = ["added", "updated", "pinging", "waiting", "prefix", "busy", "full"];
const IO: [(Engine, &str); 2] = [(Engine::IoUring, "io_uring"), (Engine::Mmsg, "recvmmsg")];
const TX: [TxMode; 2] = [TxMode::Sendmmsg, TxMode::Uring];
const ALLOCATIONS: [&str; 3] = ["new", "refreshed", "refused"];
const CHANNEL_ENDS: [CloseReason; 4] =
    [CloseReason::Leg, CloseReason::Idle, CloseReason::Lifetime, CloseReason::Identity];
const STORE_FILES: [&str; 2] = ["log", "snapshot"];
const STORE_CLASSES: [&str; 2] = ["soft", "critical"];
const STORE_DAMAGES: [&str; 4] = ["torn", "corrupt", "unreadable", "snapshot"];
const OFFLOADS: [&str; 5] = ["gro", "gso", "registered_file", "registered_buffers", "busy_poll"];
/// Position of a reason among the values of [`Axis::ChannelEnd`].
pub(super) fn channel_end_index(reason: CloseReason) -> usize {
    CHANNEL_ENDS.iter().position(|known| *known == reason).unwrap_or(0)
}

/// Position of an engine among the values of [`Axis::Io`].
pub(super) fn io_index(engine: Engine) -> usize {
    IO.iter().position(|(known, _)| *known == engine).unwrap_or(0)
}

/// Position of a way to send among the values of [`Axis::Tx`].
pub(super) fn tx_index(tx: TxMode) -> usize {
    TX.iter().position(|known| *known == tx).unwrap_or(0)
}

/// Position of a reason among the values of [`Axis::Missing`].
pub(super) fn missing_index(reason: Reason) -> usize {
    let found = Reason::LABELS.iter().position(|label| *label == reason.label());
    found.expect("a reason's label is one of them")
}

impl Axis {
    /// Name of the label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Class | Self::StoreClass => "class",
            Self::StoreFile => "file",
            Self::Reason
            | Self::QueueDrop
            | Self::Policed
            | Self::Binding
            | Self::MailDrop
            | Self::Missing
            | Self::ChannelEnd
            | Self::StoreFault
            | Self::StoreDamage => "reason",
            Self::Type => "type",
            Self::Code => "code",
            Self::Handshake
            | Self::Decrypt
            | Self::Insert
            | Self::Written
            | Self::Introduction
            | Self::Allocation
            | Self::Punch => "result",
            Self::Direction => "direction",
            Self::Probed => "from",
            Self::SocketError => "error",
            Self::Pool => "pool",
            Self::Io => "io",
            Self::Tx => "tx",
            Self::Feature => "feature",
            Self::Offload => "offload",
        }
    }

    /// Number of values.
    #[expect(clippy::len_without_is_empty, reason = "no label is without values")]
    pub const fn len(self) -> usize {
        match self {
            Self::Class => Class::ALL.len(),
            Self::Reason => Drop::ALL.len(),
            Self::QueueDrop => QUEUE_DROPS.len(),
            Self::Policed => POLICED.len(),
            Self::Type => Kind::ALL.len() + 1,
            Self::Code => Code::ALL.len(),
            Self::Written => Outcome::COUNT,
            Self::Introduction => RendezvousStatus::ALL.len(),
            Self::Punch => code::Outcome::ALL.len(),
            Self::Allocation => ALLOCATIONS.len(),
            Self::ChannelEnd => CHANNEL_ENDS.len(),
            Self::Probed => ProbedFrom::ALL.len(),
            Self::MailDrop => mail::Reason::ALL.len(),
            Self::Handshake => HANDSHAKE_DROPS.len() + 1,
            Self::Decrypt => DECRYPT_DROPS.len() + 1,
            Self::Direction => DIRECTIONS.len(),
            Self::Binding => identity::Refused::ALL.len(),
            Self::SocketError => ErrorKind::ALL.len(),
            Self::Pool => POOLS.len(),
            Self::Insert => INSERTS.len(),
            Self::Io => IO.len(),
            Self::Tx => TX.len(),
            Self::Feature => Feature::ALL.len(),
            Self::Missing => Reason::LABELS.len(),
            Self::Offload => OFFLOADS.len(),
            Self::StoreFault => FaultKind::ALL.len(),
            Self::StoreFile => STORE_FILES.len(),
            Self::StoreClass => STORE_CLASSES.len(),
            Self::StoreDamage => STORE_DAMAGES.len(),
        }
    }

    /// Value `index`.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn value(self, index: usize) -> &'static str {
        let or_ok = |drops: &[Drop]| index.checked_sub(1).map_or("ok", |at| drops[at].label());
        match self {
            Self::Class => Class::ALL[index].label(),
            Self::Reason => Drop::ALL[index].label(),
            Self::QueueDrop => QUEUE_DROPS[index].label(),
            Self::Policed => POLICED[index].label(),
            Self::Type => Kind::ALL.get(index).map_or("unknown", |kind| kind.name()),
            Self::Code => Code::ALL[index].label(),
            Self::Handshake => or_ok(&HANDSHAKE_DROPS),
            Self::Decrypt => or_ok(&DECRYPT_DROPS),
            Self::Direction => DIRECTIONS[index],
            Self::Binding => identity::Refused::ALL[index].label(),
            Self::SocketError => ErrorKind::ALL[index].label(),
            Self::Written => Outcome::label_at(index),
            Self::Introduction => RendezvousStatus::ALL[index].label(),
            Self::Punch => code::Outcome::ALL[index].label(),
            Self::Allocation => ALLOCATIONS[index],
            Self::ChannelEnd => CHANNEL_ENDS[index].label(),
            Self::Probed => ProbedFrom::ALL[index].label(),
            Self::MailDrop => mail::Reason::ALL[index].label(),
            Self::Pool => POOLS[index],
            Self::Insert => INSERTS[index],
            Self::Io => IO[index].1,
            Self::Tx => TX[index].label(),
            Self::Feature => Feature::ALL[index].label(),
            Self::Missing => Reason::LABELS[index],
            Self::Offload => OFFLOADS[index],
            Self::StoreFault => FaultKind::ALL[index].label(),
            Self::StoreFile => STORE_FILES[index],
            Self::StoreClass => STORE_CLASSES[index],
            Self::StoreDamage => STORE_DAMAGES[index],
        }
    }
}

/// For each reason, the position of its result in a list that begins with "ok"; 0 for none.
pub(super) const fn results(drops: &[Drop]) -> [u8; Drop::ALL.len()] {
    let mut index = [0; Drop::ALL.len()];
    let mut i = 0;
    while i < drops.len() {
        index[drops[i] as usize] = byte(i + 1);
        i += 1;
    }
    index
}

/// For each wire value of a type, its position in [`Axis::Type`].
pub(super) const fn types() -> [u8; 256] {
    let mut index = [byte(Kind::ALL.len()); 256];
    let mut i = 0;
    while i < Kind::ALL.len() {
        index[Kind::ALL[i] as usize] = byte(i);
        i += 1;
    }
    index
}

#[expect(clippy::cast_possible_truncation, reason = "asserted, and evaluated at compile time")]
const fn byte(n: usize) -> u8 {
    assert!(n <= 255, "a label has too many values");
    n as u8
}
