//! The send queues' configuration.

use tuning::{Name, Values};

use crate::egress::{ClassConfig, Config, Limits, Rate};

pub(super) fn config(values: &Values) -> Config {
    let class = |depth, weight, ttl| ClassConfig {
        depth: values.size(depth),
        weight: u32::try_from(values.number(weight)).expect("the registry keeps it below 65"),
        ttl: values.time_or_max(ttl),
    };
    let rate = |pps, bps| Rate {
        packets_per_s: values.number_or_word(pps),
        bits_per_s: values.number_or_word(bps),
    };
    Config {
        classes: [
            class(Name::QosControlDepth, Name::QosControlWeight, Name::QosControlTtl),
            class(
                Name::QosCoordinationDepth,
                Name::QosCoordinationWeight,
                Name::QosCoordinationTtl,
            ),
            class(Name::QosHintsDepth, Name::QosHintsWeight, Name::QosHintsTtl),
        ],
        limits: Limits {
            peer: rate(Name::LimitsPeerPps, Name::LimitsPeerBps),
            prefix: rate(Name::LimitsPrefixPps, Name::LimitsPrefixBps),
            ..Limits::default()
        },
        sessions_max: values.size(Name::WireguardSessionsMax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_modules_own() {
        let (ours, theirs) = (config(&Values::default()), Config::default());
        assert_eq!(ours.classes, theirs.classes);
        assert_eq!(ours.limits.peer, theirs.limits.peer);
        assert_eq!(ours.sessions_max, theirs.sessions_max);
    }
}
