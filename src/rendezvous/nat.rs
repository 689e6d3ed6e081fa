//! NAT behaviour in the words of RFC 4787, and which pairs a hole can be punched for.

/// How a NAT treats different destinations of one internal address: the mapping half
/// (RFC 4787 section 4.1), or the filtering half (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Behaviour {
    /// Nobody measured it.
    #[default]
    Unknown,
    /// The same whatever the destination.
    EndpointIndependent,
    /// One for each destination address.
    AddressDependent,
    /// One for each destination address and port.
    AddressAndPortDependent,
}

impl Behaviour {
    /// What `nat_mapping` and `nat_filtering` of a message say; values that are not defined say nothing.
    pub const fn of_wire(value: u32) -> Self {
        match value {
            1 => Self::EndpointIndependent,
            2 => Self::AddressDependent,
            3 => Self::AddressAndPortDependent,
            _ => Self::Unknown,
        }
    }

    /// The value for a message.
    pub const fn to_wire(self) -> u32 {
        self as u32
    }

    /// Word for people and labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint_independent",
            Self::AddressDependent => "address_dependent",
            Self::AddressAndPortDependent => "address_and_port_dependent",
        }
    }
}

/// Both halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    /// Which outside address an internal one gets.
    pub mapping: Behaviour,
    /// Whose datagrams are let in to it.
    pub filtering: Behaviour,
}

impl Nat {
    /// What a message says.
    pub const fn of_wire(mapping: u32, filtering: u32) -> Self {
        Self { mapping: Behaviour::of_wire(mapping), filtering: Behaviour::of_wire(filtering) }
    }

    /// The other side cannot know the address that this one's datagrams to it will come from.
    const fn moves(self) -> bool {
        matches!(self.mapping, Behaviour::AddressDependent | Behaviour::AddressAndPortDependent)
    }

    /// Only the very address that it sent to gets in.
    const fn wants_port(self) -> bool {
        matches!(self.filtering, Behaviour::AddressAndPortDependent)
    }

    /// Whether a hole can be punched between two peers behind such NATs, as far as is known. One
    /// whose address moves reaches the other only if that one lets in more than what it sent to.
    pub const fn punchable(self, other: Self) -> bool {
        !self.blocked_by(other) && !other.blocked_by(self)
    }

    const fn blocked_by(self, other: Self) -> bool {
        self.moves() && (other.moves() || other.wants_port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Behaviour::{
        AddressAndPortDependent as Apd, AddressDependent as Ad, EndpointIndependent as Ei, Unknown,
    };

    fn nat(mapping: Behaviour, filtering: Behaviour) -> Nat {
        Nat { mapping, filtering }
    }

    #[test]
    fn words_and_numbers_are_the_pages() {
        for (value, behaviour) in [(0, Unknown), (1, Ei), (2, Ad), (3, Apd)] {
            assert_eq!((Behaviour::of_wire(value), behaviour.to_wire()), (behaviour, value));
        }
        assert_eq!(Behaviour::of_wire(4), Unknown);
    }

    #[test]
    fn a_moving_address_needs_somebody_who_lets_strangers_in() {
        let (cone, restricted, port_restricted) = (nat(Ei, Ei), nat(Ei, Ad), nat(Ei, Apd));
        let (symmetric, unknown) = (nat(Apd, Apd), Nat::default());
        for open in [cone, restricted, unknown, nat(Unknown, Ei)] {
            assert!(symmetric.punchable(open) && open.punchable(symmetric), "{open:?}");
        }
        for shut in [port_restricted, symmetric, nat(Ad, Ad), nat(Unknown, Apd)] {
            assert!(!symmetric.punchable(shut) && !shut.punchable(symmetric), "{shut:?}");
        }
        assert!(port_restricted.punchable(port_restricted), "both send first");
    }
}
