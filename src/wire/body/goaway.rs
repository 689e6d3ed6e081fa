//! GOAWAY: the router is about to leave.

use super::peer::{Addrs, Tally};
use super::reader::Fields;
use super::{BodyError, Overflow, Writer};
use crate::limits::GOAWAY_ALTERNATES_MAX;

/// Come back later, or go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Goaway<'a> {
    /// Come back then.
    pub reconnect_in_ms: u32,
    /// Served until then.
    pub grace_ms: u32,
    /// Other routers.
    pub alternates: Addrs<'a>,
}

impl<'a> Goaway<'a> {
    /// Tag of `alternates`.
    const ALTERNATES: u32 = 3;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut goaway =
            Self { alternates: Addrs::read(body, Self::ALTERNATES), ..Self::default() };
        let mut alternates = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => goaway.reconnect_in_ms = value.uint32()?,
                2 => goaway.grace_ms = value.uint32()?,
                Self::ALTERNATES => alternates.add(value.bytes()?)?,
                _ => {}
            }
        }
        alternates.at_most(GOAWAY_ALTERNATES_MAX)?;
        Ok(goaway)
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.uint32(1, self.reconnect_in_ms)?;
        out.uint32(2, self.grace_ms)?;
        self.alternates.write(out, Self::ALTERNATES)
    }
}
