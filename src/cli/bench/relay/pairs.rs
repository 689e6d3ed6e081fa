//! The load: pairs of sockets, one that sends and one that what it sent is relayed to.
//!
//! As in the other benches a slice is bursts in lockstep: send one, wait until all of it has
//! arrived, send the next. Every datagram carries a WireGuard data message whose counter is its
//! number within the pair, and every one that arrives is looked at: the right header, the next
//! number. One that comes too late or twice does not count, and one that never comes is lost.

use std::net::SocketAddr;
use std::time::Duration;

use bufpool::{Buf, Pool};

use crate::clock::Clock;
use crate::net::{Datagram, Local, Path, Transmit};
use crate::port::{AnyPort, Port};

use super::super::fleet::{self, DATAGRAM_BYTES_MAX, Outcome, PATIENCE, TRAIN, burst, client_port};
use super::lane::{Message, Road};

/// Trains that can be on their way into the kernel.
const TRAINS: usize = 512;

/// What a slice sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// UDP payload of each datagram.
    pub(super) payload: usize,
    /// Pairs that take turns.
    pub(super) pairs: usize,
    /// Datagrams of a pair in a row.
    pub(super) train: usize,
    /// Datagrams of the slice.
    pub(super) datagrams: usize,
}

/// All pairs, on one thread.
pub(super) struct Pairs {
    pub(super) pairs: Vec<Pair>,
    trains: Pool,
    /// Datagrams on their way at a time.
    burst: usize,
    pub(super) clock: Clock,
    received: Vec<Datagram>,
}

/// Two peers that reach each other through a relay only.
pub(super) struct Pair {
    pub(super) sender: End,
    pub(super) receiver: End,
    /// Number of the next datagram.
    pub(super) next: u64,
    /// Number of the datagram that is to arrive next.
    pub(super) due: u64,
}

/// A peer's socket.
pub(super) struct End(AnyPort);

impl Pairs {
    pub(super) fn open(pairs: usize, offloads: bool) -> Result<Self, String> {
        let pairs = (0..pairs).map(|_| Pair::open(offloads)).collect::<Result<Vec<_>, String>>()?;
        let slot_bytes = (TRAIN * DATAGRAM_BYTES_MAX).next_multiple_of(64);
        Ok(Self {
            burst: pairs.first().map_or(TRAIN, |pair| burst(&pair.receiver.0)),
            pairs,
            trains: fleet::pool(slot_bytes, TRAINS, true)?,
            clock: Clock::start(),
            received: Vec::with_capacity(TRAINS),
        })
    }

    /// Sends a slice down the road in bursts and waits for what arrives.
    pub(super) fn fire(&mut self, road: &Road, load: Load) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let trains = load.datagrams / load.train;
        let at_a_time = (self.burst.min(road.burst) / load.train).max(1);
        for first in (0..trains).step_by(at_a_time) {
            let now = first..trains.min(first + at_a_time);
            for number in now.clone() {
                self.send(road, number % load.pairs, load)?;
            }
            // Once those of the last train are there the others are, too.
            self.collect(road, now.rev().map(|number| number % load.pairs), &mut outcome)?;
        }
        outcome.lost = trains * load.train - outcome.answered;
        Ok(outcome)
    }

    /// Sends one train of a pair.
    pub(super) fn send(&mut self, road: &Road, at: usize, load: Load) -> Result<(), String> {
        let Load { payload, train, .. } = load;
        let (pair, lane) = (&mut self.pairs[at], &road.lanes[at]);
        let mut buf = self.trains.take().ok_or("more trains than there is room for")?;
        for _ in 0..train {
            let message = Message { pair: at, number: pair.next };
            lane.sent.write(message, &mut buf.spare_mut()[..payload]);
            buf.grow(payload);
            pair.next += 1;
        }
        pair.sender.send(road.server, buf, payload);
        Ok(())
    }

    fn collect(
        &mut self,
        road: &Road,
        sent: impl Iterator<Item = usize>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let deadline = self.clock.moment() + PATIENCE;
        for at in sent {
            while self.pairs[at].due < self.pairs[at].next {
                let wait = deadline.since(self.clock.moment());
                let before = self.pairs[at].due;
                self.receive(road, at, wait, &mut |_| outcome.answered += 1)?;
                if wait.is_zero() && self.pairs[at].due == before {
                    self.pairs[at].due = self.pairs[at].next;
                }
            }
        }
        Ok(())
    }

    /// Takes what is there of a pair, or comes within `wait`; `arrived` hears every number.
    pub(super) fn receive(
        &mut self,
        road: &Road,
        at: usize,
        wait: Duration,
        arrived: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let (pair, lane) = (&mut self.pairs[at], &road.lanes[at]);
        let end = if lane.returns { &mut pair.sender } else { &mut pair.receiver };
        end.turn(wait, &mut self.received)?;
        for datagram in self.received.drain(..).filter(|it| it.path.peer == road.server) {
            for bytes in datagram.segments() {
                // A session with the router has its own traffic.
                let Some(message) = lane.came.read(bytes) else { continue };
                if message.pair != at || message.number >= pair.next {
                    return Err(format!("{message:?} arrived at pair {at}"));
                }
                if message.number >= pair.due {
                    pair.due = message.number + 1;
                    arrived(message.number);
                }
            }
        }
        Ok(())
    }

    /// Lets servers finish what they do after the last datagram left.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let Some(pair) = self.pairs.first_mut() else { return Ok(()) };
        pair.receiver.turn(Duration::from_millis(1), &mut self.received)?;
        self.received.clear();
        Ok(())
    }
}

impl Pair {
    fn open(offloads: bool) -> Result<Self, String> {
        let (sender, receiver) = (End(client_port(offloads)?), End(client_port(offloads)?));
        Ok(Self { sender, receiver, next: 0, due: 0 })
    }
}

impl End {
    fn turn(&mut self, wait: Duration, received: &mut Vec<Datagram>) -> Result<(), String> {
        self.0.turn(wait, received).map_err(|error| format!("receiving: {error}"))
    }

    fn send(&mut self, to: SocketAddr, buf: Buf, segment: usize) {
        let path = Path { peer: to, local: Local::default() };
        self.0.send(Transmit { path, buf, segment, dscp: 0 });
        self.0.flush();
    }

    /// Sends one datagram, while a road is laid.
    pub(super) fn say(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let mut buf = self.0.pool().take().ok_or("no free buffer")?;
        if !buf.extend(bytes) {
            return Err("a datagram longer than any".into());
        }
        self.send(to, buf, bytes.len());
        Ok(())
    }

    /// What came from there, waiting for it if nothing is there yet.
    pub(super) fn hear(
        &mut self,
        from: SocketAddr,
        wait: Duration,
    ) -> Result<Vec<Vec<u8>>, String> {
        let mut received = Vec::new();
        self.turn(wait, &mut received)?;
        let ours = received.iter().filter(|datagram| datagram.path.peer == from);
        Ok(ours.flat_map(|datagram| datagram.segments().map(<[u8]>::to_vec)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;
    use crate::cli::bench::relay::returning;

    /// A relay that loses one datagram, sends another one twice, and one too late.
    #[test]
    fn what_is_lost_late_or_doubled_does_not_count() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let road = returning(server.local_addr().unwrap(), 1);
        let relay = thread::spawn(move || {
            let mut bytes = [0; 2048];
            let mut late = Vec::new();
            for number in 0..8 {
                let (len, peer) = server.recv_from(&mut bytes).unwrap();
                match number {
                    2 => {}
                    3 => late = bytes[..len].to_vec(),
                    _ => drop(server.send_to(&bytes[..len], peer).unwrap()),
                }
                match number {
                    4 => drop(server.send_to(&bytes[..len], peer).unwrap()),
                    5 => drop(server.send_to(&late, peer).unwrap()),
                    _ => {}
                }
            }
        });
        let mut pairs = Pairs::open(1, false).unwrap();
        let load = Load { payload: 100, pairs: 1, train: 1, datagrams: 8 };
        let outcome = pairs.fire(&road, load).unwrap();
        relay.join().unwrap();
        assert_eq!((outcome.answered, outcome.lost), (6, 2));
    }
}
