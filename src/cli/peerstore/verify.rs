//! `peerstore verify`: is everything there that was written, and is it true?

use std::collections::BTreeSet;

use peerstore::inspect::{self as files, BadHeader, Ending, FileName, Placed, Report, Role};
use serde_json::json;

use super::{Exit, Failure, ShardDir, Target, inspect, progress, truth};
use crate::cli::output;
use crate::cli::progress::Progress;

/// Check every file, checksum and signature of a store; ends with 65 if something is damaged
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Findings that are listed; the rest is counted.
const FINDINGS: usize = 1000;

/// What was found.
#[derive(Default)]
struct Findings {
    damages: u64,
    /// Each with its file.
    lines: Vec<String>,
    notes: Vec<String>,
    files: u64,
    records: u64,
    /// Numbers of shards and divisions that headers speak of.
    divisions: BTreeSet<(u16, u64)>,
}

/// Prints what is damaged.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.target.open()?;
    let dirs = store.shards()?;
    let progress = progress(&dirs);
    let mut found = Findings::default();
    for dir in &dirs {
        dir.files.iter().for_each(|file| found.check(dir, file, &progress));
    }
    drop(progress);
    if found.divisions.len() > 1 {
        let why = "files are of several divisions among shards: a router divides them anew";
        found.damage(format!("{}: {why}", store.path().display()));
    }
    let path = store.path().display();
    if args.json {
        output::json(&json!({
            "directory": path.to_string(),
            "ok": found.damages == 0,
            "files": found.files,
            "records": found.records,
            "damages": found.damages,
            "damaged": found.lines,
            "notes": found.notes,
        }))?;
    } else {
        let mut lines = found.lines.iter().chain(&found.notes);
        lines.try_for_each(output::line)?;
    }
    if found.damages > 0 {
        let message = format!("{path} is damaged in {} places", found.damages);
        return Err(Failure::new(Exit::Data, message));
    }
    if args.json {
        return Ok(());
    }
    output::line(format_args!("ok: {} records in {} files", found.records, found.files))
}

impl Findings {
    fn damage(&mut self, line: String) {
        self.damages += 1;
        if self.lines.len() < FINDINGS {
            self.lines.push(line);
        }
    }

    fn check(&mut self, dir: &ShardDir, file: &FileName, progress: &Progress) {
        let place = dir.place(file);
        self.files += 1;
        if !file.role.is_state() {
            let what = if file.role == Role::Copy {
                "a copy of a log that was found damaged"
            } else {
                "unfinished, and no part of the store"
            };
            self.notes.push(format!("{place}: {what}"));
            return progress.add(dir.bytes(file));
        }
        let mut scratch = Vec::new();
        let read = files::read(&dir.disk, file, |placed: Placed<'_>| {
            self.records += 1;
            progress.add(placed.bytes);
            if let Err(why) = truth::check(&placed.record, &mut scratch) {
                let kind = placed.record.kind().label();
                self.damage(format!("{place}: at {}: a {kind} is not true: {why}", placed.offset));
            }
        });
        match read {
            Ok(report) => self.file(dir, &place, &report),
            Err(error) => self.damage(format!("{place}: cannot be read: {error}")),
        }
    }

    fn file(&mut self, dir: &ShardDir, place: &str, report: &Report) {
        let (at, reason) = (report.valid_bytes, inspect::reason(report));
        match (report.ending, &report.header) {
            (_, Err(bad @ BadHeader::Misplaced(_))) | (Ending::Damaged, Err(bad)) => {
                self.damage(format!("{place}: damaged header ({})", bad.label()));
            }
            (Ending::Damaged, Ok(_)) => self.damage(format!("{place}: damaged at {at} ({reason})")),
            (Ending::Torn, _) => self.notes.push(format!(
                "{place}: torn at {at} ({reason}): nothing is lost that was acknowledged"
            )),
            (Ending::Whole, _) => {}
        }
        if let Ok(header) = &report.header {
            self.divisions.insert((header.shard.count(), header.partition_hash));
            if header.shard.id() != dir.id {
                self.damage(format!("{place}: belongs to shard {}", header.shard.id()));
            }
        }
    }
}
