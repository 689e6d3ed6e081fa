//! Where a new session finds a place, and who has to go for it when all are taken.
//!
//! One network must not lock all others out, whatever rates it is allowed: a newcomer that finds
//! no place takes one from the network that holds the most, if that leaves the other one no
//! worse off than the newcomer's own. There, whoever has been silent for longest goes, and first of
//! all who never confirmed its handshake. Networks are counted by where sessions began, since an
//! endpoint can be moved to a forged address before it is proven.
//!
//! * In its own network, a newcomer takes the place of who never confirmed its handshake: forged
//!   initiations in a network's name do not lock that network out.
//! * Only who has shown a cookie may take a place from somebody: a forger of many networks'
//!   addresses would otherwise put live sessions out with initiations that never go on.
//! * The most crowded network is found by drawing [`SAMPLES`] sessions, so a network is drawn as
//!   often as it has sessions. Exact lists of networks by size, each with its sessions by age,
//!   would have to be kept in order by every datagram; this costs the data path one store. A
//!   network with an eighth of the table is missed once in 70 times. Another crowded one pays
//!   then, or the newcomer is told that the table is full and tries again.

use std::cmp::Reverse;

use rand_core::RngCore;

use super::{EVICTIONS_MAX, Sessions, Slot};
use crate::admission::Standing;
use crate::drops::Drop;
use crate::ids::SessionRef;
use crate::net::Prefix;
use crate::time::Moment;
use crate::tunnel::Tunnel;

/// Sessions drawn to find who has to go.
const SAMPLES: usize = 32;

/// What there is for a new session.
#[derive(Debug)]
pub(super) enum Place {
    Slot(u32),
    /// Somebody else's, for who shows that it receives at its address.
    ForProof,
}

impl<T: Tunnel> Sessions<T> {
    /// A slot for a new session from `network`: one that is free, one never used, one whose tenant
    /// is dead, one of a more crowded network.
    pub(super) fn place(
        &mut self,
        now: Moment,
        standing: Standing,
        network: &Prefix,
    ) -> Result<Place, Drop> {
        if let Some(slot) = self.vacant(now) {
            return Ok(Place::Slot(slot));
        }
        let room = self.evicted.len() < EVICTIONS_MAX;
        let slot = self.crowded(network).filter(|_| room).ok_or(Drop::SessionsFull)?;
        if standing != Standing::Shown {
            return Ok(Place::ForProof);
        }
        self.stats.displaced += 1;
        self.evict(slot);
        self.free.pop().map(Place::Slot).ok_or(Drop::SessionsFull)
    }

    fn vacant(&mut self, now: Moment) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() < self.capacity() {
            // Another one in every life of the shard: mail for a session of the last one may be
            // under way still.
            let generation = self.rng.next_u32();
            self.slots.push(Slot { generation, ..Slot::default() });
            return u32::try_from(self.slots.len() - 1).ok();
        }
        while self.evicted.len() < EVICTIONS_MAX {
            let slot = self.dying.pop_front()?;
            let place = &mut self.slots[slot as usize];
            place.listed = false;
            if place.session.as_ref().is_some_and(|tenant| tenant.dead(now)) {
                self.evict(slot);
                return self.free.pop();
            }
        }
        None
    }

    /// The session that has to go for one of `network`, if any has to.
    fn crowded(&mut self, network: &Prefix) -> Option<u32> {
        // Then it has no less than the newcomer's network with the newcomer.
        let fair = self.networks.count(network) + 1;
        let (mut first, mut own) = (None, None);
        for _ in 0..SAMPLES {
            let draw = (u64::from(self.rng.next_u32()) * self.slots.len() as u64) >> 32;
            let slot = u32::try_from(draw).unwrap_or(0);
            let Some(tenant) = &self.slots[slot as usize].session else { continue };
            let held = self.networks.count(tenant.network());
            if held > fair {
                first = first.max(Some((held, Reverse(tenant.heard()), slot)));
            } else if tenant.network() == network && tenant.heard() == Moment::START {
                own = Some(slot);
            }
        }
        first.map(|(_, _, slot)| slot).or(own)
    }

    /// Empties a slot; [`poll`](Self::poll) reports it.
    fn evict(&mut self, slot: u32) {
        let place = &self.slots[slot as usize];
        if let Some(tenant) = &place.session {
            let session = SessionRef { slot, generation: place.generation };
            self.evicted.push_back((session, *tenant.key()));
        }
        self.vacate(slot);
    }
}
