//! Page-aligned packet buffers: one arena, many slots, one owner per slot.
//!
//! A slot is in exactly one place: the pool's free stack, a [`Buf`], or a
//! [`Loan`] held by the kernel. Dropping a `Buf` recycles its slot; nothing is
//! allocated or reference-counted per packet. The crate knows nothing of
//! packets.
//!
//! Everything of a pool is single-threaded by type: `Pool`, `Buf` and `Loan`
//! are `!Send`.
//!
//! Beside it, [`Cells`]: counters in a mapped file, one writer, many readers; and
//! [`FileMap`]: a file to be read once.

mod arena;
mod buf;
mod cells;
mod file_map;
mod pool;

pub use arena::{Arena, Hugepages};
pub use buf::{Buf, Loan};
pub use cells::{Cells, CellsView};
pub use file_map::FileMap;
pub use pool::{Pool, PoolConfig};
