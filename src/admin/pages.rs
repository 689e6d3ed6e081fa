//! What stands on the pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{Answer, Page, report};
use crate::clock::Clock;
use crate::counters::text::{BuildInfo, expose};
use crate::counters::{CountersView, Snapshot};

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// The pages of a router, from the counter files of its shards.
#[derive(Debug)]
pub struct Pages {
    /// Of every shard.
    pub shards: Vec<CountersView>,
    /// The program.
    pub build: BuildInfo,
    /// What the router says of itself.
    pub description: Value,
    /// Set once the router no longer serves.
    pub stopping: Arc<AtomicBool>,
    /// Tells the time of day.
    pub clock: Clock,
}

impl Pages {
    /// The page as it is now.
    pub fn answer(&self, page: Page) -> Answer {
        match page {
            Page::Health => Answer { well: true, content_type: TEXT, body: "ok\n".into() },
            Page::Ready => self.ready(),
            Page::Metrics => self.metrics(),
            Page::Status => {
                let unix_ms = self.clock.now().unix_ms;
                let document = report::document(&self.description, &self.snapshots(), unix_ms);
                Answer { well: true, content_type: JSON, body: format!("{document:#}\n") }
            }
        }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.shards.iter().map(CountersView::snapshot).collect()
    }

    fn ready(&self) -> Answer {
        let mut problems = report::problems(&self.snapshots(), self.clock.now().unix_ms);
        if self.stopping.load(Ordering::Relaxed) {
            problems.push("stopping".into());
        }
        let well = problems.is_empty();
        let body = if well { "ready\n".into() } else { problems.join("\n") + "\n" };
        Answer { well, content_type: TEXT, body }
    }

    fn metrics(&self) -> Answer {
        let mut body = String::new();
        expose(&mut body, &self.snapshots(), &self.build);
        Answer { well: true, content_type: PROMETHEUS, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use serde_json::json;

    fn pages(name: &str, start: bool) -> Pages {
        let path = std::env::temp_dir().join(format!("molia-pages-{}-{name}", std::process::id()));
        let (counters, clock) = (Counters::create(&path, 0).unwrap(), Clock::start());
        if start {
            counters.started(clock.now());
        }
        let shards = vec![CountersView::open(&path).unwrap()];
        std::fs::remove_file(path).unwrap();
        let build = BuildInfo { version: "1.2.3".into(), steering: "none".into() };
        let stopping = Arc::default();
        Pages { shards, build, description: json!({"pid": 5}), stopping, clock }
    }

    #[test]
    fn ready_is_who_turns_and_does_not_stop() {
        let pages = pages("ready", true);
        let ready = |well, body: &str| Answer { well, content_type: TEXT, body: body.into() };
        assert_eq!(pages.answer(Page::Ready), ready(true, "ready\n"));
        pages.stopping.store(true, Ordering::Relaxed);
        assert_eq!(pages.answer(Page::Ready), ready(false, "stopping\n"));
        assert_eq!(pages.answer(Page::Health), ready(true, "ok\n"));
    }

    #[test]
    fn a_shard_that_never_turned_is_not_ready() {
        let answer = pages("never", false).answer(Page::Ready);
        assert!(!answer.well && answer.body.starts_with("shard 0 has not turned for "));
    }

    #[test]
    fn metrics_and_status_tell_the_counters() {
        let pages = pages("metrics", true);
        let metrics = pages.answer(Page::Metrics).body;
        assert!(metrics.contains("\nmolia_shard_turns_total{shard=\"0\"} 0\n"), "{metrics:.500}");
        let status: Value = serde_json::from_str(&pages.answer(Page::Status).body).unwrap();
        assert_eq!((&status["ready"], &status["router"]["pid"]), (&json!(true), &json!(5)));
    }
}
