//! The configuration of sessions and of the admission in front of them.

use tuning::{Name, Values};

use crate::admission;
use crate::bucket::Rate;
use crate::tunnel::Config;

use super::settings::narrow;

/// What answering a handshake costs: one to learn the peer's key, one to answer it.
const HANDSHAKE_US: u64 = 244;
/// A rate that nobody reaches, for `max`.
const UNLIMITED_PPS: u32 = 1_000_000_000;

pub(super) fn config(values: &Values) -> Config {
    let keepalive = values.time(Name::WireguardKeepalive);
    Config {
        sessions_max: narrow(values, Name::WireguardSessionsMax),
        keepalive: (!keepalive.is_zero()).then_some(keepalive),
        handshakes_per_turn: handshakes(values.number(Name::WireguardHandshakeBudget)),
        admission: admission(values),
        ..Config::default()
    }
}

fn admission(values: &Values) -> admission::Config {
    let pps = |name| values.number_or_word(name).unwrap_or(UNLIMITED_PPS.into());
    let threshold = pps(Name::WireguardCookieThreshold);
    let prefix_pps = pps(Name::AdmissionPrefixPps);
    let address_burst = match values.number_or_word(Name::AdmissionAddressPps) {
        Some(_) => values.number(Name::AdmissionAddressBurst),
        None => UNLIMITED_PPS.into(),
    };
    admission::Config {
        cookie_threshold_pps: u32::try_from(threshold).unwrap_or(UNLIMITED_PPS),
        address: Rate::new(pps(Name::AdmissionAddressPps), address_burst),
        // A network may use its second at once: its addresses are limited one by one.
        prefix: Rate::new(prefix_pps, prefix_pps),
        table_entries: values.size(Name::AdmissionTableEntries),
        ..admission::Config::default()
    }
}

/// Handshakes that fit a turn's budget; one always does, or nobody would get in.
fn handshakes(budget_us: u64) -> u32 {
    u32::try_from(budget_us / HANDSHAKE_US).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuning::Layers;

    fn with(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        config(&Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap())
    }

    #[test]
    fn the_defaults_are_the_modules_own() {
        let (ours, theirs) = (with(&[]), Config::default());
        assert_eq!((ours.sessions_max, ours.keepalive), (theirs.sessions_max, theirs.keepalive));
        assert_eq!(ours.handshakes_per_turn, theirs.handshakes_per_turn);
        let (ours, theirs) = (ours.admission, theirs.admission);
        assert_eq!(ours.cookie_threshold_pps, theirs.cookie_threshold_pps);
        assert_eq!((ours.address, ours.prefix), (theirs.address, theirs.prefix));
        assert_eq!(ours.table_entries, theirs.table_entries);
    }

    #[test]
    fn zero_turns_keepalives_off_and_max_lifts_limits() {
        let config = with(&[
            "wireguard/keepalive_s=0",
            "admission/address_pps=max",
            "admission/prefix_pps=max",
            "wireguard/cookie_threshold_pps=max",
        ]);
        assert_eq!(config.keepalive, None);
        let unlimited = Rate::new(UNLIMITED_PPS.into(), UNLIMITED_PPS.into());
        assert_eq!((config.admission.address, config.admission.prefix), (unlimited, unlimited));
        assert_eq!(config.admission.cookie_threshold_pps, UNLIMITED_PPS);
    }

    #[test]
    fn a_turn_answers_what_its_budget_pays_for() {
        assert_eq!([50, 250, 1000, 100_000].map(handshakes), [1, 1, 4, 409]);
    }
}
