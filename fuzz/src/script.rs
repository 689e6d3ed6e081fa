//! A fuzz input as a script: steps with their operands.

/// What is left of the input.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Two bytes, little-endian; zero where there are none.
    pub fn number(&mut self) -> u16 {
        let low = self.byte().unwrap_or(0);
        u16::from_le_bytes([low, self.byte().unwrap_or(0)])
    }

    /// A length of two bytes and as many bytes, or all that is left.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}
