//! Relay and bootstrap server of a WireGuard-authenticated peer-to-peer overlay.
//!
//! Modules in reading order, by layer; each layer uses only those above it, and
//! state machines never use each other:
//!
//! * L0 values: [`time`], [`ids`], [`net`], [`limits`], [`drops`], [`wheel`], [`bucket`], [`partition`],
//!   [`wire`], [`signing`], [`admission`]
//! * L1 state machines: [`tunnel`], [`identity`], [`egress`], [`overlay`], [`rendezvous`], [`relay`]
//! * L2 composition: [`counters`], [`router`]
//! * L3 input and output: [`clock`], [`port`], [`shard`], [`config`], [`admin`], [`client`], [`cli`]
#![forbid(unsafe_code)]

pub mod admission;
pub mod bucket;
pub mod drops;
pub mod ids;
pub mod limits;
pub mod net;
pub mod partition;
pub mod signing;
pub mod time;
pub mod wheel;
pub mod wire;

pub mod egress;
pub mod identity;
pub mod overlay;
pub mod relay;
pub mod rendezvous;
pub mod tunnel;

pub mod counters;
pub mod router;

pub mod admin;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod port;
pub mod shard;
