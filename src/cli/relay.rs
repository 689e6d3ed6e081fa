//! `relay`: a port of a router for each end of a tunnel of unmodified WireGuard.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::client::link::parse_peer_id;
use crate::client::{Client, Error, PortGrant};
use crate::clock::Clock;
use crate::ids::PeerId;
use crate::wire::Code;

use super::target::{self, span};
use super::{Failure, consent, output};

/// How often the router is asked whether the other peer is there.
const PACE: Duration = Duration::from_secs(1);

/// Get a port of a router as the Endpoint of an unmodified WireGuard tunnel to another peer
///
/// Both peers run this, each with the consent of the other; the first one waits. Their tunnels
/// use the x25519 keys of their identities.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// The other end of the tunnel
    #[arg(value_name = "PEER-ID", value_parser = peer)]
    peer: PeerId,
    /// What `consent --scope relay` prints there; not needed for a port that is ours already
    #[arg(long, value_name = "TOKEN", value_parser = consent::parse)]
    consent: Option<consent::Token>,
    /// Wait so long for the other peer: a number of s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = span)]
    wait: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the line for WireGuard's configuration.
///
/// # Errors
/// If the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut client, _) = args.target.connect_as()?;
    let PortGrant { port, idle, rate_bps, inner_mtu, .. } = ask(&mut client, args)?;
    let endpoint = SocketAddr::new(client.address().ip(), port);
    if args.json {
        return output::json(&json!({
            "endpoint": endpoint.to_string(),
            "peer": args.peer.to_string(),
            "idle_s": idle.as_secs(),
            "rate_bps": (rate_bps < u64::MAX).then_some(rate_bps),
            "mtu": inner_mtu,
        }));
    }
    output::line(format_args!(
        "Endpoint = {endpoint}\nPersistentKeepalive = 25\n\
         # MTU = {inner_mtu} at most, in [Interface]; may be closed after {} s of silence",
        idle.as_secs()
    ))
}

/// Asks until the other peer is there, or it takes too long.
fn ask(client: &mut Client, args: &Args) -> Result<PortGrant, Error> {
    let clock = Clock::start();
    let until = clock.moment() + args.wait;
    let consent = args.consent.as_ref().map_or(&[][..], |token| &token.0);
    loop {
        match client.wireguard_port(&args.peer, consent) {
            Err(Error::Refused { refusal, .. })
                if matches!(refusal.code, Code::NotFound | Code::Busy)
                    && clock.moment() < until =>
            {
                client.idle(PACE)?;
            }
            asked => return asked,
        }
    }
}

fn peer(text: &str) -> Result<PeerId, String> {
    parse_peer_id(text).map_err(|_| "a peer id is 64 hex digits".to_owned())
}
