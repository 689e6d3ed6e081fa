//! The lives of a shard on its thread: made, run, and made again when one ends by a panic.
//!
//! What must outlive a life is in the [`Seat`]: the sockets with their places in their groups and what
//! waits in them, the mailbox with what other shards sent, the counter file. Everything else is
//! lost with a panic: peers shake hands anew by themselves, and the other shards, which never
//! notice but by the mail, say again what they have for this one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use bufpool::{Pool, PoolConfig};

use super::keeper::{Keeper, StoreConfig};
use super::liaison::Contact;
use super::mailbox::Mailbox;
use super::spawn::{Control, PortConfig, StartError};
use super::{Load, Shard};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::identity::Identity;
use crate::limits;
use crate::port::{ALTERNATE, Achieved, AnyPort, Port, Socket};
use crate::router::{self, Mail, Router};
use crate::time::{Moment, Now};
use crate::tunnel::Secrets;
use crate::tunnel::wireguard::WireGuard;

/// For what is not a table: stacks, the admin listener, the first sessions.
const SPARE_BYTES: usize = 16 << 20;
/// Wait before a life after one that ended soon; doubles with each, up to the longest.
const REST: Duration = Duration::from_millis(10);
const REST_MAX: Duration = Duration::from_millis(640);
/// A life that was longer than this was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Why a life ended that nothing else is known of.
const PANICKED: &str = "it panicked";

/// What the router of a new shard is handed to before it serves.
pub(super) type Prepare = dyn Fn(Now, &mut Router<WireGuard>) + Send + Sync;

/// What a shard is made of, time and again.
pub(super) struct Seat {
    pub(super) shard: u16,
    /// CPU to pin the thread to.
    pub(super) cpu: Option<usize>,
    pub(super) socket: Socket,
    /// That of the alternate port.
    pub(super) alternate: Option<Socket>,
    pub(super) mailbox: Mailbox<Mail>,
    pub(super) port: PortConfig,
    pub(super) router: router::Config,
    pub(super) turn_budget: Duration,
    pub(super) identity: Arc<Identity>,
    pub(super) cookie_secret: [u8; 32],
    pub(super) store: Option<StoreConfig>,
    pub(super) other: Option<Contact>,
    pub(super) counters: Option<PathBuf>,
    pub(super) control: Arc<Control>,
}

/// The shard's thread. The ring wants to be made by the thread that submits to it.
pub(super) fn lead(
    mut seat: Seat,
    prepare: &Prepare,
    ready: &SyncSender<Result<Achieved, StartError>>,
) -> io::Result<()> {
    let (shard, cpu) = (seat.shard, seat.cpu);
    if let Some(id) = cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(shard, cpu, "cannot pin the shard");
    }
    let clock = Clock::start();
    let mut serves = false;
    let first =
        catch_unwind(AssertUnwindSafe(|| first_life(&mut seat, prepare, ready, &mut serves)));
    let mut end = match first {
        // Whoever started it waits to hear of that.
        Err(panic) if !serves => resume_unwind(panic),
        Err(_) => Err(PANICKED.to_owned()),
        Ok(end) => Ok(end),
    };
    let (mut rest, mut born) = (REST, Moment::START);
    let mut restarts = 0;
    while let Err(why) = &end
        && !seat.control.stopping()
    {
        restarts += 1;
        rest = if clock.moment().since(born) > GOOD_LIFE { REST } else { (2 * rest).min(REST_MAX) };
        let rest_ms = rest.as_millis();
        tracing::error!(
            shard,
            why,
            restarts,
            rest_ms,
            "the shard lost everything, and begins again"
        );
        thread::park_timeout(rest);
        born = clock.moment();
        end = match catch_unwind(AssertUnwindSafe(|| next_life(&mut seat, restarts))) {
            Ok(Ok(end)) => Ok(end),
            // What one life lacks at its start the next may find; nobody else is to pay for it.
            Ok(Err(lacks)) => Err(lacks.to_string()),
            Err(_) => Err(PANICKED.to_owned()),
        };
    }
    end.unwrap_or_else(|why| Err(io::Error::other(why)))
}

fn first_life(
    seat: &mut Seat,
    prepare: &Prepare,
    ready: &SyncSender<Result<Achieved, StartError>>,
    serves: &mut bool,
) -> io::Result<()> {
    match counters(seat, 0).and_then(|counters| build(seat, counters, 0)) {
        Ok(mut shard) => {
            prepare(shard.clock.now(), &mut shard.router);
            // Whoever looks once it is ready sees the engine and the capacities.
            shard.publish(shard.clock.now());
            *serves = true;
            // The receiver waits in `spawn`.
            let _ = ready.send(Ok(shard.port.achieved().clone()));
            shard.run()
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Ok(())
        }
    }
}

fn next_life(seat: &mut Seat, restarts: u64) -> Result<io::Result<()>, StartError> {
    let mut shard =
        counters(seat, restarts).and_then(|counters| build(seat, counters, restarts))?;
    shard.router.begin_again(shard.clock.now());
    Ok(shard.run())
}

/// A new counter file, or the old one from zero: its readers have it mapped.
fn counters(seat: &Seat, restarts: u64) -> Result<Counters, StartError> {
    let shard = u32::from(seat.shard);
    let counters = match &seat.counters {
        Some(path) => {
            let made = match restarts {
                0 => Counters::create(path, shard),
                _ => Counters::take_over(path, shard),
            };
            made.map_err(|error| StartError::Counters(path.clone(), error))?
        }
        None => Counters::anonymous(shard).map_err(StartError::Buffers)?,
    };
    counters.restarts(restarts);
    Ok(counters)
}

/// Makes sure that so much memory is to be had: asks for all of it, and gives it back untouched.
fn reserve(bytes: usize) -> Result<(), StartError> {
    let mut space: Vec<u8> = Vec::new();
    let got = space.try_reserve_exact(bytes.saturating_add(SPARE_BYTES));
    // Memory that nobody looks at need not be asked for at all.
    std::hint::black_box(&mut space);
    got.map_err(|_| StartError::Tables(bytes))
}

fn build(seat: &mut Seat, counters: Counters, restarts: u64) -> Result<Shard<'_>, StartError> {
    let pool = |slot_bytes, slots, headroom| {
        let hugepages = seat.port.hugepages;
        let shape = PoolConfig { slot_bytes, slots, headroom, hugepages, prefault: true };
        Pool::new(shape).map_err(StartError::Buffers)
    };
    let packets = pool(limits::SLOT_BYTES, seat.router.slots(), limits::SLOT_HEADROOM)?;
    let receive = pool(limits::RX_SLOT_BYTES, seat.port.receive_slots, 0)?;
    let socket = seat.socket.try_clone().map_err(StartError::Socket)?;
    let mut port = AnyPort::open(seat.port.engine, socket, seat.port.sizes, receive)
        .map_err(StartError::Engine)?;
    if let Some(alternate) = &seat.alternate {
        let opened = alternate.try_clone().and_then(|socket| port.open_side(ALTERNATE, socket));
        opened.map_err(StartError::Socket)?;
    }
    let mut secrets = Secrets { cookies: seat.cookie_secret, seed: [0; 32] };
    getrandom::getrandom(&mut secrets.seed)
        .map_err(|error| StartError::Thread(io::Error::other(error.to_string())))?;
    reserve(Router::<WireGuard>::bytes(&seat.router))?;
    let sessions = seat.router.tunnel.sessions_max as usize;
    let tunnel = WireGuard::new(seat.identity.wg_secret().clone(), sessions);
    let identity = Arc::clone(&seat.identity);
    let mut router =
        Router::new(seat.router.clone(), identity, tunnel, packets, counters, &secrets);
    let clock = Clock::start();
    router.counters().started(clock.now());
    let keeper = seat.store.as_ref().map(|store| {
        let waker = seat.socket.waker();
        Keeper::open(store, &seat.router.tunnel, clock.now(), &mut router, waker)
    });
    let keeper = match keeper.transpose() {
        // It serves with what is in memory, and keeps nothing for anybody.
        Err(error) if restarts > 0 => {
            tracing::error!(shard = seat.shard, %error, "no store in this life");
            None
        }
        keeper => keeper?,
    };
    Ok(Shard {
        received: Vec::with_capacity(seat.port.receive_slots),
        left: Vec::with_capacity(seat.port.receive_slots),
        turn_budget: seat.turn_budget,
        port,
        beside: seat.port.beside,
        router,
        mailbox: &mut seat.mailbox,
        other: seat.other.clone(),
        keeper,
        clock,
        control: Arc::clone(&seat.control),
        load: Load::default(),
        moved: (0, 0),
        published_at: Moment::START,
        stale: false,
    })
}
