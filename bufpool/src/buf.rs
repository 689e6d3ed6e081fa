//! The unique handle of a slot, and the typed loan of a slot to the kernel.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::pool::Shared;

/// One slot, uniquely owned: `head` free bytes, `len` bytes of content, tailroom.
///
/// Dereferences to the content. Dropping it recycles the slot. 32 bytes, moved
/// by value; the slot itself never moves.
pub struct Buf {
    shared: NonNull<Shared>,
    /// First byte of the slot.
    base: NonNull<u8>,
    slot: u32,
    /// `head + len <= slot_bytes`, always.
    head: u32,
    len: u32,
}

/// An offset inside a slot, as a slot keeps it.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the slot size, which is a u32")]
#[inline]
fn offset(n: usize) -> u32 {
    debug_assert!(u32::try_from(n).is_ok(), "offsets in a slot are u32");
    n as u32
}

impl Buf {
    /// The caller took `slot` off the free stack of `shared`; `base` is its first byte.
    #[inline]
    pub(crate) fn new(shared: NonNull<Shared>, base: NonNull<u8>, slot: u32, head: u32) -> Self {
        Self { shared, base, slot, head, len: 0 }
    }

    #[inline]
    fn shared(&self) -> &Shared {
        // SAFETY: `Shared` outlives every slot that is out (invariant 2 of the pool).
        unsafe { self.shared.as_ref() }
    }

    /// The whole slot as bytes; always initialised, since the arena was mapped zeroed.
    #[inline]
    fn whole(&self) -> &[u8] {
        // SAFETY: the slot is ours alone while this handle lives (invariant 1 of the pool).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.capacity()) }
    }

    #[inline]
    fn whole_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `whole`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.capacity()) }
    }

    /// Number of the slot in its pool, stable while the handle lives.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Bytes in the slot: headroom, content and tailroom together.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.shared().slot_bytes() as usize
    }

    /// Free bytes in front of the content.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head as usize
    }

    /// Free bytes behind the content.
    #[inline]
    pub fn tailroom(&self) -> usize {
        (self.shared().slot_bytes() - self.head - self.len) as usize
    }

    /// Sets the content to bytes `head..head + len` of the slot, whatever they hold.
    ///
    /// # Panics
    /// If that lies outside the slot.
    #[inline]
    pub fn set_window(&mut self, head: usize, len: usize) {
        let capacity = self.capacity();
        assert!(head <= capacity && len <= capacity - head, "window outside the slot");
        (self.head, self.len) = (offset(head), offset(len));
    }

    /// The free bytes behind the content, to be filled and then [`grow`](Self::grow)n over.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let end = (self.head + self.len) as usize;
        &mut self.whole_mut()[end..]
    }

    /// Takes `n` bytes of tailroom into the content.
    ///
    /// # Panics
    /// If there is less tailroom.
    #[inline]
    pub fn grow(&mut self, n: usize) {
        assert!(n <= self.tailroom(), "grown beyond the slot");
        self.len += offset(n);
    }

    /// Appends a copy of `bytes`; `false`, and nothing changed, if they do not fit.
    #[inline]
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let Some(spare) = self.spare_mut().get_mut(..bytes.len()) else { return false };
        spare.copy_from_slice(bytes);
        self.len += offset(bytes.len());
        true
    }

    /// Takes `n` bytes of headroom into the content and returns them.
    ///
    /// # Panics
    /// If there is less headroom.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.headroom(), "prepended beyond the slot");
        self.head -= offset(n);
        self.len += offset(n);
        &mut self[..n]
    }

    /// Gives the first `n` bytes of the content back to the headroom.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len as usize, "advanced beyond the content");
        self.head += offset(n);
        self.len -= offset(n);
    }

    /// Cuts the content to its first `len` bytes; no effect if it is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len as usize {
            self.len = offset(len);
        }
    }

    /// Hands the slot to the kernel: from here on only its address is known.
    #[inline]
    pub fn lend(self) -> Loan {
        Loan(ManuallyDrop::new(self))
    }
}

impl Deref for Buf {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        let (head, end) = (self.head as usize, (self.head + self.len) as usize);
        &self.whole()[head..end]
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (head, end) = (self.head as usize, (self.head + self.len) as usize);
        &mut self.whole_mut()[head..end]
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        let shared = self.shared();
        shared.push(self.slot);
        if shared.orphaned() {
            Shared::release(self.shared);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf(slot {}, {} + {} of {})", self.slot, self.head, self.len, self.capacity())
    }
}

/// A slot the kernel may be writing to or reading from.
///
/// No reference to its bytes can be made. Dropping a loan leaks the slot, and
/// with it the arena (the kernel may still own it); only
/// [`reclaim`](Self::reclaim) brings it back.
#[must_use = "a dropped loan leaks its slot"]
pub struct Loan(ManuallyDrop<Buf>);

impl Loan {
    /// Number of the slot in its pool.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.0.slot
    }

    /// Address and length of the content that was lent.
    #[inline]
    pub fn content(&self) -> (*mut u8, usize) {
        (self.0.base.as_ptr().wrapping_add(self.0.head as usize), self.0.len as usize)
    }

    /// Address and length of the whole slot.
    #[inline]
    pub fn whole(&self) -> (*mut u8, usize) {
        (self.0.base.as_ptr(), self.0.capacity())
    }

    /// Takes the slot back with its content's bounds as they were lent.
    ///
    /// # Safety
    /// The kernel must be done with the slot: its completion was reaped, or the
    /// ring that could touch it is closed.
    #[inline]
    pub unsafe fn reclaim(self) -> Buf {
        ManuallyDrop::into_inner(self.0)
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan(slot {})", self.0.slot)
    }
}
