//! `lookup`: who is closest to an id, and what is under a key, in the whole overlay?

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::client::Swarm;
use crate::client::link::{LinkError, parse_peer_id};
use crate::client::lookup::{Contact, End, Goal, Outcome, Unfit, WANTED};
use crate::ids::{Key, PeerId};

use super::target::{self, key, seconds};
use super::{Exit, Failure, find_value, output};

/// Walk from node to node towards an id or a key, and tell what is there
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    #[command(flatten)]
    goal: What,
    /// Give up on the walk after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    budget: Duration,
    /// Write the value to this file, byte for byte
    #[arg(short, long, value_name = "FILE", conflicts_with = "peer")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Find the value of this key, or who has it: 64 hex digits, as `store` prints them
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<Key>,
    /// Find the peers closest to this id: 64 hex digits
    #[arg(long, value_name = "ID", value_parser = peer)]
    peer: Option<PeerId>,
    /// Find who keeps this very text under its digest, as `store --value` stores it
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
}

impl What {
    fn goal(&self) -> Goal {
        let Self { key, peer, value } = self;
        let value = || Key::of_value(value.as_deref().unwrap_or_default().as_bytes());
        peer.map_or_else(|| Goal::Value(key.unwrap_or_else(value)), Goal::Node)
    }
}

fn peer(text: &str) -> Result<PeerId, LinkError> {
    parse_peer_id(text)
}

/// Prints the value or the peers, and how the walk went.
///
/// # Errors
/// If the first router cannot be reached, is another one, or refuses; if the time was over before
/// anything was found; if there is no value to write to the file.
pub fn run(args: &Args) -> Result<(), Failure> {
    // Who is there at all is told as by every other command.
    let (client, _) = args.target.connect()?;
    let link = &args.target.link;
    let mut swarm = Swarm::new(args.target.identity()?.map(Arc::new))?;
    swarm.know(Contact { peer: link.peer, key: link.key, address: client.address() });
    drop(client);
    let goal = args.goal.goal();
    let outcome = swarm.look_up(goal, args.budget)?;
    let nothing = outcome.record.is_none() && outcome.providers.is_empty();
    if args.json {
        output::json(&document(&goal, &outcome))?;
    } else {
        output::line(walk(&outcome))?;
    }
    match (outcome.end, &goal) {
        (End::Deserted, _) => {
            return Err(Failure::new(Exit::Timeout, "no node answered"));
        }
        (End::Budget, Goal::Value(_)) if nothing => {
            let text = "the time was over before the closest nodes had answered";
            return Err(Failure::new(Exit::Timeout, text).hint("--budget gives it more"));
        }
        (End::Found | End::Closest | End::Budget, _) => {}
    }
    if let Some(path) = &args.out {
        let nothing = || Failure::new(Exit::Unavailable, "nobody has a value under this key");
        let record = outcome.record.as_ref().ok_or_else(nothing)?;
        return fs::write(path, &record.value).map_err(|error| {
            Failure::new(Exit::CannotCreate, format_args!("{}: {error}", path.display()))
        });
    }
    if args.json { Ok(()) } else { tell(&goal, &outcome) }
}

/// What was found, for people.
fn tell(goal: &Goal, outcome: &Outcome) -> Result<(), Failure> {
    if let Goal::Node(_) = goal {
        let closest = outcome.closest.iter().take(WANTED);
        return closest.into_iter().try_for_each(output::line);
    }
    match &outcome.record {
        Some(record) => output::line(find_value::text(&record.value)),
        None if outcome.providers.is_empty() => output::line("nobody has anything under this key"),
        None => {
            let mut providers = outcome.providers.iter();
            providers.try_for_each(|it| output::line(find_value::line(it)))
        }
    }
}

/// How the walk went, in one line.
fn walk(outcome: &Outcome) -> String {
    let Outcome { stats, elapsed, .. } = outcome;
    let mut line = format!(
        "{} hops, {} nodes asked, {} answered, {} failed, {} ms",
        stats.hops,
        stats.asked,
        stats.answered,
        stats.failed,
        elapsed.as_millis()
    );
    if stats.forged > 0 {
        line += &format!(", {} answers forged", stats.forged);
    }
    line
}

fn document(goal: &Goal, outcome: &Outcome) -> Value {
    let Outcome { stats, .. } = outcome;
    let unfit = Unfit::ALL.map(|why| (why.label().to_owned(), stats.unfit(why).into()));
    let holders: Vec<String> = outcome.holders.iter().map(PeerId::to_string).collect();
    let (kind, target) = match goal {
        Goal::Node(id) => ("peer", id.to_string()),
        Goal::Value(key) => ("key", key.to_string()),
    };
    json!({
        kind: target,
        "end": end(outcome.end),
        "elapsed_ms": u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
        "hops": stats.hops,
        "asked": stats.asked,
        "answered": stats.answered,
        "late": stats.late,
        "failed": stats.failed,
        "forged": stats.forged,
        "left_out": Map::from_iter(unfit),
        "record": outcome.record.as_ref().map(find_value::record),
        "providers": outcome.providers.iter().map(find_value::provider).collect::<Vec<_>>(),
        "holders": holders,
        "closest_peers": outcome.closest.iter().map(contact).collect::<Vec<_>>(),
    })
}

fn contact(contact: &Contact) -> Value {
    json!({
        "peer_id": contact.peer.to_string(),
        "address": contact.address.to_string(),
        "wireguard_key": output::base64(&contact.key.0),
    })
}

const fn end(end: End) -> &'static str {
    match end {
        End::Found => "found",
        End::Closest => "closest",
        End::Deserted => "deserted",
        End::Budget => "budget",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::lookup::Stats;
    use crate::ids::WgKey;

    #[test]
    fn a_walk_is_one_line_and_a_document() {
        let address = ([192, 0, 2, 1], 7743).into();
        let closest = vec![Contact { peer: PeerId([0xAB; 32]), key: WgKey([0; 32]), address }];
        let mut stats = Stats::default();
        (stats.hops, stats.asked, stats.answered) = (2, 9, 7);
        (stats.failed, stats.forged) = (2, 1);
        let outcome = Outcome {
            end: End::Closest,
            closest,
            record: None,
            providers: Vec::new(),
            holders: Vec::new(),
            elapsed: Duration::from_millis(312),
            stats,
        };
        let line = "2 hops, 9 nodes asked, 7 answered, 2 failed, 312 ms, 1 answers forged";
        assert_eq!(walk(&outcome), line);
        let told = document(&Goal::Node(PeerId([1; 32])), &outcome);
        assert_eq!((&told["end"], &told["elapsed_ms"]), (&"closest".into(), &312.into()));
        assert_eq!(told["closest_peers"][0]["peer_id"], "ab".repeat(32));
        assert_eq!((&told["left_out"]["far"], &told["peer"]), (&0.into(), &"01".repeat(32).into()));
    }

    #[test]
    fn a_text_is_looked_for_under_its_digest() {
        let what = What { key: None, peer: None, value: Some("hello".into()) };
        assert_eq!(what.goal(), Goal::Value(Key::of_value(b"hello")));
        let what = What { key: Some(Key([3; 32])), peer: None, value: None };
        assert_eq!(what.goal(), Goal::Value(Key([3; 32])));
        let what = What { key: None, peer: Some(PeerId([3; 32])), value: None };
        assert_eq!(what.goal(), Goal::Node(PeerId([3; 32])));
    }
}
