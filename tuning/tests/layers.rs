//! Directory, environment and `--set` together, on a real file system.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tuning::{Layers, Name, Source, Values};

/// A directory that is removed with the test.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("tuning-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        Self(root)
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        self
    }

    fn load(&self) -> Result<Values, Vec<String>> {
        load(&self.0, &[], &[])
    }

    /// The errors, with the directory's own name left out.
    fn errors(&self) -> Vec<String> {
        let root = format!("{}/", self.0.display());
        self.load().unwrap_err().iter().map(|error| error.replace(&root, "")).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(root: &Path, variables: &[(&str, &str)], sets: &[&str]) -> Result<Values, Vec<String>> {
    let variables: Vec<(OsString, OsString)> =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let sets: Vec<String> = sets.iter().map(|&text| text.to_owned()).collect();
    Values::load(&Layers { directory: Some(root), variables: &variables, sets: &sets })
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn an_empty_directory_means_the_defaults() {
    assert_eq!(Tree::new("empty").load().unwrap(), Values::default());
}

#[test]
fn files_set_attributes_and_the_key_file_is_none() {
    let tree = Tree::new("files")
        .with("io/engine", "mmsg\n")
        .with("qos/hints/ttl_ms", "1s\n")
        .with("identity.key", b"\xff not a value")
        .with(".git/config", "x")
        .with("io/.engine.swp", "x");
    let values = tree.load().unwrap();
    assert_eq!(values.choice(Name::IoEngine), "mmsg");
    assert_eq!(values.shown(Name::IoEngine), "auto io_uring [mmsg]");
    assert_eq!(values.shown(Name::QosHintsTtl), "1000");
    assert_eq!(values.source(Name::IoEngine), &Source::File(tree.0.join("io/engine")));
    let changed: Vec<_> = values.differences().iter().map(|d| d.attribute.path).collect();
    assert_eq!(changed, ["io/engine", "qos/hints/ttl_ms"]);
}

#[test]
fn a_value_that_equals_the_default_is_no_difference() {
    let tree = Tree::new("same").with("io/rx_batch", "64").with("udp/rcvbuf_bytes", "8192k");
    assert!(tree.load().unwrap().differences().is_empty());
}

#[test]
fn later_layers_override_earlier_ones() {
    let tree = Tree::new("layers").with("io/rx_batch", "1").with("io/tx_batch", "2");
    let environment = [("MOLIA_ROUTER_IO_TX_BATCH", "3"), ("MOLIA_ROUTER_IO_ENGINE", "mmsg")];
    let sets = ["io/engine=io_uring", "io/engine=auto", "udp/gso = 0"];
    let values = load(&tree.0, &environment, &sets).unwrap();
    assert_eq!(values.number(Name::IoRxBatch), 1);
    assert_eq!(values.number(Name::IoTxBatch), 3);
    assert_eq!(values.choice(Name::IoEngine), "auto");
    assert!(!values.flag(Name::UdpGso));
    assert_eq!(values.source(Name::IoTxBatch), &Source::Variable(environment[0].0.to_owned()));
    assert_eq!(values.source(Name::UdpGso), &Source::Set);
}

#[test]
fn a_mounted_config_map_is_read_through_its_links() {
    let tree = Tree::new("configmap").with("..2024_01_01/io/engine", "mmsg");
    symlink("..2024_01_01", tree.0.join("..data")).unwrap();
    symlink("..data/io", tree.0.join("io")).unwrap();
    assert_eq!(tree.load().unwrap().choice(Name::IoEngine), "mmsg");
}

#[test]
fn everything_wrong_is_reported_at_once_and_in_order() {
    let tree = Tree::new("wrong")
        .with("io/rx_batch", "99999\n")
        .with("io/engine", "epoll\n")
        .with("io/rx_bach", "1\n")
        .with("colour", "green\n")
        .with("qos/hint/depth", "1")
        .with("udp/gso", "")
        .with("udp/rcvbuf_bytes", "1\n2\n")
        .with("wireguard/keepalive_s", "1500ms");
    assert_eq!(
        tree.errors(),
        [
            "colour: no attribute \"colour\"; `molia-router --help-attributes` lists them",
            "io/engine: io/engine = \"epoll\": not understood, allowed: auto, io_uring or mmsg",
            "io/rx_bach: no attribute \"io/rx_bach\"; did you mean io/rx_batch?",
            "io/rx_batch: io/rx_batch = \"99999\": out of range, allowed: 1..256",
            "qos/hint: no attribute \"qos/hint\"; `molia-router --help-attributes` lists them",
            "udp/gso: udp/gso = \"\": not understood, allowed: 0 or 1",
            "udp/rcvbuf_bytes: udp/rcvbuf_bytes = \"1\\n2\": not understood, allowed: 4k..1G bytes",
            "wireguard/keepalive_s: wireguard/keepalive_s = \"1500ms\": not a whole number of its \
             unit, allowed: 0..3600 s",
        ]
    );
}

#[test]
fn set_names_what_it_does_not_know() {
    let tree = Tree::new("set");
    let errors = load(&tree.0, &[], &["io/engine", "io.engine=mmsg", "io/rx_batch=0"]).unwrap_err();
    assert_eq!(
        errors,
        [
            "--set \"io/engine\": expected path=value, e.g. io/engine=mmsg",
            "--set: no attribute \"io.engine\"; did you mean io/engine?",
            "--set: io/rx_batch = \"0\": out of range, allowed: 1..256",
        ]
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let tree = Tree::new("rules").with("pmtu/ceiling", "1200").with("pmtu/floor", "1300");
    assert_eq!(
        tree.errors(),
        ["pmtu/floor: pmtu/floor = 1300: must not be larger than pmtu/ceiling = 1200"]
    );
    let sets = ["io/rx_batch=256", "io/rx_buffers=96", "io/tx_batch=65", "io/ring_entries=64"];
    let errors = load(&Tree::new("rules2").0, &[], &sets).unwrap_err();
    assert_eq!(
        errors,
        [
            "--set: io/rx_batch = 256: must not be larger than io/rx_buffers = 96",
            "--set: io/tx_batch = 65: must not be larger than io/ring_entries = 64",
        ]
    );
}

#[test]
fn what_is_no_small_text_file_is_refused() {
    let tree = Tree::new("kinds")
        .with("io/engine", vec![b'x'; 5000])
        .with("io/rx_batch/x", "1")
        .with("io/tx_batch", b"\xff\xfe");
    symlink("nowhere", tree.0.join("io/tx")).unwrap();
    assert_eq!(
        tree.errors(),
        [
            "io/engine: longer than a value can be",
            "io/rx_batch: not a file; an attribute is a file with one value",
            "io/tx: No such file or directory (os error 2)",
            "io/tx_batch: not text",
        ]
    );
}

#[test]
fn a_pipe_does_not_block() {
    let tree = Tree::new("pipe").with("io/engine", "mmsg");
    let made = std::process::Command::new("mkfifo").arg(tree.0.join("io/tx")).status();
    assert!(made.unwrap().success());
    assert_eq!(tree.errors(), ["io/tx: not a file; an attribute is a file with one value"]);
}

#[test]
fn a_wrong_directory_ends_early() {
    let tree = (0..100).fold(Tree::new("many"), |tree, i| tree.with(&format!("f{i}"), "x"));
    assert_eq!(tree.errors().len(), 20);
    let none = load(Path::new("/nonexistent/molia"), &[], &[]).unwrap_err();
    assert_eq!(none, ["/nonexistent/molia: No such file or directory (os error 2)"]);
}

#[test]
fn terminals_are_safe_from_what_a_file_holds() {
    let tree = Tree::new("escape").with("io/engine", "\x1b[2J".repeat(100));
    let error = &tree.errors()[0];
    assert!(!error.contains('\x1b') && error.len() < 500, "{error}");
}
