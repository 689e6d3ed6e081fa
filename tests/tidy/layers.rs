//! Which module may name which.

use super::source::{code, is_word, line, words};

/// Layer of every module of the library; `lib.rs` lists the same ones.
pub(crate) const LAYERS: [&[&str]; 4] = [
    &[
        "admission",
        "bucket",
        "drops",
        "ids",
        "limits",
        "net",
        "partition",
        "signing",
        "time",
        "wheel",
        "wire",
    ],
    &["egress", "identity", "overlay", "relay", "rendezvous", "tunnel"],
    &["counters", "router"],
    &["admin", "cli", "client", "clock", "config", "port", "shard"],
];
/// The modules that may name the crate of the system calls.
const KERNEL: [&str; 3] = ["net", "port", "steer"];
/// What only the outermost layer touches: anything that makes a run unrepeatable.
const OUTSIDE: [&str; 11] = [
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "getrandom",
    "rustix",
    "tokio",
    "tracing",
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// `wire` for `src/wire/header.rs` and for `src/wire.rs`, with its depth below the crate.
fn module(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    let name = inner.split('/').next()?;
    (!matches!(inner, "lib" | "main")).then(|| (name, inner.split('/').count()))
}

/// Modules of the crate that `code` names, with the line of each.
fn uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let upwards = "super::".repeat(depth);
    for prefix in ["crate::", &upwards] {
        for (at, _) in code.match_indices(prefix) {
            if at > 0 && (is_word(code.as_bytes()[at - 1]) || code[..at].ends_with("super::")) {
                continue;
            }
            let heads = heads(&code[at + prefix.len()..]).into_iter();
            let heads = heads.filter(|head| prefix == "crate::" || layer(head).is_some());
            found.extend(heads.map(|head| (line(code, at), head)));
        }
    }
    found
}

/// First segments of a path or of each path of a group: `a::b` or `{a::b, c::{d, e}}`.
fn heads(path: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![ident(path)];
    };
    let (mut depth, mut start, mut heads) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(ident(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// Every way in which the file breaks the layering.
pub(crate) fn check(path: &str, text: &str) -> Vec<String> {
    let Some((name, depth)) = module(path) else { return Vec::new() };
    let Some(own) = layer(name) else { return vec![format!("{path}: in no layer")] };
    let code = code(text);
    let mut wrong = Vec::new();
    for (line, other) in uses(&code, depth) {
        let Some(layer) = layer(&other).filter(|_| other != name) else { continue };
        if layer > own || (layer == own && own == 1) {
            wrong.push(format!("{path}:{line}: L{own} `{name}` names L{layer} `{other}`"));
        }
    }
    let mut forbid = |what: &str, why: &str| {
        let places = words(&code, what).map(|at| line(&code, at));
        wrong.extend(places.map(|line| format!("{path}:{line}: `{what}` {why}")));
    };
    if own < 3 {
        OUTSIDE.iter().for_each(|what| forbid(what, "belongs to L3"));
    }
    if !KERNEL.contains(&name) {
        forbid("uring::", "belongs to `port`");
    }
    wrong
}

/// Modules that `lib.rs` declares and no layer lists, and the other way round.
pub(crate) fn check_list(lib: &str) -> Vec<String> {
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let listed = LAYERS.concat();
    let missing = declared.iter().filter(|name| !listed.contains(name));
    let stale = listed.iter().filter(|name| !declared.contains(name));
    let missing = missing.map(|name| format!("src/lib.rs: `{name}` is in no layer"));
    missing.chain(stale.map(|name| format!("src/lib.rs: no module `{name}`"))).collect()
}

#[test]
fn layers_are_enforced() {
    for (path, text, wrong) in [
        ("src/egress/queue.rs", "use crate::time::Moment;", 0),
        ("src/egress/queue.rs", "use crate::egress::Outgoing;", 0),
        ("src/egress/queue.rs", "use crate::{time::Moment, overlay::{Table, Entry}, ids};", 1),
        ("src/egress/queue.rs", "use crate::tunnel::Path;", 1),
        ("src/egress/queue.rs", "fn f(x: crate::router::Router) {}", 1),
        ("src/egress/queue.rs", "// use crate::tunnel::Path;\n\"crate::router\"", 0),
        ("src/egress/queue.rs", "use super::super::router::Router;", 1),
        ("src/egress/queue.rs", "use super::shaper::Shaper;", 0),
        ("src/egress/mod.rs", "use super::tunnel::Path;", 1),
        ("src/wire/kind.rs", "use crate::{\n    wire::body,\n    identity,\n};", 1),
        ("src/router/mod.rs", "use crate::{egress, overlay, tunnel, wire, counters};", 0),
        ("src/router/mod.rs", "use crate::shard::Handle;", 1),
        ("src/shard/mod.rs", "use crate::{router, config, egress};", 0),
        ("src/shard/mod.rs", "use uring::Socket;", 1),
        ("src/port/mod.rs", "use uring::Socket;", 0),
        ("src/router/mod.rs", "use std::fs::File; fn f() { std::thread::yield_now() }", 2),
        ("src/config.rs", "use std::fs::File;", 0),
        ("src/stray.rs", "", 1),
        ("src/main.rs", "use crate::anything;", 0),
        ("tests/sim/main.rs", "use crate::tunnel::X;", 0),
    ] {
        let found = check(path, text);
        assert_eq!(found.len(), wrong, "{path}: {text}: {found:?}");
    }
}

#[test]
fn the_list_of_modules_is_compared() {
    let all: String = LAYERS.concat().iter().map(|name| format!("pub mod {name};\n")).collect();
    assert!(check_list(&all).is_empty());
    assert_eq!(check_list(&format!("{all}pub mod stray;\n")).len(), 1);
    assert_eq!(check_list(&all.replace("pub mod wire;\n", "")).len(), 1);
}
