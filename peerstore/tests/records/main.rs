//! The record layer: layouts, frames, headers, and what damage does to them.

mod allocations;
mod damage;
mod golden;
mod header;
mod properties;
mod samples;
