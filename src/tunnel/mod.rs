//! Authenticated sessions: WireGuard's responder side and what a router adds to it.
//!
//! [`Tunnel`] is the cryptography, keyed by slot: [`wireguard::WireGuard`] is stock
//! BoringTun, [`plain::Plain`] its twin for simulations. [`Sessions`] is everything
//! else: whose slot, which address, proven or not, which key is in use, when to
//! send a keepalive, when to end.
//!
//! The router never initiates a handshake, and sends nothing under a key before the
//! initiator's first data under it.
mod challenge;
mod known;
mod pending;
pub mod plain;
mod ring;
mod session;
mod sessions;
pub mod wireguard;

use crate::drops::Drop;
use crate::ids::{SessionRef, WgKey};
use crate::net::Path;
use crate::time::Moment;

pub use crate::admission::{INITIATION_BYTES, Initiation, Standing};
pub use session::Session;
pub use sessions::{Config, Secrets, Sessions, Stats};

/// Bytes of a handshake response.
pub const RESPONSE_BYTES: usize = 92;
/// Bytes that sealing adds: header and tag. Also the least a data message has.
pub const DATA_OVERHEAD: usize = 32;
/// Bytes of a buffer that any message made here fits in, beside the data it carries.
pub const SCRATCH_MIN: usize = INITIATION_BYTES;

/// The cryptography of many sessions. Slots are chosen by the caller; an engine does not judge
/// when a key may be used (see `ring`).
pub trait Tunnel {
    /// The initiator's static key. One Diffie-Hellman.
    ///
    /// # Errors
    /// [`Drop::BadInitiation`] if it does not decrypt.
    fn static_key(&mut self, initiation: &Initiation) -> Result<WgKey, Drop>;

    /// Makes a key for the session in `slot` (a new session if the slot is empty) and writes the
    /// response. `index` are the upper 24 bits of the receiver indices of the session.
    ///
    /// # Errors
    /// [`Drop::BadInitiation`] if it does not decrypt or its timestamp does not follow the last one's.
    ///
    /// # Panics
    /// If `out` is shorter than [`SCRATCH_MIN`].
    fn respond(
        &mut self,
        now: Moment,
        slot: u32,
        key: &WgKey,
        index: u32,
        initiation: &Initiation,
        out: &mut [u8],
    ) -> Result<Responded, Drop>;

    /// Decrypts a data message into `out` and returns the plaintext's length, zero for a keepalive.
    ///
    /// # Errors
    /// [`Drop::Replayed`], [`Drop::BadTag`], [`Drop::NoSession`]; and [`Drop::BadShim`] for a
    /// message that is authentic and counts as received, but whose plaintext is of no use.
    ///
    /// # Panics
    /// If `out` is shorter than the datagram less 16 bytes.
    fn open(&mut self, slot: u32, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop>;

    /// Encrypts `frame` (empty for a keepalive) under the session's current key and returns the message's length.
    ///
    /// # Errors
    /// [`Drop::Unconfirmed`] if there is no current key: the slot is then empty.
    ///
    /// # Panics
    /// If `out` is shorter than the frame plus [`DATA_OVERHEAD`] or than [`SCRATCH_MIN`].
    fn seal(&mut self, slot: u32, frame: &[u8], out: &mut [u8]) -> Result<usize, Drop>;

    /// Forgets the session in `slot`, if there is one.
    fn remove(&mut self, slot: u32);

    /// Multiplications on the curve so far: what strangers would like to make us spend.
    fn curve_operations(&self) -> u64;
}

/// A handshake that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responded {
    /// Bytes of the response.
    pub len: usize,
    /// Receiver index of the new key; the lowest three bits are its place in the ring of keys.
    pub index: u32,
    /// When the engine believes the key to be made; it is never used later than 180 s after.
    pub established: Moment,
    /// The session's older keys are gone.
    pub fresh: bool,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Opened<'s> {
    /// An authentic plaintext.
    Frame {
        /// Who sent it.
        session: SessionRef,
        /// What it says, padding possibly still behind it.
        plaintext: &'s [u8],
    },
    /// To be sent back at once on the path that the datagram came by.
    Reply {
        /// A handshake response or a cookie reply.
        bytes: &'s [u8],
        /// For a cookie reply: why the initiation was not answered otherwise.
        drop: Option<Drop>,
    },
    /// Well received, nothing to do: a keepalive, or an initiation that waits for its turn.
    Nothing,
    /// Data of a session of another shard, whose number this is.
    Elsewhere(u16),
    /// An initiation, the datagram at hand, that passed admission here and is to be answered by
    /// the peer's home.
    Move(Moved),
    /// Not well received.
    Dropped(Drop),
}

/// Something that became due.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'s> {
    /// A message to send: a keepalive, a path challenge, a handshake response that had to wait.
    Send(Path, &'s [u8]),
    /// The session is over; its slot is free.
    Ended(SessionRef, WgKey),
    /// This initiation, which waited, is to be answered by the peer's home.
    Move(Moved, &'s [u8]),
    /// An initiation that waited was no good.
    Dropped(Drop),
    /// The cookie for an initiation that waited, and why it was not answered without one.
    Refused(Path, &'s [u8], Drop),
}

/// What is known of an initiation on its way to the shard that is its peer's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// That shard.
    pub home: u16,
    /// The initiator's static key.
    pub key: WgKey,
    /// What its source has proven.
    pub standing: Standing,
    /// Which way it came.
    pub path: Path,
}

#[cfg(test)]
mod tests;
