//! `explain`: how is a peer reached, and why like that?

use serde_json::json;

use crate::client::pair::Policy;
use crate::ids::PeerId;

use super::pairing::{self, failure, ms, peer};
use super::{Failure, output};

/// Connect to a peer once and tell every step with its reason
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The peer's id: 64 hex digits
    #[arg(value_name = "PEER-ID", value_parser = peer)]
    peer: PeerId,
    #[command(flatten)]
    pairing: pairing::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was known, what was tried, what answered and what was used.
///
/// # Errors
/// If the router cannot be reached or refuses; after the steps, if the peer cannot.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut node = args.pairing.open(Policy::Nobody)?;
    let started = node.now();
    let reached = node.connect(args.peer, &[])?;
    let pair = node.pair(&args.peer);
    if args.json {
        output::json(&json!({
            "peer_id": args.peer.to_string(),
            "us": args.pairing.document(&node),
            "path": reached.ok().map(super::punch::path),
            "failure": reached.err().map(|why| why.to_string()),
            "elapsed_ms": ms(node.now().since(started)),
            "steps": pair.map(|pair| pairing::steps(pair, started)),
        }))?;
    } else {
        output::line(format_args!("peer    {}", args.peer))?;
        output::line(format_args!("us      {}", node.peer_id()))?;
        let observed = node.observed().map_or_else(|| "nowhere".to_owned(), |it| it.to_string());
        output::line(format_args!(
            "we are  {} here, {observed} to the router",
            node.local_address()
        ))?;
        let lines = pair.into_iter().flat_map(|pair| pairing::lines(pair, started));
        for line in lines {
            output::line(line)?;
        }
        if let Ok(path) = reached {
            output::line(format_args!("connected {path}"))?;
        }
    }
    reached.map(|_| ()).map_err(|why| failure(&args.peer, why))
}
