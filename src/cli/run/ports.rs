//! The ports of a router: each with a socket for every shard.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::partition;
use crate::port::{Group, Socket, SocketConfig};
use crate::time::Moment;

/// How long a router that has just ended may keep its port: the kernel takes a ring apart, and
/// lets go of the socket in it, some time after the process is gone.
const PREDECESSOR: Duration = Duration::from_millis(500);

/// The sockets of every port.
pub(super) struct Ports {
    pub(super) main: Group,
    /// Those of the alternate port; none if there is none.
    pub(super) alternates: Vec<Socket>,
}

impl Ports {
    pub(super) fn bind(config: &Config) -> Result<Self, Failure> {
        let socket = config.socket();
        let main = group(config, &socket).map_err(|error| {
            let name = format_args!("udp/listen = {}", socket.listen);
            failure(name, &error, "another address or port can be set: --set udp/listen=[::]:PORT")
        })?;
        let alternate = config.alternate().map(|socket| {
            group(config, &socket).map_err(|error| {
                let name = format_args!("udp/alt_port = {}", socket.listen.port());
                let remedy = "another port can be set, or 0 for none: --set udp/alt_port=PORT";
                failure(name, &error, remedy)
            })
        });
        let alternates = alternate.transpose()?.map_or_else(Vec::new, |group| group.sockets);
        Ok(Self { main, alternates })
    }

    /// Where the alternate port is.
    pub(super) fn alternate(&self) -> Option<SocketAddr> {
        self.alternates.first().map(Socket::local_addr)
    }
}

/// A socket of one port for every shard.
fn group(config: &Config, socket: &SocketConfig) -> io::Result<Group> {
    let shards = config.placement.count.into();
    let bits = partition::bits(config.placement.count);
    let clock = Clock::start();
    loop {
        match Socket::bind_group(socket, shards, bits, config.steering()) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && clock.moment().since(Moment::START) < PREDECESSOR =>
            {
                thread::park_timeout(PREDECESSOR / 50);
            }
            bound => return bound,
        }
    }
}

fn failure(name: fmt::Arguments<'_>, error: &io::Error, remedy: &str) -> Failure {
    Failure::io(name, error).hint(remedy)
}
