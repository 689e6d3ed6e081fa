//! RELAY as both legs see it: channels, data, and what is refused or dropped.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod allocation;
mod data;
mod deny;
mod fair;
mod frugal;
mod known;
mod stock;
