//! Which test comes next, and what all of them mean together. No socket, no clock.

use std::net::SocketAddr;

use super::report::{Hairpin, Report};
use super::search::Search;
use crate::rendezvous::{Behaviour, Nat};

/// Something to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One socket, seen from everywhere; answered by [`Machine::seen`].
    Mapping,
    /// A fresh socket that speaks to the router alone, and a probe from elsewhere; answered by
    /// [`Machine::probed`].
    Filtering(Via),
    /// Two sockets that try to meet outside; answered by [`Machine::hairpinned`].
    Hairpin,
    /// Sockets that stay silent for so many seconds each, shortest first; answered by
    /// [`Machine::lived`].
    Lifetime(Vec<u32>),
}

/// Where a probe comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Another address.
    Other,
    /// Another port of the same address.
    Alternate,
}

/// What one socket was seen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// By itself.
    pub local: SocketAddr,
    /// By the router.
    pub main: SocketAddr,
    /// By its alternate port, if there is one.
    pub alternate: Option<SocketAddr>,
    /// By the other router, if there is one.
    pub other: Option<SocketAddr>,
    /// Whether the other router sends probes on the router's word.
    pub helps: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    seen: Option<Seen>,
    /// What came of the probe from the other router: nothing yet, or it could not be sent.
    other: Option<Option<bool>>,
    /// Likewise from the alternate port.
    alternate: Option<Option<bool>>,
    hairpin: Option<Hairpin>,
    search: Search,
    failed: bool,
}

impl Machine {
    /// Nothing is known; lifetimes up to `lifetime_s` are of interest, none if that is 0.
    pub const fn new(lifetime_s: u32) -> Self {
        Self {
            seen: None,
            other: None,
            alternate: None,
            hairpin: None,
            search: Search::new(lifetime_s),
            failed: false,
        }
    }

    /// The next test, until `None`.
    pub fn next(&self) -> Option<Test> {
        if self.failed {
            return None;
        }
        let Some(seen) = &self.seen else { return Some(Test::Mapping) };
        if seen.helps && self.other.is_none() {
            return Some(Test::Filtering(Via::Other));
        }
        let open = self.other == Some(Some(true));
        if seen.alternate.is_some() && self.alternate.is_none() && !open {
            return Some(Test::Filtering(Via::Alternate));
        }
        if seen.local != seen.main && self.hairpin.is_none() {
            return Some(Test::Hairpin);
        }
        let silences = self.search.next();
        (!silences.is_empty()).then_some(Test::Lifetime(silences))
    }

    /// What the socket was seen at; nothing if the router could not be asked, which ends it all.
    pub fn seen(&mut self, seen: Option<Seen>) {
        self.seen = seen;
        self.failed = seen.is_none();
    }

    /// Whether the probe came; nothing if it was not sent.
    pub fn probed(&mut self, via: Via, came: Option<bool>) {
        match via {
            Via::Other => self.other = Some(came),
            Via::Alternate => self.alternate = Some(came),
        }
    }

    /// Whether the two met.
    pub fn hairpinned(&mut self, hairpin: Hairpin) {
        self.hairpin = Some(hairpin);
    }

    /// Which silences the mapping survived, shortest first; those behind the first that it did not
    /// may be left out. None at all ends the search.
    pub fn lived(&mut self, lived: &[(u32, bool)]) {
        self.search.learn(lived);
    }

    /// What is known; nothing if the router could not be asked.
    pub fn report(&self) -> Option<Report> {
        let seen = self.seen?;
        let (mapping, mapping_by_ports) = mapping(&seen);
        let came = |probe: Option<Option<bool>>| probe.flatten();
        let (filtering, filtering_by_ports) = filtering(came(self.other), came(self.alternate));
        Some(Report {
            observed: seen.main,
            local: seen.local,
            nat: Nat { mapping, filtering },
            mapping_by_ports,
            filtering_by_ports,
            hairpin: self.hairpin.unwrap_or_default(),
            lifetime: self.search.lifetime(),
        })
    }
}

/// The mapping, and whether addresses were not compared.
fn mapping(seen: &Seen) -> (Behaviour, bool) {
    let same = |at: Option<SocketAddr>| at.map(|at| at == seen.main);
    match (same(seen.alternate), same(seen.other)) {
        (Some(false), _) => (Behaviour::AddressAndPortDependent, false),
        (_, Some(true)) => (Behaviour::EndpointIndependent, false),
        // Without a second port it may depend on that as well.
        (_, Some(false)) => (Behaviour::AddressDependent, false),
        (Some(true), None) => (Behaviour::EndpointIndependent, true),
        (None, None) => (Behaviour::Unknown, true),
    }
}

/// The filtering, and whether it was not tried from another address.
fn filtering(other: Option<bool>, alternate: Option<bool>) -> (Behaviour, bool) {
    match (other, alternate) {
        (Some(true), _) => (Behaviour::EndpointIndependent, false),
        // Who shuts out another port shuts out another address.
        (_, Some(false)) => (Behaviour::AddressAndPortDependent, false),
        (Some(false), Some(true)) => (Behaviour::AddressDependent, false),
        (None, Some(true)) => (Behaviour::AddressDependent, true),
        (_, None) => (Behaviour::Unknown, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Behaviour::{
        AddressAndPortDependent as Apd, AddressDependent as Ad, EndpointIndependent as Ei, Unknown,
    };

    fn at(port: u16) -> SocketAddr {
        ([1, 1, 1, 1], port).into()
    }

    fn seen(alternate: Option<u16>, other: Option<u16>) -> Seen {
        Seen {
            local: ([10, 0, 0, 1], 9).into(),
            main: at(1),
            alternate: alternate.map(at),
            other: other.map(at),
            helps: other.is_some(),
        }
    }

    #[test]
    fn mappings_are_what_the_three_views_make_of_them() {
        for (alternate, other, wanted) in [
            (Some(1), Some(1), (Ei, false)),
            (Some(1), Some(2), (Ad, false)),
            (Some(2), Some(3), (Apd, false)),
            (Some(2), None, (Apd, false)),
            (Some(1), None, (Ei, true)),
            (None, Some(1), (Ei, false)),
            (None, None, (Unknown, true)),
        ] {
            assert_eq!(mapping(&seen(alternate, other)), wanted, "{alternate:?} {other:?}");
        }
    }

    #[test]
    fn filters_are_what_gets_through() {
        for (other, alternate, wanted) in [
            (Some(true), None, (Ei, false)),
            (Some(false), Some(true), (Ad, false)),
            (Some(false), Some(false), (Apd, false)),
            (None, Some(true), (Ad, true)),
            (None, Some(false), (Apd, false)),
            (Some(false), None, (Unknown, true)),
            (None, None, (Unknown, true)),
        ] {
            assert_eq!(filtering(other, alternate), wanted, "{other:?} {alternate:?}");
        }
    }

    #[test]
    fn every_test_is_done_once_and_none_that_could_tell_nothing() {
        let mut machine = Machine::new(2);
        assert_eq!(machine.next(), Some(Test::Mapping));
        machine.seen(Some(seen(Some(1), Some(1))));
        assert_eq!(machine.next(), Some(Test::Filtering(Via::Other)));
        machine.probed(Via::Other, Some(false));
        assert_eq!(machine.next(), Some(Test::Filtering(Via::Alternate)));
        machine.probed(Via::Alternate, None);
        assert_eq!(machine.next(), Some(Test::Hairpin));
        machine.hairpinned(Hairpin::No);
        assert_eq!(machine.next(), Some(Test::Lifetime(vec![1, 2])));
        machine.lived(&[(1, true), (2, false)]);
        assert_eq!(machine.next(), None);
        let report = machine.report().unwrap();
        assert_eq!(report.nat, Nat { mapping: Ei, filtering: Unknown });

        let mut open = Machine::new(0);
        let local = at(1);
        open.seen(Some(Seen { local, ..seen(Some(1), Some(1)) }));
        open.probed(Via::Other, Some(true));
        assert_eq!(open.next(), None, "nothing is left to find out");
        assert!(!open.report().unwrap().translated());

        let mut silent = Machine::new(9);
        silent.seen(None);
        assert_eq!((silent.next(), silent.report()), (None, None));
    }
}
