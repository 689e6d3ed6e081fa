//! What the router logs: to standard error, never per packet.
//!
//! Text on a terminal and JSON otherwise, unless `log/format` says. `NO_COLOR`
//! is respected. BoringTun logs per packet and is silenced.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogFormat, Surroundings};

/// Logs from now on. Whoever set up logging before (a test) keeps it.
pub fn init(level: &str, format: LogFormat, surroundings: &Surroundings) {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let colour = terminal && surroundings.variable("NO_COLOR").is_none();
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        layer.with_target(false).with_ansi(colour).boxed()
    };
    // An error only says that somebody else logs already.
    let _ = registry().with(layer.with_filter(filter(level))).try_init();
}

fn filter(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    Targets::new().with_default(level).with_target("boringtun", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;
    use tuning::{Kind, Name};

    #[test]
    fn boringtun_is_silent_at_every_level() {
        assert!(!filter("trace").would_enable("boringtun::noise", &Level::ERROR));
        assert!(filter("trace").would_enable("molia_router::shard", &Level::TRACE));
    }

    #[test]
    fn every_level_of_the_registry_is_a_level() {
        let Kind::Choice(levels) = Name::LogLevel.attribute().kind else { panic!("a choice") };
        for level in levels {
            let wanted: LevelFilter = level.parse().unwrap();
            assert_eq!(filter(level).default_level(), Some(wanted), "{level}");
        }
    }
}
