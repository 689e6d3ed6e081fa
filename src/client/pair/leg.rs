//! Our leg of a relay channel: its number, how long it holds, and when it is not needed any more.

use std::time::Duration;

use crate::time::Moment;
use crate::wire::channel::{Channel, HEADER_BYTES};

/// A channel that a direct path replaced is kept for so long: it costs nothing but a number.
const LINGER: Duration = Duration::from_secs(10);
/// Without a word of its lifetime a channel is taken to hold for so long.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    pub(super) channel: Channel,
    /// We allocated it, and so we refresh and close it.
    pub(super) ours: bool,
    pub(super) refresh_at: Moment,
    pub(super) ends_at: Moment,
    /// When it is to be closed, because there is something better.
    pub(super) close_at: Moment,
}

impl Leg {
    pub(super) fn new(now: Moment, channel: Channel, ours: bool, lifetime: Duration) -> Self {
        let lifetime = if lifetime.is_zero() { LIFETIME_DEFAULT } else { lifetime };
        let refresh_at = if ours { now + lifetime * 4 / 5 } else { Moment::NEVER };
        Self { channel, ours, refresh_at, ends_at: now + lifetime, close_at: Moment::NEVER }
    }

    /// A direct path is in use by both sides.
    pub(super) fn spare(&mut self, now: Moment) {
        if self.ours {
            self.close_at = self.close_at.min(now + LINGER);
        }
    }

    /// It is needed again.
    pub(super) const fn needed(&mut self) {
        self.close_at = Moment::NEVER;
    }

    /// When something is to be done.
    pub(super) fn next_deadline(&self) -> Moment {
        self.refresh_at.min(self.close_at).min(self.ends_at)
    }

    /// A WireGuard message as channel data.
    pub(super) fn wrap(&self, message: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_BYTES];
        let mut header = [0; HEADER_BYTES];
        self.channel.write(&mut header);
        datagram.copy_from_slice(&header);
        datagram.extend_from_slice(message);
        datagram
    }
}
