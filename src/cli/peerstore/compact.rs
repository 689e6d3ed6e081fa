//! `peerstore compact`: the same store, with nothing in it that is of no use any more.
//!
//! It is the store's own snapshot that is written, so that a crash at any moment loses nothing. A
//! store always keeps the snapshot before the newest; so two are written, and everything older goes.

use peerstore::inspect::{self as files, Report};
use peerstore::{Config, Fault, FileHeader, Shard, Store};

use crate::clock::Clock;

use super::live::Live;
use super::{Exit, Failure, Opened, ShardDir, Target, progress};
use crate::cli::output;
use crate::cli::progress::Progress;

/// Write a store anew without what was replaced, was deleted or has expired
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Compacts every shard and prints what that gave.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.target.open_writable()?;
    let dirs = store.shards()?;
    // Nothing is written before all of them were found in order.
    let owners: Vec<_> = dirs.iter().map(owner).collect::<Result<_, _>>()?;
    let progress = progress(&dirs);
    let mut lines = Vec::new();
    for (dir, owner) in dirs.into_iter().zip(owners) {
        match owner {
            Some(owner) => lines.push(compact(&store, dir, owner, &progress)?),
            None => lines.push(format!("{}: nothing to write", dir.path.display())),
        }
    }
    drop(progress);
    lines.iter().try_for_each(output::line)
}

/// Whose files lie in the directory; none if there are none.
fn owner(dir: &ShardDir) -> Result<Option<(Shard, u64)>, Failure> {
    let bad = |why: &str| Failure::new(Exit::Data, format_args!("{}: {why}", dir.path.display()));
    let state: Vec<_> = dir.files.iter().filter(|file| file.role.is_state()).collect();
    let mut owners = Vec::new();
    for file in &state {
        let failed = |error| Failure::io(dir.place(file), &error);
        let report: Report = files::read(&dir.disk, file, |_| {}).map_err(failed)?;
        if let Ok(FileHeader { shard, partition_hash, .. }) = report.header {
            owners.push((shard, partition_hash));
        }
    }
    let Some(first) = owners.first().copied() else {
        return if state.is_empty() { Ok(None) } else { Err(bad("no file has a good header")) };
    };
    if first.0.id() != dir.id || owners.iter().any(|owner| *owner != first) {
        return Err(bad("files are of another division among shards")
            .hint("a router that is started divides them anew"));
    }
    Ok(Some(first))
}

fn compact(
    store: &Opened,
    dir: ShardDir,
    (shard, partition_hash): (Shard, u64),
    progress: &Progress,
) -> Result<String, Failure> {
    let (before, files_before) = (dir.all_bytes(), dir.files.len());
    let unix_s = Clock::start().now().unix_s();
    let mut live = Live::new(unix_s);
    let ShardDir { id, path, disk, .. } = dir;
    // Its logs stay empty: there is nothing to reserve room for.
    let config = Config { reserve_bytes: 1, ..Config::default() };
    let apply = |record: peerstore::Record<'_>| live.apply(&record);
    let opened = Store::open(disk, shard, partition_hash, config, unix_s, apply);
    let (mut files, recovery) = opened
        .map_err(|error| Failure::new(Exit::Io, format_args!("{}: {error}", path.display())))?;
    progress.add(before);
    let failed = |fault: Fault| {
        Failure::io(format_args!("{}: cannot {}", path.display(), fault.doing), &fault.error)
    };
    // A store that could not begin a log says why.
    files.retry(unix_s).map_err(failed)?;
    // What is damaged stays for whoever wants to look at it: until the next time.
    let snapshots = if recovery.is_damaged() { 1 } else { 2 };
    for _ in 0..snapshots {
        files.begin_snapshot(unix_s).map_err(failed)?;
        for (kind, payload) in live.records() {
            files.snapshot(kind, payload).map_err(failed)?;
        }
        files.finish_snapshot().map_err(failed)?;
    }
    files.close().map_err(failed)?;
    let after = store.shard(id)?;
    let damaged = if recovery.is_damaged() {
        "; it was damaged, and older files are kept: compact again to remove them"
    } else {
        ""
    };
    Ok(format!(
        "{}: {before} bytes in {files_before} files before, {} in {} after; {} of {} records \
         count{damaged}",
        path.display(),
        after.all_bytes(),
        after.files.len(),
        live.records().len(),
        live.said(),
    ))
}
