//! Plain STUN, for clients that speak nothing else; off unless `reflect/stun` is set.
//!
//! Nobody proves anything here, so every address has a small budget, and an answer is hardly longer
//! than what it answers.

use crate::bucket::{BucketTable, Keyed, Rate};
use crate::drops::Drop;
use crate::net::{Outlet, Path, host_network};
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::stun::Request;

use super::Router;

/// Requests of one address.
const ASKED: Rate = Rate::new(5, 20);
/// Addresses that are counted apart.
const ADDRESSES: usize = 4096;

/// What is left of the requests of every address. A network of IPv6 counts as one: its hosts have
/// as many addresses as they like.
pub(super) type Budget = BucketTable<[u8; 16]>;

/// Who answers nothing needs no room to count.
pub(super) fn budget(answers: bool, keyed: Keyed) -> Budget {
    BucketTable::new(if answers { ADDRESSES } else { 1 }, ASKED, keyed)
}

impl<T: Tunnel> Router<T> {
    /// Takes a datagram that begins as a Binding request.
    pub(super) fn stun(&mut self, now: Now, path: &Path, bytes: &[u8], outlet: &mut impl Outlet) {
        let counters = &self.outbox.counters;
        if !self.config.stun {
            return counters.drop(Drop::Stun);
        }
        if !self.stun_budget.take(now.at, &host_network(path.peer.ip()), 1) {
            return counters.drop(Drop::StunRate);
        }
        let Ok(request) = Request::read(bytes) else {
            return counters.drop(Drop::StunMalformed);
        };
        counters.stun_answered();
        self.outbox.send_raw(*path, &request.answer(path.peer), outlet);
    }
}
