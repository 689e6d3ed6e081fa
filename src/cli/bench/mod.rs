//! `bench`: what a datagram, a lookup, a handshake, a relayed datagram, more shards and the store cost
//! on this machine.
//!
//! Everything runs in this process: real shards with real sockets on loopback, and the load
//! generator on the same core, or with several shards a part of it on the core of each. Costs are CPU time of the server's
//! thread, medians of repetitions that take turns with what they are compared to.
//! With a link the same requests go to a running router, whose CPU time nobody
//! sees from here: then round trips are measured.

mod aead;
mod compaction;
mod drivers;
mod echo;
mod fleet;
mod floor;
mod handshake;
mod lookup;
mod relay;
mod remote;
mod requests;
mod rig;
mod scale;
mod store;

use std::io::{self, Write};
use std::sync::Once;
use std::time::Duration;

use crate::client::Link;

use super::Failure;
use super::progress;
use super::target::seconds;

/// Measure what datagrams, lookups, handshakes, relaying, more shards and the store cost
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    Echo(echo::Args),
    Lookup(lookup::Args),
    Handshake(handshake::Args),
    Relay(relay::Args),
    Scale(scale::Args),
    Store(store::Args),
    Compaction(compaction::Args),
}

/// Options of every bench.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
struct Common {
    /// Ask this running router for round trips, rather than measure costs in this process
    link: Option<Link>,
    /// Requests a second to LINK [default: 200; handshakes 10]
    #[arg(long, value_name = "N", requires = "link", value_parser = rate)]
    rate: Option<f64>,
    /// How long to ask LINK
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Few repetitions: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Pin everything to this CPU [default: the last one]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Repetitions that the median is taken of.
    rounds: usize,
    /// Datagrams in each.
    datagrams: usize,
}

impl Common {
    fn cpu(&self) -> Result<usize, String> {
        self.cpu.map_or_else(rig::last_cpu, Ok)
    }

    const fn scale(&self) -> Scale {
        Scale::of(self.quick)
    }
}

impl Scale {
    const fn of(quick: bool) -> Self {
        if quick {
            Self { rounds: 3, datagrams: 1024 }
        } else {
            Self { rounds: 21, datagrams: 8192 }
        }
    }
}

/// Runs the bench that was asked for.
///
/// # Errors
/// Those of the bench.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.what {
        What::Echo(args) => echo::run(args),
        What::Lookup(args) => lookup::run(args),
        What::Handshake(args) => handshake::run(args),
        What::Relay(args) => relay::run(args),
        What::Scale(args) => scale::run(args),
        What::Store(args) => store::run(args),
        What::Compaction(args) => compaction::run(args),
    }
}

/// A number of requests a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = (0.01..=100_000.0).contains(&rate);
    if sensible { Ok(rate) } else { Err("0.01 to 100000 a second".to_owned()) }
}

/// The middle of the samples.
///
/// # Panics
/// If there is none.
fn median(samples: &mut [f64]) -> f64 {
    assert!(!samples.is_empty(), "a cell has at least one round");
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Tells people, once, that there is nothing to say of io_uring.
fn without_io_uring(reason: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        // Nobody reads it if standard error is closed.
        let _ = writeln!(io::stderr(), "molia-router: io_uring is left out: {reason}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_the_noise() {
        assert_eq!(median(&mut [3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(&mut [5.0]), 5.0);
    }
}
