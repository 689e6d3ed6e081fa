//! The ring against a queue, and between two threads.

use std::collections::VecDeque;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::record::{VALUE_BYTES_MAX, Value};
use crate::{Key, Message};

static MESSAGE: [u8; VALUE_BYTES_MAX] = [0xC5; VALUE_BYTES_MAX];

fn value(sequence: u64, len: usize) -> Record<'static> {
    let message = Message::new(&MESSAGE[..len]).expect("within its bound");
    Record::Value(Value { key: Key([7; 32]), sequence, expires_unix_s: 9, message })
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Push(Tag, usize),
    Mark(Tag),
    Pop(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let len = prop_oneof![0_usize..300, 0..=VALUE_BYTES_MAX];
    let record = prop_oneof![Just(Tag::Log), Just(Tag::Snapshot)];
    let mark = prop_oneof![Just(Tag::Begin), Just(Tag::Finish)];
    let act = prop_oneof![
        6 => (record, len).prop_map(|(tag, len)| Act::Push(tag, len)),
        1 => mark.prop_map(Act::Mark),
        4 => (1_usize..4).prop_map(Act::Pop),
    ];
    prop::collection::vec(act, 0..200)
}

/// An entry as it ought to come out: its tag, and what it holds if it is a record.
type Expected = (Tag, Option<(u64, usize)>);

fn assert_is(entry: Option<Entry<'_>>, expected: Option<Expected>) {
    let record = |kind, payload, expected: Option<(u64, usize)>| {
        let expected = expected.expect("a record");
        assert_eq!(Record::decode(kind, payload), Ok(value(expected.0, expected.1)));
    };
    match (entry, expected) {
        (None, None)
        | (Some(Entry::Begin), Some((Tag::Begin, None)))
        | (Some(Entry::Finish), Some((Tag::Finish, None))) => {}
        (Some(Entry::Log(kind, payload)), Some((Tag::Log, expected)))
        | (Some(Entry::Snapshot(kind, payload)), Some((Tag::Snapshot, expected))) => {
            record(kind, payload, expected);
        }
        (entry, expected) => panic!("{entry:?} instead of {expected:?}"),
    }
}

fn bytes_of(expected: &Expected) -> usize {
    HEAD_BYTES + expected.1.map_or(0, |(sequence, len)| value(sequence, len).payload_len())
}

proptest! {
    #[test]
    fn it_is_a_bounded_queue(acts in acts()) {
        let (mut input, mut output) = new(0);
        let mut model = VecDeque::<Expected>::new();
        for (sequence, act) in (0..).zip(acts) {
            let used: usize = model.iter().map(bytes_of).sum();
            prop_assert_eq!(input.used(), used);
            prop_assert_eq!(input.room(), (RING_BYTES_MIN - used).saturating_sub(HEAD_BYTES));
            prop_assert_eq!(input.is_crowded(), 2 * used >= RING_BYTES_MIN);
            prop_assert_eq!(output.is_crowded(), input.is_crowded());
            prop_assert_eq!(output.is_empty(), model.is_empty());
            let put = |expected: Expected, done: bool, model: &mut VecDeque<Expected>| {
                assert_eq!(done, used + bytes_of(&expected) <= RING_BYTES_MIN);
                if done {
                    model.push_back(expected);
                }
            };
            match act {
                Act::Push(tag, len) => {
                    let room = input.room();
                    let done = input.push(tag, &value(sequence, len));
                    assert_eq!(done, value(sequence, len).payload_len() <= room);
                    put((tag, Some((sequence, len))), done, &mut model);
                }
                Act::Mark(tag) => put((tag, None), input.push_mark(tag), &mut model),
                Act::Pop(count) => {
                    for _ in 0..count {
                        assert_is(output.pop(), model.pop_front());
                    }
                }
            }
        }
        while let Some(expected) = model.pop_front() {
            assert_is(output.pop(), Some(expected));
        }
        assert_is(output.pop(), None);
    }
}

#[test]
fn entries_pass_between_threads_whole_and_in_order() {
    const ENTRIES: u64 = 60_000;
    let len_of = |sequence: u64| usize::try_from(sequence * 7919 % 900).expect("below 900");
    let (mut input, mut output) = new(0);
    let sender = thread::spawn(move || {
        for sequence in 0..ENTRIES {
            while !input.push(Tag::Log, &value(sequence, len_of(sequence))) {
                thread::yield_now();
            }
        }
    });
    for sequence in 0..ENTRIES {
        loop {
            match output.pop() {
                None => thread::yield_now(),
                entry => {
                    assert_is(entry, Some((Tag::Log, Some((sequence, len_of(sequence))))));
                    break;
                }
            }
        }
    }
    sender.join().expect("the sender");
    assert!(output.is_empty());
}

#[test]
#[should_panic(expected = "only a store says that a snapshot ends")]
fn a_seal_is_nobodys_to_put_in() {
    let seal = Record::Seal(crate::record::Seal { records: 0, bytes: 0 });
    let _ = new(0).0.push(Tag::Log, &seal);
}
