//! `bench lookup`: what FIND_NODE costs, against a PING in the same run.
//!
//! Both come as peers ask: one request of each flow at a time, none of which the
//! kernel could coalesce. With offloads the two chunks of a long answer leave as
//! one message.

use std::net::SocketAddr;

use rand_core::RngCore;
use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::ids::{PeerId, WgKey};
use crate::port::EngineChoice;
use crate::router::{RestoredPeer, Router};
use crate::time::Now;
use crate::tunnel::wireguard::WireGuard;
use crate::wire::body::{Addrs, Entry, Peer};
use crate::wire::kind::Kind;
use crate::wire::multiaddr;

use super::echo::per_answer;
use super::fleet::{Fleet, Pattern};
use super::progress::Progress;
use super::remote::{self, Probe};
use super::rig::{self, Server};
use super::{Scale, median, requests};

/// Peers in the table.
const PEERS: u32 = 100_000;
/// How long they are known.
const AN_HOUR_S: u64 = 3600;
/// Sessions that ask.
const FLOWS: usize = 256;
/// UDP payload of the PING that is compared to.
const PING_BYTES: usize = 100;
/// Limits asked for, and frames in the answer.
const LIMITS: [(u32, usize); 2] = [(8, 1), (16, 2)];

/// Measure FIND_NODE in a table of 100,000 peers against a PING
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: super::Common,
}

/// One line of the table.
struct Row {
    engine: &'static str,
    offloads: bool,
    limit: u32,
    frames: usize,
    lookup_ns: f64,
    ping_ns: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.lookup_ns / self.ping_ns
    }
}

/// Runs every cell and prints the table.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(link) = &args.common.link {
        return remote::run(&args.common, link, Probe::Lookup);
    }
    let failed = |message: String| Failure::new(Exit::Software, message);
    let cpu = args.common.cpu().map_err(failed)?;
    let rows = measure(cpu, args.common.scale()).map_err(failed)?;
    if args.common.json {
        let rows: Vec<Value> = rows.iter().map(document).collect();
        return output::json(&json!({ "peers": PEERS, "rows": rows }));
    }
    output::line(table(&rows))
}

fn measure(cpu: usize, scale: Scale) -> Result<Vec<Row>, String> {
    rig::take_turns_on(cpu)?;
    let progress = Progress::new((2 * rig::ENGINES.len() * (scale.rounds + 1)) as u64);
    let mut rows = Vec::new();
    for offloads in [true, false] {
        for engine in rig::ENGINES {
            let server = match Server::start(cpu, engine, offloads, rig::unlimited(), populate) {
                Ok(server) => server,
                Err(reason) if engine == EngineChoice::IoUring => {
                    super::without_io_uring(&reason);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            rows.extend(cell(&server, engine, offloads, scale, &progress)?);
        }
    }
    Ok(rows)
}

/// Fills the table with peers of 100,000 networks.
pub(super) fn populate(now: Now, router: &mut Router<WireGuard>) {
    for number in 0..PEERS {
        let id = PeerId::of_public(&spread(number, 1));
        let [_, high, middle, low] = number.to_be_bytes();
        let at = SocketAddr::from(([11 + high, middle, low, 1], 7743));
        let (key, addrs) = (WgKey(spread(number, 2)), [multiaddr::encode(at)]);
        let addrs = Addrs::of(&addrs);
        let peer = Peer { peer_id: id, addrs, rtt_ms: 0, wg_public: key, flags: 0 };
        let encoded = Entry::encode(&peer).expect("one address fits");
        let listed = router.restore_peer(
            now,
            &RestoredPeer {
                id,
                key,
                encoded: encoded.as_ref(),
                met_unix_s: now.unix_s() - AN_HOUR_S,
                heard_unix_s: now.unix_s(),
            },
        );
        assert!(listed, "the table has room for them");
    }
}

/// 32 bytes that differ for every number.
fn spread(number: u32, salt: u8) -> [u8; 32] {
    let mut bytes = [salt; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn cell(
    server: &Server,
    engine: EngineChoice,
    offloads: bool,
    scale: Scale,
    progress: &Progress,
) -> Result<Vec<Row>, String> {
    let mut fleet = Fleet::open(FLOWS, offloads, scale.datagrams, rig::random()?)?;
    let number = fleet.connect(server.address(), server.key)?;
    fleet.ask(number, server.address(), &requests::negotiate())?;
    let ping = requests::ping(PING_BYTES)?;
    let mut bench = Bench { fleet, server, number, scale };
    let mut pings = Vec::new();
    let mut lookups = vec![Vec::new(); LIMITS.len()];
    for round in 0..=scale.rounds {
        let ping_ns = bench.slice(Kind::Pong, 1, &mut |_| ping.clone())?;
        let mut lookup_ns = Vec::new();
        for (limit, frames) in LIMITS {
            let mut request = |target| requests::find_node(target, limit);
            lookup_ns.push(bench.slice(Kind::FindNodeResp, frames, &mut request)?);
        }
        // The first round warms caches.
        if round > 0 {
            pings.push(ping_ns);
            lookups.iter_mut().zip(lookup_ns).for_each(|(samples, ns)| samples.push(ns));
        }
        progress.step();
    }
    let ping_ns = median(&mut pings);
    let rows = LIMITS.iter().zip(&mut lookups).map(|(&(limit, frames), samples)| Row {
        engine: rig::name(engine),
        offloads,
        limit,
        frames,
        lookup_ns: median(samples),
        ping_ns,
    });
    Ok(rows.collect())
}

struct Bench<'a> {
    fleet: Fleet,
    server: &'a Server,
    number: usize,
    scale: Scale,
}

impl Bench<'_> {
    /// CPU ns per request of one slice; every request is made for a target of its own.
    fn slice(
        &mut self,
        kind: Kind,
        answers: usize,
        request: &mut impl FnMut(PeerId) -> Vec<u8>,
    ) -> Result<f64, String> {
        let datagrams = self.scale.datagrams;
        let pattern = Pattern { flows: FLOWS, train: 1, datagrams, answers };
        let mut rng = rig::random()?;
        let mut write = |out: &mut [u8]| {
            let mut target = [0; 32];
            rng.fill_bytes(&mut target);
            let plaintext = request(PeerId(target));
            out[..plaintext.len()].copy_from_slice(&plaintext);
            plaintext.len()
        };
        let shots = self.fleet.seal(self.number, pattern, &mut write)?;
        let before = self.server.cpu_ns();
        let check = Some((self.number, kind));
        let outcome = self.fleet.fire(shots, self.server.address(), pattern, check)?;
        Ok(per_answer(self.server.cpu_ns() - before, outcome)? * answers as f64)
    }
}

fn document(row: &Row) -> Value {
    json!({
        "engine": row.engine,
        "offloads": row.offloads,
        "limit": row.limit,
        "datagrams": row.frames,
        "lookup_ns": row.lookup_ns.round(),
        "ping_ns": row.ping_ns.round(),
        "ratio": (row.ratio() * 1000.0).round() / 1000.0,
    })
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:>9} {:>6} {:>10} {:>10} {:>8} {:>6}",
        "engine", "offloads", "limit", "datagrams", "lookup ns", "ping ns", "ratio"
    )];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:<9} {:>9} {:>6} {:>10} {:>10.0} {:>8.0} {:>6.2}",
            row.engine,
            if row.offloads { "on" } else { "off" },
            row.limit,
            row.frames,
            row.lookup_ns,
            row.ping_ns,
            row.ratio()
        )
    }));
    lines.push(format!(
        "CPU ns of the server's thread per request, {PEERS} peers in the table, {FLOWS} flows;\n\
         PING of {PING_BYTES} bytes of UDP."
    ));
    lines.join("\n")
}
