//! The 12 bytes in front of every body.
//!
//! Reading never fails: every value is a header, [`check`](super::check::check)
//! judges it. Bytes: version, type, flags, qos, u32 correlation, u32 stream id.

use super::kind::{Class, Kind};
use crate::limits::HEADER_BYTES;

/// The protocol's version.
pub const VERSION: u8 = 1;

/// The header's `flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Bit 0: never answered.
    pub const RESPONSE: Self = Self(1 << 0);
    /// Bit 1: the stream goes on.
    pub const MORE_CHUNKS: Self = Self(1 << 1);
    /// Bit 2: a decoy for privacy; answered, not cached.
    pub const PROBE: Self = Self(1 << 2);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether bit 0 is set.
    pub const fn is_response(self) -> bool {
        self.0 & Self::RESPONSE.0 != 0
    }

    /// Whether bit 1 is set.
    pub const fn more_chunks(self) -> bool {
        self.0 & Self::MORE_CHUNKS.0 != 0
    }

    /// Whether bit 2 is set.
    pub const fn probe(self) -> bool {
        self.0 & Self::PROBE.0 != 0
    }

    /// Whether a bit is set that the protocol keeps for later.
    pub const fn reserved(self) -> bool {
        self.0 >> 3 != 0
    }
}

/// A frame's header, less its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type as it came; [`Kind`] if the protocol knows it.
    pub kind: u8,
    /// The flags.
    pub flags: Flags,
    /// Declared class; values above 2 count as 2.
    pub qos: u8,
    /// Chosen by the requester, echoed in every frame of the response.
    pub correlation: u32,
    /// 0 unless the message is chunked.
    pub stream: u32,
}

impl Header {
    /// Header of a request, or of a message that asks for nothing.
    pub const fn request(kind: Kind, correlation: u32) -> Self {
        let qos = kind.class() as u8;
        Self { kind: kind.id(), flags: Flags::NONE, qos, correlation, stream: 0 }
    }

    /// Header of a response of one frame.
    pub const fn response(kind: Kind, correlation: u32) -> Self {
        let qos = kind.class() as u8;
        Self { kind: kind.id(), flags: Flags::RESPONSE, qos, correlation, stream: 0 }
    }

    /// The same header in a lower class (ERROR travels in the class of the request).
    #[must_use]
    pub const fn in_class(self, class: Class) -> Self {
        Self { qos: class as u8, ..self }
    }

    /// The same header for one chunk of `stream`.
    #[must_use]
    pub const fn chunk(self, stream: u32, more: bool) -> Self {
        let flags = Flags(self.flags.0 & !Flags::MORE_CHUNKS.0 | (more as u8) << 1);
        Self { flags, stream, ..self }
    }

    /// The bytes on the wire.
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [c0, c1, c2, c3] = self.correlation.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [VERSION, self.kind, self.flags.0, self.qos, c0, c1, c2, c3, s0, s1, s2, s3]
    }

    /// Version and header of 12 bytes.
    pub const fn of_bytes(bytes: &[u8; HEADER_BYTES]) -> (u8, Self) {
        let [version, kind, flags, qos, c0, c1, c2, c3, s0, s1, s2, s3] = *bytes;
        let correlation = u32::from_be_bytes([c0, c1, c2, c3]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        (version, Self { kind, flags: Flags(flags), qos, correlation, stream })
    }
}
