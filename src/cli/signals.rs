//! Signals as values: the first asks the router to stop, the second ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// How long a wait lasts without a signal, so that the caller can look after its shard.
const WAIT: Duration = Duration::from_millis(200);
/// Exit code of a process that a signal ended, less the signal's number.
const KILLED: i32 = 128;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT or SIGTERM, by name.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

/// The signals of this process from now on.
#[derive(Debug)]
pub(super) struct Signals {
    received: Receiver<Signal>,
}

impl Signals {
    /// Takes the signals over. The second SIGINT or SIGTERM ends the process at
    /// once, whatever it does.
    pub(super) fn listen() -> io::Result<Self> {
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first one arms what the second one meets.
            flag::register_conditional_shutdown(signal, KILLED + signal, Arc::clone(&armed))?;
            flag::register(signal, Arc::clone(&armed))?;
        }
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (sender, received) = sync_channel(8);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in &mut signals {
                let signal = match signal {
                    SIGINT => Signal::Stop("SIGINT"),
                    SIGTERM => Signal::Stop("SIGTERM"),
                    _ => Signal::Reload,
                };
                // Eight that nobody has looked at say as much as nine.
                let _ = sender.try_send(signal);
            }
        })?;
        Ok(Self { received })
    }

    /// The next signal, if one comes soon.
    pub(super) fn wait(&self) -> Option<Signal> {
        self.received.recv_timeout(WAIT).ok()
    }
}
