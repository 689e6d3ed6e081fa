//! The ring: entries of `tag u8 | kind u8 | len u16 | payload`, one after the other, wrapped.
//!
//! Invariants:
//! * An entry is published as a whole: who sees its first byte sees its last.
//! * Both ends reuse the bytes that they were made with.
//!
//! It has no policy: who may take what room is said by the journal.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::kind::Kind;
use crate::layout::Writer;
use crate::record::{PAYLOAD_BYTES_MAX, Record};

/// Bytes of an entry in front of its payload.
const HEAD_BYTES: usize = 4;
const ENTRY_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;
/// Half a ring holds two of the longest entries, or those might never get in.
const RING_BYTES_MIN: usize = 4 * ENTRY_BYTES_MAX;
const _: () = assert!(PAYLOAD_BYTES_MAX <= u16::MAX as usize, "its length is a u16");

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// A record for the log.
    Log = 1,
    /// A record for the snapshot.
    Snapshot = 2,
    /// A snapshot begins.
    Begin = 3,
    /// A snapshot is complete.
    Finish = 4,
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        [Self::Log, Self::Snapshot, Self::Begin, Self::Finish]
            .into_iter()
            .find(|tag| *tag as u8 == byte)
    }
}

/// What was taken out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// A record for the log.
    Log(Kind, &'a [u8]),
    /// A record for the snapshot.
    Snapshot(Kind, &'a [u8]),
    /// A snapshot begins.
    Begin,
    /// A snapshot is complete.
    Finish,
}

/// A ring of about so many bytes.
pub(super) fn new(bytes: usize) -> (Input, Output) {
    let (producer, consumer) = RingBuffer::new(bytes.max(RING_BYTES_MIN));
    let entry = || vec![0; ENTRY_BYTES_MAX].into_boxed_slice();
    (Input { ring: producer, entry: entry() }, Output { ring: consumer, payload: entry() })
}

/// Where entries are put in.
#[derive(Debug)]
pub(super) struct Input {
    ring: Producer<u8>,
    /// Where one is put together.
    entry: Box<[u8]>,
}

impl Input {
    /// Bytes of the longest payload that there is room for.
    pub(super) fn room(&self) -> usize {
        self.ring.slots().saturating_sub(HEAD_BYTES)
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> usize {
        self.ring.buffer().capacity() - self.ring.slots()
    }

    /// Whether half of it or more is taken.
    pub(super) fn is_crowded(&self) -> bool {
        is_crowded(self.used(), self.ring.buffer().capacity())
    }

    /// Puts a record in, if there is room.
    ///
    /// # Panics
    /// It is a seal.
    pub(super) fn push(&mut self, tag: Tag, record: &Record<'_>) -> bool {
        let kind = record.kind();
        assert_ne!(kind, Kind::Seal, "only a store says that a snapshot ends");
        let len = record.payload_len();
        let Some(entry) = self.entry.get_mut(..HEAD_BYTES + len) else {
            unreachable!("a record of {len} bytes is longer than its fields may be");
        };
        let (head, payload) = entry.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&head_of(tag, kind as u8, len));
        let written = record.write(&mut Writer::new(payload));
        assert!(written.is_ok(), "a record is as long as it says");
        self.ring.push_entire_slice(entry).is_ok()
    }

    /// Puts an entry in that is no record, if there is room.
    pub(super) fn push_mark(&mut self, tag: Tag) -> bool {
        self.ring.push_entire_slice(&head_of(tag, 0, 0)).is_ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the longest payload is asserted above")]
fn head_of(tag: Tag, kind: u8, len: usize) -> [u8; HEAD_BYTES] {
    let [low, high] = (len as u16).to_le_bytes();
    [tag as u8, kind, low, high]
}

/// Where entries are taken out.
#[derive(Debug)]
pub(super) struct Output {
    ring: Consumer<u8>,
    /// That of the newest entry.
    payload: Box<[u8]>,
}

impl Output {
    /// Takes the oldest entry out.
    pub(super) fn pop(&mut self) -> Option<Entry<'_>> {
        let mut head = [0; HEAD_BYTES];
        self.ring.pop_entire_slice(&mut head).ok()?;
        let [tag, kind, low, high] = head;
        let payload = &mut self.payload[..usize::from(u16::from_le_bytes([low, high]))];
        let whole = self.ring.pop_entire_slice(payload);
        assert!(whole.is_ok(), "entries are published as a whole");
        let kind = || Kind::try_from(kind).expect("a kind that was put in");
        Some(match Tag::of(tag).expect("a tag that was put in") {
            Tag::Log => Entry::Log(kind(), payload),
            Tag::Snapshot => Entry::Snapshot(kind(), payload),
            Tag::Begin => Entry::Begin,
            Tag::Finish => Entry::Finish,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether half of it or more is taken.
    pub(super) fn is_crowded(&self) -> bool {
        is_crowded(self.ring.slots(), self.ring.buffer().capacity())
    }
}

/// The same on both sides: what is refused as long as the ring is crowded has woken the writer.
fn is_crowded(used: usize, capacity: usize) -> bool {
    used >= capacity / 2
}

#[cfg(test)]
mod tests;
