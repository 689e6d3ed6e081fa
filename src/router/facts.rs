//! What the router learns of its peers' NATs, and what it makes of it.

use std::num::NonZeroU16;

use crate::ids::{PeerId, SessionRef, WgKey};
use crate::rendezvous::{Behaviour, Facts, Nat};
use crate::time::Now;
use crate::tunnel::Tunnel;

use super::Router;
use super::journal::Note;

impl<T: Tunnel> Router<T> {
    /// A session has an identity: what is known of its NAT from before holds until it says otherwise.
    pub(super) fn recall_nat(&mut self, session: SessionRef) {
        let Some(key) = self.sessions.session(session).map(|tenant| *tenant.key()) else { return };
        let Some(known) = self.facts.find(&key) else { return };
        self.peers.at(session).nat = known.nat;
        self.sessions.set_keepalive(session, known.keepalive());
    }

    /// What a peer says of its NAT; what it does not say stays as it was. Returns what is known now.
    pub(super) fn told_of_nat(&mut self, now: Now, session: SessionRef, said: Nat) -> Nat {
        self.learn(now, session, said, None);
        self.peers.at(session).nat
    }

    /// Its session came back from another port of the same address after some silence: that is how
    /// long its mapping did not last.
    pub(super) fn mapping_lapsed(&mut self, now: Now, session: SessionRef) {
        let silent = self.sessions.session_mut(session).and_then(|it| it.take_lapse());
        let Some(silent) = silent else { return };
        let seconds = u16::try_from(silent.as_secs()).ok().and_then(NonZeroU16::new);
        self.learn(now, session, Nat::default(), seconds);
    }

    fn learn(&mut self, now: Now, session: SessionRef, nat: Nat, lapsed: Option<NonZeroU16>) {
        let unknown = nat.mapping == Behaviour::Unknown && nat.filtering == Behaviour::Unknown;
        let Some(bound) = self.peers.at(session).identity else { return };
        if unknown && lapsed.is_none() {
            return;
        }
        let (peer, key) = (bound.peer_id, bound.binding.x25519_public);
        let observed_unix_s = now.unix_s();
        let news = Facts { peer, key, nat, lapsed_after_s: lapsed, observed_unix_s };
        if self.facts.learn(&news) {
            self.journal.note(Note::Facts(key));
        }
        self.recall_nat(session);
    }

    pub(super) fn restore_facts(&mut self, facts: &peerstore::record::PathFacts) -> bool {
        use peerstore::record::NatBehaviour as Stored;
        let behaviour = |stored| match stored {
            None => Behaviour::Unknown,
            Some(Stored::EndpointIndependent) => Behaviour::EndpointIndependent,
            Some(Stored::AddressDependent) => Behaviour::AddressDependent,
            Some(Stored::AddressAndPortDependent) => Behaviour::AddressAndPortDependent,
        };
        let nat = Nat { mapping: behaviour(facts.mapping), filtering: behaviour(facts.filtering) };
        self.facts.learn(&Facts {
            peer: PeerId(facts.host.peer_id.0),
            key: WgKey(facts.host.wireguard.0),
            nat,
            lapsed_after_s: facts.mapping_lifetime_s,
            observed_unix_s: facts.observed_unix_s,
        })
    }
}
