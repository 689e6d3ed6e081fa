//! The ports of a shard, and the numbers of their sockets.

/// Number of the first port's socket: 0 and 1 are the router's own.
pub const FIRST_SOCKET: u16 = 2;

/// A range of UDP ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    count: u16,
}

/// Something to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWish {
    /// Open it at this port.
    Open {
        /// Its number.
        socket: u16,
        /// The port.
        port: u16,
    },
    /// Close it.
    Close {
        /// Its number.
        socket: u16,
    },
}

impl Ports {
    /// None.
    pub const NONE: Self = Self { first: 0, count: 0 };

    /// `count` ports from `first` on, as many of them as there are; none from 0 on.
    pub fn new(first: u16, count: u16) -> Self {
        let there = if first == 0 { 0 } else { u32::from(u16::MAX) - u32::from(first) + 1 };
        Self { first, count: u32::from(count).min(there).try_into().unwrap_or(u16::MAX) }
    }

    /// The part of one of `shards` shards.
    #[must_use]
    pub fn of_shard(self, shard: u16, shards: u16) -> Self {
        let count = self.count / shards.max(1);
        Self { first: self.first.saturating_add(shard.saturating_mul(count)), count }
    }

    /// How many.
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Pairs that they are enough for.
    pub(super) fn pairs(&self) -> usize {
        usize::from(self.count / 2)
    }

    /// The port of a socket.
    pub(super) const fn port(&self, socket: u16) -> u16 {
        self.first + (socket - FIRST_SOCKET)
    }

    /// The socket of a port, if it is one of these.
    pub(super) fn socket(&self, port: u16) -> Option<u16> {
        let at = port.checked_sub(self.first).filter(|at| *at < self.count)?;
        at.checked_add(FIRST_SOCKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_range_without_overlap() {
        let all = Ports::new(50_000, 1000);
        for shards in [1, 2, 3, 7, 64] {
            let mut last = 49_999;
            for shard in 0..shards {
                let part = all.of_shard(shard, shards);
                assert_eq!(part.count(), 1000 / shards);
                assert!(part.port(FIRST_SOCKET) > last);
                last = part.port(FIRST_SOCKET + part.count() - 1);
            }
            assert!(last < 51_000);
        }
    }

    #[test]
    fn a_port_has_one_socket() {
        let part = Ports::new(50_000, 10);
        assert_eq!((part.socket(49_999), part.socket(50_010)), (None, None));
        for socket in FIRST_SOCKET..FIRST_SOCKET + 10 {
            assert_eq!(part.socket(part.port(socket)), Some(socket));
        }
    }

    #[test]
    fn a_range_ends_where_ports_do_and_port_0_is_none() {
        assert_eq!(Ports::new(65_530, 1000).count(), 6);
        assert_eq!(Ports::new(0, 1000).count(), 0);
        assert_eq!(Ports::NONE.pairs(), 0);
    }
}
