//! `ping`: is the router there, how far is it, and what address does it see?

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::client::{Client, Error, Pinged};
use crate::clock::Clock;

use super::target::{self, seconds};
use super::{Exit, Failure, output};

/// Measure round trips to a router
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// Stop after so many; without it, at Ctrl-C
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds from one to the next
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Bytes of the UDP payload, as near as padding gets
    #[arg(short, long, value_name = "BYTES", default_value_t = 0)]
    size: usize,
    /// Print JSON at the end
    #[arg(long)]
    json: bool,
}

/// UDP payload of a PING without padding: WireGuard 32, shim and header 16, body 18.
const UNPADDED_BYTES: usize = 66;
/// Key and length of the padding field, if there is any.
const PADDING_OVERHEAD: usize = 3;

/// What came of each PING, in order.
#[derive(Debug, Default)]
struct Tally {
    rtts_ms: Vec<f64>,
    sent: u64,
    repeated: u64,
    observed: Option<SocketAddr>,
}

/// Pings until the count or a signal, then prints the summary.
///
/// # Errors
/// If the router cannot be reached, is another one, or never answered.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::io("catching signals", &error))?;
    }
    let (mut client, _) = args.target.connect()?;
    let mut tally = Tally::default();
    if !args.json {
        output::line(headline(&client))?;
    }
    let mut replies = Vec::new();
    let clock = Clock::start();
    while !stop.load(Ordering::Relaxed) && args.count.is_none_or(|count| tally.sent < count) {
        let next = clock.moment() + args.interval;
        let reply = one(&mut client, args, &mut tally)?;
        if args.json {
            replies.push(reply);
        }
        if args.count != Some(tally.sent) {
            rest(&mut client, &clock, next, &stop)?;
        }
    }
    if args.json {
        output::json(&tally.json(&client, &replies))?;
    } else {
        output::line(tally.summary(&client))?;
    }
    tally.outcome(&client)
}

/// Waits for the next round; a signal ends it early.
fn rest(
    client: &mut Client,
    clock: &Clock,
    next: crate::time::Moment,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    while clock.moment() < next && !stop.load(Ordering::Relaxed) {
        client.idle(next.since(clock.moment()).min(Duration::from_millis(200)))?;
    }
    Ok(())
}

fn one(client: &mut Client, args: &Args, tally: &mut Tally) -> Result<Value, Failure> {
    tally.sent += 1;
    let number = tally.sent;
    match client.ping(args.size.saturating_sub(UNPADDED_BYTES + PADDING_OVERHEAD)) {
        Ok(pong) => {
            let news = tally.add(&pong);
            if !args.json {
                output::line(reply(number, &pong, news))?;
            }
            Ok(json!({
                "seq": number,
                "rtt_ms": ms(pong.rtt),
                "sends": pong.sends,
                "load_permille": pong.load_permille,
                "observed": pong.observed.map(|address| address.to_string()),
            }))
        }
        Err(Error::Timeout { waited, .. }) => {
            if !args.json {
                output::line(format_args!("answer {number}: none in {waited:.0?}"))?;
            }
            Ok(json!({ "seq": number, "rtt_ms": null }))
        }
        Err(other) => Err(other.into()),
    }
}

fn headline(client: &Client) -> String {
    let link = client.link();
    let took = ms(client.handshake_time());
    format!("PING {} at {}: session in {took:.1} ms, peer id proven", link.peer, client.address())
}

fn reply(number: u64, pong: &Pinged, news: bool) -> String {
    let mut line = format!("answer {number}: {:.3} ms", ms(pong.rtt));
    line += &format!(", load {:.1} %", f64::from(pong.load_permille) / 10.0);
    if pong.sends > 1 {
        line += " (repeated once)";
    }
    if let (true, Some(address)) = (news, pong.observed) {
        line += &format!(", sees us at {address}");
    }
    line
}

impl Tally {
    /// Counts an answer; whether our address is news.
    fn add(&mut self, pong: &Pinged) -> bool {
        self.rtts_ms.push(ms(pong.rtt));
        self.repeated += u64::from(pong.sends > 1);
        let news = self.observed != pong.observed;
        self.observed = pong.observed;
        news
    }

    fn answered(&self) -> u64 {
        self.rtts_ms.len() as u64
    }

    fn lost_percent(&self) -> f64 {
        let lost = self.sent - self.answered();
        100.0 * lost as f64 / self.sent.max(1) as f64
    }

    /// Minimum, mean, maximum and deviation as ping(8) has them.
    fn statistics(&self) -> Option<[f64; 4]> {
        let n = self.rtts_ms.len() as f64;
        let min = self.rtts_ms.iter().copied().reduce(f64::min)?;
        let max = self.rtts_ms.iter().copied().reduce(f64::max)?;
        let mean = self.rtts_ms.iter().sum::<f64>() / n;
        let squares = self.rtts_ms.iter().map(|rtt| (rtt - mean).powi(2)).sum::<f64>();
        Some([min, mean, max, (squares / n).sqrt()])
    }

    fn summary(&self, client: &Client) -> String {
        let mut text = format!(
            "--- {} ---\n{} sent, {} answered, {:.0} % lost, {} repeated",
            client.address(),
            self.sent,
            self.answered(),
            self.lost_percent(),
            self.repeated
        );
        if let Some([min, mean, max, deviation]) = self.statistics() {
            text +=
                &format!("\nrtt min/avg/max/mdev = {min:.3}/{mean:.3}/{max:.3}/{deviation:.3} ms");
        }
        text
    }

    fn json(&self, client: &Client, replies: &[Value]) -> Value {
        json!({
            "link": client.link().to_string(),
            "address": client.address().to_string(),
            "handshake_ms": ms(client.handshake_time()),
            "replies": replies,
            "sent": self.sent,
            "answered": self.answered(),
            "lost_percent": self.lost_percent(),
            "repeated": self.repeated,
            "observed": self.observed.map(|address| address.to_string()),
            "rtt_ms": self.statistics().map(|[min, avg, max, mdev]| {
                json!({"min": min, "avg": avg, "max": max, "mdev": mdev})
            }),
        })
    }

    fn outcome(&self, client: &Client) -> Result<(), Failure> {
        if self.rtts_ms.is_empty() && self.sent > 0 {
            let text = format!("no answer from {} to {} PINGs", client.address(), self.sent);
            return Err(Failure::new(Exit::Timeout, text));
        }
        Ok(())
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(rtt_ms: u64, sends: u32) -> Pinged {
        let observed = Some(([192, 0, 2, 1], 9).into());
        Pinged { rtt: Duration::from_millis(rtt_ms), sends, observed, load_permille: 0 }
    }

    #[test]
    fn statistics_are_those_of_ping() {
        let mut tally = Tally { sent: 5, ..Tally::default() };
        assert_eq!(tally.statistics(), None);
        assert!(tally.add(&pong(10, 1)), "the address is news");
        assert!(!tally.add(&pong(20, 1)));
        tally.add(&pong(30, 1));
        tally.add(&pong(40, 2));
        let [min, mean, max, deviation] = tally.statistics().unwrap();
        assert_eq!((min, mean, max), (10.0, 25.0, 40.0));
        assert!((deviation - 125f64.sqrt()).abs() < 1e-9);
        assert_eq!((tally.lost_percent(), tally.repeated), (20.0, 1));
    }
}
