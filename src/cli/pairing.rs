//! What `punch` and `explain` have in common: the node that they open, and how its steps are shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{OsRng, SeedableRng};
use serde_json::{Value, json};

use crate::client::Link;
use crate::client::link::{LinkError, parse_peer_id};
use crate::client::pair::{Node, Opened, Options, Pair, Policy, Reason, Step};
use crate::identity::Identity;
use crate::ids::PeerId;
use crate::time::Moment;

use super::target::{self, seconds};
use super::{Exit, Failure};

/// Which router, as whom, and which ways to a peer may be taken.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The router that introduces: its molia:// link, as `run` prints it
    #[arg(long, value_name = "LINK")]
    router: Link,
    /// Be this identity (a key file of `keygen`); without it a new one for this once
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Give up on the router after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Give up on the peer after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    patience: Duration,
    /// Tell peers our address in the local network as well
    #[arg(long)]
    lan: bool,
    /// Punch or fail
    #[arg(long, conflicts_with = "relay_only")]
    no_relay: bool,
    /// Do not punch
    #[arg(long)]
    relay_only: bool,
    /// How our NAT maps, as it was measured
    #[arg(long, value_name = "WORD", default_value = "unknown", value_parser = behaviour)]
    nat_mapping: u32,
    /// How our NAT filters, as it was measured
    #[arg(long, value_name = "WORD", default_value = "unknown", value_parser = behaviour)]
    nat_filtering: u32,
}

/// The words of RFC 4787 in the order of their numbers.
const BEHAVIOURS: [&str; 4] =
    ["unknown", "endpoint-independent", "address-dependent", "address-and-port-dependent"];

fn behaviour(text: &str) -> Result<u32, String> {
    let known = BEHAVIOURS.iter().zip(0..).find(|(word, _)| **word == text);
    known.map(|(_, number)| number).ok_or_else(|| format!("one of {}", BEHAVIOURS.join(", ")))
}

impl Args {
    /// A node with a session.
    ///
    /// # Errors
    /// As of every command that asks a router.
    pub(super) fn open(&self, policy: Policy) -> Result<Node, Failure> {
        let pairs = Options {
            policy,
            nat_mapping: self.nat_mapping,
            nat_filtering: self.nat_filtering,
            punch: !self.relay_only,
            relay: !self.no_relay,
            patience: self.patience,
            ..Options::default()
        };
        let opened = Opened { patience: self.timeout, lan: self.lan, pairs, ..Opened::default() };
        Ok(Node::open(&self.router, Arc::new(self.identity()?), opened)?)
    }

    fn identity(&self) -> Result<Identity, Failure> {
        let target = target::Args {
            link: self.router.clone(),
            identity: self.identity.clone(),
            timeout: self.timeout,
        };
        Ok(match target.identity()? {
            Some(identity) => identity,
            None => Identity::generate(&mut fresh()?),
        })
    }

    /// What is known of us, for JSON.
    pub(super) fn document(&self, node: &Node) -> Value {
        let word = |number: u32| BEHAVIOURS[number as usize % BEHAVIOURS.len()];
        json!({
            "peer_id": node.peer_id().to_string(),
            "observed": node.observed().map(|address| address.to_string()),
            "local": node.local_address().to_string(),
            "nat_mapping": word(self.nat_mapping),
            "nat_filtering": word(self.nat_filtering),
        })
    }
}

fn fresh() -> Result<ChaCha12Rng, Failure> {
    ChaCha12Rng::from_rng(OsRng)
        .map_err(|error| Failure::new(Exit::System, format_args!("random numbers: {error}")))
}

/// A peer's id in hex.
///
/// # Errors
/// What is wrong with it.
pub(super) fn peer(text: &str) -> Result<PeerId, LinkError> {
    parse_peer_id(text)
}

/// Why there is no connection, as a command's end.
pub(super) fn failure(peer: &PeerId, why: Reason) -> Failure {
    let exit = match why {
        Reason::PeerSilent | Reason::RouterSilent | Reason::Patience => Exit::Timeout,
        Reason::Impostor => Exit::Protocol,
        Reason::NoSuchPeer
        | Reason::Declined
        | Reason::UnreachableNats
        | Reason::NoProbeAnswered
        | Reason::FirstWindowPassed
        | Reason::PathLost
        | Reason::PathMute
        | Reason::PunchingOff
        | Reason::RelayOff
        | Reason::NoConsent
        | Reason::Refused(_)
        | Reason::ChannelClosed(_) => Exit::Unavailable,
    };
    Failure::new(exit, format_args!("no connection with {peer}: {why}"))
}

/// Milliseconds for people and for JSON.
pub(super) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// The steps of a pair since `started`, a line each.
pub(super) fn lines(pair: &Pair, started: Moment) -> impl Iterator<Item = String> {
    let steps = pair.log().iter();
    steps.map(move |(at, step)| format!("{:>9.1} ms  {step}", ms(at.since(started))))
}

/// The same for JSON.
pub(super) fn steps(pair: &Pair, started: Moment) -> Vec<Value> {
    let step = |(at, step): &(Moment, Step)| {
        json!({
            "at_ms": ms(at.since(started)),
            "step": step.label(),
            "text": step.to_string(),
        })
    };
    pair.log().iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_are_words() {
        assert_eq!(behaviour("address-dependent"), Ok(2));
        assert!(behaviour("symmetric").is_err());
    }

    #[test]
    fn scripts_can_tell_why_there_is_no_connection() {
        let code = |why| failure(&PeerId([0; 32]), why).exit();
        assert_eq!(code(Reason::NoSuchPeer), Exit::Unavailable);
        assert_eq!(code(Reason::PeerSilent), Exit::Timeout);
        assert_eq!(code(Reason::Impostor), Exit::Protocol);
    }
}
