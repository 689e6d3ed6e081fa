//! Network namespaces as values: each lives as long as its handle, and no name of it shows anywhere.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the tools lie, also for users whose PATH has no system folders.
pub(crate) const TOOL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A network namespace; the kernel takes it down when nothing uses it any more.
pub(crate) struct Netns(File);

impl Netns {
    /// A fresh one, with nothing but a loopback interface that is down.
    pub(crate) fn new() -> io::Result<Self> {
        // The helper answers once it is inside; then its namespace is ours to hold.
        let mut helper = tool("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let held = Self::held_by(&mut helper);
        drop(helper.stdin.take());
        let output = helper.wait_with_output()?;
        held.map_err(|_| io::Error::other(text(&output.stderr)))
    }

    fn held_by(helper: &mut std::process::Child) -> io::Result<Self> {
        let (Some(stdin), Some(stdout)) = (&mut helper.stdin, &mut helper.stdout) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(b"?")?;
        stdout.read_exact(&mut [0])?;
        File::open(format!("/proc/{}/ns/net", helper.id())).map(Self)
    }

    /// What `ip` takes for the name of this namespace while this process lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `act` inside, on a thread of its own: sockets it opens and processes it starts stay
    /// inside for good.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a namespace of ours may be entered");
            act()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets kernel parameters, named from `/proc/sys/net`.
    pub(crate) fn sysctl(&self, settings: &[(&str, u32)]) -> io::Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(name, value)| {
                let told = |error| io::Error::other(format!("/proc/sys/net/{name}: {error}"));
                fs::write(format!("/proc/sys/net/{name}"), value.to_string()).map_err(told)
            })
        })
    }

    /// Runs several commands of `ip`, one per line.
    pub(crate) fn ip(&self, lines: &str) -> io::Result<()> {
        self.run(|| feed(tool("ip").args(["-batch", "-"]), lines))
    }

    /// Applies a set of nftables rules as one transaction.
    pub(crate) fn nft(&self, rules: &str) -> io::Result<()> {
        self.run(|| feed(tool("nft").args(["-f", "-"]), rules))
    }

    /// Forgets every connection that the kernel tracks here.
    pub(crate) fn forget_connections(&self) -> io::Result<()> {
        self.run(|| feed(tool("conntrack").arg("--flush"), ""))
    }
}

/// A tool of the system, found in the system's folders and speaking English.
pub(crate) fn tool(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", TOOL_PATH).env("LC_ALL", "C");
    command
}

/// Runs a command with `input`; what it says on stderr is the error.
pub(crate) fn feed(command: &mut Command, input: &str) -> io::Result<()> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    // Input is short, so that it fits into the pipe; a tool that ends early shows in its status.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = text(&output.stderr);
    Err(io::Error::other(format!("{:?}: {said}\n{input}", command.get_program())))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
