//! Messages on their way through the ring: what a send entry points to stays
//! put, and its slots stay lent, until the completion was taken.

use std::io;
use std::os::fd::BorrowedFd;

use bufpool::Loan;

use crate::addr::Name;
use crate::batch::Gso;
use crate::cmsg::Control;
use crate::datagram::Transmit;
use crate::message::{self, Addressing, Content};
use crate::plan::SEGMENTS_MAX;
use crate::stats::Stats;
use crate::zerocopy::ZeroCopy;
use crate::{batch, sys};

/// Parked messages. The boxes never move.
pub(crate) struct Table {
    rows: Box<[Row]>,
    /// LIFO, so that few rows stay in cache.
    free: Vec<u32>,
}

/// A message that waits for its entry.
pub(crate) struct Parked {
    pub(crate) row: u32,
    pub(crate) header: *const libc::msghdr,
    /// Whether it is to leave without a copy.
    pub(crate) zero_copy: bool,
}

/// How to send once more what was refused.
pub(crate) struct Retry<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) gso: &'a mut Gso,
    pub(crate) zero_copy: &'a mut ZeroCopy,
}

struct Row {
    header: libc::msghdr,
    name: Name,
    control: Control,
    content: Content,
    /// Whether the device reads the slots itself.
    zero_copy: bool,
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
            zero_copy: false,
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
    /// what its entry needs. `None` if the table is full or
    /// there are no transmits.
    pub(crate) fn park(
        &mut self,
        addressing: Addressing,
        transmits: impl Iterator<Item = Transmit>,
        zero_copy: &ZeroCopy,
    ) -> Option<Parked> {
        let index = *self.free.last()?;
        let row = &mut self.rows[index as usize];
        let (mut head, mut datagrams, mut bytes) = (None, 0, 0);
        for transmit in transmits {
            head.get_or_insert((transmit.path, transmit.dscp, transmit.segment));
            datagrams += transmit.datagrams();
            bytes += transmit.buf.len();
            row.pieces[row.loans.len()] = message::piece(&transmit.buf);
            row.loans.push(transmit.buf.lend());
        }
        let (path, dscp, segment) = head?;
        let cut = if datagrams > 1 { segment } else { 0 };
        let segment = u16::try_from(cut).unwrap_or(u16::MAX);
        let plain = addressing.write(&mut row.name, &mut row.control, &path, dscp, segment);
        let pieces = &mut row.pieces[..row.loans.len()];
        message::point(&mut row.header, &mut row.name, &mut row.control, pieces);
        row.content = Content {
            datagrams: u32::try_from(datagrams).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            segment,
            plain,
        };
        row.zero_copy = match &row.loans[..] {
            [alone] => zero_copy.takes(alone.content()),
            _ => false,
        };
        self.free.pop();
        Some(Parked { row: index, header: &raw const row.header, zero_copy: row.zero_copy })
    }

    /// Counts the outcome of a message, sending it once more where that may help.
    /// A row that is not parked has no slots, and nothing happens.
    pub(crate) fn outcome(
        &mut self,
        index: u32,
        result: i32,
        retry: Option<Retry<'_>>,
        stats: &mut Stats,
    ) {
        let Some(row) = self.rows.get_mut(index as usize).filter(|row| !row.loans.is_empty())
        else {
            return;
        };
        // It is counted once; see `datagrams`.
        let content = std::mem::take(&mut row.content);
        if result >= 0 {
            batch::count_sent(stats, &content);
            stats.tx_zero_copy += u64::from(row.zero_copy);
            return;
        }
        let error = io::Error::from_raw_os_error(-result);
        let Some(Retry { fd, gso, zero_copy }) = retry else {
            batch::count_failed(stats, &content, &error);
            return;
        };
        if !(row.zero_copy && zero_copy.refused(&error)) {
            batch::failed(fd, &row.header, content, &error, gso, stats);
            return;
        }
        match batch::again(fd, &row.header, stats) {
            Ok(()) => batch::count_sent(stats, &content),
            Err(error) => batch::failed(fd, &row.header, content, &error, gso, stats),
        }
    }

    /// Brings the slots of a message home.
    ///
    /// # Safety
    /// The last completion of the row was taken from the ring.
    pub(crate) unsafe fn release(&mut self, index: u32) {
        let Some(row) = self.rows.get_mut(index as usize).filter(|row| !row.loans.is_empty())
        else {
            return;
        };
        for loan in row.loans.drain(..) {
            // SAFETY: the caller's promise.
            drop(unsafe { loan.reclaim() });
        }
        self.free.push(index);
    }

    /// Datagrams on their way whose outcome is not counted yet.
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
