//! Initiations that wait for a turn with budget left for them, in a lane per standing:
//! who has shown a cookie first, so that forgers wait behind everybody they imitate.

use std::collections::VecDeque;

use crate::admission::{Initiation, Standing};
use crate::ids::WgKey;
use crate::net::Path;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) path: Path,
    pub(super) initiation: Initiation,
    /// The initiator's key, where another shard found it out.
    pub(super) key: Option<WgKey>,
}

#[derive(Debug)]
pub(super) struct Pending {
    lanes: [VecDeque<Waiting>; 3],
    depth: usize,
}

impl Pending {
    /// Memory of lanes of this depth.
    pub(super) const fn bytes(depth: usize) -> usize {
        3 * depth * size_of::<Waiting>()
    }

    pub(super) fn new(depth: usize) -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::with_capacity(depth)), depth }
    }

    /// Whether it found room.
    pub(super) fn push(&mut self, standing: Standing, waiting: Waiting) -> bool {
        let lane = &mut self.lanes[standing as usize];
        let room = lane.len() < self.depth;
        if room {
            lane.push_back(waiting);
        }
        room
    }

    pub(super) fn pop(&mut self) -> Option<(Standing, Waiting)> {
        let standings = [Standing::Shown, Standing::Known, Standing::Stranger];
        let first = |(standing, lane): (_, &mut VecDeque<_>)| Some((standing, lane.pop_front()?));
        standings.into_iter().zip(&mut self.lanes).find_map(first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }
}
