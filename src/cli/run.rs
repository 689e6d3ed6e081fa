//! `run`: the router.
//!
//! The order decides what an error leaves behind, which is nothing: settings and
//! key file are read, the ports are bound and the shards are started before a new
//! identity is written; whatever fails on the way undoes what came before.

mod keeping;
mod ports;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::admin::{self, Pages};
use crate::clock::Clock;
use crate::config::runtime::RuntimeDir;
use crate::config::{Config, Surroundings, key, places};
use crate::counters::CountersView;
use crate::counters::text::BuildInfo;
use crate::identity::Identity;
use crate::port::{BufferSize, Group, Steering, own_addresses};
use crate::shard::{self, Shards, StartError};

use super::banner::Banner;
use super::signals::{Signal, Signals};
use super::watch::{News, Watch};
use super::{Exit, Failure, keygen, link, logging, output, settings};
use ports::Ports;

/// Serve peers until SIGINT or SIGTERM
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: settings::Args,
    /// Host to put into the link
    #[arg(long, value_name = "NAME-OR-ADDRESS")]
    host: Option<String>,
}

/// Everything that runs; dropped in this order.
struct Running {
    shards: Shards,
    /// Its counters, to look after it.
    views: Vec<CountersView>,
    clock: Clock,
    /// Set when it no longer serves.
    stopping: Arc<AtomicBool>,
    _admin: Option<admin::Handle>,
    directory: RuntimeDir,
}

/// Who the router is.
struct Who {
    identity: Arc<Identity>,
    /// Made just now, not yet written.
    new: bool,
}

/// Serves until it is told to stop.
///
/// # Errors
/// If it cannot start, or breaks.
pub fn run(args: &Args) -> Result<(), Failure> {
    let surroundings = Surroundings::here();
    let config = args.settings.load(&surroundings)?;
    let who = Who::find(&config, &surroundings)?;
    let settings = config.settings();
    logging::init(settings.log_level, settings.log_format, &surroundings)?;
    let signals = Signals::listen().map_err(|error| Failure::io("signals", &error))?;
    let (running, banner) = start(args, &config, &surroundings, &who)?;
    if let Err(failure) = banner.lines().into_iter().try_for_each(output::line) {
        // A full disk behind standard output is no reason not to serve.
        tracing::warn!(%failure, "banner");
    }
    tracing::info!(listen = %running.shards.local_addr(), "ready");
    running.serve(&signals)
}

impl Who {
    fn find(config: &Config, surroundings: &Surroundings) -> Result<Self, Failure> {
        let stored = settings::identity(config, surroundings)?;
        let (new, identity) = match stored {
            Some(identity) => (false, identity),
            None => {
                let made = key::generate();
                (true, made.map_err(|error| Failure::io("the system's randomness", &error))?)
            }
        };
        Ok(Self { identity: Arc::new(identity), new })
    }
}

fn start(
    args: &Args,
    config: &Config,
    surroundings: &Surroundings,
    who: &Who,
) -> Result<(Running, Banner), Failure> {
    // The link is checked first of all: a wrong --host needs no port.
    link::advertise(&who.identity, config.settings().listen, args.host.as_deref())?;
    let listener = config.settings().admin.map(bind_admin).transpose()?;
    let ports = Ports::bind(config)?;
    let alternate = ports.alternate();
    let Group { sockets, steering } = &ports.main;
    let steering = *steering;
    let local = sockets[0].local_addr();
    let buffers = [sockets[0].receive_buffer(), sockets[0].send_buffer()];
    let directory =
        RuntimeDir::take(&places::runtime(surroundings), local.port()).map_err(|error| {
            Failure::new(Exit::CannotCreate, format_args!("runtime directory: {error}"))
        })?;
    let keeping = keeping::open(config, surroundings, &who.identity)?;
    let keeping::Keeping { store, warning, made } = keeping;
    let kept = store.as_ref().map(|store| store.directory.path().to_owned());
    let shards = start_shards(config, ports, who, &directory, store)?;
    let facts = Facts { who, local, alternate, steering, buffers, listener, kept, warning };
    match settle(args, config, facts, &shards, &directory) {
        Ok(Settled { banner, views, stopping, admin }) => {
            made.keep();
            let clock = Clock::start();
            Ok((Running { shards, views, clock, stopping, _admin: admin, directory }, banner))
        }
        Err(failure) => {
            shards.stop();
            // It fails already, and for another reason.
            let _ = shards.join();
            Err(failure)
        }
    }
}

/// What is known once the ports are bound.
struct Facts<'a> {
    who: &'a Who,
    local: SocketAddr,
    alternate: Option<SocketAddr>,
    steering: Steering,
    buffers: [BufferSize; 2],
    listener: Option<TcpListener>,
    /// Where the store lies.
    kept: Option<PathBuf>,
    /// Why there is none.
    warning: Option<String>,
}

/// What is left to do for a router that serves.
struct Settled {
    banner: Banner,
    views: Vec<CountersView>,
    stopping: Arc<AtomicBool>,
    admin: Option<admin::Handle>,
}

/// Everything after the shards have started: the new identity is kept, the router describes
/// itself and shows its counters.
fn settle(
    args: &Args,
    config: &Config,
    facts: Facts<'_>,
    shards: &Shards,
    directory: &RuntimeDir,
) -> Result<Settled, Failure> {
    let Facts { who, local, alternate, steering, buffers, listener, kept, warning } = facts;
    if who.new {
        // Only the default place may need its directory made.
        let directories = args.settings.identity.is_none();
        key::create(&config.identity, &who.identity, directories).map_err(|error| {
            keygen::failure(error).hint("--identity FILE names another place for it")
        })?;
    }
    let banner = Banner {
        identity: Arc::clone(&who.identity),
        key_file: config.identity.clone(),
        key_is_new: who.new,
        listen: local,
        alternate,
        role: config.router().role.label(),
        achieved: shards.achieved().clone(),
        steering,
        placement: config.placement.clone(),
        buffers,
        admin: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
        directory: directory.path().to_owned(),
        store: kept,
        warnings: config.warnings().into_iter().chain(warning).collect(),
        advertised: link::advertise(&who.identity, local, args.host.as_deref())?,
    };
    let description = describe(config, &banner);
    let described = directory.describe(&description);
    described.map_err(|error| Failure::io(directory.path().display(), &error))?;
    let stopping = Arc::new(AtomicBool::new(false));
    let serve = |listener| {
        let views = views(config, directory)?;
        serve_admin(listener, description, views, steering, &stopping)
    };
    let admin = listener.map(serve).transpose()?;
    let views = views(config, directory)?;
    Ok(Settled { banner, views, stopping, admin })
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        let doing = format!("admin/listen = {address}");
        let failure = Failure::io(doing, &error);
        failure.hint("another port or admin/listen=off lets the router start")
    })
}

fn start_shards(
    config: &Config,
    ports: Ports,
    who: &Who,
    directory: &RuntimeDir,
    store: Option<shard::StoreConfig>,
) -> Result<Shards, Failure> {
    let mut cookie_secret = [0; 32];
    getrandom::getrandom(&mut cookie_secret).map_err(|error| {
        Failure::new(Exit::System, format_args!("the system's randomness: {error}"))
    })?;
    let mut router = config.router();
    if store.is_some() {
        router.records.keeping = config.keeping();
    }
    router.own = own_addresses().map(Arc::from).map_err(|error| {
        Failure::new(Exit::System, format_args!("the addresses of this host: {error}"))
    })?;
    let shards = shard::Config {
        sockets: ports.main.sockets,
        alternates: ports.alternates,
        cpus: config.placement.cpus.clone(),
        port: config.port(),
        router,
        store,
        other_router: config.other_router(),
        turn_budget: config.settings().turn_budget,
        identity: Arc::clone(&who.identity),
        cookie_secret,
        counters: counters(config, directory).collect(),
    };
    shard::spawn(shards).map_err(|error| {
        let exit = match &error {
            StartError::Engine(_) => Exit::Unavailable,
            StartError::Buffers(_)
            | StartError::Tables(_)
            | StartError::Socket(_)
            | StartError::Thread(_) => Exit::System,
            StartError::Counters(..) => Exit::CannotCreate,
            StartError::Store(_) | StartError::StoreDirectory(_) => Exit::Io,
        };
        Failure::new(exit, error)
    })
}

/// The counter file of each shard.
fn counters(config: &Config, directory: &RuntimeDir) -> impl Iterator<Item = PathBuf> {
    (0..config.placement.count).map(|shard| directory.counters(shard))
}

/// What the router says of itself to whoever looks; never anything secret.
fn describe(config: &Config, banner: &Banner) -> Value {
    let settings = config.values.differences().into_iter();
    let settings: Value = settings.map(|d| (d.attribute.path.to_owned(), json!(d.value))).collect();
    json!({
        "program": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "listen": banner.listen.to_string(),
        "alternate": banner.alternate.map(|alternate| alternate.to_string()),
        "role": banner.role,
        "peer_id": banner.identity.peer_id().to_string(),
        "wireguard_key": output::base64(&banner.identity.wg_key().0),
        "link": banner.advertised.link.to_string(),
        "admin": banner.admin.map(|admin| admin.to_string()),
        "shards": banner.placement.count,
        "cpus": banner.placement.cpus,
        "steering": banner.steering.label(),
        "store": banner.store.as_ref().map(|store| store.display().to_string()),
        "settings": settings,
        "warnings": banner.warnings(),
    })
}

fn views(config: &Config, directory: &RuntimeDir) -> Result<Vec<CountersView>, Failure> {
    let open = |path: PathBuf| {
        CountersView::open(&path)
            .map_err(|error| Failure::new(Exit::Io, format_args!("{}: {error}", path.display())))
    };
    counters(config, directory).map(open).collect()
}

fn serve_admin(
    listener: TcpListener,
    description: Value,
    views: Vec<CountersView>,
    steering: Steering,
    stopping: &Arc<AtomicBool>,
) -> Result<admin::Handle, Failure> {
    let version = env!("CARGO_PKG_VERSION").into();
    let pages = Pages {
        shards: views,
        build: BuildInfo { version, steering: steering.label().into() },
        description,
        stopping: Arc::clone(stopping),
        clock: Clock::start(),
    };
    admin::serve(listener, admin::Limits::default(), move |page| pages.answer(page))
        .map_err(|error| Failure::io("admin listener", &error))
}

impl Running {
    /// Waits for a signal, or for a shard to break.
    fn serve(mut self, signals: &Signals) -> Result<(), Failure> {
        let mut watch = Watch::default();
        while self.shards.are_alive() {
            let snapshots: Vec<_> = self.views.iter().map(CountersView::snapshot).collect();
            let now_ms = self.clock.now().unix_ms;
            watch.look(&snapshots, now_ms).into_iter().for_each(News::log);
            match signals.wait() {
                Some(Signal::Stop(name)) => {
                    tracing::info!(signal = name, "stopping");
                    break;
                }
                Some(Signal::Reload) => {
                    tracing::warn!("SIGHUP: settings are read at start; restart to apply them");
                }
                None => {}
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        self.shards.stop();
        conclude(self.shards.join(), &mut self.directory)
    }
}

/// How the router ends; what a broken shard counted stays to be read.
fn conclude(ended: io::Result<()>, directory: &mut RuntimeDir) -> Result<(), Failure> {
    ended.map_err(|error| {
        directory.keep();
        let message = format!("a shard broke: {error}");
        Failure::new(Exit::Software, message)
            .hint(format_args!("its counters stay in {}", directory.path().display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_shard_leaves_its_counters() {
        let place = std::env::temp_dir().join(format!("molia-broken-{}", std::process::id()));
        let end = |ended| {
            let mut directory = RuntimeDir::take(std::slice::from_ref(&place), 1).unwrap();
            std::fs::write(directory.counters(0), "x").unwrap();
            let code = conclude(ended, &mut directory).map_err(|failure| failure.exit());
            let path = directory.counters(0);
            drop(directory);
            (code, path.exists())
        };
        assert_eq!(end(Err(io::Error::other("panic"))), (Err(Exit::Software), true));
        assert_eq!(end(Ok(())), (Ok(()), false));
        std::fs::remove_dir_all(place).unwrap();
    }
}
