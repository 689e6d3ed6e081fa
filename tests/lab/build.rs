//! How the parts of a laboratory are wired up and numbered.
//!
//! | addresses | of |
//! |---|---|
//! | 198.18.0.1 | the core, at every link |
//! | 198.18.0.10, .11, .20, .21 ... and 2001:db8::10 ... | servers |
//! | 198.18.1.N, later 198.18.2.N ... | router N, before and after it moves |
//! | 198.19.N.0/24 | the public network behind router N |
//! | 192.168.1.0/24 | the private network behind any router at the core |
//! | 192.168.2.0/24 | the one behind any router behind another, and so on |
//! | 2001:db8:100+N::/64 | the network behind router N, if it has IPv6 |
//!
//! Links to the core have no network of their own: both ends know who is at the other.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::nat::Place;
use super::netns::Netns;
use super::{Client, Host, Ipv6, Lab, Missing, Nat, Router, Server, Site};

/// The core, next hop of everybody.
const CORE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The core's end of the uplink of router `number`.
pub(super) fn link(number: u8) -> String {
    format!("r{number}")
}

/// Loopback up, and nothing that would filter, redirect, or wait for duplicate addresses.
pub(super) fn prepare(netns: &Netns, forwards: bool) -> io::Result<()> {
    let forwards = u32::from(forwards);
    netns.sysctl(&[
        ("ipv4/ip_forward", forwards),
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0),
        ("ipv4/conf/all/send_redirects", 0),
        ("ipv4/conf/default/send_redirects", 0),
        ("ipv6/conf/all/forwarding", forwards),
        ("ipv6/conf/default/accept_dad", 0),
    ])?;
    // Only where a module for it is loaded: what is bridged must not be translated.
    for family in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        let _ = netns.sysctl(&[(family, 0)]);
    }
    netns.ip("link set lo up\n")
}

impl Lab {
    pub(super) fn build_server(&mut self) -> Result<Server, Missing> {
        self.servers += 1;
        assert!(self.servers < 25, "the addresses of servers are used up");
        let v4 = [0, 1].map(|k| Ipv4Addr::new(198, 18, 0, self.servers * 10 + k));
        // Their last groups look like the last parts of the others.
        let last = |k| u16::from(self.servers) * 0x10 + k;
        let v6 = [0, 1].map(|k| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last(k)));
        let host = self.host(false)?;
        self.join_core(host, &format!("s{}", self.servers), &v4, &v6)?;
        Ok(Server { host, v4, v6 })
    }

    pub(super) fn build_router(&mut self, nat: Nat) -> Result<Router, Missing> {
        let number = self.next_number();
        let outside = Ipv4Addr::new(198, 18, 1, number);
        // A network that shows outside must be there only once; the others are all alike, so
        // that candidates of one network mean something else in another.
        let public = Ipv4Addr::new(198, 19, number, 1);
        let private = Ipv4Addr::new(192, 168, 1, 1);
        let inside = if nat.behaviour.translates() { private } else { public };
        let router = self.site(nat, None, outside, inside)?;
        let link = link(number);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number));
        self.join_core(self.routers[router.0].host, &link, &[outside], &[v6])?;
        if !nat.behaviour.translates() {
            let network = Ipv4Addr::new(198, 19, number, 0);
            self.core.ip(&format!("route add {network}/24 via {outside} dev {link} onlink\n"))?;
        }
        if nat.ipv6 != Ipv6::No {
            let network = v6_inside(number, 0);
            self.core.ip(&format!("route add {network}/64 via fe80::2 dev {link}\n"))?;
            self.netns(router)
                .ip(&format!("addr add {}/64 dev lan nodad\n", v6_inside(number, 1)))?;
        }
        self.apply(router)?;
        Ok(router)
    }

    pub(super) fn build_inner_router(
        &mut self,
        above: Router,
        nat: Nat,
    ) -> Result<Router, Missing> {
        let outer = &mut self.routers[above.0];
        outer.inner += 1;
        let gateway = outer.place.inside;
        let outside = neighbour(gateway, 100 + outer.inner);
        let [a, b, depth, _] = gateway.octets();
        assert!(outer.nat.behaviour.translates(), "an inner router is in a private network");
        let router = self.site(nat, Some(above), outside, Ipv4Addr::new(a, b, depth + 1, 1))?;
        let host = self.routers[router.0].host;
        self.join_router(host, "wan", above, outside)?;
        self.apply(router)?;
        Ok(router)
    }

    pub(super) fn build_client(&mut self, router: Router) -> Result<Client, Missing> {
        let site = &mut self.routers[router.0];
        site.clients += 1;
        let last = 10 + site.clients;
        assert!(last < 100, "the addresses of clients are used up");
        let v4 = neighbour(site.place.inside, last);
        let number = site.number;
        let v6 = (site.nat.ipv6 != Ipv6::No).then(|| v6_inside(number, u16::from(last)));
        let host = self.host(false)?;
        self.join_router(host, "eth0", router, v4)?;
        if let Some(v6) = v6 {
            let gateway = v6_inside(number, 1);
            self.hosts[host.0].ip(&format!(
                "addr add {v6}/64 dev eth0 nodad\nroute add default via {gateway}\n"
            ))?;
        }
        Ok(Client { host, v4, v6 })
    }

    /// Other ports from now on.
    pub(super) fn choose_ports(&mut self, router: Router) {
        let place = &mut self.routers[router.0].place;
        // Another block, another hash, and far from the former ones in a row.
        place.seed = place.seed.wrapping_add(12_345);
        place.moved = true;
    }

    /// Another address on the uplink.
    pub(super) fn renumber(&mut self, router: Router) -> io::Result<()> {
        let Site { place, above, number, .. } = &mut self.routers[router.0];
        let former = place.outside;
        let [a, b, c, d] = former.octets();
        let above = *above;
        place.outside = if above.is_some() {
            Ipv4Addr::new(a, b, c, d + 20)
        } else {
            Ipv4Addr::new(a, b, c + 1, d)
        };
        let (now, link) = (place.outside, link(*number));
        let translates = self.routers[router.0].nat.behaviour.translates();
        if let Some(above) = above {
            let gateway = self.routers[above.0].place.inside;
            return self.netns(router).ip(&format!(
                "addr del {former}/24 dev wan\naddr add {now}/24 dev wan\n\
                 route replace default via {gateway}\n"
            ));
        }
        self.core.ip(&format!("route add {now}/32 dev {link}\n"))?;
        self.netns(router).ip(&format!(
            "addr add {now}/32 dev wan\nroute replace {CORE}/32 dev wan scope link src {now}\n\
             route replace default via {CORE} dev wan src {now}\naddr del {former}/32 dev wan\n"
        ))?;
        if !translates {
            let network = Ipv4Addr::new(198, 19, d, 0);
            self.core.ip(&format!("route replace {network}/24 via {now} dev {link} onlink\n"))?;
        }
        self.core.ip(&format!("route del {former}/32 dev {link}\n"))
    }

    /// Puts a router's rules into force; what it learnt is forgotten.
    pub(super) fn apply(&self, router: Router) -> io::Result<()> {
        let site = &self.routers[router.0];
        let netns = self.netns(router);
        netns.nft(&site.nat.rules(&site.place))?;
        let timeout = site.nat.timeout_s;
        netns.sysctl(&[
            ("netfilter/nf_conntrack_udp_timeout", timeout),
            ("netfilter/nf_conntrack_udp_timeout_stream", timeout),
        ])
    }

    fn netns(&self, router: Router) -> &Netns {
        &self.hosts[self.routers[router.0].host.0]
    }

    fn host(&mut self, forwards: bool) -> Result<Host, Missing> {
        let netns = Netns::new()?;
        prepare(&netns, forwards)?;
        self.hosts.push(netns);
        Ok(Host(self.hosts.len() - 1))
    }

    fn next_number(&self) -> u8 {
        let number = u8::try_from(self.routers.len() + 1).unwrap_or(u8::MAX);
        assert!(number < 100, "the addresses of routers are used up");
        number
    }

    /// A router with the network behind it, and without an uplink.
    fn site(
        &mut self,
        nat: Nat,
        above: Option<Router>,
        outside: Ipv4Addr,
        inside: Ipv4Addr,
    ) -> Result<Router, Missing> {
        let number = self.next_number();
        let host = self.host(true)?;
        self.hosts[host.0].ip(&format!(
            "link add lan type bridge stp_state 0\nlink set lan up\naddr add {inside}/24 dev lan\n"
        ))?;
        let seed = u16::from(number) * 500;
        let place = Place { outside, inside, seed, moved: false };
        self.routers.push(Site { host, nat, place, above, number, clients: 0, inner: 0 });
        Ok(Router(self.routers.len() - 1))
    }

    /// An uplink `wan` to the core, whose end is called `link`.
    fn join_core(
        &self,
        host: Host,
        link: &str,
        v4: &[Ipv4Addr],
        v6: &[Ipv6Addr],
    ) -> Result<(), Missing> {
        let netns = &self.hosts[host.0];
        let mut core = format!(
            "link add {link} type veth peer name wan netns {}\nlink set {link} up\n\
             addr add {CORE}/32 dev {link}\naddr add fe80::1/64 dev {link} nodad\n",
            netns.path()
        );
        let mut near = String::from("link set wan up\naddr add fe80::2/64 dev wan nodad\n");
        for address in v4 {
            let _ = writeln!(core, "route add {address}/32 dev {link}");
            let _ = writeln!(near, "addr add {address}/32 dev wan");
        }
        for address in v6 {
            let _ = writeln!(core, "route add {address}/128 dev {link}");
            let _ = writeln!(near, "addr add {address}/128 dev wan nodad");
        }
        let (v4, v6) = (v4[0], v6[0]);
        let _ = write!(
            near,
            "route add {CORE}/32 dev wan scope link src {v4}\n\
             route add default via {CORE} dev wan src {v4}\n\
             route add default via fe80::1 dev wan src {v6}\n"
        );
        self.core.ip(&core)?;
        netns.ip(&near)?;
        Ok(())
    }

    /// An interface in the network behind a router.
    fn join_router(
        &self,
        host: Host,
        interface: &str,
        router: Router,
        address: Ipv4Addr,
    ) -> Result<(), Missing> {
        let netns = &self.hosts[host.0];
        let (path, port) = (netns.path(), format!("p{}", host.0));
        self.netns(router).ip(&format!(
            "link add {port} type veth peer name {interface} netns {path}\n\
             link set {port} master lan\nlink set {port} up\n"
        ))?;
        let gateway = self.routers[router.0].place.inside;
        netns.ip(&format!(
            "link set {interface} up\naddr add {address}/24 dev {interface}\n\
             route add default via {gateway}\n"
        ))?;
        Ok(())
    }
}

/// The address in the same /24 that ends in `last`.
fn neighbour(address: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// An address in the network behind router `number`.
fn v6_inside(number: u8, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100 + u16::from(number), 0, 0, 0, 0, last)
}
