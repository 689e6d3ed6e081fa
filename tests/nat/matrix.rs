//! The real program between every pair of NAT behaviours.
//!
//! | variable | |
//! |---|---|
//! | `MOLIA_NAT_MATRIX=full` | nine by nine instead of four by four |
//! | `MOLIA_NAT_LOSS=2` | 2 % of the datagrams lost at every router, each way |
//! | `MOLIA_NAT_REPEAT=3` | so many times each |

use std::env;

use crate::grid::{Expected, Grid, Pair, at_once};
use crate::lab::{self, Behaviour, Lab, Nat};
use crate::product::{Deployment, Meeting};

/// The behaviours that differ most: each kind of filter, and both kinds of mapping.
const SMALL: [Behaviour; 4] = [
    Behaviour::AddressRestricted,
    Behaviour::PortRestricted,
    Behaviour::Linux,
    Behaviour::Symmetric,
];
/// Pairs at once: each is two processes, and the router has to keep up with all.
const PAIRS_AT_ONCE: usize = 6;
/// Until a relayed pair can speak.
const RELAY_MS_MAX: u64 = 3_000;

/// One pair, met as often as it was asked for.
struct Outcome {
    pair: Pair,
    meetings: Vec<Result<Meeting, String>>,
}

impl Outcome {
    fn direct(&self) -> usize {
        self.meetings.iter().flatten().filter(|meeting| meeting.direct).count()
    }

    fn expected(&self) -> Expected {
        let [a, b] = self.pair.behaviours;
        Expected::between(a, b)
    }

    /// `3/3 (51)`: so many direct ones, and the median time in milliseconds until they were;
    /// else how long the relay took.
    fn cell(&self) -> String {
        let met = || self.meetings.iter().flatten();
        let mut direct: Vec<u64> = met().filter_map(|meeting| meeting.direct_ms).collect();
        let mut relayed: Vec<u64> = met().map(|meeting| meeting.first_path_ms).collect();
        let times = if self.direct() > 0 { &mut direct } else { &mut relayed };
        times.sort_unstable();
        let way = if self.direct() > 0 { "" } else { "R" };
        let count = format!("{}/{}", self.direct(), self.meetings.len());
        match (met().count(), times.get(times.len() / 2)) {
            (0, _) => "failed".to_owned(),
            (_, None) => count,
            (_, Some(ms)) => format!("{count} ({way}{ms})"),
        }
    }

    /// What is wrong whatever the chances are.
    fn complaints(&self, lossless: bool) -> Vec<String> {
        let [a, b] = self.pair.behaviours.map(Behaviour::name);
        let wrong = |meeting: &Result<Meeting, String>| match meeting {
            Err(said) => Some(format!("{a} - {b} failed: {said}")),
            Ok(meeting) => {
                let expected = self.expected();
                let impossible = meeting.direct && expected == Expected::Relayed;
                let missed = !meeting.direct && expected == Expected::Direct && lossless;
                let late = !meeting.direct && meeting.first_path_ms > RELAY_MS_MAX;
                let silent = meeting.echoed == 0 || (lossless && meeting.echoed < meeting.sent);
                let wrong = impossible || missed || late || silent;
                wrong.then(|| {
                    format!("{a} - {b}, {expected:?} expected: {meeting:?}\n{}", meeting.story)
                })
            }
        };
        self.meetings.iter().filter_map(wrong).collect()
    }
}

fn number(name: &str, default: u32) -> u32 {
    let told = env::var(name).ok();
    told.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn every_pair_meets_directly_where_it_can_and_by_the_relay_elsewhere() {
    lab::run(|| {
        let full = env::var("MOLIA_NAT_MATRIX").is_ok_and(|it| it == "full");
        let behaviours: &[Behaviour] = if full { &Behaviour::ALL } else { &SMALL };
        let loss = number("MOLIA_NAT_LOSS", 0);
        let repeat = number("MOLIA_NAT_REPEAT", 1) as usize;
        let grid = Grid::new(behaviours, loss)?;
        let deployment = Deployment::start(&grid.lab, grid.server, "matrix")?;
        let once: Vec<Pair> = grid.pairs();
        // Repetitions of a pair lie far apart, so that they meet different neighbours.
        let all: Vec<Pair> = once.iter().copied().cycle().take(once.len() * repeat).collect();
        let met = at_once(all, PAIRS_AT_ONCE, |pair| deployment.meet(&grid.lab, pair.clients));
        let gather = |(place, pair): (usize, &Pair)| {
            let meetings = met.iter().skip(place).step_by(once.len()).cloned().collect();
            Outcome { pair: *pair, meetings }
        };
        let outcomes: Vec<Outcome> = once.iter().enumerate().map(gather).collect();
        let table = grid.table(&outcomes.iter().map(Outcome::cell).collect::<Vec<_>>());
        println!("loss {loss} %, {repeat} times; direct ones (ms), R: relayed\n{table}");
        judge(&outcomes, loss == 0);
        Ok(())
    });
}

/// Every pair meets; with loss, a few that could meet directly may have to use the relay.
fn judge(outcomes: &[Outcome], lossless: bool) {
    let possible = || outcomes.iter().filter(|it| it.expected() == Expected::Direct);
    let tried: usize = possible().map(|outcome| outcome.meetings.len()).sum();
    let direct: usize = possible().map(Outcome::direct).sum();
    println!("{direct} of {tried} possible ones direct");
    let complaints: Vec<String> =
        outcomes.iter().flat_map(|outcome| outcome.complaints(lossless)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(direct * 100 >= tried * 99, "{direct} of {tried} direct, 99 % wanted");
}

#[test]
fn neighbours_behind_one_router_meet_inside() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let mut pairs = Vec::new();
        for behaviour in [Behaviour::PortRestricted, Behaviour::Linux, Behaviour::Symmetric] {
            let router = lab.router(Nat::new(behaviour))?;
            pairs.push((behaviour, [lab.client(router)?, lab.client(router)?]));
        }
        let deployment = Deployment::start(&lab, server, "neighbours")?;
        let met = at_once(pairs, PAIRS_AT_ONCE, |(behaviour, clients)| {
            (behaviour, deployment.meet(&lab, clients))
        });
        for (behaviour, meeting) in met {
            let direct = meeting.as_ref().is_ok_and(|meeting| meeting.direct);
            assert!(direct, "{}: {meeting:?}", behaviour.name());
        }
        Ok(())
    });
}

#[test]
fn peers_behind_two_routers_each_meet_like_the_stricter_of_them() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let mut behind_two = |outer, inner| {
            let outer = lab.router(Nat::new(outer))?;
            let inner = lab.router_behind(outer, Nat::new(inner))?;
            lab.client(inner)
        };
        let cones = [
            behind_two(Behaviour::PortRestricted, Behaviour::Linux)?,
            behind_two(Behaviour::Linux, Behaviour::FullCone)?,
        ];
        let moving = behind_two(Behaviour::Symmetric, Behaviour::FullCone)?;
        let deployment = Deployment::start(&lab, server, "double")?;
        let meeting = deployment.meet(&lab, cones);
        assert!(meeting.as_ref().is_ok_and(|meeting| meeting.direct), "{meeting:?}");
        let meeting = deployment.meet(&lab, [cones[0], moving]);
        assert!(meeting.as_ref().is_ok_and(|meeting| !meeting.direct), "{meeting:?}");
        Ok(())
    });
}

/// Something on the way lets probes through, and no handshake.
#[test]
fn where_wireguard_is_filtered_peers_meet_by_the_relay() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let clients = [
            lab.client_behind(Nat::new(Behaviour::Linux))?,
            lab.client_behind(Nat::new(Behaviour::AddressRestricted))?,
        ];
        lab.filter_wireguard(7743)?;
        let deployment = Deployment::start(&lab, server, "filtered")?;
        let meeting = deployment.meet(&lab, clients);
        let relayed = meeting.as_ref().is_ok_and(|it| !it.direct && it.echoed == it.sent);
        assert!(relayed, "{meeting:?}");
        Ok(())
    });
}
