//! Slots that `recvmmsg` receives into.

use std::io;
use std::os::fd::BorrowedFd;

use bufpool::{Buf, Pool};

use crate::rx::{self, Arrival};
use crate::stats::Stats;
use crate::sys;

/// Slots to receive into: `slots[holes..len]` are filled, and `messages[n]`
/// points into `slots[n]`.
pub(crate) struct Posted {
    slots: Box<[Option<Buf>]>,
    messages: Box<[libc::mmsghdr]>,
    pieces: Box<[libc::iovec]>,
    /// Slots handed out by the last receive, not replaced yet.
    holes: usize,
    pub(crate) len: usize,
}

impl Posted {
    pub(crate) fn new(capacity: usize) -> Self {
        let message = libc::mmsghdr { msg_hdr: sys::blank_header(), msg_len: 0 };
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            slots: (0..capacity).map(|_| None).collect(),
            messages: vec![message; capacity].into(),
            pieces: vec![piece; capacity].into(),
            holes: 0,
            len: 0,
        }
    }

    /// Replaces what was handed out: by fresh slots, or, when there are none, by
    /// the last of those that are left. Then tops up.
    pub(crate) fn refill(&mut self, pool: &Pool, stats: &mut Stats) {
        let holes = std::mem::take(&mut self.holes);
        for at in 0..holes {
            let fresh = match pool.take() {
                Some(fresh) => Some(fresh),
                None if self.len > holes => {
                    self.len -= 1;
                    self.slots[self.len].take()
                }
                None => None,
            };
            let Some(fresh) = fresh else {
                self.len = at;
                break;
            };
            self.put(at, fresh);
        }
        while self.len < self.slots.len() {
            let Some(fresh) = pool.take() else { break };
            self.len += 1;
            self.put(self.len - 1, fresh);
        }
        stats.rx_starved += u64::from(self.len == 0);
    }

    /// Points the message `at` into `buf`.
    fn put(&mut self, at: usize, mut buf: Buf) {
        buf.set_window(0, buf.capacity());
        let base = buf.as_mut_ptr();
        let (message, piece) = (&mut self.messages[at].msg_hdr, &mut self.pieces[at]);
        piece.iov_base = base.wrapping_add(rx::PAYLOAD_AT).cast();
        piece.iov_len = buf.len() - rx::PAYLOAD_AT;
        message.msg_name = base.wrapping_add(rx::NAME_AT).cast();
        message.msg_namelen = rx::NAME_LEN;
        message.msg_iov = piece;
        message.msg_iovlen = 1;
        message.msg_control = base.wrapping_add(rx::CONTROL_AT).cast();
        message.msg_controllen = rx::CONTROL_BYTES as _;
        self.slots[at] = Some(buf);
    }

    /// Receives what is waiting at `fd`, at most `limit` messages, with one system call at most.
    /// How many came, to be [taken](Self::take).
    pub(crate) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        limit: usize,
        stats: &mut Stats,
    ) -> io::Result<usize> {
        assert!(self.holes == 0, "a refill comes before a receive");
        let messages = &mut self.messages[..self.len.min(limit)];
        if messages.is_empty() {
            return Ok(0);
        }
        stats.syscalls += 1;
        // SAFETY: every posted message points into its slot, which we alone hold, and to its
        // piece; `refill` wrote them.
        match unsafe { sys::recvmmsg(fd, messages, 0) } {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            received => received,
        }
    }

    /// Gives all slots back.
    pub(crate) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
        (self.holes, self.len) = (0, 0);
    }

    /// The first `count` slots with what the kernel wrote into them.
    pub(crate) fn take(&mut self, count: usize) -> impl Iterator<Item = (Buf, Arrival)> {
        self.holes = count;
        let filled = self.slots[..count].iter_mut().zip(&self.messages);
        filled.filter_map(|(slot, message)| {
            let header = &message.msg_hdr;
            let arrival = Arrival {
                name: header.msg_namelen as usize,
                control: header.msg_controllen,
                payload: message.msg_len as usize,
                truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            };
            slot.take().map(|buf| (buf, arrival))
        })
    }
}

impl std::fmt::Debug for Posted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Posted({} of {})", self.len - self.holes, self.slots.len())
    }
}
