//! Writing the fields of a body, byte for byte as prost would: ascending tags
//! (the caller's order), defaults left out, shortest varints.

use prost::encoding::{WireType, encoded_len_varint, key_len};

/// The message does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// A body in the making. A single field that does not fit leaves it as it was;
/// a sub-message that does not fit spoils it.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// An empty body that may grow to `out.len()` bytes.
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub const fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// What was written.
    pub fn written(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// A `uint64`; 0 is left out.
    #[inline]
    pub fn uint64(&mut self, tag: u32, value: u64) -> Result<(), Overflow> {
        if value == 0 {
            return Ok(());
        }
        let (key_len, value_len) = (key_len(tag), encoded_len_varint(value));
        let (key_out, value_out) = self.grow(key_len + value_len)?.split_at_mut(key_len);
        put_varint(key_out, key(tag, WireType::Varint));
        put_varint(value_out, value);
        Ok(())
    }

    /// A `uint32`; 0 is left out.
    #[inline]
    pub fn uint32(&mut self, tag: u32, value: u32) -> Result<(), Overflow> {
        self.uint64(tag, u64::from(value))
    }

    /// A `bool`; false is left out.
    #[inline]
    pub fn bool(&mut self, tag: u32, value: bool) -> Result<(), Overflow> {
        self.uint64(tag, u64::from(value))
    }

    /// `bytes` or `string`; nothing is left out.
    #[inline]
    pub fn bytes(&mut self, tag: u32, bytes: &[u8]) -> Result<(), Overflow> {
        if bytes.is_empty() { Ok(()) } else { self.encoded(tag, bytes) }
    }

    /// A sub-message that is encoded already; empty ones are written.
    #[inline]
    pub fn encoded(&mut self, tag: u32, message: &[u8]) -> Result<(), Overflow> {
        let (key_len, len_len) = (key_len(tag), encoded_len_varint(message.len() as u64));
        let out = self.grow(key_len + len_len + message.len())?;
        let (key_out, out) = out.split_at_mut(key_len);
        let (len_out, out) = out.split_at_mut(len_len);
        put_varint(key_out, key(tag, WireType::LengthDelimited));
        put_varint(len_out, message.len() as u64);
        out.copy_from_slice(message);
        Ok(())
    }

    /// A sub-message that `fields` writes; empty ones are written.
    pub fn message(
        &mut self,
        tag: u32,
        fields: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        let key_len = key_len(tag);
        put_varint(self.grow(key_len)?, key(tag, WireType::LengthDelimited));
        let len_at = self.len;
        self.grow(1)?;
        let mut inner = Writer::new(&mut self.out[len_at + 1..]);
        fields(&mut inner)?;
        let len = inner.len;
        self.len += len;
        // One byte was kept for the length; a longer one pushes the content on.
        let len_len = encoded_len_varint(len as u64);
        if len_len > 1 {
            self.grow(len_len - 1)?;
            self.out.copy_within(len_at + 1..len_at + 1 + len, len_at + len_len);
        }
        put_varint(&mut self.out[len_at..len_at + len_len], len as u64);
        Ok(())
    }

    #[inline]
    fn grow(&mut self, len: usize) -> Result<&mut [u8], Overflow> {
        let grown = self.out[self.len..].get_mut(..len).ok_or(Overflow)?;
        self.len += len;
        Ok(grown)
    }
}

#[inline]
fn key(tag: u32, wire_type: WireType) -> u64 {
    u64::from(tag << 3 | wire_type as u32)
}

/// Fills `out`, which is exactly as long as the varint, without a check per byte.
#[inline]
fn put_varint(out: &mut [u8], mut value: u64) {
    let Some((last, first)) = out.split_last_mut() else { return };
    for byte in first {
        *byte = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
    }
    *last = value.to_le_bytes()[0];
}
