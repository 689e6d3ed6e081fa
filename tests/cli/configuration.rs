//! Settings that are right and wrong, as `check` sees them.

use serde_json::json;

use super::place::{Outcome, Place};

#[test]
fn no_setting_at_all_is_right() {
    let place = Place::new("none");
    let text = place.configured("check", &[]).ok().stdout;
    assert!(text.contains("attributes differ from their defaults\n"), "{text}");
    assert!(text.contains("identity   config/identity.key (none yet"), "{text}");
    assert!(place.files().is_empty(), "check writes nothing");
}

#[test]
fn what_differs_is_shown_with_its_source() {
    let place = Place::new("differs");
    place.write("io/engine", "mmsg\n");
    let mut command =
        place.command(&["check", "--json", "--config", "config", "--set", "udp/listen=[::1]:9"]);
    command.env("MOLIA_ROUTER_QOS_HINTS_DEPTH", "7");
    let report = Outcome::of(&mut command).ok().json();
    let differences = &report["differences"];
    let mmsg = json!({
        "attribute": "io/engine", "value": "auto io_uring [mmsg]",
        "default": "[auto] io_uring mmsg", "source": "config/io/engine", "applies": "restart",
    });
    assert_eq!(differences[0], mmsg);
    assert_eq!(differences[1]["value"], "[::1]:9");
    assert_eq!(differences[1]["source"], "--set");
    assert_eq!(differences[2]["source"], "MOLIA_ROUTER_QOS_HINTS_DEPTH");
    assert_eq!((&report["ok"], &differences[3]), (&json!(true), &json!(null)));
}

#[test]
fn every_kind_of_wrong_setting_ends_with_78_and_one_line() {
    let place = Place::new("wrong");
    let check = |set: &str| place.configured("check", &["--set", set]);
    check("io/rx_batch=0").fails(78, "--set: io/rx_batch = \"0\": out of range, allowed: 1..256");
    check("io/engine=epoll")
        .fails(78, "--set: io/engine = \"epoll\": not understood, allowed: auto, io_uring or mmsg");
    check("io/engin=mmsg").fails(78, "--set: no attribute \"io/engin\"; did you mean io/engine?");
    check("io/engine").fails(78, "--set \"io/engine\": expected path=value, e.g. io/engine=mmsg");
    check("pmtu/ceiling=1200").ok();
    check("io/rx_buffers=96").ok();
    place
        .configured("check", &["--set", "io/rx_batch=97", "--set", "io/rx_buffers=96"])
        .fails(78, "--set: io/rx_batch = 97: must not be larger than io/rx_buffers = 96");
    place
        .run(&["check", "--config", "nowhere"])
        .fails(78, "--config nowhere: No such file or directory (os error 2)");
    place.write("io/rx_batch", "many\n");
    place
        .configured("check", &[])
        .fails(78, "config/io/rx_batch: io/rx_batch = \"many\": not understood, allowed: 1..256");
}

#[test]
fn json_carries_every_error() {
    let place = Place::new("errors");
    place.write("io/rx_batch", "many\n");
    place.write("surprise", "x\n");
    let outcome = place.configured("check", &["--json"]);
    assert_eq!(outcome.code, 78);
    assert_eq!(outcome.json()["ok"], false);
    assert_eq!(outcome.json()["errors"].as_array().unwrap().len(), 2);
    assert_eq!(outcome.stderr.lines().count(), 2);
    place.configured("run", &[]).fails(
        78,
        "config/io/rx_batch: io/rx_batch = \"many\": not understood, allowed: 1..256 \
         (1 more; `molia-router check` lists them all)",
    );
}

#[test]
fn an_alternate_port_that_is_none_is_an_error_to_check_and_run() {
    let place = Place::new("same-port");
    for command in ["check", "run"] {
        let outcome = place.configured(command, &["--set", "udp/listen=127.0.0.1:7744"]);
        let why = "udp/alt_port = 7744: that is the port of udp/listen; another one, or 0 for none";
        outcome.fails(78, why);
    }
    place.configured("check", &["--set", "udp/alt_port=0"]).ok();
}

#[test]
fn legal_and_doubtful_settings_are_warned_about() {
    let place = Place::new("warn");
    let sets = ["--set", "admin/listen=0.0.0.0:9743", "--set", "pmtu/raise_s=60", "--json"];
    let report = place.configured("check", &sets).ok().json();
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0], "pmtu/raise_s (--set) has no effect in this version");
    assert!(warnings[1].as_str().unwrap().starts_with("admin/listen = 0.0.0.0:9743 serves"));
}

#[test]
fn wrong_command_lines_end_with_64_and_help_with_0() {
    let place = Place::new("usage");
    for args in [&[][..], &["fly"], &["check", "--nope"], &["check", "extra"], &["--json"]] {
        let outcome = place.run(args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (64, ""), "{args:?}");
        assert!(outcome.stderr.contains("Usage: molia-router"), "{args:?}");
    }
    for args in [&["--help"][..], &["help"], &["check", "--help"], &["--version"]] {
        assert!(!place.run(args).ok().stdout.is_empty());
    }
    let attributes = place.run(&["--help-attributes"]).ok().stdout;
    assert!(attributes.contains("io/engine = auto  [auto, io_uring or mmsg]"));
    assert_eq!(place.run(&["check", "--help-attributes"]).ok().stdout, attributes);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new("pipe");
    let mut child = place
        .command(&["--help-attributes"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
