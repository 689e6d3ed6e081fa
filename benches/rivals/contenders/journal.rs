//! The peer store as the router uses it: its own thread writes and syncs, by the same rule.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use peerstore::journal::{self, Appended, Config, Journal};
use peerstore::{Kind, Record};

use super::{Sink, store};
use crate::work::Update;

/// How long to wait for room: a router would not, but it does not make peers faster than a disk
/// writes them either.
const WAIT: Duration = Duration::from_micros(500);

pub struct Threaded(Journal);

impl Threaded {
    pub fn create(dir: &Path) -> Result<Self> {
        let store = store::open(dir, |_| ())?;
        Ok(Self(journal::start(store, Config::default(), || ())?))
    }
}

impl Sink for Threaded {
    fn put(&mut self, updates: &[Update]) -> Result<()> {
        for update in updates {
            let record = Record::decode(Kind::Peer, update).expect("a peer's layout");
            while self.0.append(&record) == Appended::Dropped {
                self.0.flush();
                thread::sleep(WAIT);
            }
        }
        self.0.flush();
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<u64> {
        while self.0.durable() < self.0.position() {
            thread::sleep(WAIT);
        }
        let stats = self.0.stats();
        self.0.stop()?;
        Ok(stats.stall_ns_max)
    }
}
