//! Reading a shard's counters.

use std::io;
use std::path::Path;

use bufpool::CellsView;

use super::layout::{CELLS, HEADER_CELLS, Id, MAGIC, METRICS, Metric, Type, layout};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened or mapped.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a counter file")]
    NotCounters,
    /// It was written by a program with other counters.
    #[error("written by another version of molia-router")]
    OtherVersion,
}

/// A shard's counter file, for reading.
#[derive(Debug)]
pub struct CountersView {
    cells: CellsView,
}

impl CountersView {
    /// The counters in the file at `path`.
    ///
    /// # Errors
    /// If there is no such file, or it is not a counter file of this version.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let cells = CellsView::open(path)?;
        if cells.len() < HEADER_CELLS || cells.load(0) != MAGIC {
            return Err(OpenError::NotCounters);
        }
        if cells.load(1) != layout() || cells.len() < CELLS {
            return Err(OpenError::OtherVersion);
        }
        Ok(Self { cells })
    }

    /// What the cells hold now.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(|index| self.cells.load(index))
    }
}

pub(super) fn snapshot(load: impl Fn(usize) -> u64) -> Snapshot {
    Snapshot { cells: (0..CELLS).map(load).collect() }
}

/// A copy of a shard's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    cells: Box<[u64]>,
}

impl Snapshot {
    /// Whose counters these are.
    pub fn shard(&self) -> u64 {
        self.cells[2]
    }

    /// A counter or gauge in its cell's unit; for a histogram, the number of its observations.
    /// `labels` are values of the metric's axes in their order; `None` if there is no such series.
    pub fn value(&self, id: Id, labels: &[&str]) -> Option<u64> {
        let metric = id.metric();
        if labels.len() != metric.axes.len() {
            return None;
        }
        let mut series = 0;
        for (axis, label) in metric.axes.iter().zip(labels) {
            let index = (0..axis.len()).find(|&index| axis.value(index) == *label)?;
            series = series * axis.len() + index;
        }
        Some(self.number(id, series))
    }

    /// Sum over all series of a metric, as [`value`](Self::value) has them.
    pub fn total(&self, id: Id) -> u64 {
        (0..id.metric().series()).map(|series| self.number(id, series)).sum()
    }

    fn number(&self, id: Id, series: usize) -> u64 {
        let cells = self.series(id.metric(), id.cell(), series);
        match id.metric().kind {
            Type::Counter(_) | Type::Gauge(_) | Type::State => cells[0],
            Type::Seconds | Type::Count => cells[..cells.len() - 1].iter().sum(),
        }
    }

    fn series(&self, metric: &Metric, first: usize, series: usize) -> &[u64] {
        let cells = metric.kind.cells();
        &self.cells[first + series * cells..][..cells]
    }

    /// Every series of every metric in the table's order: the metric, the values of its axes, its cells.
    pub fn each(&self, mut visit: impl FnMut(&'static Metric, &[&'static str], &[u64])) {
        for id in Id::ALL {
            self.each_of(id, |labels, cells| visit(id.metric(), labels, cells));
        }
    }

    /// Every series of one metric.
    pub fn each_of(&self, id: Id, mut visit: impl FnMut(&[&'static str], &[u64])) {
        let metric = id.metric();
        let mut labels = vec![""; metric.axes.len()];
        for series in 0..metric.series() {
            let mut rest = series;
            for (axis, label) in metric.axes.iter().zip(&mut labels).rev() {
                *label = axis.value(rest % axis.len());
                rest /= axis.len();
            }
            visit(&labels, self.series(metric, id.cell(), series));
        }
    }
}

const _: () = assert!(METRICS.len() == Id::ALL.len());
