//! The wire protocol's bytes: the page's layout, and the borrowed readers and
//! direct writers against the types generated from the schema.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "codec/addresses.rs"]
mod addresses;
#[path = "codec/agreement.rs"]
mod agreement;
#[path = "codec/allocations.rs"]
mod allocations;
#[path = "codec/chunks.rs"]
mod chunks;
#[path = "codec/golden.rs"]
mod golden;
#[path = "codec/golden_paired.rs"]
mod golden_paired;
#[path = "codec/oracle.rs"]
mod oracle;
#[path = "codec/order.rs"]
mod order;
#[path = "codec/paired.rs"]
mod paired;
#[path = "codec/refusals.rs"]
mod refusals;
#[path = "codec/refusals_paired.rs"]
mod refusals_paired;
#[path = "codec/shim.rs"]
mod shim;
#[path = "codec/slices.rs"]
mod slices;
#[path = "codec/stored.rs"]
mod stored;
#[path = "codec/values.rs"]
mod values;
