//! Which socket of a group takes a datagram: the one that its index names.
//!
//! A session's or channel's number begins with the number of the shard that it
//! belongs to, so the datagram itself says where it has to go, and a small
//! program in the kernel (`SO_ATTACH_REUSEPORT_CBPF`) reads it there. It sees the
//! UDP payload from offset 0. WireGuard's receiver index is little-endian, a
//! channel number big-endian; in both the shard is in the top bits:
//!
//! | first byte | what | top byte of the number |
//! |---|---|---|
//! | 2 | handshake response | 11 |
//! | 3, 4 | cookie reply, data | 7 |
//! | 5 | channel data | 4 |
//!
//! * What names no shard (an initiation, nonsense, a shard that does not exist)
//!   goes where the kernel's hash of both addresses sends it: always to the same
//!   socket from the same sender.
//! * A load behind the end of a datagram would end the program with 0, and so
//!   send all short datagrams to the first socket: the length comes first.
//! * Of a run that the kernel coalesced, the first datagram decides.

use std::fmt;

use libc::sock_filter;

use crate::achieved::Reason;

/// Bits of a shard's number at most: it must not leave its byte.
pub(crate) const SHARD_BITS_MAX: u32 = 8;

/// How the datagrams of a group of sockets find theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// There is one socket: nothing to choose.
    None,
    /// By the index in the datagram.
    Bpf,
    /// By the kernel's hash of both addresses alone, and why: a datagram may
    /// reach another shard than its own.
    Hash(Reason),
}

impl Steering {
    /// Value of the `steering` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bpf => "cbpf",
            Self::Hash(_) => "hash",
        }
    }
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("one socket"),
            Self::Bpf => f.write_str("by index (cBPF)"),
            Self::Hash(reason) => write!(f, "by address hash ({reason})"),
        }
    }
}

/// What the kernel takes for no socket of any group, and asks its hash instead.
const NONE: u32 = u32::MAX;

/// The program for numbers with `shard_bits` bits of shard on top. It is the same
/// for any number of shards: the kernel's hash stands in for those that do not exist.
///
/// # Panics
/// If the bits do not fit one byte.
pub(crate) fn program(shard_bits: u32) -> [sock_filter; 17] {
    assert!(shard_bits <= SHARD_BITS_MAX, "a shard's number is part of one byte");
    [
        op(LEN, 0),
        jump(AT_LEAST, 8, 0, 14), // else 16
        op(BYTE, 0),
        jump(EQUAL, 4, 7, 0), // 11
        jump(EQUAL, 5, 8, 0), // 13
        jump(EQUAL, 3, 5, 0), // 11
        jump(EQUAL, 2, 0, 9), // else 16
        op(LEN, 0),
        jump(AT_LEAST, 12, 0, 7), // else 16
        op(BYTE, 11),
        op(SKIP, 3), // 14
        op(BYTE, 7),
        op(SKIP, 1), // 14
        op(BYTE, 4),
        op(SHIFT, 8 - shard_bits),
        op(RETURN_IT, 0),
        op(RETURN, NONE),
    ]
}

const LEN: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_LEN;
const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const SKIP: u32 = libc::BPF_JMP | libc::BPF_JA;
const SHIFT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const RETURN_IT: u32 = libc::BPF_RET | libc::BPF_A;

fn op(code: u32, k: u32) -> sock_filter {
    sock_filter { code: narrow(code), jt: 0, jf: 0, k }
}

/// Skips `jt` steps if the comparison with `k` holds, `jf` if not.
fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: narrow(code), jt, jf, k }
}

#[expect(clippy::cast_possible_truncation, reason = "the codes above are all below 256")]
const fn narrow(code: u32) -> u16 {
    assert!(code < 256, "a code is one byte");
    code as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel makes of the program's steps, as `filter.rst` of its documentation has it.
    fn run(program: &[sock_filter], payload: &[u8]) -> u32 {
        let (mut a, mut at) = (0u32, 0);
        loop {
            let step = program[at];
            at += 1;
            let branch = |holds| usize::from(if holds { step.jt } else { step.jf });
            match u32::from(step.code) {
                LEN => a = u32::try_from(payload.len()).unwrap(),
                BYTE => match payload.get(step.k as usize) {
                    Some(byte) => a = u32::from(*byte),
                    None => return 0,
                },
                AT_LEAST => at += branch(a >= step.k),
                EQUAL => at += branch(a == step.k),
                SKIP => at += step.k as usize,
                SHIFT => a >>= step.k,
                RETURN_IT => return a,
                RETURN => return step.k,
                other => panic!("no such step: {other:#x}"),
            }
        }
    }

    /// The socket of `shards` that the kernel chooses; `None` leaves it to the hash.
    fn chosen(payload: &[u8], shards: usize, shard_bits: u32) -> Option<usize> {
        let index = run(&program(shard_bits), payload) as usize;
        (index < shards).then_some(index)
    }

    /// The same from the formats: the number's top `shard_bits` bits, if it is all there.
    fn named(payload: &[u8], shards: usize, shard_bits: u32) -> Option<usize> {
        let le = |at: usize| Some(u32::from_le_bytes(*payload.get(at..)?.first_chunk()?));
        let be = |at: usize| Some(u32::from_be_bytes(*payload.get(at..)?.first_chunk()?));
        let number = match payload.first()? {
            2 => le(8),
            3 | 4 => le(4),
            5 => be(4),
            _ => None,
        }?;
        let shard = usize::try_from(u64::from(number) >> (32 - shard_bits)).unwrap();
        (shard < shards).then_some(shard)
    }

    /// The bits that the numbers of `shards` need.
    fn bits(shards: usize) -> u32 {
        shards.next_power_of_two().trailing_zeros()
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![4 => 0..8u8, 1 => any::<u8>()];
        let rest = prop::collection::vec(any::<u8>(), 0..40);
        (kind, rest).prop_map(|(kind, mut bytes)| {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn every_datagram_goes_where_its_number_says(
            payload in payload(), shards in 1..=64usize, spare in 0..=2u32,
        ) {
            let bits = bits(shards) + spare;
            prop_assert_eq!(chosen(&payload, shards, bits), named(&payload, shards, bits));
        }
    }

    #[test]
    fn indices_as_sessions_make_them_name_their_shard() {
        for shards in 1..=64usize {
            let bits = bits(shards);
            for shard in 0..shards {
                let index = (u32::try_from(shard).unwrap() << (24 - bits) | 0x155) << 8 | 0xA7;
                for (kind, at) in [(2, 8), (3, 4), (4, 4)] {
                    let mut payload = [0xFF; 32];
                    payload[0] = kind;
                    payload[at..at + 4].copy_from_slice(&index.to_le_bytes());
                    assert_eq!(chosen(&payload, shards, bits), Some(shard), "{kind}");
                }
                let mut channel = [5, 0, 0, 0, 0, 0, 0, 0];
                channel[4..].copy_from_slice(&index.to_be_bytes());
                assert_eq!(chosen(&channel, shards, bits), Some(shard));
            }
        }
    }

    #[test]
    fn what_names_no_shard_is_nobodys() {
        for len in 0..12 {
            let short = |kind: u8| std::iter::once(kind).chain([0; 16]).take(len).collect();
            let short: [Vec<u8>; 3] = [short(4), short(5), short(2)];
            let whole = [len >= 8, len >= 8, false];
            for (payload, whole) in short.iter().zip(whole) {
                assert_eq!(chosen(payload, 4, 2), whole.then_some(0), "{payload:?}");
            }
        }
        assert_eq!(chosen(&[1; 148], 4, 2), None, "an initiation");
        assert_eq!(chosen(&[4, 0, 0, 0, 0, 0, 0, 0xC0], 3, 2), None, "a fourth of three");
    }

    #[test]
    fn the_kernel_would_take_the_program() {
        // It checks that no jump leaves the program and that the last step returns.
        for bits in 0..=SHARD_BITS_MAX {
            let program = program(bits);
            for (at, step) in program.iter().enumerate() {
                let skip = if u32::from(step.code) == SKIP { step.k as usize } else { 0 };
                let most = usize::from(step.jt.max(step.jf)).max(skip);
                assert!(at + 1 + most <= program.len(), "step {at}");
            }
            assert_eq!(u32::from(program[program.len() - 1].code), RETURN);
        }
    }
}
