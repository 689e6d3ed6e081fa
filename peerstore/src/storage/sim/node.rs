//! A file, as its reader sees it and as the platter has it.
//!
//! Invariants:
//! * Bytes before `dirty` are not written by any later sync: they are on the platter, or a failed
//!   sync lost them.
//! * `low <= len <= high`, and all three are at least what was synced: no length that may be on
//!   the platter cuts off what was promised.

use std::ops::Range;

use super::draw::{Draw, Survival};

/// What a disk writes or does not write.
pub(super) const SECTOR: usize = 512;
/// Sectors of a reserved tail that hold garbage, at most.
const GARBAGE_SECTORS: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// All that was appended.
    data: Vec<u8>,
    /// Length, with what is reserved.
    len: usize,
    /// Where what the next sync writes begins.
    dirty: usize,
    /// What is on the platter; zeros follow.
    platter: Vec<u8>,
    /// Least and greatest length that may be on the platter.
    low: usize,
    high: usize,
    /// Reading fails.
    pub(super) unreadable: bool,
}

impl Node {
    /// A file that was always there; zeros follow `data` up to `len`.
    pub(super) fn at_rest(data: Vec<u8>, len: usize) -> Self {
        let (platter, dirty) = (data.clone(), data.len());
        Self { data, len, dirty, platter, low: len, high: len, unreadable: false }
    }

    /// All that a reader gets.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        bytes[..self.data.len()].copy_from_slice(&self.data);
        bytes
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.resize(self.len.max(self.data.len()));
    }

    pub(super) fn reserve(&mut self, len: usize) {
        self.resize(self.len.max(len));
    }

    pub(super) fn trim(&mut self) {
        self.resize(self.data.len());
    }

    fn resize(&mut self, len: usize) {
        self.len = len;
        self.low = self.low.min(len);
        self.high = self.high.max(len);
    }

    pub(super) fn sync(&mut self) {
        place(&mut self.platter, self.dirty, &self.data[self.dirty..]);
        self.dirty = self.data.len();
        (self.low, self.high) = (self.len, self.len);
    }

    /// The pages count as written from here on, whether they were or not.
    pub(super) fn fail_sync(&mut self, draw: &mut Draw) {
        self.platter = self.survivors(draw, &mut |_| {});
        self.dirty = self.data.len();
    }

    /// The file as one may find it after a power cut.
    pub(super) fn after_crash(&self, draw: &mut Draw, stale: &[u8]) -> Self {
        let mut littered = Draw::new(draw.next());
        let litter = draw.once_in(3);
        let mut garbage = |sector: &mut [u8]| {
            if litter && littered.once_in(2) {
                fill_with_garbage(sector, &mut littered, stale);
            }
        };
        let mut platter = self.survivors(draw, &mut garbage);
        let len = draw.between(self.low, self.high);
        let tail = self.data.len().div_ceil(SECTOR)..len / SECTOR;
        for _ in 0..GARBAGE_SECTORS * usize::from(!tail.is_empty()) {
            let mut sector = [0; SECTOR];
            garbage(&mut sector);
            if sector != [0; SECTOR] {
                let at = tail.start + draw.between(0, tail.len() - 1);
                place(&mut platter, at * SECTOR, &sector);
            }
        }
        platter.truncate(len);
        Self { unreadable: self.unreadable, ..Self::at_rest(platter, len) }
    }

    /// The platter with a part of what was not synced; `absent` sees every whole sector that
    /// was to be written and was not.
    fn survivors(&self, draw: &mut Draw, absent: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
        let mut platter = self.platter.clone();
        let sectors: Vec<Range<usize>> = sectors(self.dirty..self.data.len()).collect();
        let survival = Survival::drawn(draw, sectors.len());
        for (part, sector) in sectors.into_iter().enumerate() {
            let kept = survival.bytes(part, sector.len(), draw);
            place(&mut platter, sector.start, &self.data[sector.start..sector.start + kept]);
            if kept == 0 && sector.len() == SECTOR {
                let mut bytes = [0; SECTOR];
                absent(&mut bytes);
                place(&mut platter, sector.start, &bytes);
            }
        }
        platter
    }

    /// Changes what is at rest: both what is read now and what is found after a crash.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let unreadable = self.unreadable;
        let mut bytes = self.bytes();
        change(&mut bytes);
        let len = bytes.len();
        *self = Self { unreadable, ..Self::at_rest(bytes, len) };
    }
}

/// The sectors, or parts of them, that a range of bytes lies in.
fn sectors(bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = bytes.start / SECTOR;
    let end = if bytes.is_empty() { first } else { bytes.end.div_ceil(SECTOR) };
    (first..end).map(move |sector| {
        (sector * SECTOR).max(bytes.start)..((sector + 1) * SECTOR).min(bytes.end)
    })
}

/// Writes `bytes` at `at`, with zeros before it where nothing was.
fn place(platter: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if platter.len() < end {
        platter.resize(end, 0);
    }
    platter[at..end].copy_from_slice(bytes);
}

/// Random bytes, or a piece of what once lay on this disk.
fn fill_with_garbage(sector: &mut [u8], draw: &mut Draw, stale: &[u8]) {
    if stale.is_empty() || draw.once_in(2) {
        draw.fill(sector);
        return;
    }
    let piece = &stale[draw.below(stale.len())..];
    let len = piece.len().min(sector.len());
    sector[..len].copy_from_slice(&piece[..len]);
}
