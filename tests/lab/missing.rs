//! What a laboratory needs of the machine, and how a test gets it or says what there is not.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::Output;

use super::netns::{Netns, TOOL_PATH, feed, tool};

/// Set where the machine is known to have everything: then a test fails instead of skipping.
const REQUIRE: &str = "MOLIA_REQUIRE_LAB";
/// Set for the copy of the test binary that runs in a user namespace.
const INSIDE: &str = "MOLIA_LAB_INSIDE";
/// Tools, each with the Debian package that brings it.
const TOOLS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("unshare", "util-linux"),
];
/// How one becomes root of one's own network.
const OWN_NETWORK: [&str; 3] = ["--user", "--map-root-user", "--net"];

/// Why there can be no laboratory here.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Tools, with the packages that bring them.
    Tools(Vec<(&'static str, &'static str)>),
    /// Network namespaces may not be made.
    Namespaces(String),
    /// The kernel lacks something, or forbids it.
    Kernel(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tools(tools) => {
                let (names, packages): (Vec<_>, Vec<_>) = tools.iter().copied().unzip();
                write!(f, "no {} (packages: {})", names.join(", "), packages.join(" "))
            }
            Self::Namespaces(why) => write!(f, "network namespaces not allowed: {why}"),
            Self::Kernel(why) => write!(f, "refused by the kernel: {why}"),
        }
    }
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error.to_string())
    }
}

/// Runs a test that needs laboratories, where they can be had; else says on stderr what is missing.
///
/// Who may not make namespaces gets a user namespace: the test binary runs this one test again
/// inside. The test is found by the name of its closure's type, so `test` must be a closure
/// written in the test function itself.
pub(crate) fn run<F: FnOnce() -> Result<(), Missing>>(test: F) {
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
    let name = name.split_once("::").map_or(name, |(_crate, path)| path);
    let outcome = match access() {
        Ok(Access::Direct) => test(),
        Ok(Access::OwnNetwork) => {
            again(name);
            Ok(())
        }
        Err(missing) => Err(missing),
    };
    if let Err(missing) = outcome {
        assert!(env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, but {missing}");
        // Past the harness, which keeps for itself what a passing test prints.
        let _ = writeln!(io::stderr(), "SKIP {name}: {missing}");
    }
}

enum Access {
    Direct,
    OwnNetwork,
}

fn access() -> Result<Access, Missing> {
    let there =
        |name: &str| TOOL_PATH.split(':').any(|folder| Path::new(folder).join(name).exists());
    let absent: Vec<_> = TOOLS.into_iter().filter(|(name, _)| !there(name)).collect();
    if !absent.is_empty() {
        return Err(Missing::Tools(absent));
    }
    let direct = Netns::new().map(|_| Access::Direct);
    direct.or_else(|why| {
        if env::var_os(INSIDE).is_some() {
            return Err(Missing::Namespaces(why.to_string()));
        }
        let tried = feed(tool("unshare").args(OWN_NETWORK).arg("true"), "");
        tried.map(|()| Access::OwnNetwork).map_err(|why| Missing::Namespaces(why.to_string()))
    })
}

/// Runs the one test `name` of this binary again, as root of a user namespace.
fn again(name: &str) {
    let mut command = tool("unshare");
    command.args(OWN_NETWORK).arg("--").arg(env::current_exe().expect("a path of this binary"));
    command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"]);
    let Output { status, stdout, stderr } =
        command.env(INSIDE, "1").output().expect("unshare can be run");
    let stdout = String::from_utf8_lossy(&stdout);
    let stderr = String::from_utf8_lossy(&stderr);
    for line in stderr.lines().filter(|line| line.starts_with("SKIP ")) {
        let _ = writeln!(io::stderr(), "{line}");
    }
    println!("{stdout}\n{stderr}");
    assert!(status.success(), "{name} failed in its user namespace");
    assert!(stdout.contains(" 1 passed"), "{name} is no test of this binary");
}
