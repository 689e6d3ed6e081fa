//! The client: what every tool and test uses to talk to a router.
//!
//! * [`link`]: the `molia://` link, all that is needed to reach a router.
//! * [`peer`]: one router without socket or clock: a [`session`] over some
//!   [`session::Initiator`] ([`wireguard`], or the simulator's), and [`requests`]
//!   with timeouts ([`rtt`]), a retry, and chunks put together ([`assembly`]).
//! * [`Client`]: the same over a UDP socket, one call at a time; [`values`] has what is stored.
//! * [`lookup`]: the walk from node to node towards an id or a key; [`crowd`]: sessions with many
//!   nodes, and lookups over them; [`Swarm`]: the same over a UDP socket.
//! * [`pair`]: connections with other peers, punched or relayed.
//! * [`nat`]: what lies between us and a router.
//!
//! The client allocates freely; it shares the wire codec with the router, not
//! its packet path.

pub mod assembly;
mod blocking;
mod calls;
pub mod cookie;
pub mod crowd;
pub mod error;
#[cfg(test)]
mod fake;
mod introduction;
pub mod link;
pub mod lookup;
pub mod nat;
pub mod pair;
pub mod peer;
mod ports;
pub mod requests;
pub mod rtt;
pub mod session;
pub mod swarm;
pub mod values;
pub mod wireguard;

pub use blocking::{Client, Options};
pub use calls::{Agreement, Found, Pinged, Reflection};
pub use error::Error;
pub use link::Link;
pub use ports::PortGrant;
pub use swarm::Swarm;
pub use values::{FoundValue, OwnedProvider, OwnedRecord, Written};

#[cfg(test)]
mod tests;
