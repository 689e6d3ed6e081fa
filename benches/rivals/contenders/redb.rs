//! redb: a table by peer id, one transaction per group.

use std::path::Path;

use anyhow::Result;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::Sink;
use crate::work::{ID_BYTES, Update};

const NAME: &str = "peers.redb";
const PEERS: TableDefinition<'_, &[u8; ID_BYTES], &[u8]> = TableDefinition::new("peers");

pub struct Redb {
    database: Database,
    group: Option<WriteTransaction>,
}

impl Redb {
    pub fn create(dir: &Path) -> Result<Self> {
        Ok(Self { database: Database::create(dir.join(NAME))?, group: None })
    }
}

impl Sink for Redb {
    fn put(&mut self, updates: &[Update]) -> Result<()> {
        let group = match self.group.take() {
            Some(group) => group,
            None => {
                let mut group = self.database.begin_write()?;
                group.set_durability(Durability::Immediate)?;
                group
            }
        };
        let mut table = group.open_table(PEERS)?;
        for update in updates {
            let (id, value) = update.split_first_chunk().expect("an id comes first");
            table.insert(id, value)?;
        }
        drop(table);
        self.group = Some(group);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if let Some(group) = self.group.take() {
            group.commit()?;
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<u64> {
        self.commit().map(|()| 0)
    }
}

pub fn read(dir: &Path, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
    let database = Database::open(dir.join(NAME))?;
    let table = database.begin_read()?.open_table(PEERS)?;
    for entry in table.iter()? {
        let (id, value) = entry?;
        each(id.value(), value.value());
    }
    Ok(())
}
