//! Side sockets with both engines: what comes by them, what leaves by them, and that nobody is
//! forgotten, neither one among a thousand nor what comes at the wrong moment.

mod common;
#[cfg(test)]
#[path = "side/many.rs"]
mod many;
#[cfg(test)]
#[path = "side/traffic.rs"]
mod traffic;

/// An engine with side sockets, as a port puts them together.
#[cfg(test)]
mod both {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use uring::{Datagram, EngineConfig, SideSockets, Socket, SocketConfig, Stats, Transmit};

    use crate::common::*;

    /// Messages that a look brings.
    pub(crate) const MOST: usize = 32;

    pub(crate) struct Both {
        pub(crate) engine: Box<dyn Face>,
        pub(crate) sides: SideSockets,
    }

    impl Both {
        pub(crate) fn open(kind: Kind) -> Option<Self> {
            Self::with_slots(kind, 96)
        }

        pub(crate) fn with_slots(kind: Kind, slots: usize) -> Option<Self> {
            let config = EngineConfig::default();
            let socket = SocketConfig::new(addr("127.0.0.1:0"));
            let mut engine = open_with(kind, &socket, config, pool(RX_SLOT_BYTES, slots))?;
            let waker = engine.waker();
            let sides = SideSockets::new(&config, RX_SLOT_BYTES, waker).unwrap();
            engine.watch(Some(sides.watch()));
            Some(Self { engine, sides })
        }

        /// Opens the side socket `id` at `listen`, and says at which port.
        pub(crate) fn side(&mut self, id: u16, listen: &str) -> SocketAddr {
            let socket = Socket::bind(&SocketConfig::new(addr(listen))).unwrap();
            let local = socket.local_addr();
            self.sides.open(id, socket).unwrap();
            local
        }

        pub(crate) fn at(&self, id: u16, ip: &str) -> SocketAddr {
            let port = self.sides.socket(id).unwrap().local_addr().port();
            (ip.parse::<IpAddr>().unwrap(), port).into()
        }

        pub(crate) fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) {
            let (pool, stats) = self.engine.pool_and_stats();
            self.sides.stock(pool, stats);
            self.engine.turn(timeout, sink).unwrap();
            if self.engine.watched().unwrap_or(true) {
                let (pool, stats) = self.engine.pool_and_stats();
                self.sides.receive(pool, MOST, stats, sink);
            }
        }

        /// Turns until `count` messages came, each within a wait that only a failure ends.
        pub(crate) fn collect(&mut self, count: usize) -> Vec<Datagram> {
            let mut sink = Vec::new();
            while sink.len() < count {
                let before = sink.len();
                self.turn(Duration::from_secs(5), &mut sink);
                assert!(sink.len() > before, "{before} of {count}");
            }
            sink
        }

        pub(crate) fn send(&mut self, transmit: Transmit) {
            self.sides.send(transmit, self.engine.pool_and_stats().1);
        }

        pub(crate) fn flush(&mut self) {
            self.sides.flush(self.engine.pool_and_stats().1);
        }

        pub(crate) fn close(&mut self, id: u16) -> Option<Socket> {
            self.sides.close(id, self.engine.pool_and_stats().1)
        }

        pub(crate) fn stats(&self) -> &Stats {
            self.engine.stats()
        }
    }
}

/// Every test, once per engine.
macro_rules! for_both_engines {
    ($($suite:ident::$name:ident,)*) => {
        mod mmsg {
            $(#[test] fn $name() { crate::$suite::$name(crate::common::Kind::Mmsg); })*
        }
        mod uring {
            $(#[test] fn $name() { crate::$suite::$name(crate::common::Kind::Uring); })*
        }
    };
}

for_both_engines! {
    traffic::answers_leave_by_the_socket_that_was_asked,
    traffic::runs_come_whole_and_leave_whole,
    traffic::what_differs_in_its_socket_alone_is_sent_apart,
    traffic::no_wake_is_lost,
    traffic::what_a_look_leaves_ends_the_next_wait,
    traffic::losses_of_each_socket_add_up,
    many::a_socket_that_is_flooded_keeps_nobody_out,
    many::one_of_a_thousand_is_heard,
    many::a_socket_is_closed_while_data_waits,
    many::without_slots_nothing_is_tried,
    many::a_flooded_engine_keeps_nobody_out,
    many::numbers_are_told_apart,
}
