//! The store's settings: what is refused, what is done without, and what is said of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::place::{Outcome, Place};
use super::running::{PORTS, Router};

/// Has `run` refuse `dir`: one line and nothing else, and no file that was not there before.
fn refused(place: &Place, dir: &str, code: i32, why: &str) {
    let before = place.files();
    let set = format!("peerstore/dir={dir}");
    let outcome = place.configured("run", &[&PORTS[..], &["--set", &set]].concat());
    outcome.fails(code, why);
    assert_eq!((outcome.stdout.as_str(), place.files()), ("", before), "{dir}");
}

fn off(why: &str) -> String {
    format!("peerstore/dir: {why} (peerstore/dir=off keeps records in memory alone)")
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let place = Place::new("keep-none");
    let at = |name: &str| place.path(name).display().to_string();
    let outcome = place.configured("run", &["--set", "peerstore/dir=relative"]);
    assert_eq!((outcome.code, place.files()), (78, vec![]), "{outcome:?}");
    assert!(outcome.stderr.contains("peerstore/dir"), "{outcome:?}");
    let file = place.path("file");
    fs::write(&file, "not a directory").unwrap();
    let path = at("file");
    refused(&place, &path, 73, &off(&format!("cannot make {path}: File exists (os error 17)")));
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    // No parents are made of what may be a slip of the pen.
    let path = at("no/such/store");
    let why = format!("cannot make {path}: No such file or directory (os error 2)");
    refused(&place, &path, 73, &off(&why));
    assert!(!place.path("no").exists());
}

#[test]
fn a_directory_without_permission_is_refused() {
    let place = Place::new("keep-permission");
    let locked = place.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        fs::remove_file(locked.join("probe")).unwrap();
        eprintln!("SKIPPED: this user may do anything");
        return;
    }
    let path = locked.join("store").display().to_string();
    let why = format!("cannot make {path}: Permission denied (os error 13)");
    refused(&place, &path, 73, &off(&why));
}

#[test]
fn a_directory_that_is_read_only_is_refused_or_done_without() {
    let place = Place::new("keep-read-only");
    fs::create_dir(place.path("store")).unwrap();
    // Seen by this program alone.
    let mount = "mount -t tmpfs -o mode=700 tmpfs store && mount -o remount,ro store";
    let apart = |script: &str, args: &[&str]| {
        let router = place.command(args);
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &format!("{mount} && {script}")]);
        command.arg(router.get_program()).args(args).current_dir(place.path(""));
        command.env("RUNTIME_DIRECTORY", place.path("run")).env("HOME", place.path(""));
        command.env("STATE_DIRECTORY", place.path("store"));
        Outcome::of(&mut command)
    };
    let probe = apart("true", &[]);
    if probe.code != 0 {
        eprintln!("SKIPPED: cannot mount a disk that is read-only: {probe:?}");
        return;
    }
    let path = place.path("store").display().to_string();
    let set = format!("peerstore/dir={path}");
    let run = [&["run", "--config", "config"], &PORTS[..], &["--set", &set]].concat();
    let outcome = apart("exec \"$0\" \"$@\"", &run);
    let why = format!("cannot lock {path}: Read-only file system (os error 30)");
    outcome.fails(73, &off(&why));
    // The default place, there: it serves.
    let until_ready = "{ \"$0\" \"$@\" > said & } && until grep -q ^ready said; do \
                       kill -0 $! || exit 1; sleep 0.05; done; kill $!; wait $!; cat said";
    let outcome = apart(until_ready, &run[..run.len() - 2]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("records are in memory alone: cannot "), "{outcome:?}");
}

#[test]
fn two_routers_do_not_share_a_store() {
    let place = Place::new("keep-two");
    let path = place.path("store").display().to_string();
    let set = format!("peerstore/dir={path}");
    let router = Router::start(&place, &["--set", &set]);
    assert_eq!(router.line("store"), path);
    let told = format!(
        "peerstore/dir: {path} is in use by process {} (each router needs one of its own)",
        router.id()
    );
    refused(&place, &path, 69, &told);
    assert!(router.get("/healthz").ends_with("ok\n"), "the first one goes on");
    // The default place is each identity's, and two routers of one identity share it.
    drop(router);
    let router = Router::start(&place, &[]);
    let path = router.line("store").to_owned();
    assert!(path.starts_with(place.path("state").to_str().unwrap()), "{path}");
    let outcome = place.configured("run", &PORTS);
    assert_eq!(outcome.code, 69, "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("{path} is in use by process")), "{outcome:?}");
    // One that was killed is in nobody's way.
    router.signal("-KILL");
    router.end();
    drop(Router::start(&place, &[]));
}

#[test]
fn without_a_store_it_says_so() {
    let place = Place::new("keep-off");
    let router = Router::start(&place, &["--set", "peerstore/dir=off"]);
    assert_eq!(router.line("store"), "off: records are in memory alone");
    assert!(router.get("/metrics").contains("\nmolia_store_open{shard=\"0\"} 0\n"));
    drop(router);
    assert!(!place.path("state").exists());
    // The default place cannot be had: a warning, and it serves.
    fs::write(place.path("state"), "a file").unwrap();
    let router = Router::start(&place, &[]);
    assert!(router.line("warning").contains("records are in memory alone: cannot make"));
    assert!(router.get("/readyz").starts_with("HTTP/1.1 200 OK\r\n"));
    drop(router);
    assert_eq!(fs::read(place.path("state")).unwrap(), b"a file");
}
