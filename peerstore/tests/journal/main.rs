//! The journal: what is queued arrives, what fails is said and mended, and nobody waits for it.

mod durability;
mod faults;
mod snapshots;
mod support;
mod thread;
