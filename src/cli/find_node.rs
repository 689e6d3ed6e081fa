//! `find-node`: who does a router know near a point of the overlay?

use serde_json::{Value, json};

use crate::client::Found;
use crate::client::link::{LinkError, parse_peer_id};
use crate::ids::PeerId;
use crate::wire::body::flag;

use super::target;
use super::{Failure, output};

/// Ask a router for the peers closest to an id
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// 64 hex digits [default: the router's own id]
    #[arg(value_name = "TARGET", value_parser = parse_target)]
    id: Option<PeerId>,
    /// At most so many
    #[arg(short, long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=16))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Names of the bits of a peer's flags.
const FLAGS: [(u32, &str); 3] = [
    (flag::REACHABLE, "reachable"),
    (flag::VIA_RENDEZVOUS, "via_rendezvous"),
    (flag::RELAY, "relay"),
];

/// Prints the answer, the closest first.
///
/// # Errors
/// If the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut client, _) = args.target.connect()?;
    let target = args.id.unwrap_or(args.target.link.peer);
    let found = client.find_node(&target, args.limit)?;
    if args.json {
        let peers: Vec<Value> = found.iter().map(document).collect();
        return output::json(&json!({ "target": target.to_string(), "peers": peers }));
    }
    if found.is_empty() {
        return output::line("the router knows no peer yet");
    }
    found.iter().try_for_each(|peer| output::line(line(peer)))
}

fn parse_target(text: &str) -> Result<PeerId, LinkError> {
    parse_peer_id(text)
}

fn line(found: &Found) -> String {
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    let mut line = format!("{}  {}", found.peer, addresses.join(" "));
    if found.rtt_ms > 0 {
        line += &format!("  {} ms", found.rtt_ms);
    }
    for name in flags(found.flags) {
        line += "  ";
        line += name;
    }
    line
}

pub(super) fn document(found: &Found) -> Value {
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    json!({
        "peer_id": found.peer.to_string(),
        "addresses": addresses,
        "wireguard_key": output::base64(&found.key.0),
        "rtt_ms": found.rtt_ms,
        "flags": flags(found.flags).collect::<Vec<_>>(),
    })
}

pub(super) fn flags(bits: u32) -> impl Iterator<Item = &'static str> {
    FLAGS.iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WgKey;

    #[test]
    fn a_peer_is_one_line() {
        let found = Found {
            peer: PeerId([0xAB; 32]),
            addresses: vec![([192, 0, 2, 1], 7743).into()],
            key: WgKey([0; 32]),
            rtt_ms: 12,
            flags: flag::REACHABLE | flag::RELAY,
        };
        let id = "ab".repeat(32);
        assert_eq!(line(&found), format!("{id}  192.0.2.1:7743  12 ms  reachable  relay"));
        assert_eq!(document(&found)["flags"], json!(["reachable", "relay"]));
    }
}
