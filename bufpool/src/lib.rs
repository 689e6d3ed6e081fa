//! Page-aligned packet buffers: one arena, many slots, one owner per slot.
//!
//! A slot is in exactly one place: the pool's free list, a [`Buf`], or a
//! [`Loan`] held by the kernel. Dropping a `Buf` recycles its slot; nothing is
//! allocated or reference-counted per packet. The crate knows nothing of
//! packets.
//!
//! Everything here is single-threaded by type: `Pool` and `Buf` are `!Send`.

mod arena;
mod cells;
mod pool;

pub use arena::{Arena, Hugepages};
pub use cells::Cells;
pub use pool::{Buf, Loan, Pool, PoolConfig};
