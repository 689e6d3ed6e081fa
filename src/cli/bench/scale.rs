//! `bench scale`: what a PING costs with more shards, against one shard.
//!
//! The machine need have no core to spare for the load: on every shard's CPU runs a [`Driver`], which
//! takes turns with that shard alone, so all shards are busy at the same time and what they
//! get in each other's way is in the result. Only the shards' threads are counted. The routers
//! that are compared are alive all the time and asked in turn, a slice each.

use std::net::SocketAddr;

use clap::value_parser;
use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::ids::WgKey;
use crate::partition::{Partition, SHARDS_MAX};
use crate::port::Engine;
use crate::wire::kind::Kind;

use super::drivers::Driver;
use super::echo::per_answer;
use super::fleet::{Outcome, Pattern, TRAIN};
use super::progress::Progress;
use super::rig::{self, Delivery, Server};
use super::{Scale, median, requests};

/// UDP payload of the requests, and how many of a flow come in a row: what the kernel may coalesce.
const LOADS: [(usize, usize); 4] = [(100, TRAIN), (1200, TRAIN), (100, 1), (1200, 1)];
/// Sessions of a router, shared out among its shards.
const FLOWS: usize = 256;

/// Measure a PING with several shards against one
///
/// Every shard has a CPU of its own and shares it with the part of the load generator that sends
/// to it: they take turns, so that no core beyond the shards' is needed. All shards are loaded at
/// the same time, 256 sessions over all of them, each at its home, that send trains of 8 datagrams
/// or one at a time. "server ns" is
/// the CPU time of the shards' threads, summed up, per datagram answered; the generator's threads
/// are not in it. "ratio" compares with one shard in the same run; slices of all rows take turns.
///
/// Rows with several routers, of one shard each, are loaded in the same way: what their ratio is
/// above 1 the machine's cores lose to each other, and sharding has no part in it.
///
/// Rows with steering "off" have every datagram arrive at a wrong shard, which forwards it once
/// through the mailbox. A router with shards/steering = off forwards a share of (S-1)/S of them.
///
/// What it does not see: on loopback the sender's CPU time pays for steering (17 steps of BPF a
/// train) and for the receiver's softirq, and the answers' softirq is the shard's; a network card
/// spreads its interrupts in its own way. Each of S shards holds a share of the sessions, so that
/// more of them stay in its core's cache.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Numbers of shards [default: 1, 2, 4 and so on, as far as there are CPUs]
    #[arg(long, value_name = "N,..", value_delimiter = ',',
          value_parser = value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    shards: Vec<u16>,
    /// Few repetitions: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// End with code 3 if the ratio of several shards with steering is above this
    #[arg(long, value_name = "RATIO")]
    slo: Option<f64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A router whose shards get their own datagrams.
    Steered { shards: usize },
    /// A router whose shards get each other's.
    Forwarding { shards: usize },
    /// Routers of one shard each.
    Apart { routers: usize },
}

/// One line of the table.
struct Row {
    layout: Layout,
    engine: &'static str,
    payload_bytes: usize,
    train: usize,
    server_ns: f64,
    ratio: f64,
}

/// Runs every cell and prints the table.
///
/// # Errors
/// If the machine does not allow it, answers are lost, or the threshold is missed.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Exit::Software, message);
    let cpus = rig::cpus();
    let shards = numbers(&args.shards, cpus.len())?;
    let rows = measure(&shards, &cpus, Scale::of(args.quick)).map_err(failed)?;
    if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        output::json(&json!({ "flows": FLOWS, "rows": rows }))?;
    } else {
        output::line(table(&rows))?;
    }
    judge(args.slo, &rows)
}

/// The numbers of shards in order, one first: it is what the others are compared to.
fn numbers(asked: &[u16], cpus: usize) -> Result<Vec<usize>, Failure> {
    let mut shards: Vec<usize> = asked.iter().copied().map(usize::from).collect();
    if asked.is_empty() {
        let powers = (0..).map(|bits| 1 << bits);
        shards.extend(powers.take_while(|n| *n <= cpus.min(SHARDS_MAX.into())));
    }
    shards.push(1);
    shards.sort_unstable();
    shards.dedup();
    match shards.last() {
        Some(&most) if most > cpus => Err(Failure::new(
            Exit::Usage,
            format_args!("--shards {most}: every shard needs a CPU, and there are {cpus}"),
        )),
        _ => Ok(shards),
    }
}

fn layouts(shards: &[usize]) -> Vec<Layout> {
    let each = shards.iter().map(|&shards| match shards {
        1 => vec![Layout::Steered { shards }],
        _ => vec![
            Layout::Steered { shards },
            Layout::Apart { routers: shards },
            Layout::Forwarding { shards },
        ],
    });
    each.flatten().collect()
}

fn measure(shards: &[usize], cpus: &[usize], scale: Scale) -> Result<Vec<Row>, String> {
    let most = shards.last().copied().unwrap_or(1);
    let cpus = &cpus[cpus.len() - most..];
    rig::take_turns_on(cpus[most - 1])?;
    let layouts = layouts(shards);
    let progress = Progress::new((LOADS.len() * (scale.rounds + 1)) as u64);
    let bench = Bench::new(&layouts, shards, cpus, scale.datagrams)?;
    let mut samples = vec![vec![Vec::new(); layouts.len()]; LOADS.len()];
    for round in 0..=scale.rounds {
        for (load, samples) in LOADS.into_iter().zip(&mut samples) {
            // There and back, so that nobody always comes after the same one.
            let there = 0..layouts.len();
            let order: Vec<usize> =
                if round % 2 == 0 { there.collect() } else { there.rev().collect() };
            for at in order {
                let ns = bench.slice(at, load)?;
                // The first round warms caches and fills tables.
                if round > 0 {
                    samples[at].push(ns);
                }
            }
            progress.step();
        }
    }
    let mut rows = Vec::new();
    for ((payload_bytes, train), samples) in LOADS.into_iter().zip(&mut samples) {
        let medians: Vec<f64> = samples.iter_mut().map(|it| median(it)).collect();
        rows.extend(layouts.iter().zip(&medians).map(|(&layout, &server_ns)| Row {
            layout,
            engine: bench.engine,
            payload_bytes,
            train,
            server_ns,
            ratio: server_ns / medians[0],
        }));
    }
    Ok(rows)
}

/// All that is compared, and who asks.
struct Bench {
    engine: &'static str,
    contestants: Vec<Contestant>,
    drivers: Vec<Driver>,
    datagrams: usize,
}

/// One layout's routers, and where each driver sends.
struct Contestant {
    servers: Vec<Server>,
    targets: Vec<Target>,
}

/// Whom one driver asks.
#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    /// Of the router among those that this driver's fleet knows.
    number: usize,
    flows: usize,
}

impl Bench {
    fn new(
        layouts: &[Layout],
        shards: &[usize],
        cpus: &[usize],
        datagrams: usize,
    ) -> Result<Self, String> {
        // The drivers of the first CPUs are those of the smaller numbers of shards, too.
        let least = |at: usize| shards.iter().find(|shards| **shards > at).unwrap_or(&1);
        let drivers = cpus.iter().enumerate().map(|(at, &cpu)| {
            Driver::start(cpu, FLOWS / least(at), datagrams)
                .map_err(|reason| format!("CPU {cpu}: {reason}"))
        });
        let drivers: Vec<Driver> = drivers.collect::<Result<_, _>>()?;
        let contestants: Vec<Contestant> = layouts
            .iter()
            .map(|layout| Contestant::start(*layout, cpus, &drivers))
            .collect::<Result<_, _>>()?;
        let engine = match contestants[0].servers[0].engine() {
            Engine::IoUring => "io_uring",
            Engine::Mmsg => "mmsg",
        };
        Ok(Self { engine, contestants, drivers, datagrams })
    }

    /// CPU ns per datagram of one slice, to all shards of one contestant at a time.
    fn slice(&self, at: usize, (payload, train): (usize, usize)) -> Result<f64, String> {
        let Contestant { servers, targets } = &self.contestants[at];
        let ping = requests::ping(payload)?;
        let each = |target: &Target| {
            let Target { flows, .. } = *target;
            (*target, Pattern { flows, train, datagrams: self.datagrams, answers: 1 })
        };
        let drivers = || self.drivers.iter().zip(targets.iter().map(each));
        for (driver, (target, pattern)) in drivers() {
            let ping = ping.clone();
            driver.begin(move |gunner| {
                let mut write = |out: &mut [u8]| {
                    out[..ping.len()].copy_from_slice(&ping);
                    ping.len()
                };
                gunner.shots = gunner.fleet.seal(target.number, pattern, &mut write)?;
                Ok(Outcome::default())
            });
        }
        collect(drivers().map(|(driver, _)| driver))?;
        let spent = || servers.iter().map(Server::cpu_ns).sum::<u64>();
        let before = spent();
        for (driver, (target, pattern)) in drivers() {
            driver.begin(move |gunner| {
                let shots = std::mem::take(&mut gunner.shots);
                let check = Some((target.number, Kind::Pong));
                gunner.fleet.fire(shots, target.address, pattern, check)
            });
        }
        let outcome = collect(drivers().map(|(driver, _)| driver))?;
        per_answer(spent() - before, outcome)
    }
}

impl Contestant {
    fn start(layout: Layout, cpus: &[usize], drivers: &[Driver]) -> Result<Self, String> {
        let router = |shards: usize, delivery| {
            Server::start_sharded(cpus[..shards].to_vec(), delivery).map(|server| vec![server])
        };
        let alone = |cpu: &usize| Server::start_sharded(vec![*cpu], Delivery::Home);
        let (servers, parts) = match layout {
            Layout::Steered { shards } => (router(shards, Delivery::Home)?, shards),
            Layout::Forwarding { shards } => (router(shards, Delivery::Neighbour)?, shards),
            Layout::Apart { routers } => {
                (cpus[..routers].iter().map(alone).collect::<Result<_, _>>()?, routers)
            }
        };
        let mut targets = Vec::with_capacity(parts);
        for (at, driver) in drivers[..parts].iter().enumerate() {
            let (server, home) = match layout {
                Layout::Steered { .. } => (&servers[0], at),
                // What is for the next one arrives here.
                Layout::Forwarding { .. } => (&servers[0], (at + 1) % parts),
                Layout::Apart { .. } => (&servers[at], 0),
            };
            let (address, key, flows) = (server.address(), server.key, FLOWS / parts);
            let number = connect(driver, flows, (address, key), (server.partition, home))?;
            targets.push(Target { address, number, flows });
        }
        Ok(Self { servers, targets })
    }
}

/// Gives the first `flows` of a driver sessions that live in one shard; the router's number there.
fn connect(
    driver: &Driver,
    flows: usize,
    (address, key): (SocketAddr, WgKey),
    (partition, home): (Partition, usize),
) -> Result<usize, String> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    driver.begin(move |gunner| {
        let wanted = |key: &WgKey| usize::from(partition.home(key)) == home;
        let number = gunner.fleet.connect_some(flows, address, key, wanted)?;
        tell.send(number).map_err(|error| error.to_string())?;
        Ok(Outcome::default())
    });
    driver.end()?;
    told.recv().map_err(|error| error.to_string())
}

/// What came of a job that several drivers have, once all are done.
fn collect<'a>(drivers: impl Iterator<Item = &'a Driver>) -> Result<Outcome, String> {
    let outcomes: Vec<_> = drivers.map(Driver::end).collect();
    outcomes.into_iter().try_fold(Outcome::default(), |sum, outcome| {
        let Outcome { answered, lost, answer_bytes } = outcome?;
        Ok(Outcome { answered: sum.answered + answered, lost: sum.lost + lost, answer_bytes })
    })
}

impl Layout {
    /// Shards of each router, and whether the kernel finds the right one.
    const fn shape(self) -> (usize, &'static str) {
        match self {
            Self::Steered { shards: 1 } => (1, "none"),
            Self::Steered { shards } => (shards, "on"),
            Self::Forwarding { shards } => (shards, "off"),
            Self::Apart { .. } => (1, "none"),
        }
    }

    const fn routers(self) -> usize {
        match self {
            Self::Steered { .. } | Self::Forwarding { .. } => 1,
            Self::Apart { routers } => routers,
        }
    }
}

impl Row {
    fn json(&self) -> Value {
        let (shards, steering) = self.layout.shape();
        json!({
            "shards": shards,
            "routers": self.layout.routers(),
            "steering": steering,
            "engine": self.engine,
            "payload_bytes": self.payload_bytes,
            "train": self.train,
            "server_ns": (self.server_ns * 10.0).round() / 10.0,
            "ratio": (self.ratio * 1000.0).round() / 1000.0,
        })
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:>7} {:>6} {:>8} {:>7} {:>9} {:>10} {:>6}",
        "engine", "payload", "train", "routers", "shards", "steering", "server ns", "ratio"
    )];
    lines.extend(rows.iter().map(|row| {
        let (shards, steering) = row.layout.shape();
        format!(
            "{:<9} {:>7} {:>6} {:>8} {:>7} {:>9} {:>10.0} {:>6.2}",
            row.engine,
            row.payload_bytes,
            row.train,
            row.layout.routers(),
            shards,
            steering,
            row.server_ns,
            row.ratio
        )
    }));
    lines.push(format!(
        "CPU ns of all shards' threads per datagram, {FLOWS} flows in all, every shard loaded at the \
         same time.\n\
         ratio to one shard; several routers of one shard show what the machine itself loses;\n\
         steering off: every datagram arrives at a wrong shard, and is forwarded once."
    ));
    lines.join("\n")
}

fn judge(slo: Option<f64>, rows: &[Row]) -> Result<(), Failure> {
    let Some(limit) = slo else { return Ok(()) };
    let steered = |row: &&Row| matches!(row.layout, Layout::Steered { shards: 2.. });
    let above = rows.iter().filter(steered).filter(|row| row.ratio > limit);
    let missed: Vec<String> = above
        .map(|row| {
            let (shards, _) = row.layout.shape();
            format!("{shards} shards {} B x {}: {:.2}", row.payload_bytes, row.train, row.ratio)
        })
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Missed, format_args!("above the threshold: {}", missed.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_is_always_measured_and_none_without_a_cpu() {
        assert_eq!(numbers(&[], 2), Ok(vec![1, 2]));
        assert_eq!(numbers(&[], 1), Ok(vec![1]));
        assert_eq!(numbers(&[], 7), Ok(vec![1, 2, 4]));
        assert_eq!(numbers(&[3, 2], 4), Ok(vec![1, 2, 3]));
        let refused = numbers(&[3], 2).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert!(refused.to_string().contains("there are 2"), "{refused}");
    }

    fn row(layout: Layout, ratio: f64) -> Row {
        Row {
            layout,
            engine: "mmsg",
            payload_bytes: 100,
            train: 8,
            server_ns: 1000.0 * ratio,
            ratio,
        }
    }

    #[test]
    fn the_threshold_is_for_steered_shards_only() {
        let rows = [
            row(Layout::Steered { shards: 1 }, 1.0),
            row(Layout::Steered { shards: 2 }, 1.08),
            row(Layout::Apart { routers: 2 }, 1.05),
            row(Layout::Forwarding { shards: 2 }, 1.6),
        ];
        assert_eq!(judge(None, &rows), Ok(()));
        assert_eq!(judge(Some(1.1), &rows), Ok(()));
        let missed = judge(Some(1.05), &rows).unwrap_err();
        assert_eq!(missed.exit(), Exit::Missed);
        assert!(missed.to_string().ends_with("threshold: 2 shards 100 B x 8: 1.08"), "{missed}");
    }

    #[test]
    fn rows_say_what_they_are_about() {
        let json = row(Layout::Forwarding { shards: 2 }, 1.6).json();
        assert_eq!(json["shards"], 2);
        assert_eq!((&json["steering"], &json["ratio"]), (&"off".into(), &1.6.into()));
        let apart = row(Layout::Apart { routers: 2 }, 1.0).json();
        assert_eq!((&apart["shards"], &apart["routers"]), (&1.into(), &2.into()));
    }
}
