//! What who wants to see faults noticed has to know of the wire.

use std::net::SocketAddr;

use molia_router::net::{Local, Path};

use super::{Lane, Tap};

impl Tap {
    /// The path of somebody else who spoke to the same address of ours.
    pub(crate) fn stranger(&self, than: &Path) -> Option<Path> {
        let other =
            |(peer, local): &(&SocketAddr, &Local)| **peer != than.peer && **local == than.local;
        self.locals.iter().find(other).map(|(&peer, &local)| Path { peer, local })
    }

    /// Another proven address of the peer that this client's index belongs to.
    pub(crate) fn former(&self, index: u32, than: &SocketAddr) -> Option<Path> {
        let owner = self.keys.get(&index)?.owner;
        let mut accounts = self.accounts.iter();
        let former =
            accounts.find(|((of, addr), account)| *of == owner && addr != than && account.proven);
        let ((_, addr), _) = former?;
        Some(Path { peer: *addr, local: *self.locals.get(addr)? })
    }

    /// What a client's key is spoken to with, by the client's index.
    pub(crate) fn lane_to(&self, index: u32) -> Option<&Lane> {
        self.keys.get(&index).map(|key| &key.from_router)
    }
}
