//! The configuration of relaying.

use tuning::{Name, Values};

use crate::relay::stock::Ports;
use crate::relay::{Budget, Config};
use crate::router::Role;

/// The relay of one of `shards` shards: each has an equal share of the line, and the same rates for
/// its peers and networks.
pub(super) fn config(values: &Values, shards: u16) -> Config {
    let percent = values.number(Name::RelayPercent);
    let line = values.number(Name::RelayCapacity) / 100 * percent;
    let share = line / u64::from(shards.max(1));
    let burst_bytes = values.number(Name::RelayPeerBurst);
    let limit = |name| Budget { bits_per_s: values.number_or_word(name), burst_bytes };
    let defaults = Config::default();
    Config {
        channels_max: values.size(Name::RelayChannelsMax),
        channels_per_peer: super::settings::narrow(values, Name::RelayChannelsPerPeer),
        router: Budget { bits_per_s: Some(share), ..defaults.router },
        prefix: Budget { burst_bytes: 4 * burst_bytes, ..limit(Name::RelayPrefixBps) },
        peer: limit(Name::RelayPeerBps),
        lifetime: values.time(Name::RelayLifetime),
        idle: values.time(Name::RelayIdle),
        ..defaults
    }
}

/// The ports for unmodified WireGuard peers; none unless it relays.
pub(super) fn stock(values: &Values) -> Ports {
    if role(values) != Role::Relay {
        return Ports::NONE;
    }
    let first = super::settings::narrow(values, Name::RelayStockFirst);
    Ports::new(first, super::settings::narrow(values, Name::RelayStockPorts))
}

/// The router's role, without relaying if nothing of the line is given to it.
pub(super) fn role(values: &Values) -> Role {
    match super::overlay::role(values) {
        Role::Relay if values.number(Name::RelayPercent) == 0 => Role::Route,
        role @ (Role::Boot | Role::Route | Role::Relay) => role,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_modules_own() {
        assert_eq!(config(&Values::default(), 1), Config::default());
        assert_eq!(role(&Values::default()), Role::Relay);
        assert_eq!(stock(&Values::default()).count(), 0);
    }

    #[test]
    fn shards_share_the_line() {
        let four = config(&Values::default(), 4);
        assert_eq!(four.router.bits_per_s, Some(25_000_000));
        assert_eq!(four.peer, Config::default().peer);
    }
}
