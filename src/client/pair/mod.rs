//! Connections between two peers that a router introduced: punched straight through their NATs, or
//! relayed by it, and moved from the relay to a direct path while datagrams flow.
//!
//! * [`Endpoint`]: one node: its router session and its pairs, over one UDP socket's worth of
//!   datagrams. No socket, no clock: datagrams and `now` go in, datagrams and [`Event`]s come out.
//! * `pair`: one pair: `seek` asks the router, `attempt` punches, `direct` and `leg` are the paths,
//!   `tunnel` is the WireGuard tunnel that runs over whichever is the best, `packet` what is in it.
//! * [`Step`]: what was done and why.
//! * [`Node`]: the same over a socket.
//!
//! Invariants: the tunnel does not know the paths, so a change of path loses nothing. Nothing
//! of the application goes out or comes in before the other side proved inside the tunnel that its
//! key belongs to its peer id: the router is trusted to introduce, not to say who somebody is.

mod asking;
mod attempt;
mod blocking;
mod deaf;
mod direct;
mod endpoint;
mod leg;
mod machine;
mod packet;
mod seek;
mod step;
mod traffic;
mod tunnel;

use std::net::SocketAddr;
use std::time::Duration;

pub use blocking::{Node, Opened};
pub use endpoint::{Endpoint, Transmit};
pub use machine::Pair;
pub use packet::PAYLOAD_MAX;
pub use step::{Log, Origin, Path, Reason, Step};

use crate::ids::PeerId;

/// Who may connect to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Everybody.
    #[default]
    Everybody,
    /// These peers.
    Only(Vec<PeerId>),
    /// Whoever brings a consent token of ours.
    WithConsent,
    /// Nobody.
    Nobody,
}

/// How a node connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may connect to us.
    pub policy: Policy,
    /// Addresses of our own that the other side may try: those of the local network, and forwarded
    /// ports. The router adds the one that it sees.
    pub addresses: Vec<SocketAddr>,
    /// How our NAT maps and filters, if it was measured: 0 unknown, 1 endpoint-independent, 2 address-dependent,
    /// 3 address-and-port-dependent.
    pub nat_mapping: u32,
    /// See `nat_mapping`.
    pub nat_filtering: u32,
    /// How long our NAT keeps a mapping that is not used, if it was measured.
    pub mapping_lifetime: Option<Duration>,
    /// Whether to punch.
    pub punch: bool,
    /// Whether to use the relay.
    pub relay: bool,
    /// Give up on a pair that has no connection after this.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::Everybody,
            addresses: Vec::new(),
            nat_mapping: 0,
            nat_filtering: 0,
            mapping_lifetime: None,
            punch: true,
            relay: true,
            patience: Duration::from_secs(10),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The router knows who we are: pairs can be made.
    Ready,
    /// The router does not let us in, or is another one.
    Unready(Trouble),
    /// The peer is connected and proved who it is.
    Connected(PeerId, Path),
    /// Messages to the peer go another way from now on.
    Moved(PeerId, Path),
    /// A datagram of the peer.
    Received(PeerId, Vec<u8>),
    /// No connection came about, or it is gone for good.
    Failed(PeerId, Reason),
}

/// What is wrong with the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No handshake, or no answer.
    Silent,
    /// It asks for more work than we do.
    Price(u8),
    /// It says nothing of who it is.
    NoBinding,
    /// It does not prove who it is.
    Unproven(crate::identity::Refused),
    /// It is another one.
    WrongPeer {
        /// The link's.
        expected: PeerId,
        /// Who it is.
        found: PeerId,
    },
    /// Its answer does not parse.
    Malformed,
    /// It answered NEGOTIATE with this ERROR.
    Refused(crate::wire::code::Code),
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody asked to be connected with that peer.
    #[error("no connection with that peer was asked for")]
    Unknown,
    /// Longer than [`PAYLOAD_MAX`].
    #[error("longer than {PAYLOAD_MAX} bytes")]
    TooLong,
    /// Too many wait for the connection already.
    #[error("too many datagrams wait for the connection")]
    Full,
}

#[cfg(test)]
mod lab;
#[cfg(test)]
mod tests;
