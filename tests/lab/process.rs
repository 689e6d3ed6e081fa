//! A process inside a laboratory, that never outlives its handle.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use molia_router::clock::Clock;

/// A running process; killed and reaped on drop.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<(Stream, String)>,
    said: [String; 2],
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// By itself, in time, and with success.
    pub(crate) well: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Clone, Copy)]
enum Stream {
    Output,
    Errors,
}

impl Process {
    /// Takes over a child; what it says on piped streams is read from now on.
    pub(crate) fn watch(mut child: Child) -> Self {
        let (told, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            forward(Stream::Output, stdout, told.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward(Stream::Errors, stderr, told);
        }
        Self { child, lines, said: Default::default() }
    }

    /// Its id, for a look at it from outside.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits up to `within` for a line on either stream that `pick` takes something from.
    ///
    /// # Errors
    /// What was said so far, if the time is over or the process ends.
    pub(crate) fn expect<T>(
        &mut self,
        within: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let clock = Clock::start();
        let until = clock.moment() + within;
        while let Ok((stream, line)) = self.lines.recv_timeout(until.since(clock.moment())) {
            let said = &mut self.said[stream as usize];
            said.push_str(&line);
            said.push('\n');
            if let Some(found) = pick(&line) {
                return Ok(found);
            }
        }
        Err(self.said.concat())
    }

    /// Waits up to `within` for its end, then kills it.
    pub(crate) fn finish(mut self, within: Duration) -> Ended {
        let clock = Clock::start();
        let until = clock.moment() + within;
        let nothing: Result<(), _> = self.expect(within, |_| None);
        assert!(nothing.is_err(), "no line was asked for");
        // Its streams end a moment before itself.
        let mut status = self.child.try_wait();
        while matches!(status, Ok(None)) && clock.moment() < until {
            thread::park_timeout(Duration::from_millis(2));
            status = self.child.try_wait();
        }
        let well = matches!(status, Ok(Some(status)) if status.success());
        let [stdout, stderr] = std::mem::take(&mut self.said);
        Ended { well, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on every line until the stream ends, which is when the process does.
fn forward(kind: Stream, stream: impl Read + Send + 'static, told: Sender<(Stream, String)>) {
    thread::spawn(move || {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.try_for_each(|line| told.send((kind, line)))
    });
}
