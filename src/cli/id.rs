//! `id`: who is the router, and by which link is it reached?

use serde_json::json;

use crate::config::Surroundings;

use super::{Exit, Failure, link, output, settings};

/// Print peer id, WireGuard key and link of the router
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: settings::Args,
    /// Host to put into the link
    #[arg(long, value_name = "NAME-OR-ADDRESS")]
    host: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what others may know of the identity.
///
/// # Errors
/// If there is none, or the settings are wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let surroundings = Surroundings::here();
    let config = args.settings.load(&surroundings)?;
    let Some(identity) = settings::identity(&config, &surroundings)? else {
        let path = config.identity.display();
        let message =
            format_args!("{path}: no identity yet; `molia-router keygen` or `run` makes one");
        return Err(Failure::new(Exit::Permission, message));
    };
    let listen = config.settings().listen;
    if listen.port() == 0 {
        let message = "udp/listen = port 0 is any free port: `run` prints the link it got";
        return Err(Failure::new(Exit::Config, message));
    }
    let advertised = link::advertise(&identity, listen, args.host.as_deref())?;
    let (peer_id, key) = (identity.peer_id(), output::base64(&identity.wg_key().0));
    if args.json {
        return output::json(&json!({
            "peer_id": peer_id.to_string(),
            "wireguard_key": key,
            "link": advertised.link.to_string(),
            "note": advertised.note,
        }));
    }
    output::line(format_args!(
        "peer id        {peer_id}\nWireGuard key  {key}\nlink           {}",
        advertised.link
    ))?;
    advertised.note.map_or(Ok(()), output::line)
}
