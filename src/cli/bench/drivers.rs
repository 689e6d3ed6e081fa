//! Load from several CPUs at once: on each, a thread with a fleet of its own.
//!
//! A driver shares its CPU with the shard that its datagrams arrive at, and takes turns with it as
//! the generator of the other benches does. So `n` shards on `n` CPUs are all busy at the same
//! time, and none of them waits for a core that the machine does not have.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::fleet::{Fleet, Outcome, Shot};
use super::rig;

/// What a driver works with.
pub(super) struct Gunner {
    pub(super) fleet: Fleet,
    /// Sealed and not fired yet.
    pub(super) shots: Vec<Shot>,
}

type Job = Box<dyn FnOnce(&mut Gunner) -> Result<Outcome, String> + Send>;

/// A thread that sends from one CPU.
pub(super) struct Driver {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Result<Outcome, String>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts it on `cpu`, with `flows` clients that seal up to `datagrams` ahead.
    pub(super) fn start(cpu: usize, flows: usize, datagrams: usize) -> Result<Self, String> {
        let (jobs, todo) = sync_channel::<Job>(1);
        let (report, done) = sync_channel(1);
        let thread = thread::Builder::new().name(format!("driver-{cpu}"));
        let thread = thread.spawn(move || match open(cpu, flows, datagrams) {
            Ok(mut gunner) => {
                let _ = report.send(Ok(Outcome::default()));
                for job in todo {
                    // Whoever gave the job waits for it, unless everything ends.
                    let _ = report.send(job(&mut gunner));
                }
            }
            Err(reason) => {
                let _ = report.send(Err(reason));
            }
        });
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let driver = Self { jobs: Some(jobs), done, thread: Some(thread) };
        driver.end()?;
        Ok(driver)
    }

    /// Has it do something; [`end`](Self::end) waits for it.
    pub(super) fn begin(
        &self,
        job: impl FnOnce(&mut Gunner) -> Result<Outcome, String> + Send + 'static,
    ) {
        // One that is gone is noticed by whoever waits for it.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(Box::new(job)));
    }

    /// What came of it.
    pub(super) fn end(&self) -> Result<Outcome, String> {
        self.done.recv().unwrap_or_else(|_| Err("a driver panicked".into()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of its was noticed as a missing outcome.
            let _ = thread.join();
        }
    }
}

fn open(cpu: usize, flows: usize, datagrams: usize) -> Result<Gunner, String> {
    rig::take_turns_on(cpu)?;
    let fleet = Fleet::open(flows, true, datagrams, rig::random()?)?;
    Ok(Gunner { fleet, shots: Vec::new() })
}
