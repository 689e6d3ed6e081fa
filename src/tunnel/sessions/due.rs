//! What time does to sessions: keepalives, path challenges, the end.

use super::Sessions;
use crate::ids::{SessionRef, WgKey};
use crate::net::Path;
use crate::time::{Moment, Now};
use crate::tunnel::challenge::{self, CHALLENGE_BYTES};
use crate::tunnel::session::Due;
use crate::tunnel::{DATA_OVERHEAD, Tunnel};

/// What a timer led to.
pub(super) enum Outcome {
    Sent(Path, usize),
    Ended(SessionRef, WgKey),
    Nothing,
}

impl<T: Tunnel> Sessions<T> {
    /// Sets the timer of a slot anew.
    pub(super) fn arm(&mut self, now: Moment, slot: u32) {
        let Some(tenant) = &mut self.slots[slot as usize].session else { return };
        tenant.armed = tenant.next(now, self.config.keepalive);
        self.wheel.set(slot, tenant.armed);
    }

    /// The timer of `slot` fired.
    pub(super) fn due(&mut self, now: Now, slot: u32, scratch: &mut [u8]) -> Outcome {
        let place = &mut self.slots[slot as usize];
        let Some(tenant) = &mut place.session else { return Outcome::Nothing };
        let session = SessionRef { slot, generation: place.generation };
        let outcome = match tenant.due(now.at, self.config.keepalive) {
            Due::End => {
                let key = *tenant.key();
                self.vacate(slot);
                return Outcome::Ended(session, key);
            }
            Due::Linger => {
                if !std::mem::replace(&mut place.listed, true) {
                    self.dying.push_back(slot);
                }
                Outcome::Nothing
            }
            Due::Challenge(token) => {
                let mut ping = [0; CHALLENGE_BYTES];
                let len = challenge::write(now, token, &mut ping);
                self.push(now, slot, &ping[..len], true, scratch)
            }
            Due::Keepalive => self.push(now, slot, &[], false, scratch),
            Due::Nothing => Outcome::Nothing,
        };
        self.arm(now.at, slot);
        outcome
    }

    /// Seals something of our own; a challenge goes out whatever came in.
    fn push(
        &mut self,
        now: Now,
        slot: u32,
        frame: &[u8],
        challenge: bool,
        scratch: &mut [u8],
    ) -> Outcome {
        let Some(tenant) = &mut self.slots[slot as usize].session else { return Outcome::Nothing };
        // Sent or not: the next one is due a whole interval later.
        tenant.sent(now.at);
        if tenant.charge(frame.len() + DATA_OVERHEAD).is_err() && !challenge {
            return Outcome::Nothing;
        }
        match self.engine.seal(slot, frame, scratch) {
            Ok(len) => {
                self.stats.challenges += u64::from(challenge);
                self.stats.keepalives_sent += u64::from(!challenge);
                Outcome::Sent(*tenant.path(), len)
            }
            Err(_) => {
                tenant.ring.clear();
                self.stats.keys_lost += 1;
                Outcome::Nothing
            }
        }
    }
}
