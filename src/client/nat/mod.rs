//! What lies between us and a router: NAT behaviour in the words of RFC 4787, measured in the
//! manner of RFC 5780.
//!
//! [`Machine`] knows which test comes next and what it all means, and touches neither socket nor
//! clock; [`classify`] runs the tests. Mapping: one socket is seen by the router at both its ports,
//! and by another router. Filtering: a socket that spoke to the router alone gets probes from
//! elsewhere, or does not. Hairpin: two sockets try to meet outside. Lifetime: sockets stay silent
//! for longer and longer.
//!
//! Every session of a test has a key of its own and stays anonymous, so that none moves another.

mod machine;
mod report;
mod search;
mod survey;
mod wire;

pub use machine::{Machine, Seen, Test, Via};
pub use report::{Hairpin, Lifetime, Report};
pub use survey::{Plan, classify};
