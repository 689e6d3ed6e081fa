//! How a seed lets peers meet: what a relay gives, how often somebody asks for it.

use std::time::Duration;

use molia_router::relay::{Budget, Config};

use super::dice::Dice;

/// The whole draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairing {
    pub(crate) relay: Config,
    /// Between two wishes of all honest clients, on average.
    pub(crate) wish: Duration,
    /// Between two misdeeds of the hostile.
    pub(crate) conspiracy: Duration,
}

impl Pairing {
    /// Drawn apart, so that the rest of a world does not depend on it.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed ^ 0x2E1A);
        let long = seed % 3 == 2;
        let mut budget = |bits: std::ops::Range<u64>, burst: std::ops::Range<u64>| Budget {
            bits_per_s: Some(dice.within(bits)),
            burst_bytes: dice.within(burst),
        };
        let peer = budget(16_000..128_000, 2_000..12_000);
        let prefix = budget(40_000..300_000, 4_000..24_000);
        let router = budget(100_000..900_000, 8_000..48_000);
        let relay = Config {
            // More places than there are peers: nobody's debts are forgotten, and half of them are
            // never taken, from where on a network has no more than its share.
            channels_max: 400,
            channels_per_peer: u32::try_from(dice.within(3..9)).expect("few"),
            router,
            prefix,
            peer,
            idle: dice.millis(15_000..40_000),
            lifetime: dice.millis(30_000..120_000),
            waiting_max: dice.below(60) + 8,
            waiting_per_flow: u32::try_from(dice.within(2..32)).expect("few"),
            ..Config::default()
        };
        Self {
            relay,
            wish: dice.millis(if long { 700..1_500 } else { 150..500 }),
            conspiracy: dice.millis(if long { 1_500..3_000 } else { 300..1_000 }),
        }
    }
}
