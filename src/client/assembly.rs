//! Puts the chunks of one answer together.
//!
//! A receiver keeps one stream per request and drops it after [`STREAM_LIFE`]. A
//! retried request may be answered twice, each time as a stream of its own; the
//! later stream then replaces the earlier, once: chunks of the replaced one, and
//! of any third, are ignored. So one request never holds more than
//! [`CHUNKS_MAX`] frames, whatever the other side sends.

use std::time::Duration;

use crate::limits::CHUNKS_MAX;
use crate::time::Moment;

/// How long a stream may take from its first chunk to its last.
pub const STREAM_LIFE: Duration = Duration::from_secs(5);

/// Where a chunk belongs, as its frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Stream id of the header; 0 for an answer that is not chunked.
    pub stream: u32,
    /// Flag `more_chunks` of the header.
    pub more: bool,
    /// `chunk_index` of the body.
    pub index: u32,
    /// `total_chunks` of the body; 0 for an answer that is not chunked.
    pub total: u32,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The answer is complete: its bodies in order.
    Complete(Vec<Vec<u8>>),
    /// More is to come.
    Kept,
    /// Seen before, or of a stream that was given up.
    Ignored,
    /// Its place contradicts itself or the chunks before.
    Malformed,
}

/// The chunks of one answer.
#[derive(Debug, Default)]
pub struct Assembly {
    stream: Option<Stream>,
    /// The stream that was replaced.
    replaced: Option<u32>,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    started: Moment,
    bodies: Vec<Option<Vec<u8>>>,
}

impl Assembly {
    /// Takes one frame of the answer.
    pub fn insert(&mut self, now: Moment, place: Place, body: &[u8]) -> Chunk {
        if place.stream == 0 {
            return whole(place, body);
        }
        let Some((index, total)) = check(place) else { return Chunk::Malformed };
        if !self.select(now, place.stream, total) {
            return Chunk::Ignored;
        }
        let Some(stream) = &mut self.stream else { return Chunk::Ignored };
        if stream.bodies.len() != total {
            return Chunk::Malformed;
        }
        let slot = &mut stream.bodies[index];
        if slot.is_some() {
            return Chunk::Ignored;
        }
        *slot = Some(body.to_vec());
        if stream.bodies.iter().any(Option::is_none) {
            return Chunk::Kept;
        }
        let bodies = std::mem::take(&mut stream.bodies);
        Chunk::Complete(bodies.into_iter().flatten().collect())
    }

    /// Makes `id` the stream that is put together, if it may be.
    fn select(&mut self, now: Moment, id: u32, total: usize) -> bool {
        if let Some(current) = &self.stream {
            if current.id == id {
                return now.since(current.started) < STREAM_LIFE;
            }
            if self.replaced.is_some() {
                return false;
            }
            self.replaced = Some(current.id);
        }
        self.stream = Some(Stream { id, started: now, bodies: vec![None; total] });
        true
    }
}

/// An answer in one frame.
fn whole(place: Place, body: &[u8]) -> Chunk {
    if place.more || place.index != 0 || place.total > 1 {
        return Chunk::Malformed;
    }
    Chunk::Complete(vec![body.to_vec()])
}

/// Index and total of a chunk whose place makes sense.
fn check(place: Place) -> Option<(usize, usize)> {
    let index = usize::try_from(place.index).ok()?;
    let total = usize::try_from(place.total).ok()?;
    let last = index.checked_add(1)? == total;
    (total <= CHUNKS_MAX && index < total && place.more != last).then_some((index, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment::START;

    fn chunk(stream: u32, index: u32, total: u32) -> Place {
        Place { stream, more: index + 1 < total, index, total }
    }

    fn complete(bodies: &[&[u8]]) -> Chunk {
        Chunk::Complete(bodies.iter().map(|body| body.to_vec()).collect())
    }

    #[test]
    fn an_answer_of_one_frame_is_complete() {
        let place = Place { stream: 0, more: false, index: 0, total: 0 };
        assert_eq!(Assembly::default().insert(NOW, place, b"x"), complete(&[b"x"]));
        let one = Place { total: 1, ..place };
        assert_eq!(Assembly::default().insert(NOW, one, b"x"), complete(&[b"x"]));
        for place in [
            Place { more: true, ..place },
            Place { index: 1, ..place },
            Place { total: 2, ..place },
        ] {
            assert_eq!(Assembly::default().insert(NOW, place, b"x"), Chunk::Malformed);
        }
    }

    #[test]
    fn duplicates_count_once() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.insert(NOW, chunk(7, 1, 2), b"b"), Chunk::Kept);
        assert_eq!(assembly.insert(NOW, chunk(7, 1, 2), b"other"), Chunk::Ignored);
        assert_eq!(assembly.insert(NOW, chunk(7, 0, 2), b"a"), complete(&[b"a", b"b"]));
        assert_eq!(assembly.insert(NOW, chunk(7, 0, 2), b"a"), Chunk::Malformed);
    }

    #[test]
    fn the_answer_to_a_retry_replaces_the_first_once() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.insert(NOW, chunk(1, 0, 2), b"lost half"), Chunk::Kept);
        assert_eq!(assembly.insert(NOW, chunk(2, 0, 2), b"a"), Chunk::Kept);
        assert_eq!(assembly.insert(NOW, chunk(1, 1, 2), b"late"), Chunk::Ignored);
        assert_eq!(assembly.insert(NOW, chunk(3, 0, 2), b"hostile"), Chunk::Ignored);
        assert_eq!(assembly.insert(NOW, chunk(2, 1, 2), b"b"), complete(&[b"a", b"b"]));
    }

    #[test]
    fn contradictions_are_malformed() {
        for place in [
            Place { stream: 1, more: true, index: 0, total: 0 },
            Place { stream: 1, more: true, index: 1, total: 2 },
            Place { stream: 1, more: false, index: 0, total: 2 },
            Place { stream: 1, more: true, index: 2, total: 2 },
            Place { stream: 1, more: true, index: 0, total: 17 },
            Place { stream: 1, more: true, index: u32::MAX, total: u32::MAX },
        ] {
            assert_eq!(Assembly::default().insert(NOW, place, b""), Chunk::Malformed, "{place:?}");
        }
        let mut assembly = Assembly::default();
        assembly.insert(NOW, chunk(1, 0, 2), b"");
        assert_eq!(assembly.insert(NOW, chunk(1, 1, 3), b""), Chunk::Malformed);
    }

    #[test]
    fn a_stream_lives_five_seconds() {
        let mut assembly = Assembly::default();
        assembly.insert(NOW, chunk(1, 0, 2), b"a");
        assert_eq!(assembly.insert(NOW + STREAM_LIFE, chunk(1, 1, 2), b"b"), Chunk::Ignored);
    }

    proptest! {
        #[test]
        fn any_order_with_duplicates_gives_the_answer(
            total in 1u32..=16, order in proptest::collection::vec(any::<prop::sample::Index>(), 0..64),
        ) {
            let mut assembly = Assembly::default();
            let mut wanted: Vec<u32> = (0..total).collect();
            let mut arrivals: Vec<u32> =
                order.iter().map(|at| wanted[at.index(wanted.len())]).collect();
            arrivals.append(&mut wanted);
            let mut complete = None;
            for index in arrivals {
                let body = index.to_be_bytes();
                match assembly.insert(NOW, chunk(9, index, total), &body) {
                    Chunk::Complete(bodies) => { complete = Some(bodies); break; }
                    Chunk::Kept | Chunk::Ignored => {}
                    Chunk::Malformed => prop_assert!(false, "a consistent chunk was refused"),
                }
            }
            let expected: Vec<Vec<u8>> = (0..total).map(|i| i.to_be_bytes().to_vec()).collect();
            prop_assert_eq!(complete, Some(expected));
        }

        #[test]
        fn hostile_chunks_hold_no_more_than_one_stream(
            places in proptest::collection::vec((0u32..4, any::<bool>(), 0u32..20, 0u32..20), 0..200),
        ) {
            let mut assembly = Assembly::default();
            for (stream, more, index, total) in places {
                assembly.insert(NOW, Place { stream, more, index, total }, &[0; 1200]);
                let held = assembly.stream.as_ref().map_or(0, |stream| stream.bodies.len());
                prop_assert!(held <= CHUNKS_MAX);
            }
        }
    }
}
