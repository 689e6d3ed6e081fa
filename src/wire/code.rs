//! Codes of ERROR, and of the answers to a write.

macro_rules! codes {
    (
        $(#[$meta:meta])* $name:ident
        $($(#[$attr:meta])* $variant:ident = $value:literal $label:literal $help:literal,)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $help] $(#[$attr])* $variant = $value,)*
        }

        impl $name {
            /// Every code in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `code` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The code of a wire value; one that we do not know says nothing to us.
            pub const fn of_wire(value: u32) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    _ => Self::Unspecified,
                }
            }

            /// The value on the wire.
            pub const fn to_wire(self) -> u32 {
                self as u32
            }
        }
    };
}

codes! {
    /// Why a request was refused.
    Code
    #[default]
    Unspecified = 0 "unspecified" "Unknown to us; never sent.",
    NotFound = 1 "not_found" "No such thing.",
    Busy = 2 "busy" "Not now.",
    RateLimited = 3 "rate_limited" "Too often.",
    Invalid = 4 "invalid" "Malformed, or above a maximum.",
    TooLarge = 5 "too_large" "Frame or record too large.",
    Unsupported = 6 "unsupported" "Version, type or capability that is not here.",
    Unauthorized = 7 "unauthorized" "Needs an identity, a consent or a valid signature.",
    Internal = 8 "internal" "The answerer's fault.",
    WrongRole = 9 "wrong_role" "Ask another kind of node.",
    BudgetExhausted = 10 "budget_exhausted" "Nothing left to give.",
    StampRequired = 11 "stamp_required" "Pay first; `detail` has the bits wanted.",
}

codes! {
    /// What became of an introduction.
    RendezvousStatus
    #[default]
    Unspecified = 0 "unspecified" "Unknown to us; never sent.",
    Ok = 1 "ok" "Both were told.",
    NoSuchPeer = 2 "no_such_peer" "Not connected.",
    Refused = 3 "refused" "By the target.",
    UnreachableNats = 4 "unreachable_nats" "No hole can be punched between these two.",
    NoAnswer = 5 "no_answer" "Of the target, within two seconds.",
}

codes! {
    /// How an introduction ended.
    Outcome
    #[default]
    Unspecified = 0 "unspecified" "Unknown to us; never sent.",
    Punched = 1 "punched" "They reach each other.",
    Failed = 2 "failed" "They do not.",
    Relayed = 3 "relayed" "They do through a relay.",
}

codes! {
    /// What became of a record or of a provider's claim.
    StoreCode
    #[default]
    Unspecified = 0 "unspecified" "Unknown to us; never sent.",
    Ok = 1 "ok" "Stored.",
    Rejected = 2 "rejected" "Refused, the reason says why.",
    Stale = 3 "stale" "A higher sequence is known.",
    Equivocation = 4 "equivocation" "The same sequence is known with another value.",
}
