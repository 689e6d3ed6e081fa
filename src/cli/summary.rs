//! The status document for people: a dozen lines.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use super::output;

/// The document of `/status.json` as text.
pub(super) fn text(document: &Value) -> String {
    let router = &document["router"];
    let state = match problems(document) {
        problems if problems.is_empty() => "ready".to_owned(),
        problems => format!("NOT READY: {problems}"),
    };
    let mut text = format!("{} {}: {state}", word(&router["program"]), word(&router["version"]));
    for (label, name) in [
        ("process", "pid"),
        ("role", "role"),
        ("listen", "listen"),
        ("alternate", "alternate"),
        ("admin", "admin"),
        ("link", "link"),
        ("store", "store"),
    ] {
        let _ = write!(text, "\n{label:<12}{}", word(&router[name]));
    }
    for shard in document["shards"].as_array().into_iter().flatten() {
        shard_lines(&mut text, shard);
    }
    text
}

fn problems(document: &Value) -> String {
    let problems = document["problems"].as_array().into_iter().flatten();
    problems.map(word).collect::<Vec<_>>().join(", ")
}

fn shard_lines(text: &mut String, shard: &Value) {
    let mut line = |label: &str, rest: String| {
        let _ = write!(text, "\n{label:<12}{rest}");
    };
    let n = |name: &str| shard[name].as_u64().unwrap_or_default();
    let load = n("load_permille");
    let restarts = match n("restarts") {
        0 => String::new(),
        restarts => format!(", panicked and restarted {restarts} times"),
    };
    line(
        &format!("shard {}", n("shard")),
        format!(
            "up {}, load {}.{} %, last turn {} ms ago{restarts}",
            duration(n("uptime_ms") / 1000),
            load / 10,
            load % 10,
            n("heartbeat_age_ms")
        ),
    );
    line("engine", engine(shard));
    for missing in shard["missing"].as_array().into_iter().flatten() {
        line("missing", format!("{} ({})", word(&missing["feature"]), word(&missing["reason"])));
    }
    let under_load =
        if shard["under_load"] == true { ", under load: cookies asked for" } else { "" };
    line("sessions", format!("{} of {}{under_load}", n("sessions"), n("sessions_max")));
    line("peers", format!("{} in the routing table", n("peers")));
    line("records", format!("{} values, {} providers", n("values"), n("providers")));
    let relay = &shard["relay"];
    let carried = format!("{} datagrams, {} bytes", word(&relay["packets"]), word(&relay["bytes"]));
    line("relay", format!("{} channels, {carried} carried", word(&relay["channels"])));
    line("store", store(&shard["store"]));
    let (packets, bytes) = (&shard["packets"], &shard["bytes"]);
    let moved =
        |way: &str| format!("{} datagrams, {} bytes", word(&packets[way]), word(&bytes[way]));
    line("received", format!("{}, {} lost in the kernel", moved("receive"), n("kernel_dropped")));
    line("sent", moved("send"));
    line("queues", queues(shard));
    for (label, name) in [
        ("handshakes", "handshakes"),
        ("introduced", "introductions"),
        ("messages in", "messages_received"),
        ("messages out", "messages_sent"),
        ("dropped", "dropped"),
    ] {
        line(&format!("{label} "), counts(&shard[name]));
    }
}

fn store(store: &Value) -> String {
    if store.is_null() {
        return "off: records are in memory alone".into();
    }
    let (epoch, bytes) = (word(&store["epoch"]), word(&store["log_bytes"]));
    let mut text = format!("log {epoch}, {bytes} bytes");
    if let Some(fault) = store["failing"].as_str() {
        let _ = write!(text, ", CANNOT BE WRITTEN: {fault}");
    }
    if store["damaged_at_start"].as_object().is_some_and(|damage| !damage.is_empty()) {
        let _ = write!(text, ", at the start {}", counts(&store["damaged_at_start"]));
    }
    text
}

fn engine(shard: &Value) -> String {
    let offloads = shard["offloads"].as_object().into_iter().flatten();
    let offloads = offloads.filter(|(_, on)| **on == true).map(|(name, _)| name.as_str());
    let mut parts = vec![word(&shard["engine"]), format!("tx {}", word(&shard["tx"]))];
    parts.extend(offloads.map(str::to_owned));
    parts.join(", ")
}

fn queues(shard: &Value) -> String {
    let queues = shard["queues"].as_array().into_iter().flatten();
    let queue = |queue: &Value| {
        format!("{} {}/{}", word(&queue["class"]), queue["depth"], queue["capacity"])
    };
    queues.map(queue).collect::<Vec<_>>().join(", ")
}

fn counts(object: &Value) -> String {
    let counts = object.as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "none".into() } else { counts.join(", ") }
}

/// A value without the quotes of JSON.
fn word(value: &Value) -> String {
    let text = if value.is_null() { Cow::Borrowed("-") } else { bare(value) };
    output::printable(&text)
}

fn bare(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| value.to_string().into(), Cow::Borrowed)
}

fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::report;
    use crate::counters::Counters;
    use crate::drops::Drop;
    use crate::time::{Moment, Now};
    use peerstore::journal::Stats;
    use peerstore::{FaultKind, Recovery};
    use serde_json::json;

    #[test]
    fn it_reads_like_this() {
        let counters = Counters::anonymous(0).unwrap();
        let now = Now { at: Moment::START, unix_ms: 1_000_000_000 };
        counters.started(now);
        counters.sessions(2, 65_536);
        counters.drop(Drop::BadMac1);
        counters.load_permille(123);
        let description = json!({
            "program": "molia-router", "version": "0.1.0", "pid": 42, "role": "boot", "listen": "[::]:7743", "alternate": "[::]:7744",
            "admin": null, "link": "molia://x",
        });
        let at = now.unix_ms + 90_000;
        let text = text(&report::document(&description, &[counters.snapshot()], at));
        let start = "molia-router 0.1.0: NOT READY: shard 0 has not turned for 90 s\n\
                     process     42\nrole        boot\nlisten      [::]:7743\nalternate   [::]:7744\nadmin       -\nlink        molia://x\nstore       -\n\
                     shard 0     up 1 min 30 s, load 12.3 %, last turn 90000 ms ago\n";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\nsessions    2 of 65536\n"), "{text}");
        assert!(text.contains("\nstore       off: records are in memory alone\n"), "{text}");
        assert!(
            text.contains("\nqueues      control 0/0, coordination 0/0, hints 0/0\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrelay       0 channels, 0 datagrams, 0 bytes carried\n"),
            "{text}"
        );
        let counts = "\nhandshakes  bad_mac1 1\nintroduced  none\nmessages in none\n";
        assert!(text.contains(counts), "{text}");
        assert!(text.ends_with("\ndropped     bad_mac1 1"), "{text}");
    }

    #[test]
    fn a_store_that_fails_stands_out() {
        let counters = Counters::anonymous(0).unwrap();
        let stats = Stats { epoch: 7, log_bytes: 4096, ..Stats::default() };
        counters.store(&stats, Some(FaultKind::NoSpace));
        counters.store_recovery(&Recovery { corrupt: 1, ..Recovery::default() }, 0);
        let text = text(&report::document(&json!({}), &[counters.snapshot()], 0));
        let line = "\nstore       log 7, 4096 bytes, CANNOT BE WRITTEN: no_space, at the start corrupt 1\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_a_router_says_of_itself_cannot_command_the_terminal() {
        let text = text(&json!({"router": {"program": "x\u{1b}]0;y\u{7}", "link": ["\u{9b}"]}}));
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert!(text.starts_with("x\\u001b]0;y\\u0007 -: ready\n"), "{text}");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3 * 3600 + 5), "3 h 0 min");
        assert_eq!(duration(2 * 86_400 + 3600), "2 d 1 h");
    }
}
