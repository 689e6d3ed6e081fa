//! What a seed decides about values: who is promised what, and what the disk does to it.

use std::time::Duration;

use molia_router::router::{Config, Keeping};
use peerstore::journal::Durability;

use super::dice::Dice;

/// The whole draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) keeping: Keeping,
    /// Leading zero bits of a write's stamp.
    pub(crate) stamp_bits: u32,
    pub(crate) providers_per_key: usize,
    /// Between two wishes of a client, on average.
    pub(crate) wish: Duration,
    /// Between two failures of the disk; zero for never, as everywhere here.
    pub(crate) failure: Duration,
    pub(crate) failure_max: Duration,
    /// Between two ends of the machine or the process.
    pub(crate) end: Duration,
    /// Shares of those ends, in permille: the power goes; the process is killed; else it stops.
    pub(crate) power: u64,
    pub(crate) killed: u64,
    /// Of them, those behind which there is another number of shards.
    pub(crate) divided: u64,
    pub(crate) ring_bytes: usize,
    pub(crate) sync_interval: Duration,
    pub(crate) batch_interval: Duration,
    /// How long the disk takes.
    pub(crate) latency: Duration,
    /// Times in a thousand that it takes longer, and how long at most.
    pub(crate) slow: u64,
    pub(crate) slow_max: Duration,
    pub(crate) files: peerstore::Config,
}

impl Keep {
    /// Drawn apart, so that the rest of a world does not depend on it.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed ^ 0xD15C);
        let keeping = match seed % 8 {
            0 | 3 | 5 | 6 => Keeping::Strict,
            1 | 4 | 7 => Keeping::Store,
            _ => Keeping::Memory,
        };
        let long = seed % 3 == 2;
        let fails = dice.permille(700);
        let ends = seed < 4 || dice.permille(700);
        Self {
            keeping,
            stamp_bits: if dice.permille(300) { *dice.pick(&[1, 4, 6]) } else { 0 },
            providers_per_key: *dice.pick(&[2, 4, 64]),
            wish: dice.millis(if long { 12_000..25_000 } else { 3_000..8_000 }),
            failure: if fails { dice.millis(5_000..25_000) } else { Duration::ZERO },
            failure_max: dice.millis(100..9_000),
            end: match ends {
                true => dice.millis(if long { 20_000..80_000 } else { 5_000..20_000 }),
                false => Duration::ZERO,
            },
            power: dice.within(300..800),
            killed: dice.within(100..700),
            divided: if dice.permille(500) { 300 } else { 0 },
            ring_bytes: *dice.pick(&[3 << 10, 8 << 10, 32 << 10, 128 << 10]),
            sync_interval: dice.millis(5..1_000),
            batch_interval: dice.millis(1..500),
            latency: dice.micros(20..5_000),
            slow: dice.within(0..60),
            slow_max: dice.millis(50..7_000),
            files: peerstore::Config {
                batch_bytes: *dice.pick(&[1 << 10, 8 << 10]),
                reserve_bytes: *dice.pick(&[512, 4 << 10, 16 << 10]),
                compact_log_bytes: *dice.pick(&[2 << 10, 8 << 10, 64 << 10]),
                compact_dead_percent: 50,
                sync_bytes: *dice.pick(&[2 << 10, 16 << 10]),
            },
        }
    }

    /// Makes a router's settings of it.
    pub(crate) fn settle(&self, config: &mut Config) {
        config.records.keeping = self.keeping;
        config.records.stamp_bits = self.stamp_bits;
        config.records.table.providers_per_key = self.providers_per_key;
        // Room for all that is said here; more is memory that each life has to be given.
        config.records.table.values.total.entries = 4096;
        config.records.table.providers.total.entries = 4096;
    }

    pub(crate) fn durability(&self) -> Durability {
        if self.keeping == Keeping::Strict { Durability::Strict } else { Durability::Group }
    }

    pub(crate) fn has_store(&self) -> bool {
        self.keeping != Keeping::Memory
    }
}
