//! Walking over the fields of a body.
//!
//! The rules are protobuf's, as prost applies them: any order, the last of
//! several scalars counts, sub-messages merge, unknown fields are skipped,
//! `uint32` keeps the low 32 bits of its varint. Groups are refused, known or not.
//! The varint reader is our own because prost's error is a heap allocation, and
//! strangers choose how often that would happen.

use super::BodyError;

/// The fields that are left.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

/// A field's value by wire type.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes: no body has such a field.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// Tag and value of the next field. Not inlined, the result would go through
    /// memory: twice the time for an answer of sixteen peers.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, BodyError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| BodyError::Malformed)?;
        let tag = key >> 3;
        if tag == 0 {
            return Err(BodyError::Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(BodyError::Malformed),
        };
        Ok(Some((tag, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, BodyError> {
        match self.0 {
            [byte @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, BodyError> {
        let mut value = 0;
        for (i, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte < 0x80 {
                // The tenth byte has one bit left.
                if i == 9 && byte > 1 {
                    break;
                }
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(BodyError::Malformed)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], BodyError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BodyError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    #[inline]
    pub(super) fn uint64(self) -> Result<u64, BodyError> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Bytes(_) | Self::Fixed => Err(BodyError::Malformed),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "protobuf keeps the low 32 bits")]
    #[inline]
    pub(super) fn uint32(self) -> Result<u32, BodyError> {
        self.uint64().map(|value| value as u32)
    }

    #[inline]
    pub(super) fn bool(self) -> Result<bool, BodyError> {
        self.uint64().map(|value| value != 0)
    }

    /// The content of `bytes` or of a sub-message.
    #[inline]
    pub(super) fn bytes(self) -> Result<&'a [u8], BodyError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(BodyError::Malformed),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, BodyError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BodyError::Malformed)
    }
}
