//! `peerstore inspect`: which files there are, how far each is good, and what counts of them.

use std::io;

use peerstore::inspect::{self as files, FileName, Report};
use peerstore::{Kind, Reason, Recovery};
use serde_json::{Value, json};

use crate::clock::Clock;

use super::{Failure, ShardDir, Target, counts, counts_json, progress};
use crate::cli::output;

/// Show every file of a store, how far it can be read, and how many records count
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A file, or why it cannot be read.
type Seen<'a> = (&'a FileName, io::Result<Report>);

/// What a shard's directory holds.
struct Shard<'a> {
    dir: &'a ShardDir,
    files: Vec<Seen<'a>>,
    /// What a router would begin with, or why it would not begin.
    live: Result<([u64; Kind::ALL.len()], Recovery), String>,
}

/// Prints what is there.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.target.open()?;
    let now = Clock::start().now().unix_s();
    let dirs = store.shards()?;
    let progress = progress(&dirs);
    let look = |dir| {
        let shard = Shard::look(dir, now);
        progress.add(dir.all_bytes());
        shard
    };
    let shards: Vec<Shard<'_>> = dirs.iter().map(look).collect();
    drop(progress);
    if args.json {
        let shards: Vec<Value> = shards.iter().map(Shard::json).collect();
        let path = store.path().display().to_string();
        return output::json(&json!({ "directory": path, "shards": shards }));
    }
    if shards.is_empty() {
        return output::line(format_args!("{}: no shard has files", store.path().display()));
    }
    shards.iter().try_for_each(|shard| output::line(shard.text()))
}

impl<'a> Shard<'a> {
    fn look(dir: &'a ShardDir, now: u64) -> Self {
        let read = |file| (file, files::read(&dir.disk, file, |_| {}));
        let files = dir.files.iter().map(read).collect();
        let live = dir.live(now).map(|(live, recovery)| (live.counts(), recovery));
        Self { dir, files, live: live.map_err(|failure| failure.to_string()) }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.dir.path.display().to_string()];
        for (file, seen) in &self.files {
            lines.push(match seen {
                Ok(report) => format!("  {:<20} {}", file.name, line(report)),
                Err(error) => format!("  {:<20} cannot be read: {error}", file.name),
            });
        }
        lines.push(match &self.live {
            Ok((records, recovery)) => {
                let from = match recovery.snapshot {
                    Some(epoch) => format!("snapshot {}", epoch.number()),
                    None => "no snapshot".into(),
                };
                let state = format!("of {from} and {} logs", recovery.logs);
                format!("  {:<20} {}; {state}", "live", counts(records))
            }
            Err(error) => format!("  {:<20} {error}", "live"),
        });
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let files: Vec<Value> = self.files.iter().map(file_json).collect();
        let mut document = json!({
            "shard": self.dir.id,
            "directory": self.dir.path.display().to_string(),
            "files": files,
        });
        document["live"] = match &self.live {
            Ok((records, recovery)) => json!({
                "snapshot": recovery.snapshot.map(peerstore::Epoch::number),
                "logs": recovery.logs,
                "records_read": recovery.records,
                "records": counts_json(records),
                "damaged": recovery.is_damaged(),
            }),
            Err(error) => json!({ "error": error }),
        };
        document
    }
}

/// A report for people.
fn line(report: &Report) -> String {
    let whose = match &report.header {
        Ok(header) => format!(
            "epoch {}, shard {} of {}, division {:016x}, created {}",
            header.epoch.number(),
            header.shard.id(),
            header.shard.count(),
            header.partition_hash,
            header.created_unix_s
        ),
        Err(bad) => format!("no header ({})", bad.label()),
    };
    format!(
        "{} at {} of {} bytes ({}); {whose}; {}",
        report.ending.label(),
        report.valid_bytes,
        report.bytes,
        reason(report),
        counts(&report.records)
    )
}

/// Why reading ended where it did, in a word.
pub(super) fn reason(report: &Report) -> &'static str {
    report.reason.map_or("sealed", Reason::label)
}

fn file_json((file, seen): &Seen<'_>) -> Value {
    let mut document = json!({
        "name": file.name,
        "kind": file.role.label(),
        "epoch": file.epoch.map(peerstore::Epoch::number),
    });
    let report = match seen {
        Ok(report) => report,
        Err(error) => {
            document["error"] = error.to_string().into();
            return document;
        }
    };
    document["header"] = match &report.header {
        Ok(header) => json!({
            "shard": header.shard.id(),
            "shards": header.shard.count(),
            "partition_hash": format!("{:016x}", header.partition_hash),
            "created_unix_s": header.created_unix_s,
        }),
        Err(bad) => json!({ "error": bad.label() }),
    };
    document["bytes"] = report.bytes.into();
    document["valid_bytes"] = report.valid_bytes.into();
    document["ending"] = report.ending.label().into();
    document["reason"] = reason(report).into();
    document["records"] = counts_json(&report.records);
    document
}
