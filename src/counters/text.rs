//! The Prometheus text exposition, version 0.0.4: a pure function of what was read.

use std::fmt::{self, Display, Write};

use super::layout::{Id, Metric, Scale, Type};
use super::read::Snapshot;

/// What the shards' counters do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// How datagrams find their shard, e.g. `cbpf` or `none`.
    pub steering: String,
}

/// Writes the exposition of the shards' counters and of the build to `out`.
pub fn expose(out: &mut String, shards: &[Snapshot], build: &BuildInfo) {
    // Writing to a string does not fail.
    let _ = write_build(out, shards, build);
    for id in Id::ALL {
        let _ = write_metric(out, id, shards);
    }
}

/// One series for each way in which shards move packets: the same one for all, unless a ring broke.
fn write_build(out: &mut String, shards: &[Snapshot], build: &BuildInfo) -> fmt::Result {
    head(out, "molia_build_info", "gauge", "The program and what it got from the kernel.")?;
    let (version, steering) = (Quoted(&build.version), Quoted(&build.steering));
    let mut written = Vec::new();
    for shard in shards {
        let (Some(io), Some(tx)) = (set(shard, Id::Io), set(shard, Id::Tx)) else { continue };
        let on = |offload| shard.value(Id::Offload, &[offload]) == Some(1);
        let (gro, gso) = (on("gro"), on("gso"));
        if written.contains(&(io, tx, gro, gso)) {
            continue;
        }
        written.push((io, tx, gro, gso));
        write!(out, "molia_build_info{{version=\"{version}\",io=\"{io}\",tx=\"{tx}\",")?;
        writeln!(out, "gro=\"{gro}\",gso=\"{gso}\",steering=\"{steering}\"}} 1")?;
    }
    Ok(())
}

/// The label's value for which a gauge is 1.
fn set(shard: &Snapshot, id: Id) -> Option<&'static str> {
    let mut found = None;
    shard.each_of(id, |labels, cells| found = found.or((cells[0] == 1).then_some(labels[0])));
    found
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn write_metric(out: &mut String, id: Id, shards: &[Snapshot]) -> fmt::Result {
    let metric = id.metric();
    head(out, metric.name, metric.kind.name(), metric.help)?;
    let mut result = Ok(());
    for snapshot in shards {
        snapshot.each_of(id, |labels, cells| {
            let labels = Labels { shard: snapshot.shard(), metric, values: labels };
            result = result.and_then(|()| write_series(out, &labels, cells));
        });
    }
    result
}

fn write_series(out: &mut String, labels: &Labels<'_>, cells: &[u64]) -> fmt::Result {
    let name = labels.metric.name;
    let (sum, scale, edge_scale) = match labels.metric.kind {
        Type::Counter(scale) | Type::Gauge(scale) => {
            return writeln!(out, "{name}{{{labels}}} {}", Scaled(cells[0], scale));
        }
        Type::State if cells[0] == 0 => return Ok(()),
        Type::State => return writeln!(out, "{name}{{{labels}}} {}", cells[0]),
        // Edges are whole microseconds.
        Type::Seconds => (cells[cells.len() - 1], Scale::Nano, 6),
        Type::Count => (cells[cells.len() - 1], Scale::One, 0),
    };
    let buckets = &cells[..cells.len() - 1];
    let mut below = 0_u64;
    for (edge, n) in buckets.iter().enumerate() {
        below = below.wrapping_add(*n);
        if edge + 1 < buckets.len() {
            let edge = Decimal(1 << edge, edge_scale);
            writeln!(out, "{name}_bucket{{{labels},le=\"{edge}\"}} {below}")?;
        } else {
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}")?;
        }
    }
    writeln!(out, "{name}_sum{{{labels}}} {}", Scaled(sum, scale))?;
    writeln!(out, "{name}_count{{{labels}}} {below}")
}

struct Labels<'a> {
    shard: u64,
    metric: &'static Metric,
    values: &'a [&'static str],
}

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard=\"{}\"", self.shard)?;
        for (axis, value) in self.metric.axes.iter().zip(self.values) {
            write!(f, ",{}=\"{value}\"", axis.name())?;
        }
        Ok(())
    }
}

/// A cell in its metric's base unit.
struct Scaled(u64, Scale);

impl Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal(self.0, self.1.places()).fmt(f)
    }
}

/// A number with so many decimal places, without trailing zeros.
struct Decimal(u64, u32);

impl Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, places) = *self;
        let unit = 10_u64.pow(places);
        write!(f, "{}", number / unit)?;
        let (mut rest, mut width) = (number % unit, places as usize);
        if rest == 0 {
            return Ok(());
        }
        while rest.is_multiple_of(10) {
            (rest, width) = (rest / 10, width - 1);
        }
        write!(f, ".{rest:0width$}")
    }
}

/// A label's value as the format wants it.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}
