//! Requests in slices: orders, repeats, contradictions, shares, and a model of many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;

fn ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

type Memory = Reassembly<u8, u64>;

fn memory(streams_max: usize, per_session: usize, bytes_max: usize) -> Memory {
    Reassembly::new(Config { streams_max, per_session, bytes_max }, Keyed::new([1, 2]))
}

fn place(stream: u32, index: u32, total: u32) -> Place {
    Place { stream, more: index + 1 < total, index, total }
}

fn slice(place: Place, bytes: &[u8]) -> Slice<'_, u64> {
    Slice { place, bytes, rider: Some(place.index.into()) }
}

#[test]
fn slices_give_the_whole_with_what_rode_on_the_first() {
    let mut memory = memory(4, 2, 100);
    let mut insert =
        |index, bytes: &[u8]| match memory.insert(ms(0), 1, 7, &slice(place(9, index, 3), bytes)) {
            Taken::Whole { bytes, rider } => Some((bytes.to_vec(), rider)),
            Taken::Kept => None,
            Taken::Ignored | Taken::Refused(_) => panic!("a slice was refused"),
        };
    assert_eq!(insert(2, b"c"), None);
    assert_eq!(insert(0, b"aaa"), None);
    assert_eq!(insert(1, b""), Some((b"aaac".to_vec(), Some(0))));
    assert!(memory.is_empty() && memory.next_deadline() == Moment::NEVER);
    let alone = memory.insert(ms(0), 1, 7, &slice(place(9, 0, 1), b"alone"));
    assert_eq!(alone, Taken::Whole { bytes: b"alone", rider: Some(0) });
}

#[test]
fn contradictions_end_the_stream() {
    let mut memory = memory(4, 2, 10);
    let malformed = Taken::Refused(Why::Malformed);
    assert_eq!(memory.insert(ms(0), 1, 7, &slice(place(0, 0, 2), b"a")), malformed);
    let wrong = Place { more: true, ..place(9, 1, 2) };
    assert_eq!(memory.insert(ms(0), 1, 7, &slice(wrong, b"a")), malformed);
    for (wrong, bytes, why) in [
        (place(9, 1, 3), &b"b"[..], Why::Malformed),
        (place(9, 1, 17), b"b", Why::Malformed),
        (wrong, b"b", Why::Malformed),
        (place(9, 1, 2), b"12345678", Why::TooLarge),
    ] {
        assert_eq!(memory.insert(ms(0), 1, 7, &slice(place(9, 0, 2), b"abc")), Taken::Kept);
        assert_eq!(memory.insert(ms(0), 1, 7, &slice(place(9, 0, 2), b"x")), Taken::Ignored);
        assert_eq!(memory.insert(ms(0), 1, 7, &slice(wrong, bytes)), Taken::Refused(why));
        assert_eq!(memory.len(), 0);
    }
}

#[test]
fn a_retry_in_a_stream_of_its_own_replaces_the_first_once() {
    let mut memory = memory(4, 1, 10);
    let mut insert = |now, stream, index, bytes: &[u8]| match memory.insert(
        ms(now),
        1,
        7,
        &slice(place(stream, index, 2), bytes),
    ) {
        Taken::Whole { bytes, .. } => Some(bytes.to_vec()),
        Taken::Kept => Some(vec![]),
        Taken::Ignored => None,
        Taken::Refused(why) => panic!("{why:?}"),
    };
    assert_eq!(insert(0, 1, 0, b"lost half"), Some(vec![]));
    assert_eq!(insert(900, 2, 1, b"second"), Some(vec![]));
    assert_eq!(insert(900, 1, 1, b"late"), None);
    assert_eq!(insert(900, 3, 0, b"third"), None);
    // Its time began anew, and so did its memory.
    assert_eq!(insert(5_100, 2, 0, b"1st "), Some(b"1st second".to_vec()));
}

#[test]
fn a_stream_ends_after_its_time() {
    let mut memory = memory(40, 40, 10);
    for correlation in 0..40 {
        let half = slice(place(9, 0, 2), b"half");
        assert_eq!(memory.insert(ms(0), 1, correlation, &half), Taken::Kept);
    }
    assert_eq!((memory.next_deadline(), memory.poll(ms(4_999))), (ms(5_000), 0));
    // What was not swept yet is over as well: the slice begins a stream of its own.
    let late = slice(place(9, 1, 2), b"late");
    assert_eq!(memory.insert(ms(5_000), 1, 39, &late), Taken::Kept);
    assert_eq!(memory.len(), 40 - SWEEP_MAX);
    assert_eq!(
        (memory.poll(ms(5_000)), memory.poll(ms(5_000))),
        (SWEEP_MAX, 40 - 1 - 2 * SWEEP_MAX)
    );
    assert_eq!((memory.len(), memory.next_deadline()), (1, ms(10_000)));
}

#[test]
fn a_session_has_its_share_and_the_oldest_of_all_goes() {
    let mut memory = memory(4, 2, 10);
    let mut begin = |now, session, correlation| {
        memory.insert(ms(now), session, correlation, &slice(place(9, 0, 2), b"half")) == Taken::Kept
    };
    assert!(begin(0, 1, 1) && begin(1, 1, 2));
    assert!(!begin(2, 1, 3), "that session has its share");
    assert!(begin(2, 2, 1) && begin(3, 3, 1) && begin(4, 4, 1));
    assert!(begin(5, 1, 3), "its oldest made room for 4, and its next for this one");
    for (session, correlation) in [(1, 1), (1, 2)] {
        assert_eq!(memory.streams.find(&(session, correlation)), None);
    }
    let last = slice(place(9, 1, 2), b"rest");
    for (session, correlation) in [(2, 1), (3, 1), (4, 1), (1, 3)] {
        let taken = memory.insert(ms(6), session, correlation, &last);
        assert_eq!(taken, Taken::Whole { bytes: b"halfrest", rider: Some(0) });
    }
}

proptest! {
    #[test]
    fn any_order_with_repeats_gives_the_whole(
        total in 1..=16_u32,
        repeats in vec(any::<Index>(), 0..40),
        order in Just((0..16_u32).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut memory = memory(1, 1, 16 * 3);
        let bytes = |index: u32| vec![index.to_le_bytes()[0]; index as usize % 4];
        let whole: Vec<u8> = (0..total).flat_map(bytes).collect();
        let wanted: Vec<u32> = order.into_iter().filter(|index| *index < total).collect();
        let mut arrivals = wanted.clone();
        for repeat in repeats {
            // Behind its first time, before the last slice of all.
            let index = wanted[repeat.index(wanted.len())];
            let first = arrivals.iter().position(|at| *at == index).unwrap();
            if first + 1 < arrivals.len() {
                arrivals.insert(first + 1, index);
            }
        }
        let (last, before) = arrivals.split_last().unwrap();
        for index in before {
            let taken = memory.insert(ms(0), 1, 1, &slice(place(5, *index, total), &bytes(*index)));
            prop_assert!(matches!(taken, Taken::Kept | Taken::Ignored), "{taken:?}");
        }
        let taken = memory.insert(ms(1), 1, 1, &slice(place(5, *last, total), &bytes(*last)));
        prop_assert_eq!(taken, Taken::Whole { bytes: &whole, rider: Some(0) });
    }

    #[test]
    fn many_requests_at_once_are_kept_apart(
        arrivals in vec((0..3_u8, 0..3_u32, 0..3_u32, 0..900_u64), 0..300),
        sizes in subsequence(vec![1, 2, 3, 5], 3),
    ) {
        // Every request is of three slices of sizes that differ; a model keeps them in a map.
        let mut memory = memory(9, 3, 10);
        type Slices = BTreeMap<u32, Vec<u8>>;
        let mut model: BTreeMap<(u8, u32), (Moment, Slices)> = BTreeMap::new();
        let mut now = ms(0);
        for (count, (session, correlation, index, wait)) in (0..=255_u8).cycle().zip(arrivals) {
            now = now + Duration::from_millis(wait);
            model.retain(|_, (started, _)| now.since(*started) < STREAM_LIFE);
            let bytes: Vec<u8> = vec![count; sizes[index as usize]];
            let (_, slices) = model.entry((session, correlation)).or_insert((now, BTreeMap::new()));
            let known = slices.contains_key(&index);
            slices.entry(index).or_insert(bytes.clone());
            let whole = (slices.len() == 3).then(|| slices.values().flatten().copied().collect::<Vec<_>>());
            let taken = memory.insert(now, session, correlation, &slice(place(9, index, 3), &bytes));
            match &whole {
                Some(bytes) => prop_assert_eq!(taken, Taken::Whole { bytes, rider: Some(0) }),
                None if known => prop_assert_eq!(taken, Taken::Ignored),
                None => prop_assert_eq!(taken, Taken::Kept),
            }
            if whole.is_some() {
                model.remove(&(session, correlation));
            }
            prop_assert_eq!(memory.len(), model.len());
            let next = model.values().map(|(started, _)| *started + STREAM_LIFE).min();
            prop_assert_eq!(memory.next_deadline(), next.unwrap_or(Moment::NEVER));
        }
    }

    #[test]
    fn hostile_slices_hold_no_more_than_their_share(
        slices in vec((0..3_u8, 0..4_u32, (0..4_u32, any::<bool>(), 0..20_u32, 0..20_u32), 0..40_usize), 0..300),
    ) {
        let mut memory = memory(4, 2, 64);
        for (session, correlation, (stream, more, index, total), len) in slices {
            let place = Place { stream, more, index, total };
            let slice = Slice { place, bytes: &[0; 40][..len], rider: None };
            if let Taken::Whole { bytes, .. } = memory.insert(ms(0), session, correlation, &slice) {
                prop_assert!(bytes.len() <= 64);
            }
            prop_assert!(memory.len() <= 4);
            for session in 0..3 {
                let streams = (0..4).filter(|c| memory.streams.find(&(session, *c)).is_some()).count();
                let counted = memory.sessions.find(&session).map_or(0, |at| memory.sessions[at]);
                prop_assert!(streams == counted && counted <= 2);
            }
        }
    }
}
