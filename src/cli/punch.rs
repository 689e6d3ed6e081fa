//! `punch`: connect two peers through a router, and see what passes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::pair::{Event, Node, Path, Policy, Step};
use crate::ids::PeerId;
use crate::time::Moment;

use super::pairing::{self, failure, ms, peer};
use super::target::seconds;
use super::{Exit, Failure, output};

/// Pause between two datagrams if none is asked for.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long the last echoes are waited for.
const ECHO_WAIT: Duration = Duration::from_secs(1);
/// Number and time of sending.
const PAYLOAD_BYTES: usize = 16;

/// Connect to a peer, straight or relayed, and count what comes back
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The peer's id: 64 hex digits
    #[arg(value_name = "PEER-ID", value_parser = peer,
          required_unless_present = "listen", conflicts_with = "listen")]
    peer: Option<PeerId>,
    #[command(flatten)]
    pairing: pairing::Args,
    /// Wait for peers and echo what they send
    #[arg(long)]
    listen: bool,
    /// Listening, accept only this peer (may be given more than once)
    #[arg(long, value_name = "PEER-ID", value_parser = peer, conflicts_with = "peer")]
    allow: Vec<PeerId>,
    /// End after this many seconds; connecting, spread the datagrams over them
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    span: Option<Duration>,
    /// Send so many datagrams
    #[arg(short, long, value_name = "N", default_value_t = 10, conflicts_with = "listen",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Print JSON; listening, a line for everything that happens
    #[arg(long)]
    json: bool,
}

/// Prints the path, when there was one and what was lost; listening, who came.
///
/// # Errors
/// If the router cannot be reached or refuses, or if the peer cannot be reached.
pub fn run(args: &Args) -> Result<(), Failure> {
    match args.peer {
        Some(peer) => connect(args, peer),
        None => listen(args),
    }
}

fn listen(args: &Args) -> Result<(), Failure> {
    let policy =
        if args.allow.is_empty() { Policy::Everybody } else { Policy::Only(args.allow.clone()) };
    let mut node = args.pairing.open(policy)?;
    if args.json {
        let us = args.pairing.document(&node);
        output::line(output::json_line(&json!({ "event": "listening", "us": us })))?;
    } else {
        output::line(node.peer_id())?;
    }
    let span = args.span.unwrap_or(Duration::from_secs(86_400));
    let mut failed = None;
    let tell = |event: &Event| {
        let line =
            if args.json { heard(event).map(|it| output::json_line(&it)) } else { told(event) };
        if let Some(Err(failure)) = line.map(output::line) {
            failed.get_or_insert(failure);
        }
    };
    node.serve(span, |_, payload| Some(payload.to_vec()), tell)?;
    failed.map_or(Ok(()), Err)
}

/// An event as a line for people.
fn told(event: &Event) -> Option<String> {
    match event {
        Event::Connected(peer, path) => Some(format!("{peer} connected {path}")),
        Event::Moved(peer, path) => Some(format!("{peer} goes on {path}")),
        Event::Failed(peer, why) => Some(format!("{peer} is gone: {why}")),
        Event::Unready(_) => Some("the router does not answer".to_owned()),
        Event::Ready | Event::Received(..) => None,
    }
}

/// The same for JSON.
fn heard(event: &Event) -> Option<Value> {
    let of = |name: &str, peer: &PeerId, to: &Path| json!({ "event": name, "peer_id": peer.to_string(), "path": path(*to) });
    match event {
        Event::Connected(peer, to) => Some(of("connected", peer, to)),
        Event::Moved(peer, to) => Some(of("moved", peer, to)),
        Event::Failed(peer, why) => {
            let (peer, why) = (peer.to_string(), why.to_string());
            Some(json!({ "event": "failed", "peer_id": peer, "reason": why }))
        }
        Event::Unready(_) => Some(json!({ "event": "router_silent" })),
        Event::Ready | Event::Received(..) => None,
    }
}

/// A path for JSON.
pub(super) fn path(path: Path) -> Value {
    let address = match path {
        Path::Direct(address) => Some(address.to_string()),
        Path::Relay => None,
    };
    json!({ "kind": path.label(), "address": address })
}

/// What came back.
#[derive(Debug, Default)]
struct Echoes {
    sent: u32,
    seen: Vec<bool>,
    rtts: Vec<Duration>,
}

impl Echoes {
    fn payload(&mut self, now: Moment) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&u64::from(self.sent).to_be_bytes());
        payload[8..].copy_from_slice(&now.as_nanos().to_be_bytes());
        self.sent += 1;
        self.seen.push(false);
        payload
    }

    fn take(&mut self, now: Moment, payload: &[u8]) {
        let Ok(payload) = <[u8; PAYLOAD_BYTES]>::try_from(payload) else { return };
        let (number, sent) = payload.split_at(8);
        let number = number.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let sent = sent.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let place = usize::try_from(number).ok().and_then(|at| self.seen.get_mut(at));
        if place.is_some_and(|seen| !std::mem::replace(seen, true)) {
            self.rtts.push(now.since(Moment::from_nanos(sent)));
        }
    }

    fn lost(&self) -> usize {
        self.seen.iter().filter(|seen| !**seen).count()
    }

    /// Shortest, mean and longest round trip.
    fn rtt(&self) -> Option<[Duration; 3]> {
        let count = u32::try_from(self.rtts.len()).ok().filter(|count| *count > 0)?;
        let sum: Duration = self.rtts.iter().sum();
        Some([*self.rtts.iter().min()?, sum / count, *self.rtts.iter().max()?])
    }
}

fn connect(args: &Args, peer: PeerId) -> Result<(), Failure> {
    let mut node = args.pairing.open(Policy::Nobody)?;
    let started = node.now();
    if let Err(why) = node.connect(peer, &[])? {
        if args.json {
            let steps = node.pair(&peer).map(|pair| pairing::steps(pair, started));
            let failed = why.to_string();
            output::json(
                &json!({ "peer_id": peer.to_string(), "failure": failed, "steps": steps }),
            )?;
        }
        return Err(failure(&peer, why));
    }
    let interval = args.span.map_or(INTERVAL, |span| span / args.count);
    let echoes = exchange(&mut node, &peer, args.count, interval)?;
    report(args, &node, peer, started, &echoes)?;
    if echoes.rtts.is_empty() {
        let text = format_args!("{peer} was connected, but echoed nothing");
        return Err(Failure::new(Exit::Timeout, text));
    }
    Ok(())
}

fn exchange(
    node: &mut Node,
    peer: &PeerId,
    count: u32,
    interval: Duration,
) -> Result<Echoes, Failure> {
    let mut echoes = Echoes::default();
    let mut next = node.now();
    let end = loop {
        let now = node.now();
        if now >= next {
            if echoes.sent == count {
                break now + ECHO_WAIT;
            }
            let payload = echoes.payload(now);
            if let Err(why) = node.send(peer, &payload)? {
                return Err(Failure::new(Exit::Unavailable, format_args!("sending: {why}")));
            }
            next = next + interval;
        }
        let pause = next.since(node.now());
        if let Some((_, payload)) = node.recv_timeout(pause)? {
            echoes.take(node.now(), &payload);
        }
    };
    while echoes.lost() > 0 && node.now() < end {
        if let Some((_, payload)) = node.recv_timeout(end.since(node.now()))? {
            echoes.take(node.now(), &payload);
        }
    }
    Ok(echoes)
}

fn report(
    args: &Args,
    node: &Node,
    peer: PeerId,
    started: Moment,
    echoes: &Echoes,
) -> Result<(), Failure> {
    let Some(pair) = node.pair(&peer) else { return Ok(()) };
    let since = |which: fn(&Step) -> bool| {
        let at = pair.log().first(which)?;
        Some(ms(at.since(started)))
    };
    let proven = since(|step| matches!(step, Step::Proven));
    let path = since(|step| matches!(step, Step::Switched(_)));
    // Its proof may come before the path that answers it is proven.
    let first = proven.zip(path).map(|(proven, path)| proven.max(path));
    let direct = since(|step| matches!(step, Step::Switched(Path::Direct(_))));
    let relay = since(|step| matches!(step, Step::Switched(Path::Relay)));
    let (lost, rtt) = (echoes.lost(), echoes.rtt());
    if args.json {
        return output::json(&json!({
            "peer_id": peer.to_string(),
            "us": args.pairing.document(node),
            "path": pair.path().map(self::path),
            "first_path_ms": first,
            "direct_ms": direct,
            "relay_ms": relay,
            "sent": echoes.sent,
            "echoed": echoes.rtts.len(),
            "lost": lost,
            "rtt_ms": rtt.map(|[min, avg, max]| json!({ "min": ms(min), "avg": ms(avg), "max": ms(max) })),
            "steps": pairing::steps(pair, started),
        }));
    }
    let way = pair.path().map_or_else(|| "lost".to_owned(), |path| path.to_string());
    output::line(format_args!("{peer}  {way}"))?;
    let time = |at: Option<f64>| at.map_or_else(|| "never".to_owned(), |at| format!("{at:.0} ms"));
    output::line(format_args!(
        "connected after {}, direct after {}, relayed after {}",
        time(first),
        time(direct),
        time(relay)
    ))?;
    let percent =
        100.0 * f64::from(u32::try_from(lost).unwrap_or(u32::MAX)) / f64::from(echoes.sent.max(1));
    output::line(format_args!(
        "{} sent, {} echoed, {percent:.0} % lost",
        echoes.sent,
        echoes.rtts.len()
    ))?;
    match rtt {
        Some([min, avg, max]) => output::line(format_args!(
            "rtt min/avg/max = {:.1}/{:.1}/{:.1} ms",
            ms(min),
            ms(avg),
            ms(max)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_counts_once() {
        let mut echoes = Echoes::default();
        let at = |ms| Moment::START + Duration::from_millis(ms);
        let [first, second] = [at(0), at(10)].map(|now| echoes.payload(now));
        echoes.take(at(30), &second);
        echoes.take(at(40), &second);
        echoes.take(at(50), b"short");
        assert_eq!((echoes.sent, echoes.lost(), echoes.rtt().unwrap()[2].as_millis()), (2, 1, 20));
        echoes.take(at(60), &first);
        assert_eq!(echoes.lost(), 0);
    }
}
