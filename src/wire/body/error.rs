//! ERROR.

use super::reader::Fields;
use super::{BodyError, Overflow, Writer, at_most};
use crate::limits::REASON_BYTES_MAX;
use crate::wire::code::Code;

/// A request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Error<'a> {
    /// What is wrong; one that we do not know reads as [`Code::Unspecified`].
    pub code: Code,
    /// For people.
    pub reason: &'a str,
    /// When trying again may help; 0: unknown.
    pub retry_after_ms: u32,
    /// Offending type, missing bit, or the stamp's wanted bits.
    pub detail: u32,
}

impl<'a> Error<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut error = Self::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => error.code = Code::of_wire(value.uint32()?),
                2 => error.reason = value.text()?,
                3 => error.retry_after_ms = value.uint32()?,
                4 => error.detail = value.uint32()?,
                _ => {}
            }
        }
        at_most(error.reason.as_bytes(), REASON_BYTES_MAX)?;
        Ok(error)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.code.to_wire())?;
        out.bytes(2, self.reason.as_bytes())?;
        out.uint32(3, self.retry_after_ms)?;
        out.uint32(4, self.detail)
    }
}
