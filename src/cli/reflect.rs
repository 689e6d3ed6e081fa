//! `reflect`: what address does a router see us at, and what lies on the way?

use serde_json::{Value, json};

use crate::client::Link;
use crate::client::nat::{self, Plan, Report};
use crate::rendezvous::Behaviour;

use super::target;
use super::{Failure, output};

/// Ask a router for the address it sees us at
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// Find out how the NAT on the way behaves; takes some seconds
    #[arg(long)]
    classify: bool,
    /// Another router at another address, which helps with it: its molia:// link
    #[arg(long, value_name = "LINK", requires = "classify")]
    other: Option<Link>,
    /// Find out how long a silent mapping lives, up to so many seconds (at most 300); takes that long
    /// and longer
    #[arg(long, value_name = "SECONDS", requires = "classify")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=300))]
    lifetime: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the observed address, and what it says of the way.
///
/// # Errors
/// If the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.classify {
        return classify(args);
    }
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
            "other_router": seen.other_router.map(|peer| peer.to_string()),
        }));
    }
    let nat = if translated { "translated on the way" } else { "not translated" };
    output::line(format_args!("{}  (from {local}: {nat})", seen.observed))
}

fn classify(args: &Args) -> Result<(), Failure> {
    let plan = Plan {
        router: args.target.link.clone(),
        other: args.other.clone(),
        lifetime_s: args.lifetime.unwrap_or(0),
        patience: args.target.timeout,
    };
    let report = nat::classify(&plan)?;
    if args.json {
        return output::json(&document(&report));
    }
    lines(&report).into_iter().try_for_each(output::line)
}

fn document(report: &Report) -> Value {
    let lifetime = report.lifetime.map(|it| json!({"alive_s": it.alive_s, "dead_s": it.dead_s}));
    json!({
        "observed": report.observed.to_string(),
        "local": report.local.to_string(),
        "translated": report.translated(),
        "mapping": report.nat.mapping.label(),
        "mapping_by_ports": report.mapping_by_ports,
        "filtering": report.nat.filtering.label(),
        "filtering_by_ports": report.filtering_by_ports,
        "hairpin": report.hairpin.label(),
        "port_kept": report.port_kept(),
        "lifetime": lifetime,
        "label": report.label(),
    })
}

fn lines(report: &Report) -> Vec<String> {
    let line = |label: &str, text: &str| format!("{label:<12}{text}");
    let translated = if report.translated() { "translated on the way" } else { "not translated" };
    let seen = format!("{}  (from {}: {translated})", report.observed, report.local);
    let mut lines = vec![
        line("observed", &seen),
        line("mapping", &half(report.nat.mapping, mapping_doubt(report))),
        line("filtering", &half(report.nat.filtering, filtering_doubt(report))),
    ];
    if report.translated() {
        lines.push(line("port", if report.port_kept() { "kept" } else { "another one" }));
        lines.push(line("hairpin", report.hairpin.label()));
    }
    if let Some(lifetime) = report.lifetime {
        let text = match lifetime.dead_s {
            Some(dead_s) => format!("{} to {dead_s} s of silence", lifetime.alive_s),
            None => format!("more than {} s of silence", lifetime.alive_s),
        };
        lines.push(line("lifetime", &text));
    }
    lines.push(line("known as", report.label()));
    lines
}

/// One half of the behaviour, and what might be otherwise.
fn half(behaviour: Behaviour, doubt: Option<&str>) -> String {
    let words = behaviour.label().replace('_', "-");
    match doubt {
        Some(doubt) => format!("{words}  ({doubt})"),
        None => words,
    }
}

fn mapping_doubt(report: &Report) -> Option<&'static str> {
    let doubtful = report.mapping_by_ports && report.nat.mapping == Behaviour::EndpointIndependent;
    doubtful.then_some("at least to ports; --other LINK tells the rest")
}

fn filtering_doubt(report: &Report) -> Option<&'static str> {
    let doubtful = report.filtering_by_ports && report.nat.filtering == Behaviour::AddressDependent;
    doubtful.then_some("or endpoint-independent; a router with another one's help tells")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::nat::{Hairpin, Lifetime};
    use crate::rendezvous::Nat;

    #[test]
    fn people_read_what_is_known_and_what_is_not() {
        let nat = Nat {
            mapping: Behaviour::EndpointIndependent,
            filtering: Behaviour::AddressAndPortDependent,
        };
        let report = Report {
            observed: ([192, 0, 2, 1], 40_000).into(),
            local: ([10, 0, 0, 1], 40_000).into(),
            nat,
            mapping_by_ports: true,
            filtering_by_ports: false,
            hairpin: Hairpin::No,
            lifetime: Some(Lifetime { alive_s: 30, dead_s: Some(31) }),
        };
        assert_eq!(
            lines(&report),
            [
                "observed    192.0.2.1:40000  (from 10.0.0.1:40000: translated on the way)",
                "mapping     endpoint-independent  (at least to ports; --other LINK tells the rest)",
                "filtering   address-and-port-dependent",
                "port        kept",
                "hairpin     no",
                "lifetime    30 to 31 s of silence",
                "known as    port-restricted cone",
            ]
        );
        let document = document(&report);
        assert_eq!(document["mapping"], "endpoint_independent");
        assert_eq!(document["lifetime"]["dead_s"], 31);
    }
}
