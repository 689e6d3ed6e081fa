//! The pool, its unique buffer handle and the typed loan to the kernel.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::arena::{Arena, Hugepages};

/// Shape of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Bytes per slot, headroom included; a multiple of 64 (a cache line).
    pub slot_bytes: usize,
    /// Number of slots.
    pub slots: usize,
    /// Bytes kept free in front of a fresh buffer's content.
    pub headroom: usize,
    /// What backs the arena.
    pub hugepages: Hugepages,
    /// Touch every page now rather than at first use.
    pub prefault: bool,
}

/// What pool and buffers share. Freed by whoever comes last: the pool when all
/// slots are home, else the `Buf` that brings the last slot home.
struct Shared {
    arena: Arena,
    base: NonNull<u8>,
    slot_bytes: usize,
    slots: usize,
    headroom: usize,
    /// Set by `Pool::drop` while slots are still out.
    orphaned: Cell<bool>,
    /// The first `home` are the free slots. LIFO: the slot used last is the one still in cache.
    free: Box<[Cell<u32>]>,
    home: Cell<usize>,
}

/// Owner of an arena and of its free list. `!Send`.
pub struct Pool {
    shared: NonNull<Shared>,
}

impl Pool {
    /// Maps the arena and fills the free list; nothing allocates afterwards.
    ///
    /// # Errors
    /// The error of `mmap(2)`.
    ///
    /// # Panics
    /// If the configuration is not one (no slots, headroom beyond a slot, a
    /// slot size that is not a multiple of 64, more than `u32::MAX` bytes per slot or slots).
    pub fn new(config: PoolConfig) -> io::Result<Self> {
        let PoolConfig { slot_bytes, slots, headroom, hugepages, prefault } = config;
        assert!(slots > 0 && u32::try_from(slots).is_ok(), "slot numbers are u32");
        assert!(u32::try_from(slot_bytes).is_ok(), "offsets in a slot are u32");
        assert!(
            slot_bytes.is_multiple_of(64) && headroom < slot_bytes,
            "slots are whole cache lines"
        );
        let mut arena = Arena::map(slot_bytes * slots, hugepages, prefault)?;
        let base = arena.base();
        let numbers = (0..slots).rev().filter_map(|slot| u32::try_from(slot).ok());
        let free = numbers.map(Cell::new).collect();
        let shared = Box::new(Shared {
            arena,
            base,
            slot_bytes,
            slots,
            headroom,
            orphaned: Cell::new(false),
            free,
            home: Cell::new(slots),
        });
        Ok(Self { shared: NonNull::from(Box::leak(shared)) })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: `shared` lives until the pool and every slot are gone (`Shared::release`).
        unsafe { self.shared.as_ref() }
    }

    /// An empty buffer with the configured headroom, or `None` when all slots are out.
    #[inline]
    pub fn take(&self) -> Option<Buf> {
        let slot = self.shared().pop()?;
        let head = self.shared().headroom;
        Some(Buf { shared: self.shared, slot, head, len: 0 })
    }

    /// Slots on the free list.
    pub fn free(&self) -> usize {
        self.shared().home.get()
    }

    /// All slots, free or not.
    pub fn slots(&self) -> usize {
        self.shared().slots
    }

    /// Bytes per slot, headroom included.
    pub fn slot_bytes(&self) -> usize {
        self.shared().slot_bytes
    }

    /// Whether huge pages back the arena.
    pub fn huge(&self) -> bool {
        self.shared().arena.huge()
    }

    /// First byte and length of the arena, for registration with the kernel.
    /// Valid as long as the pool or any of its buffers lives.
    pub fn region(&self) -> (NonNull<u8>, usize) {
        (self.shared().base, self.shared().arena.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared().orphaned.set(true);
        Shared::release(self.shared);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("slots", &self.slots())
            .field("slot_bytes", &self.slot_bytes())
            .field("free", &self.free())
            .finish()
    }
}

impl Shared {
    #[inline]
    fn pop(&self) -> Option<u32> {
        let top = self.home.get().checked_sub(1)?;
        self.home.set(top);
        Some(self.free[top].get())
    }

    #[inline]
    fn push(&self, slot: u32) {
        let top = self.home.get();
        assert!(top < self.slots, "a slot came home twice");
        self.free[top].set(slot);
        self.home.set(top + 1);
    }

    /// Frees the shared state once the pool is dropped and every slot is home.
    fn release(shared: NonNull<Self>) {
        // SAFETY: called by the pool or a buffer, each of which keeps `shared` alive until here.
        let this = unsafe { shared.as_ref() };
        if this.orphaned.get() && this.home.get() == this.slots {
            // SAFETY: made by `Box::leak` in `Pool::new`; the pool is gone and no slot is out, so
            // nobody else can reach it.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
    }
}

/// One slot, uniquely owned: `head` free bytes, `len` bytes of content, tailroom.
///
/// Dereferences to the content. Dropping it recycles the slot.
pub struct Buf {
    shared: NonNull<Shared>,
    slot: u32,
    head: usize,
    len: usize,
}

impl Buf {
    #[inline]
    fn shared(&self) -> &Shared {
        // SAFETY: `shared` outlives every slot that is out (`Shared::release`).
        unsafe { self.shared.as_ref() }
    }

    #[inline]
    fn base(&self) -> NonNull<u8> {
        let offset = self.slot as usize * self.shared().slot_bytes;
        // SAFETY: `slot < slots`, so the offset stays inside the arena.
        unsafe { self.shared().base.add(offset) }
    }

    /// The whole slot as bytes; always initialised, since the arena was mapped zeroed.
    #[inline]
    fn whole(&self) -> &[u8] {
        // SAFETY: the slot is ours alone while this handle lives (`Pool::take` hands each out once).
        unsafe { std::slice::from_raw_parts(self.base().as_ptr(), self.capacity()) }
    }

    #[inline]
    fn whole_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `whole`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base().as_ptr(), self.capacity()) }
    }

    /// Number of the slot in its pool, stable while the handle lives.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Bytes in the slot: headroom, content and tailroom together.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.shared().slot_bytes
    }

    /// Free bytes in front of the content.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head
    }

    /// Free bytes behind the content.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.capacity() - self.head - self.len
    }

    /// Sets the content to bytes `head..head + len` of the slot.
    ///
    /// # Panics
    /// If that lies outside the slot.
    #[inline]
    pub fn set_window(&mut self, head: usize, len: usize) {
        assert!(
            head <= self.capacity() && len <= self.capacity() - head,
            "window outside the slot"
        );
        (self.head, self.len) = (head, len);
    }

    /// The free bytes behind the content, to be filled and then [`grow`](Self::grow)n over.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let end = self.head + self.len;
        &mut self.whole_mut()[end..]
    }

    /// Takes `n` bytes of tailroom into the content.
    ///
    /// # Panics
    /// If there is less tailroom.
    #[inline]
    pub fn grow(&mut self, n: usize) {
        assert!(n <= self.tailroom(), "grown beyond the slot");
        self.len += n;
    }

    /// Appends a copy of `bytes`; `false`, and nothing changed, if they do not fit.
    #[inline]
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let Some(spare) = self.spare_mut().get_mut(..bytes.len()) else { return false };
        spare.copy_from_slice(bytes);
        self.len += bytes.len();
        true
    }

    /// Takes `n` bytes of headroom into the content and returns them.
    ///
    /// # Panics
    /// If there is less headroom.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.head, "prepended beyond the slot");
        self.head -= n;
        self.len += n;
        &mut self[..n]
    }

    /// Gives the first `n` bytes of the content back to the headroom.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len, "advanced beyond the content");
        self.head += n;
        self.len -= n;
    }

    /// Cuts the content to its first `len` bytes; no effect if it is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Hands the slot to the kernel: from here on only its address is known.
    pub fn lend(self) -> Loan {
        let loan = Loan { shared: self.shared, slot: self.slot, head: self.head, len: self.len };
        std::mem::forget(self);
        loan
    }
}

impl Deref for Buf {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.whole()[self.head..self.head + self.len]
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (head, end) = (self.head, self.head + self.len);
        &mut self.whole_mut()[head..end]
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        let shared = self.shared();
        shared.push(self.slot);
        if shared.orphaned.get() {
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
/// Dropping a loan leaks the slot (the kernel may still own it); only
/// [`reclaim`](Self::reclaim) brings it back.
#[must_use = "a dropped loan leaks its slot"]
pub struct Loan {
    shared: NonNull<Shared>,
    slot: u32,
    head: usize,
    len: usize,
}

impl Loan {
    /// Number of the slot in its pool.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Address and length of the content that was lent.
    pub fn content(&self) -> (*mut u8, usize) {
        (self.base().wrapping_add(self.head), self.len)
    }

    /// Address and length of the whole slot.
    pub fn whole(&self) -> (*mut u8, usize) {
        (self.base(), self.shared().slot_bytes)
    }

    fn shared(&self) -> &Shared {
        // SAFETY: `shared` outlives every slot that is out (`Shared::release`).
        unsafe { self.shared.as_ref() }
    }

    fn base(&self) -> *mut u8 {
        let offset = self.slot as usize * self.shared().slot_bytes;
        self.shared().base.as_ptr().wrapping_add(offset)
    }

    /// Takes the slot back with its content's bounds as they were lent.
    ///
    /// # Safety
    /// The kernel must be done with the slot: its completion was reaped, or the
    /// ring that could touch it is closed.
    pub unsafe fn reclaim(self) -> Buf {
        Buf { shared: self.shared, slot: self.slot, head: self.head, len: self.len }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan(slot {})", self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(slots: usize) -> Pool {
        let config = PoolConfig {
            slot_bytes: 256,
            slots,
            headroom: 32,
            hugepages: Hugepages::Auto,
            prefault: false,
        };
        Pool::new(config).unwrap()
    }

    #[test]
    fn a_dropped_buffer_comes_home() {
        let pool = pool(2);
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert_ne!(first.slot(), second.slot());
        assert!(pool.take().is_none());
        let slot = second.slot();
        drop(second);
        assert_eq!(pool.take().unwrap().slot(), slot, "last in, first out");
        assert_eq!(pool.free(), 1);
        drop(first);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn content_moves_within_head_and_tailroom() {
        let pool = pool(1);
        let mut buf = pool.take().unwrap();
        assert!(buf.extend(b"body"));
        buf.prepend(4).copy_from_slice(b"head");
        assert_eq!(&buf[..], b"headbody");
        assert_eq!((buf.headroom(), buf.tailroom()), (28, 220));
        buf.advance(4);
        buf.truncate(2);
        assert_eq!(&buf[..], b"bo");
        assert!(!buf.extend(&[0; 256]));
        assert_eq!(&buf[..], b"bo");
    }

    #[test]
    fn buffers_outlive_their_pool() {
        let pool = pool(2);
        let mut buf = pool.take().unwrap();
        let loan = pool.take().unwrap().lend();
        drop(pool);
        assert!(buf.extend(b"still mine"));
        drop(buf);
        // SAFETY: no kernel was ever told of this slot.
        let buf = unsafe { loan.reclaim() };
        assert_eq!(buf.len(), 0);
    }

    #[test]
    fn a_lent_slot_is_not_free() {
        let pool = pool(1);
        let mut buf = pool.take().unwrap();
        assert!(buf.extend(b"on its way"));
        let loan = buf.lend();
        assert_eq!((pool.free(), loan.content().1), (0, 10));
        // SAFETY: no kernel was ever told of this slot.
        drop(unsafe { loan.reclaim() });
        assert_eq!(pool.free(), 1);
    }
}
