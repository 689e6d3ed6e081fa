//! Sends that the device reads from our memory, for runs large enough to pay.
//!
//! The one use of registered buffers: with the receive arena registered, a run
//! that is passed on from its receive slot leaves without a copy. Such a send
//! ends twice: once when it was queued, once when the device is done with the
//! slot. Where the kernel copies all the same (loopback, devices without
//! scatter-gather) that costs more than it saves, so it switches itself off.

use std::io;
use std::ops::Range;

use bufpool::Pool;
use io_uring::IoUring;

use crate::achieved::Reason;
use crate::ring;

/// Sends in a row that the kernel copied all the same after which we stop trying.
const COPIES_MAX: u32 = 16;

/// `IORING_RECVSEND_FIXED_BUF`: the bytes lie in registered buffer 0.
const FIXED: u16 = 1 << 2;
/// `IORING_SEND_ZC_REPORT_USAGE`: say whether it was copied.
const REPORT: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`.
const COPIED: u32 = 1 << 31;

/// Options of a zero-copy entry; the buffer's index is 0, as entries have it.
pub(crate) const OPTIONS: u16 = FIXED | REPORT;

/// Whether to send without a copy, and from where.
#[derive(Debug)]
pub(crate) struct ZeroCopy {
    /// Addresses of the registered arena.
    arena: Range<usize>,
    /// Least bytes of a run that leaves without a copy; `None` if none does.
    min_bytes: Option<usize>,
    copies: u32,
    /// Why there is none, once that is known.
    off: Option<Reason>,
    registered: bool,
}

impl ZeroCopy {
    /// Registers the arena of `pool` if runs of `min_bytes` are to leave without a copy.
    pub(crate) fn new(io: &IoUring, pool: &Pool, min_bytes: Option<usize>) -> Self {
        let (base, len) = pool.region();
        let start = base.as_ptr().addr();
        let mut this =
            Self { arena: start..start + len, min_bytes, copies: 0, off: None, registered: false };
        if min_bytes.is_none() {
            this.stop(Reason::Disabled);
            return this;
        }
        let buffer = libc::iovec { iov_base: base.as_ptr().cast(), iov_len: len };
        // SAFETY: the arena is mapped as long as the pool or a slot of it lives; the ring, which
        // pins its pages, is closed before either.
        match unsafe { io.submitter().register_buffers(&[buffer]) } {
            Ok(()) => this.registered = true,
            Err(error) => this.stop(ring::why(&error)),
        }
        this
    }

    pub(crate) fn registered(&self) -> bool {
        self.registered
    }

    /// Why nothing leaves without a copy, if so.
    pub(crate) fn off(&self) -> Option<Reason> {
        self.off
    }

    /// Whether these bytes, all of a message, are to leave without a copy.
    #[inline]
    pub(crate) fn takes(&self, bytes: (*mut u8, usize)) -> bool {
        self.min_bytes.is_some_and(|min| bytes.1 >= min) && self.arena.contains(&bytes.0.addr())
    }

    /// A device is done with a slot; `report` says whether it was the device.
    pub(crate) fn done(&mut self, report: i32) {
        let copied = report.cast_unsigned() & COPIED != 0;
        self.copies = if copied { self.copies + 1 } else { 0 };
        if self.copies == COPIES_MAX {
            self.stop(Reason::Copied);
        }
    }

    /// A zero-copy send was refused. Whether that was for being one.
    pub(crate) fn refused(&mut self, error: &io::Error) -> bool {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => self.stop(Reason::Kernel("6.15")),
            Some(libc::ENOMEM) => self.stop(Reason::Memlock),
            _ => return false,
        }
        true
    }

    fn stop(&mut self, reason: Reason) {
        self.min_bytes = None;
        self.off = Some(reason);
    }
}
