//! The way from one shard to another for one class: a ring of messages and a ring of their bytes.
//!
//! Invariants:
//! * The bytes are published before the message they belong to: who sees a message has its bytes.
//! * Messages come out in the order they went in, each with its own bytes.
//!
//! It has no policy: what to do without room is its caller's matter.

use rtrb::{Consumer, Producer, RingBuffer};

use super::PAYLOAD_MAX;

const _: () = assert!(PAYLOAD_MAX <= u16::MAX as usize, "a payload's length is a u16");

/// What travels in the ring of messages.
struct Envelope<M> {
    mail: M,
    /// Bytes of this message in the other ring.
    len: u16,
}

/// The sending end.
pub(super) struct Outlet<M> {
    envelopes: Producer<Envelope<M>>,
    bytes: Producer<u8>,
}

/// The receiving end.
pub(super) struct Inlet<M> {
    envelopes: Consumer<Envelope<M>>,
    bytes: Consumer<u8>,
}

/// Memory of a ring of this shape.
pub(super) const fn bytes<M>(depth: usize, payload: usize) -> usize {
    depth * size_of::<Envelope<M>>() + payload
}

/// Both ends of a ring for `depth` messages with `payload` bytes together.
///
/// # Panics
/// If no message fits, or not the longest one.
pub(super) fn ring<M>(depth: usize, payload: usize) -> (Outlet<M>, Inlet<M>) {
    assert!(depth > 0, "a ring without a place would pass nothing");
    assert!(payload >= PAYLOAD_MAX, "the longest message would wait for room for ever");
    let (envelopes, received) = RingBuffer::new(depth);
    let (bytes, received_bytes) = RingBuffer::new(payload);
    (Outlet { envelopes, bytes }, Inlet { envelopes: received, bytes: received_bytes })
}

impl<M> Outlet<M> {
    /// Whether a message with `len` bytes can be pushed. It stays so until one is.
    #[inline]
    pub(super) fn has_room(&self, len: usize) -> bool {
        // The cached count spares the receiver's cache line; it only ever says too little.
        let bytes = |needed| self.bytes.cached_slots() >= needed || self.bytes.slots() >= needed;
        !self.envelopes.is_full() && bytes(len)
    }

    /// Sends a message.
    ///
    /// # Panics
    /// If there is no room for it.
    #[inline]
    pub(super) fn push(&mut self, mail: M, payload: &[u8]) {
        #[expect(clippy::cast_possible_truncation, reason = "`has_room` is no more than the ring")]
        let len = payload.len() as u16;
        // Nothing to say is not worth the line that both sides share.
        let written = payload.is_empty() || self.bytes.push_entire_slice(payload).is_ok();
        let pushed = written && self.envelopes.push(Envelope { mail, len }).is_ok();
        assert!(pushed, "who pushes has looked for room");
    }
}

impl<M> Inlet<M> {
    /// Whether nothing is there.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// Messages that are there.
    pub(super) fn len(&self) -> usize {
        self.envelopes.slots()
    }

    /// The oldest message and the length of its bytes, which are at the head of `out` then.
    #[inline]
    pub(super) fn pop(&mut self, out: &mut [u8; PAYLOAD_MAX]) -> Option<(M, usize)> {
        let Envelope { mail, len } = self.envelopes.pop().ok()?;
        let len = usize::from(len);
        let read = len == 0 || self.bytes.pop_entire_slice(&mut out[..len]).is_ok();
        assert!(read, "bytes are published before their message");
        Some((mail, len))
    }
}
