//! FIND_VALUE: what is stored under a key, or who has it?
//!
//! A router answers from what it keeps in wire form: [`Chunks::of_record`] or
//! [`Chunks::of_providers`] say which part goes into which frame, [`RespWriter`]
//! copies it. The last frame also names closer peers, as many as
//! [`fitting`](super::chunks::fitting) finds in the room that it has left.
//!
//! [`Chunks::of_record`]: super::Chunks::of_record
//! [`Chunks::of_providers`]: super::Chunks::of_providers

use super::chunks::{CHUNK_INDEX, TOTAL_CHUNKS};
use super::entries::Entries;
use super::peer::{Peer, Peers};
use super::provider::Provider;
use super::reader::{Fields, Value};
use super::{BodyError, Overflow, Writer, exactly};
use crate::ids::Key;
use crate::limits::{CHUNKS_MAX, CLOSER_PEERS_MAX, PROVIDERS_PER_CHUNK_MAX};

/// Tag of `record`.
const RECORD: u32 = 1;
/// Tag of `providers`.
const PROVIDERS: u32 = 2;
/// Tag of a provider within `providers`.
const PROVIDER: u32 = 1;
/// Tag of `closer_peers`.
const CLOSER_PEERS: u32 = 3;

/// What is stored under this key, or who has it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindValueReq {
    /// What is looked for.
    pub key: Key,
    /// Providers wanted, as declared: see [`wanted`](Self::wanted).
    pub provider_limit: u32,
}

impl FindValueReq {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let (mut key, mut provider_limit) = (&[][..], 0);
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => key = value.bytes()?,
                2 => provider_limit = value.uint32()?,
                _ => {}
            }
        }
        Ok(Self { key: Key(*exactly(key)?), provider_limit })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.key.0)?;
        out.uint32(2, self.provider_limit)
    }

    /// Providers wanted: 0 stands for as many as one frame may have, and no
    /// answer has more than all of its frames together.
    pub fn wanted(&self) -> usize {
        let max = CHUNKS_MAX * PROVIDERS_PER_CHUNK_MAX;
        match usize::try_from(self.provider_limit) {
            Ok(0) => PROVIDERS_PER_CHUNK_MAX,
            Ok(limit) => limit.min(max),
            Err(_) => max,
        }
    }
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A slice of an encoded [`Record`](super::Record).
    Record(&'a [u8]),
    /// Who has it.
    Providers(Providers<'a>),
}

/// The providers of an answer.
#[derive(Clone, Copy)]
pub struct Providers<'a> {
    /// The rest of a body that was read to its end, from the first of them on.
    fields: Fields<'a>,
    count: usize,
}

impl<'a> Providers<'a> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order of the answer.
    pub fn iter(&self) -> impl Iterator<Item = Provider<'a>> + use<'a> {
        let (mut outer, mut inner) = (self.fields, Fields::of(&[]));
        std::iter::from_fn(move || {
            // The body was read to its end before: no error is left to come.
            loop {
                while let Ok(Some((tag, value))) = inner.next() {
                    if let (PROVIDER, Value::Bytes(provider)) = (tag, value) {
                        return Provider::read(provider).ok();
                    }
                }
                match outer.next() {
                    Ok(Some((PROVIDERS, Value::Bytes(providers)))) => {
                        inner = Fields::of(providers);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        })
    }
}

impl PartialEq for Providers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Providers<'_> {}

impl std::fmt::Debug for Providers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// This is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FindValueResp<'a> {
    /// `None`: nothing is known here.
    pub value: Option<Found<'a>>,
    /// Whom to ask next; on the last chunk.
    pub closer_peers: Peers<'a>,
    /// Counts from 0.
    pub chunk_index: u32,
    /// 0 if the answer is a single frame.
    pub total_chunks: u32,
}

impl<'a> FindValueResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut peers = Entries::default();
        let mut value_read = ValueFields::Neither;
        let mut fields = Fields::of(body);
        loop {
            let here = fields;
            let Some((tag, value)) = fields.next()? else { break };
            match tag {
                RECORD => value_read = ValueFields::Record(value.bytes()?),
                PROVIDERS => value_read.merge_providers(here, value.bytes()?)?,
                CLOSER_PEERS => peers.add(Peer::read(value.bytes()?))?,
                CHUNK_INDEX => response.chunk_index = value.uint32()?,
                TOTAL_CHUNKS => response.total_chunks = value.uint32()?,
                _ => {}
            }
        }
        response.value = value_read.finish()?;
        response.closer_peers = Peers::read(body, CLOSER_PEERS, peers.at_most(CLOSER_PEERS_MAX)?);
        Ok(response)
    }
}

/// What the fields so far say: the last one counts, but providers that follow
/// providers are added to them.
enum ValueFields<'a> {
    Neither,
    Record(&'a [u8]),
    /// From this field on.
    Providers(Fields<'a>, Entries),
}

impl<'a> ValueFields<'a> {
    fn merge_providers(&mut self, here: Fields<'a>, body: &'a [u8]) -> Result<(), BodyError> {
        let mut entries = Entries::default();
        let mut from = here;
        if let Self::Providers(first, before) = std::mem::replace(self, Self::Neither) {
            (from, entries) = (first, before);
        }
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            if tag == PROVIDER {
                entries.add(Provider::read(value.bytes()?))?;
            }
        }
        *self = Self::Providers(from, entries);
        Ok(())
    }

    fn finish(self) -> Result<Option<Found<'a>>, BodyError> {
        Ok(match self {
            Self::Neither => None,
            Self::Record(slice) => Some(Found::Record(slice)),
            Self::Providers(from, entries) => {
                let count = entries.at_most(PROVIDERS_PER_CHUNK_MAX)?;
                Some(Found::Providers(Providers { fields: from, count }))
            }
        })
    }
}

/// Writes an answer from what is kept in wire form: the value first, if there is
/// one, then the peers.
#[derive(Debug)]
pub struct RespWriter<'w, 'a> {
    out: &'w mut Writer<'a>,
}

impl<'w, 'a> RespWriter<'w, 'a> {
    /// An answer that knows nothing.
    pub const fn new(out: &'w mut Writer<'a>) -> Self {
        Self { out }
    }

    /// Adds a slice of an encoded record.
    pub fn record(&mut self, slice: &[u8]) -> Result<(), Overflow> {
        self.out.encoded(RECORD, slice)
    }

    /// Adds encoded providers. An overflow spoils the answer.
    pub fn providers<'e>(
        &mut self,
        entries: impl IntoIterator<Item = &'e [u8]>,
    ) -> Result<(), Overflow> {
        self.out.message(PROVIDERS, |out| {
            entries.into_iter().try_for_each(|entry| out.encoded(PROVIDER, entry))
        })
    }

    /// Adds a peer: the bytes of an [`Entry`](super::Entry). On overflow the
    /// answer is as it was.
    pub fn closer_peer(&mut self, entry: &[u8]) -> Result<(), Overflow> {
        self.out.encoded(CLOSER_PEERS, entry)
    }

    /// Ends an answer of a single frame.
    pub fn finish(self) {}

    /// Ends chunk `index` of `total`.
    pub fn finish_chunk(self, index: u32, total: u32) -> Result<(), Overflow> {
        self.out.uint32(CHUNK_INDEX, index)?;
        self.out.uint32(TOTAL_CHUNKS, total)
    }
}
