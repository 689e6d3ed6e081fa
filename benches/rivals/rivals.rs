//! The peer store beside a bare log and other embedded stores, doing the same work in one run.
//!
//! Two kinds of work: append updates of known peers under group commit, and open a store of many
//! peers and read all of them. Contenders take turns, each time in another order, and every figure
//! is the median of its rounds.
#![forbid(unsafe_code)]

mod contenders;
mod measure;
mod report;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;

use crate::contenders::Contender;
use crate::report::Report;
use crate::work::Tally;

/// Bytes of updates after which all commit.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Time after which all commit.
const GROUP_INTERVAL: Duration = Duration::from_millis(100);

/// Measure the peer store against a bare log, fjall and redb
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Updates to append, and peers to read back
    #[arg(long, value_name = "N", default_value = "1000000")]
    records: u64,
    /// Peers that the updates are of
    #[arg(long, value_name = "N", default_value = "250000")]
    peers: u64,
    /// Rounds that the medians are taken of
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// A twentieth of the records and one round: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Where to write: a real disk, or there is nothing to compare
    #[arg(long, value_name = "DIR", default_value = "target/rivals")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Do one thing for one contender, in --dir, and say what it cost
    #[arg(long, hide = true, requires = "contender")]
    task: Option<Task>,
    #[arg(long, hide = true)]
    contender: Option<Contender>,
}

/// What a process is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Append to a new store.
    Append,
    /// Open a store and read it.
    Read,
    /// The same, into a table.
    Load,
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Load => "load",
        }
    }
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    if let (Some(task), Some(contender)) = (args.task, args.contender) {
        let measured = match task {
            Task::Append => measure::append(contender, &args.dir, args.records, args.peers)?,
            Task::Read => measure::read(contender, &args.dir, false)?,
            Task::Load => measure::read(contender, &args.dir, true)?,
        };
        println!("{measured}");
        return Ok(());
    }
    if args.quick {
        (args.records, args.peers, args.rounds) = (args.records / 20, args.peers / 20, 1);
    }
    let work = args.dir.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let report = run(&args, &work);
    fs::remove_dir_all(&work)?;
    let report = report?;
    if args.json {
        println!("{:#}", report.json())
    } else {
        println!("{}", report.table())
    }
    Ok(())
}

fn run(args: &Args, work: &Path) -> Result<Report> {
    let mut report = Report::new(args.records, args.peers, args.rounds);
    let expected = measure::expected(args.records, args.records);
    for contender in Contender::ALL {
        eprintln!("{}: {} peers, to be read back", contender.name(), args.records);
        let dir = work.join(contender.name());
        fs::create_dir(&dir)?;
        child(Task::Append, contender, &dir, args.records, args.records)?;
    }
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        let mut order = Contender::ALL;
        let by = usize::try_from(round)? % order.len();
        order.rotate_left(by);
        for contender in order {
            let dir = work.join("append");
            fs::create_dir(&dir)?;
            let measured = child(Task::Append, contender, &dir, args.records, args.peers)?;
            fs::remove_dir_all(&dir)?;
            report.add(contender, Task::Append, measured);
            for task in [Task::Read, Task::Load] {
                let dir = work.join(contender.name());
                let measured = child(task, contender, &dir, args.records, args.records)?;
                let read = [&measured["records"], &measured["sum"]].map(Value::as_u64);
                let Tally { records, sum } = expected;
                let name = contender.name();
                ensure!(read == [Some(records), Some(sum)], "{name} lost or changed something");
                report.add(contender, task, measured);
            }
        }
    }
    Ok(report)
}

/// Has a process of its own do it, with nothing left over from the one before.
fn child(task: Task, of: Contender, dir: &Path, records: u64, peers: u64) -> Result<Value> {
    rustix::fs::sync();
    let name = clap::ValueEnum::to_possible_value(&of).context("no contender is hidden")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--task", task.name(), "--contender", name.get_name()])
        .args(["--records", &records.to_string(), "--peers", &peers.to_string(), "--dir"])
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{} failed to {}", of.name(), task.name());
    Ok(serde_json::from_slice(&output.stdout)?)
}
