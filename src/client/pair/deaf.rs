//! Paths that nothing of the tunnel comes back over.
//!
//! The relay says nothing when a channel is gone. And there are networks that filter WireGuard and
//! let anything else through: probes are answered there, and no handshake ever is.

use std::time::Duration;

use super::machine::Pair;
use super::step::{Path, Step};
use super::tunnel::{DEAF_AFTER, Tunnel};
use crate::time::Moment;

/// A handshake that takes longer than this says that the channel is gone, or that WireGuard does not
/// pass where probes do.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// And so do hellos, which are answered at once.
const HELLO_WITHIN: Duration = Duration::from_secs(3);
/// No direct path is used for so long after WireGuard did not pass, and then for twice as long each time.
const MUTE_FIRST: Duration = Duration::from_secs(300);
const MUTE_MAX: Duration = Duration::from_secs(7200);

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
    pub(super) fn deaf_at(&self) -> Moment {
        let path = self.path;
        let is_there = |since| self.direct.as_ref().is_some_and(|it| it.answered_since(since));
        let counts = |since: &Moment| match path {
            Some(Path::Relay) => true,
            Some(Path::Direct(_)) => is_there(*since),
            None => false,
        };
        let after = |since: Option<Moment>, within| {
            since.filter(counts).map_or(Moment::NEVER, |since| since + within)
        };
        let direct = matches!(path, Some(Path::Direct(_)));
        let unheard = self.trust.unheard_since().filter(|_| direct);
        after(self.data_unanswered_since(), DEAF_AFTER)
            .min(after(self.initiating_since, HANDSHAKE_WITHIN))
            .min(after(unheard, HELLO_WITHIN))
    }

    /// The peer is there, and its probes say so; but only they pass.
    pub(super) fn shun_direct(&mut self, now: Moment) {
        let Some(mute) = self.direct.take() else { return };
        self.log.push(now, Step::PathMute(mute.address));
        let (_, times) = self.mute;
        let pause = MUTE_FIRST.saturating_mul(1 << times.min(8)).min(MUTE_MAX);
        self.mute = (now + pause, times + 1);
        (self.spare, self.initiating_since) = (None, None);
        self.repath(now);
        if self.path.is_some() && !self.established(now) {
            self.initiate_at = now;
        }
        self.recover(now);
    }

    /// Until when direct paths are not used, whatever probes say.
    pub(super) const fn mute_until(&self) -> Moment {
        self.mute.0
    }
}
