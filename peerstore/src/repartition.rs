//! Division of what shards hold among another number of shards.
//!
//! Every record says where it belongs ([`Record::home`]), so that nothing is looked up: all that is there
//! is read, and written to one snapshot for each shard of the new division, of an epoch above
//! every other. Nothing is served meanwhile.
//!
//! Invariants:
//! * What was there before is touched only when every new snapshot is whole, named, and lasts. A
//!   crash before leaves new snapshots beside it, one after leaves some of it beside them; either
//!   way the same is done again over both, and as records are statements, that is no other result.
//! * Of each directory the oldest goes first, and lasts to be gone before the next one goes. What is
//!   left of it at any moment is an end of its history, which says nothing that was revoked later.

use std::io;

use crate::fault::Fault;
use crate::frame;
use crate::header::{Epoch, FileKind, Shard};
use crate::log::Owner;
use crate::names::{self, Name};
use crate::record::{Home, Record};
use crate::recovery::{self, Found, OpenError, Recovery};
use crate::snapshot::Snapshot;
use crate::storage::Storage;
use crate::store::Layout;

/// Bytes that are written to a new snapshot at once.
const BATCH_BYTES: usize = 256 * 1024;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repartition {
    /// Whether anything had to be divided anew.
    pub moved: bool,
    /// Records read, of all directories and divisions, and what was found damaged on the way.
    pub recovery: Recovery,
    /// Records written, those that belong to every shard once for each.
    pub written: u64,
    /// Directories of no shard, in which nothing of a store is left: they can be removed.
    pub surplus: Vec<u16>,
}

/// The files of one division in one directory.
pub(crate) struct Group<'a, S> {
    pub(crate) storage: &'a S,
    newest: Option<Epoch>,
    pub(crate) files: Vec<Found>,
}

/// Divides what is in `dirs`, each with the number of its shard, as `layout` says, if any of it is
/// divided otherwise. `dirs` are those that were found and those of every new shard; `home` says
/// which shard that is, `None` being every one. New snapshots are created at `unix_s`.
///
/// # Errors
/// [`OpenError`]: what a directory refused. Nothing is lost; it can be done again.
///
/// # Panics
/// The layout has no shards or one of them no directory, or `home` named a shard that is not.
pub fn repartition<S: Storage>(
    dirs: &[(u16, S)],
    layout: Layout,
    unix_s: u64,
    home: impl Fn(Home) -> Option<u16>,
) -> Result<Repartition, OpenError> {
    let mut found = Vec::with_capacity(dirs.len());
    for (id, storage) in dirs {
        found.push((*id, storage, recovery::find(storage)?));
    }
    let mut done = Repartition::default();
    if found.iter().any(|(id, _, files)| is_foreign(*id, files, layout)) {
        done.moved = true;
        let newest = found.iter().filter_map(|(.., files)| recovery::newest(files)).max();
        let exhausted = || io::Error::other("no epoch is left");
        let epoch = newest.map_or(Some(Epoch::new(1)), Epoch::next).ok_or_else(exhausted);
        let epoch = epoch.map_err(Fault::of("divide a store"))?;
        let mut writers = begin(dirs, layout, epoch, unix_s)?;
        merge(groups(&found), &mut writers, epoch, home, &mut done)?;
        for (_, writer) in &mut writers {
            writer.seal()?;
        }
        for (storage, writer) in &writers {
            writer.name(*storage)?;
        }
        for (_, storage, files) in &found {
            remove(*storage, files).map_err(Fault::of("remove old files"))?;
        }
    }
    for (id, storage, _) in found.iter().filter(|(id, ..)| *id >= layout.shards) {
        let names = storage.list().map_err(Fault::of("list a directory"))?;
        if names.iter().all(|name| Name::parse(name).is_none()) {
            done.surplus.push(*id);
        }
    }
    Ok(done)
}

/// Whether a directory has files that are not where or what the layout wants.
fn is_foreign(id: u16, files: &[Found], layout: Layout) -> bool {
    let Some(shard) = Shard::new(id, layout.shards) else {
        return files.iter().any(Found::is_state);
    };
    let owner = Owner { shard, partition_hash: layout.partition_hash };
    files.iter().filter_map(|file| file.header).any(|header| !owner.owns(&header))
}

type Writers<'a, S> = Vec<(&'a S, Snapshot<<S as Storage>::File>)>;

/// A snapshot for each new shard, in the order of their numbers.
fn begin<S: Storage>(
    dirs: &[(u16, S)],
    layout: Layout,
    epoch: Epoch,
    unix_s: u64,
) -> Result<Writers<'_, S>, Fault> {
    assert!(layout.shards > 0, "nobody would keep anything");
    let shards = (0..layout.shards).filter_map(|id| Shard::new(id, layout.shards));
    let writer = |shard: Shard| {
        let Some((_, storage)) = dirs.iter().find(|(id, _)| *id == shard.id()) else {
            panic!("shard {} has no directory", shard.id());
        };
        let owner = Owner { shard, partition_hash: layout.partition_hash };
        let header = owner.header(FileKind::Snapshot, epoch, unix_s);
        Ok((storage, Snapshot::begin(storage, &header, Vec::new(), BATCH_BYTES)?))
    };
    shards.map(writer).collect()
}

/// What is to be read, the newest last. A file whose header is damaged is of every division, as far
/// as its epoch goes: read twice is better than not at all.
pub(crate) fn groups<'a, S>(found: &[(u16, &'a S, Vec<Found>)]) -> Vec<Group<'a, S>> {
    let mut groups = Vec::new();
    for (_, storage, files) in found {
        let owner = |file: &Found| file.header.map(|header| (header.shard, header.partition_hash));
        let mut owners: Vec<_> = files.iter().map(owner).collect();
        owners.sort_unstable_by_key(|owner| {
            owner.map(|(shard, hash)| (shard.count(), shard.id(), hash))
        });
        owners.dedup();
        if owners.len() > 1 {
            owners.retain(Option::is_some);
        }
        for wanted in owners {
            let files = files
                .iter()
                .copied()
                .filter(|file| owner(file).is_none_or(|owner| Some(owner) == wanted));
            let files: Vec<Found> = files.collect();
            let newest = files.iter().filter(|file| file.header.is_some());
            let newest = newest.map(|file| file.epoch).max();
            groups.push(Group { storage: *storage, newest, files });
        }
    }
    groups.sort_by_key(|group| group.newest);
    groups
}

/// Reads all of them and puts every record where it belongs.
fn merge<S: Storage>(
    groups: Vec<Group<'_, S>>,
    writers: &mut Writers<'_, S>,
    epoch: Epoch,
    home: impl Fn(Home) -> Option<u16>,
    done: &mut Repartition,
) -> Result<(), OpenError> {
    let Repartition { recovery, written, .. } = done;
    let mut failed = Ok(());
    let mut frame = Vec::new();
    let mut put = |record: Record<'_>| {
        if failed.is_err() {
            return;
        }
        frame.clear();
        frame::push_record(&mut frame, epoch, &record);
        let ids = match home(record.home()) {
            Some(id) => usize::from(id)..usize::from(id) + 1,
            None => 0..writers.len(),
        };
        for (_, writer) in &mut writers[ids] {
            *written += 1;
            failed = writer.push_frame(&frame).map(drop);
            if failed.is_err() {
                return;
            }
        }
    };
    for group in groups {
        recovery::read_state(group.storage, &group.files, recovery, &mut put)?;
    }
    // Of which snapshots there were many.
    recovery.snapshot = None;
    recovery.newest = Some(epoch);
    failed.map_err(OpenError::from)
}

/// Removes what the new snapshots take the place of, one after the other.
fn remove<S: Storage>(storage: &S, files: &[Found]) -> io::Result<()> {
    for file in files {
        let name = match file.name {
            Name::Snapshot(epoch) => names::snapshot(epoch),
            Name::Log(epoch) => names::log(epoch),
            Name::Corrupt(_) | Name::Unfinished => continue,
        };
        storage.remove(&name)?;
        storage.sync()?;
    }
    Ok(())
}
