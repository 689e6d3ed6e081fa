//! What the router knows of the peer behind a session.

use std::net::SocketAddr;

use crate::admission::repeats::Repeats;
use crate::bucket::TokenBucket;
use crate::ids::{PeerId, SessionRef};
use crate::limits;
use crate::partition::ShardSet;
use crate::rendezvous::{Behaviour, Nat};
use crate::time::Moment;
use crate::wire::body::IdentityBinding;

use super::records::Written;
use super::rendezvous::Asked;

/// What a peer agreed to and proved over one session.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    generation: u32,
    /// Agreed capability bits; none before NEGOTIATE.
    pub(super) capabilities: u64,
    /// Largest plaintext the peer takes, shim included.
    pub(super) max_msg_bytes: usize,
    pub(super) identity: Option<Bound>,
    /// What is left of the signature checks that the session may ask for.
    pub(super) verifications: Option<TokenBucket>,
    /// What became of the last writes.
    pub(super) writes: Option<Box<Repeats<Written>>>,
    /// What is left of the writes that the session may ask for.
    pub(super) writes_left: Option<TokenBucket>,
    /// What became of the last introductions that the session asked for.
    pub(super) introductions: Option<Box<Repeats<Asked>>>,
    /// What is left of those that it may ask for.
    pub(super) introductions_left: Option<TokenBucket>,
    /// What is left of the filter probes that the session may ask for.
    pub(super) probes_left: Option<TokenBucket>,
    /// Those that wait for their time.
    pub(super) probes_waiting: u8,
    /// What the peer last said of its NAT.
    pub(super) nat: Nat,
    /// Shards that hold relay channels of the peer.
    pub(super) legs: ShardSet,
    /// When they were last told where the session is.
    pub(super) legs_told: Moment,
    /// Whether they are to be told again.
    pub(super) restless: bool,
    /// What is left of the requests about channels that the session may make.
    pub(super) allocations_left: Option<TokenBucket>,
    /// What its rates in the relay are multiplied by.
    pub(super) factor: u8,
    /// The PING of the routing table that waits for its PONG.
    pub(super) liveness: Option<Liveness>,
    /// The address that the routing table has; none while the peer is not listed.
    pub(super) listed_at: Option<SocketAddr>,
    /// When the routing table last heard of the peer.
    pub(super) seen_at: Moment,
}

/// An identity a peer proved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) peer_id: PeerId,
    /// What proved it: the same binding again costs no signature check.
    pub(super) binding: IdentityBinding,
}

/// A PING on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    pub(super) correlation: u32,
    pub(super) token: u64,
}

impl Peer {
    const fn anonymous(generation: u32) -> Self {
        Self {
            generation,
            capabilities: 0,
            max_msg_bytes: limits::PLAINTEXT_BASE,
            identity: None,
            verifications: None,
            writes: None,
            writes_left: None,
            introductions: None,
            introductions_left: None,
            legs: ShardSet::EMPTY,
            legs_told: Moment::START,
            restless: false,
            allocations_left: None,
            factor: 1,
            probes_left: None,
            probes_waiting: 0,
            nat: Nat { mapping: Behaviour::Unknown, filtering: Behaviour::Unknown },
            liveness: None,
            listed_at: None,
            seen_at: Moment::START,
        }
    }

    /// Largest plaintext that may go to the peer, in bytes with the shim. A path carries the base
    /// size until a larger one was proven.
    pub(super) fn plaintext_limit(&self) -> usize {
        self.max_msg_bytes.min(limits::PLAINTEXT_BASE)
    }
}

/// One `Peer` per session slot, found by index.
#[derive(Debug)]
pub(super) struct Peers {
    slots: Vec<Peer>,
}

impl Peers {
    /// Memory of so many.
    pub(super) const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Peer>()
    }

    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: vec![Peer::anonymous(0); capacity] }
    }

    /// The peer behind `session`; anonymous again when the slot has a new tenant.
    pub(super) fn at(&mut self, session: SessionRef) -> &mut Peer {
        let peer = &mut self.slots[session.slot as usize];
        if peer.generation != session.generation {
            *peer = Peer::anonymous(session.generation);
        }
        peer
    }

    /// What the rates of the peer behind `session` are multiplied by in the relay.
    pub(super) fn factor(&self, session: SessionRef) -> u8 {
        let peer = self.slots.get(session.slot as usize);
        peer.filter(|peer| peer.generation == session.generation).map_or(1, |peer| peer.factor)
    }

    /// Slots.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The session that last used `slot`.
    pub(super) fn tenant(&self, slot: u32) -> Option<SessionRef> {
        let generation = self.slots.get(slot as usize)?.generation;
        Some(SessionRef { slot, generation })
    }
}
