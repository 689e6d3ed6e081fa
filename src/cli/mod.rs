//! The command line: one file a subcommand, each with `Args` and `run`.
//!
//! A command prints what was asked for on standard output and returns a
//! [`Failure`] otherwise; only [`main`] turns that into a line on standard
//! error and an exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub mod announce;
mod banner;
pub mod bench;
pub mod check;
pub mod consent;
pub mod explain;
mod failure;
pub mod find_node;
pub mod find_value;
pub mod id;
pub mod keygen;
pub mod link;
pub mod logging;
pub mod lookup;
pub mod output;
pub mod pairing;
pub mod peerstore;
pub mod ping;
mod progress;
pub mod punch;
pub mod reflect;
pub mod relay;
pub mod run;
pub mod settings;
mod signals;
pub mod status;
pub mod store;
mod summary;
pub mod target;
mod watch;

pub use failure::{Exit, Failure};

/// Relay and bootstrap server of a WireGuard-authenticated peer-to-peer overlay.
#[derive(Debug, Parser)]
#[command(name = "molia-router", version, arg_required_else_help = true)]
struct Cli {
    /// List every attribute with type, range and default
    #[arg(long, global = true)]
    help_attributes: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Keygen(keygen::Args),
    Id(id::Args),
    Check(check::Args),
    Status(status::Args),
    Ping(ping::Args),
    FindNode(find_node::Args),
    Store(store::Args),
    FindValue(find_value::Args),
    Lookup(lookup::Args),
    Announce(announce::Args),
    Reflect(reflect::Args),
    Punch(punch::Args),
    Explain(explain::Args),
    Consent(consent::Args),
    Relay(relay::Args),
    Peerstore(peerstore::Args),
    Bench(bench::Args),
}

/// Runs the command that `args` (with the program's name first) ask for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody to tell if standard error is closed as well.
            let _ = writeln!(std::io::stderr(), "molia-router: {failure}");
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    if cli.help_attributes {
        return output::line(tuning::text());
    }
    let no_command = || Failure::new(Exit::Usage, "no command; --help lists them");
    match cli.command.ok_or_else(no_command)? {
        Command::Run(args) => run::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Id(args) => id::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::FindNode(args) => find_node::run(&args),
        Command::Store(args) => store::run(&args),
        Command::FindValue(args) => find_value::run(&args),
        Command::Lookup(args) => lookup::run(&args),
        Command::Announce(args) => announce::run(&args),
        Command::Reflect(args) => reflect::run(&args),
        Command::Punch(args) => punch::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Consent(args) => consent::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Peerstore(args) => peerstore::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// Help and version were asked for and are no failure; all else is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Exit::Usage as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
