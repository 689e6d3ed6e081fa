//! What may be found after a crash, from what a store promised before it.

use peerstore::Record;

use crate::owner::{Change, KEYS, Kept, Memory};

/// What one life of a process wrote.
#[derive(Clone, Debug, Default)]
struct Life {
    changes: Vec<Change>,
    /// How many of them were promised to last.
    acknowledged: usize,
}

/// What was promised.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// What lasts, whatever happens, as of a snapshot or a power cut.
    base: Memory,
    /// Lives since then. Of each, what was acknowledged lasts, and more of it may.
    lives: Vec<Life>,
    /// Nothing was refused since the last power cut: each life's changes last up to one of them.
    exact: bool,
    next: u64,
}

/// What a recovery applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) memory: Memory,
    changes: Vec<Change>,
    strange: Option<String>,
}

impl Applied {
    pub(crate) fn apply(&mut self, record: Record<'_>) {
        match Change::of(&record) {
            Some(change) => {
                change.apply(&mut self.memory);
                self.changes.push(change);
            }
            None => self.strange = Some(format!("never written: {record:?}")),
        }
    }

    /// All that was applied, in order.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// No record was applied that is none of an owner's.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.strange.clone().map_or(Ok(()), Err)
    }
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { base: [None; KEYS], lives: vec![Life::default()], exact: true, next: 0 }
    }

    /// The next change.
    pub(crate) fn change(&mut self, key: usize, len: Option<usize>) -> Change {
        let change = Change { key, number: self.next, len };
        self.next += 1;
        self.life().changes.push(change);
        change
    }

    pub(crate) fn acknowledge(&mut self) {
        let life = self.life();
        life.acknowledged = life.changes.len();
    }

    /// Everything the owner knows lasts.
    pub(crate) fn snapshot(&mut self, memory: &Memory) {
        self.begin(memory);
    }

    pub(crate) fn refused(&mut self) {
        self.exact = false;
    }

    fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("there is always one")
    }

    fn begin(&mut self, memory: &Memory) {
        self.base = *memory;
        self.lives = vec![Life::default()];
    }

    /// The process was killed with this many of the last changes in its memory only; the disk goes on.
    pub(crate) fn killed(&mut self, staged: usize, found: &Applied) -> Result<(), String> {
        // A write that failed may have written any of them.
        if self.exact {
            let life = self.life();
            life.changes.truncate(life.changes.len() - staged);
        }
        self.check(found)?;
        if self.exact {
            let all = self.replay(|life| life.changes.len());
            same(&all, found, "killed, and not all that was written is there")?;
            // Whoever read it may tell others that it is kept.
            self.lives.iter_mut().for_each(|life| life.acknowledged = life.changes.len());
        }
        self.lives.push(Life::default());
        Ok(())
    }

    /// The power went, and this is what was found; `snapshotted` if it is a snapshot of the last life
    /// that nobody heard was finished. It has all that the lives before it wrote.
    pub(crate) fn cut(&mut self, found: &Applied, snapshotted: bool) -> Result<(), String> {
        self.check(found)?;
        if self.exact {
            if snapshotted {
                let earlier = self.lives.split_last_mut().map_or(&mut [][..], |(_, lives)| lives);
                earlier.iter_mut().for_each(|life| life.acknowledged = life.changes.len());
            }
            let seen = |life: &Life| {
                let last = life.changes.iter().rposition(|change| found.changes.contains(change));
                life.acknowledged.max(last.map_or(0, |last| last + 1))
            };
            same(&self.replay(seen), found, "not a beginning of what was written")?;
        }
        self.begin(&found.memory);
        self.exact = true;
        Ok(())
    }

    /// What is known after so many changes of each life.
    fn replay(&self, count: impl Fn(&Life) -> usize) -> Memory {
        let mut memory = self.base;
        for life in &self.lives {
            life.changes[..count(life)].iter().for_each(|change| change.apply(&mut memory));
        }
        memory
    }

    /// For each key: what was acknowledged last is there, or something later.
    fn check(&self, found: &Applied) -> Result<(), String> {
        found.check()?;
        for key in 0..KEYS {
            let mut allowed: Vec<Kept> = vec![self.base[key]];
            for life in &self.lives {
                let changes = life.changes.iter().enumerate();
                for (index, change) in changes.filter(|(_, change)| change.key == key) {
                    if index < life.acknowledged {
                        allowed.clear();
                    }
                    allowed.push(change.kept());
                }
            }
            if !allowed.contains(&found.memory[key]) {
                let is = found.memory[key];
                return Err(format!("key {key} is {is:?}, may be {allowed:?}"));
            }
        }
        Ok(())
    }
}

fn same(wanted: &Memory, found: &Applied, what: &str) -> Result<(), String> {
    if *wanted == found.memory {
        return Ok(());
    }
    Err(format!("{what}: {:?} instead of {wanted:?}", found.memory))
}
