//! `bench echo`: what a PING costs, against what its packets and its cipher cost.

use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::port::EngineChoice;
use crate::wire::kind::Kind;

use super::aead::Aead;
use super::fleet::{Fleet, Outcome, Pattern, TRAIN};
use super::floor::Floor;
use super::progress::Progress;
use super::remote::{self, Probe};
use super::rig::{self, Server};
use super::{Scale, median, requests};

/// UDP payload of the requests.
const PAYLOADS: [usize; 2] = [100, 1200];
/// Number of flows, each a session of its own.
const FLOWS: [usize; 2] = [256, 1];
/// A slice that lost more than one in so many answers says nothing.
const LOSS_MAX: usize = 1000;

/// Measure a PING through WireGuard against a plain echo and the bare cipher
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: super::Common,
    /// End with code 3 if a ratio is above this: for one flow, for many flows
    #[arg(long, value_name = "ONE,MANY", value_delimiter = ',', num_args = 2)]
    slo: Option<Vec<f64>>,
}

/// One line of the table.
struct Row {
    engine: &'static str,
    payload_bytes: usize,
    answer_bytes: usize,
    flows: usize,
    offloads: bool,
    server_ns: f64,
    floor_ns: f64,
    aead_ns: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.server_ns / (self.floor_ns + self.aead_ns)
    }

    fn json(&self) -> Value {
        json!({
            "engine": self.engine,
            "payload_bytes": self.payload_bytes,
            "flows": self.flows,
            "offloads": self.offloads,
            "server_ns": round(self.server_ns),
            "floor_ns": round(self.floor_ns),
            "aead_ns": round(self.aead_ns),
            "ratio": (self.ratio() * 1000.0).round() / 1000.0,
        })
    }
}

/// Runs every cell and prints the table.
///
/// # Errors
/// If the machine does not allow it, answers are lost, or a threshold is missed.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(link) = &args.common.link {
        return remote::run(&args.common, link, Probe::Ping);
    }
    let failed = |message: String| Failure::new(Exit::Software, message);
    let cpu = args.common.cpu().map_err(failed)?;
    let rows = measure(cpu, args.common.scale()).map_err(failed)?;
    if args.common.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        output::json(&json!({ "rows": rows }))?;
    } else {
        output::line(table(&rows))?;
    }
    judge(args.slo.as_deref(), &rows)
}

fn measure(cpu: usize, scale: Scale) -> Result<Vec<Row>, String> {
    rig::take_turns_on(cpu)?;
    let progress = Progress::new((2 * PAYLOADS.len() * FLOWS.len() * (scale.rounds + 1)) as u64);
    let mut rows = Vec::new();
    for offloads in [true, false] {
        for payload in PAYLOADS {
            let mut bench = Bench::new(cpu, offloads, payload, scale)?;
            for flows in FLOWS {
                rows.extend(bench.cell(flows, &progress)?);
            }
        }
    }
    Ok(rows)
}

/// Servers, floors and clients of one size, with or without offloads.
struct Bench {
    contestants: Vec<Contestant>,
    fleet: Fleet,
    aead: Aead,
    ping: Vec<u8>,
    answer_bytes: usize,
    payload: usize,
    offloads: bool,
    scale: Scale,
}

/// A router and a floor with one engine.
struct Contestant {
    engine: EngineChoice,
    server: Server,
    floor: Floor,
    /// Number of the server among the fleet's sessions.
    number: usize,
}

impl Bench {
    fn new(cpu: usize, offloads: bool, payload: usize, scale: Scale) -> Result<Self, String> {
        let ping = requests::ping(payload)?;
        let mut fleet = Fleet::open(FLOWS[0], offloads, scale.datagrams, rig::random()?)?;
        let mut contestants = Vec::new();
        for engine in rig::ENGINES {
            let server = match Server::start(cpu, engine, offloads, rig::unlimited(), |_, _| {}) {
                Ok(server) => server,
                // The other engine is worth measuring alone.
                Err(reason) if engine == EngineChoice::IoUring => {
                    super::without_io_uring(&reason);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            let floor = rig::floor(cpu, engine, offloads)?;
            let number = fleet.connect(server.address(), server.key)?;
            contestants.push(Contestant { engine, server, floor, number });
        }
        let first = contestants.first().ok_or("no engine to measure")?;
        let pong = fleet.ask(first.number, first.server.address(), &ping)?;
        let answer_bytes = pong.len() + crate::limits::WG_OVERHEAD;
        contestants.iter().for_each(|it| it.floor.set_answer_bytes(answer_bytes));
        let aead = Aead::new(payload, answer_bytes)?;
        Ok(Self { contestants, fleet, aead, ping, answer_bytes, payload, offloads, scale })
    }

    /// Measures one number of flows: floors and servers of both engines in turn,
    /// so that what the machine does besides falls on all of them.
    fn cell(&mut self, flows: usize, progress: &Progress) -> Result<Vec<Row>, String> {
        let train = if self.offloads { TRAIN } else { 1 };
        let pattern = Pattern { flows, train, datagrams: self.scale.datagrams, answers: 1 };
        let engines = self.contestants.len();
        let (mut floors, mut servers) = (vec![vec![]; engines], vec![vec![]; engines]);
        let mut aead = Vec::new();
        for round in 0..=self.scale.rounds {
            for at in 0..engines {
                let (floor_ns, server_ns) = self.slices(at, pattern)?;
                // The first round warms caches and fills tables.
                if round > 0 {
                    floors[at].push(floor_ns);
                    servers[at].push(server_ns);
                    aead.push(self.aead.sample());
                }
            }
            progress.step();
        }
        let floor_ns = floors.iter_mut().map(|it| median(it)).fold(f64::INFINITY, f64::min);
        let aead_ns = median(&mut aead);
        let rows = self.contestants.iter().zip(&mut servers).map(|(contestant, samples)| Row {
            engine: rig::name(contestant.engine),
            payload_bytes: self.payload,
            answer_bytes: self.answer_bytes,
            flows,
            offloads: self.offloads,
            server_ns: median(samples),
            floor_ns,
            aead_ns,
        });
        Ok(rows.collect())
    }

    /// One slice to the floor and one to the server: CPU ns per datagram of each.
    fn slices(&mut self, at: usize, pattern: Pattern) -> Result<(f64, f64), String> {
        let Self { contestants, fleet, ping, .. } = self;
        let Contestant { server, floor, number, .. } = &contestants[at];
        let mut write = |out: &mut [u8]| {
            out[..ping.len()].copy_from_slice(ping);
            ping.len()
        };
        let shots = fleet.seal(*number, pattern, &mut write)?;
        let before = floor.cpu_ns();
        let outcome = fleet.fire(shots, floor.address(), pattern, None)?;
        let floor_ns = per_answer(floor.cpu_ns() - before, outcome)?;

        let shots = fleet.seal(*number, pattern, &mut write)?;
        let before = server.cpu_ns();
        let check = Some((*number, Kind::Pong));
        let outcome = fleet.fire(shots, server.address(), pattern, check)?;
        Ok((floor_ns, per_answer(server.cpu_ns() - before, outcome)?))
    }
}

/// CPU ns per answer, unless too many are missing.
pub(super) fn per_answer(spent_ns: u64, outcome: Outcome) -> Result<f64, String> {
    let Outcome { answered, lost, .. } = outcome;
    if lost * LOSS_MAX > answered {
        return Err(format!("{lost} of {} answers were lost", lost + answered));
    }
    Ok(spent_ns as f64 / answered as f64)
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:>7} {:>6} {:>6} {:>9} {:>10} {:>9} {:>8} {:>6}",
        "engine",
        "payload",
        "answer",
        "flows",
        "offloads",
        "server ns",
        "floor ns",
        "aead ns",
        "ratio"
    )];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:<9} {:>7} {:>6} {:>6} {:>9} {:>10.0} {:>9.0} {:>8.0} {:>6.2}",
            row.engine,
            row.payload_bytes,
            row.answer_bytes,
            row.flows,
            if row.offloads { "on" } else { "off" },
            row.server_ns,
            row.floor_ns,
            row.aead_ns,
            row.ratio()
        )
    }));
    lines.push(
        "CPU ns of the server's thread per datagram; payload and answer in bytes of UDP.\n\
         ratio = server / (floor + aead); the floor sends answers of the router's size."
            .into(),
    );
    lines.join("\n")
}

fn judge(slo: Option<&[f64]>, rows: &[Row]) -> Result<(), Failure> {
    let Some(&[one, many]) = slo else { return Ok(()) };
    let limit = |row: &Row| if row.flows == 1 { one } else { many };
    let worst = rows.iter().filter(|row| row.ratio() > limit(row)).map(|row| {
        format!("{} {} B {} flows: {:.2}", row.engine, row.payload_bytes, row.flows, row.ratio())
    });
    let missed: Vec<String> = worst.collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Missed, format_args!("above the threshold: {}", missed.join("; "))))
}

fn round(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(flows: usize, server_ns: f64) -> Row {
        Row {
            engine: "mmsg",
            payload_bytes: 100,
            answer_bytes: 86,
            flows,
            offloads: true,
            server_ns,
            floor_ns: 600.0,
            aead_ns: 400.0,
        }
    }

    #[test]
    fn a_row_has_exactly_the_promised_fields() {
        let json = row(256, 1250.0).json();
        let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "aead_ns",
                "engine",
                "floor_ns",
                "flows",
                "offloads",
                "payload_bytes",
                "ratio",
                "server_ns"
            ]
        );
        assert_eq!(json["ratio"], 1.25);
    }

    #[test]
    fn thresholds_are_by_number_of_flows() {
        let rows = [row(1, 1400.0), row(256, 1300.0)];
        assert_eq!(judge(None, &rows), Ok(()));
        assert_eq!(judge(Some(&[1.5, 1.35]), &rows), Ok(()));
        let missed = judge(Some(&[1.35, 1.35]), &rows).unwrap_err();
        assert_eq!(missed.exit(), Exit::Missed);
        assert!(missed.to_string().contains("1 flows: 1.40"), "{missed}");
    }

    #[test]
    fn a_slice_with_losses_says_nothing() {
        let outcome = |answered, lost| Outcome { answered, lost, answer_bytes: 86 };
        assert_eq!(per_answer(2000, outcome(1000, 1)), Ok(2.0));
        assert!(per_answer(2000, outcome(1000, 2)).is_err());
        assert!(per_answer(2000, outcome(0, 1)).is_err());
    }
}
