//! Puts the chunks of one answer together, by the rules that a router puts requests together by
//! ([`Stream`]); only that the bodies of an answer stay apart, and that the client may allocate.

use crate::overlay::reassembly::{Step, Stream};
use crate::time::Moment;

pub use crate::overlay::reassembly::Place;

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
    /// Of each chunk, once it came.
    bodies: Vec<Option<Vec<u8>>>,
}

impl Assembly {
    /// Takes one frame of the answer.
    pub fn insert(&mut self, now: Moment, place: Place, body: &[u8]) -> Chunk {
        if place.stream == 0 {
            return whole(place, body);
        }
        let Some(begun) = self.stream.or_else(|| Stream::begin(now, &place)) else {
            return Chunk::Malformed;
        };
        let stream = self.stream.insert(begun);
        let index = match stream.take(now, &place) {
            Step::Keep(index) => index,
            Step::Restart(index) => {
                self.bodies.clear();
                index
            }
            Step::Ignore => return Chunk::Ignored,
            Step::Malformed => return Chunk::Malformed,
        };
        self.bodies.resize(stream.total(), None);
        self.bodies[index] = Some(body.to_vec());
        if !stream.is_complete() {
            return Chunk::Kept;
        }
        Chunk::Complete(std::mem::take(&mut self.bodies).into_iter().flatten().collect())
    }
}

/// An answer in one frame.
fn whole(place: Place, body: &[u8]) -> Chunk {
    if place.more || place.index != 0 || place.total > 1 {
        return Chunk::Malformed;
    }
    Chunk::Complete(vec![body.to_vec()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNKS_MAX;
    use crate::overlay::reassembly::STREAM_LIFE;
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
        assert_eq!(assembly.insert(NOW, chunk(7, 0, 2), b"a"), Chunk::Ignored);
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
                prop_assert!(assembly.bodies.len() <= CHUNKS_MAX);
            }
        }
    }
}
