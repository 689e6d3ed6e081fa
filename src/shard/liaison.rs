//! The session with the other router, that helps this one's peers with filter probes.
//!
//! A thread of its own holds it, as any client would, with the router's own identity over a port of
//! its own. Shards hand over what is wanted and never wait: what finds no place is as good as lost,
//! and peers ask again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{Client, Error, Link, Options};
use crate::clock::Clock;
use crate::identity::Identity;
use crate::ids::PeerId;
use crate::router::Wanted;
use crate::wire::body::ReflectReq;
use crate::wire::{Code, multiaddr};

/// Probes that wait to be asked for.
const WAITING_MAX: usize = 256;
/// Longest sleep before the session's timers, and a wish to stop, are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Silence after which the other router is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Rest after an attempt that failed; doubles up to the longest.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
const OPTIONS: Options =
    Options { patience: Duration::from_millis(1500), keepalive: Some(Duration::from_secs(20)) };

/// What a shard knows of the other router.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    peer: PeerId,
    connected: Arc<AtomicBool>,
    wanted: SyncSender<Wanted>,
}

impl Contact {
    /// The other router, while there is a session with it.
    pub(super) fn connected(&self) -> Option<PeerId> {
        self.connected.load(Ordering::Relaxed).then_some(self.peer)
    }

    /// Has a probe sent, if there is a place.
    pub(super) fn want(&self, wanted: Wanted) {
        let _ = self.wanted.try_send(wanted);
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Liaison {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Liaison {
    /// Starts it; the session comes about when the other router answers.
    pub(super) fn start(link: Link, identity: Arc<Identity>) -> io::Result<(Self, Contact)> {
        let (wanted, asked) = sync_channel(WAITING_MAX);
        let (connected, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let contact = Contact { peer: link.peer, connected: Arc::clone(&connected), wanted };
        let envoy = Envoy { link, identity, asked, connected, stop: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("liaison".into()).spawn(move || envoy.run())?;
        Ok((Self { thread, stop }, contact))
    }

    /// Asks it to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        self.stop();
        // It holds nothing that anybody could miss.
        let _ = self.thread.join();
    }
}

struct Envoy {
    link: Link,
    identity: Arc<Identity>,
    asked: Receiver<Wanted>,
    connected: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Envoy {
    fn run(self) {
        let mut rest = REST;
        while !self.stopping() {
            let ended = self.visit(&mut rest);
            self.connected.store(false, Ordering::Relaxed);
            if let Err(error) = ended {
                let rest_s = rest.as_secs();
                tracing::info!(peer = %self.link.peer, %error, rest_s, "no other router");
            }
            self.rest(rest);
            rest = (2 * rest).min(REST_MAX);
        }
    }

    /// One session, to its end.
    fn visit(&self, rest: &mut Duration) -> Result<(), Error> {
        let mut client = Client::connect(&self.link, Some(&self.identity), OPTIONS)?;
        let agreement = client.negotiate(Some(&self.identity))?;
        // Help that is not granted would have peers take silence for their NAT's. So a first probe
        // goes to our own socket, which drops it.
        if let Some(target) = agreement.observed {
            ask(&mut client, &Wanted { nonce: 0, target, key: self.identity.wg_key() })?;
        }
        tracing::info!(peer = %self.link.peer, "the other router is there");
        self.connected.store(true, Ordering::Relaxed);
        let clock = Clock::start();
        let mut heard = clock.moment();
        while !self.stopping() {
            match self.asked.recv_timeout(LOOK) {
                Ok(wanted) => match ask(&mut client, &wanted) {
                    Err(Error::Refused { refusal, .. }) if refusal.code != Code::Unauthorized => {}
                    Ok(()) | Err(Error::Timeout { .. }) => {}
                    Err(error) => return Err(error),
                },
                // The client's timers run only in its calls.
                Err(RecvTimeoutError::Timeout) => client.idle(Duration::from_millis(1))?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if clock.moment().since(heard) >= PING_AFTER {
                client.ping(0)?;
                heard = clock.moment();
                *rest = REST;
            }
        }
        Ok(())
    }

    /// Waits; what is asked for meanwhile is refused by not being done.
    fn rest(&self, rest: Duration) {
        let clock = Clock::start();
        let until = clock.moment() + rest;
        while !self.stopping() && clock.moment() < until {
            if self.asked.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                return self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn ask(client: &mut Client, wanted: &Wanted) -> Result<(), Error> {
    let target = multiaddr::encode(wanted.target);
    let request = ReflectReq {
        nonce: wanted.nonce,
        probe_target: target.as_ref(),
        probe_key: Some(wanted.key),
        ..ReflectReq::default()
    };
    client.reflect_with(request).map(|_| ())
}
