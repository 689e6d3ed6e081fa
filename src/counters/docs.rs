//! METRICS.md: the table of metrics for people.

use super::layout::{METRICS, Metric, Type};

/// The whole text of METRICS.md.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    text.push_str(BUILD);
    for metric in &METRICS {
        let Metric { name, kind, help, .. } = metric;
        let labels: Vec<&str> =
            ["shard"].into_iter().chain(metric.axes.iter().map(|axis| axis.name())).collect();
        text.push_str(&format!(
            "| `{name}` | {} | {} | {help} |\n",
            kind.name(),
            labels.join(", ")
        ));
    }
    text.push_str("\n## Values of the labels\n\n| metric | label | values |\n|---|---|---|\n");
    for metric in &METRICS {
        for axis in metric.axes {
            let values: Vec<&str> = (0..axis.len()).map(|index| axis.value(index)).collect();
            let (name, label) = (metric.name, axis.name());
            text.push_str(&format!("| `{name}` | {label} | {} |\n", values.join(", ")));
        }
    }
    text
}

const HEAD: &str = "# Metrics

What `/metrics` exposes and the counter files hold; written from the table in `src/counters/layout.rs`
(`UPDATE_DOCS=1 cargo test --test counters` writes it anew). Units are Prometheus's base units. Label values are
closed sets: never a peer, never an address. Histograms of seconds have the edges 1 us, 2 us, 4 us .. 2.1 s, those of
numbers 1, 2, 4 .. 4096.

| name | type | labels | meaning |
|---|---|---|---|
";

const BUILD: &str = "| `molia_build_info` | gauge | version, io, tx, gro, gso, steering | \
    The program and what it got from the kernel; always 1. |\n";

const _: () = assert!(Type::Seconds.cells() == 24, "the head names the edges");
