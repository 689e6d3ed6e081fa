//! What a router does to UDP, in the terms of RFC 4787, and the nftables rules that make it do so.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// What a mapping or a filter depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depends {
    /// Nothing outside: endpoint-independent.
    Nothing,
    /// The address of the other side.
    Address,
    /// That address and port.
    AddressAndPort,
}

/// The routers of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// No translation, no filter: a public host behind a plain router.
    Open,
    /// No translation, a stateful firewall.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering.
    PortRestricted,
    /// Linux `masquerade` behind a firewall: as the former, and the port is kept while it is free.
    Linux,
    /// The same without the firewall: what comes uninvited reaches the router's own stack, and
    /// its trace there takes the port from a punch that follows.
    LinuxBare,
    /// A port of its own for every destination, one after another.
    SymmetricSequential,
    /// A random port for every destination.
    Symmetric,
}

impl Behaviour {
    pub(crate) const ALL: [Self; 9] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Linux,
        Self::LinuxBare,
        Self::SymmetricSequential,
        Self::Symmetric,
    ];

    /// Its short name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "none",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "addr-restr",
            Self::PortRestricted => "port-restr",
            Self::Linux => "linux",
            Self::LinuxBare => "linux-bare",
            Self::SymmetricSequential => "sym-seq",
            Self::Symmetric => "symmetric",
        }
    }

    /// Whether clients have private addresses.
    pub(crate) const fn translates(self) -> bool {
        !matches!(self, Self::Open | Self::Firewall)
    }

    pub(crate) const fn mapping(self) -> Depends {
        match self {
            Self::SymmetricSequential | Self::Symmetric => Depends::AddressAndPort,
            _ => Depends::Nothing,
        }
    }

    pub(crate) const fn filtering(self) -> Depends {
        match self {
            Self::Open | Self::FullCone => Depends::Nothing,
            Self::AddressRestricted => Depends::Address,
            _ => Depends::AddressAndPort,
        }
    }

    pub(crate) const fn keeps_port(self) -> bool {
        matches!(self, Self::Open | Self::Firewall | Self::Linux | Self::LinuxBare)
    }

    /// Mappings that the kernel's own tracking cannot make: the outside port is a function of the
    /// inside endpoint.
    const fn is_cone(self) -> bool {
        matches!(self, Self::FullCone | Self::AddressRestricted | Self::PortRestricted)
    }
}

/// How clients get IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    No,
    Open,
    Firewall,
}

/// A router to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nat {
    pub(crate) behaviour: Behaviour,
    /// Whether clients reach each other by their outside endpoints; the three cones only.
    pub(crate) hairpin: bool,
    /// Seconds that an idle mapping lives.
    pub(crate) timeout_s: u32,
    /// For routers at the core only.
    pub(crate) ipv6: Ipv6,
}

impl Nat {
    /// Without hairpin and IPv6; mappings live for 30 s.
    pub(crate) const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, hairpin: false, timeout_s: 30, ipv6: Ipv6::No }
    }
}

/// Where a router stands, and which of its possible courses it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its address on the uplink, interface `wan`.
    pub(crate) outside: Ipv4Addr,
    /// Its address in the network behind it, a /24 on interface `lan`.
    pub(crate) inside: Ipv4Addr,
    /// Choice of ports; another one moves every mapping.
    pub(crate) seed: u16,
    /// Whether mappings moved since the router started.
    pub(crate) moved: bool,
}

impl Nat {
    /// All rules, replacing the former ones and what they learnt, as one transaction.
    pub(crate) fn rules(&self, place: &Place) -> String {
        let mut rules = String::new();
        for (table, chains) in
            [("inet filter", self.filter(place)), ("ip nat", self.translation(place))]
        {
            let _ = write!(rules, "table {table}\ndelete table {table}\n");
            let _ = write!(rules, "table {table} {{\n{chains}}}\n");
        }
        rules
    }

    fn filter(&self, place: &Place) -> String {
        let behaviour = self.behaviour;
        let mut chains = String::from(
            "chain input { type filter hook input priority 0\n ct state established,related accept\n",
        );
        // A packet dropped here leaves no tracked connection behind.
        if !matches!(behaviour, Behaviour::Open | Behaviour::LinuxBare) {
            chains += " iifname wan meta nfproto ipv4 meta l4proto udp drop\n";
        }
        let _ =
            writeln!(chains, " iifname lan ip daddr {} meta l4proto udp drop\n}}", place.outside);
        chains += "chain forward { type filter hook forward priority 0\n";
        chains += match self.ipv6 {
            Ipv6::No => " meta nfproto ipv6 drop\n",
            Ipv6::Open => " meta nfproto ipv6 accept\n",
            Ipv6::Firewall => {
                " meta nfproto ipv6 ct state established,related accept\n \
                 meta nfproto ipv6 iifname wan drop\n"
            }
        };
        if behaviour != Behaviour::Open {
            chains += " ct state established,related accept\n ct status dnat accept\n";
            chains += " iifname wan drop\n";
        }
        chains + "}\n"
    }

    fn translation(&self, place: &Place) -> String {
        if self.behaviour.is_cone() {
            return self.sets() + &self.inbound(place) + &self.outbound(place) + &self.learn(place);
        }
        let (outside, seed) = (place.outside, place.seed);
        let udp = match self.behaviour {
            Behaviour::Open | Behaviour::Firewall => return String::new(),
            Behaviour::Symmetric => format!("snat to {outside}:10000-60000 fully-random"),
            Behaviour::SymmetricSequential => {
                // The kernel reads a computed port with its bytes swapped.
                let block = 30 + seed % 97;
                format!("snat to {outside}:numgen inc mod 256 << 8 | {block}")
            }
            // Another block of ports, since the first choice is always the inside port; below
            // those that hosts and other routers choose.
            _ if place.moved => {
                let first = 10_000 + seed % 8 * 2_000;
                format!("masquerade to :{first}-{}", first + 1_999)
            }
            _ => "masquerade".to_owned(),
        };
        format!(
            "chain out {{ type nat hook postrouting priority srcnat\n \
             oifname wan meta l4proto udp {udp}\n oifname wan masquerade\n}}\n"
        )
    }

    /// What a cone remembers: the endpoint behind each outside port, and whom that port spoke to.
    fn sets(&self) -> String {
        let rest = format!("flags dynamic,timeout; timeout {}s; size 65535;", self.timeout_s);
        format!(
            "map inside {{ type inet_service : ipv4_addr . inet_service; {rest} }}\n\
             set hosts {{ type inet_service . ipv4_addr; {rest} }}\n\
             set endpoints {{ type inet_service . ipv4_addr . inet_service; {rest} }}\n"
        )
    }

    /// Who may come in without an answer being awaited.
    fn inbound(&self, place: &Place) -> String {
        let mut chain = String::from("chain in { type nat hook prerouting priority dstnat\n");
        let outside = place.outside;
        let mut admit = |from: &str| {
            let _ = writeln!(chain, " {from} ip daddr {outside} dnat to udp dport map @inside");
        };
        match self.behaviour {
            Behaviour::FullCone => admit("iifname wan meta l4proto udp"),
            Behaviour::AddressRestricted => admit("iifname wan udp dport . ip saddr @hosts"),
            // The kernel's tracking lets answers in, and nothing else.
            _ => {}
        }
        if self.hairpin {
            admit("iifname lan meta l4proto udp");
        }
        chain + "}\n"
    }

    fn outbound(&self, place: &Place) -> String {
        let Place { outside, seed, .. } = place;
        // With its bytes swapped, as the kernel reads it, no port is below 32768.
        let port = format!("jhash ip saddr . udp sport mod 65536 seed {} | 128", seed + 1);
        let mut chain = format!(
            "chain out {{ type nat hook postrouting priority srcnat\n \
             oifname wan meta l4proto udp snat to {outside}:{port}\n oifname wan masquerade\n"
        );
        if self.hairpin {
            let inside = place.inside;
            let _ = writeln!(
                chain,
                " oifname lan ip saddr {inside}/24 ct status dnat meta l4proto udp \
                 snat to {outside}:{port}"
            );
        }
        chain + "}\n"
    }

    /// Runs behind the translation, so that a source port is the outside one.
    fn learn(&self, place: &Place) -> String {
        let mut chain = format!(
            "chain learn {{ type filter hook postrouting priority srcnat + 50\n \
             meta l4proto != udp return\n ip saddr != {} return\n",
            place.outside
        );
        for way in ["original", "reply"] {
            let endpoint = format!("ct {way} ip saddr . ct {way} proto-src");
            let _ =
                writeln!(chain, " ct direction {way} update @inside {{ udp sport : {endpoint} }}");
        }
        chain += " oifname wan update @hosts { udp sport . ip daddr }\n";
        chain += " oifname wan update @endpoints { udp sport . ip daddr . udp dport }\n";
        if self.hairpin {
            chain += &self.learn_hairpin();
        }
        chain + "}\n"
    }

    /// Between two clients, each is known to the other by an outside endpoint of this router.
    fn learn_hairpin(&self) -> String {
        let host = "meta l4proto udp ct original proto-dst . ip saddr";
        let refuse = match self.behaviour {
            Behaviour::AddressRestricted => format!("{host} != @hosts drop"),
            Behaviour::PortRestricted => format!("{host} . udp sport != @endpoints drop"),
            _ => String::new(),
        };
        let mut rules = String::from(
            " oifname lan ct direction original update @hosts { udp sport . ip saddr }\n \
             oifname lan ct direction original update @endpoints \
             { udp sport . ip saddr . ct original proto-dst }\n",
        );
        if !refuse.is_empty() {
            let _ = writeln!(rules, " oifname lan ct state new {refuse}");
        }
        rules
    }
}
