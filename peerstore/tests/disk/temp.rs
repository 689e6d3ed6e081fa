//! Directories that are gone when a test is over, and the test's program run again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed when dropped.
pub(crate) struct Temp(PathBuf);

impl Temp {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("molia-disk-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tells a test of this program that it is run by another, and on which directory.
pub(crate) const DIR: &str = "MOLIA_TEST_DISK_DIR";

/// The directory, if another test runs this one.
pub(crate) fn told() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// A command that runs one test of this program alone: `before` is what goes in front.
pub(crate) fn again(before: &[&str], test: &str) -> Command {
    let own = std::env::current_exe().expect("the program's path");
    let mut words = before.iter().map(|word| (*word).into()).chain([own.into_os_string()]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}
