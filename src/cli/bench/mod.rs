//! `bench`: what a datagram, a lookup and a handshake cost on this machine.
//!
//! Everything runs in this process, on one core: real shards with real sockets
//! on loopback, and the load generator. Costs are CPU time of the server's
//! thread, medians of repetitions that take turns with what they are compared to.

mod aead;
mod echo;
mod fleet;
mod floor;
mod handshake;
mod lookup;
mod progress;
mod requests;
mod rig;

use super::Failure;

/// Measure what datagrams, lookups and handshakes cost
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
}

/// Options of every bench.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
struct Common {
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
        if self.quick {
            Scale { rounds: 3, datagrams: 1024 }
        } else {
            Scale { rounds: 21, datagrams: 8192 }
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
    }
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

/// Tells people, not programs.
fn note(text: &str) {
    use std::io::Write;
    // Nobody reads it if standard error is closed.
    let _ = writeln!(std::io::stderr(), "molia-router: {text}");
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
