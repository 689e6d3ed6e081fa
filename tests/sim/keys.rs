//! The keys of a session, and what comes over it that the client library passes over.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use molia_router::tunnel::plain;
use molia_router::wire::{self, Kind};

/// What a router sends that nobody asked for.
pub(crate) const NOTICES: &[Kind] =
    &[Kind::RendezvousNotify, Kind::RelayOffer, Kind::RelayStatus, Kind::RelayClose];

/// The keys of a session, beside the client library that has them.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) peer: plain::Peer,
    /// Frames that the library would refuse.
    pub(crate) notices: VecDeque<Vec<u8>>,
}

pub(crate) type Side = Rc<RefCell<Keys>>;

/// Both, of a new session.
pub(crate) fn side(peer: plain::Peer) -> Side {
    Rc::new(RefCell::new(Keys { peer, notices: VecDeque::new() }))
}

impl Keys {
    /// Whether a plaintext is a notice, which is kept.
    pub(crate) fn keeps(&mut self, plaintext: &[u8]) -> bool {
        let Ok(frame) = wire::open(plaintext) else { return false };
        let (_, header, _) = wire::split(frame);
        let is = NOTICES.iter().any(|kind| kind.id() == header.kind);
        if is {
            self.notices.push_back(plaintext.to_vec());
        }
        is
    }
}
