//! `reflect`: what address does a router see us at?

use serde_json::json;

use super::target;
use super::{Failure, output};

/// Ask a router for the address it sees us at
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the observed address, and what it says of the way.
///
/// # Errors
/// If the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut client, _) = args.target.connect()?;
    let seen = client.reflect()?;
    let local = client.local_address()?;
    let translated = seen.observed != local;
    if args.json {
        return output::json(&json!({
            "observed": seen.observed.to_string(),
            "local": local.to_string(),
            "translated": translated,
            "alternate": seen.alternate.map(|address| address.to_string()),
        }));
    }
    let nat = if translated { "translated on the way" } else { "not translated" };
    output::line(format_args!("{}  (from {local}: {nat})", seen.observed))
}
