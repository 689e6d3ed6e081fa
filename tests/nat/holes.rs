//! Holes punched by nothing but datagrams: what the laboratory allows any program to reach.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use molia_router::clock::Clock;

use crate::grid::{Expected, Grid, Pair, at_once};
use crate::lab::{self, Behaviour};
use crate::prober::{Responder, receive};

/// Between two probes to the same address.
const SPACING: Duration = Duration::from_millis(25);
/// Twice what two windows take.
const PATIENCE: Duration = Duration::from_secs(1);

/// One end of a hole.
struct End {
    socket: UdpSocket,
    /// Where the other one is said to be, then where it really spoke from.
    others: Vec<SocketAddr>,
    heard: bool,
    was_heard: bool,
}

impl End {
    fn probe(&self) {
        let text: &[u8] = if self.heard { b"heard" } else { b"probe" };
        for other in &self.others {
            let _ = self.socket.send_to(text, other);
        }
    }

    fn listen(&mut self) {
        let known = |text: &[u8], from| {
            (text == b"heard" || text == b"probe").then(|| (text == b"heard", from))
        };
        while let Some((heard, from)) = receive(&self.socket, Duration::from_millis(2), known) {
            self.heard = true;
            self.was_heard |= heard;
            if !self.others.contains(&from) {
                self.others.push(from);
            }
        }
    }
}

/// Both ends send to where the other was seen, and to where it speaks from.
fn punch(grid: &Grid, responder: &Responder, pair: &Pair) -> bool {
    let sockets = pair.clients.map(|client| responder.socket(&grid.lab, client.host));
    let seen = sockets.each_ref().map(|socket| responder.seen(socket).unwrap());
    let [one, other] = sockets;
    let end = |socket, other| End { socket, others: vec![other], heard: false, was_heard: false };
    let mut ends = [end(one, seen[1]), end(other, seen[0])];
    let clock = Clock::start();
    let until = clock.moment() + PATIENCE;
    let mut next = clock.moment();
    while clock.moment() < until && !ends.iter().all(|end| end.was_heard) {
        if clock.moment() >= next {
            next = clock.moment() + SPACING;
            ends.iter().for_each(End::probe);
        }
        ends.iter_mut().for_each(End::listen);
    }
    ends.iter().all(|end| end.was_heard)
}

#[test]
fn holes_open_between_exactly_the_pairs_that_allow_it() {
    lab::run(|| {
        let grid = Grid::new(&Behaviour::ALL, 0)?;
        let responder = Responder::new(&grid.lab, grid.server, false);
        let pairs = grid.pairs();
        let opened = at_once(pairs.clone(), 8, |pair| punch(&grid, &responder, &pair));
        let cell = |opened: &bool| if *opened { "open" } else { "-" }.to_owned();
        let table = grid.table(&opened.iter().map(cell).collect::<Vec<_>>());
        println!("{table}");
        for (pair, opened) in pairs.iter().zip(opened) {
            let [a, b] = pair.behaviours;
            let expected = Expected::between(a, b);
            let right = expected == Expected::Either || opened == (expected == Expected::Direct);
            assert!(right, "{} - {}: {expected:?} expected\n{table}", a.name(), b.name());
        }
        Ok(())
    });
}
