//! Letters that go to another shard and come back: who asks makes them, and keeps them for the
//! next time, so that asking allocates nothing once some are there.

use super::records::Write;
use super::values::Lookup;

/// Letters of a kind that are kept. More are on their way at once only if others are slow.
const KEPT: usize = 64;

#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is sent")]
pub(super) struct Letters {
    writes: Vec<Box<Write>>,
    lookups: Vec<Box<Lookup>>,
}

impl Letters {
    pub(super) fn write(&mut self, write: Write) -> Box<Write> {
        letter(&mut self.writes, write)
    }

    pub(super) fn put_write(&mut self, write: Box<Write>) {
        put(&mut self.writes, write);
    }

    /// A letter with `lookup`, but with room for what will be found.
    pub(super) fn lookup(&mut self, mut lookup: Lookup) -> Box<Lookup> {
        if let Some(kept) = self.lookups.last_mut() {
            std::mem::swap(&mut lookup.found, &mut kept.found);
        }
        letter(&mut self.lookups, lookup)
    }

    pub(super) fn put_lookup(&mut self, lookup: Box<Lookup>) {
        put(&mut self.lookups, lookup);
    }
}

fn letter<L>(kept: &mut Vec<Box<L>>, content: L) -> Box<L> {
    match kept.pop() {
        Some(mut letter) => {
            *letter = content;
            letter
        }
        None => Box::new(content),
    }
}

fn put<L>(kept: &mut Vec<Box<L>>, letter: Box<L>) {
    if kept.len() < KEPT {
        kept.push(letter);
    }
}
