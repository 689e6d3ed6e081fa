//! `bench relay`: what relaying a datagram costs, against what receiving and sending it costs,
//! and against a TURN server.

mod channels;
mod lane;
mod latency;
mod pairs;
mod process;
mod table;
mod turn;

use std::net::SocketAddr;

use rand_chacha::ChaCha12Rng;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::cli::{Exit, Failure};
use crate::port::EngineChoice;
use crate::wire::channel::Channel;

use super::echo::per_answer;
use super::floor::Floor;
use super::progress::Progress;
use super::rig::{self, Server};
use super::{Scale, median};
use channels::Channels;
use lane::{Header, Lane, Road};
use latency::Measured;
use pairs::{Load, Pairs};
use process::Process;
use table::Row;
use turn::Turn;

/// UDP payload of the datagrams.
const PAYLOADS: [usize; 2] = [100, 1200];
/// Pairs that take turns.
const PAIRS: [usize; 2] = [256, 1];
/// Datagrams of a pair in a row.
const TRAINS: [usize; 2] = [8, 1];

/// Measure a relayed datagram against a plain echo, and against a TURN server
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Few repetitions, and no latency: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Measure latency even if it is to be quick
    #[arg(long)]
    latency: bool,
    /// Pin everything to this CPU [default: the last one]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Measure this TURN server in the same run; it must serve without authentication, and be
    /// pinned to the same CPU
    #[arg(long, value_name = "ADDRESS", requires = "turn_pid")]
    turn: Option<SocketAddr>,
    /// Its process, for its CPU time
    #[arg(long, value_name = "PID", requires = "turn")]
    turn_pid: Option<u32>,
    /// End with code 3 if the ratio to the floor is above this
    #[arg(long, value_name = "RATIO")]
    slo: Option<f64>,
    /// End with code 3 if the TURN server costs less than so many times as much: where nothing
    /// coalesces, where trains do
    #[arg(
        long,
        value_name = "ALONE,TRAINS",
        value_delimiter = ',',
        num_args = 2,
        requires = "turn"
    )]
    slo_turn: Option<Vec<f64>>,
}

/// Runs every cell and prints the tables.
///
/// # Errors
/// If the machine does not allow it, datagrams are lost, or a threshold is missed.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Exit::Software, message);
    let cpu = args.cpu.map_or_else(rig::last_cpu, Ok).map_err(failed)?;
    let rows = measure(cpu, args).map_err(failed)?;
    table::print(&rows, args.json)?;
    table::judge(&rows, args.slo, args.slo_turn.as_deref())
}

fn measure(cpu: usize, args: &Args) -> Result<Vec<Row>, String> {
    // Once this thread is pinned, it knows of no other CPU.
    let beside = if args.quick && !args.latency { None } else { beside(cpu) };
    rig::take_turns_on(cpu)?;
    allow_sockets();
    let scale = Scale::of(args.quick);
    let cells = 2 * PAYLOADS.len() * PAIRS.len() * TRAINS.len();
    let progress = Progress::new((cells * (scale.rounds + 1)) as u64);
    let mut rows = Vec::new();
    for offloads in [true, false] {
        for payload in PAYLOADS {
            let mut bench = Bench::new(cpu, beside, offloads, payload, args)?;
            for pairs in PAIRS {
                for train in TRAINS {
                    let load = Load { payload, pairs, train, datagrams: scale.datagrams };
                    let costs = bench.costs(load, scale, &progress)?;
                    let latencies = bench.latencies(load, &costs, args.quick);
                    rows.push(bench.row(load, &costs, latencies));
                }
            }
            bench.close()?;
        }
    }
    Ok(rows)
}

/// Another CPU than this one.
fn beside(cpu: usize) -> Option<usize> {
    rig::cpus().into_iter().find(|&other| other != cpu)
}

/// As many as the system lets this process have: every pair takes four descriptors.
fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    // If not, opening one too many says so.
    let _ =
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

/// Servers and pairs of one size, with or without offloads.
struct Bench {
    contestants: Vec<Contestant>,
    pairs: Pairs,
    cpu: usize,
    /// Where the load is while latency is measured, if it is.
    beside: Option<usize>,
    offloads: bool,
    rng: ChaCha12Rng,
}

/// Who relays.
enum Contestant {
    Floor(Floor, Road),
    Router(Channels),
    Turn(Turn),
}

impl Bench {
    fn new(
        cpu: usize,
        beside: Option<usize>,
        offloads: bool,
        payload: usize,
        args: &Args,
    ) -> Result<Self, String> {
        let mut pairs = Pairs::open(PAIRS[0], offloads)?;
        let mut rng = rig::random()?;
        let engine = EngineChoice::Auto;
        let floor = rig::floor(cpu, engine, offloads)?;
        floor.set_answer_bytes(payload);
        let road = returning(floor.address(), PAIRS[0]);
        let server = Server::start(cpu, engine, offloads, rig::relaying(), |_, _| {})?;
        let channels = Channels::open(server, &mut pairs.pairs)?;
        let mut contestants = vec![Contestant::Floor(floor, road), Contestant::Router(channels)];
        if let (Some(address), Some(pid)) = (args.turn, args.turn_pid) {
            let process = Process::of(pid);
            let turn = Turn::connect(address, process, &mut pairs.pairs, &mut rng)?;
            contestants.push(Contestant::Turn(turn));
        }
        Ok(Self { contestants, pairs, cpu, beside, offloads, rng })
    }

    /// CPU ns per datagram of everybody, measured in turn, so that what the machine does besides
    /// falls on all.
    fn costs(&mut self, load: Load, scale: Scale, progress: &Progress) -> Result<Vec<f64>, String> {
        let mut samples = vec![vec![]; self.contestants.len()];
        for round in 0..=scale.rounds {
            for (contestant, samples) in self.contestants.iter().zip(&mut samples) {
                let cpu_ns = contestant.slice(&mut self.pairs, load)?;
                // The first round warms caches and fills tables.
                if round > 0 {
                    samples.push(cpu_ns);
                }
            }
            progress.step();
        }
        Ok(samples.iter_mut().map(|samples| median(samples)).collect())
    }

    /// What each of the relays adds, which have these `costs`.
    fn latencies(&mut self, load: Load, costs: &[f64], quick: bool) -> Vec<Measured> {
        let Some(beside) = self.beside else { return Vec::new() };
        let Some((floor, relays)) = self.contestants.split_first() else { return Vec::new() };
        let (pairs, cpus) = (&mut self.pairs, [self.cpu, beside]);
        let scale = latency::Scale::of(quick);
        let relays = relays.iter().zip(&costs[1..]);
        relays
            .map(|(relay, &cpu_ns)| {
                latency::measure(pairs, [floor, relay], load, cpu_ns, scale, cpus)
            })
            .collect()
    }

    fn row(&self, load: Load, costs: &[f64], latencies: Vec<Measured>) -> Row {
        Row {
            load,
            offloads: self.offloads,
            floor_ns: costs[0],
            server_ns: costs[1],
            turn_ns: costs.get(2).copied(),
            latencies,
        }
    }

    /// Leaves a TURN server as it was found.
    fn close(mut self) -> Result<(), String> {
        for contestant in &self.contestants {
            if let Contestant::Turn(turn) = contestant {
                turn.disconnect(&mut self.pairs.pairs, &mut self.rng)?;
            }
        }
        Ok(())
    }
}

impl Contestant {
    const fn road(&self) -> &Road {
        match self {
            Self::Floor(_, road) => road,
            Self::Router(channels) => &channels.road,
            Self::Turn(turn) => &turn.road,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Floor(..) => "floor",
            Self::Router(_) => "router",
            Self::Turn(_) => "turn",
        }
    }

    fn cpu_ns(&self) -> Result<u64, String> {
        match self {
            Self::Floor(floor, _) => Ok(floor.cpu_ns()),
            Self::Router(channels) => Ok(channels.server.cpu_ns()),
            Self::Turn(turn) => turn.process.cpu_ns(),
        }
    }

    /// CPU ns of one slice per datagram.
    fn slice(&self, pairs: &mut Pairs, load: Load) -> Result<f64, String> {
        let before = self.cpu_ns()?;
        let outcome = pairs.fire(self.road(), load)?;
        pairs.settle()?;
        let spent_ns = self.cpu_ns()? - before;
        per_answer(spent_ns, outcome).map_err(|reason| format!("{}: {reason}", self.name()))
    }
}

/// The floor's way: back to the sender, as it was sent.
fn returning(server: SocketAddr, pairs: usize) -> Road {
    let header = Header::Channel(Channel { generation: 0, id: 0 });
    let lane = Lane { sent: header, came: header, returns: true };
    Road { server, lanes: vec![lane; pairs], burst: usize::MAX }
}
