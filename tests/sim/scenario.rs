//! What a seed decides before the world begins: who is where, what goes wrong how often.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use molia_router::bucket::Rate;
use molia_router::egress::{self, ClassConfig, Limits};
use molia_router::partition::Partition;
use molia_router::router::Config;
use molia_router::{admission, limits, overlay, relay, tunnel};

use super::dice::Dice;
use super::keep::Keep;
use super::pairing::Pairing;
use super::split::Split;

/// Honest clients.
pub(crate) const CLIENTS: usize = 50;
/// Hostile clients that hold sessions.
pub(crate) const INSIDERS: usize = 4;
/// Sessions of whoever else comes, where there is little room.
const SPARE: usize = 6;
/// The router's port.
pub(crate) const PORT: u16 = 7743;

/// A path's faults; shares are permille.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// Added to the delay, drawn per datagram: what reorders.
    pub(crate) jitter: Duration,
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
}

impl Link {
    /// The same path on a good day.
    pub(crate) fn calm(self) -> Self {
        Self { loss: 0, duplication: 0, corruption: 0, ..self }
    }
}

/// How the shard around the router behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// Datagrams the socket keeps before it drops.
    pub(crate) backlog: usize,
    /// Receive slots that one turn takes.
    pub(crate) batch: usize,
    pub(crate) rx_slots: usize,
    pub(crate) tx_slots: usize,
    /// Whether runs of one sender arrive coalesced.
    pub(crate) gro: bool,
    /// Between the first datagram and the turn that takes it.
    pub(crate) latency: Duration,
    /// How long the kernel keeps what was sent.
    pub(crate) parked: Duration,
    /// Turns that are interrupted between receiving and sending, and for how long.
    pub(crate) stalls: u64,
    pub(crate) stall: Duration,
    /// Datagrams that the send buffer holds, and how long it takes to leave; `None` for a link
    /// that is never full.
    pub(crate) narrow: Option<(usize, Duration)>,
}

/// How often what happens, as the mean time between two of it; zero for never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    /// A client's requests.
    pub(crate) request: Duration,
    /// Strangers' datagrams and insiders' misdeeds.
    pub(crate) mischief: Duration,
    /// Restarts, rebindings, absences of clients.
    pub(crate) change: Duration,
    pub(crate) router_restart: Duration,
    /// Jumps of the wall clock.
    pub(crate) clock_jump: Duration,
}

/// The whole draw.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) config: Config,
    pub(crate) host: Host,
    pub(crate) tempo: Tempo,
    pub(crate) split: Split,
    /// How values are kept, if there are any.
    pub(crate) keep: Option<Keep>,
    /// How peers meet, if they do.
    pub(crate) pairing: Option<Pairing>,
    /// Where each client is at first, and the path it takes.
    pub(crate) places: Vec<(SocketAddr, Link)>,
    /// Whether some clients' identities end while they are there.
    pub(crate) mortal: bool,
    pub(crate) safety: Duration,
    pub(crate) liveness: Duration,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let pairing = Pairing::of(seed);
        let mut scenario = Self::without_pairs(seed);
        scenario.config.relay = pairing.relay;
        Self { pairing: Some(pairing), ..scenario }
    }

    /// The world in which nobody wants to reach anybody.
    pub(crate) fn without_pairs(seed: u64) -> Self {
        let keep = Keep::of(seed);
        let mut scenario = Self::without_values(seed);
        keep.settle(&mut scenario.config);
        Self { keep: Some(keep), ..scenario }
    }

    /// The world in which nobody stores anything: the same for its seed as before anybody could.
    pub(crate) fn without_values(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let narrow = narrow(seed);
        // Every third world outlives a few keys; the others are short and busy.
        let long = seed % 3 == 2;
        let faults = Faults::of(&mut dice);
        let mut places: Vec<(SocketAddr, Link)> = Vec::new();
        while places.len() < CLIENTS + INSIDERS {
            let at = place(&mut dice, places.len());
            if places.iter().all(|(taken, _)| *taken != at) {
                places.push((at, faults.link(&mut dice)));
            }
        }
        let busy = if long { 9_000..20_000 } else { 1_500..5_000 };
        let jumps = dice.permille(250);
        let tempo = Tempo {
            request: dice.millis(busy),
            mischief: dice.millis(if long { 300..900 } else { 60..300 }),
            change: dice.millis(2_000..8_000),
            router_restart: if dice.permille(400) {
                dice.millis(25_000..90_000)
            } else {
                Duration::ZERO
            },
            clock_jump: if jumps { dice.millis(10_000..60_000) } else { Duration::ZERO },
        };
        Self {
            seed,
            mortal: !jumps && dice.permille(500),
            config: config(&mut dice, narrow.is_some()),
            host: host(&mut dice, narrow),
            tempo,
            split: Split::of(seed),
            keep: None,
            pairing: None,
            places,
            safety: if long { dice.millis(380_000..560_000) } else { dice.millis(35_000..70_000) },
            // Long enough for sessions of the hostile to end where they take the room.
            liveness: Duration::from_secs(270),
        }
    }
}

/// Slots that are always enough.
const ROOMY: usize = 200;

impl Scenario {
    /// The settings of a shard that `residents` honest peers may have for a home.
    pub(crate) fn config_of(&self, shard: u16, partition: Partition, residents: usize) -> Config {
        let mut config = self.config.clone();
        (config.tunnel.shard, config.tunnel.partition) = (shard, partition);
        if partition.shards() > 1 {
            // What is scarce for one is so for several.
            if config.egress.sessions_max < ROOMY {
                let room = residents + INSIDERS + SPARE;
                config.egress.sessions_max = room;
                config.tunnel.sessions_max = u32::try_from(room).expect("few sessions");
            }
            config.table.entries_max =
                config.table.entries_max.div_ceil(usize::from(partition.shards()));
        }
        config
    }

    /// How long it takes at most until every shard knows what one has to tell.
    pub(crate) fn hearsay(&self) -> Duration {
        let Split { shards, posting, rest, .. } = self.split;
        let late = posting.slow_max + posting.batch.unwrap_or_default() + self.host.stall;
        if shards > 1 { 5 * late + rest + Duration::from_secs(5) } else { Duration::ZERO }
    }

    /// How long it takes at most until nothing is under way of what went wrong.
    pub(crate) fn settling(&self) -> Duration {
        self.hearsay() + self.host.stall
    }
}

/// Upper bounds that paths draw from.
struct Faults {
    delay_ms: u64,
    jitter_ms: u64,
    loss: u64,
    duplication: u64,
    corruption: u64,
}

impl Faults {
    fn of(dice: &mut Dice) -> Self {
        Self {
            delay_ms: dice.within(2..150),
            jitter_ms: dice.within(1..40),
            loss: dice.within(1..120),
            duplication: dice.within(1..60),
            corruption: dice.within(1..30),
        }
    }

    fn link(&self, dice: &mut Dice) -> Link {
        Link {
            delay: dice.millis(1..self.delay_ms + 1),
            jitter: dice.millis(0..self.jitter_ms + 1),
            loss: dice.within(0..self.loss + 1),
            duplication: dice.within(0..self.duplication + 1),
            corruption: dice.within(0..self.corruption + 1),
        }
    }
}

/// Most clients live alone, some share a network or an address, some a private one.
fn place(dice: &mut Dice, n: usize) -> SocketAddr {
    let number = u8::try_from(n).expect("few clients");
    let port = u16::try_from(dice.within(1024..60_000)).expect("16 bits");
    match dice.below(20) {
        0..=9 => (Ipv4Addr::new(45, 9, number, dice.byte()), port).into(),
        // Three networks of many.
        10..=12 => (Ipv4Addr::new(91, 7, number % 3, number), port).into(),
        // Two addresses of many behind a NAT each.
        13..=14 => (Ipv4Addr::new(62, 1, 1, number % 2), port).into(),
        15..=17 => (
            Ipv6Addr::new(0x2a00, 0x1450, u16::from(number) / 4, 0, 0, 0, 0, 1 + u16::from(number)),
            port,
        )
            .into(),
        _ => (Ipv4Addr::new(10, 0, 0, number), port).into(),
    }
}

fn host(dice: &mut Dice, narrow: Option<(usize, Duration)>) -> Host {
    // Now and then so few that they run out.
    let scarce = dice.permille(500);
    Host {
        backlog: dice.below(400) + 40,
        batch: dice.below(63) + 1,
        rx_slots: dice.below(30) + 2,
        tx_slots: if scarce { dice.below(8) + 6 } else { 256 },
        // What leaves in the middle of a run cannot be told from what leaves after it.
        gro: dice.permille(700) && narrow.is_none(),
        latency: dice.micros(1..3_000),
        parked: if scarce { dice.millis(1..30) } else { dice.micros(1..2_000) },
        stalls: dice.within(0..30),
        stall: dice.millis(1..4_000),
        narrow,
    }
}

/// Every other world has a link that is full now and then. Drawn apart, so that the rest of a
/// world does not depend on it.
fn narrow(seed: u64) -> Option<(usize, Duration)> {
    let mut dice = Dice::of(seed ^ 0xB10C);
    dice.permille(500).then(|| (dice.below(12) + 1, dice.millis(5..400)))
}

fn config(dice: &mut Dice, narrow: bool) -> Config {
    let room = if dice.permille(500) { CLIENTS + INSIDERS + SPARE } else { ROOMY };
    let admission = admission::Config {
        cookie_threshold_pps: u32::try_from(dice.within(10..120)).expect("32 bits"),
        prefix: Rate::new(dice.within(20..200), dice.within(20..60)),
        table_entries: 1024,
        initiations_per_turn: u32::try_from(dice.within(6..40)).expect("32 bits"),
        ..admission::Config::default()
    };
    let tunnel = tunnel::Config {
        sessions_max: u32::try_from(room).expect("few sessions"),
        keepalive: dice.permille(800).then(|| dice.millis(15_000..25_000)),
        handshakes_per_turn: u32::try_from(dice.within(1..5)).expect("32 bits"),
        handshake_queue: dice.below(12) + 3,
        admission,
        ..tunnel::Config::default()
    };
    // Without pairs, the smallest relay.
    let relay = relay::Config { channels_max: 1, waiting_max: 1, ..relay::Config::default() };
    Config {
        relay,
        egress: egress(dice, room, narrow),
        table: overlay::Config {
            entries_max: if dice.permille(300) { 30 } else { 128 },
            ..overlay::Config::default()
        },
        tunnel,
        ..Config::default()
    }
}

fn egress(dice: &mut Dice, sessions_max: usize, narrow: bool) -> egress::Config {
    let mut rates = Limits { prefixes: 64, ..Limits::default() };
    let (peers, prefixes) = (dice.permille(500), dice.permille(500));
    if peers {
        rates.peer = egress::Rate {
            packets_per_s: Some(dice.within(8..30)),
            bits_per_s: Some(dice.within(60_000..400_000)),
        };
    }
    if prefixes {
        rates.prefix = egress::Rate { packets_per_s: Some(dice.within(8..40)), bits_per_s: None };
    }
    let class = |depth, weight, ttl_ms: Option<u64>| ClassConfig {
        depth,
        weight,
        ttl: ttl_ms.map(Duration::from_millis),
    };
    let (middle, low) = (dice.below(40) + 6, dice.below(12) + 2);
    // Behind a narrow link so short that it fills up and reading has to wait.
    let high = if narrow { limits::QUEUE_RESERVE + 4 } else { 64 };
    let classes = [class(high, 8, None), class(middle, 4, Some(2000)), class(low, 1, Some(500))];
    egress::Config { classes, limits: rates, sessions_max }
}
