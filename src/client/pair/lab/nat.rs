//! NATs and firewalls as the laboratory has them: mapping x filtering, and Linux's habit.

use std::net::{IpAddr, SocketAddr};

/// The nine kinds of the laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::pair) enum Kind {
    None,
    Firewall,
    FullCone,
    AddrRestr,
    PortRestr,
    Linux,
    LinuxBare,
    SymSeq,
    Symmetric,
}

impl Kind {
    pub(in crate::client::pair) const ALL: [Self; 9] = [
        Self::None,
        Self::Firewall,
        Self::FullCone,
        Self::AddrRestr,
        Self::PortRestr,
        Self::Linux,
        Self::LinuxBare,
        Self::SymSeq,
        Self::Symmetric,
    ];

    /// Whether the mapping depends on the destination.
    pub(in crate::client::pair) const fn moves(self) -> bool {
        matches!(self, Self::SymSeq | Self::Symmetric)
    }

    /// 1 lets everybody in, 2 the hosts and 3 the sockets that were sent to.
    const fn filtering(self) -> u32 {
        match self {
            Self::None | Self::FullCone => 1,
            Self::AddrRestr => 2,
            Self::Firewall
            | Self::PortRestr
            | Self::Linux
            | Self::LinuxBare
            | Self::SymSeq
            | Self::Symmetric => 3,
        }
    }

    /// Whether two peers behind such devices can be punched: what the laboratory measured.
    /// `None` where it depends on who comes first.
    pub(in crate::client::pair) fn reaches(self, other: Self) -> Option<bool> {
        let bare = |a: Self, b: Self| a == Self::LinuxBare && b.filtering() == 3;
        if self.moves() && other.moves() {
            return Some(false);
        }
        if self.moves() || other.moves() {
            let fixed = if self.moves() { other } else { self };
            return Some(fixed.filtering() < 3);
        }
        if bare(self, other) || bare(other, self) { None } else { Some(true) }
    }
}

struct Mapping {
    inside: SocketAddr,
    /// Whom it is for, if it depends on that.
    remote: Option<SocketAddr>,
    port: u16,
    sent_to: Vec<SocketAddr>,
}

/// One device.
pub(in crate::client::pair) struct Nat {
    kind: Kind,
    public: IpAddr,
    mappings: Vec<Mapping>,
    next_port: u16,
    /// Who knocked before we sent anything: a bare Linux host answers for itself and remembers.
    knocked: Vec<SocketAddr>,
}

impl Nat {
    pub(in crate::client::pair) fn new(kind: Kind, public: IpAddr) -> Self {
        Self { kind, public, mappings: Vec::new(), next_port: 40_000, knocked: Vec::new() }
    }

    /// Forgets every mapping and filter, and gives out other ports from now on.
    pub(in crate::client::pair) fn reboot(&mut self) {
        self.mappings.clear();
        self.next_port += 500;
    }

    /// Whether the host inside is known outside by its own address.
    const fn translates(&self) -> bool {
        !matches!(self.kind, Kind::None | Kind::Firewall)
    }

    /// Where the host inside is known outside.
    pub(in crate::client::pair) fn address(&self, inside: SocketAddr) -> SocketAddr {
        if self.translates() { SocketAddr::new(self.public, 0) } else { inside }
    }

    /// Where a datagram from inside seems to come from.
    pub(in crate::client::pair) fn outward(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
    ) -> SocketAddr {
        let taken = self.kind == Kind::LinuxBare && self.knocked.contains(&to);
        let remote = (self.kind.moves() || taken).then_some(to);
        let known = self.mappings.iter().position(|it| it.inside == inside && it.remote == remote);
        let at = known.unwrap_or_else(|| {
            let step = if self.kind == Kind::Symmetric { 37 } else { 1 };
            self.next_port += step;
            let port = if self.translates() { self.next_port } else { inside.port() };
            self.mappings.push(Mapping { inside, remote, port, sent_to: Vec::new() });
            self.mappings.len() - 1
        });
        let ip = if self.translates() { self.public } else { inside.ip() };
        let mapping = &mut self.mappings[at];
        if !mapping.sent_to.contains(&to) {
            mapping.sent_to.push(to);
        }
        SocketAddr::new(ip, mapping.port)
    }

    /// Who a datagram from outside is for, if it is let in.
    pub(in crate::client::pair) fn inward(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.kind == Kind::None {
            return Some(to);
        }
        let lets_in = |it: &&Mapping| match self.kind.filtering() {
            1 => true,
            2 => it.sent_to.iter().any(|sent| sent.ip() == from.ip()),
            _ => it.sent_to.contains(&from),
        };
        let mut mapped = self.mappings.iter().filter(|it| it.port == to.port());
        let inside = mapped.find(lets_in).map(|it| it.inside);
        if inside.is_none() && !self.knocked.contains(&from) {
            self.knocked.push(from);
        }
        inside
    }
}
