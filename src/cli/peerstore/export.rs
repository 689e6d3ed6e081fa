//! `peerstore export`: every record as a line of JSON.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use peerstore::inspect::{self as files, Placed};
use peerstore::{Kind, Record};
use serde_json::Value;

use crate::clock::Clock;

use super::{Exit, Failure, ShardDir, Target, progress, records};
use crate::cli::output;

/// Print every record that counts as a line of JSON
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only records of these kinds, as in value,provider
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,
    /// Every record in the order of the files, those that do not count too, with file and offset
    #[arg(long)]
    all: bool,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Where lines go.
struct Sink {
    to: Box<dyn Write>,
    name: String,
    /// The first failure; nothing is written behind it.
    failed: io::Result<()>,
}

/// Writes the records.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.target.open()?;
    let now = Clock::start().now().unix_s();
    let dirs = store.shards()?;
    let mut sink = Sink::open(args)?;
    // Lines and a bar on one terminal would be in each other's way.
    let progress = args.out.is_some().then(|| progress(&dirs));
    for dir in &dirs {
        if args.all {
            args.every_record(dir, &mut sink)?;
        } else {
            let (live, recovery) = dir.live(now)?;
            for (kind, payload) in live.records() {
                // It was made of a record.
                if let (true, Ok(record)) = (args.wants(kind), Record::decode(kind, payload)) {
                    sink.line(&of_shard(dir, &record));
                }
            }
            if recovery.is_damaged() {
                let path = dir.path.display();
                // Nobody reads it if standard error is closed.
                let _ = writeln!(
                    io::stderr(),
                    "molia-router: {path} is damaged: `peerstore verify` says where"
                );
            }
        }
        if let Some(progress) = &progress {
            progress.add(dir.all_bytes());
        }
    }
    sink.finish()
}

impl Args {
    fn wants(&self, kind: Kind) -> bool {
        self.kind.is_empty() || self.kind.contains(&kind)
    }

    fn every_record(&self, dir: &ShardDir, sink: &mut Sink) -> Result<(), Failure> {
        for file in dir.files.iter().filter(|file| file.role.is_state()) {
            let each = |placed: Placed<'_>| {
                if self.wants(placed.record.kind()) {
                    let mut line = of_shard(dir, &placed.record);
                    line["file"] = file.name.as_str().into();
                    line["offset"] = placed.offset.into();
                    sink.line(&line);
                }
            };
            let read = files::read(&dir.disk, file, each);
            read.map_err(|error| Failure::io(dir.place(file), &error))?;
        }
        Ok(())
    }
}

fn of_shard(dir: &ShardDir, record: &Record<'_>) -> Value {
    let mut line = records::document(record);
    line["shard"] = dir.id.into();
    line
}

impl Sink {
    fn open(args: &Args) -> Result<Self, Failure> {
        let (to, name): (Box<dyn Write>, _) = match &args.out {
            None => (Box::new(io::stdout().lock()), "standard output".into()),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| {
                    Failure::new(Exit::CannotCreate, format_args!("{name}: {error}"))
                })?;
                (Box::new(file), name)
            }
        };
        Ok(Self { to: Box::new(BufWriter::new(to)), name, failed: Ok(()) })
    }

    fn line(&mut self, document: &Value) {
        if self.failed.is_ok() {
            self.failed = writeln!(self.to, "{}", output::json_line(document));
        }
    }

    /// A reader that has gone away is no failure.
    fn finish(mut self) -> Result<(), Failure> {
        match self.failed.and_then(|()| self.to.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Io, format_args!("{}: {error}", self.name)))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Seal);
    kinds.clone().find(|kind| kind.label() == text).ok_or_else(|| {
        let labels: Vec<&str> = kinds.map(Kind::label).collect();
        format!("the kinds are {}", labels.join(", "))
    })
}
