//! Paths that nothing of the tunnel comes back over.
//!
//! The relay says nothing when a channel is gone. And there are networks that filter WireGuard and
//! let anything else through: probes are answered there, and no handshake ever is. So a pair that is
//! connected over the relay tries a direct path with messages of the tunnel before it moves there.

use std::time::Duration;

use super::machine::Pair;
use super::step::{Path, Step};
use super::traffic::Via;
use super::tunnel::{DEAF_AFTER, Tunnel};
use crate::time::Moment;

/// A handshake that takes longer than this says that the channel is gone, or that WireGuard does not
/// pass where probes do.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// And so do hellos, which are answered at once.
const HELLO_WITHIN: Duration = Duration::from_secs(3);
/// Whoever sends over the relay for so long, and not direct, has left the direct path.
const FOLLOW_AFTER: Duration = Duration::from_secs(3);
/// Without the relay, a direct path that WireGuard did not pass is not used for so long.
const MUTE_FOR: Duration = Duration::from_secs(60);

impl Pair {
    /// Since when something of the tunnel has had no answer: data, a handshake, hellos.
    pub(super) fn unanswered_since(&self) -> Option<Moment> {
        let since = [self.data_unanswered_since(), self.initiating_since];
        since.into_iter().flatten().chain(self.trust.unheard_since()).min()
    }

    fn data_unanswered_since(&self) -> Option<Moment> {
        self.tunnel.as_ref().and_then(Tunnel::unanswered_since)
    }

    /// When a path that nothing of the tunnel comes back over is taken for useless: a channel that is
    /// gone, or an address from which probes are answered all the while.
    pub(super) fn deaf_at(&self, now: Moment) -> Moment {
        let after =
            |since: Option<Moment>, within| since.map_or(Moment::NEVER, |since| since + within);
        let (data, handshake) = (self.data_unanswered_since(), self.initiating_since);
        match (self.path, &self.direct) {
            (Some(Path::Relay), _) => {
                after(data, DEAF_AFTER).min(after(handshake, HANDSHAKE_WITHIN))
            }
            (Some(Path::Direct(_)), Some(direct)) if self.may_be_relayed(now) => {
                let there = |since: &Moment| direct.answered_since(*since);
                let hello = self.trust.unheard_since().filter(there);
                after(hello, HELLO_WITHIN).min(after(handshake.filter(there), HANDSHAKE_WITHIN))
            }
            _ => Moment::NEVER,
        }
    }

    /// When a direct path is asked whether the tunnel still passes: that data has no answer may be
    /// a loss.
    pub(super) fn ask_at(&self) -> Moment {
        let direct = matches!(self.path, Some(Path::Direct(_)));
        let data = self.data_unanswered_since().filter(|_| direct);
        data.map_or(Moment::NEVER, |since| since + DEAF_AFTER)
    }

    /// Hellos, until one is answered.
    pub(super) fn ask(&mut self, now: Moment) {
        self.tunnel.iter_mut().for_each(Tunnel::rerouted);
        if self.established(now) {
            self.trust.ask(now);
        }
    }

    /// The peer is there, and its probes say so; but only they pass.
    pub(super) fn shun_direct(&mut self, now: Moment) {
        let Some(mute) = self.direct.take() else { return };
        self.log.push(now, Step::PathMute(mute.address));
        self.mute_until = now + MUTE_FOR;
        self.spare = None;
        self.repath(now);
        if self.path.is_some() && !self.established(now) {
            self.initiate_at = now;
        }
        self.recover(now);
    }

    /// Something authentic came by that way: while there is the relay, a direct path is used when the
    /// peer uses it, since probes do not show that WireGuard passes there.
    pub(super) fn follow(&mut self, now: Moment, via: Via) {
        let Some(direct) = &mut self.direct else { return };
        match via {
            Via::Direct(from) if direct.address == from => {
                direct.heard();
                self.relayed_since = None;
            }
            Via::Direct(_) => {}
            Via::Relay(_) => {
                let since = *self.relayed_since.get_or_insert(now);
                direct.used_by_peer &= now.since(since) < FOLLOW_AFTER;
            }
        }
        self.repath(now);
    }

    /// Shows the peer a direct path that it does not use, if it is on trial.
    pub(super) fn try_direct(&mut self, now: Moment) {
        let Some(direct) = self.direct.as_ref().filter(|it| !it.used_by_peer) else { return };
        let address = direct.address;
        if self.path == Some(Path::Relay)
            && let Some(tunnel) = &mut self.tunnel
            && let Some(message) = tunnel.seal(now, &[])
        {
            self.out.push_back((address, message));
        }
    }
}
