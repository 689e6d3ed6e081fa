//! What holds for any record, any log and any bytes.

use peerstore::frame::{self, END};
use peerstore::record::VALUE_BYTES_MAX;
use peerstore::{Epoch, Frames, Kind, NoRoom, Reason, Record, Stop};
use proptest::prelude::*;

use crate::golden::crc32c;
use crate::samples::{Drawn, Log, drawn, read, sealed};

fn records(drawn: &[Drawn]) -> Vec<Record<'_>> {
    drawn.iter().map(Drawn::record).collect()
}

proptest! {
    #[test]
    fn records_come_back(
        drawn in prop::collection::vec(drawn(600), 0..12),
        epoch: u32,
        tail in 0_usize..64,
    ) {
        let (records, epoch) = (records(&drawn), Epoch::new(epoch));
        let log = Log::new(epoch, &records);
        let bytes = [&log.bytes[..], &vec![0; tail]].concat();
        let (found, stop) = read(&bytes, epoch);
        prop_assert_eq!(found, records);
        prop_assert_eq!(stop, Stop { offset: log.end(), reason: Reason::EndOfLog });
    }

    #[test]
    fn long_records_come_back(drawn in drawn(VALUE_BYTES_MAX), epoch: u32) {
        let bytes = sealed(Epoch::new(epoch), &drawn.record());
        prop_assert_eq!(read(&bytes, Epoch::new(epoch)).0, [drawn.record()]);
    }

    #[test]
    fn a_buffer_too_small_is_refused(drawn in drawn(64), short: prop::sample::Index) {
        let record = drawn.record();
        let mut room = vec![0; short.index(frame::frame_len(&record))];
        prop_assert_eq!(frame::encode(&mut room, Epoch::new(1), &record), Err(NoRoom));
    }

    #[test]
    fn nothing_is_written_behind_a_frame(drawn in drawn(64), behind in 0_usize..32) {
        let record = drawn.record();
        let len = frame::frame_len(&record);
        let mut room = vec![0xEE; len + behind];
        prop_assert_eq!(frame::encode(&mut room, Epoch::new(1), &record), Ok(len));
        prop_assert!(room[len..].iter().all(|byte| *byte == 0xEE));
    }

    /// Changes of any width, not only of one bit: no record that was not written.
    #[test]
    fn damage_ends_the_log_no_later_than_where_it_is(
        drawn in prop::collection::vec(drawn(100), 1..6),
        hits in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..8),
        epoch: u32,
    ) {
        let (records, epoch) = (records(&drawn), Epoch::new(epoch));
        let log = Log::new(epoch, &records);
        let mut bytes = log.bytes.clone();
        for (at, change) in &hits {
            bytes[at.index(log.bytes.len())] ^= change;
        }
        // Two hits in one place may undo each other.
        let changed = bytes.iter().zip(&log.bytes).position(|(now, then)| now != then);
        let whole = changed.map_or(records.len(), |at| log.whole_before(at));
        let (found, stop) = read(&bytes, epoch);
        prop_assert_eq!(&found, &records[..whole]);
        prop_assert_eq!(stop.offset, log.starts[whole]);
        prop_assert_eq!(stop.reason == Reason::EndOfLog, changed.is_none());
    }

    #[test]
    fn other_epochs_see_no_record(drawn in drawn(100), written: u32, read_as: u32) {
        prop_assume!(written != read_as);
        let bytes = sealed(Epoch::new(written), &drawn.record());
        let stop = Stop { offset: 0, reason: Reason::BadChecksum };
        prop_assert_eq!(read(&bytes, Epoch::new(read_as)), (Vec::new(), stop));
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2048),
        epoch: u32,
    ) {
        let (found, _) = read(&bytes, Epoch::new(epoch));
        prop_assert_eq!(found, Vec::new());
    }

    /// Random bytes with a small length in front: past the checks of the length.
    #[test]
    fn random_bytes_of_a_likely_length_never_panic(
        len in 0_u32..80,
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = [&len.to_le_bytes()[..], &bytes].concat();
        prop_assert_eq!(read(&bytes, Epoch::new(1)).0, Vec::new());
    }

    /// Payloads of any content: what decodes is written in no other way.
    #[test]
    fn decoding_accepts_one_encoding_only(
        kind in prop::sample::select(&Kind::ALL[..]),
        noise in prop::collection::vec(any::<u8>(), 0..700),
        cut in 0_usize..160,
        small: bool,
    ) {
        // Choices are small numbers, which noise seldom holds; and most kinds are short.
        let mut payload = noise;
        if small {
            payload.iter_mut().for_each(|byte| *byte %= 5);
            payload.truncate(cut);
        }
        if let Ok(record) = Record::decode(kind, &payload) {
            prop_assert_eq!(record.kind(), kind);
            let frame = sealed(Epoch::new(1), &record);
            prop_assert_eq!(&frame[5..frame.len() - 4], &payload[..]);
        }
    }

    /// The same behind a right checksum, from a mutated record: as good as written by another.
    #[test]
    fn sealed_nonsense_is_refused_or_means_itself(
        drawn in drawn(40),
        at: prop::sample::Index,
        byte: u8,
        kind in 0_u8..11,
    ) {
        let mut frame = sealed(Epoch::new(7), &drawn.record());
        let sum_at = frame.len() - 4;
        frame[4] = kind;
        frame[5 + at.index(sum_at - 5)] = byte;
        let sum = crc32c(&[&7_u64.to_le_bytes(), &frame[..sum_at]]);
        frame[sum_at..].copy_from_slice(&sum.to_le_bytes());
        let bytes = [&frame[..], &END].concat();
        let mut frames = Frames::new(&bytes, Epoch::new(7));
        match frames.next() {
            Some(found) => prop_assert_eq!(sealed(Epoch::new(7), &found.record), frame),
            None => {
                let reason = frames.stop().unwrap().reason;
                prop_assert!(matches!(reason, Reason::UnknownType(_) | Reason::Malformed(..)));
            }
        }
    }
}
