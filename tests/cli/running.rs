//! A router that runs, seen from outside: its lines, its pages, its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::place::{Outcome, Place};

/// Only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PORTS: [&str; 4] =
    ["--set", "udp/listen=127.0.0.1:0", "--set", "admin/listen=127.0.0.1:0"];

/// A running router, ended with the test.
pub(crate) struct Router {
    child: Child,
    banner: Vec<String>,
    /// Kept open, or the router would print into a closed pipe.
    _stdout: BufReader<ChildStdout>,
}

impl Router {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let args = [&["run", "--config", "config"], &PORTS[..], args].concat();
        let mut command = place.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = Vec::new();
        while !banner.last().is_some_and(|line: &String| line.starts_with("ready ")) {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("it did not become ready: {banner:?} {error}");
            }
            banner.push(line.trim_end().to_owned());
        }
        Self { child, banner, _stdout: stdout }
    }

    /// What the banner says after `label`.
    pub(crate) fn line(&self, label: &str) -> &str {
        let found = self.banner.iter().find_map(|line| line.strip_prefix(label));
        found.unwrap_or_else(|| panic!("no {label} in {:?}", self.banner)).trim()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap(), stderr)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let metrics = self.line("metrics").strip_prefix("http://").unwrap();
        let address = metrics.strip_suffix("/metrics").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_first_run_makes_an_identity_and_prints_all_a_newcomer_needs() {
    let place = Place::new("first");
    let router = Router::start(&place, &[]);
    assert_eq!(router.banner[0], concat!("molia-router ", env!("CARGO_PKG_VERSION")));
    assert_eq!(router.line("identity"), "config/identity.key (new: keep a copy)");
    assert!(router.line("listen").starts_with("127.0.0.1:"));
    assert!(router.line("engine").contains("tx "));
    let link = router.line("link").to_owned();
    assert!(link.starts_with(&format!("molia://{}@127.0.0.1:", router.line("peer id"))));
    assert_eq!(router.line("next"), format!("molia-router ping '{link}'"));
    assert_eq!(router.line("ready"), format!("{} {link}", router.line("listen")));
    router.signal("-TERM");
    let (peer_id, key) =
        (router.line("peer id").to_owned(), router.line("WireGuard key").to_owned());
    let (status, stderr) = router.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
    // The identity stays, and what was kept; everything else is gone.
    let mut left = place.files();
    left.retain(|path| !path.starts_with(place.path("state")));
    assert_eq!(left, [place.path("config/identity.key")]);
    let store = place.path("state").join(&peer_id[..16]).join("peerstore");
    assert!(store.join("shard-0").is_dir(), "{store:?}");
    let shown = place.configured("id", &["--json"]).ok().json();
    assert_eq!((&shown["peer_id"], &shown["wireguard_key"]), (&peer_id.into(), &key.into()));
    let again = Router::start(&place, &[]);
    assert_eq!(again.line("identity"), "config/identity.key");
    assert_eq!(again.line("peer id"), shown["peer_id"]);
}

#[test]
fn a_running_router_shows_itself() {
    let place = Place::new("shows");
    let sets = ["--set", "qos/hints/depth=7", "--set", "overlay/role=boot"];
    let router = Router::start(&place, &sets);
    assert!(router.get("/healthz").ends_with("\r\n\r\nok\n"));
    assert!(router.get("/readyz").starts_with("HTTP/1.1 200 OK\r\n"));
    let metrics = router.get("/metrics");
    assert!(metrics.contains("\nmolia_build_info{version="), "{metrics:.400}");
    assert!(metrics.contains("\nmolia_queue_capacity{shard=\"0\",class=\"hints\"} 7\n"));
    let page = router.get("/status.json");
    let page: Value = serde_json::from_str(page.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let status = place.run(&["status", "--json"]).ok().json();
    assert_eq!(page["router"], status["router"], "one document, whoever reads it");
    assert_eq!(status["router"]["pid"], router.child.id());
    assert_eq!(status["router"]["link"], router.line("link"));
    assert_eq!(status["router"]["settings"]["qos/hints/depth"], "7");
    assert_eq!((&status["router"]["role"], router.line("role")), (&"boot".into(), "boot"));
    assert_eq!((&status["ready"], &status["shards"][0]["shard"]), (&true.into(), &0.into()));
    let text = place.run(&["status"]).ok().stdout;
    assert!(text.contains(&format!("listen      {}\n", router.line("listen"))), "{text}");
    assert!(text.contains("\nrole        boot\n"), "{text}");
    let port = router.line("listen").rsplit(':').next().unwrap();
    place.run(&["status", "--port", port]).ok();
    assert_eq!(place.run(&["status", "--port", "1"]).code, 69);
}

#[test]
fn status_works_without_the_admin_listener_and_sees_a_dead_router() {
    let place = Place::new("killed");
    let router = Router::start(&place, &["--set", "admin/listen=off"]);
    assert_eq!(router.line("metrics"), "off (admin/listen)");
    assert_eq!(place.run(&["status", "--json"]).ok().json()["router"]["admin"], Value::Null);
    let pid = router.child.id();
    router.signal("-KILL");
    router.end();
    let outcome = place.run(&["status"]);
    let start = format!("molia-router: no router runs here: process {pid} ended and left ");
    assert_eq!((outcome.code, outcome.stderr.starts_with(&start)), (69, true), "{outcome:?}");
    // The next one starts all the same.
    drop(Router::start(&place, &["--set", "admin/listen=off"]));
}

#[test]
fn status_without_any_router_says_so() {
    let place = Place::new("nobody");
    let run = place.path("run");
    let why = format!("no router runs here (looked in {})", run.display());
    place.run(&["status"]).fails(69, &why);
}

#[test]
fn two_routers_run_side_by_side_and_status_asks_which() {
    let place = Place::new("two");
    let first = Router::start(&place, &[]);
    // One identity, two stores.
    let second = Router::start(&place, &["--set", "peerstore/dir=off"]);
    let outcome = place.run(&["status"]);
    assert_eq!(outcome.code, 64, "{outcome:?}");
    for router in [&first, &second] {
        let port = router.line("listen").rsplit(':').next().unwrap();
        assert!(outcome.stderr.contains(port));
        let status = place.run(&["status", "--port", port, "--json"]).ok().json();
        assert_eq!(status["router"]["pid"], router.child.id());
    }
}

#[test]
fn a_router_that_ended_makes_way_for_the_next_one_at_once() {
    let place = Place::new("restart");
    let mut router = Router::start(&place, &[]);
    for round in 0..6 {
        let listen = format!("udp/listen={}", router.line("listen"));
        let alternate = router.line("alternate").rsplit(':').next().unwrap();
        let alternate = format!("udp/alt_port={alternate}");
        router.signal(if round % 2 == 0 { "-TERM" } else { "-KILL" });
        router.end();
        router = Router::start(&place, &["--set", &listen, "--set", &alternate]);
        assert_eq!(
            format!("udp/alt_port={}", router.line("alternate").replace("127.0.0.1:", "")),
            alternate
        );
    }
}

#[test]
fn sigint_stops_it_as_well_and_sighup_does_not() {
    let place = Place::new("signals");
    let router = Router::start(&place, &[]);
    router.signal("-HUP");
    assert!(router.get("/healthz").ends_with("ok\n"));
    router.signal("-INT");
    let (status, stderr) = router.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let logged: Vec<Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(logged.iter().any(|line| line["message"] == "stopping" && line["signal"] == "SIGINT"));
}

#[test]
fn the_log_is_text_when_asked_and_without_colour_in_a_file() {
    let place = Place::new("log");
    let args = ["--set", "log/format=text", "--set", "log/level=debug"];
    let router = Router::start(&place, &args);
    router.signal("-TERM");
    let (_, stderr) = router.end();
    assert!(stderr.contains(" INFO ready listen=127.0.0.1:"), "{stderr}");
    assert!(!stderr.contains('\x1b'));
    let quiet = Router::start(&place, &["--set", "log/level=off"]);
    quiet.signal("-TERM");
    assert_eq!(quiet.end().1, "");
}

/// Where there is no systemd, which says so before anything else happens.
#[test]
fn a_log_for_a_journal_that_is_not_there_keeps_it_from_starting() {
    if Path::new("/run/systemd/journal/socket").exists() {
        return;
    }
    let place = Place::new("journal");
    let outcome = failing(&place, &[&PORTS[..], &["--set", "log/format=journald"]].concat());
    outcome.fails(
        69,
        "log/format = journald: no journal to write to: No such file or directory (os error 2) \
         (text and json go to standard error: --set log/format=auto)",
    );
    assert!(place.files().is_empty(), "{:?}", place.files());
}

/// `run` with what it needs, expected to fail.
fn failing(place: &Place, args: &[&str]) -> Outcome {
    place.configured("run", args)
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_written() {
    let place = Place::new("in-use");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!("udp/listen=127.0.0.1:{port}");
    let outcome = failing(&place, &["--set", &listen, "--set", "admin/listen=off"]);
    outcome.fails(
        69,
        &format!(
            "udp/listen = 127.0.0.1:{port}: Address already in use (os error 98) \
             (another address or port can be set: --set udp/listen=[::]:PORT)"
        ),
    );
    assert!(place.files().is_empty(), "{:?}", place.files());
    // The same for the alternate port, where the main one is free.
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, alternate) = (format!("udp/listen={free}"), format!("udp/alt_port={port}"));
    let ports = ["--set", &listen, "--set", &alternate, "--set", "admin/listen=off"];
    failing(&place, &ports).fails(
        69,
        &format!(
            "udp/alt_port = {port}: Address already in use (os error 98) \
             (another port can be set, or 0 for none: --set udp/alt_port=PORT)"
        ),
    );
    assert!(place.files().is_empty(), "{:?}", place.files());
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("admin/listen={}", admin.local_addr().unwrap());
    let outcome = failing(&place, &["--set", "udp/listen=127.0.0.1:0", "--set", &set]);
    assert_eq!(outcome.code, 69);
    assert!(outcome.stderr.contains("admin/listen=off lets the router start"), "{outcome:?}");
    assert!(place.files().is_empty(), "{:?}", place.files());
}

#[test]
fn whatever_is_wrong_at_start_leaves_nothing_behind() {
    let place = Place::new("nothing");
    let codes = [
        (78, &["--set", "io/rx_batch=0"][..]),
        (78, &["--set", "no/such=1"]),
        (64, &["--host", "a b"]),
        (64, &["--sett", "x"]),
        (69, &["--set", "udp/listen=198.51.100.1:7743"]),
        (73, &["--identity", "no/such/key"]),
    ];
    for (code, args) in codes {
        let outcome = failing(&place, &[&PORTS[..], args].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{outcome:?}");
        let lines = outcome.stderr.lines().filter(|line| line.starts_with("molia-router: "));
        assert!(lines.count() == 1 || code == 64, "{outcome:?}");
        assert!(place.files().is_empty(), "{args:?} left {:?}", place.files());
    }
}

#[test]
fn tables_beyond_the_memory_there_is_are_an_error_and_no_crash() {
    let place = Place::new("memory");
    // What has the tables fails at the key file instead, the step after.
    let args = ["run", "--config", "config", "--identity", "no/such/key"];
    let under = |limit: u32, set: &str| {
        let args = [&args[..], &PORTS, &["--set", set]].concat();
        let mut limited = Command::new("sh");
        let router = place.command(&[]);
        limited.args(["-c", &format!("ulimit -v {limit}; exec \"$0\" \"$@\"")]);
        limited.arg(router.get_program()).args(args).env_clear().current_dir(place.path(""));
        limited.env("RUNTIME_DIRECTORY", place.path("run")).env("PATH", "/usr/bin:/bin");
        limited.env("STATE_DIRECTORY", place.path("state"));
        let outcome = Outcome::of(&mut limited);
        assert!(place.files().is_empty(), "{limit} left {:?}", place.files());
        outcome
    };
    for set in ["overlay/entries_max=4194304", "wireguard/sessions_max=1048576"] {
        let least = under(400_000, set);
        assert_eq!(least.code, 71, "{least:?}");
        let told = "molia-router: no memory for the tables, ";
        assert!(least.stderr.starts_with(told) && least.stderr.lines().count() == 1, "{least:?}");
        for limit in (450_000..2_400_000).step_by(150_000) {
            let outcome = under(limit, set);
            assert!(matches!(outcome.code, 71 | 73), "{set} {limit}: {outcome:?}");
        }
        assert_eq!(under(6_000_000, set).code, 73);
    }
}

#[test]
fn a_key_that_others_can_read_keeps_it_from_starting() {
    let place = Place::new("run-mode");
    place.run(&["keygen", "--out", "config/identity.key"]).ok();
    place.chmod("identity.key", 0o644);
    failing(&place, &PORTS).fails(
        77,
        "config/identity.key: mode 0644 lets others read the router's secrets: \
         chmod 600 config/identity.key",
    );
    assert_eq!(place.files(), [place.path("config/identity.key")]);
}
