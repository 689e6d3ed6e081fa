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
    from: Option<String>,
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
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        self.changes.push(Change { node, from, to, state: State::Pending });
    }

    /// Names a file that was always there.
    pub(super) fn put(&mut self, node: usize, name: &str) {
        self.now.insert(name.to_owned(), node);
        self.platter.insert(name.to_owned(), node);
    }

    pub(super) fn sync(&mut self) {
        self.settle(|_| true);
        self.changes.retain(|change| change.state == State::Lost);
    }

    /// What was not written now, never will be: the next sync is not about it.
    pub(super) fn fail_sync(&mut self, draw: &mut Draw) {
        self.settle_some(draw);
        self.changes.retain(|change| change.state != State::Done);
        self.changes.iter_mut().for_each(|change| change.state = State::Lost);
    }

    /// The names as one may find them after a power cut.
    pub(super) fn after_crash(&self, draw: &mut Draw) -> BTreeMap<String, usize> {
        let mut names = self.clone();
        names.settle_some(draw);
        names.platter
    }

    fn settle_some(&mut self, draw: &mut Draw) {
        let survival = Survival::drawn(draw, self.changes.len());
        self.settle(|change| survival.keeps(change, draw));
    }

    /// Brings those pending changes to the platter that `keeps` says.
    fn settle(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        for index in 0..self.changes.len() {
            if self.changes[index].state == State::Pending && keeps(index) {
                self.apply(index);
            }
        }
    }

    fn apply(&mut self, index: usize) {
        let Change { node, to, .. } = self.changes[index].clone();
        if let Some(holder) = to.as_ref().and_then(|to| self.platter.get(to)) {
            let frees = |change: &Change| {
                change.state != State::Done && change.node == *holder && change.from == to
            };
            if let Some(earlier) = self.changes[..index].iter().rposition(frees) {
                self.apply(earlier);
            }
        }
        self.changes[index].state = State::Done;
        self.platter.retain(|_, other| *other != node);
        if let Some(to) = to {
            self.platter.insert(to, node);
        }
    }
}
