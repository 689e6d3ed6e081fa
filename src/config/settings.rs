//! Settings as the outer layer takes them: words became enums, numbers have their units.

use std::net::SocketAddr;
use std::time::Duration;

use tuning::{Name, Values};

/// `io/engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring if it is to be had, else recvmmsg and sendmmsg.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

/// `io/tx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tx {
    /// Whatever is cheaper.
    Auto,
    /// sendmmsg beside the ring.
    Sendmmsg,
    /// Through the ring.
    Uring,
}

/// `io/hugepages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// If the kernel has any to give.
    Auto,
    /// Never.
    Off,
    /// Pages of 2 MiB or nothing.
    TwoMegabytes,
}

/// `log/format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// Everything that no module's configuration takes as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Engine that is asked for.
    pub engine: Engine,
    /// How it sends.
    pub tx: Tx,
    /// Submission entries of the ring.
    pub ring_entries: u32,
    /// Datagrams of a turn.
    pub rx_batch: usize,
    /// Datagrams of a send.
    pub tx_batch: usize,
    /// Buffers of a shard.
    pub rx_buffers: usize,
    /// Pages behind them.
    pub hugepages: Hugepages,
    /// Address to serve.
    pub listen: SocketAddr,
    /// Receive buffer of the socket.
    pub rcvbuf_bytes: usize,
    /// Send buffer of the socket.
    pub sndbuf_bytes: usize,
    /// Coalesced receiving.
    pub gro: bool,
    /// Segmented sending.
    pub gso: bool,
    /// Longest run of segments.
    pub gso_max_segments: usize,
    /// Mark of what is sent.
    pub dscp: u8,
    /// CPUs to pin shards to, in order; none leaves it to the scheduler.
    pub cpus: Vec<usize>,
    /// Longest turn.
    pub turn_budget: Duration,
    /// Whether REFLECT is answered.
    pub reflect: bool,
    /// Largest UDP payload that is accepted.
    pub payload_max: usize,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// `log/level`.
    pub log_level: &'static str,
    /// `log/format`.
    pub log_format: LogFormat,
}

impl From<&Values> for Settings {
    fn from(values: &Values) -> Self {
        let cpus = values.cpus(Name::ShardsCpus).unwrap_or_default();
        Self {
            engine: engine(values.choice(Name::IoEngine)),
            tx: tx(values.choice(Name::IoTx)),
            ring_entries: narrow(values, Name::IoRingEntries),
            rx_batch: values.size(Name::IoRxBatch),
            tx_batch: values.size(Name::IoTxBatch),
            rx_buffers: values.size(Name::IoRxBuffers),
            hugepages: hugepages(values.choice(Name::IoHugepages)),
            listen: values.address(Name::UdpListen).expect("udp/listen cannot be off"),
            rcvbuf_bytes: values.size(Name::UdpRcvbuf),
            sndbuf_bytes: values.size(Name::UdpSndbuf),
            gro: values.flag(Name::UdpGro),
            gso: values.flag(Name::UdpGso),
            gso_max_segments: values.size(Name::UdpGsoMaxSegments),
            dscp: narrow(values, Name::UdpDscpControl),
            cpus: cpus.iter().map(|cpu| usize::from(*cpu)).collect(),
            turn_budget: values.time(Name::ShardsTurnBudget),
            reflect: values.flag(Name::ReflectEnabled),
            payload_max: values.size(Name::PmtuCeiling),
            admin: values.address(Name::AdminListen),
            log_level: values.choice(Name::LogLevel),
            log_format: log_format(values.choice(Name::LogFormat)),
        }
    }
}

/// A number whose range in the registry fits the narrower type.
pub(super) fn narrow<T: TryFrom<u64>>(values: &Values, name: Name) -> T {
    let n = values.number(name);
    T::try_from(n).unwrap_or_else(|_| panic!("{} = {n} does not fit", name.attribute().path))
}

fn engine(word: &str) -> Engine {
    match word {
        "auto" => Engine::Auto,
        "io_uring" => Engine::Uring,
        "mmsg" => Engine::Mmsg,
        other => unlisted(other),
    }
}

fn tx(word: &str) -> Tx {
    match word {
        "auto" => Tx::Auto,
        "sendmmsg" => Tx::Sendmmsg,
        "uring" => Tx::Uring,
        other => unlisted(other),
    }
}

fn hugepages(word: &str) -> Hugepages {
    match word {
        "auto" => Hugepages::Auto,
        "off" => Hugepages::Off,
        "2M" => Hugepages::TwoMegabytes,
        other => unlisted(other),
    }
}

fn log_format(word: &str) -> LogFormat {
    match word {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => unlisted(other),
    }
}

/// A choice of the registry that this file does not know: a mistake in our own code.
fn unlisted(word: &str) -> ! {
    unreachable!("the registry lists {word:?}, the settings do not")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuning::{ATTRIBUTES, Attribute, Kind, Layers};

    /// Values at the edges of an attribute's range, and every choice.
    fn edges(attribute: &Attribute) -> Vec<String> {
        match attribute.kind {
            Kind::Number { min, max, word, .. } => {
                let word = word.map(|word| word.label().to_owned());
                [min.to_string(), max.to_string()].into_iter().chain(word).collect()
            }
            Kind::Flag => vec!["0".into(), "1".into()],
            Kind::Choice(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Kind::Address { off } => {
                let off = off.then(|| "off".to_owned());
                ["127.0.0.1:0".to_owned()].into_iter().chain(off).collect()
            }
            Kind::Cpus => vec!["auto".into(), "0-3,8".into()],
        }
    }

    #[test]
    fn every_allowed_value_becomes_a_setting() {
        let mut tried = 0;
        for attribute in ATTRIBUTES {
            for value in edges(attribute) {
                let sets = [format!("{}={value}", attribute.path)];
                // Some edges contradict the defaults of other attributes.
                if let Ok(values) = Values::load(&Layers { sets: &sets, ..Layers::default() }) {
                    let _ = Settings::from(&values);
                    tried += 1;
                }
            }
        }
        assert!(tried > ATTRIBUTES.len(), "{tried}");
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = Settings::from(&Values::default());
        assert_eq!(settings.engine, Engine::Auto);
        assert_eq!(settings.listen, "[::]:7743".parse().unwrap());
        assert_eq!(settings.rcvbuf_bytes, 8 << 20);
        assert_eq!(settings.turn_budget, Duration::from_millis(1));
        assert_eq!(settings.admin, Some("127.0.0.1:9743".parse().unwrap()));
        assert!(settings.cpus.is_empty());
    }
}
