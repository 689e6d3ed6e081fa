//! Without io_uring everything is as with it: these very tests, run again where it is forbidden.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use molia_router::port::{Engine, EngineChoice, Reason};

use super::server::Server;

/// Set in the runs below, to the way in which io_uring is forbidden.
const FORBIDDEN: &str = "MOLIA_TEST_WITHOUT_URING";

/// Set where a machine without io_uring, or without the means to forbid it, is a failure.
const REQUIRED: &str = "MOLIA_REQUIRE_URING";

/// Whether this is one of the runs below.
pub(crate) fn is_run_without_uring() -> bool {
    env::var_os(FORBIDDEN).is_some()
}

/// The helper that forbids io_uring to a program, built with the tests of the whole workspace.
fn helper() -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    let helper = exe.parent()?.parent()?.join("examples/without_uring");
    helper.exists().then_some(helper)
}

fn pass_without_uring(how: &str) {
    if is_run_without_uring() {
        return;
    }
    let Some(helper) = helper() else {
        assert!(env::var_os(REQUIRED).is_none(), "examples/without_uring is not built");
        eprintln!("SKIPPED: examples/without_uring is not built; cargo test --workspace does");
        return;
    };
    let output = Command::new(helper)
        .arg(format!("--{how}"))
        .arg(env::current_exe().unwrap())
        .env(FORBIDDEN, how)
        .env_remove(REQUIRED)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{how}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok"), "{how}: {text}");
}

#[test]
fn the_same_tests_pass_under_seccomp() {
    pass_without_uring("seccomp");
}

#[test]
fn the_same_tests_pass_without_lockable_memory() {
    pass_without_uring("memlock0");
}

#[test]
fn the_reason_is_told() {
    let server = Server::start(EngineChoice::Auto, "127.0.0.1:0").unwrap();
    let achieved = server.achieved();
    let why = achieved.reason(molia_router::port::Feature::IoUring);
    match env::var(FORBIDDEN).as_deref() {
        Ok("seccomp") => {
            assert_eq!((achieved.engine, why), (Engine::Mmsg, Some(Reason::Seccomp)));
        }
        // Rings are charged to the user's locked memory on some kernels only.
        Ok("memlock0") if achieved.engine == Engine::Mmsg => {
            assert_eq!(why, Some(Reason::Memlock));
        }
        _ => {}
    }
    assert_eq!(achieved.engine == Engine::Mmsg, why.is_some());
    server.stop();
}
