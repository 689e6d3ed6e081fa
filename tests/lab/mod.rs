//! A laboratory of network namespaces: a routed internet, public servers, routers with the NAT
//! behaviours that there are, and clients behind them.
//!
//! ```ignore
//! lab::run(|| {
//!     let mut lab = Lab::new()?;
//!     let server = lab.server()?;
//!     let router = lab.router(Nat::new(Behaviour::Symmetric))?;
//!     let client = lab.client(router)?;
//!     let socket = lab.bind(client.host, "0.0.0.0:0");
//!     let process = lab.spawn(server.host, &mut Command::new("true"))?;
//!     Ok(())
//! });
//! ```
//!
//! Invariants: the namespaces have no names, and live as long as the [`Lab`] that holds them; its
//! processes are killed and reaped with their handles. So nothing is left behind, laboratories
//! cannot meet, and nothing outside is touched. Addresses are those for benchmarks
//! (198.18.0.0/15) and for documentation (2001:db8::/32), which a router forwards to only with
//! `relay/allow_private`.
//!
//! There is no delay: what the kernel would need for it is seldom there.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most behaviours are told apart by what they do not do"
)]

mod build;
mod missing;
mod nat;
mod netns;
mod process;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, Stdio};

pub(crate) use missing::{Missing, run};
use nat::Place;
pub(crate) use nat::{Behaviour, Depends, Ipv6, Nat};
use netns::Netns;
pub(crate) use netns::{TOOL_PATH, tool};
pub(crate) use process::{Ended, Process};

/// A laboratory. Every call that builds is in effect when it returns.
pub(crate) struct Lab {
    core: Netns,
    hosts: Vec<Netns>,
    routers: Vec<Site>,
    servers: u8,
}

/// A namespace that processes and sockets can be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host(usize);

/// A public host with two addresses of each family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) v4: [Ipv4Addr; 2],
    pub(crate) v6: [Ipv6Addr; 2],
}

/// A host behind a router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) host: Host,
    /// Its address on its own network.
    pub(crate) v4: Ipv4Addr,
    /// A global one, if the router has IPv6.
    pub(crate) v6: Option<Ipv6Addr>,
}

/// A router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Router(usize);

/// What makes a router's mappings move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rebind {
    /// Everything is forgotten; mappings may come out as before.
    Flush,
    /// Everything is forgotten, and other ports are chosen.
    Port,
    /// Everything is forgotten, and the router has another address.
    Address,
}

/// A router that was built.
struct Site {
    host: Host,
    nat: Nat,
    place: Place,
    above: Option<Router>,
    number: u8,
    /// What hangs on its network so far.
    clients: u8,
    inner: u8,
}

impl Lab {
    /// An internet without anybody.
    ///
    /// # Errors
    /// What the machine lacks; the same goes for everything that builds.
    pub(crate) fn new() -> Result<Self, Missing> {
        let core = Netns::new().map_err(|why| Missing::Namespaces(why.to_string()))?;
        build::prepare(&core, true)?;
        Ok(Self { core, hosts: Vec::new(), routers: Vec::new(), servers: 0 })
    }

    /// A public server; at most 24.
    pub(crate) fn server(&mut self) -> Result<Server, Missing> {
        self.build_server()
    }

    /// A router at the core; at most 99 routers.
    pub(crate) fn router(&mut self, nat: Nat) -> Result<Router, Missing> {
        self.build_router(nat)
    }

    /// A router in the network of another, which must be a translating one: double NAT.
    pub(crate) fn router_behind(&mut self, above: Router, nat: Nat) -> Result<Router, Missing> {
        assert!(nat.behaviour.translates(), "an inner network is a private one");
        self.build_inner_router(above, nat)
    }

    /// A client behind a router.
    pub(crate) fn client(&mut self, router: Router) -> Result<Client, Missing> {
        self.build_client(router)
    }

    /// A router and a client behind it.
    pub(crate) fn client_behind(&mut self, nat: Nat) -> Result<Client, Missing> {
        let router = self.router(nat)?;
        self.client(router)
    }

    /// The address by which the outside knows the clients of a translating router.
    pub(crate) fn outside(&self, router: Router) -> Ipv4Addr {
        self.routers[router.0].place.outside
    }

    /// From now on, loses so many percent of what passes the uplink of a router at the core.
    pub(crate) fn lose(&self, router: Router, outward: u32, inward: u32) -> io::Result<()> {
        let site = &self.routers[router.0];
        assert!(site.above.is_none(), "packets are lost at the core");
        let link = build::link(site.number);
        let rule =
            |way, percent| format!(" {way}ifname {link} numgen random mod 100 < {percent} drop\n");
        let (outward, inward) = (rule('i', outward), rule('o', inward));
        self.core.nft(&format!(
            "table inet {link}\ndelete table inet {link}\ntable inet {link} {{\n\
             chain lose {{ type filter hook forward priority 0\n{outward}{inward}}}\n}}\n"
        ))
    }

    /// From now on, nothing that looks like WireGuard passes the core, but to and from a port.
    pub(crate) fn filter_wireguard(&self, but: u16) -> io::Result<()> {
        self.core.nft(&format!(
            "table inet filter {{\nchain lose {{ type filter hook forward priority 0\n\
             udp sport {but} accept\nudp dport {but} accept\nmeta l4proto udp @th,64,8 1-4 drop\n\
             }}\n}}\n"
        ))
    }

    /// Lets the mappings of a router move while traffic flows.
    pub(crate) fn rebind(&mut self, router: Router, how: Rebind) -> io::Result<()> {
        match how {
            Rebind::Flush => {}
            Rebind::Port => self.choose_ports(router),
            Rebind::Address => self.renumber(router)?,
        }
        self.apply(router)?;
        self.hosts[self.routers[router.0].host.0].forget_connections()
    }

    /// Starts a process on a host, its streams piped.
    pub(crate) fn spawn(&self, host: Host, command: &mut Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.within(host, || command.spawn()).map(Process::watch)
    }

    /// A UDP socket on a host.
    pub(crate) fn bind(&self, host: Host, address: &str) -> UdpSocket {
        self.within(host, || UdpSocket::bind(address)).expect("an address of the host")
    }

    /// Runs `act` on a host; sockets it opens and processes it starts stay there for good.
    pub(crate) fn within<T: Send>(&self, host: Host, act: impl FnOnce() -> T + Send) -> T {
        self.hosts[host.0].run(act)
    }
}
