//! Messages on their way through the ring: what a send entry points to stays
//! put, and its slots stay lent, until the completion was taken.

use std::io;

use bufpool::Loan;

use crate::addr::Name;
use crate::batch::Gso;
use crate::cmsg::Control;
use crate::datagram::Transmit;
use crate::message::{self, Addressing, Content};
use crate::plan::SEGMENTS_MAX;
use crate::stats::Stats;
use crate::{batch, sys};

/// Parked messages. The boxes never move.
pub(crate) struct Table {
    rows: Box<[Row]>,
    /// LIFO, so that few rows stay in cache.
    free: Vec<u32>,
}

struct Row {
    header: libc::msghdr,
    name: Name,
    control: Control,
    content: Content,
    loans: Vec<Loan>,
    pieces: [libc::iovec; SEGMENTS_MAX],
}

impl Table {
    pub(crate) fn new(rows: u32) -> Self {
        let row = |_| Row {
            header: sys::blank_header(),
            name: Name::EMPTY,
            control: Control::EMPTY,
            content: Content::default(),
            loans: Vec::with_capacity(SEGMENTS_MAX),
            pieces: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEGMENTS_MAX],
        };
        Self { rows: (0..rows).map(row).collect(), free: (0..rows).rev().collect() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Whether no message is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.rows.len()
    }

    /// Parks `transmits` (one run, within the limits of a message) and returns
    /// the row with the header for its entry. `None` if the table is full or
    /// there are no transmits.
    pub(crate) fn park(
        &mut self,
        addressing: Addressing,
        transmits: impl Iterator<Item = Transmit>,
    ) -> Option<(u32, *const libc::msghdr)> {
        let index = *self.free.last()?;
        let row = &mut self.rows[index as usize];
        let (mut head, mut datagrams, mut bytes) = (None, 0, 0);
        for transmit in transmits {
            head.get_or_insert((transmit.path, transmit.segment));
            datagrams += transmit.datagrams();
            bytes += transmit.buf.len();
            row.pieces[row.loans.len()] = message::piece(&transmit.buf);
            row.loans.push(transmit.buf.lend());
        }
        let (path, segment) = head?;
        let cut = if datagrams > 1 { segment } else { 0 };
        let segment = u16::try_from(cut).unwrap_or(u16::MAX);
        let plain = addressing.write(&mut row.name, &mut row.control, &path, segment);
        let pieces = &mut row.pieces[..row.loans.len()];
        message::point(&mut row.header, &mut row.name, &mut row.control, pieces);
        row.content = Content {
            datagrams: u32::try_from(datagrams).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            segment,
            plain,
        };
        self.free.pop();
        Some((index, &raw const row.header))
    }

    /// Counts the outcome of a message and brings its slots home. A row that is
    /// not parked has no slots, and nothing happens.
    ///
    /// # Safety
    /// The completion of the row was taken from the ring.
    pub(crate) unsafe fn complete(
        &mut self,
        index: u32,
        result: i32,
        retry: (std::os::fd::BorrowedFd<'_>, &mut Gso),
        stats: &mut Stats,
    ) {
        let Some(row) = self.rows.get(index as usize).filter(|row| !row.loans.is_empty()) else {
            return;
        };
        if result >= 0 {
            batch::count_sent(stats, &row.content);
        } else {
            let error = io::Error::from_raw_os_error(-result);
            let (fd, gso) = retry;
            batch::failed(fd, &row.header, row.content, &error, gso, stats);
        }
        // SAFETY: the caller's promise.
        let _ = unsafe { self.release(index) };
    }

    /// Brings the slots of a message home. What it was, for the caller to count.
    ///
    /// # Safety
    /// The completion of the row was taken from the ring.
    pub(crate) unsafe fn release(&mut self, index: u32) -> Option<Content> {
        let row = self.rows.get_mut(index as usize).filter(|row| !row.loans.is_empty())?;
        for loan in row.loans.drain(..) {
            // SAFETY: the caller's promise.
            drop(unsafe { loan.reclaim() });
        }
        self.free.push(index);
        Some(row.content)
    }

    /// Datagrams on their way.
    pub(crate) fn datagrams(&self) -> u64 {
        let parked = self.rows.iter().filter(|row| !row.loans.is_empty());
        parked.map(|row| u64::from(row.content.datagrams)).sum()
    }

    /// Takes the slots of all parked messages home.
    ///
    /// # Safety
    /// The ring is closed and the kernel reads none of them any more.
    pub(crate) unsafe fn reclaim(&mut self) {
        for loan in self.rows.iter_mut().flat_map(|row| row.loans.drain(..)) {
            // SAFETY: the caller's promise.
            drop(unsafe { loan.reclaim() });
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} free of {})", self.free.len(), self.rows.len())
    }
}
