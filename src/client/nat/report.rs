//! What was found, and what people call it.

use std::net::SocketAddr;

use crate::rendezvous::{Behaviour, Nat};

/// Whether two hosts behind the NAT reach each other by their outside addresses (RFC 4787,
/// section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hairpin {
    /// Nobody measured it, or there is no NAT.
    #[default]
    Unknown,
    /// They do not.
    No,
    /// Where the other one has sent before: the filter stands here as well.
    Invited,
    /// They do.
    Yes,
}

impl Hairpin {
    /// Word for people and scripts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::No => "no",
            Self::Invited => "invited",
            Self::Yes => "yes",
        }
    }
}

/// How long a mapping lives that nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// After so many seconds it was still there.
    pub alive_s: u32,
    /// After so many it was gone; none if it outlived the longest test.
    pub dead_s: Option<u32>,
}

/// Everything that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The address that we are seen at.
    pub observed: SocketAddr,
    /// Our own address.
    pub local: SocketAddr,
    /// Mapping and filtering.
    pub nat: Nat,
    /// The mapping was compared between ports of one address alone: where it is said to be
    /// endpoint-independent, it might be address-dependent.
    pub mapping_by_ports: bool,
    /// The filter was tried from another port of one address alone: where it is said to be
    /// address-dependent, it might be endpoint-independent.
    pub filtering_by_ports: bool,
    /// See there.
    pub hairpin: Hairpin,
    /// See there; none if it was not asked for.
    pub lifetime: Option<Lifetime>,
}

impl Report {
    /// Whether somebody translates on the way.
    pub fn translated(&self) -> bool {
        self.observed != self.local
    }

    /// Whether the outside port is the inside one.
    pub fn port_kept(&self) -> bool {
        self.observed.port() == self.local.port()
    }

    /// The old name of it (RFC 3489), for people; software had better look at both halves.
    pub fn label(&self) -> &'static str {
        use Behaviour::{
            AddressAndPortDependent as Apd, AddressDependent as Ad, EndpointIndependent as Ei,
            Unknown,
        };
        let filtering = self.nat.filtering;
        let unsure = self.filtering_by_ports && filtering == Ad;
        match (self.translated(), self.nat.mapping, filtering) {
            (false, _, Ad) if unsure => "open or firewall",
            (true, Ei, Ad) if unsure => "full or restricted cone",
            (false, _, Ei) => "open",
            (false, _, Ad | Apd) => "firewall",
            (false, _, Unknown) => "no NAT",
            (true, Ad | Apd, _) => "symmetric",
            (true, Ei, Ei) => "full cone",
            (true, Ei, Ad) => "restricted cone",
            (true, Ei, Apd) => "port-restricted cone",
            (true, Unknown, _) | (true, Ei, Unknown) => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_names_follow_from_both_halves() {
        use Behaviour::{AddressAndPortDependent as Apd, AddressDependent as Ad};
        use Behaviour::{EndpointIndependent as Ei, Unknown};
        let label = |translated, mapping, filtering| {
            let (inside, outside) = (([10, 0, 0, 1], 1).into(), ([1, 1, 1, 1], 1).into());
            let observed = if translated { outside } else { inside };
            let nat = Nat { mapping, filtering };
            let (mapping_by_ports, filtering_by_ports) = (false, false);
            let (hairpin, lifetime) = (Hairpin::No, None);
            Report {
                observed,
                local: inside,
                nat,
                mapping_by_ports,
                filtering_by_ports,
                hairpin,
                lifetime,
            }
            .label()
        };
        assert_eq!(label(false, Ei, Ei), "open");
        assert_eq!(label(false, Ei, Apd), "firewall");
        assert_eq!(label(true, Ei, Ei), "full cone");
        assert_eq!(label(true, Ei, Ad), "restricted cone");
        assert_eq!(label(true, Ei, Apd), "port-restricted cone");
        assert_eq!(label(true, Apd, Apd), "symmetric");
        assert_eq!(label(true, Ei, Unknown), "unknown");
    }
}
