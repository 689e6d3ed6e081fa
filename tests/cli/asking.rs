//! The commands that ask a running router, and the bench.

use std::collections::HashSet;

use serde_json::Value;

use super::place::{Outcome, Place};
use super::running::Router;

/// A router and a place to ask it from.
fn router(name: &str) -> (Place, Router, String) {
    let place = Place::new(name);
    let router = Router::start(&place, &[]);
    let link = router.line("link").to_owned();
    (place, router, link)
}

fn peer_id(link: &str) -> &str {
    &link["molia://".len()..][..64]
}

#[test]
fn ping_counts_and_summarizes() {
    let (place, _router, link) = router("ask-ping");
    let pinged = place.run(&["ping", &link, "-c", "3", "-i", "0.05"]).ok();
    let lines: Vec<&str> = pinged.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("PING {}", peer_id(&link))), "{pinged:?}");
    assert!(lines[1].contains("sees us at 127.0.0.1:"), "{pinged:?}");
    assert!(lines[5].starts_with("3 sent, 3 answered, 0 % lost"), "{pinged:?}");
    assert!(lines[6].starts_with("rtt min/avg/max/mdev = "), "{pinged:?}");

    let json = place.run(&["ping", &link, "-c", "2", "-i", "0.01", "-s", "1200", "--json"]);
    let json = json.ok().json();
    assert_eq!((&json["sent"], &json["answered"]), (&2.into(), &2.into()));
    assert_eq!(json["replies"].as_array().unwrap().len(), 2);
    assert!(json["rtt_ms"]["min"].as_f64().unwrap() > 0.0);
}

#[test]
fn peers_that_show_an_identity_are_found() {
    let (place, _router, link) = router("ask-find");
    let nobody = place.run(&["find-node", &link]).ok();
    assert_eq!(nobody.stdout, "the router knows no peer yet\n");
    place.run(&["keygen", "--out", "me.key"]).ok();
    // The session ends with the command; its entry stays until it is silent for long.
    place.run(&["reflect", &link, "--identity", "me.key"]).ok();
    let found = place.run(&["find-node", &link, "--json"]).ok().json();
    let peers = found["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 1, "{found}");
    let address = peers[0]["addresses"][0].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{found}");
    let line = place.run(&["find-node", &link, peer_id(&link)]).ok();
    assert!(line.stdout.starts_with(peers[0]["peer_id"].as_str().unwrap()), "{line:?}");
}

#[test]
fn what_is_stored_is_found() {
    let (place, _router, link) = router("ask-store");
    place.run(&["keygen", "--out", "me.key"]).ok();
    let store =
        |args: &[&str]| place.run(&[&["store", &link, "--identity", "me.key"], args].concat());
    let find = |key: &str, args: &[&str]| place.run(&[&["find-value", &link, key], args].concat());

    let key = store(&["--value", "hello molia"]).ok().stdout;
    assert_eq!(key, "6bb87794b712a2275a498e521ca6feb405216edb5719f4c3f16ddb77859596e7\n");
    assert_eq!(find(key.trim_end(), &[]).ok().stdout, "hello molia\n");
    let large: Vec<u8> = (0..8000_u32).map(|n| n.to_be_bytes()[3]).collect();
    std::fs::write(place.path("large"), &large).unwrap();
    let key = store(&["large"]).ok().stdout;
    find(key.trim_end(), &["--out", "copy"]).ok();
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), large);

    let named = |value: &str, sequence: &str, ttl: &str| {
        let args = ["--value", value, "--name", "blog", "--sequence", sequence, "--ttl", ttl];
        store(&[&args[..], &["--json"]].concat())
    };
    let first = named("one", "4", "15m").ok().json();
    assert_eq!((&first["sequence"], &first["ttl_s"]), (&4.into(), &900.into()));
    named("two", "5", "1h").ok();
    named("one", "4", "1h").fails(69, "the router does not keep it: stale");
    named("other", "5", "1h").fails(69, "the router does not keep it: equivocation");
    let key = first["key"].as_str().unwrap();
    let found = find(key, &["--json"]).ok().json();
    assert_eq!(
        (&found["record"]["text"], &found["record"]["name"]),
        (&"two".into(), &"blog".into())
    );
    named("", "6", "1h").ok();
    assert_eq!(find(key, &[]).ok().stdout, "the router has nothing under this key\n");
    find(key, &["--out", "none"]).fails(69, "the router has no value under this key");
    let stranger = place.run(&["store", &link, "--value", "x"]);
    stranger.fails(64, "a router keeps nothing for strangers: --identity FILE says who you are");
    store(&["huge"]).fails(74, "huge: No such file or directory (os error 2)");
}

#[test]
fn a_lookup_walks_to_what_is_there() {
    let (place, _router, link) = router("ask-lookup");
    let look_up = |args: &[&str]| place.run(&[&["lookup", &link], args].concat());
    let closest = look_up(&["--peer", &"00".repeat(32)]).ok().stdout;
    let lines: Vec<&str> = closest.lines().collect();
    assert!(lines[0].starts_with("1 hops, 1 nodes asked, 1 answered, 0 failed, "), "{closest}");
    assert!(lines[1].starts_with(&format!("{}  127.0.0.1:", peer_id(&link))), "{closest}");

    place.run(&["keygen", "--out", "me.key"]).ok();
    let text = ["--value", "hello molia"];
    let store = [&["store", &link, "--identity", "me.key"], &text[..]].concat();
    let key = place.run(&store).ok().stdout;
    let told = look_up(&["--key", key.trim_end()]).ok().stdout;
    assert_eq!(told.lines().nth(1), Some("hello molia"));
    let told = look_up(&["--value", "hello molia", "--json"]).ok().json();
    assert_eq!((&told["end"], &told["record"]["text"]), (&"found".into(), &"hello molia".into()));
    assert_eq!(told["holders"], serde_json::json!([peer_id(&link)]));
    look_up(&["--key", key.trim_end(), "--out", "copy"]).ok();
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"hello molia");

    let none = look_up(&["--value", "goodbye"]).ok().stdout;
    assert_eq!(none.lines().nth(1), Some("nobody has anything under this key"));
    let none = look_up(&["--value", "goodbye", "--out", "none"]);
    none.fails(69, "nobody has a value under this key");
    assert_eq!(look_up(&[]).code, 64);
    assert_eq!(look_up(&["--value", "x", "--key", &"00".repeat(32)]).code, 64);
    let other = link.replace(peer_id(&link), &"0".repeat(64));
    assert_eq!(place.run(&["lookup", &other, "--value", "x"]).code, 76);
}

#[test]
fn who_announces_is_listed() {
    let (place, _router, link) = router("ask-announce");
    let me = place.run(&["keygen", "--out", "me.key", "--json"]).ok().json();
    let (key, peer) = ("5a".repeat(32), me["peer_id"].as_str().unwrap());
    let announce = |args: &[&str]| {
        place.run(&[&["announce", &link, &key, "--identity", "me.key"], args].concat())
    };
    let told = announce(&["--meta", "v=1", "--ttl", "10m"]).ok();
    // The clock may have gone on to the next second before the router looked at it.
    let wanted = [600, 599, 598].map(|left| format!("{peer}  listed for {left} s\n"));
    assert!(wanted.contains(&told.stdout), "{told:?}");
    let found = place.run(&["find-value", &link, &key]).ok();
    let until = found.stdout.strip_prefix(&format!("{peer}  until ")).unwrap();
    assert!(until.ends_with("  v=1\n"), "{found:?}");
    let again = announce(&["--json"]).ok().json();
    assert_eq!((&again["peer_id"], &again["key"]), (&me["peer_id"], &key.as_str().into()));
    assert_eq!(announce(&["--meta", &"m".repeat(129)]).code, 64);
}

#[test]
fn reflect_tells_the_address() {
    let (place, _router, link) = router("ask-reflect");
    let seen = place.run(&["reflect", &link, "--json"]).ok().json();
    assert_eq!((&seen["observed"], &seen["translated"]), (&seen["local"], &false.into()));
    assert!(place.run(&["reflect", &link]).ok().stdout.contains("not translated"));
}

#[test]
fn whatever_is_wrong_has_one_line_and_its_code() {
    let (place, router, link) = router("ask-wrong");
    let id = peer_id(&link);
    let other = link.replace(id, &"0".repeat(64));
    let why = format!("wrong peer id: the link says {}, the router is {id}", "0".repeat(64));
    place.run(&["ping", &other, "-c", "1"]).fails(76, &why);

    let key = &link[link.find("?k=").unwrap() + 3..];
    let stranger = link.replace(key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    let silent = place.run(&["ping", &stranger, "-c", "1", "--timeout", "0.2"]);
    assert_eq!(silent.code, 75, "{silent:?}");
    assert!(silent.stderr.contains("the key in the link"), "{silent:?}");
    assert_eq!(silent.stderr.lines().count(), 1, "{silent:?}");

    let bad = place.run(&["ping", "molia://12"]);
    assert_eq!(bad.code, 64, "{bad:?}");
    let missing = place.run(&["reflect", &link, "--identity", "no.key"]);
    assert_eq!((missing.code, missing.stderr.lines().count()), (74, 1), "{missing:?}");

    drop(router);
    let dead = place.run(&["ping", &link, "-c", "1"]);
    assert_eq!(dead.code, 69, "{dead:?}");
    assert!(dead.stderr.contains("nothing listens on"), "{dead:?}");
}

#[test]
fn a_bench_against_a_router_tells_percentiles() {
    let (place, _router, link) = router("ask-bench");
    for (what, name) in [("echo", "ping"), ("lookup", "find_node"), ("handshake", "handshake")] {
        let json = place.run(&["bench", what, &link, "--quick", "--json"]).ok().json();
        let row = &json["rows"][0];
        assert_eq!(row["what"], name);
        assert!(row["answered"].as_u64().unwrap() > 0, "{json}");
        let us = |field: &str| row[field].as_f64().unwrap();
        assert!(us("p50_us") <= us("p99_us") && us("p99_us") <= us("max_us"), "{json}");
    }
}

/// Costs in this process: the numbers mean nothing in a test, that they come does.
fn bench(name: &str, what: &str) -> Vec<Value> {
    let place = Place::new(name);
    let outcome: Outcome = place.run(&["bench", what, "--quick", "--json"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.json()["rows"].as_array().unwrap().clone()
}

#[test]
fn bench_echo_has_a_row_for_every_cell() {
    let rows = bench("bench-echo", "echo");
    // Where io_uring is forbidden its half is left out.
    assert!(rows.len() == 8 || rows.len() == 16, "{} rows", rows.len());
    for row in &rows {
        let ns = |field: &str| row[field].as_f64().unwrap();
        let ratio = ns("server_ns") / (ns("floor_ns") + ns("aead_ns"));
        assert!((ratio - ns("ratio")).abs() < 0.01 * ratio, "{row}");
        assert!(matches!(row["engine"].as_str(), Some("io_uring" | "mmsg")), "{row}");
        assert!(row["offloads"].is_boolean(), "{row}");
    }
    let cell = |payload: u64, flows: u64| {
        rows.iter().any(|row| row["payload_bytes"] == payload && row["flows"] == flows)
    };
    assert!(cell(100, 1) && cell(100, 256) && cell(1200, 1) && cell(1200, 256));
}

#[test]
fn bench_relay_has_a_row_for_every_cell() {
    let place = Place::new("bench-relay");
    let outcome: Outcome = place.run(&["bench", "relay", "--quick", "--latency", "--json"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let json = outcome.json();
    let (rows, latency) = (json["rows"].as_array().unwrap(), json["latency"].as_array());
    let cell = |row: &Value| {
        let number = |field: &str| row[field].as_u64().unwrap();
        let offloads = row["offloads"].as_bool().unwrap();
        (number("payload_bytes"), number("pairs"), number("train"), offloads)
    };
    let cells: HashSet<_> = rows.iter().map(cell).collect();
    assert_eq!((rows.len(), cells.len()), (16, 16));
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap();
        let ratio = number("server_ns") / number("floor_ns");
        assert!((ratio - number("ratio")).abs() < 0.01 * ratio, "{row}");
    }
    // Only where there is a second CPU, for the load.
    for row in latency.into_iter().flatten() {
        assert!(cells.contains(&cell(row)) && row["relay"] == "router", "{row}");
        assert!(row["floor_p50_us"].as_f64() <= row["floor_p99_us"].as_f64(), "{row}");
    }
}

#[test]
fn bench_scale_compares_with_one_shard() {
    let rows = bench("bench-scale", "scale");
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap();
    let cell = |row: &Value| (row["payload_bytes"].clone(), row["train"].clone());
    let alone = |row: &&Value| row["shards"] == 1 && row["routers"] == 1;
    assert_eq!(rows.iter().filter(alone).count(), 4, "two sizes, in trains and one by one");
    for row in &rows {
        let base = rows.iter().filter(alone).find(|it| cell(it) == cell(row)).unwrap();
        let ratio = number(row, "server_ns") / number(base, "server_ns");
        assert!((ratio - number(row, "ratio")).abs() < 0.01 * ratio, "{row}");
    }
    // Where there is a second CPU there are two shards, steered to and not, and two routers.
    let steered = rows.iter().filter(|row| row["shards"] == 2 && row["steering"] == "on").count();
    let forwarding =
        rows.iter().filter(|row| row["shards"] == 2 && row["steering"] == "off").count();
    let apart = rows.iter().filter(|row| row["routers"] == 2).count();
    let wanted = if rows.len() == 4 { 0 } else { 4 };
    assert_eq!([steered, forwarding, apart], [wanted; 3]);
}

#[test]
fn bench_lookup_and_handshake_tell_what_they_measured() {
    let rows = bench("bench-lookup", "lookup");
    assert!(rows.len() == 4 || rows.len() == 8, "{} rows", rows.len());
    for row in rows {
        assert!(row["lookup_ns"].as_f64().unwrap() > 0.0, "{row}");
    }
    let rows = bench("bench-handshake", "handshake");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!(row["cpu_ns"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn bench_store_has_a_row_for_every_durability() {
    let place = Place::new("bench-store");
    let dir = place.path("run");
    let args = ["bench", "store", "--quick", "--json", "--dir", dir.to_str().unwrap()];
    let outcome: Outcome = place.run(&args);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let json = outcome.json();
    let levels = json["rows"].as_array().unwrap().iter().map(|row| row["durability"].as_str());
    assert_eq!(levels.collect::<Vec<_>>(), [Some("async"), Some("group"), Some("strict")]);
    for row in json["rows"].as_array().unwrap() {
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!((1.05..1.06).contains(&number("written_per_byte")), "{row}");
        assert!(number("records_per_cpu_s") > 0.0 && number("bare_records_per_cpu_s") > 0.0);
    }
    let left = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.collect();
    assert!(left.is_empty(), "{left:?} were left");
}
