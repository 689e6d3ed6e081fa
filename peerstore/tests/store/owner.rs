//! Who owns a store: what it has in memory, and the records that say so.

use std::sync::LazyLock;

use peerstore::frame::{self, FRAME_BYTES_MAX, OVERHEAD_BYTES};
use peerstore::record::{Subject, Tombstone, VALUE_BYTES_MAX, Value};
use peerstore::storage::Storage;
use peerstore::{Epoch, Fault, Key, Kind, Message, Record, Store};

/// How many keys there are; few, so that most changes replace something.
pub(crate) const KEYS: usize = 10;

/// A generator of numbers, the same for the same seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What a key has: the number of the change that gave it, and the length of its message.
pub(crate) type Kept = Option<(u64, usize)>;

/// What an owner knows.
pub(crate) type Memory = [Kept; KEYS];

/// A change: a value, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: usize,
    pub(crate) number: u64,
    pub(crate) len: Option<usize>,
}

impl Change {
    pub(crate) fn kept(self) -> Kept {
        self.len.map(|len| (self.number, len))
    }

    pub(crate) fn apply(self, memory: &mut Memory) {
        memory[self.key] = self.kept();
    }

    /// The record that says so. Its message depends on the number, so that no two are the same.
    pub(crate) fn record(self) -> Record<'static> {
        let key = key(self.key);
        let sequence = self.number;
        match self.len {
            Some(len) => Record::Value(Value {
                key,
                sequence,
                expires_unix_s: !sequence,
                message: Message::new(text(self.number, len)).expect("within its bound"),
            }),
            None => Record::Tombstone(Tombstone {
                expires_unix_s: 0,
                subject: Subject::Value { key, sequence },
            }),
        }
    }

    /// The change that a record is, if it is one of these to the last bit.
    pub(crate) fn of(record: &Record<'_>) -> Option<Self> {
        let (key, number, len) = match record {
            Record::Value(value) => (value.key, value.sequence, Some(value.message.bytes().len())),
            Record::Tombstone(Tombstone { subject: Subject::Value { key, sequence }, .. }) => {
                (*key, *sequence, None)
            }
            Record::Binding(_)
            | Record::Peer(_)
            | Record::Score(_)
            | Record::Provider(_)
            | Record::Tombstone(_)
            | Record::Ban(_)
            | Record::PathFacts(_)
            | Record::Allocation(_)
            | Record::Seal(_) => return None,
        };
        let change = Self { key: usize::from(key.0[0]), number, len };
        (change.key < KEYS && change.record() == *record).then_some(change)
    }
}

fn key(number: usize) -> Key {
    let mut key = [0xB1; 32];
    key[0] = u8::try_from(number).expect("there are few keys");
    Key(key)
}

fn text(number: u64, len: usize) -> &'static [u8] {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut draw = Draw(1);
        (0..2 * VALUE_BYTES_MAX).map(|_| draw.next().to_le_bytes()[0]).collect()
    });
    let at = usize::try_from(number % 4093).expect("small");
    &TEXT[at..at + len]
}

/// A record as a store takes it.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new() -> Self {
        Self(vec![0; FRAME_BYTES_MAX])
    }

    pub(crate) fn encode(&mut self, record: &Record<'_>) -> (Kind, &[u8]) {
        let len = frame::encode(&mut self.0, Epoch::new(0), record).expect("room for any");
        (record.kind(), &self.0[5..5 + len - OVERHEAD_BYTES])
    }
}

/// One frame, alone.
pub(crate) fn sealed(epoch: u32, record: &Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame::frame_len(record)];
    frame::encode(&mut bytes, Epoch::new(epoch), record).expect("it has the room it asked for");
    bytes
}

/// Stages a record.
pub(crate) fn append<S: Storage>(store: &mut Store<S>, record: &Record<'_>) {
    let mut encoder = Encoder::new();
    let (kind, payload) = encoder.encode(record);
    store.append(kind, payload);
}

/// A whole snapshot of what an owner knows.
pub(crate) fn snapshot<S: Storage>(store: &mut Store<S>, memory: &Memory) -> Result<(), Fault> {
    let mut encoder = Encoder::new();
    store.begin_snapshot(11)?;
    for (key, kept) in memory.iter().enumerate() {
        if let Some((number, len)) = kept {
            let change = Change { key, number: *number, len: Some(*len) };
            let (kind, payload) = encoder.encode(&change.record());
            store.snapshot(kind, payload)?;
        }
    }
    store.finish_snapshot()
}

/// CRC-32C (Castagnoli), a bit at a time.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut register = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !register
}
