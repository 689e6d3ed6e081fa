//! FIND_NODE: who is close to a point?
//!
//! A router answers from entries that are in wire form already: [`fitting`] or
//! [`Chunks::plan`] say which go into which frame, [`RespWriter`] copies them.

use std::ops::Range;

use arrayvec::ArrayVec;
use prost::encoding::encoded_len_varint;

use super::peer::Peer;
use super::reader::{Fields, Value};
use super::{BodyError, Overflow, Writer, exactly};
use crate::ids::PeerId;
use crate::limits::{CHUNKS_MAX, FIND_NODE_PEERS_DEFAULT, FIND_NODE_PEERS_MAX};

/// Tag of `peers`.
const PEERS: u32 = 1;
/// Tag of `chunk_index`.
const CHUNK_INDEX: u32 = 14;
/// Tag of `total_chunks`.
const TOTAL_CHUNKS: u32 = 15;
/// Both chunk fields, their values below 128.
const CHUNK_FIELDS_BYTES: usize = 4;

const _: () = assert!(CHUNKS_MAX < 0x80);

/// Who is close to this point?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindNodeReq {
    /// The point.
    pub target_id: PeerId,
    /// Peers wanted, as declared: see [`wanted`](Self::wanted).
    pub limit: u32,
}

impl FindNodeReq {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let (mut target_id, mut limit) = (&[][..], 0);
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => target_id = value.bytes()?,
                2 => limit = value.uint32()?,
                _ => {}
            }
        }
        Ok(Self { target_id: PeerId(*exactly(target_id)?), limit })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.target_id.0)?;
        out.uint32(2, self.limit)
    }

    /// Peers wanted: 0 stands for 8, more than 16 for 16.
    pub fn wanted(&self) -> usize {
        match usize::try_from(self.limit) {
            Ok(0) => FIND_NODE_PEERS_DEFAULT,
            Ok(limit) => limit.min(FIND_NODE_PEERS_MAX),
            Err(_) => FIND_NODE_PEERS_MAX,
        }
    }
}

/// These are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FindNodeResp<'a> {
    /// In ascending XOR distance, then a random sample.
    pub peers: Peers<'a>,
    /// Counts from 0.
    pub chunk_index: u32,
    /// 0 if the answer is a single frame.
    pub total_chunks: u32,
}

impl<'a> FindNodeResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self { peers: Peers { body, count: 0 }, ..Self::default() };
        let mut maxima = Ok(());
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                PEERS => {
                    response.peers.count += 1;
                    match Peer::read(value.bytes()?) {
                        Ok(_) => {}
                        Err(BodyError::Malformed) => return Err(BodyError::Malformed),
                        Err(fault) => maxima = maxima.and(Err(fault)),
                    }
                }
                CHUNK_INDEX => response.chunk_index = value.uint32()?,
                TOTAL_CHUNKS => response.total_chunks = value.uint32()?,
                _ => {}
            }
        }
        if response.peers.count > FIND_NODE_PEERS_MAX {
            return Err(BodyError::AboveMaximum);
        }
        maxima.map(|()| response)
    }
}

/// The peers of an answer.
#[derive(Clone, Copy, Default)]
pub struct Peers<'a> {
    /// A body that was read to its end.
    body: &'a [u8],
    count: usize,
}

impl<'a> Peers<'a> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order of the answer.
    pub fn iter(&self) -> impl Iterator<Item = Peer<'a>> + use<'a> {
        let mut fields = Fields::of(self.body);
        std::iter::from_fn(move || {
            // The body was read to its end before: no error is left to come.
            while let Ok(Some((tag, value))) = fields.next() {
                if let (PEERS, Value::Bytes(peer)) = (tag, value) {
                    return Peer::read(peer).ok();
                }
            }
            None
        })
    }
}

impl PartialEq for Peers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Peers<'_> {}

impl std::fmt::Debug for Peers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Writes an answer from entries in wire form.
#[derive(Debug)]
pub struct RespWriter<'w, 'a> {
    out: &'w mut Writer<'a>,
}

impl<'w, 'a> RespWriter<'w, 'a> {
    /// An answer without peers.
    pub const fn new(out: &'w mut Writer<'a>) -> Self {
        Self { out }
    }

    /// Adds a peer: the bytes of an [`Entry`](super::Entry). On overflow the
    /// answer is as it was.
    pub fn push(&mut self, entry: &[u8]) -> Result<(), Overflow> {
        self.out.encoded(PEERS, entry)
    }

    /// Ends an answer of a single frame.
    pub fn finish(self) {}

    /// Ends chunk `index` of `total`.
    pub fn finish_chunk(self, index: u32, total: u32) -> Result<(), Overflow> {
        self.out.uint32(CHUNK_INDEX, index)?;
        self.out.uint32(TOTAL_CHUNKS, total)
    }
}

/// How many of the entries fit into a body of `room` bytes, first come first
/// served: the answer to a peer that takes no chunks.
pub fn fitting<'e>(entries: impl IntoIterator<Item = &'e [u8]>, room: usize) -> usize {
    let mut used = 0;
    let fits = |entry: &&[u8]| {
        used += encoded_bytes(entry);
        used <= room
    };
    entries.into_iter().take_while(fits).count()
}

/// Which entries go into which frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Per chunk the number of entries up to its end.
    ends: ArrayVec<usize, CHUNKS_MAX>,
}

impl Chunks {
    /// Fills bodies of `room` bytes in order; a single frame if that is enough.
    ///
    /// [`Overflow`] if an entry alone is too long or 16 chunks are not enough.
    pub fn plan<'e, I>(entries: I, room: usize) -> Result<Self, Overflow>
    where
        I: IntoIterator<Item = &'e [u8]> + Clone,
    {
        let total: usize = entries.clone().into_iter().map(encoded_bytes).sum();
        let mut ends = ArrayVec::new();
        if total <= room {
            ends.push(entries.into_iter().count());
            return Ok(Self { ends });
        }
        let room = room.checked_sub(CHUNK_FIELDS_BYTES).ok_or(Overflow)?;
        let (mut used, mut count) = (0, 0);
        for entry in entries {
            let bytes = encoded_bytes(entry);
            if bytes > room {
                return Err(Overflow);
            }
            if used + bytes > room {
                ends.try_push(count).map_err(|_| Overflow)?;
                used = 0;
            }
            used += bytes;
            count += 1;
        }
        ends.try_push(count).map_err(|_| Overflow)?;
        Ok(Self { ends })
    }

    /// Number of frames, at least one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: an answer without peers is a frame too.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The entries of each frame in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }
}

/// Bytes that `entry` takes up in an answer.
fn encoded_bytes(entry: &[u8]) -> usize {
    1 + encoded_len_varint(entry.len() as u64) + entry.len()
}
