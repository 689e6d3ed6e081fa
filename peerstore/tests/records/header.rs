//! The first bytes of a file.

use peerstore::header::{FORMAT_VERSION, HEADER_BYTES};
use peerstore::{Epoch, FileHeader, FileKind, HeaderError, Shard};
use proptest::prelude::*;

use crate::golden::crc32c;

fn sample(file: FileKind) -> FileHeader {
    FileHeader {
        file,
        shard: Shard::new(2, 0x0305).expect("a shard"),
        epoch: Epoch::new(0x0102_0304),
        partition_hash: 0x1112_1314_1516_1718,
        created_unix_s: 0x2122_2324_2526_2728,
    }
}

/// `bytes` with the checksum that they should have.
fn resealed(mut bytes: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let sum = crc32c(&[&bytes[..60]]);
    bytes[60..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn headers_are_what_the_format_says() {
    for (file, magic) in [(FileKind::Log, b"MOLIAWAL"), (FileKind::Snapshot, b"MOLIASNP")] {
        let mut wanted = [0; HEADER_BYTES];
        wanted[..8].copy_from_slice(magic);
        wanted[8..14].copy_from_slice(&[1, 0, 2, 0, 5, 3]);
        wanted[36..44].copy_from_slice(&[4, 3, 2, 1, 0, 0, 0, 0]);
        wanted[44..52].copy_from_slice(&[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        wanted[52..60].copy_from_slice(&[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21]);
        assert_eq!(sample(file).encode(), resealed(wanted));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for file in [FileKind::Log, FileKind::Snapshot] {
        let mut bytes = sample(file).encode();
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = if bit < 64 { HeaderError::BadMagic } else { HeaderError::BadChecksum };
            assert_eq!(FileHeader::decode(&bytes), Err(error), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn headers_are_whole_or_nothing() {
    let bytes = sample(FileKind::Log).encode();
    for cut in 0..HEADER_BYTES {
        assert_eq!(FileHeader::decode(&bytes[..cut]), Err(HeaderError::Short));
    }
    let file = [&bytes[..], b"frames"].concat();
    assert_eq!(FileHeader::decode(&file), Ok(sample(FileKind::Log)));
}

#[test]
fn whole_headers_with_other_content_say_what_is_wrong() {
    let bytes = sample(FileKind::Log).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes;
        bytes[at] = byte;
        FileHeader::decode(&resealed(bytes))
    };
    for version in (0..=u8::MAX).filter(|version| u16::from(*version) != FORMAT_VERSION) {
        assert_eq!(with(8, version), Err(HeaderError::UnsupportedVersion(version.into())));
    }
    assert_eq!(with(9, 1), Err(HeaderError::UnsupportedVersion(0x0101)));
    assert_eq!(with(11, 4), Err(HeaderError::BadShard));
    (14..36).for_each(|at| assert_eq!(with(at, 1), Err(HeaderError::Reserved), "byte {at}"));
    (40..44).for_each(|at| assert_eq!(with(at, 1), Err(HeaderError::BadEpoch), "byte {at}"));
    assert_eq!(Shard::new(0, 0), None);
    assert_eq!(Shard::new(3, 3), None);
    assert_eq!(Shard::new(2, 3).map(|shard| (shard.id(), shard.count())), Some((2, 3)));
}

proptest! {
    #[test]
    fn headers_come_back(
        snapshot: bool,
        count in 1..=u16::MAX,
        shard: prop::sample::Index,
        epoch: u32,
        partition_hash: u64,
        created_unix_s: u64,
    ) {
        let file = if snapshot { FileKind::Snapshot } else { FileKind::Log };
        let id = u16::try_from(shard.index(count.into())).unwrap();
        let shard = Shard::new(id, count).unwrap();
        let epoch = Epoch::new(epoch);
        let header = FileHeader { file, shard, epoch, partition_hash, created_unix_s };
        prop_assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn anything_sealed_is_refused_or_is_a_header(
        magic in prop::sample::select(vec![FileKind::Log, FileKind::Snapshot]),
        noise in any::<[[u8; 8]; 8]>(),
        zeroed in any::<[bool; HEADER_BYTES]>(),
    ) {
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(noise.as_flattened());
        bytes.iter_mut().zip(zeroed).for_each(|(byte, zero)| if zero { *byte = 0 });
        bytes[..8].copy_from_slice(&magic.magic());
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[14..36].fill(0);
        bytes[40..44].fill(0);
        let bytes = resealed(bytes);
        match FileHeader::decode(&bytes) {
            Ok(header) => prop_assert_eq!(header.encode(), bytes),
            Err(error) => prop_assert_eq!(error, HeaderError::BadShard),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        prop_assert!(FileHeader::decode(&bytes).is_err());
    }
}
