//! Another process: the CPU time of all its threads.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A process that runs.
#[derive(Clone, Debug)]
pub(super) struct Process {
    tasks: PathBuf,
}

impl Process {
    pub(super) fn of(pid: u32) -> Self {
        Self { tasks: format!("/proc/{pid}/task").into() }
    }

    /// CPU nanoseconds of its threads together, as the scheduler counts them. Complete for those that
    /// wait; of one that runs the last tick may be missing.
    ///
    /// # Errors
    /// It has ended, or the kernel does not tell.
    pub(super) fn cpu_ns(&self) -> Result<u64, String> {
        let failed = |error| format!("{}: {error}", self.tasks.display());
        let mut sum = 0;
        for task in fs::read_dir(&self.tasks).map_err(failed)? {
            let path = task.map_err(failed)?.path().join("schedstat");
            let text = match fs::read_to_string(path) {
                // It has ended since it was named.
                Err(error) if ended(&error) => continue,
                text => text.map_err(failed)?,
            };
            sum += first_number(&text).ok_or("the kernel does not count CPU time (schedstat)")?;
        }
        Ok(sum)
    }
}

fn ended(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::process_cpu_ns;

    #[test]
    fn our_own_time_is_what_the_clock_says() {
        let process = Process::of(std::process::id());
        // Threads of other tests end meanwhile and take their time along: now and then.
        let spends = || {
            let before = process.cpu_ns().unwrap();
            let started = process_cpu_ns();
            while process_cpu_ns() - started < 30_000_000 {}
            process.cpu_ns().unwrap().saturating_sub(before)
        };
        assert!((0..20).any(|_| spends() >= 20_000_000));
        assert!(Process::of(u32::MAX).cpu_ns().is_err(), "no such process");
        assert_eq!(first_number("12 34 5\n"), Some(12));
    }
}
