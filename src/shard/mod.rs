//! A shard: one pinned thread that owns a socket, its engine and a router, and shares nothing but a
//! [`mailbox`] with the others.
//!
//! `Shard::turn` is the whole loop on one page. Nothing in it blocks but the
//! wait for datagrams, nothing allocates per datagram, and whatever a peer sends
//! is answered or counted. Only a port that cannot be repaired ends it.

mod keeper;
mod liaison;
mod life;
pub mod mailbox;
mod spawn;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, thread_cpu_ns};
use crate::net::{Datagram, Outlet, Transmit};
use crate::port::{AnyPort, Port, Socket, SocketConfig, Stats};
use crate::router::{Mail, PortWish, Router};
use crate::time::{Moment, Now};
use crate::tunnel::wireguard::WireGuard;

use crate::partition::ShardSet;
use keeper::Keeper;
pub use keeper::{StoreConfig, divide};
use liaison::Contact;
use mailbox::{Mailbox, PAYLOAD_MAX, Posted, Reason, Received};
pub use spawn::{Config, Control, PortConfig, Shards, StartError, spawn, spawn_prepared};

/// Longest wait, so that heartbeat and load stay fresh when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Longest wait between two slices of a snapshot.
const WALK_INTERVAL: Duration = Duration::from_millis(1);
/// How often the counters that are copied (not counted in place) are published.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);
/// Datagrams between two looks at the clock: it costs 2 % of handling one.
const CHECK_DATAGRAMS: usize = 16;
/// Time over which the load is averaged.
const LOAD_WINDOW: Duration = Duration::from_secs(1);

/// Letters of other shards that one turn handles.
const MAIL_BATCH: usize = 256;

/// Everything one shard owns, and its mailbox, which outlives it.
struct Shard<'m> {
    port: AnyPort,
    /// What sockets beside the port's own are like.
    beside: SocketConfig,
    router: Router<WireGuard>,
    mailbox: &'m mut Mailbox<Mail>,
    /// Where it remembers, if it does.
    keeper: Option<Keeper>,
    /// The way to the other router, if there is one.
    other: Option<Contact>,
    clock: Clock,
    control: Arc<Control>,
    /// What came and is not handled yet; reserved once.
    received: Vec<Datagram>,
    /// Empty between turns; takes what one leaves.
    left: Vec<Datagram>,
    /// Time after which a turn handles nothing more.
    turn_budget: Duration,
    load: Load,
    /// Datagrams received and sent until the last turn.
    moved: (u64, u64),
    published_at: Moment,
    /// Something moved since then: look again soon, also if nothing else comes.
    stale: bool,
}

impl Shard<'_> {
    fn run(mut self) -> io::Result<()> {
        while !self.control.stopping() {
            self.turn()?;
        }
        self.port.flush();
        self.publish(self.clock.now());
        self.keeper.take().map_or(Ok(()), Keeper::stop)
    }

    fn turn(&mut self) -> io::Result<()> {
        // 1. Submit what waits and sleep until a datagram, room, mail or the next deadline.
        let wait = self.wait();
        self.port.turn(wait, &mut self.received)?;
        self.mailbox.awake();

        // 2. One reading of the clocks serves the whole turn.
        let now = self.clock.now();
        if let Some(keeper) = &mut self.keeper {
            keeper.begin_turn(now, &mut self.router);
        }
        if let Some(other) = &self.other {
            self.router.set_other_router(other.connected());
        }

        // 3. Handle what came, from other shards and from peers. Mail is first: peers alone can
        //    use all room up, turn after turn, and what they leave is dropped by the kernel; a
        //    mailbox that is not read would lose control.
        self.read_mail(now);
        self.handle(now);

        // 4. Do what time alone brings about.
        if self.router.next_deadline() <= now.at {
            self.router.poll(now, &mut ToPort { port: &mut self.port });
        }

        // 5. Open and close the ports of pairs that want that, and tell them.
        if self.router.wants_ports() {
            self.serve_ports(now);
        }

        // 6. Hand the batch to the kernel, what is for other shards to them, and what changed to
        //    the store's writer.
        self.port.flush();
        post(now, &mut self.router, self.mailbox, &mut self.keeper);
        self.mailbox.flush();
        if let Some(keeper) = &mut self.keeper {
            keeper.end_turn(now, &self.router);
        }
        if let Some(other) = &self.other {
            std::iter::from_fn(|| self.router.take_wanted()).for_each(|it| other.want(it));
        }

        // 7. Account for the turn.
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

    /// How long a turn may wait: not at all if there is something that can be handled. What cannot,
    /// datagrams or mail, waits for room, and is no reason to look again before there is some.
    fn wait(&mut self) -> Duration {
        let stalled = self.router.is_stalled(self.port.room());
        if !stalled && (!self.received.is_empty() || !self.mailbox.sleep()) {
            return Duration::ZERO;
        }
        let idle = match &self.keeper {
            Some(keeper) if keeper.is_walking() => WALK_INTERVAL,
            _ if self.stale => PUBLISH_INTERVAL,
            _ => WAIT_MAX,
        };
        self.router.next_deadline().since(self.clock.moment()).min(idle)
    }

    /// Handles what came, what the last turn left first; the answers of a slot leave before the
    /// next one is looked at. Ends early when the turn's time is over or control answers would
    /// have no place; the rest then holds its receive slots, and without free ones the port
    /// receives nothing more: the kernel drops what is too much.
    fn handle(&mut self, now: Now) {
        let Self { port, router, mailbox, keeper, clock, received, left, .. } = self;
        let mut outlet = ToPort { port };
        let (mut came, mut since_check) = (received.drain(..), 0);
        for datagram in came.by_ref() {
            since_check += datagram.segments().len();
            left.extend(router.receive(now, datagram, &mut outlet));
            router.transmit(now, &mut outlet);
            post(now, router, mailbox, keeper);
            if !left.is_empty() {
                break;
            }
            if since_check >= CHECK_DATAGRAMS {
                since_check = 0;
                if clock.moment().since(now.at) >= self.turn_budget {
                    break;
                }
            }
        }
        left.extend(came);
        std::mem::swap(received, left);
        if !received.is_empty() {
            router.counters().turn_cut();
        }
    }

    /// Handles what other shards sent, a bounded number of letters; the rest keeps its place.
    fn read_mail(&mut self, now: Now) {
        let Self { port, router, mailbox, keeper, clock, .. } = self;
        let mut outlet = ToPort { port };
        // There may be room for what waited.
        router.transmit(now, &mut outlet);
        let mut payload = [0; PAYLOAD_MAX];
        for letter in 1..=MAIL_BATCH {
            let late = letter.is_multiple_of(CHECK_DATAGRAMS)
                && clock.moment().since(now.at) >= self.turn_budget;
            if late || router.is_stalled(outlet.room()) {
                break;
            }
            let Some(Received { from, mail, len, .. }) = mailbox.next(&mut payload) else { break };
            router.deliver(now, from, mail, &payload[..len], &mut outlet);
            router.transmit(now, &mut outlet);
            // Before the next one: each may lead to a letter for every other shard.
            post(now, router, mailbox, keeper);
        }
    }

    /// Further sockets are at the address of the main one, each at a port of its own.
    #[cold]
    fn serve_ports(&mut self, now: Now) {
        let Self { port, router, beside, .. } = self;
        let ip = port.socket().local_addr().ip();
        router.serve_ports(now, |wish| match wish {
            PortWish::Open { socket, port: number } => {
                let listen = (ip, number).into();
                let bound = Socket::bind(&SocketConfig { listen, ..*beside });
                let opened = bound.and_then(|bound| port.open_side(socket, bound));
                if let Err(error) = &opened {
                    tracing::warn!(port = number, %error, "a port for WireGuard cannot be opened");
                }
                opened.is_ok()
            }
            PortWish::Close { socket } => port.close_side(socket).is_some(),
        });
        router.transmit(now, &mut ToPort { port });
    }

    fn publish(&mut self, now: Now) {
        (self.published_at, self.stale) = (now.at, false);
        self.router.set_load(self.load.permille);
        let receive = self.port.pool();
        self.router.publish(now, (receive.free(), receive.slots()));
        let counters = self.router.counters();
        counters.socket(self.port.stats());
        counters.port(self.port.achieved());
        counters.mailbox(self.mailbox.stats());
        if let Some(keeper) = &self.keeper {
            keeper.publish(counters);
        }
        let socket = self.port.socket();
        let [receive, send] = [socket.receive_buffer(), socket.send_buffer()];
        counters.socket_buffers(receive.effective_bytes as u64, send.effective_bytes as u64);
    }
}

/// Puts what the router has to tell other shards into the mailbox, which counts what it drops.
/// Of the lower classes anything may get lost; of control, the router has to know. And lets the
/// store have what changed.
#[inline]
fn post(
    now: Now,
    router: &mut Router<WireGuard>,
    mailbox: &mut Mailbox<Mail>,
    keeper: &mut Option<Keeper>,
) {
    let mut lost = ShardSet::default();
    // Does not allocate while nothing is lost.
    let mut unheard = Vec::new();
    router.take_mail(now, |to, mail, payload| {
        let leg = mail.moved_leg();
        match mailbox.post(to, mail.class(), mail.key(), mail, payload) {
            Posted::Dropped(Reason::ControlFull) => lost.add(to),
            Posted::Dropped(_) => unheard.extend(leg),
            Posted::Enqueued | Posted::Coalesced => {}
        }
    });
    for session in unheard {
        router.leg_unheard(now, session);
    }
    if !lost.is_empty() {
        router.mail_lost(now, lost);
    }
    take_changes(now, router, keeper);
}

#[inline]
fn take_changes(now: Now, router: &mut Router<WireGuard>, keeper: &mut Option<Keeper>) {
    match keeper {
        Some(keeper) => keeper.take(now, router),
        // Its store could not be opened in this life: what changes is noted all the same, and
        // would be without end.
        None if router.has_changes() => router.take_changes(now, |_| {}),
        None => {}
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

    #[inline]
    fn room(&self) -> usize {
        self.port.room()
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
