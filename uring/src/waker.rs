//! Ends the wait of a turn from another thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::sys;

/// Wakes the turn that waits for a socket. Cheap to clone; any thread may use it.
///
/// A wake between two turns is not lost: the next turn does not wait.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(File::from(sys::eventfd()?))))
    }

    /// Ends the current wait, or the next one if nobody waits now.
    pub fn wake(&self) {
        // The only way to fail is a counter at its maximum: then a wake is pending already.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    /// Takes all pending wakes; whether there were any.
    pub(crate) fn drain(&self) -> bool {
        (&*self.0).read(&mut [0; 8]).is_ok()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wakes_are_one() {
        let waker = Waker::new().unwrap();
        assert!(!waker.drain());
        waker.wake();
        waker.clone().wake();
        assert!(waker.drain());
        assert!(!waker.drain());
    }
}
