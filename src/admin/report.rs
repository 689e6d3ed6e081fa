//! The state of a router as a document, from its description and its counters.
//!
//! `/status.json` and the command `status` are the same document, made by the same
//! function: one in the router's process, one in any other that can read the files.

use serde_json::{Map, Value, json};

use crate::counters::Snapshot;
use crate::counters::layout::{Id, METRICS, Metric, Scale, Type};
use crate::wire::kind::Class;

/// Age of a heartbeat at which a shard counts as stuck, in milliseconds.
const STUCK_MS: u64 = 5_000;

/// Why a router does not serve, as far as its counters tell; empty if it does.
pub fn problems(shards: &[Snapshot], now_ms: u64) -> Vec<String> {
    if shards.is_empty() {
        return vec!["no shard has started".into()];
    }
    let stuck = |shard: &Snapshot| {
        let seconds = stuck_s(shard, now_ms)?;
        Some(format!("shard {} has not turned for {seconds} s", shard.shard()))
    };
    shards.iter().filter_map(stuck).collect()
}

/// For how many seconds a shard has not turned, if that is too long.
pub fn stuck_s(shard: &Snapshot, now_ms: u64) -> Option<u64> {
    let age_ms = heartbeat_age_ms(shard, now_ms);
    (age_ms > STUCK_MS).then_some(age_ms / 1000)
}

/// All there is to know: what `description` says of the router, and its shards at `now_ms`.
pub fn document(description: &Value, shards: &[Snapshot], now_ms: u64) -> Value {
    let problems = problems(shards, now_ms);
    let shards: Vec<Value> = shards.iter().map(|snapshot| shard(snapshot, now_ms)).collect();
    json!({
        "ready": problems.is_empty(),
        "problems": problems,
        "router": description,
        "shards": shards,
    })
}

fn shard(snapshot: &Snapshot, now_ms: u64) -> Value {
    let one = |id| snapshot.value(id, &[]).unwrap_or_default();
    let uptime_ms = now_ms.saturating_sub(one(Id::Started));
    json!({
        "shard": snapshot.shard(),
        "engine": state(snapshot, Id::Io),
        "tx": state(snapshot, Id::Tx),
        "offloads": by_label(snapshot, Id::Offload, |on| json!(on == 1)),
        "missing": missing(snapshot),
        "uptime_ms": uptime_ms,
        "restarts": one(Id::Restarts),
        "heartbeat_age_ms": heartbeat_age_ms(snapshot, now_ms),
        "load_permille": one(Id::Load),
        "sessions": one(Id::Sessions),
        "sessions_max": one(Id::SessionsMax),
        "under_load": one(Id::UnderLoad) == 1,
        "peers": one(Id::Peers),
        "values": one(Id::Values),
        "providers": one(Id::Providers),
        "relay": {
            "channels": one(Id::Channels),
            "packets": one(Id::Relayed),
            "bytes": one(Id::RelayedBytes),
            "waiting": one(Id::RelayWaiting),
        },
        "introductions": occurred(snapshot, Id::Introductions),
        "store": store(snapshot),
        "packets": by_label(snapshot, Id::SocketPackets, Value::from),
        "bytes": by_label(snapshot, Id::SocketBytes, Value::from),
        "kernel_dropped": one(Id::SocketKernelDropped),
        "queues": Class::ALL.map(|class| queue(snapshot, class)),
        "handshakes": occurred(snapshot, Id::Handshakes),
        "messages_received": occurred(snapshot, Id::Received),
        "messages_sent": occurred(snapshot, Id::Sent),
        "dropped": occurred(snapshot, Id::Dropped),
        "counters": counters(snapshot),
    })
}

/// How the store is; null if there is none.
fn store(snapshot: &Snapshot) -> Value {
    let one = |id| snapshot.value(id, &[]).unwrap_or_default();
    if one(Id::StoreOpen) == 0 {
        return Value::Null;
    }
    json!({
        "epoch": one(Id::StoreEpoch),
        "log_bytes": one(Id::StoreLogBytes),
        "snapshots": one(Id::StoreSnapshots),
        "failing": state(snapshot, Id::StoreFailing),
        "faults": occurred(snapshot, Id::StoreFaults),
        "damaged_at_start": occurred(snapshot, Id::StoreDamage),
    })
}

fn queue(snapshot: &Snapshot, class: Class) -> Value {
    let of = |id| snapshot.value(id, &[class.label()]).unwrap_or_default();
    json!({
        "class": class.label(),
        "depth": of(Id::QueueDepth),
        "depth_max": of(Id::QueueHighWater),
        "capacity": of(Id::QueueCapacity),
        "sent": of(Id::QueueSent),
    })
}

fn heartbeat_age_ms(snapshot: &Snapshot, now_ms: u64) -> u64 {
    now_ms.saturating_sub(snapshot.value(Id::Heartbeat, &[]).unwrap_or_default())
}

/// The label's value for which a state is set.
fn state(snapshot: &Snapshot, id: Id) -> Option<&'static str> {
    let mut found = None;
    snapshot.each_of(id, |labels, cells| found = found.or((cells[0] == 1).then_some(labels[0])));
    found
}

fn missing(snapshot: &Snapshot) -> Vec<Value> {
    let mut found = Vec::new();
    snapshot.each_of(Id::Missing, |labels, cells| {
        if let ([feature, reason], 1) = (labels, cells[0]) {
            found.push(json!({"feature": feature, "reason": reason}));
        }
    });
    found
}

/// A metric of one label as an object.
fn by_label(snapshot: &Snapshot, id: Id, value: impl Fn(u64) -> Value) -> Value {
    let mut object = Map::new();
    snapshot.each_of(id, |labels, cells| {
        object.insert(labels.join(","), value(cells[0]));
    });
    Value::Object(object)
}

/// The same without what never happened.
fn occurred(snapshot: &Snapshot, id: Id) -> Value {
    let Value::Object(mut object) = by_label(snapshot, id, Value::from) else { return Value::Null };
    object.retain(|_, count| count.as_u64() != Some(0));
    Value::Object(object)
}

/// Every counter and gauge that is not zero, by its metric's name and its labels' values.
fn counters(snapshot: &Snapshot) -> Value {
    let mut object = Map::new();
    for metric in &METRICS {
        object.insert(metric.name.to_owned(), json!({}));
    }
    snapshot.each(|metric, labels, cells| {
        let Some(value) = number(metric, cells) else { return };
        if let Some(series) = object.get_mut(metric.name) {
            series[labels.join(",")] = value;
        }
    });
    object.retain(|_, series| series.as_object().is_some_and(|series| !series.is_empty()));
    Value::Object(object)
}

/// A series in its base unit; nothing for zero. Histograms are their count and sum.
fn number(metric: &Metric, cells: &[u64]) -> Option<Value> {
    if cells.iter().all(|cell| *cell == 0) {
        return None;
    }
    let (sum, buckets) = cells.split_last()?;
    let count: u64 = buckets.iter().sum();
    Some(match metric.kind {
        Type::Counter(scale) | Type::Gauge(scale) => based(*sum, scale),
        Type::State => json!(sum),
        Type::Seconds => json!({"count": count, "sum": based(*sum, Scale::Nano)}),
        Type::Count => json!({"count": count, "sum": sum}),
    })
}

/// A cell in the metric's base unit.
#[expect(clippy::cast_precision_loss, reason = "people read it; a lost last digit is no matter")]
fn based(cell: u64, scale: Scale) -> Value {
    match scale {
        Scale::One => json!(cell),
        Scale::Milli => json!(cell as f64 / 1e3),
        Scale::Nano => json!(cell as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::drops::Drop;
    use crate::time::{Moment, Now};

    const NOW: Now = Now { at: Moment::START, unix_ms: 1_000_000 };

    #[test]
    fn a_router_without_turning_shards_is_not_ready() {
        let counters = Counters::anonymous(0).unwrap();
        counters.started(NOW);
        let shards = [counters.snapshot()];
        assert_eq!(problems(&[], NOW.unix_ms), ["no shard has started"]);
        assert!(problems(&shards, NOW.unix_ms + STUCK_MS).is_empty());
        let late = problems(&shards, NOW.unix_ms + STUCK_MS + 1000);
        assert_eq!(late, ["shard 0 has not turned for 6 s"]);
        // A clock that was set back is no stuck shard.
        assert!(problems(&shards, 0).is_empty());
    }

    #[test]
    fn the_document_has_what_happened_and_only_that() {
        let counters = Counters::anonymous(3).unwrap();
        counters.started(NOW);
        counters.sessions(7, 64);
        counters.drop(Drop::BadMac1);
        counters.drop(Drop::BadMac1);
        let document = document(&json!({"pid": 1}), &[counters.snapshot()], NOW.unix_ms + 1500);
        assert_eq!((&document["ready"], &document["router"]["pid"]), (&json!(true), &json!(1)));
        let shard = &document["shards"][0];
        assert_eq!((&shard["shard"], &shard["uptime_ms"]), (&json!(3), &json!(1500)));
        assert_eq!((&shard["sessions"], &shard["sessions_max"]), (&json!(7), &json!(64)));
        assert_eq!(shard["dropped"], json!({"bad_mac1": 2}));
        assert_eq!(shard["handshakes"], json!({"bad_mac1": 2}));
        assert_eq!(shard["messages_sent"], json!({}));
        assert_eq!(shard["counters"]["molia_dropped_packets_total"], json!({"bad_mac1": 2}));
        assert_eq!(shard["counters"]["molia_shard_start_timestamp_seconds"], json!({"": 1000.0}));
        assert_eq!(shard["counters"]["molia_wg_roams_total"], Value::Null);
    }
}
