//! The names of a directory, as its reader sees them and as the platter has them.
//!
//! The platter has every file as of some moment: how many of the changes happened to it.
//!
//! Invariants:
//! * A file has one name at most and a name one file, on the platter too: where two would have it,
//!   the one that had it first moves on, until it is out of the way as it once was.
//! * No crash loses a file that nobody removed or replaced, and none goes back to an earlier moment.

use std::collections::BTreeMap;

use super::draw::{Draw, Survival};

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, usize>,
    /// Names before the first of the changes.
    before: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// The moment of each file on the platter: changes before this one happened to it.
    moments: BTreeMap<usize, usize>,
    /// The next sync is about the changes from here on; those before, a failed one lost.
    pending: usize,
}

/// A file gets a name, another name, or loses the one it has; which another one may lose by that.
#[derive(Clone, Debug)]
struct Change {
    node: usize,
    to: Option<String>,
    replaced: Option<usize>,
}

impl Change {
    fn concerns(&self, node: usize) -> bool {
        self.node == node || self.replaced == Some(node)
    }
}

impl Names {
    /// Names that were always there.
    pub(super) fn at_rest(names: BTreeMap<String, usize>) -> Self {
        Self { before: names.clone(), now: names, ..Self::default() }
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
        let replaced = to.and_then(|to| self.now.insert(to.to_owned(), node));
        self.changes.push(Change { node, to: to.map(str::to_owned), replaced });
    }

    /// Names a file that was always there.
    pub(super) fn put(&mut self, node: usize, name: &str) {
        if self.find(name) != Some(node) {
            self.change(node, None, Some(name));
        }
        if let Some(last) = self.changes.iter().rposition(|change| change.concerns(node)) {
            self.happen(last);
        }
        self.part();
    }

    pub(super) fn sync(&mut self) {
        (self.pending..self.changes.len()).for_each(|change| self.happen(change));
        self.part();
        self.pending = self.changes.len();
        if self.on_platter() == self.now {
            *self = Self::at_rest(std::mem::take(&mut self.now));
        }
    }

    /// What was not written now, never will be: the next sync is not about it.
    pub(super) fn fail_sync(&mut self, draw: &mut Draw) {
        self.sync_some(draw);
        self.pending = self.changes.len();
    }

    /// The names as one may find them after a power cut.
    pub(super) fn after_crash(&self, draw: &mut Draw) -> BTreeMap<String, usize> {
        let mut names = self.clone();
        names.sync_some(draw);
        names.on_platter()
    }

    fn sync_some(&mut self, draw: &mut Draw) {
        let parts = self.changes.len() - self.pending;
        let survival = Survival::drawn(draw, parts);
        for part in 0..parts {
            if survival.keeps(part, draw) {
                self.happen(self.pending + part);
            }
        }
        self.part();
    }

    /// Brings those whom a change is about to where it put them, unless they are further on.
    fn happen(&mut self, index: usize) {
        let Change { node, replaced, .. } = self.changes[index];
        for node in [Some(node), replaced].into_iter().flatten() {
            let moment = self.moments.entry(node).or_default();
            *moment = (index + 1).max(*moment);
        }
    }

    /// Parts files that have the same name on the platter. Comes to an end, since all of them once
    /// were where they are now, where no two have the same.
    fn part(&mut self) {
        while let Some((first, moment)) = self.clash() {
            let later = &self.changes[moment..];
            let next = later.iter().position(|change| change.concerns(first));
            self.happen(moment + next.expect("who had a name before another, lost it"));
        }
    }

    /// Of two files with one name the one that had it first, and its moment.
    fn clash(&self) -> Option<(usize, usize)> {
        let mut held: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (name, node, since) in self.placed() {
            if let Some((other, earlier)) = held.insert(name, (node, since)) {
                let first = if earlier < since { other } else { node };
                return Some((first, self.moment(first)));
            }
        }
        None
    }

    fn on_platter(&self) -> BTreeMap<String, usize> {
        self.placed().map(|(name, node, _)| (name.to_owned(), node)).collect()
    }

    fn moment(&self, node: usize) -> usize {
        self.moments.get(&node).copied().unwrap_or(0)
    }

    /// Every file that has a name on the platter, the name, and the change that gave it, counted
    /// from 1.
    fn placed(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        let untouched = self.before.iter().map(|(name, node)| (name.as_str(), *node, 0));
        let untouched = untouched.filter(|(_, node, _)| self.moment(*node) == 0);
        let moved = self.moments.iter().filter_map(|(node, moment)| {
            let index =
                self.changes[..*moment].iter().rposition(|change| change.concerns(*node))?;
            let change = &self.changes[index];
            let name = change.to.as_deref().filter(|_| change.node == *node)?;
            Some((name, *node, index + 1))
        });
        untouched.chain(moved)
    }
}
