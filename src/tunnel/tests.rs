//! Sessions over both engines, each with an initiator of its own kind.

use std::time::Duration;

use super::*;
use crate::admission;
use crate::bucket::Rate;

mod basics;
mod model;
mod newcomers;
mod rekey;
mod roaming;
mod shards;
mod strangers;
mod timers;
mod world;

/// Runs generic tests on both engines.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod stock {
            $(#[test] fn $test() { super::$test::<super::world::Stock>(); })*
        }
        mod simulated {
            $(#[test] fn $test() { super::$test::<super::world::Simulated>(); })*
        }
    };
}
use on_both;
