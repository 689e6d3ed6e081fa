//! The commands as people run them: output, exit codes, and what is left on the disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "cli/place.rs"]
mod place;

#[path = "cli/asking.rs"]
mod asking;
#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/identity.rs"]
mod identity;
#[path = "cli/keeping.rs"]
mod keeping;
#[path = "cli/kills.rs"]
mod kills;
#[path = "cli/pairing.rs"]
mod pairing;
#[path = "cli/peerstore.rs"]
mod peerstore_tool;
#[path = "cli/running.rs"]
mod running;
