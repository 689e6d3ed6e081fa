//! How records lie in a file: `len u32 | type u8 | payload | crc32c u32`, one after the other.
//!
//! `len` counts type and payload. The checksum covers length, type and payload and begins with the
//! file's [`Epoch`], so that a frame of another epoch, left over in a tail that is written again,
//! never passes. A length of 0 is the end of the log. It is one only with a type of 0 behind it
//! ([`END`]), or a flipped bit in a length that is a power of two would end the log unseen.
//!
//! What [`Frames`] promises of damage: a record it yields was written as it is, to this epoch, but
//! for the one chance in 2^32 that a checksum leaves to a change wider than 32 bits. It does not
//! look behind the place where it stops: whether the rest is empty, torn or damaged in the middle
//! is the question of who recovers the log.

use std::iter::FusedIterator;

use crate::header::Epoch;
use crate::kind::{Kind, UnknownKind};
use crate::layout::{Field, Malformed, NoRoom, Writer};
use crate::record::{PAYLOAD_BYTES_MAX, Record};

/// Bytes of a frame beside its payload: length, type and checksum.
pub const OVERHEAD_BYTES: usize = LEN_BYTES + 1 + SUM_BYTES;
/// The largest length that is believed: a type and the longest payload.
pub const LEN_MAX: usize = 1 + PAYLOAD_BYTES_MAX;
/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = OVERHEAD_BYTES + PAYLOAD_BYTES_MAX;
/// What is put behind the last frame where the file may hold something other than zeros.
pub const END: [u8; LEN_BYTES + 1] = [0; LEN_BYTES + 1];

const LEN_BYTES: usize = size_of::<u32>();
const SUM_BYTES: usize = size_of::<u32>();
const _: () = assert!(LEN_MAX <= u16::MAX as usize, "a length is far from what u32 can hold");

/// Writes `record` to the front of `out`, sealed for `epoch`; the number of bytes written.
///
/// # Errors
/// [`NoRoom`] if `out` is shorter than [`frame_len`] says.
pub fn encode(out: &mut [u8], epoch: Epoch, record: &Record<'_>) -> Result<usize, NoRoom> {
    let total = frame_len(record);
    let frame = out.get_mut(..total).ok_or(NoRoom)?;
    let (covered, sum) = frame.split_at_mut(total - SUM_BYTES);
    let len = u32::try_from(1 + record.payload_len()).map_err(|_| NoRoom)?;
    let mut to = Writer::new(covered);
    to.put(&len.to_le_bytes())?;
    (record.kind() as u8).write(&mut to)?;
    record.write(&mut to)?;
    sum.copy_from_slice(&checksum(epoch.seed(), covered).to_le_bytes());
    Ok(total)
}

/// Puts the frame of an encoded record behind what `out` holds, sealed for `epoch`.
pub(crate) fn push(out: &mut Vec<u8>, epoch: Epoch, kind: Kind, payload: &[u8]) {
    assert!(payload.len() < LEN_MAX, "no kind of record has a payload of this length");
    #[expect(clippy::cast_possible_truncation, reason = "LEN_MAX is far below")]
    let len = (1 + payload.len()) as u32;
    let start = out.len();
    out.extend_from_slice(&len.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
    let sum = checksum(epoch.seed(), &out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The same for a record.
pub(crate) fn push_record(out: &mut Vec<u8>, epoch: Epoch, record: &Record<'_>) {
    let start = out.len();
    out.resize(start + frame_len(record), 0);
    let written = encode(&mut out[start..], epoch, record);
    assert_eq!(written, Ok(out.len() - start), "a frame is as long as it was said to be");
}

/// Seals `frames`, which [`push`] made one behind the other, for another epoch.
pub(crate) fn reseal(mut frames: &mut [u8], epoch: Epoch) {
    let seed = epoch.seed();
    while let Some(len) = frames.first_chunk::<LEN_BYTES>() {
        let len = bytes_of(*len);
        let (frame, rest) = frames.split_at_mut(LEN_BYTES + len + SUM_BYTES);
        let (covered, sum) = frame.split_at_mut(LEN_BYTES + len);
        sum.copy_from_slice(&checksum(seed, covered).to_le_bytes());
        frames = rest;
    }
}

/// Whether `rest` begins with a frame of `epoch`, whatever it holds. What had to be summed up to
/// know is taken off `budget`; `None` once that is not enough.
pub(crate) fn is_sealed(rest: &[u8], epoch: Epoch, budget: &mut u64) -> Option<bool> {
    let Some(len) = rest.first_chunk::<LEN_BYTES>() else { return Some(false) };
    let len = bytes_of(*len);
    if !(1..=LEN_MAX).contains(&len) {
        return Some(false);
    }
    let Some((covered, behind)) = rest.split_at_checked(LEN_BYTES + len) else {
        return Some(false);
    };
    let Some(sum) = behind.first_chunk::<SUM_BYTES>() else { return Some(false) };
    *budget = budget.checked_sub(covered.len() as u64)?;
    Some(checksum(epoch.seed(), covered).to_le_bytes() == *sum)
}

/// Bytes of the frame that [`encode`] makes of `record`.
pub fn frame_len(record: &Record<'_>) -> usize {
    OVERHEAD_BYTES + record.payload_len()
}

/// A record and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// What it holds.
    pub record: Record<'a>,
}

/// Why there is no further frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The log ends here, as it should: an end mark, or no bytes left.
    EndOfLog,
    /// The frame ends behind the bytes there are, or has a type and no length.
    Torn,
    /// The frame is not what was written, or was written to another epoch.
    BadChecksum,
    /// A length above [`LEN_MAX`].
    TooLong,
    /// Whole, and of a type this version does not know.
    UnknownType(u8),
    /// Whole, and its payload is none of its kind.
    Malformed(Kind, Malformed),
}

impl Reason {
    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::EndOfLog => "end_of_log",
            Self::Torn => "torn",
            Self::BadChecksum => "bad_checksum",
            Self::TooLong => "too_long",
            Self::UnknownType(_) => "unknown_type",
            Self::Malformed(..) => "malformed",
        }
    }
}

/// Where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Offset of the first byte that is in no frame: here the log can be written on.
    pub offset: usize,
    /// Why.
    pub reason: Reason,
}

/// The frames of a log, up to the first place where there is no good one. Offsets count from
/// the beginning of the bytes given, which is behind the file's header.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
    seed: u32,
    reason: Option<Reason>,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes` that were written to `epoch`.
    pub fn new(bytes: &'a [u8], epoch: Epoch) -> Self {
        Self { bytes, offset: 0, seed: epoch.seed(), reason: None }
    }

    /// Where and why there was no further frame; `None` before [`Iterator::next`] said so.
    pub fn stop(&self) -> Option<Stop> {
        self.reason.map(|reason| Stop { offset: self.offset, reason })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.reason.is_some() {
            return None;
        }
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        match first(rest, self.seed) {
            Ok((record, len)) => {
                let start = self.offset;
                self.offset = start + len;
                Some(Frame { start, end: self.offset, record })
            }
            Err(reason) => {
                self.reason = Some(reason);
                None
            }
        }
    }
}

impl FusedIterator for Frames<'_> {}

/// The record that `rest` begins with and the bytes of its frame. The checksum comes before
/// anything that is said of type and payload: those are faults of a writer, not of a disk.
fn first(rest: &[u8], seed: u32) -> Result<(Record<'_>, usize), Reason> {
    let Some((len, behind)) = rest.split_first_chunk::<LEN_BYTES>() else {
        return Err(if is_zero(rest) { Reason::EndOfLog } else { Reason::Torn });
    };
    let len = match bytes_of(*len) {
        0 if is_zero(behind.get(..1).unwrap_or_default()) => return Err(Reason::EndOfLog),
        0 => return Err(Reason::Torn),
        len => len,
    };
    if len > LEN_MAX {
        return Err(Reason::TooLong);
    }
    let (covered, behind) = rest.split_at_checked(LEN_BYTES + len).ok_or(Reason::Torn)?;
    let sum: &[u8; SUM_BYTES] = behind.first_chunk().ok_or(Reason::Torn)?;
    if checksum(seed, covered).to_le_bytes() != *sum {
        return Err(Reason::BadChecksum);
    }
    let (kind, payload) = covered[LEN_BYTES..].split_first().ok_or(Reason::Torn)?;
    let kind = Kind::try_from(*kind).map_err(|UnknownKind(byte)| Reason::UnknownType(byte))?;
    let record = Record::decode(kind, payload).map_err(|fault| Reason::Malformed(kind, fault))?;
    Ok((record, covered.len() + SUM_BYTES))
}

fn bytes_of(len: [u8; LEN_BYTES]) -> usize {
    usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX)
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn checksum(seed: u32, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, covered)
}
