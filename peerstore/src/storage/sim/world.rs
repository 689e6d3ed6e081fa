//! The state behind a [`super::SimDisk`], and what becomes of an operation.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use super::draw::Draw;
use super::names::Names;
use super::node::Node;
use super::{Cut, Lasting, Operation, Refusal};

pub(super) struct World {
    draw: Draw,
    pub(super) nodes: Vec<Node>,
    dirs: BTreeMap<String, Names>,
    pub(super) log: Vec<Operation>,
    pub(super) cut: Option<(u64, Cut)>,
    pub(super) off: bool,
    planned: Vec<(When, Refusal, Lasting)>,
    state: Option<Refusal>,
    pub(super) stale: Vec<u8>,
}

/// Which operation is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    At(u64),
    Next(Operation),
}

/// How much of an operation is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// A piece of it, as when the power goes meanwhile.
    Part,
    /// A sync fails, which is more than that nothing happens.
    Failed,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
            nodes: Vec::new(),
            dirs: BTreeMap::new(),
            log: Vec::new(),
            cut: None,
            off: false,
            planned: Vec::new(),
            state: None,
            stale: Vec::new(),
        }
    }

    /// Whether anything can be done at all.
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.off { Err(power_is_off()) } else { Ok(()) }
    }

    pub(super) fn plan(&mut self, when: When, refusal: Refusal, lasting: Lasting) {
        self.planned.push((when, refusal, lasting));
    }

    pub(super) fn heal(&mut self) {
        self.planned.clear();
        self.state = None;
    }

    /// Does an operation as far as the power and the state of the disk allow.
    pub(super) fn run<T>(
        &mut self,
        operation: Operation,
        act: impl FnOnce(&mut Self, Extent) -> io::Result<T>,
    ) -> io::Result<T> {
        self.powered()?;
        let number = self.log.len() as u64;
        self.log.push(operation);
        if let Some((_, cut)) = self.cut.filter(|(at, _)| *at == number) {
            self.off = true;
            match cut {
                Cut::Before => {}
                Cut::During => drop(act(self, Extent::Part)),
                Cut::After => drop(act(self, Extent::Whole)),
            }
            return Err(power_is_off());
        }
        let Some(refusal) = self.refusal(number, operation) else {
            return act(self, Extent::Whole);
        };
        match operation {
            Operation::Append if refusal == Refusal::Short => drop(act(self, Extent::Part)),
            Operation::Sync | Operation::SyncNames => drop(act(self, Extent::Failed)),
            Operation::Create
            | Operation::Append
            | Operation::Reserve
            | Operation::Trim
            | Operation::Rename
            | Operation::Remove => {}
        }
        Err(refusal.error())
    }

    fn refusal(&mut self, number: u64, operation: Operation) -> Option<Refusal> {
        let due = |(when, ..): &(When, Refusal, Lasting)| match when {
            When::At(at) => *at == number,
            When::Next(next) => *next == operation,
        };
        if let Some(index) = self.planned.iter().position(due) {
            let (_, refusal, lasting) = self.planned.remove(index);
            if lasting == Lasting::UntilHealed {
                self.state = Some(refusal);
            }
            return Some(refusal);
        }
        self.state.filter(|refusal| refusal.concerns(operation))
    }

    pub(super) fn add_dir(&mut self, dir: &str) {
        self.dirs.entry(dir.to_owned()).or_default();
    }

    pub(super) fn names(&mut self, dir: &str) -> &mut Names {
        self.dirs.entry(dir.to_owned()).or_default()
    }

    pub(super) fn node(&mut self, dir: &str, name: &str) -> io::Result<&mut Node> {
        let node = self.dirs.get(dir).and_then(|names| names.find(name)).ok_or(Errno::NOENT)?;
        Ok(&mut self.nodes[node])
    }

    pub(super) fn add_node(&mut self, dir: &str, name: &str) -> io::Result<usize> {
        let node = self.nodes.len();
        let names = self.names(dir);
        if names.find(name).is_some() {
            return Err(Errno::EXIST.into());
        }
        names.change(node, None, Some(name));
        self.nodes.push(Node::default());
        Ok(node)
    }

    pub(super) fn append(&mut self, node: usize, bytes: &[u8], extent: Extent) {
        let len = match extent {
            Extent::Whole => bytes.len(),
            Extent::Part => self.draw.between(0, bytes.len()),
            Extent::Failed => 0,
        };
        self.nodes[node].append(&bytes[..len]);
    }

    pub(super) fn sync(&mut self, node: usize, extent: Extent) {
        match extent {
            Extent::Whole => self.nodes[node].sync(),
            // What a power cut draws from is the same before and meanwhile.
            Extent::Part => {}
            Extent::Failed => self.nodes[node].fail_sync(&mut self.draw),
        }
    }

    pub(super) fn sync_names(&mut self, dir: &str, extent: Extent) {
        let names = self.dirs.entry(dir.to_owned()).or_default();
        match extent {
            Extent::Whole => names.sync(),
            Extent::Part => {}
            Extent::Failed => names.fail_sync(&mut self.draw),
        }
    }

    pub(super) fn put(&mut self, dir: &str, name: &str, bytes: &[u8]) {
        let end = self.nodes.len();
        let names = self.names(dir);
        let node = names.find(name).unwrap_or(end);
        names.put(node, name);
        if node == end {
            self.nodes.push(Node::default());
        }
        self.nodes[node] = Node::at_rest(bytes.to_vec(), bytes.len());
    }

    pub(super) fn files(&self) -> Vec<(String, String, usize)> {
        let of_dir = |(dir, names): (&String, &Names)| {
            let file = |(name, node): (&String, usize)| {
                (dir.clone(), name.clone(), self.nodes[node].len())
            };
            names.all().map(file).collect::<Vec<_>>()
        };
        self.dirs.iter().flat_map(of_dir).collect()
    }

    /// Another disk, with what is left of this one.
    pub(super) fn after_crash(&self, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut after = Self::new(seed);
        after.stale.clone_from(&self.stale);
        for (dir, names) in &self.dirs {
            let mut left = BTreeMap::new();
            for (name, node) in names.after_crash(&mut draw) {
                left.insert(name, after.nodes.len());
                after.nodes.push(self.nodes[node].after_crash(&mut draw, &self.stale));
            }
            after.dirs.insert(dir.clone(), Names::at_rest(left));
        }
        after
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
