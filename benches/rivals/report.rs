//! The figures, and what they are beside those of the floor and of fjall.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Task;
use crate::contenders::Contender;
use crate::work::UPDATE_BYTES;

/// What every process said.
pub struct Report {
    records: u64,
    peers: u64,
    rounds: u64,
    measured: Vec<(Contender, Task, Value)>,
}

/// Medians of one contender.
struct Row {
    contender: Contender,
    /// Records per CPU second.
    per_cpu_s: f64,
    per_wall_s: f64,
    /// Bytes written per byte of updates.
    amplification: f64,
    /// Bytes on disk at the end per byte of updates.
    size: f64,
    stall_ms: f64,
    memory_mib: f64,
    read_s: f64,
    read_cpu_s: f64,
    load_s: f64,
    load_cpu_s: f64,
}

impl Report {
    pub fn new(records: u64, peers: u64, rounds: u64) -> Self {
        Self { records, peers, rounds, measured: Vec::new() }
    }

    pub fn add(&mut self, contender: Contender, task: Task, measured: Value) {
        self.measured.push((contender, task, measured));
    }

    fn samples(&self, contender: Contender, task: Task, name: &str) -> Vec<f64> {
        let mine = self.measured.iter().filter(|(of, what, _)| (*of, *what) == (contender, task));
        mine.filter_map(|(_, _, measured)| measured[name].as_f64()).collect()
    }

    fn row(&self, contender: Contender) -> Row {
        let median = |task, name| {
            let mut samples = self.samples(contender, task, name);
            samples.sort_unstable_by(f64::total_cmp);
            samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let records = self.records as f64;
        let bytes = records * UPDATE_BYTES as f64;
        Row {
            contender,
            per_cpu_s: records / median(Task::Append, "cpu_s"),
            per_wall_s: records / median(Task::Append, "wall_s"),
            amplification: median(Task::Append, "written_bytes") / bytes,
            size: median(Task::Append, "file_bytes") / bytes,
            stall_ms: median(Task::Append, "stall_ms"),
            memory_mib: median(Task::Append, "memory_bytes") / 1024.0 / 1024.0,
            read_s: median(Task::Read, "wall_s"),
            read_cpu_s: median(Task::Read, "cpu_s"),
            load_s: median(Task::Load, "wall_s"),
            load_cpu_s: median(Task::Load, "cpu_s"),
        }
    }

    fn rows(&self) -> [Row; 5] {
        Contender::ALL.map(|contender| self.row(contender))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows();
        let [floor, .., fjall, _] = &rows;
        let document = |row: &Row| {
            json!({
                "name": row.contender.name(),
                "records_per_cpu_s": row.per_cpu_s.round(),
                "records_per_s": row.per_wall_s.round(),
                "of_floor": round(row.per_cpu_s / floor.per_cpu_s),
                "of_fjall": round(row.per_cpu_s / fjall.per_cpu_s),
                "written_per_logical": round(row.amplification),
                "size_per_logical": round(row.size),
                "stall_ms": round(row.stall_ms),
                "stalls_ms": self.samples(row.contender, Task::Append, "stall_ms"),
                "memory_mib": round(row.memory_mib),
                "read_s": round(row.read_s),
                "read_cpu_s": round(row.read_cpu_s),
                "load_s": round(row.load_s),
                "load_cpu_s": round(row.load_cpu_s),
            })
        };
        json!({
            "records": self.records,
            "peers": self.peers,
            "rounds": self.rounds,
            "record_bytes": UPDATE_BYTES,
            "rows": rows.iter().map(document).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = self.rows();
        let [floor, .., fjall, _] = &rows;
        let mut text = format!(
            "{:<15} {:>9} {:>8} {:>8} {:>9} {:>8} {:>8} {:>9} {:>7} {:>7} {:>7}\n",
            "",
            "k/CPU s",
            "x floor",
            "x fjall",
            "k/s wall",
            "written",
            "on disk",
            "stall ms",
            "MiB",
            "read s",
            "load s"
        );
        for row in &rows {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{:<15} {:>9.0} {:>8.2} {:>8.1} {:>9.0} {:>8.2} {:>8.2} {:>9.1} {:>7.0} {:>7.2} {:>7.2}",
                row.contender.name(),
                row.per_cpu_s / 1e3,
                row.per_cpu_s / floor.per_cpu_s,
                row.per_cpu_s / fjall.per_cpu_s,
                row.per_wall_s / 1e3,
                row.amplification,
                row.size,
                row.stall_ms,
                row.memory_mib,
                row.read_s,
                row.load_s,
            );
        }
        let Self { records, peers, rounds, .. } = self;
        let _ = write!(
            text,
            "{records} updates of {UPDATE_BYTES} bytes of {peers} peers, synced every 100 ms or 4 MiB; read:\n\
             open {records} peers and read all; load: the same, each into a hash table. Medians of\n\
             {rounds} rounds. CPU of all threads; written and on disk per byte of updates; stall: the\n\
             longest that 64 updates took, commit included (ring: that the writer took for a batch)."
        );
        text
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
