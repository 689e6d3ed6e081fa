//! `status`: how is the router on this machine?
//!
//! It reads the files that a running router keeps, so it works while a shard is
//! busy, with the admin listener off, and tells a dead router from a living one.

use std::path::PathBuf;

use crate::admin::report;
use crate::clock::Clock;
use crate::config::runtime::{self, Found};
use crate::config::{Surroundings, places};
use crate::counters::{CountersView, Snapshot};

use super::{Exit, Failure, output, summary};

/// Show how the router on this machine is
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port of the router, if several run here
    #[arg(long)]
    port: Option<u16>,
    /// Print JSON: the document of /status.json
    #[arg(long)]
    json: bool,
}

/// Prints the state of the one router that runs.
///
/// # Errors
/// If none runs, or several and no port was named.
pub fn run(args: &Args) -> Result<(), Failure> {
    let places = places::runtime(&Surroundings::here());
    let found = choose(runtime::find(&places), args.port, &places)?;
    let shards = snapshots(&found)?;
    let unix_ms = Clock::start().now().unix_ms;
    let document = report::document(&found.description, &shards, unix_ms);
    if args.json { output::json(&document) } else { output::line(summary::text(&document)) }
}

fn choose(found: Vec<Found>, port: Option<u16>, places: &[PathBuf]) -> Result<Found, Failure> {
    let wanted = |found: &Found| port.is_none() || port_of(found) == port;
    let (mut alive, dead): (Vec<Found>, Vec<Found>) =
        found.into_iter().filter(wanted).partition(|found| found.alive);
    match (alive.pop(), alive.len()) {
        (Some(found), 0) => Ok(found),
        (Some(last), _) => {
            alive.push(last);
            let ports: Vec<String> =
                alive.iter().filter_map(port_of).map(|port| port.to_string()).collect();
            let message = format!("several routers run here: say --port {}", ports.join(" or "));
            Err(Failure::new(Exit::Usage, message))
        }
        (None, _) => Err(Failure::new(Exit::Unavailable, absent(port, &dead, places))),
    }
}

fn absent(port: Option<u16>, dead: &[Found], places: &[PathBuf]) -> String {
    let port = port.map(|port| format!(" on port {port}")).unwrap_or_default();
    if let Some(dead) = dead.first() {
        let pid = output::printable(&dead.description["pid"].to_string());
        let path = dead.path.display();
        return format!("no router runs here{port}: process {pid} ended and left {path}");
    }
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    format!("no router runs here{port} (looked in {})", places.join(", "))
}

fn port_of(found: &Found) -> Option<u16> {
    let listen = found.description["listen"].as_str()?;
    listen.rsplit(':').next()?.parse().ok()
}

fn snapshots(found: &Found) -> Result<Vec<Snapshot>, Failure> {
    let shards = found.description["shards"].as_u64().unwrap_or_default();
    let shards = u32::try_from(shards).unwrap_or_default();
    let read = |shard| {
        let path = runtime::counters_in(&found.path, shard);
        let view = CountersView::open(&path);
        let view = view.map_err(|error| {
            Failure::new(Exit::Unavailable, format_args!("{}: {error}", path.display()))
        })?;
        Ok(view.snapshot())
    };
    (0..shards).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(port: u16, alive: bool) -> Found {
        let description = json!({"listen": format!("[::]:{port}"), "pid": port});
        Found { path: PathBuf::from(format!("/run/x/{port}")), alive, description }
    }

    fn chosen(found: Vec<Found>, port: Option<u16>) -> Result<Option<u16>, (Exit, String)> {
        choose(found, port, &[PathBuf::from("/run/x")])
            .map(|found| port_of(&found))
            .map_err(|failure| (failure.exit(), failure.to_string()))
    }

    #[test]
    fn the_one_living_router_is_meant() {
        assert_eq!(chosen(vec![found(1, false), found(2, true)], None), Ok(Some(2)));
        assert_eq!(chosen(vec![found(1, true), found(2, true)], Some(1)), Ok(Some(1)));
    }

    #[test]
    fn several_or_none_are_told_apart() {
        let several = chosen(vec![found(1, true), found(2, true)], None);
        assert_eq!(
            several,
            Err((Exit::Usage, "several routers run here: say --port 1 or 2".into()))
        );
        let none = chosen(vec![], None);
        let text = "no router runs here (looked in /run/x)";
        assert_eq!(none, Err((Exit::Unavailable, text.into())));
        let mut evil = found(7, false);
        evil.description["pid"] = json!("\u{9b}2J");
        let text = absent(None, &[evil], &[]);
        assert!(!text.contains(char::is_control), "{text:?}");
        let dead = chosen(vec![found(7, false)], Some(7));
        let text = "no router runs here on port 7: process 7 ended and left /run/x/7";
        assert_eq!(dead, Err((Exit::Unavailable, text.into())));
    }
}
