//! One port served by several sockets, one for each shard.
//!
//! * The first socket is bound like any other, alone, so that a port which
//!   anybody uses is an error, another router of the same user included. Only
//!   then does it allow others beside it (`SO_REUSEPORT`), and these join in order.
//! * A socket's place in the group is the order in which it was bound, and that
//!   is its shard. **None may be closed before all are:** the kernel would put the
//!   last one into its place. So keep a [`Socket::try_clone`] of each for as long
//!   as the port is served.
//! * A program of the same user that asks for `SO_REUSEPORT` too could still join
//!   while the group is there. That is no way in that it does not have anyway.

use std::io;
use std::os::fd::AsFd;

use crate::achieved::{Feature, Reason};
use crate::socket::{Sharing, Socket, SocketConfig};
use crate::steer::{self, SHARD_BITS_MAX, Steering};
use crate::sys;

/// The sockets of one port, and how datagrams find theirs.
#[derive(Debug)]
pub struct Group {
    /// One for each shard, in the shards' order; all have the same address.
    pub sockets: Vec<Socket>,
    /// How datagrams find their socket.
    pub steering: Steering,
}

impl Socket {
    /// Binds `shards` sockets to one port, and lets the kernel give each datagram
    /// to the socket of the shard that its index names: the top `shard_bits` bits
    /// of a WireGuard receiver index (types 2, 3 and 4) or of a channel number
    /// (first byte 5). All else is spread by a hash of both addresses, and so is
    /// everything without `steer` or where the kernel refuses the program; the
    /// reason is kept as [`Steering::Hash`].
    ///
    /// One shard gets a plain socket as [`bind`](Self::bind) makes it.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), for any of the sockets; none stays bound
    /// then. `AddrInUse` when anybody has the port.
    ///
    /// # Panics
    /// If there are no shards or more than numbers of `shard_bits` (0 to 8) bits.
    pub fn bind_group(
        config: &SocketConfig,
        shards: usize,
        shard_bits: u32,
        steer: bool,
    ) -> io::Result<Group> {
        assert!(shard_bits <= SHARD_BITS_MAX, "a shard's number is part of one byte");
        assert!((1..=1 << shard_bits).contains(&shards), "every shard has a number of its own");
        let first = Self::bind(config)?;
        if shards == 1 {
            return Ok(Group { sockets: vec![first], steering: Steering::None });
        }
        sys::set(first.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        let mut sockets = Vec::with_capacity(shards);
        sockets.push(first);
        while sockets.len() < shards {
            sockets.push(sockets[0].join(config)?);
        }
        // One socket alone is no group to the kernel, so the program comes last.
        let steering = match steer {
            true => attach(&sockets[0], shard_bits),
            false => Steering::Hash(Reason::Disabled),
        };
        Ok(Group { sockets, steering })
    }

    /// Another socket at the address of this one, which has allowed it.
    fn join(&self, config: &SocketConfig) -> io::Result<Self> {
        let mut socket = Self::bind_to(config, self.local_addr(), Sharing::Group)?;
        // What the first one found out about the system holds for all.
        let ipv6 = self.missing().iter().filter(|missing| missing.feature == Feature::Ipv6);
        socket.missing.extend(ipv6);
        Ok(socket)
    }
}

/// Gives the group that `socket` is in its program.
fn attach(socket: &Socket, shard_bits: u32) -> Steering {
    let attached = sys::steer(socket.as_fd(), &steer::program(shard_bits));
    let reason = match attached.map_err(|error| error.raw_os_error()) {
        Ok(()) => return Steering::Bpf,
        Err(Some(libc::ENOPROTOOPT)) => Reason::Kernel("4.5"),
        // The kernel itself asks for no privilege.
        Err(Some(libc::EPERM | libc::EACCES)) => Reason::Seccomp,
        Err(errno) => Reason::Errno(errno.unwrap_or(0)),
    };
    Steering::Hash(reason)
}
