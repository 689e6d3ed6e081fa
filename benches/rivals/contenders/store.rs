//! The peer store, called directly.

use std::path::Path;

use anyhow::Result;
use peerstore::storage::Disk;
use peerstore::{Config, Kind, Record, Shard, Store};

use super::Sink;
use crate::work::{ID_BYTES, Update};

pub struct Direct(Store<Disk>);

/// The store in `dir`, which is the only shard.
pub fn open(dir: &Path, apply: impl FnMut(Record<'_>)) -> Result<Store<Disk>> {
    let shard = Shard::new(0, 1).expect("the only one");
    Ok(Store::open(Disk::open(dir)?, shard, 0, Config::default(), 0, apply)?.0)
}

impl Direct {
    pub fn create(dir: &Path) -> Result<Self> {
        Ok(Self(open(dir, |_| ())?))
    }
}

impl Sink for Direct {
    fn put(&mut self, updates: &[Update]) -> Result<()> {
        updates.iter().for_each(|update| self.0.append(Kind::Peer, update));
        if self.0.staged_bytes() >= Config::default().batch_bytes {
            self.0.write()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    fn close(self: Box<Self>) -> Result<u64> {
        self.0.close()?;
        Ok(0)
    }
}

pub fn read(dir: &Path, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
    let apply = |record: Record<'_>| {
        if let Record::Peer(peer) = record {
            let mut rest = [0; size_of::<Update>() - ID_BYTES];
            let (times, message) = rest.split_at_mut(ID_BYTES + 16);
            times[..ID_BYTES].copy_from_slice(&peer.host.wireguard.0);
            times[ID_BYTES..ID_BYTES + 8].copy_from_slice(&peer.first_seen_unix_s.to_le_bytes());
            times[ID_BYTES + 8..].copy_from_slice(&peer.last_seen_unix_s.to_le_bytes());
            message.copy_from_slice(peer.message.bytes());
            each(&peer.host.peer_id.0, &rest);
        }
    };
    open(dir, apply)?.close()?;
    Ok(())
}
