//! STORE: keep this record.

use super::chunks::{CHUNK_INDEX, Chunks, TOTAL_CHUNKS};
use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most};
use crate::limits::{ADMISSION_BYTES_MAX, REASON_BYTES_MAX};
use crate::wire::code::StoreCode;

/// What rides beside a record: the largest stamp 19, the largest token 66.
const PAYMENT_BYTES_MAX: usize = 19 + (2 + ADMISSION_BYTES_MAX);

/// Work that pays for a write; unverified, see [`signing::stamp`](crate::signing::stamp).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Unix minutes.
    pub epoch: u32,
    /// What was searched for.
    pub nonce: u64,
}

impl Stamp {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let mut stamp = Self::default();
        stamp.merge(body)?;
        Ok(stamp)
    }

    pub(super) fn merge(&mut self, body: &[u8]) -> Result<(), BodyError> {
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.epoch = value.uint32()?,
                2 => self.nonce = value.uint64()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.epoch)?;
        out.uint64(2, self.nonce)
    }
}

/// Keep this record: all of it, or one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StoreReq<'a> {
    /// A slice of an encoded [`Record`](super::Record).
    pub record: &'a [u8],
    /// Rides on the first chunk.
    pub stamp: Option<Stamp>,
    /// Token of a NEGOTIATE answer; rides on the first chunk.
    pub admission: &'a [u8],
    /// Counts from 0.
    pub chunk_index: u32,
    /// 0 if the request is a single frame.
    pub total_chunks: u32,
}

impl<'a> StoreReq<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut request = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => request.record = value.bytes()?,
                2 => request.stamp.get_or_insert_default().merge(value.bytes()?)?,
                3 => request.admission = value.bytes()?,
                CHUNK_INDEX => request.chunk_index = value.uint32()?,
                TOTAL_CHUNKS => request.total_chunks = value.uint32()?,
                _ => {}
            }
        }
        at_most(request.admission, ADMISSION_BYTES_MAX)?;
        Ok(request)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, self.record)?;
        if let Some(stamp) = &self.stamp {
            out.message(2, |out| stamp.write(out))?;
        }
        out.bytes(3, self.admission)?;
        out.uint32(CHUNK_INDEX, self.chunk_index)?;
        out.uint32(TOTAL_CHUNKS, self.total_chunks)
    }

    /// The requests of one frame each, with bodies of `room` bytes at most, that
    /// together store the record of this one.
    ///
    /// [`Overflow`] if 16 chunks are not enough or the token is longer than allowed.
    pub fn chunks(self, room: usize) -> Result<impl Iterator<Item = Self>, Overflow> {
        let payment = Self { stamp: self.stamp, admission: self.admission, ..Self::default() };
        let mut payment_bytes = [0; PAYMENT_BYTES_MAX];
        let mut written = Writer::new(&mut payment_bytes);
        payment.write(&mut written)?;
        let plan = Chunks::of_record(self.record.len(), written.len(), room)?;
        let frames = u32::try_from(plan.len()).map_err(|_| Overflow)?;
        let total_chunks = if frames > 1 { frames } else { 0 };
        let slices = plan.iter().map(move |range| &self.record[range]);
        Ok((0..frames).zip(slices).map(move |(chunk_index, record)| {
            let payment = if chunk_index == 0 { payment } else { Self::default() };
            Self { record, chunk_index, total_chunks, ..payment }
        }))
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StoreResp<'a> {
    /// What became of it; one that we do not know reads as [`StoreCode::Unspecified`].
    pub code: StoreCode,
    /// For people.
    pub reason: &'a str,
    /// When trying again may help; 0: never.
    pub retry_after_ms: u32,
}

impl<'a> StoreResp<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut response = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => response.code = StoreCode::of_wire(value.uint32()?),
                2 => response.reason = value.text()?,
                3 => response.retry_after_ms = value.uint32()?,
                _ => {}
            }
        }
        at_most(response.reason.as_bytes(), REASON_BYTES_MAX)?;
        Ok(response)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.code.to_wire())?;
        out.bytes(2, self.reason.as_bytes())?;
        out.uint32(3, self.retry_after_ms)
    }
}
