//! The names of a directory, as its reader sees them and as the platter has them.
//!
//! Invariants:
//! * A file has one name at most, on the platter too: no crash makes two of one.
//! * A change that takes a name is on the platter only together with the one that freed it:
//!   no crash loses a file that nobody removed or replaced.

use std::collections::BTreeMap;

use super::draw::{Draw, Survival};

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, usize>,
    platter: BTreeMap<String, usize>,
    changes: Vec<Change>,
}

/// A file gets a name, another name, or loses the one it has.
#[derive(Clone, Debug)]
struct Change {
    node: usize,
    to: Option<String>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next sync is about it.
    Pending,
    /// A failed sync lost it.
    Lost,
    /// It is on the platter.
    Done,
}

impl Names {
    /// Names that were always there.
    pub(super) fn at_rest(names: BTreeMap<String, usize>) -> Self {
        Self { platter: names.clone(), now: names, changes: Vec::new() }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.now.get(name).copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, usize)> {
        self.now.iter().map(|(name, node)| (name, *node))
    }

    /// Moves `node` from one name to another, either of which may be none.
    pub(super) fn change(&mut self, node: usize, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from {
            self.now.remove(from);
        }
        if let Some(to) = to {
            self.now.insert(to.to_owned(), node);
        }
        self.changes.push(Change { node, to: to.map(str::to_owned), state: State::Pending });
    }

    /// Names a file that was always there.
    pub(super) fn put(&mut self, node: usize, name: &str) {
        self.now.insert(name.to_owned(), node);
        self.platter.insert(name.to_owned(), node);
    }

    pub(super) fn sync(&mut self) {
        self.settle(|_| true);
        // What was lost may have to be told from what came after it.
        if self.changes.iter().all(|change| change.state == State::Done) {
            self.changes.clear();
        }
    }

    /// What was not written now, never will be: the next sync is not about it.
    pub(super) fn fail_sync(&mut self, draw: &mut Draw) {
        self.settle_some(draw);
        let left = self.changes.iter_mut().filter(|change| change.state == State::Pending);
        left.for_each(|change| change.state = State::Lost);
    }

    /// The names as one may find them after a power cut.
    pub(super) fn after_crash(&self, draw: &mut Draw) -> BTreeMap<String, usize> {
        let mut names = self.clone();
        names.settle_some(draw);
        names.platter
    }

    fn settle_some(&mut self, draw: &mut Draw) {
        let pending = |change: &Change| change.state == State::Pending;
        let first = self.changes.iter().position(pending).unwrap_or(self.changes.len());
        let survival = Survival::drawn(draw, self.changes.len() - first);
        self.settle(|change| survival.keeps(change - first, draw));
    }

    /// Brings those pending changes to the platter that `keeps` says.
    fn settle(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        for index in 0..self.changes.len() {
            if self.changes[index].state == State::Pending && keeps(index) {
                self.apply(index);
            }
        }
    }

    /// Brings a change to the platter, perhaps after others that came behind it.
    fn apply(&mut self, index: usize) {
        let Change { node, to, .. } = self.changes[index].clone();
        // What became of this file before is history: it never goes back to a name it had then.
        let history = self.changes[..=index].iter_mut().filter(|change| change.node == node);
        history.for_each(|change| change.state = State::Done);
        self.platter.retain(|_, other| *other != node);
        let Some(to) = to else { return };
        if let Some(holder) = self.platter.get(&to).copied() {
            let last = |changes: &[Change]| changes.iter().rposition(|other| other.node == holder);
            let taken = |change: &Change| change.node == holder && change.state == State::Done;
            if self.changes[index..].iter().any(taken) {
                // The name was taken from this file since.
                return;
            }
            // The name was free by now, if its holder had gone elsewhere: it goes there first.
            let left = last(&self.changes[..index]);
            if let Some(left) = left.filter(|left| self.changes[*left].state != State::Done) {
                self.apply(left);
            }
        }
        self.platter.insert(to, node);
    }
}
