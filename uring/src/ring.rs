//! Setting a ring up, and entering it.
//!
//! The ladder: SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN where the kernel has
//! them (6.1), then without the newest, and so on down; each step down is noted
//! with its reason. A refusal that is no matter of flags ends the attempt, and
//! its reason says what an operator would have to change.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Napi, SubmitArgs, Timespec};
use io_uring::{Builder, EnterFlags, IoUring, cqueue, squeue};

use crate::achieved::{Feature, Missing, Reason};
use crate::sys;

/// Completions per submission entry: multishot receives complete many times.
const CQ_FACTOR: u32 = 4;
/// Waits longer than this are cut: the kernel refuses some very long ones.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// What a kernel needs for multishot `recvmsg`.
pub(crate) const SINCE: Reason = Reason::Kernel("6.0");

/// A ring of our own thread.
pub(crate) struct Ring {
    io: IoUring,
    /// Whether the kernel touches our memory only while we are inside `enter`.
    pub(crate) deferred: bool,
}

/// Flags from best to none, each with the feature that the next step lacks.
const LADDER: [(Rung, Option<(Feature, Reason)>); 4] = [
    (Rung::Deferred, Some((Feature::DeferTaskrun, Reason::Kernel("6.1")))),
    (Rung::Single, Some((Feature::SingleIssuer, Reason::Kernel("6.0")))),
    (Rung::Coop, Some((Feature::CoopTaskrun, Reason::Kernel("5.19")))),
    (Rung::Plain, None),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Deferred,
    Single,
    Coop,
    Plain,
}

impl Ring {
    /// Makes a ring with `entries` submission entries, rounded up to a power of two.
    pub(crate) fn new(entries: u32, missing: &mut Vec<Missing>) -> Result<Self, Reason> {
        let entries = entries.next_power_of_two();
        for (rung, lacks) in LADDER {
            match builder(rung).setup_cqsize(entries * CQ_FACTOR).build(entries) {
                Ok(io) if io.params().is_feature_ext_arg() && io.params().is_feature_nodrop() => {
                    return Ok(Self { io, deferred: rung == Rung::Deferred });
                }
                Ok(_) => return Err(SINCE),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    let lacks = lacks.map(|(feature, reason)| Missing { feature, reason });
                    missing.extend(lacks);
                }
                Err(error) => return Err(why(&error)),
            }
        }
        Err(SINCE)
    }

    /// Lets a wait poll the network card for so long before it sleeps.
    pub(crate) fn busy_poll(&self, time: Duration) -> Result<(), Reason> {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let mut napi = Napi::new().set_busy_poll_timeout(micros);
        self.io.submitter().register_napi(&mut napi).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => Reason::Kernel("6.9"),
            _ => why(&error),
        })
    }

    /// Submits what is queued, runs what the kernel deferred, and waits for
    /// `want` completions or the end of `timeout`.
    #[inline]
    pub(crate) fn enter(&mut self, want: u32, timeout: Duration) -> io::Result<()> {
        let queued = u32::try_from(self.io.submission().len()).unwrap_or(u32::MAX);
        let timeout = Timespec::from(timeout.min(WAIT_MAX));
        let args = SubmitArgs::new().timespec(&timeout);
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: `queued` entries are in the ring, and the caller of `push` keeps what they point
        // to; `args` is what EXT_ARG asks for and lives across the call.
        let entered = unsafe { self.io.submitter().enter(queued, want, flags, Some(&args)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; a backlog of completions, which the caller takes next.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Queues an entry; the queue is submitted first if it is full.
    ///
    /// # Safety
    /// Everything the entry points to must stay valid until its last completion
    /// was taken from the ring, or the ring is closed.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.io.submission().is_full() {
            self.enter(0, Duration::ZERO)?;
        }
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.io.submission().push(entry) };
        pushed.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// The next completion, if one is there.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<cqueue::Entry> {
        self.io.completion().next()
    }

    /// Whether completions are waiting to be taken.
    #[inline]
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// Whether entries are waiting to be submitted.
    #[inline]
    pub(crate) fn has_submissions(&mut self) -> bool {
        !self.io.submission().is_empty()
    }

    /// Whether the kernel holds completions that did not fit; entering brings them.
    #[inline]
    pub(crate) fn overflowed(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    pub(crate) fn io(&self) -> &IoUring {
        &self.io
    }

    /// Puts another file in the ring's place, so that everything fails from now on.
    pub(crate) fn break_on_purpose(&self, with: BorrowedFd<'_>) -> io::Result<()> {
        sys::replace(with, self.io.as_raw_fd())
    }
}

fn builder(rung: Rung) -> Builder {
    let mut builder = IoUring::builder();
    builder.setup_clamp().dontfork();
    match rung {
        Rung::Deferred => {
            builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
            // An entry that is refused does not hold up those behind it.
            builder.setup_submit_all();
        }
        Rung::Single => {
            builder.setup_single_issuer().setup_coop_taskrun().setup_submit_all();
        }
        Rung::Coop => {
            builder.setup_coop_taskrun().setup_submit_all();
        }
        Rung::Plain => {}
    }
    builder
}

/// What an operator has to change about a refusal.
pub(crate) fn why(error: &io::Error) -> Reason {
    let sysctl = || std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    why_with(error, sysctl().ok().as_deref().map(str::trim))
}

/// `sysctl` is the value of `kernel.io_uring_disabled`, which Linux 6.6 brought.
fn why_with(error: &io::Error, sysctl: Option<&str>) -> Reason {
    match (error.raw_os_error().unwrap_or(0), sysctl) {
        (libc::EPERM, Some("2")) => Reason::Sysctl,
        (libc::EPERM, Some("1")) => Reason::SysctlGroup,
        (libc::EPERM | libc::EACCES, _) | (libc::ENOSYS, Some(_)) => Reason::Seccomp,
        (libc::ENOMEM, _) => Reason::Memlock,
        (libc::ENOSYS | libc::EINVAL, _) => SINCE,
        (errno, _) => Reason::Errno(errno),
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring(deferred: {})", self.deferred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::opcode::Nop;

    #[test]
    fn every_refusal_names_what_to_change() {
        let of = |errno, sysctl| why_with(&io::Error::from_raw_os_error(errno), sysctl);
        assert_eq!(of(libc::EPERM, Some("2")), Reason::Sysctl);
        assert_eq!(of(libc::EPERM, Some("1")), Reason::SysctlGroup);
        assert_eq!(of(libc::EPERM, Some("0")), Reason::Seccomp);
        assert_eq!(of(libc::EPERM, None), Reason::Seccomp);
        assert_eq!(of(libc::ENOSYS, Some("0")), Reason::Seccomp);
        assert_eq!(of(libc::ENOSYS, None), SINCE);
        assert_eq!(of(libc::ENOMEM, Some("0")), Reason::Memlock);
        assert_eq!(of(libc::EMFILE, None), Reason::Errno(libc::EMFILE));
    }

    /// Where the system forbids io_uring there is nothing to test.
    fn ring(entries: u32) -> Option<Ring> {
        Ring::new(entries, &mut Vec::new()).ok()
    }

    #[test]
    fn sizes_are_powers_of_two_and_what_the_kernel_has_at_most() {
        for (asked, entries, completions) in [(5, 8, 32), (64, 64, 256), (32_768, 32_768, 65_536)] {
            let Some(ring) = ring(asked) else { return };
            let params = ring.io().params();
            assert_eq!((params.sq_entries(), params.cq_entries()), (entries, completions));
        }
    }

    #[test]
    fn completions_beyond_the_queue_are_kept() {
        let Some(mut ring) = ring(4) else { return };
        for n in 0..100 {
            // SAFETY: a NOP points to nothing.
            unsafe { ring.push(&Nop::new().build().user_data(n)) }.unwrap();
        }
        let mut seen = Vec::new();
        let mut overflowed = false;
        for _ in 0..100 {
            overflowed |= ring.overflowed();
            ring.enter(0, Duration::ZERO).unwrap();
            seen.extend(std::iter::from_fn(|| ring.next()).map(|cqe| cqe.user_data()));
        }
        assert!(overflowed, "100 completions overflow a queue of 16");
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn waits_end_and_a_broken_ring_says_so() {
        let Some(mut ring) = ring(4) else { return };
        ring.enter(1, Duration::from_millis(1)).unwrap();
        assert!(!ring.has_completions() && !ring.has_submissions());
        let null = std::fs::File::open("/dev/null").unwrap();
        ring.break_on_purpose(std::os::fd::AsFd::as_fd(&null)).unwrap();
        assert!(ring.enter(1, Duration::from_millis(1)).is_err());
    }
}
