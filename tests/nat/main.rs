//! The laboratory's own behaviour, and the real program between every pair of NAT behaviours.
//!
//! Where network namespaces cannot be had, the tests say on stderr what is missing and pass;
//! with `MOLIA_REQUIRE_LAB` set they fail instead.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../lab/mod.rs"]
mod lab;

mod behaviours;
mod classification;
mod events;
mod grid;
mod holes;
mod housekeeping;
mod matrix;
mod prober;
mod product;
mod rebinding;
mod stock;
