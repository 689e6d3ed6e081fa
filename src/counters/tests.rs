//! The cells against what was counted, and the exposition read back by a strict parser.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{BuildInfo, expose};
use super::*;
use crate::net::{Engine, ErrorKind, Missing, Reason, TxMode};
use crate::time::Moment;

fn build() -> BuildInfo {
    BuildInfo { version: "a \"quoted\\\nline\"".into(), steering: "none".into() }
}

fn achieved() -> Achieved {
    let miss = |feature, reason| Missing { feature, reason };
    Achieved {
        engine: Engine::Mmsg,
        tx: TxMode::Sendmmsg,
        gro: true,
        gso: false,
        registered_file: false,
        registered_buffers: false,
        busy_poll: false,
        missing: vec![
            miss(Feature::IoUring, Reason::Seccomp),
            miss(Feature::Gso, Reason::Refused(5)),
        ],
    }
}

/// Name, labels as written, value.
type Sample = (String, BTreeMap<String, String>, f64);

#[derive(Default)]
struct Parsed {
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Parsed {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: BTreeMap<_, _> =
            labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut found = self.samples.iter().filter(|(n, l, _)| n == name && *l == wanted);
        found.next().unwrap_or_else(|| panic!("no {name} {labels:?}")).2
    }
}

/// Reads version 0.0.4 of the format and refuses what `promtool check metrics` would.
fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen = BTreeSet::new();
    let mut helped: Option<String> = None;
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.trim().is_empty() && !parsed.types.contains_key(name), "{line}");
            helped = Some(name.into());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(helped.take().as_deref(), Some(name), "HELP comes first: {line}");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(parsed.types.insert(name.into(), kind.into()).is_none(), "twice: {line}");
            current = name.into();
        } else {
            let (name, labels, value) = parse_sample(line);
            let histogram = parsed.types[&current] == "histogram";
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
            assert_eq!(if histogram { family.unwrap_or("") } else { &name }, current, "{line}");
            assert!(seen.insert((name.clone(), labels.clone())), "a series twice: {line}");
            parsed.samples.push((name, labels, value));
        }
    }
    check_histograms(&parsed);
    parsed
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(word)
}

fn parse_sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').expect("labels");
    assert!(is_name(name) && name.starts_with("molia_"), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        let (label, after) = rest.split_once("=\"").expect("a label's value");
        assert!(is_name(label), "{line}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (end, '"') => break end,
                (_, '\\') => match chars.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("escape of {c}: {line}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(label.into(), value).is_none(), "a label twice: {line}");
        match &after[end + 1..] {
            more if more.starts_with(',') => rest = &more[1..],
            more => {
                let value = more.strip_prefix("} ").expect("a value");
                let plain = |c: char| c.is_ascii_digit() || c == '.';
                assert!(value.chars().all(plain), "{line}");
                return (name.into(), labels, value.parse().expect("a number"));
            }
        }
    }
}

/// Buckets ascend in edge and count, end at +Inf, and agree with `_count`.
fn check_histograms(parsed: &Parsed) {
    for name in parsed.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let mut groups: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for (_, labels, count) in
            parsed.samples.iter().filter(|(n, _, _)| *n == format!("{name}_bucket"))
        {
            let mut labels = labels.clone();
            let edge = labels.remove("le").expect("an edge");
            let edge = if edge == "+Inf" { f64::INFINITY } else { edge.parse().unwrap() };
            groups.entry(labels).or_default().push((edge, *count));
        }
        for (labels, buckets) in groups {
            assert!(buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{name}");
            let last = buckets[buckets.len() - 1];
            let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(last, (f64::INFINITY, parsed.value(&format!("{name}_count"), &labels)));
            assert!(parsed.value(&format!("{name}_sum"), &labels) >= 0.0);
        }
    }
}

fn text(shards: &[Snapshot]) -> String {
    let mut text = String::new();
    expose(&mut text, shards, &build());
    text
}

#[test]
fn the_exposition_says_what_was_counted() {
    let (zero, one) = (Counters::anonymous(0).unwrap(), Counters::anonymous(1).unwrap());
    let now = Now { at: Moment::START, unix_ms: 1_700_000_000_250 };
    one.started(now);
    one.turn(now, Duration::from_micros(3));
    one.turn(now, Duration::from_millis(5000));
    one.load_permille(125);
    one.received(Some(Kind::Ping));
    one.received(Some(Kind::Error));
    one.received(None);
    one.sent(Kind::Pong);
    one.message_dropped(Some(Kind::FindNodeReq));
    one.error_sent(Code::Busy);
    one.batches(64, 0);
    one.port(&achieved());
    one.pools((10, 100), (3, 64));
    let parsed = parse(&text(&[zero.snapshot(), one.snapshot()]));
    let value = |name: &str, labels: &[(&str, &str)]| {
        parsed.value(name, &[&[("shard", "1")], labels].concat())
    };
    assert_eq!(value("molia_shard_heartbeat_timestamp_seconds", &[]), 1_700_000_000.25);
    assert_eq!(value("molia_shard_busy_seconds_total", &[]), 5.000_003);
    assert_eq!(value("molia_shard_load_ratio", &[]), 0.125);
    let turns = |le| value("molia_shard_turn_duration_seconds_bucket", &[("le", le)]);
    assert_eq!([turns("0.000002"), turns("0.000004"), turns("2.097152")], [0.0, 1.0, 1.0]);
    assert_eq!(turns("+Inf"), 2.0);
    for kind in ["ping", "error", "unknown"] {
        assert_eq!(value("molia_message_received_total", &[("type", kind)]), 1.0, "{kind}");
    }
    assert_eq!(value("molia_message_received_total", &[("type", "pong")]), 0.0);
    assert_eq!(value("molia_message_sent_total", &[("type", "pong")]), 1.0);
    assert_eq!(value("molia_message_dropped_total", &[("type", "find_node_req")]), 1.0);
    assert_eq!(value("molia_message_errors_sent_total", &[("code", "busy")]), 1.0);
    let batch =
        |le| value("molia_socket_batch_packets_bucket", &[("direction", "receive"), ("le", le)]);
    assert_eq!((batch("32"), batch("64")), (0.0, 1.0));
    assert_eq!(value("molia_pool_free_buffers", &[("pool", "receive")]), 3.0);
    assert_eq!(value("molia_pool_buffers", &[("pool", "packet")]), 100.0);
    // The other shard did nothing.
    assert_eq!(parsed.value("molia_shard_turns_total", &[("shard", "0")]), 0.0);
}

#[test]
fn what_a_port_achieved_is_told_until_it_changes() {
    let (zero, one) = (Counters::anonymous(0).unwrap(), Counters::anonymous(1).unwrap());
    let late = Counters::anonymous(2).unwrap();
    [&zero, &one].into_iter().for_each(|shard| shard.port(&achieved()));
    let names = ["version", "io", "tx", "gro", "gso", "steering"];
    let value = |parsed: &Parsed, values: [&'static str; 6]| {
        let labels: Vec<_> = names.into_iter().zip(values).collect();
        parsed.value("molia_build_info", &labels)
    };
    let mmsg = [build().version.leak(), "recvmmsg", "sendmmsg", "true", "false", "none"];
    let snapshots = || [zero.snapshot(), one.snapshot(), late.snapshot()];
    let parsed = parse(&text(&snapshots()));
    assert_eq!(value(&parsed, mmsg), 1.0);
    let count = |parsed: &Parsed, name: &str| parsed.samples.iter().filter(|s| s.0 == name).count();
    assert_eq!(count(&parsed, "molia_build_info"), 1, "once for what two shards agree on");
    assert_eq!(count(&parsed, "molia_feature_missing"), 4, "nothing is missing but what is");
    for (feature, reason) in [("io_uring", "seccomp"), ("gso", "refused")] {
        let labels = [("shard", "1"), ("feature", feature), ("reason", reason)];
        assert_eq!(parsed.value("molia_feature_missing", &labels), 1.0);
    }
    let (engine, missing) = (Engine::IoUring, vec![]);
    one.port(&Achieved { engine, gso: true, registered_file: true, missing, ..achieved() });
    let parsed = parse(&text(&snapshots()));
    assert_eq!(value(&parsed, mmsg), 1.0);
    let uring = [mmsg[0], "io_uring", "sendmmsg", "true", "true", "none"];
    assert_eq!(value(&parsed, uring), 1.0);
    assert_eq!(count(&parsed, "molia_feature_missing"), 2);
    let offload =
        |offload| parsed.value("molia_shard_offload", &[("shard", "1"), ("offload", offload)]);
    assert_eq!([offload("registered_file"), offload("registered_buffers")], [1.0, 0.0]);
}

#[test]
fn every_reason_for_what_is_missing_has_a_label() {
    // One of each; the list of labels is made with the type.
    let reasons = [
        Reason::Disabled,
        Reason::Kernel("6.0"),
        Reason::Sysctl,
        Reason::SysctlGroup,
        Reason::Seccomp,
        Reason::Memlock,
        Reason::Engine,
        Reason::SlotSize,
        Reason::Copied,
        Reason::Refused(5),
        Reason::Broke(5),
        Reason::Errno(5),
    ];
    assert_eq!(reasons.map(Reason::label), Reason::LABELS, "every reason, each with its own label");
    for reason in reasons {
        let counters = Counters::anonymous(0).unwrap();
        let missing = vec![Missing { feature: Feature::ZeroCopy, reason }];
        counters.port(&Achieved { missing, ..achieved() });
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.value(Id::Missing, &["zero_copy", reason.label()]), Some(1));
        assert_eq!(snapshot.total(Id::Missing), 1, "{reason:?} under its own name only");
    }
}

#[test]
fn every_drop_has_its_counter_and_its_result() {
    let counters = Counters::anonymous(0).unwrap();
    for (times, &reason) in (1..).zip(Drop::ALL) {
        (0..times).for_each(|_| counters.drop(reason));
    }
    let snapshot = counters.snapshot();
    let times = |reason: Drop| reason as u64 + 1;
    for &reason in Drop::ALL {
        let label = reason.label();
        assert_eq!(snapshot.value(Id::Dropped, &[label]), Some(times(reason)), "{label}");
        if let Some(result) = snapshot.value(Id::Handshakes, &[label]) {
            assert_eq!(result, times(reason), "{label}");
        }
    }
    let sum = |drops: &[Drop]| drops.iter().map(|&reason| times(reason)).sum::<u64>();
    assert_eq!(snapshot.total(Id::Handshakes), sum(&HANDSHAKE_DROPS));
    assert_eq!(snapshot.total(Id::Decrypts), sum(&DECRYPT_DROPS));
    assert_eq!(snapshot.value(Id::Decrypts, &["bad_tag"]), Some(times(Drop::BadTag)));
    counters.tunnel(&tunnel::Stats { handshakes: 1, keys_lost: 3, ..Default::default() });
    counters.decrypt_ok();
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.value(Id::Handshakes, &["ok"]), Some(1));
    assert_eq!(snapshot.value(Id::Decrypts, &["ok"]), Some(1));
    assert_eq!(snapshot.value(Id::KeysLost, &[]), Some(3));
    assert_eq!(snapshot.value(Id::Decrypts, &["no such result"]), None);
}

#[test]
fn every_refusal_of_a_binding_has_its_counter() {
    let counters = Counters::anonymous(0).unwrap();
    for (times, &refused) in (1..).zip(identity::Refused::ALL) {
        (0..times).for_each(|_| counters.binding_refused(refused));
    }
    let snapshot = counters.snapshot();
    for (times, refused) in (1..).zip(identity::Refused::ALL) {
        assert_eq!(snapshot.value(Id::BindingRefused, &[refused.label()]), Some(times));
    }
}

#[test]
fn a_queue_is_published_as_it_is() {
    let counters = Counters::anonymous(0).unwrap();
    let mut wait = Log2::EMPTY;
    wait.record(1500);
    let stats = QueueStats {
        offered: 20,
        enqueued: 10,
        coalesced: 3,
        sent: 6,
        full: 1,
        peer_rate: 2,
        prefix_rate: 4,
        expired: 3,
        depth: 1,
        high_water: 9,
        capacity: 64,
        wait,
    };
    counters.queue(Class::Hints, &stats);
    let snapshot = counters.snapshot();
    let value = |id, labels: &[&str]| snapshot.value(id, &[&["hints"], labels].concat()).unwrap();
    let gauges = [Id::QueueDepth, Id::QueueHighWater, Id::QueueCapacity].map(|id| value(id, &[]));
    assert_eq!(gauges, [1, 9, 64]);
    let counts = [Id::QueueOffered, Id::QueueEnqueued, Id::QueueCoalesced, Id::QueueSent];
    assert_eq!(counts.map(|id| value(id, &[])), [20, 10, 3, 6]);
    assert_eq!(value(Id::QueueDropped, &["queue_full"]), 1);
    assert_eq!(value(Id::QueueDropped, &["expired"]), 3);
    assert_eq!(value(Id::QueuePoliced, &["peer_rate"]), 2);
    assert_eq!(value(Id::QueuePoliced, &["send_prefix_rate"]), 4);
    assert_eq!(value(Id::QueueWait, &[]), 1);
    assert_eq!(snapshot.total(Id::QueueOffered), 20, "nothing in another class");
}

#[test]
fn a_socket_is_published_as_it_is() {
    let counters = Counters::anonymous(0).unwrap();
    let mut stats = Stats {
        rx_packets: 1,
        rx_bytes: 2,
        rx_messages: 3,
        rx_batches: 4,
        rx_truncated: 5,
        rx_nameless: 6,
        rx_kernel_drops: 7,
        rx_starved: 8,
        rx_rearms: 9,
        tx_packets: 101,
        tx_bytes: 102,
        tx_messages: 103,
        tx_batches: 104,
        tx_gso_segments: 105,
        tx_blocked: 106,
        syscalls: 201,
        wakes: 202,
        cq_overflows: 203,
        ..Stats::default()
    };
    stats.rx_errors.add(ErrorKind::Refused, 10);
    stats.tx_errors.add(ErrorKind::TooLarge, 110);
    counters.socket(&stats);
    counters.socket_buffers(11, 111);
    let snapshot = counters.snapshot();
    let value = |id, labels: &[&str]| snapshot.value(id, labels).unwrap();
    for (direction, base) in [("receive", 0), ("send", 100)] {
        let ids = [Id::SocketPackets, Id::SocketBytes, Id::SocketMessages, Id::SocketBatches];
        for (id, n) in ids.into_iter().zip(1..) {
            assert_eq!(value(id, &[direction]), base + n, "{id:?}");
        }
        let error = if base == 0 { "refused" } else { "too_large" };
        assert_eq!(value(Id::SocketErrors, &[direction, error]), base + 10);
        assert_eq!(value(Id::SocketBuffer, &[direction]), base + 11);
    }
    let received = [Id::SocketTruncated, Id::SocketNameless, Id::SocketKernelDropped];
    assert_eq!(received.map(|id| value(id, &[])), [5, 6, 7]);
    assert_eq!([Id::SocketStarved, Id::SocketRearms].map(|id| value(id, &[])), [8, 9]);
    assert_eq!((value(Id::SocketGsoSegments, &[]), snapshot.total(Id::SocketErrors)), (105, 120));
    // Refused by the kernel is dropped, whichever way it was refused; receiving loses nothing.
    assert_eq!(value(Id::Dropped, &["send_failed"]), 110);
    assert_eq!(value(Id::SocketBlocked, &[]), 106);
    assert_eq!(snapshot.total(Id::Dropped), 110);
    let both = [Id::SocketSyscalls, Id::SocketWakes, Id::SocketOverflows];
    assert_eq!(both.map(|id| value(id, &[])), [201, 202, 203]);
}

#[test]
fn series_do_not_share_cells() {
    let mut next = HEADER_CELLS;
    for id in Id::ALL {
        assert_eq!(id.cell(), next, "{id:?}");
        next += id.metric().series() * id.metric().kind.cells();
    }
    assert_eq!(next, CELLS);
    for metric in &layout::METRICS {
        assert!(is_name(metric.name) && !metric.help.contains(['\n', '\\', '|']), "{metric:?}");
        for axis in metric.axes {
            let values: BTreeSet<_> = (0..axis.len()).map(|at| axis.value(at)).collect();
            assert_eq!(values.len(), axis.len(), "{axis:?} has a value twice");
        }
    }
}

/// Names and labels of the rules that operators are given.
#[test]
fn what_alerts_ask_for_is_there() {
    let parsed = parse(&text(&[Counters::anonymous(0).unwrap().snapshot()]));
    for (name, labels) in [
        ("molia_queue_dropped_packets_total", &["class", "reason"][..]),
        ("molia_queue_offered_packets_total", &["class"]),
        ("molia_queue_depth", &["class"]),
        ("molia_queue_capacity", &["class"]),
        ("molia_wg_handshakes_total", &["result"]),
        ("molia_wg_decrypt_packets_total", &["result"]),
        ("molia_wg_cookie_replies_total", &[]),
        ("molia_message_received_total", &["type"]),
        ("molia_message_dropped_total", &["type"]),
        ("molia_socket_kernel_dropped_packets_total", &[]),
        ("molia_pool_free_buffers", &["pool"]),
        ("molia_pool_buffers", &["pool"]),
        ("molia_shard_heartbeat_timestamp_seconds", &[]),
        ("molia_shard_busy_seconds_total", &[]),
    ] {
        let wanted: BTreeSet<_> = labels.iter().chain(&["shard"]).map(|l| l.to_string()).collect();
        let (_, found, _) = parsed.samples.iter().find(|(n, _, _)| n == name).expect(name);
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), wanted, "{name}");
    }
}
