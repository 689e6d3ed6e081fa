//! The pool: one arena, cut into slots, and the stack of those that are free.
//!
//! Invariants the `unsafe` blocks of this crate rest on:
//! 1. Every slot number below `slots` is in exactly one place: the free stack,
//!    one [`Buf`], or one [`Loan`](crate::Loan). Only `take` makes a `Buf` from
//!    nothing, and it takes the number off the stack.
//! 2. `Shared` lives until the pool is dropped **and** every slot is home.
//! 3. Nothing here is `Send`: one thread touches the stack and the slots.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ptr::NonNull;

use crate::arena::{Arena, Hugepages};
use crate::buf::Buf;

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

/// Owner of an arena and of its free stack. `!Send`.
pub struct Pool {
    shared: NonNull<Shared>,
}

/// What pool and buffers share. Freed by whoever comes last: the pool when all
/// slots are home, else the `Buf` that brings the last slot home.
pub(crate) struct Shared {
    arena: Arena,
    base: NonNull<u8>,
    slot_bytes: u32,
    headroom: u32,
    /// Set by `Pool::drop`, possibly while slots are still out.
    orphaned: Cell<bool>,
    /// LIFO: the slot used last is the one still in cache. `free[..top]` are free.
    free: Box<[Cell<u32>]>,
    top: Cell<usize>,
}

impl Pool {
    /// Maps the arena and fills the free stack; nothing allocates afterwards.
    ///
    /// # Errors
    /// The error of `mmap(2)`.
    ///
    /// # Panics
    /// If the configuration is not one: no slots, `u32::MAX` slots or bytes per
    /// slot, a headroom beyond a slot, a slot size that is not a multiple of 64.
    pub fn new(config: PoolConfig) -> io::Result<Self> {
        let PoolConfig { slots, hugepages, prefault, .. } = config;
        let numbers = u32::try_from(slots).expect("slot numbers are u32");
        let slot_bytes = u32::try_from(config.slot_bytes).expect("offsets in a slot are u32");
        let headroom = u32::try_from(config.headroom).expect("offsets in a slot are u32");
        assert!(slots > 0, "a pool without slots serves nobody");
        assert!(slot_bytes.is_multiple_of(64) && headroom < slot_bytes, "slots are whole lines");
        let bytes = config.slot_bytes.checked_mul(slots).ok_or(io::ErrorKind::InvalidInput)?;
        let arena = Arena::map(bytes, hugepages, prefault)?;
        let shared = Box::new(Shared {
            base: arena.base(),
            arena,
            slot_bytes,
            headroom,
            orphaned: Cell::new(false),
            free: (0..numbers).rev().map(Cell::new).collect(),
            top: Cell::new(slots),
        });
        Ok(Self { shared: NonNull::from(Box::leak(shared)) })
    }

    #[inline]
    fn shared(&self) -> &Shared {
        // SAFETY: invariant 2; only shared references to it are ever made.
        unsafe { self.shared.as_ref() }
    }

    /// An empty buffer with the configured headroom, or `None` when all slots are out.
    #[inline]
    pub fn take(&self) -> Option<Buf> {
        let shared = self.shared();
        let slot = shared.pop()?;
        let offset = slot as usize * shared.slot_bytes as usize;
        // SAFETY: `slot < slots`, so the offset stays inside the arena.
        let base = unsafe { shared.base.add(offset) };
        Some(Buf::new(self.shared, base, slot, shared.headroom))
    }

    /// Slots on the free stack.
    #[inline]
    pub fn free(&self) -> usize {
        self.shared().top.get()
    }

    /// All slots, free or not.
    pub fn slots(&self) -> usize {
        self.shared().free.len()
    }

    /// Bytes per slot, headroom included.
    pub fn slot_bytes(&self) -> usize {
        self.shared().slot_bytes as usize
    }

    /// Whether huge pages back the arena.
    pub fn huge(&self) -> bool {
        self.shared().arena.huge()
    }

    /// First byte and length of the arena, for registration with the kernel.
    /// Mapped as long as the pool or any of its buffers lives.
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
            .field("huge", &self.huge())
            .finish()
    }
}

impl Shared {
    #[inline]
    pub(crate) fn slot_bytes(&self) -> u32 {
        self.slot_bytes
    }

    #[inline]
    pub(crate) fn orphaned(&self) -> bool {
        self.orphaned.get()
    }

    #[inline]
    fn pop(&self) -> Option<u32> {
        let top = self.top.get().checked_sub(1)?;
        self.top.set(top);
        Some(self.free[top].get())
    }

    /// Takes a slot home. A slot that came home twice would overflow the stack and panic.
    #[inline]
    pub(crate) fn push(&self, slot: u32) {
        let top = self.top.get();
        self.free[top].set(slot);
        self.top.set(top + 1);
    }

    /// Frees the shared state once the pool is dropped and every slot is home.
    pub(crate) fn release(shared: NonNull<Self>) {
        // SAFETY: called by the pool or a buffer, each of which keeps `shared` alive until here.
        let this = unsafe { shared.as_ref() };
        if this.orphaned.get() && this.top.get() == this.free.len() {
            // SAFETY: made by `Box::leak` in `Pool::new`; the pool is gone and no slot is out, so
            // nobody else can reach it.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
    }
}
