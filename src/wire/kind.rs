//! Message types and traffic classes.
//!
//! [`Kind`] is the table of the protocol's types; what may be said of a type
//! without looking at a frame (class, who may send it, whether it is answered)
//! is said here. What is said of a frame is in [`check`](mod@super::check).

/// Traffic class: which send queue a message waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Keeps sessions and channels alive; never dropped while hints are served.
    Control = 0,
    /// Requests and answers of the overlay.
    Coordination = 1,
    /// Useful if they arrive.
    Hints = 2,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Coordination, Self::Hints];

    /// Value of the `class` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Coordination => "coordination",
            Self::Hints => "hints",
        }
    }

    /// The class that a header's `qos` asks for; values above 2 count as 2.
    pub const fn of_qos(qos: u8) -> Self {
        match qos {
            0 => Self::Control,
            1 => Self::Coordination,
            _ => Self::Hints,
        }
    }

    /// This class at the priority that a header's `qos` declares: lowered, never raised.
    pub fn declared(self, qos: u8) -> Self {
        self.max(Self::of_qos(qos))
    }
}

/// What a session must have shown before it may send a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A WireGuard session, anonymous or not.
    Session,
    /// A valid identity binding.
    Identity,
}

/// Part that a type plays in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks for a response; a fault in it is answered with ERROR.
    Request,
    /// Carries the response bit; never answered.
    Response,
    /// Asks for nothing; a fault in it is still answered with ERROR.
    Notice,
    /// Never answered, not even with ERROR.
    Hint,
}

macro_rules! kinds {
    ($($variant:ident = $id:literal $name:literal $class:ident $needs:ident $role:ident,)*) => {
        /// A type of the protocol; the value is the header's `type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] $variant = $id,)*
        }

        impl Kind {
            /// Every type in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `type` label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The most urgent class it can travel in.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }

            /// What its sender must have shown.
            pub const fn needs(self) -> Needs {
                match self { $(Self::$variant => Needs::$needs,)* }
            }

            /// Its part in an exchange.
            pub const fn role(self) -> Role {
                match self { $(Self::$variant => Role::$role,)* }
            }
        }

        impl TryFrom<u8> for Kind {
            type Error = UnknownKind;

            fn try_from(id: u8) -> Result<Self, UnknownKind> {
                match id {
                    $($id => Ok(Self::$variant),)*
                    _ => Err(UnknownKind),
                }
            }
        }
    };
}

kinds! {
    Ping = 1 "ping" Control Session Request,
    Pong = 2 "pong" Control Session Response,
    NegotiateReq = 3 "negotiate_req" Control Session Request,
    NegotiateResp = 4 "negotiate_resp" Control Session Response,
    FindNodeReq = 5 "find_node_req" Coordination Session Request,
    FindNodeResp = 6 "find_node_resp" Coordination Session Response,
    FindValueReq = 7 "find_value_req" Coordination Session Request,
    FindValueResp = 8 "find_value_resp" Coordination Session Response,
    StoreReq = 9 "store_req" Coordination Identity Request,
    StoreResp = 10 "store_resp" Coordination Identity Response,
    AnnounceProviderReq = 11 "announce_provider_req" Coordination Identity Request,
    AnnounceProviderResp = 12 "announce_provider_resp" Coordination Identity Response,
    ReflectReq = 16 "reflect_req" Control Session Request,
    ReflectResp = 17 "reflect_resp" Control Session Response,
    ReachReq = 18 "reach_req" Coordination Identity Request,
    ReachResp = 19 "reach_resp" Coordination Identity Response,
    RendezvousReq = 24 "rendezvous_req" Control Identity Request,
    RendezvousResp = 25 "rendezvous_resp" Control Identity Response,
    RendezvousNotify = 26 "rendezvous_notify" Control Identity Request,
    RendezvousAck = 27 "rendezvous_ack" Control Identity Response,
    RendezvousResult = 28 "rendezvous_result" Hints Identity Notice,
    RelayAllocReq = 32 "relay_alloc_req" Control Identity Request,
    RelayAllocResp = 33 "relay_alloc_resp" Control Identity Response,
    RelayStatus = 34 "relay_status" Control Identity Notice,
    RelayClose = 35 "relay_close" Control Identity Request,
    RelayClosed = 36 "relay_closed" Control Identity Response,
    RelayOffer = 37 "relay_offer" Control Identity Notice,
    Goaway = 44 "goaway" Control Session Notice,
    TraceHint = 250 "trace_hint" Hints Session Hint,
    CacheHint = 251 "cache_hint" Hints Session Hint,
    // "That of the request": its sender lowers it by `qos`.
    Error = 255 "error" Control Session Response,
}

impl Kind {
    /// Whether it carries the response bit.
    pub const fn is_response(self) -> bool {
        matches!(self.role(), Role::Response)
    }

    /// Whether a peer may not send it.
    pub const fn from_router_only(self) -> bool {
        matches!(self, Self::RendezvousNotify | Self::RelayStatus | Self::RelayOffer | Self::Goaway)
    }

    /// Whether it may come in several frames of one stream.
    pub const fn chunked(self) -> bool {
        matches!(self, Self::FindNodeResp | Self::FindValueResp | Self::StoreReq)
    }

    /// The header's `type`.
    pub const fn id(self) -> u8 {
        self as u8
    }
}

/// A header's `type` that the protocol does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind;

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KindSet([u64; 4]);

impl KindSet {
    /// Exactly `kinds`.
    pub const fn of(kinds: &[Kind]) -> Self {
        let mut words = [0; 4];
        let mut i = 0;
        while i < kinds.len() {
            let id = kinds[i].id();
            words[(id >> 6) as usize] |= 1 << (id & 63);
            i += 1;
        }
        Self(words)
    }

    /// Whether `kind` is in it.
    pub const fn contains(&self, kind: Kind) -> bool {
        let id = kind.id();
        self.0[(id >> 6) as usize] >> (id & 63) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's table, typed in again: id, class, needs.
    const PAGE: &[(u8, Class, Needs)] = {
        use Class::{Control, Coordination, Hints};
        use Needs::{Identity, Session};
        &[
            (1, Control, Session),
            (2, Control, Session),
            (3, Control, Session),
            (4, Control, Session),
            (5, Coordination, Session),
            (6, Coordination, Session),
            (7, Coordination, Session),
            (8, Coordination, Session),
            (9, Coordination, Identity),
            (10, Coordination, Identity),
            (11, Coordination, Identity),
            (12, Coordination, Identity),
            (16, Control, Session),
            (17, Control, Session),
            (18, Coordination, Identity),
            (19, Coordination, Identity),
            (24, Control, Identity),
            (25, Control, Identity),
            (26, Control, Identity),
            (27, Control, Identity),
            (28, Hints, Identity),
            (32, Control, Identity),
            (33, Control, Identity),
            (34, Control, Identity),
            (35, Control, Identity),
            (36, Control, Identity),
            (37, Control, Identity),
            (44, Control, Session),
            (250, Hints, Session),
            (251, Hints, Session),
            (255, Control, Session),
        ]
    };

    #[test]
    fn every_id_is_the_pages() {
        let mut listed = PAGE.iter();
        let mut next = listed.next();
        for id in 0..=255 {
            match (Kind::try_from(id), next) {
                (Ok(kind), Some(&(page_id, class, needs))) => {
                    assert_eq!((kind.id(), kind.class(), kind.needs()), (page_id, class, needs));
                    next = listed.next();
                }
                (Ok(kind), None) => panic!("{kind:?} is not on the page"),
                (Err(UnknownKind), entry) => assert_ne!(entry.map(|entry| entry.0), Some(id)),
            }
        }
        assert_eq!(next, None);
        assert_eq!(Kind::ALL.len(), PAGE.len());
    }

    #[test]
    fn roles_follow_the_page() {
        let ids = |pick: fn(&Kind) -> bool| -> Vec<u8> {
            Kind::ALL.iter().filter(|kind| pick(kind)).map(|kind| kind.id()).collect()
        };
        assert_eq!(
            ids(|kind| kind.is_response()),
            [2, 4, 6, 8, 10, 12, 17, 19, 25, 27, 33, 36, 255]
        );
        assert_eq!(ids(|kind| kind.from_router_only()), [26, 34, 37, 44]);
        assert_eq!(ids(|kind| kind.chunked()), [6, 8, 9]);
        assert_eq!(ids(|kind| kind.role() == Role::Notice), [28, 34, 37, 44]);
        assert_eq!(ids(|kind| kind.role() == Role::Hint), [250, 251]);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let half: Vec<Kind> = Kind::ALL.iter().copied().step_by(2).collect();
        let set = KindSet::of(&half);
        for &kind in Kind::ALL {
            assert_eq!(set.contains(kind), half.contains(&kind), "{kind:?}");
        }
    }

    #[test]
    fn qos_lowers_and_never_raises() {
        for class in Class::ALL {
            for qos in 0..=255 {
                let asked = usize::from(qos.min(2));
                assert_eq!(class.declared(qos), class.max(Class::ALL[asked]));
            }
        }
    }
}
