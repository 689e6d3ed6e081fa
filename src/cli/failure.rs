//! How a command fails: one line for people, one exit code for scripts.

use std::fmt;
use std::io;

/// Exit codes, those of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A threshold that the caller asked for was missed (`bench --slo`).
    Missed = 3,
    /// The command line is wrong.
    Usage = 64,
    /// What was given is damaged, or not what it has to be.
    Data = 65,
    /// No router there, or the port is taken.
    Unavailable = 69,
    /// Our own mistake.
    Software = 70,
    /// The operating system refused something it normally grants.
    System = 71,
    /// A file cannot be created.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// No answer in time.
    Timeout = 75,
    /// The other side did not speak the protocol.
    Protocol = 76,
    /// Not allowed, or a key file that others can read.
    Permission = 77,
    /// A setting is wrong.
    Config = 78,
}

/// Why a command ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure that `message` explains in one line.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// The code that the process ends with.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The same with what can be done about it, still in one line.
    #[must_use]
    pub fn hint(mut self, remedy: impl fmt::Display) -> Self {
        self.message = format!("{} ({remedy})", self.message);
        self
    }

    /// A failure of the operating system while `doing` something.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        let kind = error.kind();
        let exit = if kind == io::ErrorKind::PermissionDenied {
            Exit::Permission
        } else if matches!(kind, io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) {
            Exit::Unavailable
        } else {
            Exit::Io
        };
        Self::new(exit, format_args!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_system_call_becomes_the_code_that_scripts_know() {
        let code = |kind: io::ErrorKind| Failure::io("x", &kind.into()).exit();
        assert_eq!(code(io::ErrorKind::AddrInUse), Exit::Unavailable);
        assert_eq!(code(io::ErrorKind::PermissionDenied), Exit::Permission);
        assert_eq!(code(io::ErrorKind::UnexpectedEof), Exit::Io);
        assert_eq!(
            Failure::io("reading x", &io::ErrorKind::NotFound.into()).to_string(),
            "reading x: entity not found"
        );
    }
}
