//! FIND_NODE: who is close to a point?
//!
//! A router answers from entries that are in wire form already: [`fitting`] or
//! [`Chunks::plan`] say which go into which frame, [`RespWriter`] copies them.

use super::chunks::{CHUNK_INDEX, TOTAL_CHUNKS};
pub use super::chunks::{Chunks, fitting};
use super::entries::Entries;
use super::peer::{Peer, Peers};
use super::reader::Fields;
use super::{BodyError, Overflow, Writer, exactly};
use crate::ids::PeerId;
use crate::limits::{FIND_NODE_PEERS_DEFAULT, FIND_NODE_PEERS_MAX};

/// Tag of `peers`.
const PEERS: u32 = 1;

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
        let mut response = Self::default();
        let mut peers = Entries::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                PEERS => peers.add(Peer::read(value.bytes()?))?,
                CHUNK_INDEX => response.chunk_index = value.uint32()?,
                TOTAL_CHUNKS => response.total_chunks = value.uint32()?,
                _ => {}
            }
        }
        response.peers = Peers::read(body, PEERS, peers.at_most(FIND_NODE_PEERS_MAX)?);
        Ok(response)
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
