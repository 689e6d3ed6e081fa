//! Who looks after the shards: says once when one stops turning, and when it turns again.

use crate::admin::report;
use crate::counters::Snapshot;

/// What was last said of each shard.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stuck: Vec<bool>,
}

/// Something worth saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The shard has not turned for so many seconds.
    Stuck(u64, u64),
    /// It turns again.
    Turns(u64),
}

impl Watch {
    /// What is new in the shards' counters at `now_ms`.
    pub(super) fn look(&mut self, shards: &[Snapshot], now_ms: u64) -> Vec<News> {
        self.stuck.resize(shards.len(), false);
        let mut news = Vec::new();
        for (shard, was) in shards.iter().zip(&mut self.stuck) {
            let stuck = report::stuck_s(shard, now_ms);
            match (std::mem::replace(was, stuck.is_some()), stuck) {
                (false, Some(seconds)) => news.push(News::Stuck(shard.shard(), seconds)),
                (true, None) => news.push(News::Turns(shard.shard())),
                (false, None) | (true, Some(_)) => {}
            }
        }
        news
    }
}

impl News {
    /// Writes it to the log.
    pub(super) fn log(self) {
        match self {
            Self::Stuck(shard, seconds) => {
                tracing::error!(shard, seconds, "a shard does not turn; its peers are not served");
            }
            Self::Turns(shard) => tracing::info!(shard, "the shard turns again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::time::{Moment, Now};
    use std::time::Duration;

    #[test]
    fn a_shard_that_stops_is_told_of_once() {
        let shards = [0, 1].map(|shard| Counters::anonymous(shard).unwrap());
        let turn = |shard: usize, unix_ms| {
            shards[shard].turn(Now { at: Moment::START, unix_ms }, Duration::ZERO);
        };
        let mut watch = Watch::default();
        let mut look = |now_ms| {
            let snapshots = [0, 1].map(|shard: usize| shards[shard].snapshot());
            watch.look(&snapshots, now_ms)
        };
        (0..2).for_each(|shard| turn(shard, 100_000));
        assert_eq!(look(100_000), []);
        turn(0, 106_000);
        assert_eq!(look(106_000), [News::Stuck(1, 6)]);
        turn(0, 108_000);
        assert_eq!(look(108_000), []);
        turn(1, 109_000);
        assert_eq!(look(109_000), [News::Turns(1)]);
        assert_eq!(look(109_000), []);
    }
}
