//! The shim: what is a frame, what is an IP packet, what is neither.

use molia_router::drops::Drop;
use molia_router::wire::open;

/// The page's rule, word by word.
fn expected(plaintext: &[u8]) -> Result<&[u8], Drop> {
    let Some(&first) = plaintext.first() else { return Err(Drop::BadShim) };
    let ours = plaintext.starts_with(&[0x4D, 0x00]);
    if first >> 4 == 6 || first >> 4 == 4 && !ours && plaintext != [0x4D] {
        return Err(Drop::IpPacket);
    }
    if !ours || plaintext.len() < 4 {
        return Err(Drop::BadShim);
    }
    let length = usize::from(plaintext[2]) << 8 | usize::from(plaintext[3]);
    if length < 16 || length > plaintext.len() {
        Err(Drop::BadShim)
    } else {
        Ok(&plaintext[4..length])
    }
}

#[test]
fn every_first_byte_and_every_second() {
    for first in 0..=255 {
        for second in 0..=255 {
            for len in [1, 2, 3, 4, 15, 16, 20, 1440] {
                let mut plaintext = vec![0x55; len];
                let head = [first, second, 0, 16];
                let copied = len.min(4);
                plaintext[..copied].copy_from_slice(&head[..copied]);
                assert_eq!(open(&plaintext), expected(&plaintext), "{first:02x} {second:02x}");
            }
        }
    }
    assert_eq!(open(&[]), Err(Drop::BadShim));
}

#[test]
fn every_length_in_every_plaintext() {
    for len in (0..64).chain([1199, 1200, 1201, 1440, 65535, 65536]) {
        let mut plaintext = vec![0xAA; len];
        for length in (0..=80).chain([1200, 1440, 0xFF00, 0xFFFF]) {
            let head = [0x4D, 0, u8::try_from(length >> 8).unwrap(), (length & 0xFF) as u8];
            let copied = len.min(4);
            plaintext[..copied].copy_from_slice(&head[..copied]);
            assert_eq!(open(&plaintext), expected(&plaintext), "{length} in {len}");
        }
    }
}

#[test]
fn padding_may_be_anything() {
    let frame: Vec<u8> = (1..=13).collect();
    for padding in [&[][..], &[0; 3], &[0xFF; 15], &[0x4D, 0, 0, 16]] {
        let plaintext = [&[0x4D, 0, 0, 17][..], &frame, padding].concat();
        assert_eq!(open(&plaintext), Ok(&frame[..]));
    }
}
