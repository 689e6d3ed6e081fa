//! Sends a plan through `sendmmsg`: the way of the mmsg engine, and of the ring
//! engine where that is cheaper than entries on the ring.
//!
//! The kernel has copied what it took when a flush ends. What it refused is counted and dropped,
//! unless it was for a full send buffer (`EAGAIN`): then that message and all behind it stay in
//! the plan, for the socket says when it has room again. `ENOBUFS` is no such case: the kernel or
//! the device's queue has thrown the datagram away, and the socket reads as writable all along,
//! so that waiting would be trying in a loop.

use std::io;
use std::os::fd::BorrowedFd;

use crate::addr::Name;
use crate::cmsg::Control;
use crate::datagram::Transmit;
use crate::errors::ErrorKind;
use crate::message::{self, Addressing, Content};
use crate::plan::{Place, Plan, Run, SEGMENTS_MAX};
use crate::stats::Stats;
use crate::sys;

/// Messages handed over by one call at most.
const MESSAGES: usize = 64;
/// Pieces of those messages; a run of transmits has at most 64.
const PIECES: usize = MESSAGES + SEGMENTS_MAX;

/// Scratch memory of a flush. Its pointers are written and used within one flush.
pub(crate) struct Batch {
    addressing: Addressing,
    headers: Box<[libc::mmsghdr]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    contents: Box<[Content]>,
    pieces: Box<[libc::iovec]>,
    /// Where in the plan each message begins, and where the next one does.
    places: Box<[Place]>,
    place: Place,
    messages: usize,
    used_pieces: usize,
}

/// Whether coalesced sends still work, and what ended them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gso {
    pub(crate) on: bool,
    /// Most datagrams of a message, at least 1, while it is on.
    most: usize,
    pub(crate) refused: Option<i32>,
}

impl Gso {
    pub(crate) fn new(on: bool, most: usize) -> Self {
        Self { on, most, refused: None }
    }

    /// Most datagrams that one message may have now.
    #[inline]
    pub(crate) fn segments(&self) -> usize {
        if self.on { self.most } else { 1 }
    }
}

impl Batch {
    pub(crate) fn new(addressing: Addressing) -> Self {
        let header = libc::mmsghdr { msg_hdr: sys::blank_header(), msg_len: 0 };
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            addressing,
            headers: vec![header; MESSAGES].into(),
            names: vec![Name::EMPTY; MESSAGES].into(),
            controls: vec![Control::EMPTY; MESSAGES].into(),
            contents: vec![Content::default(); MESSAGES].into(),
            pieces: vec![piece; PIECES].into(),
            places: vec![Place::default(); MESSAGES].into(),
            place: Place::default(),
            messages: 0,
            used_pieces: 0,
        }
    }

    /// The next flush is for another socket, or for one that marks otherwise now.
    pub(crate) fn address(&mut self, addressing: Addressing) {
        self.addressing = addressing;
    }

    /// How it addresses messages.
    pub(crate) fn addressing(&self) -> Addressing {
        self.addressing
    }

    /// Sends what is in `plan`. It is empty afterwards, or blocked with what is left.
    pub(crate) fn flush(
        &mut self,
        fd: BorrowedFd<'_>,
        plan: &mut Plan,
        gso: &mut Gso,
        stats: &mut Stats,
    ) {
        if plan.is_empty() {
            return;
        }
        let before = stats.tx_messages;
        let sent = self.send_all(fd, plan, gso, stats);
        stats.tx_batches += u64::from(stats.tx_messages > before);
        plan.segments = gso.segments();
        plan.end(sent, stats);
    }

    /// Sends one transmit by itself; where the rest of it begins if the socket is full.
    pub(crate) fn flush_one(
        &mut self,
        fd: BorrowedFd<'_>,
        transmit: &Transmit,
        gso: &mut Gso,
        stats: &mut Stats,
    ) -> Result<(), Place> {
        self.place = Place::default();
        self.add_alone(fd, transmit, gso, stats)?;
        self.send(fd, gso, stats)
    }

    /// Sends the runs of `plan` until the socket is full; then where the rest begins.
    fn send_all(
        &mut self,
        fd: BorrowedFd<'_>,
        plan: &Plan,
        gso: &mut Gso,
        stats: &mut Stats,
    ) -> Result<(), Place> {
        for (index, run) in plan.runs().iter().enumerate() {
            self.place = Place { run: index, ..Place::default() };
            if run.transmits == 1 {
                for transmit in plan.transmits(*run) {
                    self.add_alone(fd, transmit, gso, stats)?;
                }
            } else {
                self.add_run(fd, plan, *run, gso, stats)?;
            }
        }
        self.send(fd, gso, stats)
    }

    /// One transmit: a datagram, or a run of its own that may need several messages.
    #[inline]
    fn add_alone(
        &mut self,
        fd: BorrowedFd<'_>,
        transmit: &Transmit,
        gso: &mut Gso,
        stats: &mut Stats,
    ) -> Result<(), Place> {
        let mut rest = &transmit.buf[..];
        loop {
            // Asked anew for each message: the device may just have refused one.
            let most = message::bytes_per_message(transmit, gso.segments());
            let (bytes, more) = rest.split_at(rest.len().min(most));
            if self.messages == MESSAGES || self.used_pieces == PIECES {
                self.send(fd, gso, stats)?;
            }
            self.place.bytes = transmit.buf.len() - rest.len();
            self.pieces[self.used_pieces] = message::piece(bytes);
            let segment = transmit.segment.max(1);
            self.add(transmit, 1, bytes.len().div_ceil(segment).max(1), bytes.len());
            rest = more;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Several transmits in one message.
    fn add_run(
        &mut self,
        fd: BorrowedFd<'_>,
        plan: &Plan,
        run: Run,
        gso: &mut Gso,
        stats: &mut Stats,
    ) -> Result<(), Place> {
        let pieces = usize::from(run.transmits);
        if self.messages == MESSAGES || self.used_pieces + pieces > PIECES {
            self.send(fd, gso, stats)?;
        }
        if !gso.on {
            // Refused since it was planned.
            for (at, transmit) in plan.transmits(run).enumerate() {
                self.place.transmit = at;
                self.add_alone(fd, transmit, gso, stats)?;
            }
            return Ok(());
        }
        let (mut datagrams, mut bytes) = (0, 0);
        for (at, transmit) in plan.transmits(run).enumerate() {
            self.pieces[self.used_pieces + at] = message::piece(&transmit.buf);
            datagrams += transmit.datagrams();
            bytes += transmit.buf.len();
        }
        if let Some(first) = plan.transmits(run).next() {
            self.add(first, pieces, datagrams, bytes);
        }
        Ok(())
    }

    /// Completes the next message, whose `pieces` are in place.
    #[inline]
    fn add(&mut self, first: &Transmit, pieces: usize, datagrams: usize, bytes: usize) {
        let at = self.messages;
        let cut = if datagrams > 1 { first.segment } else { 0 };
        let segment = u16::try_from(cut).unwrap_or(u16::MAX);
        let (name, control) = (&mut self.names[at], &mut self.controls[at]);
        let plain = self.addressing.write(name, control, &first.path, first.dscp, segment);
        let pieces = &mut self.pieces[self.used_pieces..self.used_pieces + pieces];
        message::point(&mut self.headers[at].msg_hdr, name, control, pieces);
        self.used_pieces += pieces.len();
        self.contents[at] = Content {
            datagrams: u32::try_from(datagrams).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            segment,
            plain,
        };
        self.places[at] = self.place;
        self.messages += 1;
    }

    /// Hands the collected messages to the kernel; where the first one begins that a full
    /// socket left.
    fn send(&mut self, fd: BorrowedFd<'_>, gso: &mut Gso, stats: &mut Stats) -> Result<(), Place> {
        let messages = std::mem::take(&mut self.messages);
        self.used_pieces = 0;
        let mut at = 0;
        while at < messages {
            stats.syscalls += 1;
            // SAFETY: the pointers were written since the last flush began, to our own arrays and
            // to slots that the plan holds; nothing has moved since.
            let sent = unsafe { sys::sendmmsg(fd, &mut self.headers[at..messages]) };
            match sent {
                Ok(sent) => {
                    let done = &self.contents[at..at + sent];
                    done.iter().for_each(|content| count_sent(stats, content));
                    at += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(self.places[at]);
                }
                Err(error) => {
                    let (header, content) = (&self.headers[at].msg_hdr, self.contents[at]);
                    failed(fd, header, content, &error, gso, stats);
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn count_sent(stats: &mut Stats, content: &Content) {
    stats.tx_messages += 1;
    stats.tx_packets += u64::from(content.datagrams);
    stats.tx_bytes += u64::from(content.bytes);
    if content.segment > 0 {
        stats.tx_gso_segments += u64::from(content.datagrams);
    }
}

pub(crate) fn count_failed(stats: &mut Stats, content: &Content, error: &io::Error) {
    stats.tx_errors.add(ErrorKind::of(error), u64::from(content.datagrams));
}

/// A message the kernel refused: dropped and counted, or, if it was coalesced
/// and that may be the reason, sent once more datagram by datagram.
///
/// Coalescing ends for good only if the first datagram then goes out by itself:
/// the same errors also mean a source address that is gone or a datagram that
/// is too large, and no stranger may switch coalescing off for everybody.
pub(crate) fn failed(
    fd: BorrowedFd<'_>,
    header: &libc::msghdr,
    content: Content,
    error: &io::Error,
    gso: &mut Gso,
    stats: &mut Stats,
) {
    let errno = error.raw_os_error().unwrap_or(0);
    let refusal = [libc::EIO, libc::EINVAL, libc::EOPNOTSUPP, libc::EMSGSIZE].contains(&errno);
    if content.segment == 0 || !refusal {
        count_failed(stats, &content, error);
        return;
    }
    let mut first = None;
    for_each_segment(header, usize::from(content.segment), |piece, bytes| {
        let mut one = libc::mmsghdr { msg_hdr: *header, msg_len: 0 };
        one.msg_hdr.msg_iov = piece;
        one.msg_hdr.msg_iovlen = 1;
        one.msg_hdr.msg_controllen = content.plain as _;
        stats.syscalls += 1;
        // SAFETY: `header` is a message whose pointers are still valid (its send has just failed),
        // less the control data that cuts it; `piece` is one of its segments.
        let sent = unsafe { sys::sendmmsg(fd, std::slice::from_mut(&mut one)) };
        let single = Content {
            datagrams: 1,
            bytes: u32::try_from(bytes).unwrap_or(0),
            ..Content::default()
        };
        match &sent {
            Ok(_) => count_sent(stats, &single),
            Err(error) => count_failed(stats, &single, error),
        }
        first.get_or_insert(sent.is_ok());
    });
    if first == Some(true) && errno != libc::EMSGSIZE {
        (gso.on, gso.refused) = (false, Some(errno));
    }
}

/// Sends a message that another way of sending refused, once more and by itself.
pub(crate) fn again(
    fd: BorrowedFd<'_>,
    header: &libc::msghdr,
    stats: &mut Stats,
) -> io::Result<()> {
    stats.syscalls += 1;
    let mut one = libc::mmsghdr { msg_hdr: *header, msg_len: 0 };
    // SAFETY: `header` is a message whose pointers are still valid (its send has just failed).
    unsafe { sys::sendmmsg(fd, std::slice::from_mut(&mut one)) }.map(drop)
}

/// Calls `each` with every segment of a message. A segment never spans pieces.
fn for_each_segment(
    header: &libc::msghdr,
    segment: usize,
    mut each: impl FnMut(*mut libc::iovec, usize),
) {
    for index in 0..header.msg_iovlen {
        let at = header.msg_iov.wrapping_add(index);
        // SAFETY: one of the `msg_iovlen` pieces of a message whose pointers are still valid.
        let whole = unsafe { *at };
        for offset in (0..whole.iov_len).step_by(segment) {
            let iov_base = whole.iov_base.wrapping_byte_add(offset);
            let iov_len = segment.min(whole.iov_len - offset);
            each(&mut libc::iovec { iov_base, iov_len }, iov_len);
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} messages)", self.messages)
    }
}
