//! What `bench relay` prints, and whether it is good enough.

use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};

use super::latency::{Latency, Measured};
use super::pairs::Load;

/// Head of what names a cell.
const CELL: &str = "payload  pairs  train  offloads";

/// One cell: a line of the first table, and one of the second for each relay.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) load: Load,
    pub(super) offloads: bool,
    pub(super) floor_ns: f64,
    pub(super) server_ns: f64,
    pub(super) turn_ns: Option<f64>,
    pub(super) latencies: Vec<Measured>,
}

impl Row {
    /// Of the router's cost to the floor's.
    fn ratio(&self) -> f64 {
        self.server_ns / self.floor_ns
    }

    /// Datagrams of the router for one of the TURN server, of the same CPU time.
    fn times(&self) -> Option<f64> {
        self.turn_ns.map(|turn_ns| turn_ns / self.server_ns)
    }

    /// Whether the datagrams of a train come as one.
    const fn coalesces(&self) -> bool {
        self.offloads && self.load.train > 1
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "payload_bytes": self.load.payload,
            "pairs": self.load.pairs,
            "train": self.load.train,
            "offloads": self.offloads,
            "server_ns": round(self.server_ns, 10.0),
            "floor_ns": round(self.floor_ns, 10.0),
            "ratio": round(self.ratio(), 1000.0),
        });
        if let (Some(turn_ns), Some(times)) = (self.turn_ns, self.times()) {
            json["turn_ns"] = round(turn_ns, 10.0).into();
            json["turn_ratio"] = round(times, 1000.0).into();
        }
        json
    }

    fn latencies_json(&self) -> impl Iterator<Item = Value> + '_ {
        self.latencies.iter().flatten().map(|latency| {
            let Latency { floor, through, .. } = latency;
            json!({
                "payload_bytes": self.load.payload,
                "pairs": self.load.pairs,
                "train": self.load.train,
                "offloads": self.offloads,
                "relay": latency.relay,
                "per_s": latency.per_s.round(),
                "load": round(latency.load, 1000.0),
                "floor_p50_us": round(floor.p50_us, 10.0),
                "floor_p99_us": round(floor.p99_us, 10.0),
                "added_p50_us": round(through.p50_us - floor.p50_us, 10.0),
                "added_p99_us": round(through.p99_us - floor.p99_us, 10.0),
            })
        })
    }

    fn cell(&self) -> String {
        let Load { payload, pairs, train, .. } = self.load;
        let offloads = if self.offloads { "on" } else { "off" };
        format!("{payload:>7} {pairs:>6} {train:>6} {offloads:>9}")
    }

    fn line(&self) -> String {
        let turn = self.turn_ns.zip(self.times());
        let turn = turn
            .map_or_else(String::new, |(turn_ns, times)| format!(" {turn_ns:>8.0} {times:>11.1}"));
        let Self { server_ns, floor_ns, .. } = self;
        format!("{} {server_ns:>10.0} {floor_ns:>9.0} {:>6.2}{turn}", self.cell(), self.ratio())
    }

    fn latency_lines(&self) -> impl Iterator<Item = String> + '_ {
        self.latencies.iter().map(|latency| {
            let Latency { relay, per_s, load, floor, through } = match latency {
                Ok(latency) => latency,
                Err(reason) => return format!("{} {reason}", self.cell()),
            };
            format!(
                "{} {relay:>7} {per_s:>9.0} {:>5.0}% {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                self.cell(),
                load * 100.0,
                floor.p50_us,
                floor.p99_us,
                through.p50_us - floor.p50_us,
                through.p99_us - floor.p99_us,
            )
        })
    }
}

pub(super) fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    let measured = rows.iter().any(|row| !row.latencies.is_empty());
    if json {
        let costs: Vec<Value> = rows.iter().map(Row::json).collect();
        let mut document = json!({ "rows": costs });
        if measured {
            document["latency"] = rows.iter().flat_map(Row::latencies_json).collect();
        }
        return output::json(&document);
    }
    output::line(costs(rows))?;
    if measured { output::line(latencies(rows)) } else { Ok(()) }
}

fn costs(rows: &[Row]) -> String {
    let turn = rows.iter().any(|row| row.turn_ns.is_some());
    let mut lines = vec![format!(
        "{CELL} {:>10} {:>9} {:>6}{}",
        "router ns",
        "floor ns",
        "ratio",
        if turn { "  turn ns turn/router" } else { "" }
    )];
    lines.extend(rows.iter().map(Row::line));
    lines.push(
        "CPU ns of the server per relayed datagram; payload in bytes of UDP, as it is sent to the \
         relay.\nratio = router / floor; the floor sends every datagram back as it came."
            .into(),
    );
    lines.join("\n")
}

fn latencies(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "\n{CELL} {:>7} {:>9} {:>6} {:>9} {:>9} {:>9} {:>9}",
        "relay", "per s", "load", "floor p50", "floor p99", "added p50", "added p99"
    )];
    lines.extend(rows.iter().flat_map(Row::latency_lines));
    lines.push(
        "Microseconds from when a datagram was due to leave to its arrival: the floor's, and what \
         the relay adds to them\nat the same rate, half of what a core could do by the table above or what \
         the load manages. load = CPU used."
            .into(),
    );
    lines.join("\n")
}

/// Whether every row keeps to the ratio to the floor, and to those to the TURN server.
pub(super) fn judge(
    rows: &[Row],
    ratio: Option<f64>,
    times: Option<&[f64]>,
) -> Result<(), Failure> {
    let mut missed = Vec::new();
    for row in rows {
        let Load { payload, pairs, train, .. } = row.load;
        let on = if row.offloads { "on" } else { "off" };
        let cell = format!("{payload} B {pairs} pairs train {train} offloads {on}");
        if ratio.is_some_and(|limit| row.ratio() > limit) {
            missed.push(format!("{cell}: {:.2} x the floor", row.ratio()));
        }
        if let (Some(&[alone, trains]), Some(times)) = (times, row.times())
            && times < if row.coalesces() { trains } else { alone }
        {
            missed.push(format!("{cell}: TURN / {times:.1}"));
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Missed, format_args!("missed: {}", missed.join("; "))))
}

fn round(value: f64, places: f64) -> f64 {
    (value * places).round() / places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(train: usize, server_ns: f64, turn_ns: Option<f64>) -> Row {
        let load = Load { payload: 100, pairs: 256, train, datagrams: 1024 };
        Row { load, offloads: true, floor_ns: 1000.0, server_ns, turn_ns, latencies: Vec::new() }
    }

    #[test]
    fn a_row_has_exactly_the_promised_fields() {
        let json = row(8, 1125.0, None).json();
        let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let promised =
            ["floor_ns", "offloads", "pairs", "payload_bytes", "ratio", "server_ns", "train"];
        assert_eq!(keys, promised);
        assert_eq!(json["ratio"], 1.125);
        assert_eq!(row(8, 1000.0, Some(6270.0)).json()["turn_ratio"], 6.27);
    }

    #[test]
    fn thresholds_are_to_the_floor_and_to_turn() {
        let rows = [row(8, 1100.0, Some(11_000.0)), row(1, 1100.0, Some(3300.0))];
        assert_eq!(judge(&rows, None, None), Ok(()));
        assert_eq!(judge(&rows, Some(1.15), Some(&[2.5, 10.0])), Ok(()));
        let missed = judge(&rows, Some(1.05), None).unwrap_err();
        assert_eq!(missed.exit(), Exit::Missed);
        let missed = judge(&rows, Some(1.15), Some(&[3.5, 9.0])).unwrap_err().to_string();
        assert!(missed.contains("train 1") && !missed.contains("train 8"), "{missed}");
    }
}
