//! The bookkeeping of one stream: which chunks came, and which may still come.
//!
//! Both sides of a conversation keep one stream for each request and drop it after
//! [`STREAM_LIFE`]: the router for requests, the client for answers. A request that is retried
//! may come as a stream of its own; the later stream then replaces the earlier, once: chunks of
//! the replaced one, and of any third, are ignored. So nobody holds more than [`CHUNKS_MAX`]
//! chunks for one request, whatever the other side sends.
//!
//! It holds no bytes: the step it returns says what to do with those of the chunk.

use std::time::Duration;

use crate::limits::CHUNKS_MAX;
use crate::time::Moment;

/// How long a stream may take from its first chunk to its last.
pub const STREAM_LIFE: Duration = Duration::from_secs(5);

const _: () = assert!(CHUNKS_MAX <= u16::BITS as usize, "a bit for each chunk");

/// Where a chunk belongs, as its frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Stream id of the header; 0 for a message that is not chunked.
    pub stream: u32,
    /// Flag `more_chunks` of the header.
    pub more: bool,
    /// `chunk_index` of the body.
    pub index: u32,
    /// `total_chunks` of the body; 0 for a message that is not chunked.
    pub total: u32,
}

impl Place {
    /// Index and total, if the place does not contradict itself.
    fn check(&self) -> Option<(usize, usize)> {
        let index = usize::try_from(self.index).ok()?;
        let total = usize::try_from(self.total).ok()?;
        let last = index.checked_add(1)? == total;
        let fits = self.stream != 0 && total <= CHUNKS_MAX && index < total;
        (fits && self.more != last).then_some((index, total))
    }
}

/// What to do with a chunk.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Keep it as number so and so.
    Keep(usize),
    /// Forget the chunks before it, which were of a stream that it replaces, and keep it.
    Restart(usize),
    /// Seen before, too late, or of a stream that was given up.
    Ignore,
    /// It contradicts the chunks before.
    Malformed,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    id: u32,
    total: usize,
    /// A bit for each chunk that came.
    came: u16,
    started: Moment,
    /// The stream that was replaced.
    replaced: Option<u32>,
}

impl Stream {
    /// The stream that a chunk begins, before that is [taken](Self::take); `None` if its place
    /// contradicts itself.
    pub fn begin(now: Moment, place: &Place) -> Option<Self> {
        let (_, total) = place.check()?;
        Some(Self { id: place.stream, total, came: 0, started: now, replaced: None })
    }

    /// Takes the place of a chunk.
    pub fn take(&mut self, now: Moment, place: &Place) -> Step {
        let Some((index, total)) = place.check() else { return Step::Malformed };
        if place.stream != self.id {
            if self.replaced.is_some() {
                return Step::Ignore;
            }
            let replaced = Some(self.id);
            let (id, came) = (place.stream, 1 << index);
            *self = Self { id, total, came, started: now, replaced };
            return Step::Restart(index);
        }
        if now >= self.ends() {
            return Step::Ignore;
        }
        if total != self.total {
            return Step::Malformed;
        }
        if self.came >> index & 1 == 1 {
            return Step::Ignore;
        }
        self.came |= 1 << index;
        Step::Keep(index)
    }

    /// Chunks of the whole.
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Whether all of them came.
    pub const fn is_complete(&self) -> bool {
        self.came.count_ones() as usize == self.total
    }

    /// When it is dropped.
    pub fn ends(&self) -> Moment {
        self.started + STREAM_LIFE
    }
}
