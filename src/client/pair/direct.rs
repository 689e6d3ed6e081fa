//! A path straight to the peer, and whether it still works.
//!
//! Probes of the attempt that found it keep the NATs' mappings, and their answers say that it is
//! alive both ways. When data stays unanswered a probe asks
//! at once, and the path is dead when several in a row are not answered.

use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Moment;

/// Pause between probes whose answer is missing.
const MISSED_PAUSE: Duration = Duration::from_millis(400);
/// So many of them, and the path is dead.
const MISSES_MAX: u32 = 5;
/// Data that was not answered for so long is a reason to ask.
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// Probes that show the path to a peer that does not use it yet, and their pause.
const SHOWN_MAX: u32 = 20;
const SHOW_PAUSE: Duration = Duration::from_millis(500);

const CADENCE_DEFAULT: Duration = Duration::from_secs(20);
const CADENCE_MIN: Duration = Duration::from_secs(15);
const CADENCE_MAX: Duration = Duration::from_secs(25);
/// How much it grows with every answer.
const CADENCE_STEP: Duration = Duration::from_secs(1);
/// Below this a mapping costs more than it is worth.
const CADENCE_FLOOR: Duration = Duration::from_secs(2);

/// How often an idle path is used, so that no NAT forgets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    pause: Duration,
    most: Duration,
}

impl Cadence {
    /// For NATs that forget after `lifetime`, if that was measured: half of it leaves room for a loss.
    pub(super) fn new(lifetime: Option<Duration>) -> Self {
        let most = lifetime.map_or(CADENCE_MAX, |lifetime| (lifetime / 2).min(CADENCE_MAX));
        let most = most.max(CADENCE_FLOOR);
        Self { pause: CADENCE_DEFAULT.min(most), most }
    }

    pub(super) const fn pause(&self) -> Duration {
        self.pause
    }

    fn kept(&mut self) {
        self.pause = (self.pause + CADENCE_STEP).min(self.most);
    }

    /// A path died: perhaps it was used too seldom.
    pub(super) fn lost(&mut self) {
        let shorter = if self.pause > CADENCE_MIN { CADENCE_MIN } else { self.pause / 2 };
        self.pause = shorter.max(CADENCE_FLOOR).min(self.most);
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A probe.
    Probe,
    /// Nothing comes back.
    Dead,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) address: SocketAddr,
    /// The attempt whose secret its probes use.
    pub(super) attempt: [u8; 8],
    pub(super) rtt: Duration,
    /// The peer sends over it too.
    pub(super) used_by_peer: bool,
    /// Where the peer has come from since, other than by this path.
    moved_to: Option<SocketAddr>,
    probe_at: Moment,
    probed_at: Moment,
    /// When a probe was answered last.
    answered_at: Moment,
    misses: u32,
    shown: u32,
}

impl Direct {
    pub(super) fn new(now: Moment, address: SocketAddr, attempt: [u8; 8], rtt: Duration) -> Self {
        let probe_at = now + SHOW_PAUSE;
        Self {
            address,
            attempt,
            rtt,
            used_by_peer: false,
            moved_to: None,
            probe_at,
            probed_at: now,
            answered_at: now,
            misses: 0,
            shown: 0,
        }
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self, now: Moment, rtt: Duration, cadence: &mut Cadence) {
        cadence.kept();
        self.rtt = rtt;
        self.answered_at = now;
        self.alive(now, cadence);
    }

    /// Something authentic came over it. That says nothing of the other direction.
    pub(super) const fn heard(&mut self) {
        self.used_by_peer = true;
    }

    /// Something authentic came from another address. A peer that used this path has left it, as
    /// when its NAT gave it another port; of one that never did, each side would follow the other.
    pub(super) const fn heard_elsewhere(&mut self, from: SocketAddr) {
        if self.used_by_peer {
            self.moved_to = Some(from);
        }
    }

    /// Whether the peer left this path for that address.
    pub(super) fn was_left_for(&self, address: SocketAddr) -> bool {
        self.moved_to == Some(address)
    }

    fn alive(&mut self, now: Moment, cadence: &Cadence) {
        self.misses = 0;
        let show = !self.used_by_peer && self.shown < SHOWN_MAX;
        self.probe_at = if show { now + SHOW_PAUSE } else { self.probed_at + cadence.pause() };
    }

    /// Whether a probe was answered after that.
    pub(super) fn answered_since(&self, since: Moment) -> bool {
        self.answered_at > since
    }

    /// Whether probes are missing their answers.
    pub(super) const fn is_suspect(&self) -> bool {
        self.misses > 1
    }

    /// What is due; a probe is taken for sent. `unanswered_since` is when the first of the
    /// tunnel was sent that nothing has come back for.
    pub(super) fn poll(&mut self, now: Moment, unanswered_since: Option<Moment>) -> Option<Due> {
        if now < self.next_deadline(unanswered_since) {
            return None;
        }
        if self.misses >= MISSES_MAX {
            return Some(Due::Dead);
        }
        self.misses += 1;
        self.shown += 1;
        self.probed_at = now;
        self.probe_at = now + MISSED_PAUSE;
        Some(Due::Probe)
    }

    /// When [`Direct::poll`] has something to do next.
    pub(super) fn next_deadline(&self, unanswered_since: Option<Moment>) -> Moment {
        let suspect = |since: Moment| since.max(self.probed_at) + SUSPECT_AFTER;
        self.probe_at.min(unanswered_since.map_or(Moment::NEVER, suspect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    fn at(ms: u64) -> Moment {
        Moment::START + Duration::from_millis(ms)
    }

    #[test]
    fn silence_is_death_and_an_answer_is_life() {
        let mut cadence = Cadence::new(None);
        let mut direct = Direct::new(at(0), ADDRESS, [0; 8], Duration::ZERO);
        direct.heard();
        let mut probes = 0;
        let died = loop {
            let now = direct.next_deadline(None);
            match direct.poll(now, None) {
                Some(Due::Probe) if probes == 0 => {
                    probes += 1;
                    direct.answered(now, Duration::ZERO, &mut cadence);
                }
                Some(Due::Probe) => probes += 1,
                Some(Due::Dead) => break now,
                None => panic!("a deadline with nothing due"),
            }
        };
        assert_eq!((probes, died), (6, at(500 + 21_000 + 5 * 400)));
    }

    #[test]
    fn unanswered_data_asks_at_once_but_not_all_the_time() {
        let mut cadence = Cadence::new(None);
        let mut direct = Direct::new(at(0), ADDRESS, [0; 8], Duration::ZERO);
        direct.heard();
        direct.answered(at(1), Duration::ZERO, &mut cadence);
        assert_eq!(direct.poll(at(5000), Some(at(3501))), None);
        assert_eq!(direct.poll(at(5001), Some(at(3501))), Some(Due::Probe));
        direct.answered(at(5002), Duration::ZERO, &mut cadence);
        assert_eq!(direct.poll(at(6000), Some(at(3501))), None);
    }

    #[test]
    fn a_peer_is_followed_from_a_path_that_it_used() {
        let elsewhere = SocketAddr::new(ADDRESS.ip(), 8);
        let mut direct = Direct::new(at(0), ADDRESS, [0; 8], Duration::ZERO);
        direct.heard_elsewhere(elsewhere);
        assert!(!direct.was_left_for(elsewhere));
        direct.heard();
        direct.heard_elsewhere(elsewhere);
        // What was under way the old way changes nothing.
        direct.heard();
        assert!(direct.was_left_for(elsewhere) && !direct.was_left_for(ADDRESS));
    }

    #[test]
    fn the_cadence_follows_the_mapping() {
        let mut cadence = Cadence::new(None);
        (0..30).for_each(|_| cadence.kept());
        assert_eq!(cadence.pause(), CADENCE_MAX);
        cadence.lost();
        assert_eq!(cadence.pause(), CADENCE_MIN);
        cadence.lost();
        assert!(cadence.pause() < CADENCE_MIN);
        assert_eq!(Cadence::new(Some(Duration::from_secs(20))).pause(), Duration::from_secs(10));
        assert_eq!(Cadence::new(Some(Duration::from_secs(1))).pause(), CADENCE_FLOOR);
    }
}
