//! What a router is to the overlay.

/// Each does all that the one before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Brings peers together and keeps nothing for them.
    Boot,
    /// Keeps values and providers as well.
    Route,
    /// Everything.
    #[default]
    Relay,
}

impl Role {
    /// Every role, by the words that `overlay/role` takes.
    pub const ALL: [Self; 3] = [Self::Boot, Self::Route, Self::Relay];

    /// The word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Route => "route",
            Self::Relay => "relay",
        }
    }

    /// Whether peers may leave values and providers here.
    pub const fn stores(self) -> bool {
        match self {
            Self::Boot => false,
            Self::Route | Self::Relay => true,
        }
    }

    /// Whether data is relayed here.
    pub const fn relays(self) -> bool {
        match self {
            Self::Boot | Self::Route => false,
            Self::Relay => true,
        }
    }
}
