//! What happens to a log on disk: flipped bits, torn ends, leftovers of earlier epochs.

use peerstore::frame::{LEN_MAX, OVERHEAD_BYTES};
use peerstore::{Epoch, Kind, Malformed, Reason, Record, Stop};

use crate::golden::crc32c;
use crate::samples::{Log, every_shape, read, sealed, value};

const EPOCH: Epoch = Epoch::new(3);

/// Every shape, and lengths that are a power of two: one flipped bit makes those zero.
fn small_log() -> (Vec<Record<'static>>, Log) {
    let mut records = every_shape(5);
    let fixed = value(0).payload_len() + 1;
    records.extend([64, 128, 256].map(|len| value(len - fixed)));
    let log = Log::new(EPOCH, &records);
    (records, log)
}

/// What may lie behind a log's end: nothing, zeros, or frames of the epoch before.
fn tails() -> [Vec<u8>; 3] {
    let stale = Log::new(Epoch::new(2), &every_shape(9));
    [Vec::new(), vec![0; 1024], stale.bytes]
}

/// A frame with a right checksum around anything.
fn forged(epoch: Epoch, kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(1 + payload.len()).expect("a short payload").to_le_bytes();
    let seed = u64::from(epoch.number()).to_le_bytes();
    let sum = crc32c(&[&seed, &len, &[kind], payload]).to_le_bytes();
    [&len[..], &[kind], payload, &sum].concat()
}

#[test]
fn a_whole_log_ends_well() {
    let (records, log) = small_log();
    for tail in tails() {
        let bytes = [&log.bytes[..], &tail].concat();
        let (found, stop) = read(&bytes, EPOCH);
        assert_eq!(found, records);
        assert_eq!(stop, Stop { offset: log.end(), reason: Reason::EndOfLog });
    }
    let stop = Stop { offset: 0, reason: Reason::EndOfLog };
    assert_eq!(read(&[], EPOCH), (Vec::new(), stop));
}

#[test]
fn every_flipped_bit_is_found_where_it_is() {
    let (records, log) = small_log();
    for tail in tails() {
        let mut bytes = [&log.bytes[..], &tail].concat();
        for bit in 0..log.bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let whole = log.whole_before(bit / 8);
            let (found, stop) = read(&bytes, EPOCH);
            assert_eq!(found, records[..whole], "bit {bit}");
            assert_eq!(stop.offset, log.starts[whole], "bit {bit}");
            assert_ne!(stop.reason, Reason::EndOfLog, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_log_cut_anywhere_keeps_what_is_whole() {
    let (records, log) = small_log();
    for cut in 0..=log.bytes.len() {
        let bytes = &log.bytes[..cut];
        let whole = log.whole_before(cut);
        let start = log.starts[whole];
        // One zero byte of a length that is a multiple of 256 is no different from an end.
        let ended = bytes[start..].iter().all(|byte| *byte == 0);
        let reason = if ended { Reason::EndOfLog } else { Reason::Torn };
        let (found, stop) = read(bytes, EPOCH);
        assert_eq!(found, records[..whole], "cut at {cut}");
        assert_eq!(stop, Stop { offset: start, reason }, "cut at {cut}");
    }
}

#[test]
fn a_frame_whose_rest_was_never_written_is_found() {
    let (records, log) = small_log();
    for cut in 0..log.end() {
        let mut bytes = log.bytes.clone();
        bytes[cut..].fill(0);
        let (found, stop) = read(&bytes, EPOCH);
        // Bytes that were zero anyway are not missed.
        let missed = (cut..log.end()).find(|at| log.bytes[*at] != 0).unwrap_or(log.end());
        let whole = log.whole_before(missed);
        assert_eq!(found, records[..whole], "zeros from {cut}");
        assert_eq!(stop.offset, log.starts[whole], "zeros from {cut}");
        let nothing = bytes[stop.offset..].iter().all(|byte| *byte == 0);
        assert_eq!(stop.reason == Reason::EndOfLog, nothing, "zeros from {cut}");
    }
}

#[test]
fn a_frame_of_another_epoch_never_passes() {
    let (records, log) = small_log();
    let epochs = [0, 1, 2, 4, 1 << 16, u32::MAX];
    for other in epochs.map(Epoch::new) {
        for (at, record) in records.iter().enumerate() {
            let stop = Stop { offset: 0, reason: Reason::BadChecksum };
            assert_eq!(read(&log.bytes[log.starts[at]..], other), (Vec::new(), stop));
            assert_eq!(read(&sealed(other, record), EPOCH), (Vec::new(), stop));
        }
    }
}

#[test]
fn a_frame_that_no_epoch_sealed_never_passes() {
    for record in small_log().0 {
        let mut bytes = sealed(EPOCH, &record);
        let sum_at = bytes.len() - 4;
        let sum = crc32c(&[&bytes[..sum_at]]);
        bytes[sum_at..].copy_from_slice(&sum.to_le_bytes());
        let stop = Stop { offset: 0, reason: Reason::BadChecksum };
        assert_eq!(read(&bytes, EPOCH), (Vec::new(), stop));
    }
}

#[test]
fn a_shorter_log_over_an_older_one_ends_where_it_ends() {
    let (records, old) = small_log();
    let epoch = EPOCH.next().unwrap();
    for count in 0..records.len() {
        let new = Log::new(epoch, &records[..count]);
        let mut bytes = old.bytes.clone();
        // Without an end mark: the old log's next frame lies exactly where a new one would.
        bytes[..new.end()].copy_from_slice(&new.bytes[..new.end()]);
        let (found, stop) = read(&bytes, epoch);
        assert_eq!(found, records[..count]);
        assert_eq!(stop, Stop { offset: new.end(), reason: Reason::BadChecksum });
    }
}

/// The checksum is linear, so epochs have checksums of their own if those of their bits are
/// linearly independent; and whatever follows keeps two different checksums apart.
#[test]
fn no_two_epochs_share_a_checksum() {
    let seed = |epoch: u32| crc32c(&[&u64::from(epoch).to_le_bytes()]);
    let mut basis: Vec<u32> = Vec::new();
    for bit in 0..32 {
        let image = seed(1 << bit) ^ seed(0);
        let reduced = basis.iter().fold(image, |image, known| image.min(image ^ known));
        assert_ne!(reduced, 0, "bit {bit} of an epoch is a sum of others");
        basis.push(reduced);
        basis.sort_unstable_by(|a, b| b.cmp(a));
    }
    assert_eq!(Epoch::new(u32::MAX).next(), None, "and there are no epochs beyond 32 bits");
}

#[test]
fn lengths_are_not_believed_before_they_are_checked() {
    let tail = [0xFF; 60];
    for (len, reason) in [
        (0, Reason::Torn),
        (1, Reason::BadChecksum),
        (57, Reason::Torn),
        (LEN_MAX, Reason::Torn),
        (LEN_MAX + 1, Reason::TooLong),
        (0x7FFF_FFFF, Reason::TooLong),
        (0xFFFF_FFFF, Reason::TooLong),
    ] {
        let len = u32::try_from(len).unwrap().to_le_bytes();
        let bytes = [&len[..], &tail].concat();
        assert_eq!(read(&bytes, EPOCH), (Vec::new(), Stop { offset: 0, reason }), "{len:?}");
    }
}

#[test]
fn what_is_whole_and_makes_no_sense_is_told_from_damage() {
    let good = sealed(EPOCH, &value(3));
    for byte in (0..=u8::MAX).filter(|byte| Kind::try_from(*byte).is_err()) {
        let bytes = [&good[..], &forged(EPOCH, byte, b"from the future")].concat();
        let (found, stop) = read(&bytes, EPOCH);
        assert_eq!(found, [value(3)]);
        assert_eq!(stop, Stop { offset: good.len(), reason: Reason::UnknownType(byte) });
    }
    for record in every_shape(VALUE_BYTES) {
        let kind = record.kind();
        let frame = sealed(EPOCH, &record);
        let payload = &frame[5..frame.len() - 4];
        let reason = |payload: &[u8]| {
            let bytes = forged(EPOCH, kind as u8, payload);
            read(&bytes, EPOCH).1.reason
        };
        let fixed = payload.len() - message_len(&record);
        assert_eq!(reason(&payload[..fixed - 1]), Reason::Malformed(kind, Malformed::Short));
        assert_eq!(reason(&[]), Reason::Malformed(kind, Malformed::Short));
        let longest = vec![0xC5; kind.payload_bytes_max() + 1 - payload.len()];
        let fault = match record {
            Record::Peer(_) | Record::Provider(_) => Malformed::AboveMaximum,
            // One byte more than a value's is one byte more than any frame's.
            Record::Value(_) => continue,
            Record::Binding(_)
            | Record::Score(_)
            | Record::Tombstone(_)
            | Record::Ban(_)
            | Record::PathFacts(_)
            | Record::Allocation(_)
            | Record::Seal(_) => Malformed::Trailing,
        };
        assert_eq!(reason(&[payload, &longest].concat()), Reason::Malformed(kind, fault));
    }
}

/// Bytes of the messages in the records above.
const VALUE_BYTES: usize = 6;

fn message_len(record: &Record<'_>) -> usize {
    match record.kind() {
        Kind::Peer | Kind::Value | Kind::Provider => VALUE_BYTES,
        Kind::Binding
        | Kind::Score
        | Kind::Tombstone
        | Kind::Ban
        | Kind::PathFacts
        | Kind::Allocation
        | Kind::Seal => 0,
    }
}

#[test]
fn reasons_have_names_of_their_own() {
    let malformed = Reason::Malformed(Kind::Peer, Malformed::Short);
    let reasons = [
        Reason::EndOfLog,
        Reason::Torn,
        Reason::BadChecksum,
        Reason::TooLong,
        Reason::UnknownType(9),
        malformed,
    ];
    let mut labels = reasons.map(Reason::label).to_vec();
    labels.extend(Malformed::ALL.map(Malformed::label));
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), reasons.len() + Malformed::ALL.len());
    assert_eq!(sealed(EPOCH, &value(0)).len(), OVERHEAD_BYTES + 48);
}
