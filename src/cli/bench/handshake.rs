//! `bench handshake`: what a handshake costs, and what it costs to refuse one.

use boringtun::x25519::StaticSecret;
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;
use serde_json::{Value, json};

use crate::cli::{Exit, Failure, output};
use crate::client::session::{Initiator, Received};
use crate::client::wireguard::WireGuard;
use crate::port::EngineChoice;
use crate::router;

use super::fleet::Fleet;
use super::progress::Progress;
use super::remote::{self, Probe};
use super::rig::{self, Server};
use super::{Common, median};

/// Clients that shake hands at a time.
const CLIENTS: usize = 64;
/// Datagrams of a slice that are refused.
const REFUSED: usize = 1024;
const MAC1_AT: usize = 116;

/// Measure handshakes, and initiations that are refused
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

/// One line of the table.
struct Row {
    what: &'static str,
    cpu_ns: f64,
}

impl Row {
    fn per_s(&self) -> f64 {
        1e9 / self.cpu_ns
    }
}

/// Runs every part and prints the table.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(link) = &args.common.link {
        return remote::run(&args.common, link, Probe::Handshake);
    }
    let failed = |message: String| Failure::new(Exit::Software, message);
    let cpu = args.common.cpu().map_err(failed)?;
    let rows = measure(cpu, args.common.quick).map_err(failed)?;
    if args.common.json {
        let rows: Vec<Value> = rows.iter().map(document).collect();
        return output::json(&json!({ "rows": rows }));
    }
    output::line(table(&rows))
}

fn measure(cpu: usize, quick: bool) -> Result<Vec<Row>, String> {
    rig::take_turns_on(cpu)?;
    let rounds = if quick { 3 } else { 21 };
    let progress = Progress::new(rounds as u64 + 1);
    let mut open = Bench::new(cpu, rig::unlimited())?;
    let mut loaded = rig::unlimited();
    loaded.tunnel.admission.cookie_threshold_pps = 0;
    let mut loaded = Bench::new(cpu, loaded)?;
    let mut samples: [Vec<f64>; 4] = Default::default();
    for round in 0..=rounds {
        let mut clients = open.clients();
        let costs = [
            open.shake_hands(&mut clients)?,
            open.shake_hands(&mut clients)?,
            open.bad_mac1()?,
            loaded.cookies()?,
        ];
        // The first round warms caches.
        if round > 0 {
            samples.iter_mut().zip(costs).for_each(|(samples, cost)| samples.push(cost));
        }
        progress.step();
    }
    let names = ["new peer", "known peer", "wrong mac1, dropped", "under load, cookie reply"];
    let rows = names.iter().zip(&mut samples);
    Ok(rows.map(|(what, samples)| Row { what, cpu_ns: median(samples) }).collect())
}

/// A server and sockets to send from.
struct Bench {
    server: Server,
    fleet: Fleet,
    rng: ChaCha12Rng,
}

impl Bench {
    fn new(cpu: usize, router: router::Config) -> Result<Self, String> {
        let server = Server::start(cpu, EngineChoice::Auto, true, router, |_, _| {})?;
        let fleet = Fleet::open(CLIENTS, true, REFUSED, rig::random()?)?;
        Ok(Self { server, fleet, rng: rig::random()? })
    }

    /// Clients that the server never heard of.
    fn clients(&mut self) -> Vec<WireGuard> {
        let key = self.server.key;
        let mut client = || {
            let mut secret = [0; 32];
            self.rng.fill_bytes(&mut secret);
            WireGuard::new(StaticSecret::from(secret), key)
        };
        (0..CLIENTS).map(|_| client()).collect()
    }

    /// CPU ns per handshake: initiation, response, and the message that confirms the keys.
    fn shake_hands(&mut self, clients: &mut [WireGuard]) -> Result<f64, String> {
        let initiations = self.initiations(clients)?;
        let address = self.server.address();
        let before = self.server.cpu_ns();
        let responses = self.fleet.volley(&initiations, address, 1)?;
        let answered = self.server.cpu_ns() - before;
        let mut confirmations = Vec::new();
        for (client, response) in responses {
            let mut out = [0; 2048];
            match clients[client].receive(&response, &mut out) {
                Ok(Received::Established(confirmation)) => {
                    confirmations.push(confirmation.to_vec());
                }
                other => return Err(format!("{other:?} in place of a handshake response")),
            }
        }
        let before = self.server.cpu_ns();
        self.fleet.volley(&confirmations, address, 0)?;
        let confirmed = self.settled() - before;
        Ok((answered + confirmed) as f64 / clients.len() as f64)
    }

    /// CPU ns per initiation that does not know the server's key.
    fn bad_mac1(&mut self) -> Result<f64, String> {
        let mut clients = self.clients();
        let mut initiations = self.initiations(&mut clients)?;
        initiations.iter_mut().for_each(|initiation| initiation[MAC1_AT] ^= 1);
        self.refused(&initiations, 0)
    }

    /// CPU ns per initiation that is answered with a cookie.
    fn cookies(&mut self) -> Result<f64, String> {
        let mut clients = self.clients();
        let initiations = self.initiations(&mut clients)?;
        self.refused(&initiations, 1)
    }

    fn refused(&mut self, initiations: &[Vec<u8>], answers: usize) -> Result<f64, String> {
        let address = self.server.address();
        let before = self.server.cpu_ns();
        for _ in 0..REFUSED / initiations.len() {
            let replies = self.fleet.volley(initiations, address, answers)?;
            if let Some((_, reply)) = replies.iter().find(|(_, reply)| reply.first() != Some(&3)) {
                return Err(format!("{} bytes in place of a cookie reply", reply.len()));
            }
            if answers == 0 {
                // Without answers nothing else tells when the next volley may come.
                self.server.cpu_ns();
            }
        }
        Ok((self.settled() - before) as f64 / REFUSED as f64)
    }

    /// CPU time once everything that was sent is dealt with. Each question is
    /// answered at the end of a turn, and a turn takes one batch.
    fn settled(&self) -> u64 {
        (0..4).fold(0, |_, _| self.server.cpu_ns())
    }

    fn initiations(&mut self, clients: &mut [WireGuard]) -> Result<Vec<Vec<u8>>, String> {
        let mut initiate = |client: &mut WireGuard| {
            let mut out = [0; 2048];
            let len = client.initiate(self.rng.next_u32(), &mut out);
            len.map(|len| out[..len].to_vec()).map_err(|refused| refused.to_string())
        };
        clients.iter_mut().map(&mut initiate).collect()
    }
}

fn document(row: &Row) -> Value {
    json!({ "what": row.what, "cpu_ns": row.cpu_ns.round(), "per_s": row.per_s().round() })
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!("{:<26} {:>8} {:>12}", "handshake", "cpu us", "per s, core")];
    lines.extend(
        rows.iter().map(|row| {
            format!("{:<26} {:>8.2} {:>12.0}", row.what, row.cpu_ns / 1000.0, row.per_s())
        }),
    );
    lines.push("CPU time of the server's thread, packets included.".into());
    lines.join("\n")
}
