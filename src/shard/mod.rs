//! A shard: one thread that owns a socket, its engine and a router; pinned if `shards/cpus` names
//! a CPU for it.
//!
//! `Shard::turn` is the whole loop on one page. Nothing in it blocks but the
//! wait for datagrams, nothing allocates per datagram, and whatever a peer sends
//! is answered or counted. Only a port that cannot be repaired ends it.

mod spawn;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, thread_cpu_ns};
use crate::net::{Datagram, Outlet, Transmit};
use crate::port::{AnyPort, Port, Stats};
use crate::router::Router;
use crate::time::{Moment, Now};
use crate::tunnel::wireguard::WireGuard;

pub use spawn::{Control, Handle, PortConfig, ShardConfig, StartError, spawn, spawn_prepared};

/// Longest wait, so that heartbeat and load stay fresh when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How often the counters that are copied (not counted in place) are published.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);
/// Time over which the load is averaged.
const LOAD_WINDOW: Duration = Duration::from_secs(1);

/// Everything one shard owns.
struct Shard {
    port: AnyPort,
    router: Router<WireGuard>,
    clock: Clock,
    control: Arc<Control>,
    /// What a turn received; reserved once.
    received: Vec<Datagram>,
    load: Load,
    /// Datagrams received and sent until the last turn.
    moved: (u64, u64),
    published_at: Moment,
    /// Something moved since then: look again soon, also if nothing else comes.
    stale: bool,
}

impl Shard {
    fn run(mut self) -> io::Result<()> {
        while !self.control.stopping() {
            self.turn()?;
        }
        self.port.flush();
        self.publish(self.clock.now());
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let Self { port, router, clock, received, .. } = self;

        // 1. Submit what waits and sleep until a datagram, a wake or the next deadline.
        let idle = if self.stale { PUBLISH_INTERVAL } else { WAIT_MAX };
        let wait = router.next_deadline().since(clock.moment()).min(idle);
        port.turn(wait, received)?;

        // 2. One reading of the clocks serves the whole turn.
        let now = clock.now();

        // 3. Handle what came; the answers of a slot leave before the next one is looked at.
        let mut outlet = ToPort { port };
        for datagram in received.drain(..) {
            router.receive(now, datagram, &mut outlet);
            router.transmit(now, &mut outlet);
        }

        // 4. Do what time alone brings about.
        if router.next_deadline() <= now.at {
            router.poll(now, &mut outlet);
        }

        // 5. Hand the batch to the kernel.
        port.flush();

        // 6. Account for the turn.
        let busy = self.load.add(now.at, self.clock.moment());
        self.router.counters().turn(now, busy);
        let &Stats { rx_packets, tx_packets, .. } = self.port.stats();
        let (received, sent) = std::mem::replace(&mut self.moved, (rx_packets, tx_packets));
        self.stale |= (received, sent) != self.moved;
        self.router
            .counters()
            .batches(rx_packets.saturating_sub(received), tx_packets.saturating_sub(sent));
        if now.at.since(self.published_at) >= PUBLISH_INTERVAL {
            self.publish(now);
        }
        self.control.answer(thread_cpu_ns);
        Ok(())
    }

    fn publish(&mut self, now: Now) {
        (self.published_at, self.stale) = (now.at, false);
        self.router.set_load(self.load.permille);
        let receive = self.port.pool();
        self.router.publish(now, (receive.free(), receive.slots()));
        let counters = self.router.counters();
        counters.socket(self.port.stats());
        counters.port(self.port.achieved());
        let socket = self.port.socket();
        let [receive, send] = [socket.receive_buffer(), socket.send_buffer()];
        counters.socket_buffers(receive.effective_bytes as u64, send.effective_bytes as u64);
    }
}

/// The way from the router to the port.
struct ToPort<'a> {
    port: &'a mut AnyPort,
}

impl Outlet for ToPort<'_> {
    #[inline]
    fn send(&mut self, transmit: Transmit) {
        self.port.send(transmit);
    }
}

/// Share of the time that the shard was not waiting.
#[derive(Debug, Default)]
struct Load {
    /// Of the window at hand.
    busy: Duration,
    window_from: Moment,
    /// Of the last full window.
    permille: u32,
}

impl Load {
    /// Adds a turn that was busy from `woke` to `done`, and returns for how long.
    fn add(&mut self, woke: Moment, done: Moment) -> Duration {
        let busy = done.since(woke);
        self.busy += busy;
        let window = done.since(self.window_from);
        if window >= LOAD_WINDOW {
            let permille = self.busy.as_nanos() * 1000 / window.as_nanos();
            self.permille = u32::try_from(permille).unwrap_or(1000).min(1000);
            (self.busy, self.window_from) = (Duration::ZERO, done);
        }
        busy
    }
}
