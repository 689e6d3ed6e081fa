//! Real shards, real sockets, real WireGuard: everything once per engine.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod alternate;
mod chaos;
mod fallback;
mod fleet;
mod full;
mod keeping;
mod lookup;
mod overlay;
mod protocol;
mod rebinding;
mod reflection;
mod restarts;
mod server;
mod sessions;
mod shards;
mod stock;
mod values;
