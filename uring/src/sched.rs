//! Scheduling of the calling thread.

use std::io;

/// Marks the calling thread as a batch worker (`SCHED_BATCH`), and with it the
/// threads it starts from now on: when one of them is woken it does not push the
/// running thread off the CPU, but waits until that one blocks or its time is up.
///
/// # Errors
/// That of `sched_setscheduler(2)`, where a sandbox forbids it.
pub fn prefer_batches() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: thread 0 is the caller; the kernel only reads `param`.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &param) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_started_afterwards_are_batch_workers_too() {
        let policy = || {
            // SAFETY: thread 0 is the caller; nothing is passed.
            unsafe { libc::sched_getscheduler(0) }
        };
        let inherited = std::thread::spawn(move || {
            prefer_batches().unwrap();
            std::thread::spawn(policy).join().unwrap()
        });
        assert_eq!(inherited.join().unwrap(), libc::SCHED_BATCH);
    }
}
