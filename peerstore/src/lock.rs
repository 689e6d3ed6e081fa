//! A file that one process locks to write beside it, or several to read.
//!
//! The lock is the kernel's (`flock`), so it ends with the process, however that ends. What is in
//! the file is only for people: the process that writes, which is asked for, not believed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

/// Bytes of the file that are looked at.
const PID_BYTES_MAX: u64 = 16;

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    signed: bool,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another has it: this process, if it says so and is still there.
    Held(Option<u32>),
    /// There is no such file.
    Missing,
    /// What the system says.
    Io(io::Error),
}

impl Lock {
    /// Locks out everybody else, in a file that is made if it is not there.
    pub(crate) fn to_write(path: &Path) -> Result<Self, Refused> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = take(&mut options, path, FlockOperation::NonBlockingLockExclusive)?;
        sign(&file);
        Ok(Self { file, signed: true })
    }

    /// Locks out who wants to write.
    pub(crate) fn to_read(path: &Path) -> Result<Self, Refused> {
        let mut options = OpenOptions::new();
        options.read(true);
        let file = take(&mut options, path, FlockOperation::NonBlockingLockShared)?;
        Ok(Self { file, signed: false })
    }
}

impl Drop for Lock {
    /// A file left behind names nobody: best effort, since who wants the lock asks the kernel. Given
    /// back rather than only closed: a child that is just being started has the file open too.
    fn drop(&mut self) {
        if self.signed {
            let _ = self.file.set_len(0);
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Locks the file at once or not at all.
fn take(options: &mut OpenOptions, path: &Path, how: FlockOperation) -> Result<File, Refused> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = options.custom_flags(no_link).open(path).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        if missing { Refused::Missing } else { Refused::Io(error) }
    })?;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how)) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Refused::Held(holder(&file))),
        Err(error) => Err(Refused::Io(error.into())),
    }
}

/// The process that the file names, unless it is gone: one that was killed left its name.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    let raw = text.trim_end().parse().ok().filter(|raw| *raw > 0)?;
    match rustix::process::test_kill_process(Pid::from_raw(raw)?) {
        Err(Errno::SRCH) => None,
        Ok(()) | Err(_) => u32::try_from(raw).ok(),
    }
}

/// Writes who has the lock; best effort, so that a full disk does not keep a router down that
/// could still read all there is.
fn sign(mut file: &File) {
    let pid = format!("{}\n", std::process::id());
    if file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).is_err() {
        let _ = file.set_len(0);
    }
}
