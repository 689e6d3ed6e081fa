//! What `bench relay` prints, and whether it is good enough.

use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};

use super::pairs::Load;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) load: Load,
    pub(super) offloads: bool,
    pub(super) floor_ns: f64,
    pub(super) server_ns: f64,
    pub(super) turn_ns: Option<f64>,
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

    fn line(&self) -> String {
        let turn = self.turn_ns.zip(self.times());
        let turn = turn
            .map_or_else(String::new, |(turn_ns, times)| format!(" {turn_ns:>8.0} {times:>11.1}"));
        format!(
            "{:>7} {:>6} {:>6} {:>9} {:>10.0} {:>9.0} {:>6.2}{turn}",
            self.load.payload,
            self.load.pairs,
            self.load.train,
            if self.offloads { "on" } else { "off" },
            self.server_ns,
            self.floor_ns,
            self.ratio()
        )
    }
}

pub(super) fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    if json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        return output::json(&json!({ "rows": rows }));
    }
    output::line(costs(rows))
}

fn costs(rows: &[Row]) -> String {
    let turn = rows.iter().any(|row| row.turn_ns.is_some());
    let mut lines = vec![format!(
        "{:>7} {:>6} {:>6} {:>9} {:>10} {:>9} {:>6}{}",
        "payload",
        "pairs",
        "train",
        "offloads",
        "router ns",
        "floor ns",
        "ratio",
        if turn { "  TURN ns TURN/router" } else { "" }
    )];
    lines.extend(rows.iter().map(Row::line));
    lines.push(
        "CPU ns of the server per relayed datagram; payload in bytes of UDP, as it is sent to the \
         relay.\nratio = router / floor; the floor sends every datagram back as it came."
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
        Row { load, offloads: true, floor_ns: 1000.0, server_ns, turn_ns }
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
