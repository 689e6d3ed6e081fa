//! What the router logs: to standard error or to systemd's journal, never per packet.
//!
//! Text on a terminal and JSON otherwise, unless `log/format` says. `NO_COLOR`
//! is respected. BoringTun logs per packet and is silenced.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry};

use super::{Exit, Failure};
use crate::config::{LogFormat, Surroundings};

/// In front of a field's name in the journal: `journalctl MOLIA_SHARD=1`.
const JOURNAL_FIELDS: &str = "MOLIA";

type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// Logs from now on. Whoever set up logging before (a test) keeps it.
///
/// # Errors
/// If the log is to go to the journal and there is none.
pub fn init(level: &str, format: LogFormat, surroundings: &Surroundings) -> Result<(), Failure> {
    let terminal = io::stderr().is_terminal();
    let colour = terminal && surroundings.variable("NO_COLOR").is_none();
    let output = match format {
        LogFormat::Auto if terminal => text(colour),
        LogFormat::Text => text(colour),
        LogFormat::Auto | LogFormat::Json => json(),
        LogFormat::Journald => journal()?,
    };
    // An error only says that somebody else logs already.
    let _ = registry().with(output.with_filter(filter(level))).try_init();
    Ok(())
}

fn text(colour: bool) -> Output {
    fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(colour).boxed()
}

fn json() -> Output {
    let layer = fmt::layer().with_writer(io::stderr);
    layer.json().flatten_event(true).with_current_span(false).boxed()
}

fn journal() -> Result<Output, Failure> {
    match tracing_journald::layer() {
        Ok(layer) => Ok(layer.with_field_prefix(Some(JOURNAL_FIELDS.into())).boxed()),
        Err(error) => {
            let missing = format_args!("log/format = journald: no journal to write to: {error}");
            let failure = Failure::new(Exit::Unavailable, missing);
            Err(failure.hint("text and json go to standard error: --set log/format=auto"))
        }
    }
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
