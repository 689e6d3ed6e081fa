//! Fields of fixed layout: how payloads are put together and taken apart.
//!
//! A payload is its fields in the order of their declaration, without padding, tags or lengths:
//! [`layout!`] declares a struct and its layout in one place. Only the last field may vary in
//! length; it takes what is left of the payload.

use std::num::NonZeroU16;

/// Why a payload is not one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends inside a field.
    Short,
    /// Bytes follow its last field.
    Trailing,
    /// Its message is longer than the kind allows.
    AboveMaximum,
    /// A field has a value without a meaning, or a meaning that is written otherwise.
    BadValue,
}

impl Malformed {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Short, Self::Trailing, Self::AboveMaximum, Self::BadValue];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Trailing => "trailing",
            Self::AboveMaximum => "above_maximum",
            Self::BadValue => "bad_value",
        }
    }
}

/// The buffer is too small for what was to be written; its content is unspecified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The message is longer than its kind of record may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboveMaximum;

/// A protobuf message exactly as it is served, at most `MAX` bytes of it; never looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a, const MAX: usize>(&'a [u8]);

impl<'a, const MAX: usize> Message<'a, MAX> {
    /// These bytes.
    ///
    /// # Errors
    /// [`AboveMaximum`] if there are more than `MAX`.
    pub const fn new(bytes: &'a [u8]) -> Result<Self, AboveMaximum> {
        if bytes.len() > MAX { Err(AboveMaximum) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What can stand in a payload.
pub(crate) trait Field<'a>: Sized {
    /// Bytes of the longest value.
    const BYTES_MAX: usize;

    /// Bytes of this value.
    fn len(&self) -> usize {
        Self::BYTES_MAX
    }

    /// Takes a value off the front of `from`.
    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed>;

    /// Puts the value behind what `to` holds.
    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom>;
}

/// What is left of a payload.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Everything that is left.
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Nothing may be left.
    pub(crate) const fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// The room behind what was written.
pub(crate) struct Writer<'w>(&'w mut [u8]);

impl<'w> Writer<'w> {
    pub(crate) const fn new(out: &'w mut [u8]) -> Self {
        Self(out)
    }

    /// These bytes, next.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let room = std::mem::take(&mut self.0);
        let (here, rest) = room.split_at_mut_checked(bytes.len()).ok_or(NoRoom)?;
        here.copy_from_slice(bytes);
        self.0 = rest;
        Ok(())
    }
}

/// Structs that are [`Field`]s: their own fields, in order.
macro_rules! layout {
    ($(
        $(#[$about:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $($(#[$field_about:meta])* pub $field:ident: $kind:ty,)*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_about])* pub $field: $kind,)*
        }

        impl<'a> Field<'a> for $name $(<$life>)? {
            const BYTES_MAX: usize = 0 $(+ <$kind as Field<'a>>::BYTES_MAX)*;

            fn len(&self) -> usize {
                0 $(+ self.$field.len())*
            }

            fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
                Ok(Self { $($field: Field::read(from)?,)* })
            }

            fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
                $(self.$field.write(to)?;)*
                Ok(())
            }
        }
    )*};
}
pub(crate) use layout;

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl Field<'_> for $kind {
            const BYTES_MAX: usize = size_of::<Self>();

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.take().map(Self::from_le_bytes)
            }

            fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
                to.put(&self.to_le_bytes())
            }
        }
    )*};
}
integers!(u8 u16 i32 u64);

impl<const N: usize> Field<'_> for [u8; N] {
    const BYTES_MAX: usize = N;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take()
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        to.put(self)
    }
}

/// Zero is not known.
impl Field<'_> for Option<NonZeroU16> {
    const BYTES_MAX: usize = 2;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        u16::read(from).map(NonZeroU16::new)
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        self.map_or(0, NonZeroU16::get).write(to)
    }
}

/// 0 is not known, 1 no, 2 yes.
impl Field<'_> for Option<bool> {
    const BYTES_MAX: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            0 => Ok(None),
            1 => Ok(Some(false)),
            2 => Ok(Some(true)),
            _ => Err(Malformed::BadValue),
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        let byte: u8 = match self {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        byte.write(to)
    }
}

/// Takes all that is left: a message can only be the last field.
impl<'a, const MAX: usize> Field<'a> for Message<'a, MAX> {
    const BYTES_MAX: usize = MAX;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Self::new(from.rest()).map_err(|AboveMaximum| Malformed::AboveMaximum)
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), NoRoom> {
        to.put(self.0)
    }
}
