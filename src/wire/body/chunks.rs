//! How what is longer than a frame is cut into the frames of one stream.
//!
//! A message that one frame holds carries no chunk fields; otherwise every frame
//! has room for both of them. Frames are filled in order.

use std::ops::Range;

use arrayvec::ArrayVec;
use prost::encoding::encoded_len_varint;

use super::Overflow;
use crate::limits::{CHUNKS_MAX, PROVIDERS_PER_CHUNK_MAX};

/// Tag of `chunk_index`.
pub(super) const CHUNK_INDEX: u32 = 14;
/// Tag of `total_chunks`.
pub(super) const TOTAL_CHUNKS: u32 = 15;
/// Both chunk fields, their values below 128.
const CHUNK_FIELDS_BYTES: usize = 4;

const _: () = assert!(CHUNKS_MAX < 0x80);

/// Which part goes into which frame: entries of a list, or bytes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Per chunk the end of its part.
    ends: ArrayVec<usize, CHUNKS_MAX>,
    /// See [`left`](Self::left).
    left: usize,
}

impl Chunks {
    /// Peers of a FIND_NODE answer, in bodies of `room` bytes.
    ///
    /// [`Overflow`] if an entry alone is too long or 16 chunks are not enough.
    pub fn plan<'e, I>(entries: I, room: usize) -> Result<Self, Overflow>
    where
        I: IntoIterator<Item = &'e [u8]> + Clone,
    {
        PEERS.plan(entries, room)
    }

    /// Providers of a FIND_VALUE answer, in bodies of `room` bytes.
    ///
    /// [`Overflow`] if an entry alone is too long or 16 chunks are not enough.
    pub fn of_providers<'e, I>(entries: I, room: usize) -> Result<Self, Overflow>
    where
        I: IntoIterator<Item = &'e [u8]> + Clone,
    {
        PROVIDERS.plan(entries, room)
    }

    /// A record of `record_bytes` in bodies of `room` bytes, of which the first
    /// holds `beside_bytes` of other fields.
    ///
    /// [`Overflow`] if 16 chunks are not enough.
    pub fn of_record(
        record_bytes: usize,
        beside_bytes: usize,
        room: usize,
    ) -> Result<Self, Overflow> {
        let mut ends = ArrayVec::new();
        if let Some(left) = room.checked_sub(field_bytes(record_bytes) + beside_bytes) {
            ends.push(record_bytes);
            return Ok(Self { ends, left });
        }
        let room = room.checked_sub(CHUNK_FIELDS_BYTES).ok_or(Overflow)?;
        let mut left = room.checked_sub(beside_bytes).ok_or(Overflow)?;
        let mut end = 0;
        loop {
            let slice = longest_within(left).min(record_bytes - end);
            if slice == 0 {
                return Err(Overflow);
            }
            end += slice;
            ends.try_push(end).map_err(|_| Overflow)?;
            if end == record_bytes {
                return Ok(Self { ends, left: left - field_bytes(slice) });
            }
            left = room;
        }
    }

    /// Number of frames, at least one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: a message without parts is a frame too.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that the last frame has left.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// The part of each frame in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let mut start = 0;
        self.ends.clone().into_iter().map(move |end| std::mem::replace(&mut start, end)..end)
    }
}

/// How many peers fit into a body of `room` bytes, first come first served: the
/// answer to a peer that takes no chunks, and what goes into the room that is
/// [`left`](Chunks::left) behind a value.
pub fn fitting<'e>(entries: impl IntoIterator<Item = &'e [u8]>, room: usize) -> usize {
    PEERS.fill(entries, room).0
}

/// How many providers fit into a body of `room` bytes, first come first served:
/// the answer to a peer that takes no chunks.
pub fn fitting_providers<'e>(entries: impl IntoIterator<Item = &'e [u8]>, room: usize) -> usize {
    PROVIDERS.fill(entries, room).0
}

/// How entries lie in a body.
struct Layout {
    /// In one sub-message rather than in the body itself.
    wrapped: bool,
    /// In one frame.
    count_max: usize,
}

const PEERS: Layout = Layout { wrapped: false, count_max: usize::MAX };
const PROVIDERS: Layout = Layout { wrapped: true, count_max: PROVIDERS_PER_CHUNK_MAX };

impl Layout {
    fn plan<'e, I>(&self, entries: I, room: usize) -> Result<Chunks, Overflow>
    where
        I: IntoIterator<Item = &'e [u8]> + Clone,
    {
        let total = entries.clone().into_iter().count();
        let (mut end, mut used) = self.fill(entries.clone(), room);
        let mut ends = ArrayVec::new();
        if end == total {
            ends.push(total);
            return Ok(Chunks { ends, left: room - used });
        }
        let room = room.checked_sub(CHUNK_FIELDS_BYTES).ok_or(Overflow)?;
        end = 0;
        while end < total {
            let count;
            (count, used) = self.fill(entries.clone().into_iter().skip(end), room);
            if count == 0 {
                return Err(Overflow);
            }
            end += count;
            ends.try_push(end).map_err(|_| Overflow)?;
        }
        Ok(Chunks { ends, left: room - used })
    }

    /// How many of the entries a body of `room` bytes holds, and the bytes that they take up.
    fn fill<'e>(&self, entries: impl IntoIterator<Item = &'e [u8]>, room: usize) -> (usize, usize) {
        let (mut count, mut inner, mut used) = (0, 0, 0);
        for entry in entries.into_iter().take(self.count_max) {
            inner += field_bytes(entry.len());
            let body = if self.wrapped { field_bytes(inner) } else { inner };
            if body > room {
                break;
            }
            (count, used) = (count + 1, body);
        }
        (count, used)
    }
}

/// Bytes of a field that holds `len` bytes and has a tag below 16.
const fn field_bytes(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Most bytes that a field within `room` can hold.
fn longest_within(room: usize) -> usize {
    // One length byte too many would leave a byte unused where the lengths grow.
    let with =
        |len_len: usize| room.checked_sub(1 + len_len).filter(|&len| field_bytes(len) <= room);
    (1..=10).find_map(with).unwrap_or(0)
}
