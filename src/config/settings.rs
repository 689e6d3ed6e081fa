//! Settings of the outer layer: words became enums, numbers have their units.

use std::net::SocketAddr;
use std::time::Duration;

use tuning::{Name, Values};

/// `log/format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
    /// To systemd's journal.
    Journald,
}

/// What no module's configuration takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address to serve.
    pub listen: SocketAddr,
    /// `shards/turn_budget_us`.
    pub turn_budget: Duration,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// `log/level`.
    pub log_level: &'static str,
    /// `log/format`.
    pub log_format: LogFormat,
}

impl From<&Values> for Settings {
    fn from(values: &Values) -> Self {
        Self {
            listen: values.address(Name::UdpListen).expect("udp/listen cannot be off"),
            turn_budget: values.time(Name::ShardsTurnBudget),
            admin: values.address(Name::AdminListen),
            log_level: values.choice(Name::LogLevel),
            log_format: log_format(values.choice(Name::LogFormat)),
        }
    }
}

fn log_format(word: &str) -> LogFormat {
    match word {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        other => unlisted(other),
    }
}

/// A number whose range in the registry fits the narrower type.
pub(super) fn narrow<T: TryFrom<u64>>(values: &Values, name: Name) -> T {
    let n = values.number(name);
    T::try_from(n).unwrap_or_else(|_| panic!("{} = {n} does not fit", name.attribute().path))
}

/// A choice of the registry that we do not know: a mistake in our own code.
pub(super) fn unlisted(word: &str) -> ! {
    unreachable!("the registry lists {word:?}, the configuration does not")
}
