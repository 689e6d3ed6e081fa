//! What can go wrong with a disk, in the few words that a server can act on.

use std::error::Error;
use std::{fmt, io};

/// EIO, the same number on every system that this runs on; it has no [`io::ErrorKind`].
const EIO: i32 = 5;

/// What a disk refused, as a metric and a log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There is no room left (ENOSPC).
    NoSpace,
    /// The file system takes no writes (EROFS).
    ReadOnly,
    /// The user's share is used up (EDQUOT).
    Quota,
    /// Everything else, first of all a broken disk (EIO).
    Io,
}

impl FaultKind {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::NoSpace, Self::ReadOnly, Self::Quota, Self::Io];

    /// What `error` is one of.
    pub fn of(error: &io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and open")]
        match error.kind() {
            io::ErrorKind::StorageFull => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::QuotaExceeded => Self::Quota,
            _ => Self::Io,
        }
    }

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::ReadOnly => "read_only",
            Self::Quota => "quota",
            Self::Io => "io",
        }
    }
}

/// An act on the disk that failed.
#[derive(Debug)]
pub struct Fault {
    /// What was being done, for a log: "append to the log".
    pub doing: &'static str,
    /// What kind of failure it was.
    pub kind: FaultKind,
    /// What the system said.
    pub error: io::Error,
}

impl Fault {
    /// For [`Result::map_err`]: `error` came of this act.
    pub(crate) fn of(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { doing, kind: FaultKind::of(&error), error }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.error)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Whether `error` says that the medium did not give back what it holds. It is what a file holds that
/// is lost then, not the way to it: another one may be read.
pub(crate) fn is_medium(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}
