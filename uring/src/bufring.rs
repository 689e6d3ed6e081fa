//! The registered ring of receive slots that multishot receives draw from.
//!
//! Invariants:
//! * A slot is lent from `post` until a completion that names it is taken
//!   ([`BufRing::take`]) or the ring is closed ([`BufRing::reclaim`]). The slot's
//!   number is its buffer id.
//! * Entries are written before the tail is published with release ordering; the
//!   kernel reads them up to the tail and writes none.

use std::io;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use bufpool::{Arena, Buf, Hugepages, Loan, Pool};
use io_uring::IoUring;

/// The one buffer group of an engine.
pub(crate) const GROUP: u16 = 0;

/// `struct io_uring_buf`; the first entry's last field is the ring's tail.
#[repr(C)]
struct Entry {
    addr: AtomicU64,
    len: AtomicU32,
    bid: AtomicU16,
    tail: AtomicU16,
}
const _: () = assert!(size_of::<Entry>() == 16);

pub(crate) struct BufRing {
    entries: Arena,
    /// A power of two, at least `posted_max`.
    count: u16,
    tail: u16,
    /// Lent slots by number.
    lent: Box<[Option<Loan>]>,
    posted: usize,
    posted_max: usize,
}

impl BufRing {
    /// A ring that lends at most `posted_max` slots of `pool`.
    pub(crate) fn new(pool: &Pool, posted_max: usize) -> io::Result<Self> {
        assert!(pool.slots() <= 1 << 16, "a buffer id is a u16");
        let count = u16::try_from(posted_max.next_power_of_two()).map_err(io::Error::other)?;
        let bytes = usize::from(count) * size_of::<Entry>();
        Ok(Self {
            entries: Arena::map(bytes, Hugepages::Off, true)?,
            count,
            tail: 0,
            lent: (0..pool.slots()).map(|_| None).collect(),
            posted: 0,
            posted_max,
        })
    }

    /// Tells the kernel of the ring. `self` must be dropped after `io`.
    pub(crate) fn register(&self, io: &IoUring) -> io::Result<()> {
        let base = self.entries.base().as_ptr().expose_provenance() as u64;
        // SAFETY: page-aligned memory for `count` entries, which lives longer than the ring: the
        // engine drops its ring first.
        unsafe { io.submitter().register_buf_ring_with_flags(base, self.count, GROUP, 0) }
    }

    /// Lends slots of `pool` until enough are posted or none is free. Whether any is posted.
    #[inline]
    pub(crate) fn refill(&mut self, pool: &Pool) -> bool {
        let before = self.tail;
        while self.posted < self.posted_max {
            let Some(buf) = pool.take() else { break };
            self.post(buf);
        }
        if self.tail != before {
            self.entries()[0].tail.store(self.tail, Ordering::Release);
        }
        self.posted > 0
    }

    #[inline]
    fn post(&mut self, buf: Buf) {
        let slot = buf.slot();
        let loan = buf.lend();
        let (base, bytes) = loan.whole();
        let entry = &self.entries()[usize::from(self.tail & (self.count - 1))];
        entry.addr.store(base.expose_provenance() as u64, Ordering::Relaxed);
        entry.len.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
        entry.bid.store(u16::try_from(slot).unwrap_or(u16::MAX), Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        self.posted += 1;
        self.lent[slot as usize] = Some(loan);
    }

    /// The slot that a completion named. `None` if it is not lent.
    ///
    /// # Safety
    /// The completion was taken from the ring, so the kernel is done with the slot.
    #[inline]
    pub(crate) unsafe fn take(&mut self, bid: u16) -> Option<Buf> {
        let loan = self.lent.get_mut(usize::from(bid))?.take()?;
        self.posted -= 1;
        // SAFETY: the caller's promise.
        Some(unsafe { loan.reclaim() })
    }

    /// Takes all slots home.
    ///
    /// # Safety
    /// No receive draws from this ring any more.
    pub(crate) unsafe fn reclaim(&mut self) {
        for loan in self.lent.iter_mut().filter_map(Option::take) {
            // SAFETY: the caller's promise.
            drop(unsafe { loan.reclaim() });
        }
        self.posted = 0;
    }

    #[inline]
    fn entries(&self) -> &[Entry] {
        let base = self.entries.base().cast().as_ptr();
        // SAFETY: zeroed page-aligned memory for `count` entries, mapped as long as `self`; made of
        // atomics, so that sharing it with the kernel is sound.
        unsafe { std::slice::from_raw_parts(base, usize::from(self.count)) }
    }
}

impl std::fmt::Debug for BufRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufRing({} posted of {})", self.posted, self.posted_max)
    }
}
