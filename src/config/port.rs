//! The configuration of the socket and of the engine behind it.

use std::net::SocketAddr;

use bufpool::Hugepages;
use tuning::{Name, Values};

use super::Error;
use super::settings::{narrow, unlisted};
use crate::port::{EngineChoice, EngineConfig, SocketConfig, TxMode};
use crate::shard::PortConfig;

pub(super) fn socket(values: &Values) -> SocketConfig {
    SocketConfig {
        listen: values.address(Name::UdpListen).expect("udp/listen cannot be off"),
        rcvbuf_bytes: values.size(Name::UdpRcvbuf),
        sndbuf_bytes: values.size(Name::UdpSndbuf),
        gro: values.flag(Name::UdpGro),
        gso: values.flag(Name::UdpGso),
        // Control is what a router sends most.
        dscp: narrow(values, Name::UdpDscpControl),
        count_drops: true,
    }
}

/// That of ports that unmodified WireGuard peers are given, whatever their numbers. There may be
/// thousands, so that buffers are the system's; and a peer may well be this host's own kernel.
fn beside(values: &Values) -> SocketConfig {
    let SocketConfig { listen, gro, gso, .. } = socket(values);
    SocketConfig { gro, gso, count_drops: false, ..SocketConfig::new(listen) }
}

/// The alternate port, none if it is 0: at the address of the main one, and left to the kernel where
/// that is.
pub(super) fn alternate(values: &Values) -> Option<SocketConfig> {
    let main = socket(values);
    let port: u16 = narrow(values, Name::UdpAltPort);
    let port = if main.listen.port() == 0 { 0 } else { port };
    let listen = SocketAddr::new(main.listen.ip(), port);
    (values.number(Name::UdpAltPort) > 0).then_some(SocketConfig { listen, ..main })
}

/// Whether the two ports are two.
pub(super) fn check(values: &Values) -> Result<(), Error> {
    let port = socket(values).listen.port();
    let same = alternate(values).filter(|alternate| port > 0 && alternate.listen.port() == port);
    same.map_or(Ok(()), |_| Err(Error::SamePort { port }))
}

pub(super) fn port(values: &Values) -> PortConfig {
    let sizes = EngineConfig {
        rx_batch: values.size(Name::IoRxBatch),
        tx_batch: values.size(Name::IoTxBatch),
        gso_max_segments: values.size(Name::UdpGsoMaxSegments),
        ring_entries: values.size(Name::IoRingEntries),
        busy_poll: values.time(Name::IoNapiBusyPoll),
        tx: tx(values.choice(Name::IoTx)),
        zero_copy_min_bytes: values
            .number_or_word(Name::IoZerocopyMinBytes)
            .and_then(|bytes| usize::try_from(bytes).ok()),
        ..EngineConfig::default()
    };
    PortConfig {
        engine: engine(values.choice(Name::IoEngine)),
        sizes,
        beside: beside(values),
        receive_slots: values.size(Name::IoRxBuffers).next_multiple_of(sizes.rx_post),
        hugepages: hugepages(values.choice(Name::IoHugepages)),
    }
}

fn engine(word: &str) -> EngineChoice {
    match word {
        "auto" => EngineChoice::Auto,
        "io_uring" => EngineChoice::IoUring,
        "mmsg" => EngineChoice::Mmsg,
        other => unlisted(other),
    }
}

fn tx(word: &str) -> TxMode {
    match word {
        "auto" => TxMode::Auto,
        "sendmmsg" => TxMode::Sendmmsg,
        "uring" => TxMode::Uring,
        other => unlisted(other),
    }
}

fn hugepages(word: &str) -> Hugepages {
    match word {
        "auto" => Hugepages::Auto,
        "off" => Hugepages::Off,
        "2M" => Hugepages::Required,
        other => unlisted(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuning::Layers;

    fn ports(sets: &[&str]) -> Result<Option<String>, String> {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let values = Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap();
        check(&values).map_err(|error| error.to_string())?;
        Ok(alternate(&values).map(|socket| socket.listen.to_string()))
    }

    #[test]
    fn the_alternate_port_is_another_one_at_the_same_address() {
        assert_eq!(ports(&[]), Ok(Some("[::]:7744".into())));
        let sets = ["udp/listen=192.0.2.1:9", "udp/alt_port=10"];
        assert_eq!(ports(&sets), Ok(Some("192.0.2.1:10".into())));
        assert_eq!(ports(&["udp/alt_port=0"]), Ok(None));
        assert_eq!(ports(&["udp/listen=[::]:0"]), Ok(Some("[::]:0".into())));
        assert_eq!(ports(&["udp/listen=[::]:0", "udp/alt_port=0"]), Ok(None));
        let same =
            "udp/alt_port = 7744: that is the port of udp/listen; another one, or 0 for none";
        assert_eq!(ports(&["udp/listen=[::]:7744"]), Err(same.into()));
    }

    #[test]
    fn further_ports_are_as_the_main_one_is_told_to_be() {
        let sets = ["udp/gro=0"].map(str::to_owned);
        let values = Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap();
        let beside = port(&values).beside;
        assert!(!beside.gro && beside.gso && !beside.count_drops);
        assert_eq!((beside.rcvbuf_bytes, beside.sndbuf_bytes, beside.dscp), (0, 0, 0));
    }

    #[test]
    fn the_defaults_ask_for_everything() {
        let (socket, port) = (socket(&Values::default()), port(&Values::default()));
        assert_eq!(socket.listen, "[::]:7743".parse().unwrap());
        assert_eq!((socket.rcvbuf_bytes, socket.sndbuf_bytes), (8 << 20, 4 << 20));
        assert!(socket.gro && socket.gso);
        assert_eq!((port.engine, port.sizes.tx), (EngineChoice::Auto, TxMode::Auto));
        assert_eq!(port.sizes.rx_batch, 64);
        let enough = port.sizes.rx_post + port.sizes.rx_batch;
        assert!(port.receive_slots >= enough, "a turn's run in hand, a full ring posted");
    }
}
